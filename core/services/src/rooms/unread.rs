//! What a new event means to the unread counts: to everybody with the default push rules (class 0)
//! as one number, and to the few others one by one. Nothing here grows with the number of members
//! but in rooms small enough to look at each.

use std::{collections::HashMap, sync::Arc};

use colonnade_model::{
    nid::{EventNid, StateNid, UserNid},
    ruma::{OwnedUserId, events::StateEventType, push::Ruleset},
};
use colonnade_rules::{
    auth::StateKey,
    event::Event,
    power::PowerLevels,
    push::{Evaluator, Outcome, named_users, server_default},
};
use colonnade_storage::members::{self, Membership};
use serde::Deserialize;

use super::{ingest::Admitted, store::Store, work::Work};
use crate::Result;

/// Members up to which an event without `m.mentions` is searched for each member's name, as
/// clients that know no `m.mentions` expect. In larger rooms only mentions count.
const NAMED_IN_TEXT_MAX: i64 = 200;

/// A joined member of this server.
#[derive(Debug)]
pub(super) struct Local {
    user: UserNid,
    user_id: OwnedUserId,
    name: String,
}

/// The power levels read last, with the events they were read from.
#[derive(Debug, Clone, Default)]
pub(super) struct Levels(Option<(Option<EventNid>, Arc<PowerLevels>)>);

/// What an event means.
#[derive(Debug, Default)]
pub(super) struct Meaning {
    /// To class 0: 0 nothing, 1 notify, 2 notify and highlight.
    pub(super) action: i64,
    /// To users to whom it means something else.
    pub(super) exceptions: Vec<(UserNid, i64)>,
}

/// Reads the power levels of a state; `None` when the room's are malformed or there is no state.
pub(super) async fn levels(
    work: &mut Work,
    store: &Store,
    state: Option<StateNid>,
) -> Result<Option<Arc<PowerLevels>>> {
    let key = |kind: &str| -> StateKey { (StateEventType::from(kind), String::new()) };
    let (create, power) = (key("m.room.create"), key("m.room.power_levels"));
    let found = work.look_up(store, state, &[create.clone(), power.clone()]).await?;
    let Some(create) = found.get(&create) else { return Ok(None) };
    let power = found.get(&power);
    let nid = power.map(|event| event.nid);
    if let Some((known, levels)) = &work.levels.0 {
        if *known == nid {
            return Ok(Some(Arc::clone(levels)));
        }
    }
    let rules = &work.room.rules.authorization;
    let power = power.map(|event| &*event.event);
    let Ok(levels) = PowerLevels::new(&create.event, power, rules) else { return Ok(None) };
    let levels = Arc::new(levels);
    work.levels = Levels(Some((nid, Arc::clone(&levels))));
    Ok(Some(levels))
}

/// Evaluates the push rules for an event that makes `joined` members.
pub(super) async fn evaluate(
    work: &mut Work,
    store: &Store,
    admitted: &Admitted,
    joined: i64,
) -> Result<Meaning> {
    let event = &admitted.event;
    // The default rules are silent about members; an invite counts as an invite, not as unread.
    if event.event_type().to_string() == "m.room.member" {
        return Ok(Meaning::default());
    }
    let levels = levels(work, store, admitted.state_before).await?;
    let for_push = levels.map(|levels| levels.for_push(&work.room.rules.authorization));
    let count = u64::try_from(joined).unwrap_or(0);
    let mut evaluator = Evaluator::new(event, count, for_push);
    let action = number(evaluator.class_zero());
    let mut exceptions = Vec::new();
    for (user, user_id, name, rules) in candidates(work, store, admitted, joined).await? {
        let own = number(evaluator.evaluate(&user_id, &name, &rules));
        if own != action {
            exceptions.push((user, own));
        }
    }
    Ok(Meaning { action, exceptions })
}

fn number(outcome: Outcome<'_>) -> i64 {
    i64::from(outcome.notify()) + i64::from(outcome.highlight())
}

/// Finds the joined members of this server to whom the event may mean something of its own.
async fn candidates(
    work: &mut Work,
    store: &Store,
    admitted: &Admitted,
    joined: i64,
) -> Result<Vec<(UserNid, OwnedUserId, String, Ruleset)>> {
    let mut found: HashMap<UserNid, (OwnedUserId, String)> = HashMap::new();
    for user_id in named_users(&admitted.event) {
        if !store.is_local(&user_id) {
            continue;
        }
        let Some(user) = store.context.interned.find_user(&user_id).await? else { continue };
        let member = store.member(work.room.nid, user).await?;
        if let Some(member) = member.filter(|member| member.membership == Membership::Join) {
            let name = member.display_name.unwrap_or_else(|| user_id.localpart().to_owned());
            found.insert(user, (user_id, name));
        }
    }
    if let (Some(text), true) = (text_of(&admitted.event), joined <= NAMED_IN_TEXT_MAX) {
        for local in locals(work, store).await?.iter() {
            let names = [local.name.to_lowercase(), local.user_id.localpart().to_lowercase()];
            if names.iter().any(|name| !name.is_empty() && text.contains(name.as_str())) {
                found.insert(local.user, (local.user_id.clone(), local.name.clone()));
            }
        }
    }
    found.remove(&admitted.sender);
    let with_rules = found.into_iter().map(|(user, (user_id, name))| {
        let rules = server_default(&user_id);
        (user, user_id, name, rules)
    });
    Ok(with_rules.collect())
}

/// Returns the text in which names are searched, in lower case: that of events without
/// `m.mentions`.
fn text_of(event: &Event) -> Option<String> {
    #[derive(Deserialize)]
    struct Content {
        body: String,
        #[serde(rename = "m.mentions")]
        mentions: Option<serde::de::IgnoredAny>,
    }
    let content = event.content_as::<Content>().ok()?;
    content.mentions.is_none().then(|| content.body.to_lowercase())
}

/// Returns the joined members of this server, remembered until membership changes.
async fn locals(work: &mut Work, store: &Store) -> Result<Arc<[Local]>> {
    if let Some(locals) = &work.locals {
        return Ok(Arc::clone(locals));
    }
    let db = &store.context.db;
    let joined = members::members_of(db, work.room.nid, &[Membership::Join]).await?;
    let users: Vec<UserNid> = joined.iter().map(|member| member.user).collect();
    let ids = store.context.interned.user_ids(&users).await?;
    let locals = joined.into_iter().zip(ids).filter(|(_, user_id)| store.is_local(user_id));
    let locals: Arc<[Local]> = locals
        .map(|(member, user_id)| Local {
            user: member.user,
            name: member.display_name.unwrap_or_else(|| user_id.localpart().to_owned()),
            user_id,
        })
        .collect();
    work.locals = Some(Arc::clone(&locals));
    Ok(locals)
}
