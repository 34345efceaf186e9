//! What processes of one deployment, and their gateways, ask each other: `/_colonnade/slots`, the
//! map of docs/decisions/0013, and what is asked of a room's owner. Never reached through the
//! gateway; calls that do anything prove themselves by a secret of the database.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use colonnade_api::{ByteBody, Reply, Router, call::collect, reply};
use colonnade_model::{MatrixError, slot};
use colonnade_rooms::Context;
use colonnade_services::Services;
use colonnade_storage::ownership::{
    coordinator::{Owner, SlotMap},
    pools,
};
use colonnade_users::bodies::Payer;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;

use crate::rpc::wrong_owner;

/// What is asked of a room's owner.
pub(crate) const ROOMS: &str = "/_colonnade/internal/rooms";
/// How long the caller waits, in milliseconds.
pub(crate) const DEADLINE: &str = "x-colonnade-deadline-ms";
/// The map of slots.
const SLOTS: &str = "/_colonnade/slots";
/// The largest request of another process, in bytes: an event has 64 kB.
const ERRAND_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a request to a room's owner may take when the caller does not say.
const DEADLINE_DEFAULT: Duration = Duration::from_secs(30);
/// The longest somebody may wait for the map to change.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Answers other processes.
pub(crate) struct Internal {
    services: Arc<Services>,
    proof: String,
    map_proof: String,
}

impl Internal {
    pub(crate) fn new(services: Arc<Services>, proof: String, map_proof: String) -> Self {
        Self { services, proof, map_proof }
    }

    /// Tells whether a request is for us.
    pub(crate) fn takes(request: &Request<ByteBody>) -> bool {
        matches!(
            (request.method(), request.uri().path()),
            (&Method::GET, SLOTS) | (&Method::POST, ROOMS)
        )
    }

    /// Answers a request that [`Internal::takes`].
    pub(crate) async fn answer(&self, request: Request<ByteBody>) -> Reply {
        let answered = match request.uri().path() {
            SLOTS => self.slots(request.uri().query().unwrap_or_default()).await,
            _ => self.rooms(request).await,
        };
        answered.unwrap_or_else(|error| reply::matrix_error(&error))
    }

    /// Answers a request that a gateway sent us by an old map with the owner it should go to; `None` when
    /// it is ours to answer.
    pub(crate) fn misdirected(
        &self,
        request: &Request<ByteBody>,
        router: &Router,
    ) -> Option<Reply> {
        let known = wrong_owner::known(request.headers(), &self.map_proof)?;
        let slots = &self.services.context.slots;
        if slots.map().epoch <= known {
            return None;
        }
        let (endpoint, room) = router.room_written(request)?;
        let (address, epoch) = slots.moved(slot::slot_of(&room), known)?;
        wrong_owner::answer(endpoint, &address, epoch)
    }

    /// Waits until this process has noted what any process wrote before this request: whoever asks
    /// sees what he did before, whichever worker did it for him. A request without a token sees it
    /// in the database itself.
    pub(crate) fn catch_up(
        &self,
        request: &Request<ByteBody>,
    ) -> impl Future<Output = ()> + Send + use<'_> {
        let by_query = request.uri().query().is_some_and(|query| query.contains("access_token="));
        let is_somebody = by_query || request.headers().contains_key(header::AUTHORIZATION);
        async move {
            if is_somebody {
                self.look().await;
            }
        }
    }

    async fn look(&self) {
        let Context { streams, db, .. } = &*self.services.context;
        if let Err(error) = streams.catch_up(db).await {
            // Whatever needs the database says so itself.
            tracing::debug!(%error, "cannot tell how far other processes are");
        }
    }

    async fn rooms(&self, request: Request<ByteBody>) -> Result<Reply, MatrixError> {
        let given = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let wanted = format!("Bearer {}", self.proof);
        if !bool::from(given.unwrap_or_default().ct_eq(wanted.as_bytes())) {
            return Err(MatrixError::forbidden("this is for processes of this deployment"));
        }
        let within = deadline(request.headers());
        self.look().await;
        let body = request.into_body();
        let body = collect(&self.services, Payer::Process, body, ERRAND_BYTES_MAX).await?;
        let done =
            tokio::time::timeout(within, self.services.rooms.serve_owner_request(&body)).await;
        let late = |_| MatrixError::unavailable("this took longer than the caller waits");
        match done.map_err(late)? {
            Ok(answer) => Ok(reply::json(StatusCode::OK, answer)),
            Err(colonnade_rooms::Error::Client(error)) => Err(error),
            Err(error) => {
                tracing::warn!(%error, "cannot do what another process asked for");
                Err(MatrixError::internal("something broke; the log of the owner says what"))
            }
        }
    }

    async fn slots(&self, query: &str) -> Result<Reply, MatrixError> {
        let number = |name: &str| -> Result<Option<i64>, MatrixError> {
            let value = query.split('&').find_map(|pair| pair.strip_prefix(name));
            let bad = |_| MatrixError::invalid_param(format!("{name} is followed by a number"));
            value.map(|value| value.parse().map_err(bad)).transpose()
        };
        let after = number("after=")?;
        let timeout_ms = number("timeout=")?.and_then(|ms| u64::try_from(ms).ok());
        let wait = timeout_ms.map_or(WAIT_MAX, Duration::from_millis).min(WAIT_MAX);
        let slots = &self.services.context.slots;
        if slots.map().epoch == 0 {
            return Err(MatrixError::unavailable("there is no map of slots here"));
        }
        let epoch = slots.map().epoch;
        if after.is_some_and(|after| after >= epoch) && slots.changed(epoch, wait).await == epoch {
            let mut nothing = Response::new(reply::full(Bytes::new()));
            *nothing.status_mut() = StatusCode::NO_CONTENT;
            return Ok(nothing);
        }
        Ok(reply::json(StatusCode::OK, render(&slots.map(), &self.map_proof).to_string()))
    }
}

fn deadline(headers: &HeaderMap) -> Duration {
    let given = headers.get(DEADLINE).and_then(|value| value.to_str().ok()?.parse().ok());
    given.map_or(DEADLINE_DEFAULT, Duration::from_millis).min(DEADLINE_DEFAULT)
}

/// Renders the map as docs/decisions/0013 says.
fn render(map: &SlotMap, proof: &str) -> Value {
    let workers = map.members.iter().flat_map(|member| {
        member.pools.iter().map(move |pool| {
            json!({
                "incarnation": member.incarnation,
                "name": member.name,
                "pool": pool,
                "address": member.address,
                "state": if member.draining { "draining" } else { "live" },
            })
        })
    });
    let dealt = |is_role: bool| {
        let owners = map.owners.iter().filter(|(name, _)| pools::is_role(name) == is_role);
        owners.map(|(pool, owners)| (pool, ranges(owners))).collect()
    };
    let owners: BTreeMap<&String, Vec<(usize, usize, i64)>> = dealt(false);
    let roles: BTreeMap<&String, Vec<(usize, usize, i64)>> = dealt(true);
    json!({
        "epoch": map.epoch,
        "slots": slot::SLOTS,
        "hash": "xxh3",
        "workers": workers.collect::<Vec<Value>>(),
        "owners": owners,
        "roles": roles,
        "proof": proof,
    })
}

/// Returns the ranges of slots that have one owner: first, end, incarnation.
fn ranges(owners: &[Owner]) -> Vec<(usize, usize, i64)> {
    let mut ranges: Vec<(usize, usize, i64)> = Vec::new();
    for (slot, owner) in owners.iter().enumerate().filter(|(_, owner)| owner.incarnation != 0) {
        match ranges.last_mut() {
            Some((_, end, last)) if *end == slot && *last == owner.incarnation => *end = slot + 1,
            _ => ranges.push((slot, slot + 1, owner.incarnation)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use colonnade_storage::ownership::coordinator::Member;

    use super::*;

    #[test]
    fn the_map_is_the_document_of_decision_13() {
        let owner = |incarnation| Owner { incarnation, since: 9 };
        let mut owners = vec![owner(3); 512];
        owners.extend(vec![owner(5); 510]);
        owners.push(owner(0));
        owners.push(owner(3));
        let member = |incarnation, name: &str, pools: &[&str], draining| Member {
            incarnation,
            name: name.to_owned(),
            pools: pools.iter().map(|pool| (*pool).to_owned()).collect(),
            address: format!("unix:/{name}"),
            draining,
        };
        let map = SlotMap {
            epoch: 17,
            members: vec![
                member(3, "one", &["rooms", "sync"], false),
                member(5, "two", &["rooms"], true),
            ],
            owners: BTreeMap::from([
                ("rooms".to_owned(), owners),
                ("background".to_owned(), vec![owner(5); 64]),
            ]),
        };
        let worker = |incarnation, name: &str, pool: &str, state: &str| {
            json!({ "incarnation": incarnation, "name": name, "pool": pool,
                "address": format!("unix:/{name}"), "state": state })
        };
        let expected = json!({
            "epoch": 17,
            "slots": 1024,
            "hash": "xxh3",
            "workers": [
                worker(3, "one", "rooms", "live"),
                worker(3, "one", "sync", "live"),
                worker(5, "two", "rooms", "draining"),
            ],
            "owners": { "rooms": [[0, 512, 3], [512, 1022, 5], [1023, 1024, 3]] },
            "roles": { "background": [[0, 64, 5]] },
            "proof": "abc",
        });
        assert_eq!(render(&map, "abc"), expected);
    }
}
