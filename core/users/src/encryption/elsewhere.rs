//! Keys of users of other servers: asked of these in parallel, within the time a client gives. The device lists of
//! those who share a room with somebody here are kept (`remote_lists.rs`), the others' are not.

use std::{collections::BTreeMap, time::Duration};

use colonnade_federation::messaging::{Claims, KeysByDevice, MessagingError, QueriedKeys};
use colonnade_model::{
    nid::UserNid,
    ruma::{OwnedDeviceId, OwnedServerName, OwnedUserId, ServerName},
};
use colonnade_rooms::{Error, Result};
use colonnade_storage::{keys::remote_devices, rooms::servers};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use super::Encryption;

/// Servers that are asked at a time for one request.
const SERVERS_AT_ONCE: usize = 32;
/// Lists that one server is asked for at a time.
const LISTS_AT_ONCE: usize = 4;
/// Lists that one request asks a server for; the keys of more users are asked for together, and not kept.
const LISTS_MAX: usize = 50;
/// How long a client's request waits for other servers at most, whatever it says; and what the specification says if
/// it says nothing.
pub(super) const WITHIN: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));

/// Whose keys are wanted; of no devices means of all.
pub(super) type Wanted = BTreeMap<OwnedUserId, Vec<OwnedDeviceId>>;

/// What other servers said, or are known to have said.
#[derive(Default)]
pub(super) struct FoundElsewhere {
    /// Users whose lists are kept.
    pub(super) kept: Vec<(OwnedUserId, UserNid)>,
    /// Keys of others.
    pub(super) answers: Vec<QueriedKeys>,
    /// Servers that did not answer.
    pub(super) failures: BTreeMap<String, Value>,
}

/// Splits what is wanted by servers.
pub(super) fn by_server<T>(
    wanted: BTreeMap<OwnedUserId, T>,
) -> BTreeMap<OwnedServerName, BTreeMap<OwnedUserId, T>> {
    let mut servers: BTreeMap<OwnedServerName, BTreeMap<OwnedUserId, T>> = BTreeMap::new();
    for (user, what) in wanted {
        servers.entry(user.server_name().to_owned()).or_default().insert(user, what);
    }
    servers
}

impl Encryption {
    /// Finds the keys of users of other servers.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn query_elsewhere(
        &self,
        wanted: Wanted,
        within: Duration,
    ) -> Result<FoundElsewhere> {
        let asked = by_server(wanted).into_iter().map(|(server, wanted)| async move {
            let mut found = FoundElsewhere::default();
            let answered = self.query_server(&server, wanted, within, &mut found).await;
            (server, answered, found)
        });
        let mut all = FoundElsewhere::default();
        let mut answers = stream::iter(asked).buffer_unordered(SERVERS_AT_ONCE);
        while let Some((server, answered, found)) = answers.next().await {
            all.kept.extend(found.kept);
            all.answers.extend(found.answers);
            if let Err(error) = answered {
                all.failures.insert(server.to_string(), failure(error)?);
            }
        }
        Ok(all)
    }

    async fn query_server(
        &self,
        server: &ServerName,
        mut wanted: Wanted,
        within: Duration,
        found: &mut FoundElsewhere,
    ) -> Result<(), MessagingError> {
        let nids: Vec<(OwnedUserId, UserNid)> = {
            let known = self.context.interned.find_users(wanted.keys().map(|user| &**user)).await;
            let known = known.map_err(Error::from)?;
            known.into_iter().map(|(user, nid)| (user.to_owned(), nid)).collect()
        };
        let db = &self.context.db;
        let users: Vec<UserNid> = nids.iter().map(|(_, nid)| *nid).collect();
        let sharing = servers::sharing(db, &users).await.map_err(Error::from)?;
        let whole = remote_devices::whole(db, &sharing).await.map_err(Error::from)?;
        let mut missing = Vec::new();
        for (user, nid) in nids.into_iter().filter(|(_, nid)| sharing.contains(nid)) {
            match whole.contains(&nid) {
                true => {
                    wanted.remove(&user);
                    found.kept.push((user, nid));
                }
                false => missing.push((user, nid)),
            }
        }
        missing.truncate(LISTS_MAX);
        let fetched = missing.into_iter().map(|(user, nid)| async move {
            let fetched = self.fetch_list(&user, nid, within).await;
            (user, nid, fetched)
        });
        let mut fetched = stream::iter(fetched).buffer_unordered(LISTS_AT_ONCE);
        let mut failed = None;
        while let Some((user, nid, fetched)) = fetched.next().await {
            match fetched {
                Ok(_) => {}
                // What is known from before is better than nothing.
                Err(MessagingError::Transport(error)) if error.is_absence() => {
                    failed = Some(MessagingError::Transport(error));
                }
                // It is asked the other way.
                Err(MessagingError::Transport(_) | MessagingError::Unusable(_)) => continue,
                Err(error) => return Err(error),
            }
            wanted.remove(&user);
            found.kept.push((user, nid));
        }
        if let Some(failed) = failed {
            return Err(failed);
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let mut keys = self.messaging.query_keys(server, &wanted, within).await?;
        keys.device_keys.retain(|user, _| wanted.contains_key(user));
        keys.master_keys.retain(|user, _| wanted.contains_key(user));
        keys.self_signing_keys.retain(|user, _| wanted.contains_key(user));
        found.answers.push(keys);
        Ok(())
    }

    /// Claims one-time keys of users of other servers.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn claim_elsewhere(
        &self,
        wanted: Claims,
        within: Duration,
    ) -> Result<(KeysByDevice, BTreeMap<String, Value>)> {
        let claimed = by_server(wanted).into_iter().map(|(server, wanted)| async move {
            let mut claimed = self.messaging.claim_keys(&server, &wanted, within).await;
            if let Ok(claimed) = &mut claimed {
                // Nobody gives out what is not his.
                claimed.retain(|user, _| wanted.contains_key(user));
            }
            (server, claimed)
        });
        let (mut keys, mut failures) = (KeysByDevice::new(), BTreeMap::new());
        let mut answers = stream::iter(claimed).buffer_unordered(SERVERS_AT_ONCE);
        while let Some((server, claimed)) = answers.next().await {
            match claimed {
                Ok(claimed) => keys.extend(claimed),
                Err(error) => drop(failures.insert(server.to_string(), failure(error)?)),
            }
        }
        Ok((keys, failures))
    }
}

/// Says in an answer why a server's keys are not there.
fn failure(error: MessagingError) -> Result<Value> {
    match error {
        MessagingError::Here(error) => Err(error),
        error => Ok(json!({ "status": 503, "message": error.to_string() })),
    }
}
