//! E-mail addresses and telephone numbers: no account has any, and this server proves none. Whoever
//! wants to add one hears so; whoever wants to be rid of one already is.
//!
//! Source: Matrix v1.19, client-server, "Adding Account Administrative Contact Information".

use colonnade_model::{
    MatrixError,
    ruma::api::client::account::{
        add_3pid, bind_3pid, delete_3pid, get_3pids, request_3pid_management_token_via_email,
        request_3pid_management_token_via_msisdn, request_password_change_token_via_email,
        request_password_change_token_via_msisdn, request_registration_token_via_email,
        request_registration_token_via_msisdn, unbind_3pid,
    },
};
use colonnade_rooms::Result;
use colonnade_users::accounts::Session;
use serde_json::{Value, json};

use crate::{
    call::Call,
    table::{Endpoint, Table, Who},
};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table.add_json::<get_3pids::v3::Request, _>(none);
    table.add_json::<delete_3pid::v3::Request, _>(gone);
    table.add_json::<unbind_3pid::v3::Request, _>(gone);
    denied::<add_3pid::v3::Request>(table);
    denied::<bind_3pid::v3::Request>(table);
    denied::<request_3pid_management_token_via_email::v3::Request>(table);
    denied::<request_3pid_management_token_via_msisdn::v3::Request>(table);
    denied::<request_password_change_token_via_email::v3::Request>(table);
    denied::<request_password_change_token_via_msisdn::v3::Request>(table);
    denied::<request_registration_token_via_email::v3::Request>(table);
    denied::<request_registration_token_via_msisdn::v3::Request>(table);
}

/// The library's type would leave the empty list out.
async fn none(_call: Call<get_3pids::v3::Request, Session>) -> Result<Value> {
    Ok(json!({ "threepids": [] }))
}

async fn gone<R: Endpoint>(_call: Call<R, Who<R>>) -> Result<Value> {
    Ok(json!({ "id_server_unbind_result": "success" }))
}

fn denied<R: Endpoint>(table: &mut Table) {
    table.add_json::<R, _>(deny::<R>);
}

async fn deny<R: Endpoint>(_call: Call<R, Who<R>>) -> Result<Value> {
    let why = "this server does not use e-mail addresses or telephone numbers";
    Err(MatrixError::threepid_denied(why).into())
}
