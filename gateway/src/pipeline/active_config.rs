//! What is in force: one config with its compiled table and its pools, replaced as a whole.
//!
//! A request takes one [`ActiveConfig`] at its beginning and keeps it to its end, so a reload in the middle
//! cannot show it half of each.

mod series;

use std::sync::Arc;
use std::time::Instant;

use crate::config::{Config, ConfigError, Fault, PoolConfig};
use crate::metrics::RuleSeries;
use crate::pipeline::access_log::AccessLog;
use crate::routing::table::Table;
use crate::upstream::pools::Pool;
use crate::upstream::slots::{SlotMap, pools_with};

/// Milliseconds since the gateway started: the only time pools and health know.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    began: Instant,
}

impl Clock {
    /// Begins to count now.
    pub fn start() -> Self {
        Self { began: Instant::now() }
    }

    /// Milliseconds since the start.
    pub fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }
}

/// One config, compiled.
#[derive(Debug)]
pub struct ActiveConfig {
    /// What it was made from.
    pub config: Config,
    /// The rules, compiled.
    pub table: Arc<Table>,
    /// What is counted about each rule, in the order of the table.
    pub series: Arc<Vec<RuleSeries>>,
    /// The pools, in the order of [`Config::pools`].
    pub pools: Vec<Arc<Pool>>,
    /// Who owns what, as the workers said last.
    pub slots: Option<Arc<SlotMap>>,
    /// What the pools were made from: the config, and the slot map.
    run_as: Vec<PoolConfig>,
    /// Where requests are written down, if they are.
    pub access_log: Option<Arc<AccessLog>>,
    /// Counts up with every config that came into force, from 1.
    pub version: u64,
}

impl ActiveConfig {
    /// Compiles a config. Pools that did not change are taken over from the one before, with their
    /// ring, their counters and their turn; members that stay keep their counters.
    ///
    /// # Errors
    /// [`ConfigError::Faults`] if the rules cannot be compiled into one matcher.
    pub fn build(
        config: Config,
        before: Option<&ActiveConfig>,
        now_ms: u64,
    ) -> Result<Self, ConfigError> {
        let table = Table::compile(config.routes.clone()).map_err(|error| {
            ConfigError::Faults(vec![Fault {
                file: config.name.clone(),
                line: 0,
                column: 0,
                key: Some("routes".to_owned()),
                problem: error.to_string(),
                mend: Some("look for patterns with large repetitions, like {1000}".to_owned()),
            }])
        })?;
        let slots = before.and_then(|live| live.slots.clone());
        let run_as = pools_with(&config, slots.as_deref());
        let pools = Self::pools(&run_as, before, now_ms);
        let version = before.map_or(1, |live| live.version + 1);
        let table = Arc::new(table);
        let series = Arc::new(table.routes().iter().map(|_| RuleSeries::default()).collect());
        Ok(Self { config, table, series, pools, slots, run_as, access_log: None, version })
    }

    /// The same config with the workers and owners of another slot map.
    #[must_use]
    pub fn with_map(&self, map: Arc<SlotMap>, now_ms: u64) -> Self {
        let run_as = pools_with(&self.config, Some(&map));
        Self {
            config: self.config.clone(),
            table: Arc::clone(&self.table),
            series: Arc::clone(&self.series),
            pools: Self::pools(&run_as, Some(self), now_ms),
            slots: Some(map),
            run_as,
            access_log: self.access_log.clone(),
            version: self.version,
        }
    }

    fn pools(run_as: &[PoolConfig], before: Option<&Self>, now_ms: u64) -> Vec<Arc<Pool>> {
        let pool = |pool: &PoolConfig| {
            let known = before.and_then(|live| live.pool(&pool.name));
            match known {
                Some((old, kept)) if old == pool => Arc::clone(kept),
                Some((_, known)) => Arc::new(Pool::new(pool, Some(known), now_ms)),
                None => Arc::new(Pool::new(pool, None, now_ms)),
            }
        };
        run_as.iter().map(pool).collect()
    }

    /// Opens the access log the config asks for, or takes it over from the one before, with its
    /// file opened anew.
    ///
    /// # Errors
    /// [`ConfigError::AccessLog`] if it cannot be opened.
    pub fn open_access_log(&mut self, before: Option<&ActiveConfig>) -> Result<(), ConfigError> {
        let Some(target) = &self.config.access_log else { return Ok(()) };
        let known = before.and_then(|live| live.access_log.as_ref());
        self.access_log =
            match known.filter(|log| log.target() == target) {
                Some(log) => {
                    log.reopen();
                    Some(Arc::clone(log))
                }
                None => Some(Arc::new(AccessLog::open(target.clone()).map_err(|cause| {
                    ConfigError::AccessLog { path: format!("{target:?}"), cause }
                })?)),
            };
        Ok(())
    }

    fn pool(&self, name: &str) -> Option<(&PoolConfig, &Arc<Pool>)> {
        let place = self.run_as.iter().position(|pool| pool.name == name)?;
        Some((&self.run_as[place], &self.pools[place]))
    }
}
