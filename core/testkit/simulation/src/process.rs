//! One simulated process: the services of a worker in a runtime of its own, whose time stands still
//! unless the world moves it. A paused process is one whose runtime is not moved; a dead one is one
//! whose runtime is dropped, with all tasks and all memory.

use std::{path::PathBuf, sync::Arc, time::Duration};

use colonnade_model::{
    Clock,
    nid::RoomNid,
    stream::{Position, Stream, Touch},
};
use colonnade_replication::{
    Bus, Slots, Streams,
    slots::{Join, Member},
};
use colonnade_rooms::rpc::RpcClient;
use colonnade_services::Services;
use colonnade_storage::{
    Database, DatabaseClock, Lock, Stepwise, StorageError, ownership::coordinator::Patience,
};
use parking_lot::Mutex;
use tokio::{runtime::Runtime, time::Instant};

use crate::{
    dice::{Chance, Dice},
    disk::{Disk, Spell},
    history::History,
    net::{Line, Net},
    observer::Observer,
    template::{BEGIN_MS, Own, Template},
};

/// How long a silence is death: less than in a real deployment, so that short runs see it. A process
/// that is wrongly taken for dead begins anew, as it must.
const PATIENCE: Patience = Patience { silence_ms: 1_600, without_lock_ms: 1_600, noted: None };

/// What a process is started from.
pub(crate) struct Ground {
    pub(crate) template: Arc<Template>,
    pub(crate) history: Arc<History>,
    pub(crate) observer: Arc<Observer>,
    pub(crate) net: Arc<Net>,
    pub(crate) spell: Arc<Mutex<Spell>>,
    pub(crate) file: PathBuf,
    pub(crate) folder: PathBuf,
    pub(crate) seed: u64,
    /// Each process believes to be the only one: the control.
    pub(crate) unaware: bool,
}

/// What a consumer of the events stream was told, from where it began.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) begun: Position,
    pub(crate) reached: Position,
    pub(crate) rows: Vec<(Position, RoomNid)>,
}

/// How far a process is.
pub(crate) enum Stage {
    /// It starts.
    Starting,
    /// It serves.
    Serves(Arc<Services>, Option<Member>),
    /// It could not start, or it ended.
    Over,
}

/// A run of a process.
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) line: Arc<Line>,
    pub(crate) stage: Arc<Mutex<Stage>>,
    pub(crate) heard: Arc<Mutex<Heard>>,
    pub(crate) paused_until: Option<i64>,
    runtime: Runtime,
    born: Instant,
    born_ms: i64,
}

/// The clock of a process, and of the database as it is seen from there.
struct LocalClock {
    born: Instant,
    born_ms: i64,
}

impl Clock for LocalClock {
    fn now_ms(&self) -> i64 {
        let since = i64::try_from(self.born.elapsed().as_millis()).unwrap_or(i64::MAX);
        BEGIN_MS + self.born_ms + since
    }
}

/// Returns where a process listens.
pub(crate) fn address(number: usize) -> String {
    format!("p{number}")
}

/// Makes a runtime whose time stands still, and in which the order of tasks follows from what they
/// do: with other intervals it also depends on how often they were polled before, and that on how
/// soon the machine opened a file.
pub(crate) fn still_runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let builder = builder.enable_time().start_paused(true);
    builder.global_queue_interval(1).event_interval(1).build().expect("a runtime")
}

impl Process {
    /// Starts a process: it is the `run`th of its place.
    pub(crate) fn start(ground: &Arc<Ground>, number: usize, run: u32) -> Self {
        let name = format!("p{number}.{run}");
        let runtime = still_runtime();
        let born_ms = ground.history.now_ms();
        let born = {
            let _inside = runtime.enter();
            Instant::now()
        };
        let line = Arc::new(Line::new(Arc::clone(&ground.net), number));
        let stage = Arc::new(Mutex::new(Stage::Starting));
        let heard = Arc::new(Mutex::new(Heard::default()));
        let boot = Boot {
            ground: Arc::clone(ground),
            name: name.clone(),
            number,
            dice: Dice::new(ground.seed, &name),
            line: Arc::clone(&line),
            clock: Arc::new(LocalClock { born, born_ms }),
            heard: Arc::clone(&heard),
        };
        let (history, named, place) =
            (Arc::clone(&ground.history), name.clone(), Arc::clone(&stage));
        runtime.spawn(async move {
            let reached = match boot.run().await {
                Ok((services, member)) => {
                    history.note(format_args!("{named} serves"));
                    Stage::Serves(services, member)
                }
                Err(error) => {
                    history.note(format_args!("{named} cannot start: {error}"));
                    Stage::Over
                }
            };
            *place.lock() = reached;
        });
        Self { name, line, stage, heard, paused_until: None, runtime, born, born_ms }
    }

    /// Lets the process run until the world's time is `until_ms`.
    pub(crate) fn run_until(&self, until_ms: i64) {
        let since = Duration::from_millis((until_ms - self.born_ms).unsigned_abs());
        let until = self.born + since;
        self.runtime.block_on(async { tokio::time::sleep_until(until).await });
    }

    /// Goes on after a pause: its time leaps, and everything that was due meanwhile is due at once.
    pub(crate) fn go_on(&mut self, now_ms: i64) {
        self.paused_until = None;
        let since = Duration::from_millis((now_ms - self.born_ms).unsigned_abs());
        let now = self.born + since;
        self.runtime.block_on(async {
            tokio::time::advance(now.saturating_duration_since(Instant::now())).await;
        });
    }

    /// Returns what somebody needs to ask something of this process; `None` if it does not serve.
    pub(crate) fn door(&self) -> Option<(tokio::runtime::Handle, Arc<Services>)> {
        match &*self.stage.lock() {
            Stage::Serves(services, _) => {
                Some((self.runtime.handle().clone(), Arc::clone(services)))
            }
            Stage::Starting | Stage::Over => None,
        }
    }

    /// Hands everything over and ends, as a process does that is asked to.
    pub(crate) fn leave(&self) {
        let stage = Arc::clone(&self.stage);
        self.runtime.spawn(async move {
            let (services, member) = match &mut *stage.lock() {
                Stage::Serves(services, member) => (Arc::clone(services), member.take()),
                Stage::Starting | Stage::Over => return,
            };
            if let Some(member) = member {
                member.hand_over().await;
                services.sync.stop();
                services.context.streams.stop();
                member.leave().await;
            }
            // Its connections are closed as it goes: waiting for that would wait for the machine.
            *stage.lock() = Stage::Over;
        });
    }

    /// Ends the process at once: nothing of it runs any more, nothing of its memory is left.
    pub(crate) fn die(self) {
        let Self { runtime, stage, .. } = self;
        *stage.lock() = Stage::Over;
        drop(runtime);
    }
}

/// Lets every other task come to rest. The folder of media is opened by threads of the runtime: who
/// waits for one yields or not, as the machine has it, and nobody else may be about to run then.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
}

/// What a process starts with.
struct Boot {
    ground: Arc<Ground>,
    name: String,
    number: usize,
    dice: Dice,
    line: Arc<Line>,
    clock: Arc<LocalClock>,
    heard: Arc<Mutex<Heard>>,
}

impl Boot {
    /// Builds what `colonnade_core::Homeserver::start` builds, and joins.
    async fn run(mut self) -> colonnade_rooms::Result<(Arc<Services>, Option<Member>)> {
        let Ground { template, history, observer, spell, file, folder, unaware, .. } =
            &*self.ground;
        let slots = Arc::new(Slots::new(!unaware));
        let disk = Arc::new(Disk {
            name: self.name.clone(),
            history: Arc::clone(history),
            observer: Arc::clone(observer),
            spell: Arc::clone(spell),
            dice: Mutex::new(Dice::new(self.dice.any(), "disk")),
            slots: Arc::clone(&slots).into(),
            doubted: Mutex::default(),
        });
        let streams = Arc::new(Streams::new());
        let steps = Stepwise { fate: disk, clock: Arc::clone(&self.clock) as _ };
        let db = Database::open_stepwise(file, Arc::clone(&streams) as _, steps).await?;
        let run = self.dice.between(1, 1 << 19);
        streams.start(&db, Some(Arc::clone(&self.line) as Arc<dyn Bus>), run).await?;
        self.follow(&streams);
        let context = template.context(Own {
            db: db.clone(),
            streams,
            slots: Arc::clone(&slots),
            carrier: Arc::clone(&self.line) as Arc<dyn RpcClient>,
            clock: Arc::clone(&self.clock) as _,
            random: Arc::new(Chance(Mutex::new(self.dice))),
            data_dir: folder.clone(),
        });
        settle().await;
        let services = Services::start(context).await?;
        let noted = Arc::new(DatabaseClock::new(self.clock.now_ms()));
        let held = db.hold(Lock::Database, true).await?;
        let held = held.ok_or_else(|| StorageError::Failed("the lock is taken".to_owned()))?;
        let join = Join {
            name: self.name,
            pools: vec!["rooms".to_owned()],
            address: address(self.number),
            patience: PATIENCE,
        };
        let member = match unaware {
            true => None,
            false => Some(Member::join(&db, &slots, (held, noted), join).await?),
        };
        Ok((services, member))
    }

    /// Notes what a consumer of the events stream is told.
    fn follow(&self, streams: &Arc<Streams>) {
        let mut advances = streams.subscribe();
        let begun = streams.position(Stream::Events);
        *self.heard.lock() = Heard { begun, reached: begun, rows: Vec::new() };
        let (heard, history, name) =
            (Arc::clone(&self.heard), Arc::clone(&self.ground.history), self.name.clone());
        tokio::spawn(async move {
            loop {
                let advance = match advances.recv().await {
                    Ok(advance) if advance.stream == Stream::Events => advance,
                    Ok(_) => continue,
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
                    Err(lagged) => return history.violated(format_args!("{name}: {lagged}")),
                };
                let mut heard = heard.lock();
                if advance.prev > heard.reached || advance.upto <= heard.reached {
                    let (reached, prev, upto) = (heard.reached, advance.prev, advance.upto);
                    history.violated(format_args!("{name} at {reached} was told {prev}..{upto}"));
                }
                let reached = heard.reached;
                heard.rows.extend(advance.touched.iter().filter_map(|(touch, at)| match touch {
                    Touch::Room(room) if *at > reached => Some((*at, *room)),
                    _ => None,
                }));
                heard.reached = advance.upto;
            }
        });
    }
}
