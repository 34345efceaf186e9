//! What goes from process to process: the bus, which loses, repeats and reorders, and calls, whose
//! requests and answers are late or lost. All of it arrives when the world's time has come.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use colonnade_model::stream::StreamAdvance;
use colonnade_replication::Bus;
use colonnade_rooms::rpc::{RpcClient, RpcError};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{broadcast, oneshot};

use crate::{dice::Dice, history::History};

/// Messages that wait for a process.
const INBOX_MAX: usize = 4_096;

/// How bad the ways between processes are, in a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ways {
    /// Messages of the bus that are lost.
    pub(crate) lost: u64,
    /// That come twice.
    pub(crate) twice: u64,
    /// That are late, and so come after later ones.
    pub(crate) late: u64,
    /// Calls whose request or answer is lost.
    pub(crate) cut: u64,
    /// The bus is away altogether.
    pub(crate) away: bool,
}

/// The answer to a call.
pub(crate) type Answer = Result<Vec<u8>, RpcError>;

/// Something under way.
pub(crate) enum Parcel {
    /// A message of the bus for a process.
    Advance(usize, Arc<StreamAdvance>),
    /// An ephemeral message for a process.
    Ephemeral(usize, Arc<[u8]>),
    /// A call to an address, to be answered within a time.
    Call { address: String, body: Vec<u8>, within: Duration, answer: oneshot::Sender<Answer> },
    /// The answer to a call.
    Answer(oneshot::Sender<Answer>, Answer),
}

/// The ways between processes.
pub(crate) struct Net {
    history: Arc<History>,
    state: Mutex<State>,
    processes: usize,
}

struct State {
    dice: Dice,
    ways: Ways,
    sent: u64,
    under_way: BTreeMap<(i64, u64), Parcel>,
}

impl Net {
    pub(crate) fn new(history: Arc<History>, seed: u64, processes: usize) -> Self {
        let state = State {
            dice: Dice::new(seed, "net"),
            ways: Ways::default(),
            sent: 0,
            under_way: BTreeMap::new(),
        };
        Self { history, state: Mutex::new(state), processes }
    }

    pub(crate) fn set_ways(&self, ways: Ways) {
        self.state.lock().ways = ways;
    }

    /// Returns the next parcel that is due.
    pub(crate) fn due(&self) -> Option<Parcel> {
        let mut state = self.state.lock();
        let first = state.under_way.first_entry()?;
        (first.key().0 <= self.history.now_ms()).then(|| first.remove())
    }

    /// Sends a parcel of which each part may be late.
    pub(crate) fn send(&self, parcel: Parcel) {
        self.state.lock().send(self.history.now_ms(), parcel);
    }

    /// Tells whether a call's request or answer is lost on its way.
    pub(crate) fn is_cut(&self) -> bool {
        let mut state = self.state.lock();
        let cut = state.ways.cut;
        state.dice.chance(cut)
    }

    /// Sends something to everybody, the sender among them, as well as the bus can.
    fn spread(&self, from: usize, what: &str, parcel: impl Fn(usize) -> Parcel) {
        let mut state = self.state.lock();
        let now_ms = self.history.now_ms();
        for to in 0..self.processes {
            let Ways { lost, twice, away, .. } = state.ways;
            if away || state.dice.chance(lost) {
                self.history.note(format_args!("bus: {what} of {from} is lost to {to}"));
                continue;
            }
            state.send(now_ms, parcel(to));
            if state.dice.chance(twice) {
                state.send(now_ms, parcel(to));
            }
        }
    }
}

impl State {
    fn send(&mut self, now_ms: i64, parcel: Parcel) {
        let late = self.ways.late;
        let takes_ms = match self.dice.chance(late) {
            true => self.dice.between(20, 700),
            false => self.dice.between(0, 4),
        };
        self.sent += 1;
        self.under_way.insert((now_ms + takes_ms, self.sent), parcel);
    }
}

/// The end of the net in one run of a process.
pub(crate) struct Line {
    net: Arc<Net>,
    number: usize,
    advances: broadcast::Sender<Arc<StreamAdvance>>,
    ephemeral: broadcast::Sender<Arc<[u8]>>,
}

impl Line {
    pub(crate) fn new(net: Arc<Net>, number: usize) -> Self {
        let (advances, ephemeral) =
            (broadcast::Sender::new(INBOX_MAX), broadcast::Sender::new(INBOX_MAX));
        Self { net, number, advances, ephemeral }
    }

    /// Takes in what arrived. An error only says that nobody listens yet.
    pub(crate) fn arrived(&self, advance: Arc<StreamAdvance>) {
        let _ = self.advances.send(advance);
    }

    /// Takes in an ephemeral message.
    pub(crate) fn take_ephemeral(&self, text: Arc<[u8]>) {
        let _ = self.ephemeral.send(text);
    }
}

impl Bus for Line {
    fn publish(&self, advance: Arc<StreamAdvance>) {
        let StreamAdvance { stream, prev, upto, .. } = &*advance;
        let what = format!("{} {prev}..{upto}", stream.name());
        self.net.spread(self.number, &what, |to| Parcel::Advance(to, Arc::clone(&advance)));
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<StreamAdvance>> {
        self.advances.subscribe()
    }

    fn send_ephemeral(&self, text: Arc<[u8]>) {
        self.net.spread(self.number, "whisper", |to| Parcel::Ephemeral(to, Arc::clone(&text)));
    }

    fn ephemeral_messages(&self) -> Option<broadcast::Receiver<Arc<[u8]>>> {
        Some(self.ephemeral.subscribe())
    }

    fn is_healthy(&self) -> bool {
        !self.net.state.lock().ways.away
    }
}

impl RpcClient for Line {
    fn call<'a>(
        &'a self,
        address: &'a str,
        body: Vec<u8>,
        within: Duration,
    ) -> BoxFuture<'a, Answer> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            if self.net.is_cut() {
                self.net
                    .history
                    .note(format_args!("call: {} does not reach {address}", self.number));
                return Err(RpcError::NotReached("the way is cut".to_owned()));
            }
            let address = address.to_owned();
            self.net.send(Parcel::Call { address, body, within, answer });
            match tokio::time::timeout(within, answered).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Err(RpcError::Lost("the connection broke".to_owned())),
                Err(_) => Err(RpcError::Lost("it takes too long".to_owned())),
            }
        })
    }
}
