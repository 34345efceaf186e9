//! A user's own account: who am I, another password, closing it.

use colonnade_model::{
    MatrixError,
    ruma::api::client::{
        account::{
            ThirdPartyIdRemovalStatus, change_password, deactivate, request_openid_token, whoami,
        },
        admin::get_user_info,
    },
};
use colonnade_rooms::Result;
use colonnade_users::accounts::Session;

use serde_json::{Map, Value, json};

use super::profiles::require_own;
use crate::{call::Call, table::Table};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table.add::<whoami::v3::Request, _>(who_am_i);
    table.add_guarded::<change_password::v3::Request, _>(new_password);
    table.add_guarded::<deactivate::v3::Request, _>(close);
    table.add_json::<request_openid_token::v3::Request, _>(openid_token);
    table.add_json::<get_user_info::v3::Request, _>(who_is);
}

async fn who_am_i(call: Call<whoami::v3::Request, Session>) -> Result<whoami::v3::Response> {
    let Session { user_id, device_id, is_guest, .. } = call.who;
    Ok(whoami::v3::Response { user_id, device_id: Some(device_id), is_guest })
}

/// Without a token these two would prove the user by an e-mail address, which no account has.
fn require_session(who: Option<Session>) -> Result<Session, MatrixError> {
    who.ok_or_else(|| MatrixError::missing_token("this endpoint needs an access token"))
}

async fn new_password(
    call: Call<change_password::v3::Request, Option<Session>>,
) -> Result<change_password::v3::Response> {
    let auth = call.auth()?;
    let (session, accounts) = (require_session(call.who)?, &call.services.accounts);
    accounts.uia.check(&session, auth.as_ref(), "account/password").await?;
    let change_password::v3::Request { new_password, logout_devices, .. } = call.request;
    accounts.change_password(&session, &new_password, logout_devices).await?;
    Ok(change_password::v3::Response {})
}

async fn close(
    call: Call<deactivate::v3::Request, Option<Session>>,
) -> Result<deactivate::v3::Response> {
    let auth = call.auth()?;
    let session = require_session(call.who)?;
    call.services.accounts.uia.check(&session, auth.as_ref(), "account/deactivate").await?;
    call.services.deactivate(&session.user_id, call.request.erase).await?;
    // There is nothing to unbind: no account has addresses.
    let id_server_unbind_result = ThirdPartyIdRemovalStatus::Success;
    Ok(deactivate::v3::Response { id_server_unbind_result })
}

async fn openid_token(call: Call<request_openid_token::v3::Request, Session>) -> Result<Value> {
    require_own(&call.who, &call.request.user_id)?;
    let (token, in_ms) = call.services.accounts.openid_token(&call.who).await?;
    Ok(json!({
        "access_token": token,
        "token_type": "Bearer",
        "matrix_server_name": call.services.context.server_name,
        "expires_in": in_ms / 1_000,
    }))
}

/// For the user himself and for administrators.
async fn who_is(call: Call<get_user_info::v3::Request, Session>) -> Result<Value> {
    let (accounts, user_id) = (&call.services.accounts, &call.request.user_id);
    if call.who.user_id != *user_id && !accounts.is_admin(&call.who).await? {
        return Err(MatrixError::forbidden("only an administrator may ask this").into());
    }
    let account = accounts.find(user_id).await?;
    let account = account.ok_or_else(|| MatrixError::not_found("there is no such user here"))?;
    let mut devices = Map::new();
    for device in call.services.devices.of(account.user).await? {
        let mut connection = Map::new();
        if let Some(ip) = device.last_seen_ip {
            connection.insert("ip".to_owned(), json!(ip));
        }
        if let Some(ts) = device.last_seen_ts {
            connection.insert("last_seen".to_owned(), json!(ts));
        }
        let sessions = json!({ "sessions": [{ "connections": [connection] }] });
        devices.insert(device.device_id.to_string(), sessions);
    }
    Ok(json!({ "user_id": user_id, "devices": devices }))
}
