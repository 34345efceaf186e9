//! What other servers may know of users here.

use colonnade_model::{
    MatrixError, ruma::api::federation::query::get_profile_information::v1 as get_profile,
};
use colonnade_rooms::Result;
use serde_json::{Value, json};

use super::endpoint::Origin;
use crate::{call::Call, table::Table};

/// A request without a body.
const NO_BODY: usize = 0;

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table.add_signed::<get_profile::Request, _, _, _>(NO_BODY, profile);
}

async fn profile(call: Call<get_profile::Request, Origin>) -> Result<Value> {
    let get_profile::Request { user_id, field } = call.request;
    let (services, origin) = (call.services, call.who.server);
    if user_id.server_name() != services.context.server_name {
        tracing::debug!(%origin, %user_id, "a server asks for a user who is not one of ours");
        return Err(MatrixError::not_found("this user is not one of this server").into());
    }
    match field {
        None => Ok(Value::Object(services.profiles.get(&user_id).await?)),
        Some(field) => {
            let value = services.profiles.field(&user_id, field.as_str()).await?;
            Ok(json!({ field.as_str(): value }))
        }
    }
}
