//! What other servers do with rooms: transactions, memberships, invitations, and reading.

use std::sync::Arc;

use bytes::Bytes;
use colonnade_federation::transaction::Transaction;
use colonnade_model::{
    MatrixError,
    ruma::{
        EventId, OwnedEventId, OwnedRoomId, OwnedServerName, RoomId, RoomVersionId, ServerName,
        UserId,
        api::federation::{
            authorization::get_event_authorization::v1 as event_auth,
            backfill::get_backfill::v1 as get_backfill,
            event::{
                get_event::v1 as get_event, get_event_by_timestamp::v1 as event_at_time,
                get_room_state::v1 as room_state, get_room_state_ids::v1 as room_state_ids,
            },
            membership::{
                create_invite::v2 as invite_v2, create_knock_event::v1 as send_knock,
                prepare_join_event::v1 as make_join, prepare_knock_event::v1 as make_knock,
                prepare_leave_event::v1 as make_leave,
            },
        },
        events::room::member::MembershipState,
    },
};
use colonnade_rooms::{Result, RoomEvent};
use colonnade_services::{
    Services,
    federation::{Joined, MembersTold},
};
use http::{Method, Request, StatusCode};
use serde::{Serialize, Serializer, ser::Error as _};
use serde_json::{Value, json, value::RawValue};

use super::endpoint::{Origin, signed};
use crate::{
    call::Call,
    client::rooms_read::direction,
    reply::{self, Reply},
    request::ByteBody,
    table::Table,
};

/// A transaction of 50 PDUs of 64 KiB, and EDUs.
const TRANSACTION_BYTES_MAX: usize = 8 * 1024 * 1024;
/// An event, and stripped state of its room with it.
const EVENT_BYTES_MAX: usize = 512 * 1024;
/// A question.
const QUESTION_BYTES_MAX: usize = 64 * 1024;

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table
        .add_signed::<make_join::Request, _, _, _>(0, join_template)
        .add_signed::<make_knock::Request, _, _, _>(0, knock_template)
        .add_signed::<send_knock::Request, _, _, _>(EVENT_BYTES_MAX, knock)
        .add_signed::<make_leave::Request, _, _, _>(0, leave_template)
        .add_signed::<invite_v2::Request, _, _, _>(EVENT_BYTES_MAX, invited)
        .add_signed::<get_event::Request, _, _, _>(0, event)
        .add_signed::<room_state::Request, _, _, _>(0, state)
        .add_signed::<room_state_ids::Request, _, _, _>(0, state_ids)
        .add_signed::<event_auth::Request, _, _, _>(0, auth_chain)
        .add_signed::<event_at_time::Request, _, _, _>(0, at_time)
        .add_signed::<get_backfill::Request, _, _, _>(0, backfill);
    // The library reads these more strictly than other servers write them, or not at all.
    table
        .add_raw(Method::PUT, "/_matrix/federation/v1/send/{transaction_id}", transaction)
        .add_raw(Method::PUT, "/_matrix/federation/v1/send_join/{room_id}/{event_id}", join_v1)
        .add_raw(Method::PUT, "/_matrix/federation/v2/send_join/{room_id}/{event_id}", join_v2)
        .add_raw(Method::PUT, "/_matrix/federation/v1/send_leave/{room_id}/{event_id}", leave_v1)
        .add_raw(Method::PUT, "/_matrix/federation/v2/send_leave/{room_id}/{event_id}", leave_v2)
        .add_raw(Method::PUT, "/_matrix/federation/v1/invite/{room_id}/{event_id}", invited_v1)
        .add_raw(Method::POST, "/_matrix/federation/v1/get_missing_events/{room_id}", missing);
}

async fn transaction(
    services: Arc<Services>,
    request: Request<ByteBody>,
    args: Vec<String>,
) -> Result<Reply> {
    let (origin, _, body) = signed(&services, request, TRANSACTION_BYTES_MAX).await?;
    let transaction = Transaction::read(&body)?;
    let txn_id = args.first().map_or("", String::as_str);
    let taken = services.federation.take_transaction(&origin.server, txn_id, transaction).await?;
    Ok(reply::json(StatusCode::OK, Bytes::from(taken)))
}

/// An event that another server hands over: of whom, for which room, by which id, and the PDU.
struct Handed {
    origin: Origin,
    room: OwnedRoomId,
    event_id: String,
    pdu: Box<RawValue>,
    /// Which members it wants to be told, if it joins.
    members: MembersTold,
}

impl Handed {
    async fn read(
        services: &Services,
        request: Request<ByteBody>,
        args: &[String],
    ) -> Result<Self> {
        let (origin, parts, body) = signed(services, request, EVENT_BYTES_MAX).await?;
        let event_id = args.get(1).cloned().unwrap_or_default();
        let members = members_told(parts.uri.query().unwrap_or_default());
        Ok(Self { origin, room: named(args)?, event_id, pdu: raw(&body)?, members })
    }
}

/// Reads which members a server wants to be told.
fn members_told(query: &str) -> MembersTold {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    match pairs.any(|(key, value)| key == "omit_members" && value == "true") {
        true => MembersTold::Heroes,
        false => MembersTold::All,
    }
}

/// Reads the room that a path names.
fn named(args: &[String]) -> Result<OwnedRoomId, MatrixError> {
    let wrong = |_| MatrixError::invalid_param("the path names no room");
    RoomId::parse(args.first().map_or("", String::as_str)).map_err(wrong)
}

async fn join_template(call: Call<make_join::Request, Origin>) -> Result<Value> {
    let make_join::Request { room_id, user_id, ver, .. } = &call.request;
    entry_template(&call, room_id, user_id, MembershipState::Join, ver).await
}

async fn knock_template(call: Call<make_knock::Request, Origin>) -> Result<Value> {
    let make_knock::Request { room_id, user_id, ver, .. } = &call.request;
    entry_template(&call, room_id, user_id, MembershipState::Knock, ver).await
}

async fn entry_template<R>(
    call: &Call<R, Origin>,
    room: &RoomId,
    user: &UserId,
    membership: MembershipState,
    versions: &[RoomVersionId],
) -> Result<Value> {
    let (federation, origin) = (&call.services.federation, &call.who.server);
    let (version, event) = federation.make_entry(origin, room, user, membership, versions).await?;
    Ok(json!({ "room_version": version, "event": event }))
}

async fn leave_template(call: Call<make_leave::Request, Origin>) -> Result<Value> {
    let (room, user) = (&call.request.room_id, &call.request.user_id);
    let (version, event) =
        call.services.federation.make_leave(&call.who.server, room, user).await?;
    Ok(json!({ "room_version": version, "event": event }))
}

async fn join_v2(
    services: Arc<Services>,
    request: Request<ByteBody>,
    args: Vec<String>,
) -> Result<Reply> {
    let joined = join(&services, request, &args).await?;
    Ok(reply::ok(&JoinedBody::of(&joined, &services.context.server_name)))
}

async fn join_v1(
    services: Arc<Services>,
    request: Request<ByteBody>,
    args: Vec<String>,
) -> Result<Reply> {
    let joined = join(&services, request, &args).await?;
    Ok(reply::ok(&(200, JoinedBody::of(&joined, &services.context.server_name))))
}

async fn join(services: &Services, request: Request<ByteBody>, args: &[String]) -> Result<Joined> {
    let Handed { origin, room, event_id, pdu, members } =
        Handed::read(services, request, args).await?;
    services.federation.take_join(&origin.server, &room, &event_id, pdu, members).await
}

/// The answer to a join. Events are written as they are stored: there may be a hundred thousand.
#[derive(Serialize)]
struct JoinedBody<'j> {
    origin: &'j ServerName,
    event: Pdu<'j>,
    members_omitted: bool,
    servers_in_room: &'j [OwnedServerName],
    auth_chain: Vec<Pdu<'j>>,
    state: Vec<Pdu<'j>>,
}

impl<'j> JoinedBody<'j> {
    fn of(joined: &'j Joined, ours: &'j ServerName) -> Self {
        Self {
            origin: ours,
            event: Pdu(&joined.event),
            members_omitted: joined.members == MembersTold::Heroes,
            servers_in_room: &joined.servers,
            auth_chain: pdus(&joined.auth_chain),
            state: pdus(&joined.state),
        }
    }
}

/// An event as other servers read it.
struct Pdu<'e>(&'e RoomEvent);

impl Serialize for Pdu<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let json: &RawValue =
            serde_json::from_str(self.0.event.json()).map_err(S::Error::custom)?;
        json.serialize(serializer)
    }
}

async fn knock(call: Call<send_knock::Request, Origin>) -> Result<Value> {
    let (room, event_id) = (&call.request.room_id, call.request.event_id.as_str());
    let (federation, pdu) = (&call.services.federation, raw(&call.body)?);
    let shown = federation.take_knock(&call.who.server, room, event_id, pdu).await?;
    Ok(json!({ "knock_room_state": shown }))
}

async fn leave_v2(
    services: Arc<Services>,
    request: Request<ByteBody>,
    args: Vec<String>,
) -> Result<Reply> {
    leave(&services, request, &args).await?;
    Ok(reply::ok(&json!({})))
}

async fn leave_v1(
    services: Arc<Services>,
    request: Request<ByteBody>,
    args: Vec<String>,
) -> Result<Reply> {
    leave(&services, request, &args).await?;
    Ok(reply::ok(&json!([200, {}])))
}

async fn leave(services: &Services, request: Request<ByteBody>, args: &[String]) -> Result<()> {
    let Handed { origin, room, event_id, pdu, .. } = Handed::read(services, request, args).await?;
    services.federation.take_leave(&origin.server, &room, &event_id, pdu).await
}

async fn invited(call: Call<invite_v2::Request, Origin>) -> Result<Value> {
    let body: Invite = serde_json::from_slice(&call.body)
        .map_err(|error| MatrixError::bad_json(error.to_string()))?;
    let (room, event_id) = (&call.request.room_id, call.request.event_id.as_str());
    let federation = &call.services.federation;
    let (version, shown) = (&body.room_version, &body.invite_room_state);
    let origin = &call.who.server;
    let signed = federation.take_invite(origin, room, event_id, version, body.event, shown).await?;
    Ok(json!({ "event": text(signed.json()) }))
}

async fn invited_v1(
    services: Arc<Services>,
    request: Request<ByteBody>,
    args: Vec<String>,
) -> Result<Reply> {
    #[derive(serde::Deserialize)]
    struct InvitedV1 {
        #[serde(default)]
        unsigned: Unsigned,
    }
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Unsigned {
        invite_room_state: Vec<Value>,
    }
    let Handed { origin, room, event_id, pdu, .. } =
        Handed::read(&services, request, &args).await?;
    let shown: InvitedV1 = serde_json::from_str(pdu.get())
        .map_err(|error| MatrixError::bad_json(error.to_string()))?;
    let (origin, shown) = (&origin.server, shown.unsigned.invite_room_state);
    // The first form is for rooms of the first versions, which differ in nothing that counts here.
    let version = RoomVersionId::V1;
    let federation = &services.federation;
    let signed = federation.take_invite(origin, &room, &event_id, &version, pdu, &shown).await?;
    Ok(reply::ok(&json!([200, { "event": text(signed.json()) }])))
}

#[derive(serde::Deserialize)]
struct Invite {
    room_version: RoomVersionId,
    event: Box<RawValue>,
    #[serde(default)]
    invite_room_state: Vec<Value>,
}

async fn event(call: Call<get_event::Request, Origin>) -> Result<Value> {
    let event = call.services.federation.event(&call.who.server, &call.request.event_id).await?;
    Ok(transaction_of(&call, &[event]))
}

async fn state(call: Call<room_state::Request, Origin>) -> Result<Reply> {
    let (room, event): (_, &EventId) = (&call.request.room_id, &call.request.event_id);
    let (state, chain) = call.services.federation.state(&call.who.server, room, event).await?;
    #[derive(Serialize)]
    struct State<'s> {
        auth_chain: Vec<Pdu<'s>>,
        pdus: Vec<Pdu<'s>>,
    }
    Ok(reply::ok(&State { auth_chain: pdus(&chain), pdus: pdus(&state) }))
}

async fn state_ids(call: Call<room_state_ids::Request, Origin>) -> Result<Value> {
    let (room, event): (_, &EventId) = (&call.request.room_id, &call.request.event_id);
    let (state, chain) = call.services.federation.state_ids(&call.who.server, room, event).await?;
    Ok(json!({ "pdu_ids": state, "auth_chain_ids": chain }))
}

async fn auth_chain(call: Call<event_auth::Request, Origin>) -> Result<Value> {
    let (room, event): (_, &EventId) = (&call.request.room_id, &call.request.event_id);
    let chain = call.services.federation.event_auth(&call.who.server, room, event).await?;
    Ok(json!({ "auth_chain": pdus(&chain) }))
}

async fn backfill(call: Call<get_backfill::Request, Origin>) -> Result<Value> {
    let request = &call.request;
    let limit = usize::try_from(u64::from(request.limit)).unwrap_or(usize::MAX);
    let (room, from): (_, &[OwnedEventId]) = (&request.room_id, &request.v);
    let events = call.services.federation.backfill(&call.who.server, room, from, limit).await?;
    Ok(transaction_of(&call, &events))
}

/// What lies between some events and others. What is left out is empty, so that the room may refuse first.
#[derive(serde::Deserialize)]
#[serde(default)]
struct Missing {
    earliest_events: Vec<OwnedEventId>,
    latest_events: Vec<OwnedEventId>,
    limit: usize,
    min_depth: u64,
}

impl Default for Missing {
    fn default() -> Self {
        // The limit is the specification's.
        Self { earliest_events: Vec::new(), latest_events: Vec::new(), limit: 10, min_depth: 0 }
    }
}

async fn missing(
    services: Arc<Services>,
    request: Request<ByteBody>,
    args: Vec<String>,
) -> Result<Reply> {
    let (origin, _, body) = signed(&services, request, QUESTION_BYTES_MAX).await?;
    let Missing { earliest_events, latest_events, limit, min_depth } =
        serde_json::from_slice(&body).map_err(|error| MatrixError::bad_json(error.to_string()))?;
    let (room, bounds) = (named(&args)?, (limit, min_depth));
    let (federation, origin) = (&services.federation, &origin.server);
    let events =
        federation.missing_events(origin, &room, &earliest_events, &latest_events, bounds).await?;
    Ok(reply::ok(&json!({ "events": pdus(&events) })))
}

async fn at_time(call: Call<event_at_time::Request, Origin>) -> Result<Value> {
    let event_at_time::Request { room_id, ts, dir, .. } = &call.request;
    let (federation, origin) = (&call.services.federation, &call.who.server);
    let when = (i64::try_from(u64::from(ts.0)).unwrap_or(i64::MAX), direction(*dir));
    let (event_id, origin_server_ts) = federation.at_time(origin, room_id, when).await?;
    Ok(json!({ "event_id": event_id, "origin_server_ts": origin_server_ts }))
}

/// Renders events in the form of a transaction.
fn transaction_of<R>(call: &Call<R, Origin>, events: &[Arc<RoomEvent>]) -> Value {
    let context = &call.services.context;
    json!({
        "origin": context.server_name,
        "origin_server_ts": context.now_ms(),
        "pdus": pdus(events),
    })
}

fn pdus(events: &[Arc<RoomEvent>]) -> Vec<Pdu<'_>> {
    events.iter().map(|event| Pdu(event)).collect()
}

fn text(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_default()
}

fn raw(body: &Bytes) -> Result<Box<RawValue>, MatrixError> {
    serde_json::from_slice(body).map_err(|error| MatrixError::bad_json(error.to_string()))
}
