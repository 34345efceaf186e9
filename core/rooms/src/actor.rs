//! One actor per room: a task with a bounded mailbox, made when somebody wants to write to the room
//! and gone when nobody does any more. It alone adds events to its room, in the order in which they
//! were asked for; what waits meanwhile is written together.
//!
//! An actor works only while this process owns its room, and loads the room anew when it got it
//! back: somebody else may have written meanwhile. What is asked of somebody else's room goes there
//! by `owner.rs`.
//!
//! If a commit fails, everything in it is answered with the error and the room is loaded anew from
//! the database: the actor holds nothing that the database does not.

pub(crate) mod committer;
pub(crate) mod owner;
pub(crate) mod owner_calls;
pub(crate) mod request;

use std::{collections::HashMap, sync::Arc, time::Duration};

use colonnade_model::{MatrixError, nid::RoomNid, slot::slot_of};
use colonnade_replication::slots::Place;
use colonnade_storage::{StorageError, rooms::client_txns};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::{Error, Result};
use crate::{
    actor::{
        committer::Committer,
        owner_calls::Calls,
        request::{Refusal, RoomRequest},
    },
    pending_room::{PendingRoom, checks},
    proposal::{Proposal, Sent},
    store::{Room, Store},
};

/// Requests that may wait for one room; beyond it callers wait in turn.
const MAILBOX_MAX: usize = 256;
/// Requests written together at most.
const TOGETHER_MAX: usize = 64;
/// How long an actor without work stays: its memory is small, loading it costs a few reads.
const IDLE: Duration = Duration::from_secs(300);

/// A request and whom to answer.
struct Request {
    ask: RoomRequest,
    answer: oneshot::Sender<Reply>,
}

/// A request that is done but for the commit.
struct Done {
    answer: oneshot::Sender<Reply>,
    sent: Vec<Sent>,
    /// What was asked, where the commit may refuse something.
    ask: Option<RoomRequest>,
}

impl Done {
    /// Tells that it is committed.
    fn tell(self) {
        let _unless_gone = self.answer.send(Ok(self.sent));
    }
}

/// What somebody who asked is told.
type Reply = Result<Vec<Sent>, Refusal>;

/// The actors at pending.
#[derive(Clone)]
pub(super) struct Actors {
    pub(super) store: Arc<Store>,
    committer: Committer,
    mailboxes: Arc<Mutex<HashMap<RoomNid, mpsc::Sender<Request>>>>,
    /// How calls to other processes went.
    pub(super) calls: Arc<Calls>,
}

impl Actors {
    pub(super) fn new(store: Arc<Store>, committer: Committer) -> Self {
        Self { store, committer, mailboxes: Arc::default(), calls: Arc::default() }
    }

    /// Asks a room's actor in this process to do something, and waits until that is committed.
    ///
    /// # Errors
    /// That the room is not ours, what the checks said, or that the database failed.
    pub(super) async fn ask_here(&self, room: &Arc<Room>, ask: RoomRequest) -> Reply {
        let (answer, answered) = oneshot::channel();
        let stopped = || MatrixError::unavailable("the server is being stopped");
        let mailbox = self.mailbox(room);
        mailbox.send(Request { ask, answer }).await.map_err(|_| stopped())?;
        drop(mailbox);
        answered.await.map_err(|_| stopped())?
    }

    /// Returns the mailbox of a room's actor, starting it if there is none.
    fn mailbox(&self, room: &Arc<Room>) -> mpsc::Sender<Request> {
        let mut mailboxes = self.mailboxes.lock();
        match mailboxes.get(&room.nid) {
            Some(mailbox) if !mailbox.is_closed() => mailbox.clone(),
            _ => {
                let (mailbox, requests) = mpsc::channel(MAILBOX_MAX);
                mailboxes.insert(room.nid, mailbox.clone());
                tokio::spawn(self.clone().run(Arc::clone(room), requests));
                mailbox
            }
        }
    }

    async fn run(self, room: Arc<Room>, mut requests: mpsc::Receiver<Request>) {
        let mut pending = None;
        loop {
            let first = match tokio::time::timeout(IDLE, requests.recv()).await {
                Ok(Some(request)) => request,
                Ok(None) => return,
                Err(_) if self.retire(&room, &requests) => return,
                Err(_) => continue,
            };
            let mut together = vec![first];
            while together.len() < TOGETHER_MAX {
                let Ok(request) = requests.try_recv() else { break };
                together.push(request);
            }
            pending = self.serve(&room, pending, together).await;
        }
    }

    /// Ends an idle actor, unless somebody is about to write to it: clones of the mailbox are only
    /// made under the lock.
    fn retire(&self, room: &Room, requests: &mpsc::Receiver<Request>) -> bool {
        let mut mailboxes = self.mailboxes.lock();
        let idle = requests.is_empty() && requests.sender_strong_count() <= 1;
        if idle {
            mailboxes.remove(&room.nid);
        }
        idle
    }

    /// Does what is asked and answers; returns where the room stands, if that is certain.
    async fn serve(
        &self,
        room: &Arc<Room>,
        pending: Option<PendingRoom>,
        requests: Vec<Request>,
    ) -> Option<PendingRoom> {
        let slots = &self.store.context.slots;
        let Place::Here { since } = slots.place(slot_of(room.room_id.as_str())) else {
            requests.into_iter().for_each(|request| not_owner(request.answer));
            return None;
        };
        let loaded = match pending.filter(|pending| pending.ownership_epoch == since) {
            Some(pending) => Ok(pending),
            None => PendingRoom::load(&self.store, Arc::clone(room), since).await,
        };
        let mut pending = match loaded {
            Ok(pending) => pending,
            Err(error) => {
                tracing::warn!(room = %room.room_id, %error, "cannot load a room");
                fail(requests.into_iter().map(|request| request.answer));
                return None;
            }
        };
        let may_be_refused = requests.iter().any(|request| request.ask.may_be_refused());
        let mut done = Vec::with_capacity(requests.len());
        for Request { ask, answer } in requests {
            let kept = may_be_refused.then(|| ask.clone());
            match self.perform(&mut pending, ask).await {
                Ok(sent) => {
                    pending.keep();
                    done.push(Done { answer, sent, ask: kept });
                }
                Err(error) => {
                    pending.drop_added();
                    let _ = answer.send(Err(error.into()));
                }
            }
        }
        self.write(room, pending, done).await
    }

    /// Writes what was done and answers; returns where the room stands, if that is certain.
    async fn write(
        &self,
        room: &Arc<Room>,
        mut pending: PendingRoom,
        done: Vec<Done>,
    ) -> Option<PendingRoom> {
        let written = match pending.batch() {
            Ok(Some(batch)) => self.committer.commit(Arc::clone(&batch)).await.map(|persisted| {
                pending.settle(&self.store, &batch, &persisted);
            }),
            Ok(None) => Ok(()),
            Err(error) => Err(StorageError::Failed(error.to_string())),
        };
        match written {
            Ok(()) => {
                done.into_iter().for_each(Done::tell);
                Some(pending)
            }
            Err(refusal @ (StorageError::Full(_) | StorageError::Dangling(_))) => {
                self.refused(room, refusal, done).await
            }
            Err(StorageError::Fenced(why)) => {
                tracing::info!(room = %room.room_id, why, "a room has gone to another process");
                self.store.context.slots.look_again();
                done.into_iter().for_each(|done| not_owner(done.answer));
                None
            }
            Err(error) => {
                tracing::warn!(room = %room.room_id, %error, "cannot commit events");
                fail(done.into_iter().map(|done| done.answer));
                None
            }
        }
    }

    /// Answers a request that the commit refused. Of several it is not known which of them it was: then
    /// each is done by itself.
    async fn refused(
        &self,
        room: &Arc<Room>,
        refusal: StorageError,
        mut done: Vec<Done>,
    ) -> Option<PendingRoom> {
        if done.len() == 1 {
            let only = done.pop()?;
            let _unless_gone = only.answer.send(Err(Error::from(refusal).into()));
            return None;
        }
        let mut pending = None;
        for Done { answer, ask, .. } in done {
            match ask {
                Some(ask) => {
                    let request = vec![Request { ask, answer }];
                    pending = Box::pin(self.serve(room, pending, request)).await;
                }
                None => fail(std::iter::once(answer)),
            }
        }
        pending
    }

    async fn perform(&self, pending: &mut PendingRoom, ask: RoomRequest) -> Result<Vec<Sent>> {
        let mut sent = Vec::new();
        match ask {
            RoomRequest::Receive(event) => sent.push(pending.receive(&self.store, *event).await?),
            RoomRequest::History(events, state) => {
                sent = pending.add_history(&self.store, events, state).await?;
            }
            RoomRequest::Outliers(events) => {
                sent = pending.add_outliers(&self.store, events).await?
            }
            RoomRequest::Send(proposals) => {
                for proposal in proposals {
                    if let Some(before) = self.sent_before(pending, &proposal).await? {
                        sent.push(before);
                        continue;
                    }
                    checks::proposal(pending, &self.store, &proposal).await?;
                    sent.push(pending.propose(&self.store, proposal).await?);
                }
            }
        }
        Ok(sent)
    }

    /// Returns the event that the same request sent before.
    async fn sent_before(
        &self,
        pending: &PendingRoom,
        proposal: &Proposal,
    ) -> Result<Option<Sent>> {
        let Some(txn) = &proposal.txn else { return Ok(None) };
        if let Some(sent) = pending.sent_as(txn) {
            return Ok(Some(sent));
        }
        let Some(nid) = client_txns::find(&self.store.context.db, txn).await? else {
            return Ok(None);
        };
        let event = self.store.event(nid).await?;
        let missing = || StorageError::corrupt("client_txns", "event_nid", nid, "no such event");
        let event = event.ok_or_else(missing)?;
        Ok(Some(Sent { event_id: event.event.event_id().to_owned(), nid }))
    }
}

/// Tells somebody to ask elsewhere.
fn not_owner(answer: oneshot::Sender<Reply>) {
    let _unless_gone = answer.send(Err(Refusal::NotOwner));
}

/// Tells everybody that the database failed them.
fn fail(answers: impl Iterator<Item = oneshot::Sender<Reply>>) {
    for answer in answers {
        let error = MatrixError::unavailable("the database is not available; try again later");
        let _ = answer.send(Err(error.into()));
    }
}
