//! Keys: upload, query, claim, changes, cross-signing keys and signatures.

use colonnade_model::ruma::api::client::keys::{
    claim_keys, get_key_changes, get_keys, upload_keys, upload_signatures, upload_signing_keys,
};
use colonnade_services::{Result, accounts::Session};

use crate::{call::Call, table::Table};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table.add::<upload_keys::v3::Request, _>(upload);
    table.add::<get_keys::v3::Request, _>(query);
    table.add::<claim_keys::v3::Request, _>(claim);
    table.add::<get_key_changes::v3::Request, _>(changes);
    table.add::<upload_signing_keys::v3::Request, _>(upload_cross_signing);
    table.add::<upload_signatures::v3::Request, _>(upload_signatures);
}

async fn upload(
    call: Call<upload_keys::v3::Request, Session>,
) -> Result<upload_keys::v3::Response> {
    let one_time_key_counts = call.services.encryption.upload(&call.who, call.request).await?;
    Ok(upload_keys::v3::Response { one_time_key_counts })
}

async fn query(call: Call<get_keys::v3::Request, Session>) -> Result<get_keys::v3::Response> {
    call.services.encryption.query(&call.who, call.request).await
}

async fn claim(call: Call<claim_keys::v3::Request, Session>) -> Result<claim_keys::v3::Response> {
    call.services.encryption.claim(call.request).await
}

async fn changes(
    call: Call<get_key_changes::v3::Request, Session>,
) -> Result<get_key_changes::v3::Response> {
    let get_key_changes::v3::Request { from, to } = call.request;
    let changes = call.services.encryption.changes_between(&call.who, &from, &to).await?;
    Ok(get_key_changes::v3::Response { changed: changes.changed, left: changes.left })
}

async fn upload_cross_signing(
    call: Call<upload_signing_keys::v3::Request, Session>,
) -> Result<upload_signing_keys::v3::Response> {
    call.services.encryption.upload_cross_signing(&call.who, call.request).await?;
    Ok(upload_signing_keys::v3::Response {})
}

async fn upload_signatures(
    call: Call<upload_signatures::v3::Request, Session>,
) -> Result<upload_signatures::v3::Response> {
    call.services.encryption.upload_signatures(&call.who, call.request).await
}
