//! Taking part in a cluster: the signs of life, the coordinating, and following the map.
//!
//! Three tasks, so that none waits for another: a sign of life each second, on a connection of its
//! own; a look for whoever is gone and for slots to deal out; a look at the epoch.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use colonnade_model::Clock as _;
use colonnade_storage::{
    Database, DatabaseClock, Held, Lock,
    error::{Result, StorageError},
    ownership::{
        coordinator::{self, Patience},
        pools::{self, DEALT},
    },
};
use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::Slots;

/// How often we say that we live.
const BEAT: Duration = Duration::from_secs(1);
/// How often we look whether somebody is gone.
const COORDINATE: Duration = Duration::from_millis(500);
/// How often we look at the epoch.
const FOLLOW: Duration = Duration::from_millis(200);
/// After the database was away nobody is taken for dead for so long: all were silent alike.
const GRACE: Duration = Duration::from_secs(4);
/// The epoch of no map.
const NEVER: i64 = -1;
/// How long saying that we leave may take: who says nothing is noticed by its silence.
const FAREWELL: Duration = Duration::from_secs(5);
/// How long others may take to take over what we have when we leave.
const HAND_OVER: Duration = Duration::from_secs(10);

/// Who joins.
#[derive(Debug, Clone)]
pub struct Join {
    /// What the operator calls the process.
    pub name: String,
    /// The pools it serves.
    pub pools: Vec<String>,
    /// Where others reach it.
    pub address: String,
    /// How long a silence is death.
    pub patience: Patience,
}

/// What the tasks share.
struct Shared {
    db: Database,
    slots: Arc<Slots>,
    incarnation: i64,
    patience: Patience,
    /// Holds our locks; none while its connection is broken.
    held: tokio::sync::Mutex<Option<Held>>,
    /// The database's clock, noted with every sign of life.
    clock: Arc<DatabaseClock>,
    /// The last sign of life was noted.
    answers: AtomicBool,
    /// When the database failed last, or its clock was set.
    failed_at: parking_lot::Mutex<Instant>,
    hurry: Notify,
}

/// A process that takes part, until [`Member::leave`].
pub struct Member {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

impl Member {
    /// Registers a new incarnation of this process and starts to take part. `held` holds the shared
    /// lock of the database; `clock` is kept up from here on.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn join(
        db: &Database,
        slots: &Arc<Slots>,
        (held, clock): (Held, Arc<DatabaseClock>),
        join: Join,
    ) -> Result<Self> {
        let Join { name, pools, address, patience } = join;
        let incarnation = coordinator::register(db, &name, &pools, &address).await?;
        if !held.also(Lock::Alive(incarnation), false).await? {
            return Err(StorageError::Failed("somebody holds the lock of our life".to_owned()));
        }
        slots.incarnation.store(incarnation, Ordering::Release);
        let shared = Arc::new(Shared {
            db: db.clone(),
            slots: Arc::clone(slots),
            incarnation,
            patience,
            held: tokio::sync::Mutex::new(Some(held)),
            clock,
            answers: AtomicBool::new(true),
            failed_at: parking_lot::Mutex::new(Instant::now()),
            hurry: Notify::new(),
        });
        // So that it has its share, and knows it, when it begins to answer.
        coordinator::coordinate(db, incarnation, DEALT, patience).await?;
        slots.refresh(db).await?;
        tracing::info!(incarnation, name, pools = pools.join(","), address, "joined the cluster");
        let tasks = vec![
            tokio::spawn(Arc::clone(&shared).live()),
            tokio::spawn(Arc::clone(&shared).coordinate()),
            tokio::spawn(Arc::clone(&shared).follow()),
        ];
        Ok(Self { shared, tasks })
    }

    /// Hands over what this process owns and waits until somebody has it, if there is anybody.
    pub async fn hand_over(&self) {
        let Shared { db, slots, incarnation, .. } = &*self.shared;
        let drained = self.shared.if_it_answers(coordinator::drain(db, *incarnation));
        if let Err(error) = drained.await {
            tracing::warn!(%error, "cannot hand over; others notice that we are gone");
            return;
        }
        self.shared.hurry.notify_one();
        let begun = Instant::now();
        let mut epoch = slots.epoch.get();
        while begun.elapsed() < HAND_OVER && self.owns_what_another_could() {
            self.shared.hurry.notify_one();
            epoch = slots.changed(epoch, FOLLOW).await;
        }
    }

    /// Tells whether we own slots although somebody else is there who could.
    fn owns_what_another_could(&self) -> bool {
        let map = self.shared.slots.map();
        let own = self.shared.incarnation;
        let others = map.members.iter().filter(|member| member.incarnation != own);
        DEALT.iter().any(|pool| {
            let owners = map.owners.get(*pool).into_iter().flatten();
            let mut ours = owners.filter(|owner| owner.incarnation == own);
            ours.next().is_some() && !pools::serving(others.clone(), pool).is_empty()
        })
    }

    /// Ends the incarnation: from here on this process writes nothing.
    pub async fn leave(self) {
        for task in &self.tasks {
            task.abort();
        }
        for task in self.tasks {
            let _aborted = task.await;
        }
        let left = coordinator::leave(&self.shared.db, self.shared.incarnation);
        if let Err(error) = self.shared.if_it_answers(left).await {
            tracing::debug!(%error, "left without a word");
        }
        if let Some(held) = self.shared.held.lock().await.take() {
            held.release().await;
        }
    }
}

impl Shared {
    /// Says each second that we live.
    async fn live(self: Arc<Self>) {
        let mut tick = tokio::time::interval(BEAT);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let begun = Instant::now();
            let beaten = self.beat().await;
            self.answers.store(beaten.is_ok(), Ordering::Release);
            match beaten {
                Ok(Some(now_ms)) => self.note(now_ms, begun.elapsed()),
                Ok(None) => return self.slots.end(),
                Err(error) => {
                    tracing::debug!(%error, "cannot say that we live");
                    self.failed();
                }
            }
        }
    }

    /// Notes what the database's clock showed when it answered, after so long. While it was just set,
    /// ahead or back, nobody is taken for dead.
    fn note(&self, now_ms: i64, took: Duration) {
        let expected_ms = self.clock.now_ms();
        self.clock.note(now_ms, took);
        if coordinator::is_set(expected_ms, Duration::ZERO, now_ms) {
            tracing::warn!(
                by_ms = now_ms.saturating_sub(expected_ms),
                "the clock of the database was set: no process is taken for dead for some seconds"
            );
            self.failed();
        }
    }

    async fn beat(&self) -> Result<Option<i64>> {
        let mut held = self.held.lock().await;
        if held.is_none() {
            *held = self.db.hold(Lock::Alive(self.incarnation), false).await?;
            if let Some(held) = &*held {
                // Without it a process that wants to be alone could start beside us; it would end us.
                let _later = held.also(Lock::Database, true).await?;
            }
        }
        let beaten = coordinator::beat(&self.db, held.as_ref(), self.incarnation).await;
        if beaten.is_err() {
            *held = None;
        }
        beaten
    }

    /// Says something to the database, unless it is away: nobody waits for it then.
    async fn if_it_answers(&self, said: impl Future<Output = Result<()>>) -> Result<()> {
        let away = |_| StorageError::Unavailable("it does not answer".to_owned());
        if !self.answers.load(Ordering::Acquire) {
            return Err(away(()));
        }
        timeout(FAREWELL, said).await.unwrap_or_else(|_| Err(away(())))
    }

    /// Looks whether somebody is gone, and deals out slots.
    async fn coordinate(self: Arc<Self>) {
        let mut settled = NEVER;
        loop {
            tokio::select! {
                biased;
                () = tokio::time::sleep(COORDINATE) => {}
                () = self.hurry.notified() => {}
            }
            match self.settle(settled).await {
                Ok(epoch) => settled = epoch,
                Err(error) => {
                    tracing::debug!(%error, "cannot coordinate");
                    settled = NEVER;
                    self.failed();
                }
            }
        }
    }

    /// Deals out slots if the map is not that of the epoch `settled` any more or somebody is gone, and
    /// returns the epoch at which there was nothing left to do.
    async fn settle(&self, settled: i64) -> Result<i64> {
        let noted = Some((self.clock.now_ms(), Instant::now()));
        let mut patience = Patience { noted, ..self.patience };
        if self.failed_at.lock().elapsed() < GRACE {
            patience = Patience::ENDLESS;
        }
        if !coordinator::is_unsettled(&self.db, self.incarnation, settled, patience).await? {
            return Ok(settled);
        }
        // Read first: what changes meanwhile is looked at again.
        let epoch = coordinator::epoch(&self.db).await?;
        if coordinator::coordinate(&self.db, self.incarnation, DEALT, patience).await? {
            self.slots.look_again();
            return Ok(NEVER);
        }
        Ok(epoch)
    }

    /// Follows the map.
    async fn follow(self: Arc<Self>) {
        loop {
            tokio::select! {
                biased;
                () = tokio::time::sleep(FOLLOW) => {}
                () = self.slots.asked.notified() => {}
            }
            if let Err(error) = self.slots.refresh(&self.db).await {
                tracing::debug!(%error, "cannot read the map of slots");
            }
        }
    }

    fn failed(&self) {
        *self.failed_at.lock() = Instant::now();
    }
}
