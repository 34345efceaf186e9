//! An answer that carries a room's state, read as it arrives: a thread parses the JSON as the bytes come and hands
//! over one event after the other, so that neither the text nor the events of a large room are ever held together.
//!
//! Source: Matrix v1.19, server-server, `PUT /send_join` and `GET /state/{roomId}`.

use std::{fmt, io};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde::{
    Deserialize,
    de::{self, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use tokio::{runtime::Handle, sync::mpsc, task::JoinHandle};

use super::EVENTS_MAX;
use crate::transport::{Response, ResponseBody, TransportError};

/// Which of an answer's lists an event stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    /// The room's state.
    State,
    /// What allows the events of the state.
    AuthChain,
}

/// An event of an answer.
pub(super) struct Arrived {
    pub(super) list: List,
    pub(super) pdu: Box<RawValue>,
}

/// What an answer says beside its events.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// The join, as the other server took it.
    pub(super) event: Option<Box<RawValue>>,
    /// Whether the members are left out of the state.
    pub(super) members_omitted: bool,
}

/// In which form an answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// An object.
    Object,
    /// An object behind a status, in an array: the first version of some endpoints.
    BehindStatus,
}

/// An answer that is being read.
pub(super) struct StateAnswer {
    /// Its events. At most [`EVENTS_MAX`], so that the other server, who may wait for nobody, is read as fast as
    /// it writes; what was taken out is held here no more.
    pub(super) events: mpsc::Receiver<Arrived>,
    /// The rest, when all of it was read.
    pub(super) beside: JoinHandle<Result<Beside, TransportError>>,
}

/// Begins to read an answer. Whoever drops the receiver ends it.
pub(super) fn read(response: Response, form: Form) -> StateAnswer {
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    let body =
        Blocking { body: response.into_body(), runtime: Handle::current(), piece: Bytes::new() };
    let beside = tokio::task::spawn_blocking(move || {
        let mut answer = serde_json::Deserializer::from_reader(io::BufReader::new(body));
        let lists = Lists { events: sender, left: EVENTS_MAX };
        let read = match form {
            Form::Object => lists.deserialize(&mut answer),
            Form::BehindStatus => BehindStatus(lists).deserialize(&mut answer),
        };
        let beside = read.map_err(transport_error)?;
        answer.end().map_err(transport_error)?;
        Ok(beside)
    });
    StateAnswer { events, beside }
}

/// A body that is read where one may wait.
struct Blocking {
    body: ResponseBody,
    runtime: Handle,
    piece: Bytes,
}

impl io::Read for Blocking {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.runtime.block_on(self.body.frame()) {
                Some(frame) => {
                    let frame = frame.map_err(io::Error::other)?;
                    self.piece = frame.into_data().unwrap_or_default();
                }
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

/// Returns what kept the body from being read, if that is why it is no JSON.
fn transport_error(error: serde_json::Error) -> TransportError {
    let malformed = |why: String| TransportError::Malformed(why);
    if !error.is_io() {
        return malformed(error.to_string());
    }
    let inner = io::Error::from(error).into_inner();
    match inner.map(|inner| inner.downcast::<TransportError>()) {
        Some(Ok(error)) => *error,
        Some(Err(other)) => malformed(other.to_string()),
        None => malformed("the answer broke off".to_owned()),
    }
}

/// Hands over the events of an answer, and keeps the rest.
struct Lists {
    events: mpsc::Sender<Arrived>,
    left: usize,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    #[serde(alias = "pdus")]
    State,
    AuthChain,
    Event,
    MembersOmitted,
    #[serde(other)]
    Other,
}

impl<'de> DeserializeSeed<'de> for Lists {
    type Value = Beside;

    fn deserialize<D: de::Deserializer<'de>>(self, from: D) -> Result<Beside, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Lists {
    type Value = Beside;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with a state")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Beside, A::Error> {
        let mut beside = Beside::default();
        while let Some(field) = map.next_key()? {
            match field {
                Field::State => {
                    map.next_value_seed(Events { lists: &mut self, list: List::State })?
                }
                Field::AuthChain => {
                    map.next_value_seed(Events { lists: &mut self, list: List::AuthChain })?;
                }
                Field::Event => beside.event = map.next_value()?,
                Field::MembersOmitted => beside.members_omitted = map.next_value()?,
                Field::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(beside)
    }
}

/// One list of events.
struct Events<'l> {
    lists: &'l mut Lists,
    list: List,
}

impl<'de> DeserializeSeed<'de> for Events<'_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Events<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { lists, list } = self;
        while let Some(pdu) = seq.next_element()? {
            let left = lists.left.checked_sub(1);
            let endless = || de::Error::custom(format!("more than {EVENTS_MAX} events"));
            lists.left = left.ok_or_else(endless)?;
            let sent = lists.events.blocking_send(Arrived { list, pdu });
            sent.map_err(|_| de::Error::custom("nobody wants it any more"))?;
        }
        Ok(())
    }
}

/// An answer of the first version.
struct BehindStatus(Lists);

impl<'de> DeserializeSeed<'de> for BehindStatus {
    type Value = Beside;

    fn deserialize<D: de::Deserializer<'de>>(self, from: D) -> Result<Beside, D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for BehindStatus {
    type Value = Beside;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a status and an object")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Beside, A::Error> {
        let short = |count| de::Error::invalid_length(count, &"a status and an object");
        seq.next_element::<u16>()?.ok_or_else(|| short(0))?;
        let beside = seq.next_element_seed(self.0)?.ok_or_else(|| short(1))?;
        match seq.next_element::<IgnoredAny>()? {
            None => Ok(beside),
            Some(_) => Err(short(3)),
        }
    }
}
