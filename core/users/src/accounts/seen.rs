//! When and where devices were last seen: gathered in memory, written together once in a while, so
//! that a request costs no write. A crash forgets the last minute of it.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use colonnade_model::nid::DeviceNid;
use colonnade_rooms::{Context, Result};
use colonnade_storage::users::devices;
use parking_lot::Mutex;

/// How often what was gathered is written.
const FLUSH_EVERY: Duration = Duration::from_secs(60);
/// Devices written in one transaction, so that no other write waits long.
const FLUSH_ROWS_MAX: usize = 500;

/// When devices were last seen, as far as it is not written yet.
pub struct Seen {
    context: Arc<Context>,
    unwritten: Mutex<HashMap<DeviceNid, (i64, Option<IpAddr>)>>,
}

impl Seen {
    /// Starts to gather and write, for as long as the returned value lives.
    pub(super) fn start(context: Arc<Context>) -> Arc<Self> {
        let seen = Arc::new(Self { context, unwritten: Mutex::default() });
        let weak = Arc::downgrade(&seen);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(FLUSH_EVERY).await;
                let Some(seen) = weak.upgrade() else { return };
                if let Err(error) = seen.flush().await {
                    tracing::warn!(%error, "cannot note when devices were last seen");
                }
            }
        });
        seen
    }

    /// Notes that a device was seen. Bounded by the number of devices in use in a minute.
    pub(super) fn note(&self, device: DeviceNid, ts: i64, ip: Option<IpAddr>) {
        let mut unwritten = self.unwritten.lock();
        let entry = unwritten.entry(device).or_insert((ts, None));
        *entry = (ts, ip.or(entry.1));
    }

    /// Returns when and where a device was seen, if that is not written yet.
    pub(crate) fn get(&self, device: DeviceNid) -> Option<(i64, Option<IpAddr>)> {
        self.unwritten.lock().get(&device).copied()
    }

    /// Writes what was gathered.
    ///
    /// # Errors
    /// When the database fails; what was not written is forgotten.
    pub async fn flush(&self) -> Result<()> {
        let gathered = std::mem::take(&mut *self.unwritten.lock());
        let rows = gathered.into_iter().map(|(device, (ts, ip))| devices::Seen {
            device,
            ts,
            ip: ip.map(|ip| ip.to_string()),
        });
        let rows: Vec<devices::Seen> = rows.collect();
        for rows in rows.chunks(FLUSH_ROWS_MAX) {
            let rows = rows.to_vec();
            self.context.db.write(|tx| Box::pin(devices::seen(tx, rows))).await?;
        }
        Ok(())
    }
}
