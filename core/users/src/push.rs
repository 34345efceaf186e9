//! Push rules and pushers of local users. Rules are kept as account data, so that clients hear of
//! changes; what a user never changed is the server's default. Sending notifications is not here.

mod room;

use std::sync::Arc;

use colonnade_model::session::Session;
use colonnade_model::{
    MatrixError,
    nid::UserNid,
    ruma::{
        RoomId,
        api::client::push::PushRule,
        push::{Action, InsertPushRuleError, NewPushRule, RemovePushRuleError, RuleKind, Ruleset},
    },
    stream::{Positions, Stream, StreamAdvance, Touch},
};
use colonnade_replication::Subscriber;
use colonnade_rooms::{Context, Error, Result, generation_cache::GenerationCache};
use colonnade_rules::push::{self};
use colonnade_storage::{delivery::pushers, users::account_data};
use serde_json::{Value, json};

use crate::account_data::{AccountDataService, PUSH_RULES};

/// Rule sets kept in memory, about 10 kB each when a user has rules of his own.
const CACHED_MAX: usize = 10_000;
/// Rules one user may have, the server's among them.
const RULES_MAX: usize = 2_000;
/// The longest name of a rule, in bytes.
const RULE_ID_BYTES_MAX: usize = 255;
/// All of a pusher, in bytes: an address, a key, a name, a language.
const PUSHER_BYTES_MAX: usize = 8 * 1024;
/// The longest key of a pusher, in bytes. Source: Matrix v1.19, client-server, "Push notifications".
const PUSHKEY_BYTES_MAX: usize = 512;
/// The longest application name of a pusher, in characters. Source: as above.
const APP_ID_CHARS_MAX: usize = 64;

/// Push rules and pushers.
pub struct Push {
    context: Arc<Context>,
    account_data: Arc<AccountDataService>,
    rules: GenerationCache<UserNid, Arc<Ruleset>>,
}

impl Push {
    /// Begins with no rules in memory; they are stored through `account_data`.
    pub fn new(context: Arc<Context>, account_data: Arc<AccountDataService>) -> Self {
        Self { context, account_data, rules: GenerationCache::new(CACHED_MAX) }
    }

    /// Returns the rules of a user.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn rules_of(&self, user: UserNid) -> Result<Arc<Ruleset>> {
        if let Some(rules) = self.rules.get(&user) {
            return Ok(rules);
        }
        let generation = self.rules.generation();
        let user_id = self.context.interned.user_id(user).await?;
        let stored = account_data::get(&self.context.db, user, None, PUSH_RULES).await?;
        let rules = Arc::new(push::read(&user_id, stored.as_deref()));
        self.rules.insert(generation, user, Arc::clone(&rules));
        Ok(rules)
    }

    /// Returns one rule.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when there is no such rule.
    pub async fn rule(&self, user: UserNid, kind: RuleKind, rule_id: &str) -> Result<PushRule> {
        let rules = self.rules_of(user).await?;
        let rule = rules.get(kind, rule_id).ok_or_else(no_such_rule)?;
        Ok(rule.to_owned().into())
    }

    /// Adds a rule, or changes one of the user's own.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` when the name cannot be one, `M_UNKNOWN` when the rule cannot be placed.
    pub async fn insert(
        &self,
        user: UserNid,
        rule: NewPushRule,
        after: Option<&str>,
        before: Option<&str>,
    ) -> Result<()> {
        let rule_id = rule.rule_id().to_owned();
        let (after, before) = (after.map(ToOwned::to_owned), before.map(ToOwned::to_owned));
        if rule_id.is_empty() || rule_id.len() > RULE_ID_BYTES_MAX {
            return Err(MatrixError::invalid_param("the rule's name is empty or too long").into());
        }
        self.change(user, move |rules| {
            let kind = rule.kind();
            rules.insert(rule, None, None).map_err(|error| refused(&error))?;
            if count(rules) > RULES_MAX {
                return Err(MatrixError::unknown(format!("more than {RULES_MAX} rules")));
            }
            place(rules, &kind, &rule_id, after.as_deref(), before.as_deref())
        })
        .await
    }

    /// Removes a rule of the user's own.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when there is no such rule, `M_UNKNOWN` when it is the server's.
    pub async fn remove(&self, user: UserNid, kind: RuleKind, rule_id: &str) -> Result<()> {
        let rule_id = rule_id.to_owned();
        self.change(user, move |rules| {
            rules.remove(kind, rule_id).map_err(|error| match error {
                RemovePushRuleError::NotFound => no_such_rule(),
                other => MatrixError::unknown(other.to_string()),
            })
        })
        .await
    }

    /// Switches a rule on or off.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when there is no such rule.
    pub async fn set_enabled(
        &self,
        user: UserNid,
        kind: RuleKind,
        rule_id: &str,
        enabled: bool,
    ) -> Result<()> {
        let rule_id = rule_id.to_owned();
        self.change(user, move |rules| {
            rules.set_enabled(kind, rule_id, enabled).map_err(|_| no_such_rule())
        })
        .await
    }

    /// Says what a rule does.
    ///
    /// # Errors
    /// `M_NOT_FOUND` when there is no such rule.
    pub async fn set_actions(
        &self,
        user: UserNid,
        kind: RuleKind,
        rule_id: &str,
        actions: Vec<Action>,
    ) -> Result<()> {
        let rule_id = rule_id.to_owned();
        self.change(user, move |rules| {
            rules.set_actions(kind, rule_id, actions).map_err(|_| no_such_rule())
        })
        .await
    }

    /// Gives a room the rules that another has: those of the kind for rooms, and the user's own that
    /// ask for that room. What the room has already stays as it is.
    pub async fn copy_room(&self, user: UserNid, from: &RoomId, to: &RoomId) -> Result<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.change(user, move |rules| {
            room::copy(rules, &from, &to);
            if count(rules) > RULES_MAX {
                return Err(MatrixError::unknown(format!("more than {RULES_MAX} rules")));
            }
            Ok(())
        })
        .await
    }

    /// Changes the rules of a user: they are read, changed and written as a whole, in one step.
    async fn change<F>(&self, user: UserNid, change: F) -> Result<()>
    where
        F: FnOnce(&mut Ruleset) -> Result<(), MatrixError> + Clone + Send + 'static,
    {
        let user_id = self.context.interned.user_id(user).await?;
        let written = self.account_data.change(user, None, PUSH_RULES, move |stored| {
            let mut rules = push::read(&user_id, stored);
            change(&mut rules)?;
            Ok(Some(json!({ "global": render(&rules)? })))
        });
        written.await?;
        self.rules.remove([&user]);
        Ok(())
    }

    // === Pushers ===

    /// Returns the pushers of a user, as the client gave them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn pushers(&self, user: UserNid) -> Result<Vec<Value>> {
        Ok(pushers::list(&self.context.db, user).await?)
    }

    /// Stores a pusher. Unless `append`, others lose theirs with the same application and key.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` when it cannot be one, `M_TOO_LARGE`, `M_FORBIDDEN` when the user has too many.
    pub async fn set_pusher(&self, session: &Session, pusher: Value, append: bool) -> Result<()> {
        let text = |key: &str| pusher[key].as_str().unwrap_or_default().to_owned();
        let (app_id, pushkey) = (text("app_id"), text("pushkey"));
        require_pusher_ids(&app_id, &pushkey)?;
        if pusher["kind"] != "http" {
            let why = "this server sends notifications to http pushers only";
            return Err(MatrixError::invalid_param(why).into());
        }
        require_gateway(pusher["data"]["url"].as_str().unwrap_or_default())?;
        let row = pushers::PusherRow {
            user: session.user,
            app_id,
            pushkey,
            device: session.device,
            body: pusher.to_string(),
        };
        if row.body.len() > PUSHER_BYTES_MAX {
            let why = format!("a pusher may have {PUSHER_BYTES_MAX} bytes");
            return Err(MatrixError::too_large(why).into());
        }
        let (now_ms, quota) = (self.context.now_ms(), self.context.settings.limits.pushers());
        let write =
            self.context.db.write(move |tx| Box::pin(pushers::put(tx, row, append, now_ms, quota)));
        Ok(write.await?)
    }

    /// Deletes a pusher; one that is not there is passed over.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delete_pusher(&self, user: UserNid, app_id: String, key: String) -> Result<()> {
        require_pusher_ids(&app_id, &key)?;
        let write =
            self.context.db.write(move |tx| Box::pin(pushers::delete(tx, user, app_id, key)));
        Ok(write.await?)
    }
}

/// Forgets rules that another process changed.
impl Subscriber for Push {
    fn advanced(&self, advance: &StreamAdvance) {
        for (touch, _) in &advance.touched {
            match (touch, advance.stream) {
                (Touch::User(user), Stream::AccountData) => self.rules.remove([user]),
                (Touch::Anybody, Stream::AccountData) => self.rules.clear(),
                _ => {}
            }
        }
    }

    fn missed(&self, _: Positions) {
        self.rules.clear();
    }
}

/// Renders rules with every kind, also those without rules.
pub fn render(rules: &Ruleset) -> Result<Value> {
    push::render(rules).map_err(|error| Error::internal("render push rules", error))
}

fn count(rules: &Ruleset) -> usize {
    rules.override_.len()
        + rules.content.len()
        + rules.room.len()
        + rules.sender.len()
        + rules.underride.len()
}

/// Moves a rule right after or before another of the user's own rules of its kind. The library's own
/// placing panics when a rule is to come after the last one.
///
/// Source: Matrix v1.19, client-server, `PUT /pushrules/global/{kind}/{ruleId}`.
fn place(
    rules: &mut Ruleset,
    kind: &RuleKind,
    rule_id: &str,
    after: Option<&str>,
    before: Option<&str>,
) -> Result<(), MatrixError> {
    macro_rules! place_in {
        ($set:expr) => {{
            let at = |id: &str| -> Result<usize, MatrixError> {
                if id.starts_with('.') || id == rule_id {
                    return Err(MatrixError::unknown("a rule is placed among the user's others"));
                }
                let found = $set.iter().position(|rule| AsRef::<str>::as_ref(&rule.rule_id) == id);
                let unknown = || MatrixError::unknown("before/after rule not found");
                found.ok_or_else(unknown)
            };
            let from = $set.iter().position(|rule| AsRef::<str>::as_ref(&rule.rule_id) == rule_id);
            let from = from.ok_or_else(no_such_rule)?;
            let after = after.map(at).transpose()?;
            let before = before.map(at).transpose()?;
            if after.zip(before).is_some_and(|(after, before)| before < after) {
                return Err(MatrixError::unknown("before has a higher priority than after"));
            }
            // Where it goes once it was taken out: what was behind it has moved up by one.
            let to = match (before, after) {
                (Some(before), _) => Some(before - usize::from(from < before)),
                (None, Some(after)) => Some(after + 1 - usize::from(from < after)),
                (None, None) => None,
            };
            if let Some(to) = to {
                $set.move_index(from, to);
            }
        }};
    }
    match kind {
        RuleKind::Override => place_in!(rules.override_),
        RuleKind::Underride => place_in!(rules.underride),
        RuleKind::Sender => place_in!(rules.sender),
        RuleKind::Room => place_in!(rules.room),
        RuleKind::Content => place_in!(rules.content),
        _ => return Err(MatrixError::invalid_param("there is no such kind of rule")),
    }
    Ok(())
}

fn refused(error: &InsertPushRuleError) -> MatrixError {
    match error {
        InsertPushRuleError::UnknownRuleId | InsertPushRuleError::BeforeHigherThanAfter => {
            MatrixError::unknown(error.to_string())
        }
        _ => MatrixError::invalid_param(error.to_string()),
    }
}

fn no_such_rule() -> MatrixError {
    MatrixError::not_found("there is no such push rule")
}

fn require_pusher_ids(app_id: &str, pushkey: &str) -> Result<(), MatrixError> {
    let wrong = |what: &str| Err(MatrixError::invalid_param(format!("{what} cannot be used")));
    if app_id.is_empty() || app_id.chars().count() > APP_ID_CHARS_MAX || app_id.contains('\0') {
        return wrong("app_id");
    }
    if pushkey.is_empty() || pushkey.len() > PUSHKEY_BYTES_MAX || pushkey.contains('\0') {
        return wrong("pushkey");
    }
    Ok(())
}

/// Makes sure that notifications would go to a push gateway, not just anywhere.
///
/// Source: Matrix v1.19, client-server, `POST /pushers/set`: the path is `/_matrix/push/v1/notify`.
fn require_gateway(url: &str) -> Result<(), MatrixError> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let path = rest.and_then(|rest| rest.split_once('/')).map(|(_, path)| path);
    let path = path.map(|path| path.split(['?', '#']).next().unwrap_or_default());
    if path == Some("_matrix/push/v1/notify") {
        return Ok(());
    }
    Err(MatrixError::invalid_param("data.url is not https://…/_matrix/push/v1/notify"))
}

#[cfg(test)]
mod tests;
