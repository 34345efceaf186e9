//! Filters: upload one, get it back.

use colonnade_model::{
    MatrixError,
    ruma::api::client::filter::{create_filter, get_filter},
};
use colonnade_rooms::Result;
use colonnade_users::accounts::Session;
use serde_json::Value;

use super::profiles::require_own;
use crate::{call::Call, table::Table};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table.add::<create_filter::v3::Request, _>(create);
    table.add_json::<get_filter::v3::Request, _>(get);
}

/// The typed request has checked the filter; what is stored is what came.
async fn create(
    call: Call<create_filter::v3::Request, Session>,
) -> Result<create_filter::v3::Response> {
    require_own(&call.who, &call.request.user_id)?;
    let filter_id = call.services.filters.create(call.who.user, &call.body).await?;
    Ok(create_filter::v3::Response { filter_id })
}

async fn get(call: Call<get_filter::v3::Request, Session>) -> Result<Value> {
    let get_filter::v3::Request { user_id, filter_id } = call.request;
    require_own(&call.who, &user_id)?;
    let text = call.services.filters.get(call.who.user, &filter_id).await?;
    let parsed = serde_json::from_str(&text);
    Ok(parsed.map_err(|_| MatrixError::internal("the stored filter is damaged"))?)
}
