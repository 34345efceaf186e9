//! What users of this server decided about notifications themselves, all in memory: push rules of
//! their own, and whom they ignore. Most decided nothing. Kept up to date by the account data stream,
//! of which only what changed is read.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use colonnade_model::{
    nid::UserNid,
    ruma::{OwnedUserId, push::Ruleset},
    stream::{Position, Stream},
};
use colonnade_storage::users::account_data;
use tokio::sync::Mutex;

use crate::{Context, Result};
use colonnade_rules::{account_data::ignored_of, push};

/// Rules by user.
pub(crate) type ByUser = HashMap<UserNid, (OwnedUserId, Arc<Ruleset>)>;
/// Who ignores whom: by the one who is ignored.
pub(crate) type Ignorers = HashMap<OwnedUserId, BTreeSet<UserNid>>;

/// What users decided, as of a position.
#[derive(Default)]
pub(crate) struct CustomPushRules(Mutex<Loaded>);

#[derive(Default)]
struct Loaded {
    upto: Position,
    current: Current,
    /// Whom each user ignores.
    lists: HashMap<UserNid, HashSet<OwnedUserId>>,
}

/// What holds now.
#[derive(Clone, Default)]
pub(crate) struct Current {
    /// A number that grows whenever any of the rules changes.
    pub(crate) version: u64,
    /// The rules.
    pub(crate) rules: Arc<ByUser>,
    /// Who is ignored, and by whom.
    pub(crate) ignorers: Arc<Ignorers>,
}

impl CustomPushRules {
    /// Returns what holds now.
    pub(crate) async fn current(&self, context: &Context) -> Result<Current> {
        let mut known = self.0.lock().await;
        let known = &mut *known;
        let upto = context.streams.position(Stream::AccountData);
        if known.upto < upto {
            let changed = account_data::push_rules_between(&context.db, known.upto, upto).await?;
            for (user, body) in changed {
                let user_id = context.interned.user_id(user).await?;
                let rules = Arc::new(push::read(&user_id, Some(&body)));
                Arc::make_mut(&mut known.current.rules).insert(user, (user_id, rules));
                known.current.version += 1;
            }
            let changed = account_data::ignored_between(&context.db, known.upto, upto).await?;
            for (user, body) in changed {
                known.ignores(user, ignored_of(&body));
            }
            known.upto = upto;
        }
        Ok(known.current.clone())
    }
}

impl Loaded {
    /// Replaces the list of a user.
    fn ignores(&mut self, user: UserNid, list: HashSet<OwnedUserId>) {
        let ignorers = Arc::make_mut(&mut self.current.ignorers);
        for ignored in self.lists.remove(&user).unwrap_or_default() {
            if let Some(by) = ignorers.get_mut(&ignored) {
                by.remove(&user);
                if by.is_empty() {
                    ignorers.remove(&ignored);
                }
            }
        }
        for ignored in &list {
            ignorers.entry(ignored.clone()).or_default().insert(user);
        }
        if !list.is_empty() {
            self.lists.insert(user, list);
        }
    }
}
