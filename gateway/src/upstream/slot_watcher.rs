//! Follows the slot map: asks one worker after another for the one after the one we have, and puts
//! it in force (docs/decisions/0013-slot-map.md). Nothing waits for it: without an answer, the map
//! from the file or the consistent hash stands.

use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::config::WorkerAddr;
use crate::pipeline::active_config::ActiveConfig;
use crate::upstream::slots::{MAP_BYTES_MAX, SlotMap};
use crate::upstream::worker_client;

/// How long a worker may wait for a newer map before it says that there is none: short, for one that
/// is paused says nothing either, and the map that replaces it must not wait for it.
const WAIT_MS: u64 = 2_000;

/// How long its answer is waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// The rest after an error; doubled with each further one in a row.
const REST_MIN: Duration = Duration::from_millis(250);

/// No rest is longer.
const REST_MAX: Duration = Duration::from_secs(4);

/// How often it is looked whether there is anybody to ask, when there is not.
const NOBODY_REST: Duration = Duration::from_secs(1);

/// The newest map that a worker mentioned, wherever it did.
#[derive(Debug, Default)]
pub struct KnownEpoch {
    /// Its epoch, and who mentioned it.
    newest: Mutex<Option<(u64, WorkerAddr)>>,
    newer: Notify,
}

impl KnownEpoch {
    /// A worker mentioned the map of this epoch.
    pub fn of(&self, epoch: u64, worker: &WorkerAddr) {
        let mut newest = self.newest.lock();
        if newest.as_ref().is_none_or(|(newest, _)| *newest < epoch) {
            *newest = Some((epoch, worker.clone()));
            self.newer.notify_one();
        }
    }

    /// Waits until a map newer than `known` is mentioned that was not when this was last waited for;
    /// gives the worker that has it.
    async fn newer_than(&self, known: u64) -> WorkerAddr {
        loop {
            self.newer.notified().await;
            let newest = self.newest.lock().clone();
            if let Some((_, worker)) = newest.filter(|(epoch, _)| *epoch > known) {
                return worker;
            }
        }
    }
}

/// How an answer leaves things.
enum MapAnswer {
    /// There is no newer map.
    Nothing,
    /// This one, and its text.
    Map(SlotMap, Vec<u8>),
}

/// Follows for as long as it is polled; `take` puts a map in force, and may block.
pub(crate) async fn run(
    live: Arc<ArcSwap<ActiveConfig>>,
    known_epoch: Arc<KnownEpoch>,
    take: impl Fn(SlotMap, &[u8]) + Clone + Send + 'static,
) {
    let mut rest = REST_MIN;
    let mut next = 0;
    // Whom we asked last has the map we have; of anybody else we want whatever map there is.
    let mut agreed: Option<WorkerAddr> = None;
    // Who is known to have a newer map than ours: asked before whoever is next.
    let mut named: Option<WorkerAddr> = None;
    // Whether whom we had the map from is gone: then a smaller epoch means an older database.
    let mut gone = true;
    loop {
        let now = live.load_full();
        let known = now.slots.as_ref().map(|slots| slots.epoch);
        let askable = askable(&now);
        drop(now);
        let turn = askable.get(next % askable.len().max(1));
        let Some(worker) = named.take().as_ref().or(turn).cloned() else {
            tokio::time::sleep(NOBODY_REST).await;
            continue;
        };
        let after = known.filter(|_| agreed.as_ref() == Some(&worker));
        let answer = tokio::select! {
            answer = ask(&worker, after) => answer,
            teller = known_epoch.newer_than(known.unwrap_or(0)) => {
                // Whom we wait for has not heard yet; somebody else has.
                (next, agreed, named) = (next + 1, None, Some(teller));
                continue;
            }
        };
        match answer {
            Ok(answer) => {
                rest = REST_MIN;
                agreed = Some(worker.clone());
                let older_counts = std::mem::take(&mut gone);
                if let MapAnswer::Map(map, text) = answer
                    && known != Some(map.epoch)
                    && (known.is_none_or(|known| known < map.epoch) || older_counts)
                {
                    let epoch = map.epoch;
                    let take = take.clone();
                    let taken = move || take(map, &text);
                    let _panicked = tokio::task::spawn_blocking(taken).await;
                    tracing::info!(epoch, %worker, "slot map in force");
                }
            }
            Err(error) => {
                tracing::debug!(%error, %worker, "no slot map from this worker");
                (next, agreed, gone) = (next + 1, None, true);
                tokio::time::sleep(rest).await;
                rest = (rest * 2).min(REST_MAX);
            }
        }
    }
}

/// Whom to ask: the workers of the map, then those the file names; nobody, if no pool discovers.
fn askable(live: &ActiveConfig) -> Vec<WorkerAddr> {
    let discovering = live.config.pools.iter().filter(|pool| pool.discover);
    let mut named: Vec<WorkerAddr> = discovering
        .flat_map(|pool| pool.workers.iter().map(|(address, _)| address.clone()))
        .collect();
    if named.is_empty() {
        return named;
    }
    let mut all = live.slots.as_ref().map(|slots| slots.workers()).unwrap_or_default();
    named.retain(|address| !all.contains(address));
    named.sort();
    named.dedup();
    all.append(&mut named);
    all
}

async fn ask(worker: &WorkerAddr, after: Option<u64>) -> io::Result<MapAnswer> {
    let after = after.map(|epoch| format!("&after={epoch}")).unwrap_or_default();
    let target = format!("/_colonnade/slots?timeout={WAIT_MS}{after}");
    let answer = worker_client::ask(worker, &target, &[], ANSWER_WITHIN, MAP_BYTES_MAX).await?;
    match answer.status {
        200 => {
            let map = SlotMap::parse(&answer.body).map_err(io::Error::other)?;
            Ok(MapAnswer::Map(map, answer.body))
        }
        204 => Ok(MapAnswer::Nothing),
        status => Err(io::Error::other(format!("status {status}"))),
    }
}

/// Reads the map that was kept; what is wrong with the file costs the map, not the start.
pub(crate) fn read_map(path: &Path) -> Option<SlotMap> {
    let text = std::fs::read(path).ok()?;
    match SlotMap::parse(&text) {
        Ok(map) => Some(map),
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "the slot map that was kept is no use");
            None
        }
    }
}

/// Keeps a map for the next start: written beside, then renamed, so that the file is always whole.
pub(crate) fn keep_map(path: &Path, document: &[u8]) {
    let beside = path.with_extension("new");
    // It names the processes of a deployment: nobody else has to know.
    let mut private = std::fs::OpenOptions::new();
    let private = private.write(true).create(true).truncate(true).mode(0o600);
    let written = private.open(&beside).and_then(|mut file| file.write_all(document));
    let kept = written.and_then(|()| std::fs::rename(&beside, path));
    if let Err(error) = kept {
        tracing::warn!(%error, path = %path.display(), "cannot keep the slot map");
    }
}
