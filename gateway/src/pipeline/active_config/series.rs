//! The metrics' series of what is in force: written for the admin listener, and dropped when their rule,
//! pool or worker is gone.

use std::time::Duration;

use prometheus::{Encoder as _, TextEncoder};

use super::ActiveConfig;
use crate::metrics::{Attempt, CLASSES, Metrics, NO_RULE};
use crate::upstream::health::State;

impl ActiveConfig {
    /// Drops the series of rules, pools and workers that are no longer in force, so that a hundred
    /// reloads do not leave a hundred files' worth of labels.
    pub fn forget_missing(&self, before: &ActiveConfig, metrics: &Metrics) {
        let after = self;
        let stays = |pool: &str, worker: &str| {
            let pool = after.pools.iter().find(|known| known.name == pool);
            pool.is_some_and(|pool| pool.members.iter().any(|member| member.name == worker))
        };
        for pool in &before.pools {
            for member in pool.members.iter().filter(|member| !stays(&pool.name, &member.name)) {
                let _gone = metrics.working.remove_label_values(&[&pool.name, &member.name]);
                let _gone = metrics.long_polling.remove_label_values(&[&pool.name, &member.name]);
                let _gone = metrics.open.remove_label_values(&[&pool.name, &member.name]);
                for outcome in Attempt::EACH {
                    let labels = [pool.name.as_str(), &member.name, outcome.label()];
                    let _gone = metrics.attempts.remove_label_values(&labels);
                }
            }
        }
        let rules = |live: &ActiveConfig| -> std::collections::HashSet<(String, String)> {
            let pool = |route: &crate::routing::routes::Route| match route.target {
                crate::routing::routes::Target::Pool(place) => live.pools[place].name.clone(),
                crate::routing::routes::Target::Deny => NO_RULE.to_owned(),
            };
            let routes = live.table.routes().iter();
            routes.map(|route| (pool(route), route.pattern.as_str().to_owned())).collect()
        };
        for (pool, rule) in rules(before).difference(&rules(after)) {
            for class in CLASSES {
                let _gone = metrics.requests.remove_label_values(&[pool.as_str(), rule, class]);
            }
        }
    }

    /// Writes everything in Prometheus' text format.
    pub fn metrics_text(&self, metrics: &Metrics, table_age: Duration, now_ms: u64) -> String {
        let live = self;
        for pool in &live.pools {
            for member in &pool.members {
                let labels = [pool.name.as_str(), member.name.as_str()];
                metrics.working.with_label_values(&labels).set(member.working() as i64);
                metrics.long_polling.with_label_values(&labels).set(member.long_polling() as i64);
                let open = member.health.state(now_ms) == State::Open;
                metrics.open.with_label_values(&labels).set(i64::from(open));
            }
        }
        metrics.table_version.set(live.version as i64);
        let epoch = live.slots.as_ref().map_or(0, |slots| slots.epoch);
        metrics.slot_map_epoch.set(i64::try_from(epoch).unwrap_or(i64::MAX));
        metrics.table_age.set(table_age.as_secs() as i64);
        let mut bytes = Vec::new();
        match TextEncoder::new().encode(&metrics.registry.gather(), &mut bytes) {
            Ok(()) => String::from_utf8(bytes).unwrap_or_default(),
            Err(error) => format!("# cannot encode: {error}\n"),
        }
    }
}
