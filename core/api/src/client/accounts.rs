//! A user's own account: who am I, another password, closing it.

use colonnade_model::{
    MatrixError,
    ruma::api::client::account::{
        ThirdPartyIdRemovalStatus, change_password, deactivate, get_3pids, whoami,
    },
};
use colonnade_services::{Result, accounts::Session};

use serde_json::{Value, json};

use crate::{call::Call, table::Table};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table.add::<whoami::v3::Request, _, _>(who_am_i);
    table.add::<change_password::v3::Request, _, _>(new_password);
    table.add::<deactivate::v3::Request, _, _>(close);
    table.add_json::<get_3pids::v3::Request, _, _>(addresses);
}

async fn who_am_i(call: Call<whoami::v3::Request, Session>) -> Result<whoami::v3::Response> {
    let Session { user_id, device_id, .. } = call.who;
    Ok(whoami::v3::Response { user_id, device_id: Some(device_id), is_guest: false })
}

/// Without a token these two would prove the user by an e-mail address, which no account has.
fn require_session(who: Option<Session>) -> Result<Session, MatrixError> {
    who.ok_or_else(|| MatrixError::missing_token("this endpoint needs an access token"))
}

async fn new_password(
    call: Call<change_password::v3::Request, Option<Session>>,
) -> Result<change_password::v3::Response> {
    let (session, accounts) = (require_session(call.who)?, &call.services.accounts);
    accounts.uia.check(&session, call.request.auth.as_ref(), "account/password").await?;
    let change_password::v3::Request { new_password, logout_devices, .. } = call.request;
    accounts.change_password(&session, &new_password, logout_devices).await?;
    Ok(change_password::v3::Response {})
}

async fn close(
    call: Call<deactivate::v3::Request, Option<Session>>,
) -> Result<deactivate::v3::Response> {
    let session = require_session(call.who)?;
    let auth = call.request.auth.as_ref();
    call.services.accounts.uia.check(&session, auth, "account/deactivate").await?;
    call.services.deactivate(session.user, call.request.erase).await?;
    // There is nothing to unbind: no account has addresses.
    let id_server_unbind_result = ThirdPartyIdRemovalStatus::Success;
    Ok(deactivate::v3::Response { id_server_unbind_result })
}

/// No account has addresses; the library's type would leave the empty list out.
async fn addresses(_call: Call<get_3pids::v3::Request, Session>) -> Result<Value> {
    Ok(json!({ "threepids": [] }))
}
