//! The list of what other servers ask that writes, or costs as much, by its newest path. All that is signed counts
//! in the class `federation`, by the server that signed it.

use colonnade_users::limits::Class;
use http::Method;

use super::kinds::{
    Bounds,
    Owner::{self, Held, Nothing},
    Rate::{self, Inside},
};

const fn row(
    method: Method,
    path: &'static str,
    rate: Rate,
    item: &'static str,
    owner: Owner,
) -> Bounds {
    Bounds { method, path, rate, item, owner }
}

/// What a server signs and sends.
const fn signed(method: Method, path: &'static str, item: &'static str, owner: Owner) -> Bounds {
    row(method, path, Inside(Class::Federation, "per server"), item, owner)
}

const ROOM: Owner = Held("the history of a room that this server is in; its rate is the bound");
const INVITED: Owner =
    Held("one membership for each user and room, 512 KiB of shown state with it");
const EVENT: &str = "an event of 64 KiB in a body of 512 KiB";

/// The bounds of every endpoint of other servers that writes.
pub(super) static ALL: &[Bounds] = &[
    row(
        Method::POST,
        "/_matrix/key/v2/query",
        Inside(Class::Stranger, "per address"),
        "100 servers, 8 KiB",
        Nothing,
    ),
    signed(
        Method::PUT,
        "/_matrix/federation/v1/send/{transaction_id}",
        "50 PDUs and 100 EDUs in 8 MiB; one at a time from each server",
        Held("the history of rooms that this server is in, and the answer for a week"),
    ),
    signed(Method::PUT, "/_matrix/federation/v2/send_join/{room_id}/{event_id}", EVENT, ROOM),
    signed(Method::PUT, "/_matrix/federation/v1/send_knock/{room_id}/{event_id}", EVENT, ROOM),
    signed(Method::PUT, "/_matrix/federation/v2/send_leave/{room_id}/{event_id}", EVENT, ROOM),
    signed(Method::PUT, "/_matrix/federation/v2/invite/{room_id}/{event_id}", EVENT, INVITED),
    signed(
        Method::PUT,
        "/_matrix/federation/v1/exchange_third_party_invite/{room_id}",
        "an invitation in 64 KiB",
        ROOM,
    ),
    row(
        Method::PUT,
        "/_matrix/federation/v1/3pid/onbind",
        Inside(Class::Stranger, "per address"),
        "20 invitations in 64 KiB",
        INVITED,
    ),
    row(
        Method::POST,
        "/_matrix/federation/v1/3pid/onbind",
        Inside(Class::Stranger, "per address"),
        "20 invitations in 64 KiB",
        INVITED,
    ),
    signed(
        Method::POST,
        "/_matrix/federation/v1/get_missing_events/{room_id}",
        "20 events",
        Nothing,
    ),
    signed(
        Method::POST,
        "/_matrix/federation/v1/publicRooms",
        "a term of 255 bytes, 500 rooms a page",
        Nothing,
    ),
    signed(Method::POST, "/_matrix/federation/v1/user/keys/query", "10,000 names, 1 MiB", Nothing),
    signed(
        Method::POST,
        "/_matrix/federation/v1/user/keys/claim",
        "20,000 keys, 1 MiB",
        Held("keys that are given out once; many of one device are its fallback key"),
    ),
];
