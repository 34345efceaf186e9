//! Sliding sync: the path that clients of today use, and that of the proposal as it was accepted. They ask for
//! the same in other words.
//!
//! Source: MSC4186.

mod wire;

use std::sync::Arc;

use colonnade_rooms::Result;
use colonnade_services::Services;
use colonnade_users::bodies::Payer;
use colonnade_views::sync::Dialect;
use http::{Method, Request};

use super::sync::sent;
use crate::{
    call::{collect, from_json, session},
    needs::Needed,
    reply::Reply,
    request::ByteBody,
    table::Table,
};

/// Bytes of a request: a hundred lists with long filters.
const BYTES_MAX: usize = 256 * 1024;

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    let unstable = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
    table.add_raw(Method::POST, unstable, |services, request, _| {
        slide(services, request, Dialect::Unstable)
    });
    table.add_raw(Method::POST, "/_matrix/client/v4/sync", |services, request, _| {
        slide(services, request, Dialect::V4)
    });
}

async fn slide(
    services: Arc<Services>,
    request: Request<ByteBody>,
    dialect: Dialect,
) -> Result<Reply> {
    let (parts, body) = request.into_parts();
    let who = session(&services, &parts).await?;
    let body = collect(&services, Payer::User(who.user), body, BYTES_MAX).await?;
    let request = match dialect {
        Dialect::Unstable => wire::unstable(from_json(&body)?, &parts, &who.user_id)?,
        Dialect::V4 => wire::v4(from_json(&body)?, &who.user_id)?,
    };
    drop(body);
    // Boxed, for a client that waits shall not carry what was needed to understand it.
    let answer = Box::pin(services.sync.slide(&who, request)).await?;
    Ok(sent(answer, &Needed::of(&parts.extensions)))
}
