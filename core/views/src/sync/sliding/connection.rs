//! The connections of devices: what was told on each, for the last two positions. A client has one of them, or
//! the other if an answer did not reach it. They live in memory: who comes with a position that is not known
//! here begins anew, as the proposal has it.

use std::{collections::VecDeque, sync::Arc};

use colonnade_model::{MatrixError, nid::DeviceNid};
use parking_lot::Mutex;
use quick_cache::sync::Cache;

use super::connection_state::ConnectionState;

/// Devices whose connections are kept, some 50 kB each with five hundred rooms.
const DEVICES_MAX: usize = 20_000;
/// Connections of a device; the one that was used longest ago makes room. Clients of today have three.
const CONNECTIONS_MAX: usize = 8;
/// Positions of a connection that its client may have.
const POSITIONS_MAX: usize = 2;

/// A place on a connection: which begin of it, and the how manieth answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    begun: u64,
    answer: u64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}.{}", self.begun, self.answer)
    }
}

impl Place {
    fn read(text: &str) -> Option<Self> {
        let (begun, answer) = text.split_once('.')?;
        Some(Self { begun: u64::from_str_radix(begun, 16).ok()?, answer: answer.parse().ok()? })
    }
}

/// The connections of all devices.
pub(crate) struct Connections(Cache<DeviceNid, Arc<Mutex<Vec<SlidingConnection>>>>);

impl Default for Connections {
    fn default() -> Self {
        Self(Cache::new(DEVICES_MAX))
    }
}

struct SlidingConnection {
    name: String,
    begun: u64,
    /// How many answers there were.
    answers: u64,
    told: VecDeque<(Place, Arc<ConnectionState>)>,
}

impl Connections {
    /// Begins a connection; whatever had its name ends. `number` tells it from those before.
    pub(super) fn begin(&self, device: DeviceNid, name: &str, number: u64) {
        let known = self.0.get_or_insert_with(&device, || {
            Ok::<_, std::convert::Infallible>(Arc::<Mutex<Vec<SlidingConnection>>>::default())
        });
        let Ok(known) = known;
        let mut known = known.lock();
        known.retain(|connection| connection.name != name);
        if known.len() >= CONNECTIONS_MAX {
            known.remove(0);
        }
        let (begun, answers) = (number, 0);
        known.push(SlidingConnection {
            name: name.to_owned(),
            begun,
            answers,
            told: VecDeque::new(),
        });
    }

    /// Returns what was told at a place of a connection. What was told before it is forgotten.
    ///
    /// # Errors
    /// `M_UNKNOWN_POS` when the place is not known.
    pub(super) fn told(
        &self,
        device: DeviceNid,
        name: &str,
        place: &str,
    ) -> Result<Arc<ConnectionState>, MatrixError> {
        let find = || {
            let place = Place::read(place)?;
            let known = self.0.get(&device)?;
            let mut known = known.lock();
            let at = known.iter().position(|connection| connection.name == name)?;
            // The one that was used last is the last.
            let mut connection = known.remove(at);
            let found = connection.told.iter().position(|(own, _)| *own == place);
            if let Some(found) = found {
                connection.told.drain(..found);
            }
            let told =
                found.and_then(|_| connection.told.front().map(|(_, told)| Arc::clone(told)));
            known.push(connection);
            told
        };
        find().ok_or_else(unknown)
    }

    /// Notes what was told by an answer, and returns its place; `None` when the connection ended meanwhile.
    pub(super) fn note(
        &self,
        device: DeviceNid,
        name: &str,
        told: ConnectionState,
    ) -> Option<Place> {
        let known = self.0.get(&device)?;
        let mut known = known.lock();
        let connection = known.iter_mut().find(|connection| connection.name == name)?;
        connection.answers += 1;
        let place = Place { begun: connection.begun, answer: connection.answers };
        connection.told.push_back((place, Arc::new(told)));
        // An answer that was made twice: the client has the first or the last of these.
        while connection.told.len() > POSITIONS_MAX {
            connection.told.remove(1);
        }
        Some(place)
    }
}

/// The error of a position that is not known.
pub(super) fn unknown() -> MatrixError {
    let why = "this position is not known any more: begin anew, without `pos`";
    MatrixError::new(400, "M_UNKNOWN_POS", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: DeviceNid = DeviceNid(1);

    fn note(connections: &Connections, name: &str) -> String {
        connections.note(DEVICE, name, ConnectionState::default()).unwrap().to_string()
    }

    #[test]
    fn a_client_may_have_the_last_answer_or_the_one_before() {
        let connections = Connections::default();
        connections.begin(DEVICE, "a", 7);
        let told = |place: &str| connections.told(DEVICE, "a", place).is_ok();
        let first = note(&connections, "a");
        let lost = note(&connections, "a");
        assert!(told(&first), "the answer did not arrive");
        let again = note(&connections, "a");
        assert!(told(&first) && told(&again));
        assert!(!told(&first) && !told(&lost), "who has a later one has no earlier one");
        for wrong in ["", "7", "7.x", "8.1", "7.99", "x.1"] {
            assert!(!told(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_connection_is_of_a_device_and_a_name_and_begins_anew() {
        let connections = Connections::default();
        connections.begin(DEVICE, "a", 1);
        let place = note(&connections, "a");
        assert!(connections.told(DeviceNid(2), "a", &place).is_err());
        assert!(connections.told(DEVICE, "b", &place).is_err());
        assert!(connections.told(DEVICE, "a", &place).is_ok());
        connections.begin(DEVICE, "a", 2);
        assert!(connections.told(DEVICE, "a", &place).is_err());
    }

    #[test]
    fn of_many_connections_the_one_used_longest_ago_ends() {
        let connections = Connections::default();
        let begin = |number: usize| {
            let name = number.to_string();
            connections.begin(DEVICE, &name, number as u64);
            note(&connections, &name)
        };
        let places: Vec<String> = (0..CONNECTIONS_MAX).map(begin).collect();
        assert!(connections.told(DEVICE, "0", &places[0]).is_ok());
        begin(CONNECTIONS_MAX);
        assert!(connections.told(DEVICE, "0", &places[0]).is_ok());
        assert!(connections.told(DEVICE, "1", &places[1]).is_err());
    }
}
