//! Signing keys: this server's own, and as a notary those of others.

use std::{collections::BTreeMap, sync::Arc};

use colonnade_federation::keys::WantedAnswers;
use colonnade_model::ruma::{
    MilliSecondsSinceUnixEpoch, OwnedServerName, OwnedServerSigningKeyId, UInt,
    api::IncomingRequestExt as _,
    api::federation::discovery::{
        get_remote_server_keys::v2 as get_remote_server_keys,
        get_remote_server_keys_batch::v2 as get_remote_server_keys_batch,
        get_server_keys::v2 as get_server_keys,
    },
};
use colonnade_rooms::Result;
use colonnade_services::Services;
use http::{Method, Request};
use serde_json::{Value, json};

use super::endpoint::require_federation;
use crate::{
    call::Call,
    reply::{self, Reply},
    request::ByteBody,
    table::{Table, malformed},
};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table.add_raw_for::<get_server_keys::Request, _, _>(own);
    // Servers of before ask for one key by its name, and get all.
    table.add_raw(Method::GET, "/_matrix/key/v2/server/{key_id}", own);
    table.add_json::<get_remote_server_keys::Request, _>(of_one);
    table.add_raw(Method::GET, "/_matrix/key/v2/query/{server_name}/{key_id}", of_one_by_name);
    table.add_json::<get_remote_server_keys_batch::Request, _>(of_many);
}

async fn own(
    services: Arc<Services>,
    _request: Request<ByteBody>,
    _args: Vec<String>,
) -> Result<Reply> {
    require_federation(&services)?;
    Ok(reply::ok(&services.server_keys.own_document().await?))
}

async fn of_one(call: Call<get_remote_server_keys::Request, ()>) -> Result<Value> {
    let get_remote_server_keys::Request { server_name, minimum_valid_until_ts } = call.request;
    let wanted = all_until(minimum_valid_until_ts);
    vouch(&call.services, BTreeMap::from([(server_name, wanted)])).await
}

/// As servers of before ask; they, too, get all keys.
async fn of_one_by_name(
    services: Arc<Services>,
    request: Request<ByteBody>,
    args: Vec<String>,
) -> Result<Reply> {
    let (parts, _) = request.into_parts();
    let server: Vec<&str> = args.iter().take(1).map(String::as_str).collect();
    let request = Request::from_parts(parts, &[][..]);
    let request = get_remote_server_keys::Request::try_from_http_request(request, &server);
    let get_remote_server_keys::Request { server_name, minimum_valid_until_ts } =
        request.map_err(|error| malformed(&error))?;
    let wanted = all_until(minimum_valid_until_ts);
    Ok(reply::ok(&vouch(&services, BTreeMap::from([(server_name, wanted)])).await?))
}

async fn of_many(call: Call<get_remote_server_keys_batch::Request, ()>) -> Result<Value> {
    type Criteria = BTreeMap<OwnedServerSigningKeyId, get_remote_server_keys_batch::QueryCriteria>;
    let wanted = |keys: Criteria| {
        let until =
            |key: get_remote_server_keys_batch::QueryCriteria| key.minimum_valid_until_ts.map(ms);
        let keys = keys.into_iter().map(|(key_id, key)| (key_id.to_string(), until(key)));
        WantedAnswers { keys: keys.collect(), until_ms: None }
    };
    let all = call.request.server_keys.into_iter();
    vouch(&call.services, all.map(|(server, keys)| (server, wanted(keys))).collect()).await
}

fn all_until(time: MilliSecondsSinceUnixEpoch) -> WantedAnswers {
    WantedAnswers { until_ms: Some(ms(time)), ..WantedAnswers::default() }
}

fn ms(time: MilliSecondsSinceUnixEpoch) -> i64 {
    UInt::into(time.0)
}

async fn vouch(
    services: &Services,
    wanted: BTreeMap<OwnedServerName, WantedAnswers>,
) -> Result<Value> {
    require_federation(services)?;
    Ok(json!({ "server_keys": services.server_keys.vouch(wanted).await? }))
}
