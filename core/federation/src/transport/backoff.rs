//! Servers that are not reached are left alone for a while, each further while twice as long, in all processes
//! alike: the database has it, and each process remembers it for seconds. Whatever arrives from such a server
//! with a right signature, and whatever it answers, ends that, and the other processes are told.

use std::sync::Arc;

use colonnade_model::ruma::{OwnedServerName, ServerName};
use colonnade_replication::ephemeral::{Channel, Receivers};
use colonnade_rooms::Context;
use colonnade_storage::federation::destinations::{self, Absence, Pauses};
use quick_cache::sync::Cache;
use tokio::sync::broadcast;

/// Tells other processes who is reached again.
static CHANNEL: Channel<OwnedServerName> = Channel::new("Reached");
/// Servers that are remembered: those a large deployment speaks with.
const SERVERS_MAX: usize = 20_000;
/// How long it is remembered how a server does, in milliseconds: so late may a process learn what another
/// found out.
const REMEMBERED_MS: i64 = 10_000;
/// Servers that came back and that a slow listener has not taken note of; it is told that it missed some.
const RETURNS_MAX: usize = 1_024;

/// What is remembered of a server.
#[derive(Debug, Clone, Copy)]
struct Known {
    absence: Option<Absence>,
    at_ms: i64,
}

/// Which servers are left alone.
pub(super) struct Backoff {
    context: Arc<Context>,
    pauses: Pauses,
    known: Cache<OwnedServerName, Known>,
    returns: broadcast::Sender<OwnedServerName>,
}

impl Backoff {
    /// Begins with what the database has.
    pub(super) fn new(context: Arc<Context>) -> Arc<Self> {
        let settings = &context.settings.federation;
        let ms = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX).max(1);
        let min_ms = ms(settings.retry_min_ms);
        let pauses = Pauses { min_ms, max_ms: ms(settings.retry_max_ms).max(min_ms) };
        let (returns, _) = broadcast::channel(RETURNS_MAX);
        Arc::new(Self { context, pauses, known: Cache::new(SERVERS_MAX), returns })
    }

    /// Takes in what other processes say.
    pub(super) fn listen(self: &Arc<Self>, receivers: Receivers) -> Receivers {
        receivers.on(&CHANNEL, self, |this, server| this.note_return(server))
    }

    /// Hears of servers that are reached again.
    pub(super) fn returns(&self) -> broadcast::Receiver<OwnedServerName> {
        self.returns.subscribe()
    }

    /// Returns until when a server is left alone; `None`: it is not.
    pub(super) async fn until_ms(&self, server: &ServerName) -> Option<i64> {
        let now_ms = self.context.now_ms();
        let absence = self.absence(server, now_ms).await?;
        (absence.retry_at_ms > now_ms).then_some(absence.retry_at_ms)
    }

    async fn absence(&self, server: &ServerName, now_ms: i64) -> Option<Absence> {
        if let Some(known) = self.known.get(server)
            && (known.at_ms..known.at_ms.saturating_add(REMEMBERED_MS)).contains(&now_ms)
        {
            return known.absence;
        }
        match destinations::absence(&self.context.db, server.as_str()).await {
            Ok(absence) => {
                self.known.insert(server.to_owned(), Known { absence, at_ms: now_ms });
                absence
            }
            Err(error) => {
                tracing::debug!(%error, "cannot tell whether a server is left alone");
                None
            }
        }
    }

    /// Notes that a server was not reached; returns until when it is left alone.
    pub(super) async fn failed(&self, server: &ServerName) -> Option<i64> {
        let now_ms = self.context.now_ms();
        let noted = destinations::failed(&self.context.db, server.as_str(), now_ms, self.pauses);
        match noted.await {
            Ok(absence) => {
                let known = Known { absence: Some(absence), at_ms: now_ms };
                self.known.insert(server.to_owned(), known);
                Some(absence.retry_at_ms)
            }
            Err(error) => {
                tracing::warn!(%error, "cannot note that a server is not reached");
                None
            }
        }
    }

    /// Notes that a server is there.
    pub(super) async fn reached(&self, server: &ServerName) {
        let now_ms = self.context.now_ms();
        if self.absence(server, now_ms).await.is_none() {
            return;
        }
        match destinations::reached(&self.context.db, server.as_str()).await {
            Ok(_) => {
                let server = server.to_owned();
                CHANNEL.send(&self.context.streams, &server);
                self.note_return(server);
            }
            Err(error) => tracing::warn!(%error, "cannot note that a server is reached again"),
        }
    }

    fn note_return(&self, server: OwnedServerName) {
        let known = Known { absence: None, at_ms: self.context.now_ms() };
        self.known.insert(server.clone(), known);
        let _nobody_listens = self.returns.send(server);
    }
}
