//! Read receipts and read markers.

use std::sync::Arc;

use colonnade_model::{
    MatrixError,
    ruma::{
        EventId, OwnedEventId, RoomId,
        api::client::{
            read_marker::set_read_marker,
            receipt::create_receipt::{self, v3::ReceiptType},
        },
    },
};
use colonnade_rooms::Result;
use colonnade_services::Services;
use colonnade_users::{accounts::Session, bodies::Payer};
use colonnade_views::receipts::Kind;
use http::Request;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    call::{Call, read_json, session},
    reply::{self, Reply},
    request::ByteBody,
    table::Table,
};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table
        .add_raw_for::<create_receipt::v3::Request, _, _>(receipt)
        .add::<set_read_marker::v3::Request, _>(read_marker);
}

/// The body of a receipt; the library's type would answer another error for a thread that is no
/// text.
#[derive(Deserialize)]
struct Body {
    thread_id: Option<Value>,
}

async fn receipt(
    services: Arc<Services>,
    request: Request<ByteBody>,
    args: Vec<String>,
) -> Result<Reply> {
    let (parts, body) = request.into_parts();
    let session = session(&services, &parts).await?;
    let payer = Payer::User(session.user);
    let body: Body = read_json(&services, payer, body).await?;
    let invalid = MatrixError::invalid_param;
    let thread = match body.thread_id {
        None => None,
        Some(Value::String(thread)) if !thread.is_empty() => Some(thread),
        Some(_) => return Err(invalid("thread_id is `main` or an event id").into()),
    };
    let [room_id, kind, event_id] = args.as_slice() else {
        return Err(MatrixError::not_found("the path names no receipt").into());
    };
    let room_id = RoomId::parse(room_id).map_err(|_| invalid("this is no room id"))?;
    let event_id = EventId::parse(event_id).map_err(|_| invalid("this is no event id"))?;
    let receipts = &services.receipts;
    let kind = match ReceiptType::from(kind.as_str()) {
        ReceiptType::Read => Kind::Public,
        ReceiptType::ReadPrivate => Kind::Private,
        ReceiptType::FullyRead if thread.is_none() => {
            receipts.mark_read(&session, &room_id, &event_id).await?;
            return Ok(reply::ok(&json!({})));
        }
        ReceiptType::FullyRead => {
            return Err(invalid("thread_id cannot be given with m.fully_read").into());
        }
        _ => {
            let why = "the type is one of m.read, m.read.private, m.fully_read";
            return Err(invalid(why).into());
        }
    };
    receipts.put(&session, &room_id, kind, &event_id, thread.as_deref()).await?;
    Ok(reply::ok(&json!({})))
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
