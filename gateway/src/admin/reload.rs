//! Replacing what is in force: read, check, compile, then swap. A file that is wrong changes
//! nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::config::{Address, Config, ConfigError, Engine, Listen, Overrides};
use crate::listen::tls::{self, Certificates};
use crate::metrics::Metrics;
use crate::pipeline::active_config::{ActiveConfig, Clock};
use crate::upstream::ring::Ring;
use crate::upstream::slot_watcher;
use crate::upstream::slots::SlotMap;

/// How often the file is looked at. Polling sees what notification misses: files replaced by
/// rename, mounted config maps, network file systems.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How many keys are tried to estimate the share that moves.
const SAMPLE_KEYS: u32 = 1_000;

/// Where the routes come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file, which may change.
    File(PathBuf),
    /// A text, which cannot: the bundled one.
    Text {
        /// How messages call it.
        name: String,
        /// The text.
        text: String,
    },
}

impl Source {
    /// The routes that ship with Colonnade.
    pub fn bundled() -> Self {
        Self::Text {
            name: "routes.yaml (bundled)".to_owned(),
            text: crate::config::BUNDLED_ROUTES.to_owned(),
        }
    }

    /// Reads and checks the config.
    ///
    /// # Errors
    /// Those of [`Config::load`] and [`Config::parse`].
    pub fn read(&self) -> Result<Config, ConfigError> {
        match self {
            Self::File(path) => Config::load(path),
            Self::Text { name, text } => Config::parse(name, text),
        }
    }
}

/// What tells one state of a file from another.
fn fingerprint(path: &Path) -> Option<(SystemTime, u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.ino(), metadata.len()))
}

fn read_certificates(listen: &Listen) -> Result<Option<Certificates>, ConfigError> {
    let Some(tls) = &listen.tls else { return Ok(None) };
    let named = |cause| ConfigError::Certificate { listener: listen.name.clone(), cause };
    Certificates::read(tls).map(Some).map_err(named)
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ReloadReport {
    /// The version now in force.
    pub version: u64,
    /// How many rules it has.
    pub rules: usize,
    /// What is different, one sentence each; empty if nothing is.
    pub changes: Vec<String>,
}

/// How the last reload went, for the admin listener.
#[derive(Debug, Clone)]
pub(crate) struct LastReload {
    /// When.
    pub at: Instant,
    /// The faults, if it was refused.
    pub refused: Option<String>,
}

/// Does reloads, one at a time.
pub(crate) struct Reloader {
    /// What is in force.
    pub live: Arc<ArcSwap<ActiveConfig>>,
    /// The time pools and health know.
    pub clock: Clock,
    /// The certificates of each encrypted listener, by the listener's place.
    certificates: Vec<Option<Arc<Certificates>>>,
    /// The engine of each listener, in the same order, with where it listens.
    engines: Vec<(Address, watch::Sender<Engine>)>,
    source: Source,
    overrides: Overrides,
    metrics: Arc<Metrics>,
    in_force_since: Mutex<Instant>,
    last: Mutex<Option<LastReload>>,
    one_at_a_time: Mutex<()>,
}

impl Reloader {
    /// Reads the config for the first time.
    ///
    /// # Errors
    /// Those of [`Source::read`], and of compiling.
    pub(crate) fn start(
        source: Source,
        overrides: Overrides,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ConfigError> {
        let clock = Clock::start();
        let config = source.read()?.with(&overrides);
        let read = |listen: &Listen| read_certificates(listen).map(|read| read.map(Arc::new));
        let certificates = config.listen.iter().map(read).collect::<Result<_, _>>()?;
        let mut live = ActiveConfig::build(config, None, clock.now_ms())?;
        live.open_access_log(None)?;
        if let Some(map) = live.config.slot_map_file.as_deref().and_then(slot_watcher::read_map) {
            live = live.with_map(Arc::new(map), clock.now_ms());
        }
        let engines = live.config.listen.iter();
        let engines = engines.map(|l| (l.bind.clone(), watch::Sender::new(l.engine)));
        Ok(Self {
            clock,
            certificates,
            engines: engines.collect(),
            live: Arc::new(ArcSwap::from_pointee(live)),
            source,
            overrides,
            metrics,
            in_force_since: Mutex::new(Instant::now()),
            last: Mutex::new(None),
            one_at_a_time: Mutex::new(()),
        })
    }

    /// Reads, checks and compiles the config anew, and puts it in force.
    ///
    /// # Errors
    /// Those of [`Source::read`] and of compiling; then everything stays as it was.
    pub(crate) fn reload(&self) -> Result<ReloadReport, ConfigError> {
        let _turn = self.one_at_a_time.lock();
        let result = self.replace();
        self.metrics.reload(result.is_ok());
        let refused = result.as_ref().err().map(ToString::to_string);
        match (&result, &refused) {
            (Ok(report), _) => tracing::info!(version = report.version, "routes reloaded"),
            (_, Some(why)) => tracing::error!("routes not reloaded, the old ones stay: {why}"),
            _ => {}
        }
        *self.last.lock() = Some(LastReload { at: Instant::now(), refused });
        result
    }

    fn replace(&self) -> Result<ReloadReport, ConfigError> {
        let before = self.live.load_full();
        let config = self.source.read()?.with(&self.overrides);
        let certificates =
            config.listen.iter().map(read_certificates).collect::<Result<Vec<_>, _>>()?;
        let mut after = ActiveConfig::build(config, Some(&before), self.clock.now_ms())?;
        after.open_access_log(Some(&before))?;
        let after = Arc::new(after);
        let report = ReloadReport {
            version: after.version,
            rules: after.table.routes().len(),
            changes: differences(&before, &after),
        };
        self.live.store(Arc::clone(&after));
        for (known, fresh) in self.certificates.iter().zip(certificates) {
            if let (Some(known), Some(fresh)) = (known, fresh) {
                known.replace(fresh);
            }
        }
        for (bound, known) in &self.engines {
            let listen = after.config.listen.iter().find(|listen| listen.bind == *bound);
            let Some(next) = listen.map(|listen| listen.engine) else { continue };
            known.send_if_modified(|engine| std::mem::replace(engine, next) != next);
        }
        *self.in_force_since.lock() = Instant::now();
        after.forget_missing(&before, &self.metrics);
        Ok(report)
    }

    /// Puts another slot map in force, and keeps it in the file, if one is named.
    pub(crate) fn take_map(&self, map: SlotMap, document: &[u8]) {
        let _turn = self.one_at_a_time.lock();
        let before = self.live.load_full();
        let after = Arc::new(before.with_map(Arc::new(map), self.clock.now_ms()));
        self.live.store(Arc::clone(&after));
        after.forget_missing(&before, &self.metrics);
        // Before the first map there were only the workers that the file names, to be asked for it.
        let mapped = before.pools.iter().filter(|pool| pool.discover && before.slots.is_some());
        for pool in mapped {
            let next = after.pools.iter().find(|next| next.name == pool.name);
            pool.give_up_missing(next.map(|next| &**next));
        }
        // Whoever is held for a worker may have one now.
        before.pools.iter().for_each(|pool| pool.changed.notify_waiters());
        if let Some(path) = &after.config.slot_map_file {
            slot_watcher::keep_map(path, document);
        }
    }

    /// The certificates of the listener at this place, kept up to date by reloads.
    pub(crate) fn certificates(&self, place: usize) -> Option<&Arc<Certificates>> {
        self.certificates.get(place)?.as_ref()
    }

    /// The engine of the listener at this place, as reloads change it.
    pub(crate) fn engine(&self, place: usize) -> Option<watch::Receiver<Engine>> {
        self.engines.get(place).map(|(_, engine)| engine.subscribe())
    }

    /// Reads, checks and compiles the config, and says what would change; nothing does.
    ///
    /// # Errors
    /// Those of a reload.
    pub(crate) fn dry_run(&self) -> Result<ReloadReport, ConfigError> {
        let before = self.live.load_full();
        let config = self.source.read()?.with(&self.overrides);
        config.listen.iter().try_for_each(|listen| read_certificates(listen).map(drop))?;
        let after = ActiveConfig::build(config, Some(&before), self.clock.now_ms())?;
        Ok(ReloadReport {
            version: after.version,
            rules: after.table.routes().len(),
            changes: differences(&before, &after),
        })
    }

    /// What tells one state of the files from another: the routes, and the certificates they name.
    fn fingerprint(&self) -> Vec<Option<(SystemTime, u64, u64)>> {
        let live = self.live.load();
        let listeners = live.config.listen.iter().filter_map(|listen| listen.tls.as_ref());
        let certificates = listeners.flat_map(tls::files).map(|path| fingerprint(path));
        let routes = match &self.source {
            Source::File(path) => fingerprint(path),
            Source::Text { .. } => None,
        };
        std::iter::once(routes).chain(certificates).collect()
    }

    /// How long the config in force has been so.
    pub(crate) fn in_force_for(&self) -> Duration {
        self.in_force_since.lock().elapsed()
    }

    /// How the last reload went, if there was one.
    pub(crate) fn last(&self) -> Option<LastReload> {
        self.last.lock().clone()
    }

    /// Looks at the file for as long as it is polled, and reloads when it has changed.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut seen = self.fingerprint();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = self.fingerprint();
            // A file that is just being replaced is not there for a moment.
            if now == seen
                || now.iter().zip(&seen).any(|(now, seen)| now.is_none() && seen.is_some())
            {
                continue;
            }
            // Off the request threads: compiling takes tens of milliseconds.
            let this = Arc::clone(&self);
            let reloaded = tokio::task::spawn_blocking(move || this.reload().is_ok()).await;
            // A file caught half-written is refused now and looked at again when it is whole.
            tracing::debug!(accepted = reloaded.unwrap_or(false), "routes file changed");
            // Other certificates may be named now.
            seen = self.fingerprint();
        }
    }
}

/// Says what would change if one config took the place of another: rules, pools, and the share of
/// each pool's keys that would move.
///
/// # Errors
/// [`ConfigError`] if one of them cannot be compiled.
pub fn compare(before: &Config, after: &Config) -> Result<Vec<String>, ConfigError> {
    let before = ActiveConfig::build(before.clone(), None, 0)?;
    let after = ActiveConfig::build(after.clone(), None, 0)?;
    Ok(differences(&before, &after))
}

/// Says what is different between two configs, for a person.
fn differences(before: &ActiveConfig, after: &ActiveConfig) -> Vec<String> {
    let mut changes = Vec::new();
    let rules = |live: &ActiveConfig| -> Vec<String> {
        let config = &live.config;
        config.routes.iter().map(|route| crate::admin::explain::describe(config, route)).collect()
    };
    let (old_rules, new_rules) = (rules(before), rules(after));
    for rule in new_rules.iter().filter(|rule| !old_rules.contains(rule)) {
        changes.push(format!("rule added: {rule}"));
    }
    for rule in old_rules.iter().filter(|rule| !new_rules.contains(rule)) {
        changes.push(format!("rule removed: {rule}"));
    }
    let kept = |rules: &[String], others: &[String]| -> Vec<String> {
        rules.iter().filter(|rule| others.contains(rule)).cloned().collect()
    };
    if kept(&old_rules, &new_rules) != kept(&new_rules, &old_rules) {
        changes.push("the order of the rules changed".to_owned());
    }
    for pool in &after.config.pools {
        match before.config.pools.iter().find(|old| old.name == pool.name) {
            None => changes.push(format!("pool added: {}", pool.name)),
            Some(old) if old != pool => {
                let share = moved_share(&old.workers, &pool.workers) * 100.0;
                changes.push(format!("pool changed: {}, {share:.0} % of its keys move", pool.name));
            }
            Some(_) => {}
        }
    }
    for pool in &before.config.pools {
        if !after.config.pools.iter().any(|new| new.name == pool.name) {
            changes.push(format!("pool removed: {}", pool.name));
        }
    }
    if before.config.limits != after.config.limits {
        changes.push("limits changed".to_owned());
    }
    listener_differences(&before.config, &after.config, &mut changes);
    changes
}

/// Says which listeners change: their engines do by the reload, everything else takes a restart.
fn listener_differences(before: &Config, after: &Config, changes: &mut Vec<String>) {
    let others = |config: &Config| -> Vec<Listen> {
        let listen = config.listen.iter().cloned();
        listen.map(|listen| Listen { engine: Engine::default(), ..listen }).collect()
    };
    for new in &after.listen {
        let old = before.listen.iter().find(|old| old.bind == new.bind);
        if let Some(old) = old.filter(|old| old.engine != new.engine) {
            let (name, old, new) = (&new.name, old.engine.name(), new.engine.name());
            changes.push(format!("listener changed: {name}, from {old} to {new}"));
        }
    }
    if others(before) != others(after) || before.admin != after.admin {
        changes.push("listeners changed: that needs a restart, the old ones stay".to_owned());
    }
}

/// The share of keys that meet another worker, from a sample.
fn moved_share(
    before: &[(crate::config::WorkerAddr, u32)],
    after: &[(crate::config::WorkerAddr, u32)],
) -> f64 {
    let names = |workers: &[(crate::config::WorkerAddr, u32)]| -> Vec<(String, u32)> {
        workers.iter().map(|(address, weight)| (address.to_string(), *weight)).collect()
    };
    let (before, after) = (names(before), names(after));
    let ring = |workers: &[(String, u32)]| {
        Ring::new(workers.iter().map(|(name, weight)| (name.as_str(), *weight)))
    };
    let (old_ring, new_ring) = (ring(&before), ring(&after));
    let moved = (0..SAMPLE_KEYS).filter(|n| {
        let key = n.to_le_bytes();
        let owner = |ring: &Ring, workers: &[(String, u32)]| {
            ring.walk(&key).next().map(|place| workers[place].0.clone())
        };
        owner(&old_ring, &before) != owner(&new_ring, &after)
    });
    moved.count() as f64 / f64::from(SAMPLE_KEYS)
}
