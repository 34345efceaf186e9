//! Registering: `/register` with its stages, whether a name is free, and registration by an
//! administrator's script.

use std::{net::IpAddr, sync::Arc};

use colonnade_model::{
    MatrixError,
    ruma::{
        OwnedDeviceId,
        api::client::account::{check_registration_token_validity, get_username_availability},
    },
};
use colonnade_rooms::Result;
use colonnade_services::Services;
use colonnade_users::{
    accounts::{Auth, LoggedIn, Registration, shared_secret::SharedSecretRegistration},
    bodies::Payer,
    limits::Class,
};
use http::{Method, Request};
use serde::Deserialize;
use serde_json::{Value, json};

use super::naming;
use crate::{
    call::{Call, read_json, stranger},
    reply::{self, Reply},
    request::{ByteBody, address_of},
    table::Table,
};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    // Raw: a stale access token in the header must not keep anybody from registering.
    table.add_raw(Method::POST, "/_matrix/client/r0/register", register);
    table.add_raw(Method::POST, "/_matrix/client/v3/register", register);
    table.add::<get_username_availability::v3::Request, _>(available);
    table.add::<check_registration_token_validity::v1::Request, _>(is_token_valid);
    table.add_raw(Method::GET, "/_synapse/admin/v1/register", nonce);
    table.add_raw(Method::POST, "/_synapse/admin/v1/register", register_by_shared_secret);
}

#[derive(Deserialize)]
struct RegisterBody {
    username: Option<String>,
    password: Option<String>,
    device_id: Option<OwnedDeviceId>,
    initial_device_display_name: Option<String>,
    auth: Option<Value>,
    inhibit_login: Option<bool>,
    refresh_token: Option<bool>,
    guest_access_token: Option<String>,
    #[serde(rename = "type")]
    login_type: Option<String>,
}

async fn register(
    services: Arc<Services>,
    request: Request<ByteBody>,
    _args: Vec<String>,
) -> Result<Reply> {
    let address = address_of(request.extensions());
    limit(&services, Class::Registration, address)?;
    let payer = stranger(&services, address)?;
    let client = naming::client(request.headers());
    if is_guest(request.uri().query().unwrap_or_default())? {
        return register_guest(&services, payer, request, client).await;
    }
    let body: RegisterBody = read_json(&services, payer, request.into_body()).await?;
    if body.login_type.as_deref() == Some("m.login.application_service") {
        let why = "application services cannot register users on this server";
        return Err(MatrixError::unknown(why).into());
    }
    let auth = Auth::read(body.auth.as_ref())?;
    let is_begun = auth.as_ref().is_some_and(Auth::has_session);
    let guest = match (&body.guest_access_token, &body.username) {
        (Some(token), name) => Some(services.accounts.guest(token, name.as_deref()).await?),
        // Before the stages, so that nobody goes through them for a name that is taken.
        (None, Some(name)) if !is_begun => {
            services.accounts.require_available(name).await.map(|_| None)?
        }
        (None, _) => None,
    };
    let registration = Registration {
        username: body.username,
        device_id: body.device_id,
        display_name: body.initial_device_display_name,
        inhibit_login: body.inhibit_login,
        refreshable: body.refresh_token,
        guest,
        client,
        address,
    };
    let (accounts, password) = (&services.accounts, body.password.as_deref());
    let admission = accounts.check_registration(auth.as_ref(), &registration, password).await?;
    let (user_id, logged_in) = accounts.register(admission, registration, password).await?;
    Ok(match logged_in {
        Some(logged_in) => reply::ok(&render(&logged_in)),
        None => reply::ok(&json!({ "user_id": user_id })),
    })
}

/// What counts of the body of who wants to be a guest.
#[derive(Deserialize)]
struct GuestBody {
    initial_device_display_name: Option<String>,
}

async fn register_guest(
    services: &Services,
    payer: Payer,
    request: Request<ByteBody>,
    client: Option<String>,
) -> Result<Reply> {
    let address = address_of(request.extensions());
    let body: GuestBody = read_json(services, payer, request.into_body()).await?;
    let name = body.initial_device_display_name.or(client);
    let logged_in = services.accounts.register_guest(name, address).await?;
    Ok(reply::ok(&render(&logged_in)))
}

/// Tells whether a guest is to be registered, not a user.
fn is_guest(query: &str) -> Result<bool, MatrixError> {
    let kind = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "kind");
    match kind.as_ref().map(|(_, kind)| kind.as_ref()) {
        None | Some("user") => Ok(false),
        Some("guest") => Ok(true),
        Some(_) => Err(MatrixError::invalid_param("the kind of account is neither user nor guest")),
    }
}

/// Renders a new session: the same members for registering, logging in and refreshing.
pub(crate) fn render(logged_in: &LoggedIn) -> Value {
    let mut body = json!({
        "user_id": logged_in.session.user_id,
        "device_id": logged_in.session.device_id,
        "access_token": logged_in.access_token,
        "home_server": logged_in.session.user_id.server_name(),
    });
    if let Some(token) = &logged_in.refresh_token {
        body["refresh_token"] = json!(token);
    }
    if let Some(in_ms) = logged_in.expires_in_ms {
        body["expires_in_ms"] = json!(in_ms);
    }
    body
}

fn limit(services: &Services, class: Class, from: Option<IpAddr>) -> Result<(), MatrixError> {
    from.map_or(Ok(()), |address| services.limits.check(class, address))
}

async fn available(
    call: Call<get_username_availability::v3::Request, ()>,
) -> Result<get_username_availability::v3::Response> {
    // Clients ask while somebody types.
    limit(&call.services, Class::Other, call.address)?;
    call.services.accounts.require_available(&call.request.username).await?;
    Ok(get_username_availability::v3::Response { available: true })
}

async fn is_token_valid(
    call: Call<check_registration_token_validity::v1::Request, ()>,
) -> Result<check_registration_token_validity::v1::Response> {
    limit(&call.services, Class::Registration, call.address)?;
    let valid = call.services.accounts.is_registration_token(&call.request.token).await?;
    Ok(check_registration_token_validity::v1::Response { valid })
}

async fn nonce(
    services: Arc<Services>,
    request: Request<ByteBody>,
    _args: Vec<String>,
) -> Result<Reply> {
    let address = address_of(request.extensions());
    limit(&services, Class::Other, address)?;
    let nonce = services.accounts.shared_secret_nonce(address).await?;
    Ok(reply::ok(&json!({ "nonce": nonce })))
}

#[derive(Deserialize)]
struct SharedSecretBody {
    nonce: String,
    username: String,
    password: String,
    #[serde(default)]
    admin: bool,
    user_type: Option<String>,
    mac: String,
}

/// Limited as strangers are and not as who registers: whoever holds the secret may register many, and a
/// wrong code costs one hash of a few hundred bytes.
async fn register_by_shared_secret(
    services: Arc<Services>,
    request: Request<ByteBody>,
    _args: Vec<String>,
) -> Result<Reply> {
    let payer = stranger(&services, address_of(request.extensions()))?;
    let body: SharedSecretBody = read_json(&services, payer, request.into_body()).await?;
    let registration = SharedSecretRegistration {
        nonce: body.nonce,
        username: body.username,
        password: body.password,
        admin: body.admin,
        user_type: body.user_type,
        mac: body.mac,
    };
    let logged_in = services.accounts.register_by_shared_secret(registration).await?;
    Ok(reply::ok(&render(&logged_in)))
}
