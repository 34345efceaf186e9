//! Logging in and out, refreshing tokens, and tokens that log in another device.

use std::{sync::Arc, time::Duration};

use colonnade_model::{
    MatrixError,
    ruma::{
        OwnedDeviceId,
        api::client::session::{get_login_token, get_login_types, logout, logout_all},
    },
};
use colonnade_rooms::Result;
use colonnade_services::Services;
use colonnade_users::accounts::{
    Login, Origin, Proof, Session,
    names::{self, Named},
};
use http::{Method, Request};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{naming, registration::render};
use crate::{
    call::{self, Call, read_json, stranger},
    reply::{self, Reply},
    request::{ByteBody, address_of},
    table::Table,
};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    // Raw: the typed request of the library panics on a body without a type, and a stale access
    // token in the header must not keep anybody from logging in.
    table.add_raw(Method::POST, "/_matrix/client/r0/login", login);
    table.add_raw(Method::POST, "/_matrix/client/v3/login", login);
    table.add::<get_login_types::v3::Request, _>(flows);
    table.add_guarded::<get_login_token::v1::Request, _>(login_token);
    table.add_raw(Method::POST, "/_matrix/client/unstable/org.matrix.msc2918/refresh", refresh);
    table.add_raw(Method::POST, "/_matrix/client/v3/refresh", refresh);
    table.add::<logout::v3::Request, _>(log_out);
    table.add::<logout_all::v3::Request, _>(log_out_everywhere);
}

#[derive(Deserialize)]
struct LoginBody {
    #[serde(rename = "type")]
    login_type: String,
    identifier: Option<Value>,
    user: Option<String>,
    medium: Option<String>,
    password: Option<String>,
    token: Option<String>,
    device_id: Option<OwnedDeviceId>,
    initial_device_display_name: Option<String>,
    #[serde(default)]
    refresh_token: bool,
}

async fn login(
    services: Arc<Services>,
    request: Request<ByteBody>,
    _args: Vec<String>,
) -> Result<Reply> {
    let (parts, body) = request.into_parts();
    let from = address_of(&parts.extensions);
    let origin = Origin { address: from, token: call::token(&parts) };
    let client = naming::client(&parts.headers);
    let payer = stranger(&services, from)?;
    let body: LoginBody = read_json(&services, payer, body).await?;
    let proof = proof_of(&body)?;
    let login = Login {
        device_id: body.device_id,
        display_name: body.initial_device_display_name.or(client),
        refreshable: body.refresh_token,
        address: origin.address,
    };
    let logged_in = services.accounts.login(proof, login, &origin).await?;
    Ok(reply::ok(&render(&logged_in)))
}

fn proof_of(body: &LoginBody) -> Result<Proof, MatrixError> {
    let missing = |what: &str| MatrixError::missing_param(format!("{what} is missing"));
    match body.login_type.as_str() {
        "m.login.password" => {
            let password = body.password.clone().ok_or_else(|| missing("password"))?;
            let by_address = body.medium.is_some();
            match names::named(body.identifier.as_ref(), body.user.as_deref(), by_address)? {
                Named::User(user) => Ok(Proof::Password { user, password }),
                Named::Unknown => Err(unknown_person()),
            }
        }
        "m.login.token" => Ok(Proof::Token(body.token.clone().ok_or_else(|| missing("token"))?)),
        "m.login.application_service" => {
            Err(MatrixError::unknown("application services cannot log in on this server"))
        }
        other => {
            let shown: String = other.chars().take(64).collect();
            Err(MatrixError::unknown(format!("the login type {shown:?} is not known")))
        }
    }
}

fn unknown_person() -> MatrixError {
    MatrixError::forbidden("nobody here is known by this address or number")
}

async fn flows(
    _call: Call<get_login_types::v3::Request, ()>,
) -> Result<get_login_types::v3::Response> {
    use get_login_types::v3::{LoginType, PasswordLoginType, Response, TokenLoginType};
    let token = TokenLoginType { get_login_token: true };
    Ok(Response { flows: vec![LoginType::Password(PasswordLoginType {}), LoginType::Token(token)] })
}

async fn login_token(
    call: Call<get_login_token::v1::Request, Session>,
) -> Result<get_login_token::v1::Response> {
    let accounts = &call.services.accounts;
    let auth = call.auth()?;
    accounts.uia.check(&call.who, auth.as_ref(), "login/get_token").await?;
    let (login_token, in_ms) = accounts.login_token(&call.who).await?;
    Ok(get_login_token::v1::Response { expires_in: Duration::from_millis(in_ms), login_token })
}

#[derive(Deserialize)]
struct RefreshBody {
    refresh_token: String,
}

async fn refresh(
    services: Arc<Services>,
    request: Request<ByteBody>,
    _args: Vec<String>,
) -> Result<Reply> {
    let payer = stranger(&services, address_of(request.extensions()))?;
    let body: RefreshBody = read_json(&services, payer, request.into_body()).await?;
    let logged_in = services.accounts.refresh(&body.refresh_token).await?;
    let mut answer = json!({ "access_token": logged_in.access_token });
    answer["refresh_token"] = json!(logged_in.refresh_token);
    answer["expires_in_ms"] = json!(logged_in.expires_in_ms);
    Ok(reply::ok(&answer))
}

async fn log_out(call: Call<logout::v3::Request, Session>) -> Result<logout::v3::Response> {
    call.services.accounts.logout(&call.who).await?;
    Ok(logout::v3::Response {})
}

async fn log_out_everywhere(
    call: Call<logout_all::v3::Request, Session>,
) -> Result<logout_all::v3::Response> {
    call.services.accounts.logout_all(&call.who).await?;
    Ok(logout_all::v3::Response {})
}
