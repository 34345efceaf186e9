//! A run: processes, clients and faults by a seed, in one thread, until everything is at rest.

use std::{sync::Arc, time::Duration};

use colonnade_model::stream::{Stream, StreamAdvance};
use parking_lot::Mutex;
use tokio::runtime::Runtime;

use crate::{
    checks,
    clients::{Client, ClientRecord, Doors},
    dice::Dice,
    disk::Spell,
    faults::Faults,
    history::History,
    net::{Net, Parcel},
    observer::Observer,
    process::{Ground, Process, Stage, address, still_runtime},
    template::Template,
};

/// How long everything may take to come to rest once the faults are over, in milliseconds.
const REST_MS: i64 = 90_000;
/// The longest step, in milliseconds: processes are apart in time by so much at most.
const STEP_MS: i64 = 12;

/// What is left out on purpose, to see that it is missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flaw {
    /// Nothing.
    #[default]
    None,
    /// Messages of the bus do not tell where the stream stood before: gaps cannot be noticed.
    NoGaps,
    /// Every process believes to be the only one: no owners, no fence.
    NoOwners,
}

/// What is run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Decides everything.
    pub seed: u64,
    /// What is left out.
    pub flaw: Flaw,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What may not have happened; empty if all is well.
    pub violations: Vec<String>,
    /// The digest of everything that happened.
    pub digest: String,
    /// What happened last.
    pub end: Vec<String>,
    /// Messages that were acknowledged.
    pub acknowledged: usize,
    /// How long it took, in milliseconds of the run's own time.
    pub took_ms: i64,
}

/// A run under way.
struct World {
    ground: Arc<Ground>,
    plan: Plan,
    dice: Dice,
    faults: Faults,
    processes: Vec<Option<Process>>,
    runs: Vec<u32>,
    /// When a process that is not there starts again.
    returns: Vec<i64>,
    doors: Doors,
    record: Arc<Mutex<ClientRecord>>,
    /// Where the clients live.
    outside: Runtime,
    born: tokio::time::Instant,
    _folder: tempfile::TempDir,
}

/// Runs a plan over a copy of a deployment.
///
/// # Panics
/// When the machine refuses what every run needs: files, threads.
pub fn run(template: &Arc<Template>, plan: Plan) -> Outcome {
    let mut world = World::new(template, plan);
    let begun = world.ground.observer.horizons().get(Stream::Events);
    while world.now_ms() < world.faults.until_ms {
        world.strike();
        world.step();
    }
    world.calm();
    let history = Arc::clone(&world.ground.history);
    let until_ms = world.now_ms() + REST_MS;
    while !world.is_at_rest() {
        if world.now_ms() > until_ms {
            history.violated(world.restless());
            break;
        }
        world.step();
    }
    for process in world.processes.iter().flatten() {
        checks::heard(process, &world.ground.observer, &history);
    }
    let record = world.record.lock();
    checks::everything(template, &record, &world.ground.observer, &history, begun);
    Outcome {
        violations: history.violations(),
        digest: history.digest(),
        end: history.end(),
        acknowledged: record.acknowledged.len(),
        took_ms: history.now_ms(),
    }
}

impl World {
    fn new(template: &Arc<Template>, plan: Plan) -> Self {
        let Plan { seed, flaw } = plan;
        let history = Arc::new(History::default());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("colonnade.db");
        std::fs::copy(template.file(), &file).expect("the deployment can be copied");
        let outside = still_runtime();
        let observer = Arc::new(outside.block_on(Observer::open(&file, &template.rooms)));
        let mut dice = Dice::new(seed, "world");
        let count = 2 + dice.place(2);
        let ground = Arc::new(Ground {
            template: Arc::clone(template),
            net: Arc::new(Net::new(Arc::clone(&history), seed, count)),
            history: Arc::clone(&history),
            observer,
            spell: Arc::new(Mutex::new(Spell::default())),
            file,
            folder: folder.path().to_owned(),
            seed,
            unaware: flaw == Flaw::NoOwners,
        });
        let born = outside.block_on(async { tokio::time::Instant::now() });
        let mut world = Self {
            faults: Faults::new(seed),
            ground,
            plan,
            dice,
            processes: (0..count).map(|_| None).collect(),
            runs: vec![0; count],
            returns: vec![0; count],
            doors: Arc::new(Mutex::new(vec![None; count])),
            record: Arc::default(),
            outside,
            born,
            _folder: folder,
        };
        world.open(template);
        world
    }

    /// Lets the clients begin.
    fn open(&mut self, template: &Template) {
        let readers = 2;
        let mut record = self.record.lock();
        record.busy = template.users.len();
        record.seen = vec![Default::default(); readers];
        for (number, session) in template.users.iter().enumerate() {
            let client = |part: &str| Client {
                number,
                session: session.clone(),
                rooms: template.rooms.clone(),
                doors: Arc::clone(&self.doors),
                record: Arc::clone(&self.record),
                history: Arc::clone(&self.ground.history),
                dice: Dice::new(self.plan.seed, &format!("{part} {number}")),
            };
            self.outside.spawn(client("sender").send());
            if number < readers {
                self.outside.spawn(client("reader").read());
            }
        }
    }

    fn now_ms(&self) -> i64 {
        self.ground.history.now_ms()
    }

    /// Moves everything on by a few milliseconds.
    fn step(&mut self) {
        let now_ms = self.now_ms();
        let next_ms = now_ms + 1 + self.dice.between(0, STEP_MS);
        self.deliver();
        for number in 0..self.processes.len() {
            self.look_after(number);
        }
        let mut order: Vec<usize> = (0..self.processes.len()).collect();
        self.dice.shuffle(&mut order);
        for number in order {
            let running = self.processes[number].as_ref();
            if let Some(process) = running.filter(|process| process.paused_until.is_none()) {
                process.run_until(next_ms);
                self.doors.lock()[number] = process.door();
            }
        }
        let since = Duration::from_millis(next_ms.unsigned_abs());
        let until = self.born + since;
        self.outside.block_on(async { tokio::time::sleep_until(until).await });
        self.ground.history.set_now(next_ms);
        let rooms = &self.ground.template.rooms;
        if self.plan.flaw != Flaw::NoOwners {
            checks::one_owner(&self.processes, rooms, &self.ground.history);
        }
    }

    /// Delivers what has come.
    fn deliver(&self) {
        while let Some(parcel) = self.ground.net.due() {
            match parcel {
                Parcel::Advance(to, advance) => {
                    if let Some(process) = &self.processes[to] {
                        process.line.arrived(match self.plan.flaw {
                            Flaw::NoGaps => {
                                Arc::new(StreamAdvance { prev: 0, ..(*advance).clone() })
                            }
                            _ => advance,
                        });
                    }
                }
                Parcel::Ephemeral(to, text) => {
                    if let Some(process) = &self.processes[to] {
                        process.line.take_ephemeral(text);
                    }
                }
                Parcel::Call { address, body, within, answer } => {
                    self.call(&address, body, within, answer);
                }
                Parcel::Answer(asker, answer) => {
                    let _unless_gone = asker.send(answer);
                }
            }
        }
    }

    /// Lets a process answer a call, as its internal listener does.
    fn call(
        &self,
        to: &str,
        body: Vec<u8>,
        within: Duration,
        answer: tokio::sync::oneshot::Sender<crate::net::Answer>,
    ) {
        use colonnade_rooms::rpc::RpcError;
        let number = (0..self.processes.len()).find(|number| address(*number) == to);
        let process = number.and_then(|number| self.processes[number].as_ref());
        let Some((runtime, services)) = process.and_then(Process::door) else {
            let refused = RpcError::NotReached("nobody listens there".to_owned());
            let _unless_gone = answer.send(Err(refused));
            return;
        };
        let net = Arc::clone(&self.ground.net);
        runtime.spawn(async move {
            let done =
                tokio::time::timeout(within, services.rooms.serve_owner_request(&body)).await;
            let done = match done {
                Ok(Ok(done)) => Ok(done),
                Ok(Err(error)) => Err(RpcError::Lost(format!("it answered {error}"))),
                Err(_) => Err(RpcError::Lost("it answered 503".to_owned())),
            };
            // Lost on its way: the connection breaks.
            if !net.is_cut() {
                net.send(Parcel::Answer(answer, done));
            }
        });
    }

    /// Starts, resumes and ends a process when it is time.
    fn look_after(&mut self, number: usize) {
        let now_ms = self.now_ms();
        let history = Arc::clone(&self.ground.history);
        let Some(process) = &mut self.processes[number] else {
            if now_ms >= self.returns[number] {
                self.runs[number] += 1;
                let process = Process::start(&self.ground, number, self.runs[number]);
                history.note(format_args!("{} starts", process.name));
                self.processes[number] = Some(process);
            }
            return;
        };
        if process.paused_until.is_some_and(|until_ms| now_ms >= until_ms) {
            history.note(format_args!("{} goes on", process.name));
            process.go_on(now_ms);
        }
        let over = match &*process.stage.lock() {
            Stage::Starting => false,
            Stage::Serves(services, _) => services.context.slots.has_ended(),
            Stage::Over => true,
        };
        if over && process.paused_until.is_none() {
            let back_ms = self.dice.between(50, 800);
            self.end(number, "is over", back_ms);
        }
    }

    /// Ends a process; another run of it starts after a while.
    fn end(&mut self, number: usize, how: &str, back_ms: i64) {
        let Some(process) = self.processes[number].take() else { return };
        self.ground.history.note(format_args!("{} {how}", process.name));
        self.doors.lock()[number] = None;
        checks::heard(&process, &self.ground.observer, &self.ground.history);
        process.die();
        self.returns[number] = self.now_ms() + back_ms;
    }

    /// Lets happen what the faults ask for.
    fn strike(&mut self) {
        let now_ms = self.now_ms();
        if let Some(ways) = self.faults.ways(now_ms) {
            self.ground.history.note(format_args!("the ways: {ways:?}"));
            self.ground.net.set_ways(ways);
        }
        if let Some(spell) = self.faults.spell(now_ms) {
            self.ground.history.note(format_args!("the database: {spell:?}"));
            *self.ground.spell.lock() = spell;
        }
        let Some(blow) = self.faults.blow(now_ms) else { return };
        let number = self.dice.place(self.processes.len());
        let lasts_ms = blow.lasts_ms;
        let Some(process) = &mut self.processes[number] else { return };
        match blow.kind {
            crate::faults::Kind::Death => self.end(number, "dies", lasts_ms),
            crate::faults::Kind::Pause if process.paused_until.is_none() => {
                self.ground.history.note(format_args!("{} stops for {lasts_ms} ms", process.name));
                process.paused_until = Some(now_ms + lasts_ms);
            }
            crate::faults::Kind::Leave if process.paused_until.is_none() => {
                self.ground.history.note(format_args!("{} leaves", process.name));
                process.leave();
            }
            crate::faults::Kind::Pause | crate::faults::Kind::Leave => {}
        }
    }

    /// Ends all faults.
    fn calm(&mut self) {
        self.ground.history.note("the faults are over");
        self.ground.net.set_ways(Default::default());
        *self.ground.spell.lock() = Spell::default();
        let now_ms = self.now_ms();
        for process in self.processes.iter_mut().flatten() {
            if process.paused_until.is_some() {
                process.go_on(now_ms);
            }
        }
        self.record.lock().closing = true;
    }

    fn is_at_rest(&self) -> bool {
        let record = self.record.lock();
        if record.busy > 0 {
            return false;
        }
        let horizon = self.ground.observer.horizons().get(Stream::Events);
        checks::all_seen(&record, horizon)
            && self.processes.iter().all(|process| {
                process.as_ref().is_some_and(|process| {
                    process.door().is_some() && process.heard.lock().reached == horizon
                })
            })
    }

    /// Says what did not come to rest.
    fn restless(&self) -> String {
        let record = self.record.lock();
        let horizon = self.ground.observer.horizons().get(Stream::Events);
        let processes = self
            .processes
            .iter()
            .flatten()
            .map(|process| format!("{} at {}", process.name, process.heard.lock().reached));
        let seen: Vec<usize> =
            record.seen.iter().map(|seen| seen.values().map(Vec::len).sum()).collect();
        format!(
            "no rest {REST_MS} ms after the faults: {} senders wait; the stream is at {horizon}: \
             {:?}; readers saw {seen:?} events",
            record.busy,
            processes.collect::<Vec<_>>()
        )
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.doors.lock().clear();
        for process in self.processes.iter_mut().filter_map(Option::take) {
            process.die();
        }
    }
}
