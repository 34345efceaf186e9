//! Push rules and pushers.

use colonnade_model::ruma::api::client::push::{
    delete_pushrule, get_pushers, get_pushrule, get_pushrule_actions, get_pushrule_enabled,
    get_pushrules_all, get_pushrules_global_scope,
    set_pusher::{self, v3::PusherAction},
    set_pushrule, set_pushrule_actions, set_pushrule_enabled,
};
use colonnade_rooms::{Error, Result};
use colonnade_users::{accounts::Session, push};
use serde_json::{Map, Value, json};

use crate::{call::Call, table::Table};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table.add_json::<get_pushrules_all::v3::Request, _>(all);
    table.add_json::<get_pushrules_global_scope::v3::Request, _>(global);
    table.add::<get_pushrule::v3::Request, _>(rule);
    table.add_prepared::<set_pushrule::v3::Request, _>(complete_rule, insert);
    table.add::<delete_pushrule::v3::Request, _>(remove);
    table.add::<get_pushrule_enabled::v3::Request, _>(enabled);
    table.add::<set_pushrule_enabled::v3::Request, _>(set_enabled);
    table.add::<get_pushrule_actions::v3::Request, _>(actions);
    table.add_prepared::<set_pushrule_actions::v3::Request, _>(complete_actions, set_actions);
    table.add_json::<get_pushers::v3::Request, _>(pushers);
    table.add::<set_pusher::v3::Request, _>(set_pusher);
}

async fn all(call: Call<get_pushrules_all::v3::Request, Session>) -> Result<Value> {
    let rules = call.services.push.rules_of(call.who.user).await?;
    Ok(json!({ "global": push::render(&rules)? }))
}

async fn global(call: Call<get_pushrules_global_scope::v3::Request, Session>) -> Result<Value> {
    let rules = call.services.push.rules_of(call.who.user).await?;
    push::render(&rules)
}

async fn rule(
    call: Call<get_pushrule::v3::Request, Session>,
) -> Result<get_pushrule::v3::Response> {
    let get_pushrule::v3::Request { kind, rule_id } = call.request;
    let rule = call.services.push.rule(call.who.user, kind, &rule_id).await?;
    Ok(get_pushrule::v3::Response { rule })
}

async fn insert(
    call: Call<set_pushrule::v3::Request, Session>,
) -> Result<set_pushrule::v3::Response> {
    let set_pushrule::v3::Request { rule, before, after } = call.request;
    let (after, before) = (after.as_deref(), before.as_deref());
    call.services.push.insert(call.who.user, rule, after, before).await?;
    Ok(set_pushrule::v3::Response {})
}

/// Adds what the specification does not ask for, but the library's type does.
///
/// Source: Matrix v1.19, client-server, `PUT /pushrules/global/{kind}/{ruleId}`: only `actions` is
/// required. A rule without conditions applies to every event.
fn complete_rule(body: &mut Map<String, Value>) {
    if body.get("conditions").is_none_or(Value::is_null) {
        body.insert("conditions".to_owned(), json!([]));
    }
    complete_actions(body);
}

/// A sound without a value is the default one, as a highlight without a value is one.
///
/// Source: Matrix v1.19, client-server, "Actions".
fn complete_actions(body: &mut Map<String, Value>) {
    let actions = body.get_mut("actions").and_then(Value::as_array_mut);
    for action in actions.into_iter().flatten().filter_map(Value::as_object_mut) {
        let is_sound = action.get("set_tweak").is_some_and(|tweak| tweak == "sound");
        if is_sound && action.get("value").is_none_or(Value::is_null) {
            action.insert("value".to_owned(), json!("default"));
        }
    }
}

async fn remove(
    call: Call<delete_pushrule::v3::Request, Session>,
) -> Result<delete_pushrule::v3::Response> {
    let delete_pushrule::v3::Request { kind, rule_id } = call.request;
    call.services.push.remove(call.who.user, kind, &rule_id).await?;
    Ok(delete_pushrule::v3::Response {})
}

async fn enabled(
    call: Call<get_pushrule_enabled::v3::Request, Session>,
) -> Result<get_pushrule_enabled::v3::Response> {
    let get_pushrule_enabled::v3::Request { kind, rule_id } = call.request;
    let rule = call.services.push.rule(call.who.user, kind, &rule_id).await?;
    Ok(get_pushrule_enabled::v3::Response { enabled: rule.enabled })
}

async fn set_enabled(
    call: Call<set_pushrule_enabled::v3::Request, Session>,
) -> Result<set_pushrule_enabled::v3::Response> {
    let set_pushrule_enabled::v3::Request { kind, rule_id, enabled } = call.request;
    call.services.push.set_enabled(call.who.user, kind, &rule_id, enabled).await?;
    Ok(set_pushrule_enabled::v3::Response {})
}

async fn actions(
    call: Call<get_pushrule_actions::v3::Request, Session>,
) -> Result<get_pushrule_actions::v3::Response> {
    let get_pushrule_actions::v3::Request { kind, rule_id } = call.request;
    let rule = call.services.push.rule(call.who.user, kind, &rule_id).await?;
    Ok(get_pushrule_actions::v3::Response { actions: rule.actions })
}

async fn set_actions(
    call: Call<set_pushrule_actions::v3::Request, Session>,
) -> Result<set_pushrule_actions::v3::Response> {
    let set_pushrule_actions::v3::Request { kind, rule_id, actions } = call.request;
    call.services.push.set_actions(call.who.user, kind, &rule_id, actions).await?;
    Ok(set_pushrule_actions::v3::Response {})
}

async fn pushers(call: Call<get_pushers::v3::Request, Session>) -> Result<Value> {
    let pushers = call.services.push.pushers(call.who.user).await?;
    Ok(json!({ "pushers": pushers }))
}

async fn set_pusher(
    call: Call<set_pusher::v3::Request, Session>,
) -> Result<set_pusher::v3::Response> {
    match call.request.action {
        PusherAction::Post(post) => {
            let pusher = serde_json::to_value(&post.pusher)
                .map_err(|error| Error::internal("render a pusher", error))?;
            call.services.push.set_pusher(&call.who, pusher, post.append).await?;
        }
        PusherAction::Delete(ids) => {
            let user = call.who.user;
            call.services.push.delete_pusher(user, ids.app_id, ids.pushkey).await?;
        }
    }
    Ok(set_pusher::v3::Response {})
}
