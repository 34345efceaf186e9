//! Read receipts and read markers.

use colonnade_model::{
    MatrixError,
    ruma::{
        OwnedEventId, RoomId,
        api::client::{
            read_marker::set_read_marker,
            receipt::create_receipt::{self, v3::ReceiptType},
        },
        events::receipt::ReceiptThread,
    },
};
use colonnade_services::{Result, accounts::Session, receipts::Kind};

use crate::{call::Call, table::Table};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table
        .add::<create_receipt::v3::Request, _, _>(receipt)
        .add::<set_read_marker::v3::Request, _, _>(read_marker);
}

async fn receipt(
    call: Call<create_receipt::v3::Request, Session>,
) -> Result<create_receipt::v3::Response> {
    let create_receipt::v3::Request { room_id, receipt_type, event_id, thread } = call.request;
    let receipts = &call.services.receipts;
    let kind = match receipt_type {
        ReceiptType::Read => Kind::Public,
        ReceiptType::ReadPrivate => Kind::Private,
        ReceiptType::FullyRead if thread == ReceiptThread::Unthreaded => {
            receipts.mark_read(&call.who, &room_id, &event_id).await?;
            return Ok(create_receipt::v3::Response {});
        }
        ReceiptType::FullyRead => {
            let why = "thread_id cannot be given with m.fully_read";
            return Err(MatrixError::invalid_param(why).into());
        }
        _ => {
            let why = "the type is one of m.read, m.read.private, m.fully_read";
            return Err(MatrixError::invalid_param(why).into());
        }
    };
    receipts.put(&call.who, &room_id, kind, &event_id, thread.as_str()).await?;
    Ok(create_receipt::v3::Response {})
}

async fn read_marker(
    call: Call<set_read_marker::v3::Request, Session>,
) -> Result<set_read_marker::v3::Response> {
    let request = &call.request;
    if let Some(event_id) = &request.fully_read {
        call.services.receipts.mark_read(&call.who, &request.room_id, event_id).await?;
    }
    put(&call, &request.room_id, Kind::Public, &request.read_receipt).await?;
    put(&call, &request.room_id, Kind::Private, &request.private_read_receipt).await?;
    Ok(set_read_marker::v3::Response {})
}

async fn put<R>(
    call: &Call<R, Session>,
    room_id: &RoomId,
    kind: Kind,
    event_id: &Option<OwnedEventId>,
) -> Result<()> {
    match event_id {
        Some(event_id) => {
            call.services.receipts.put(&call.who, room_id, kind, event_id, None).await
        }
        None => Ok(()),
    }
}
