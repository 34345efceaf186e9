//! What one room wants written.

use std::sync::Arc;

use colonnade_model::{
    nid::{EventNid, RoomNid, StateKeyNid, StateNid, TypeNid, UserNid},
    ruma::{OwnedEventId, OwnedRoomAliasId, OwnedServerName},
};
use colonnade_rules::{push::PushOutcome, trie::NewState};

use crate::{
    quota::Quota,
    rooms::{
        client_txns::ClientTxn, events::EventFlags, heads::Head, members::Membership,
        summaries::Summary,
    },
};

/// What one room wants written.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The room.
    pub room: RoomNid,
    /// The room's slot.
    pub slot: u16,
    /// Since which epoch this process has owned the slot, when the room was read. A room that is new
    /// needs no owner: nobody else can write to it, for its id is not taken twice.
    pub ownership_epoch: i64,
    /// The room itself, if it is new.
    pub create: Option<NewRoom>,
    /// New states, in the order in which they were made.
    pub states: Vec<NewState>,
    /// New events, in the order in which they happened.
    pub events: Vec<NewEvent>,
    /// Where the room stands afterwards; its `last_pos` is filled in here. `None` while only outliers
    /// of it are known.
    pub head: Option<Head>,
    /// What the room shows, if that changed.
    pub summary: Option<Summary>,
    /// What must hold then.
    pub demands: Vec<Demand>,
}

/// A room to be created.
#[derive(Debug, Clone)]
pub struct NewRoom {
    /// Its id.
    pub room_id: String,
    /// Its version.
    pub version: String,
    /// When, in milliseconds since 1970.
    pub created_ts: i64,
    /// An alias that must be free; a taken one is a `Conflict`.
    pub alias: Option<NewAlias>,
    /// The room it replaces, and the tombstone that one had before; a second successor beside the
    /// same tombstone is a `Conflict`.
    pub replaces: Option<(RoomNid, Option<EventNid>)>,
}

/// An alias of a room to be created.
#[derive(Debug, Clone)]
pub struct NewAlias {
    /// The alias.
    pub alias: OwnedRoomAliasId,
    /// Who makes it.
    pub creator: UserNid,
    /// How many that user may make.
    pub quota: Quota,
}

/// An event to be stored.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Its local id, greater than those of its auth events and previous events.
    pub nid: EventNid,
    /// Its id.
    pub event_id: String,
    /// Its type.
    pub event_type: TypeNid,
    /// Who sent it.
    pub sender: UserNid,
    /// Its type and state key, if it is a state event.
    pub state_key_nid: Option<StateKeyNid>,
    /// Its depth.
    pub depth: i64,
    /// When its sender's server says it was sent, in milliseconds since 1970.
    pub origin_ts: i64,
    /// When it came, in milliseconds since 1970.
    pub received_ts: i64,
    /// What else is known about it.
    pub flags: EventFlags,
    /// The state before it.
    pub state_before: Option<StateNid>,
    /// The state after it.
    pub state_after: Option<StateNid>,
    /// The events it follows, those that are known.
    pub prevs: Vec<EventNid>,
    /// The events it follows that are not known here.
    pub missing_prevs: Vec<OwnedEventId>,
    /// Its timeline key, if it is of the past and was not live here.
    pub history_key: Option<i64>,
    /// It is stored as an outlier, and becomes part of the room.
    pub was_outlier: bool,
    /// The events that allow it.
    pub auths: Vec<EventNid>,
    /// Its canonical JSON.
    pub json: Arc<str>,
    /// The client's name for the request that sent it.
    pub txn: Option<ClientTxn>,
    /// What it relates to.
    pub relation: Option<Relation>,
    /// What it redacts, by id: also if that is not known.
    pub redacts: Option<String>,
    /// The event it redacts, if that takes effect now.
    pub redaction: Option<Redaction>,
    /// What it means as a live event; `None` if clients do not see it.
    pub live: Option<Live>,
}

/// What an event relates to.
#[derive(Debug, Clone)]
pub struct Relation {
    /// The event it relates to.
    pub parent: EventNid,
    /// How.
    pub rel_type: String,
    /// The key of an annotation.
    pub key: Option<String>,
}

/// A redaction that takes effect.
#[derive(Debug, Clone)]
pub struct Redaction {
    /// The redacted event.
    pub target: EventNid,
    /// What is left of its JSON.
    pub json: Arc<str>,
}

/// What an event means as a live one.
#[derive(Debug, Clone)]
pub struct Live {
    /// Its timeline key; `None` of a membership that is not part of the room as it is known here.
    pub timeline_key: Option<i64>,
    /// What it means to users with the default push rules.
    pub outcome: PushOutcome,
    /// Cumulative notifying events of the room, this one included.
    pub notif_seq: i64,
    /// Cumulative notifying events outside threads.
    pub unthreaded_seq: i64,
    /// Cumulative highlights.
    pub highlight_seq: i64,
    /// The root of the thread it is in.
    pub thread: Option<EventNid>,
    /// The room's current state after it, if that changed.
    pub state: Option<StateNid>,
    /// Memberships that became current with it.
    pub members: Vec<NewMember>,
    /// Other servers whose number of joined members it changes, and by how many.
    pub servers: Vec<(OwnedServerName, i64)>,
    /// Another server, an invitation or knock of whose user it ends.
    pub ends_at: Option<OwnedServerName>,
    /// What another server shows its user of the room, a JSON array of stripped state.
    pub stripped: Option<(UserNid, String)>,
    /// Users to whom it means something else, and what.
    pub user_outcomes: Vec<(UserNid, PushOutcome)>,
}

/// A membership that becomes current.
#[derive(Debug, Clone)]
pub struct NewMember {
    /// The user.
    pub user: UserNid,
    /// The membership.
    pub membership: Membership,
    /// The member event.
    pub event: EventNid,
    /// Who sent it.
    pub sender: UserNid,
    /// The name in the room.
    pub display_name: Option<String>,
    /// The picture in the room.
    pub avatar_url: Option<String>,
}

/// What must hold once a batch is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Demand {
    /// A user is in, or knocks at, no more rooms than this.
    Rooms {
        /// The user.
        user: UserNid,
        /// How many.
        quota: Quota,
    },
    /// No more invitations wait for a user than this.
    Invitations {
        /// Who is invited.
        user: UserNid,
        /// How many in all.
        all: Quota,
        /// By whom.
        sender: UserNid,
        /// How many of that sender.
        of_sender: Quota,
    },
    /// These aliases, each named once, point to the room, and do until the commit.
    Aliases(Vec<String>),
}
