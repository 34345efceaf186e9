//! What a new event means to the unread counts: to everybody with the default push rules (class 0)
//! as one number, and to the few others one by one: those it mentions, and those with rules of their
//! own. Nothing here grows with the number of members.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use colonnade_model::{nid::UserNid, ruma::UserId};
use colonnade_rules::push::{Evaluator, PushOutcome, named_users};
use colonnade_storage::rooms::members::{self, Membership};

use super::{PendingRoom, ingest::Admitted, power_levels::levels, push_candidates::Candidate};
use crate::Result;
use crate::store::{Store, custom_push_rules::Current};

/// Members asked for with one statement.
const MEMBERS_ASKED_MAX: usize = 5_000;

/// What an event means.
#[derive(Debug, Default)]
pub(crate) struct Meaning {
    /// To everybody with the default push rules (class 0).
    pub(crate) outcome: PushOutcome,
    /// To users to whom it means something else.
    pub(crate) user_outcomes: Vec<(UserNid, PushOutcome)>,
}

/// Evaluates the push rules for an event that makes `joined` members.
pub(crate) async fn evaluate(
    pending: &mut PendingRoom,
    store: &Store,
    admitted: &Admitted,
    joined: i64,
) -> Result<Meaning> {
    let event = &admitted.event;
    let levels = levels(pending, store, admitted.state_before).await?;
    let for_push = levels.map(|levels| levels.for_push(&pending.room.rules.authorization));
    let count = u64::try_from(joined).unwrap_or(0);
    let mut evaluator = Evaluator::new(event, count, for_push);
    let outcome = evaluator.class_zero().counted();
    let mut user_outcomes = Vec::new();
    for Candidate { user, user_id, name, rules } in candidates(pending, store, admitted).await? {
        let own = evaluator.evaluate(&user_id, &name, &rules).counted();
        if own != outcome {
            user_outcomes.push((user, own));
        }
    }
    if outcome.notifies() || !user_outcomes.is_empty() {
        for user in ignoring(pending, store, admitted).await? {
            user_outcomes.retain(|(other, _)| *other != user);
            if outcome.notifies() {
                user_outcomes.push((user, PushOutcome::Nothing));
            }
        }
    }
    Ok(Meaning { outcome, user_outcomes })
}

/// Finds the joined members who ignore the sender: the event means nothing to them.
///
/// Source: Matrix v1.19, client-server, "Ignoring Users".
async fn ignoring(
    pending: &PendingRoom,
    store: &Store,
    admitted: &Admitted,
) -> Result<Vec<UserNid>> {
    let current = store.own_rules.current(&store.context).await?;
    let Some(by) = current.ignorers.get(admitted.event.sender()) else { return Ok(Vec::new()) };
    let by: Vec<UserNid> = by.iter().copied().collect();
    let mut ignoring = Vec::new();
    for part in by.chunks(MEMBERS_ASKED_MAX) {
        for member in members::many(&store.context.db, pending.room.nid, part).await? {
            if member.membership == Membership::Join {
                ignoring.push(member.user);
            }
        }
    }
    Ok(ignoring)
}

/// Finds the joined members of this server to whom the event may mean something of its own: those it
/// names, and those with push rules of their own.
async fn candidates(
    pending: &mut PendingRoom,
    store: &Store,
    admitted: &Admitted,
) -> Result<Vec<Candidate>> {
    let custom_rules = custom_rules(pending, store).await?;
    let mut found: BTreeMap<UserNid, Candidate> = BTreeMap::new();
    let named = named_users(&admitted.event);
    let here = named.iter().map(|user_id| &**user_id).filter(|user_id| store.is_local(user_id));
    let named = store.context.interned.find_users(here).await?;
    let named: HashMap<UserNid, &UserId> =
        named.into_iter().map(|(user_id, nid)| (nid, user_id)).collect();
    let nids: Vec<UserNid> = named.keys().copied().collect();
    // An event has room for some thousand names.
    for part in nids.chunks(MEMBERS_ASKED_MAX) {
        for member in members::many(&store.context.db, pending.room.nid, part).await? {
            let Some(user_id) = named.get(&member.user) else { continue };
            if member.membership == Membership::Join {
                let name = member.display_name.unwrap_or_else(|| user_id.localpart().to_owned());
                let with = Candidate::with_defaults(member.user, (*user_id).to_owned(), name);
                found.insert(member.user, with);
            }
        }
    }
    found.extend(custom_rules.iter().map(|custom| (custom.user, custom.clone())));
    found.remove(&admitted.sender);
    Ok(found.into_values().collect())
}

/// Returns the joined members with push rules of their own, remembered until membership or
/// somebody's rules change.
async fn custom_rules(pending: &mut PendingRoom, store: &Store) -> Result<Arc<[Candidate]>> {
    let Current { version, rules, .. } = store.own_rules.current(&store.context).await?;
    if let Some((known, custom_rules)) = &pending.tip.custom_rules
        && *known == version
    {
        return Ok(Arc::clone(custom_rules));
    }
    let mut custom_rules = Vec::new();
    let users: Vec<UserNid> = rules.keys().copied().collect();
    for part in users.chunks(MEMBERS_ASKED_MAX) {
        for member in members::many(&store.context.db, pending.room.nid, part).await? {
            if let (Membership::Join, Some((user_id, rules))) =
                (member.membership, rules.get(&member.user))
            {
                custom_rules.push(Candidate {
                    user: member.user,
                    name: member.display_name.unwrap_or_else(|| user_id.localpart().to_owned()),
                    user_id: user_id.clone(),
                    rules: Arc::clone(rules),
                });
            }
        }
    }
    let custom_rules: Arc<[Candidate]> = custom_rules.into();
    pending.tip.custom_rules = Some((version, Arc::clone(&custom_rules)));
    Ok(custom_rules)
}
