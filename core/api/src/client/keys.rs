//! Keys: upload, query, claim, changes, cross-signing keys and signatures.
//!
//! The library's types leave out what is empty, and clients read `failures` and the maps of keys
//! without asking whether they are there: the answers are rendered here.

use colonnade_model::ruma::api::client::keys::{
    claim_keys, get_key_changes, get_keys, upload_keys, upload_signatures, upload_signing_keys,
};
use colonnade_rooms::Result;
use colonnade_users::accounts::Session;
use serde::Serialize;

use crate::{
    call::Call,
    reply::{self, Reply},
    table::Table,
};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table.add::<upload_keys::v3::Request, _>(upload);
    table.add_rendered::<get_keys::v3::Request, _>(query);
    table.add_rendered::<claim_keys::v3::Request, _>(claim);
    table.add::<get_key_changes::v3::Request, _>(changes);
    table.add_guarded::<upload_signing_keys::v3::Request, _>(upload_cross_signing);
    table.add_rendered::<upload_signatures::v3::Request, _>(upload_signatures);
}

async fn upload(
    call: Call<upload_keys::v3::Request, Session>,
) -> Result<upload_keys::v3::Response> {
    let one_time_key_counts = call.services.encryption.upload(&call.who, call.request).await?;
    Ok(upload_keys::v3::Response { one_time_key_counts })
}

/// The answer to a query of keys, with everything the specification lists.
#[derive(Serialize)]
struct Keys<Failures, Devices, Master, SelfSigning, UserSigning> {
    failures: Failures,
    device_keys: Devices,
    master_keys: Master,
    self_signing_keys: SelfSigning,
    user_signing_keys: UserSigning,
}

async fn query(call: Call<get_keys::v3::Request, Session>) -> Result<Reply> {
    let growth = call.needed.growth();
    let found = call.services.encryption.query(&call.who, call.request, &growth).await?;
    call.needed.keep(growth.into_reserved());
    let get_keys::v3::Response {
        failures,
        device_keys,
        master_keys,
        self_signing_keys,
        user_signing_keys,
    } = found;
    Ok(reply::ok(&Keys {
        failures,
        device_keys,
        master_keys,
        self_signing_keys,
        user_signing_keys,
    }))
}

/// The answer to a claim, with everything the specification lists.
#[derive(Serialize)]
struct Claimed<Failures, Keys> {
    failures: Failures,
    one_time_keys: Keys,
}

async fn claim(call: Call<claim_keys::v3::Request, Session>) -> Result<Reply> {
    let claimed = call.services.encryption.claim(&call.who, call.request).await?;
    let claim_keys::v3::Response { failures, one_time_keys } = claimed;
    Ok(reply::ok(&Claimed { failures, one_time_keys }))
}

async fn changes(
    call: Call<get_key_changes::v3::Request, Session>,
) -> Result<get_key_changes::v3::Response> {
    let get_key_changes::v3::Request { from, to } = call.request;
    let changes = call.services.encryption.changes_between(&call.who, &from, &to).await?;
    let changed = changes.changed.into_iter().map(|(name, _)| name).collect();
    Ok(get_key_changes::v3::Response { changed, left: changes.left })
}

async fn upload_cross_signing(
    call: Call<upload_signing_keys::v3::Request, Session>,
) -> Result<upload_signing_keys::v3::Response> {
    let auth = call.auth()?;
    let encryption = &call.services.encryption;
    encryption.upload_cross_signing(&call.who, auth.as_ref(), call.request).await?;
    Ok(upload_signing_keys::v3::Response {})
}

/// The answer to an upload of signatures: what was not stored.
#[derive(Serialize)]
struct Signed<Failures> {
    failures: Failures,
}

async fn upload_signatures(call: Call<upload_signatures::v3::Request, Session>) -> Result<Reply> {
    let signed = call.services.encryption.upload_signatures(&call.who, call.request).await?;
    let upload_signatures::v3::Response { failures } = signed;
    Ok(reply::ok(&Signed { failures }))
}
