//! A part of a budget: so many units, and whether anybody waits for some.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is counted at once, in bytes: a semaphore counts to four billion of them.
pub(super) const UNIT: usize = 1024;

/// A part of a budget.
#[derive(Clone)]
pub(super) struct Portion {
    units_max: usize,
    free: Arc<Semaphore>,
    pressure: Pressure,
}

impl Portion {
    pub(super) fn new(units_max: usize) -> Self {
        let free = Arc::new(Semaphore::new(units_max));
        Self { units_max, free, pressure: Pressure::default() }
    }

    /// Returns how many units there are.
    pub(super) fn units_max(&self) -> usize {
        self.units_max
    }

    /// Returns how many units are taken.
    pub(super) fn taken(&self) -> usize {
        self.units_max - self.free.available_permits()
    }

    /// Takes so many units, the whole portion at most; while they are not there, says so to those who have
    /// them.
    pub(super) async fn take(&self, units: usize) -> OwnedSemaphorePermit {
        let units = u32::try_from(units.min(self.units_max)).unwrap_or(u32::MAX);
        if let Ok(taken) = Arc::clone(&self.free).try_acquire_many_owned(units) {
            return taken;
        }
        let _pressing = self.pressure.begin();
        match Arc::clone(&self.free).acquire_many_owned(units).await {
            Ok(taken) => taken,
            // It is never closed.
            Err(_) => std::future::pending().await,
        }
    }

    /// Makes a permit so large, or as large as there is room for, and says whether it is.
    pub(super) fn resize(&self, permit: &mut OwnedSemaphorePermit, units: usize) -> bool {
        let has = permit.num_permits();
        if units <= has {
            drop(permit.split(has - units));
            return true;
        }
        let more = (units - has).min(self.free.available_permits());
        if let Ok(more) = u32::try_from(more)
            && let Ok(more) = Arc::clone(&self.free).try_acquire_many_owned(more)
        {
            permit.merge(more);
        }
        permit.num_permits() >= units
    }

    pub(super) fn pressure(&self) -> Pressure {
        self.pressure.clone()
    }
}

/// Whether requests wait for what others have.
#[derive(Debug, Clone, Default)]
pub struct Pressure(Arc<AtomicUsize>);

impl Pressure {
    /// Says whether any waits now.
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    fn begin(&self) -> Pressing {
        self.0.fetch_add(1, Ordering::Relaxed);
        Pressing(self.clone())
    }
}

/// A request that waits.
struct Pressing(Pressure);

impl Drop for Pressing {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
