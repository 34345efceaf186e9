//! The users of this server with push rules of their own, all in memory: most have none. Kept up to
//! date by the account data stream, of which only changed rules are read.

use std::{collections::HashMap, sync::Arc};

use colonnade_model::{
    nid::UserNid,
    ruma::{OwnedUserId, push::Ruleset},
    stream::{Position, Stream},
};
use colonnade_storage::account_data;
use tokio::sync::Mutex;

use crate::{Context, Result, push};

/// Rules by user.
pub(super) type ByUser = HashMap<UserNid, (OwnedUserId, Arc<Ruleset>)>;

/// The rules, as of a position.
#[derive(Default)]
pub(super) struct CustomRules(Mutex<Known>);

#[derive(Default)]
struct Known {
    upto: Position,
    version: u64,
    rules: Arc<ByUser>,
}

impl CustomRules {
    /// Returns all rules, and a number that grows whenever any of them changes.
    pub(super) async fn current(&self, context: &Context) -> Result<(u64, Arc<ByUser>)> {
        let mut known = self.0.lock().await;
        let upto = context.streams.position(Stream::AccountData);
        if known.upto < upto {
            let changed = account_data::push_rules_between(&context.db, known.upto, upto).await?;
            for (user, body) in changed {
                let user_id = context.interned.user_id(user).await?;
                let rules = Arc::new(push::read(&user_id, Some(&body)));
                Arc::make_mut(&mut known.rules).insert(user, (user_id, rules));
                known.version += 1;
            }
            known.upto = upto;
        }
        Ok((known.version, Arc::clone(&known.rules)))
    }
}
