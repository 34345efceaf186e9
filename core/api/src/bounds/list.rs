//! The list: every endpoint that writes, area by area, by its newest path.

use colonnade_users::limits::Class;
use http::Method;

use super::kinds::{
    Bounds,
    Owner::{self, Held, Nothing, Settings},
    Rate::{self, Address, Each, Free, Inside},
};

const PUT: Method = Method::PUT;
const POST: Method = Method::POST;
const DELETE: Method = Method::DELETE;

const ENDS: Rate = Free("ends sessions; who has stolen a token must not keep its owner from it");
const ACCOUNT_DATA: Owner = Settings(&["account_data_items_max", "account_data_bytes_max"]);
const PUSH_RULES: Owner = Held("2,000 rules, 512 KiB for all of them");
const INBOX: Owner = Settings(&[
    "to_device_items_max",
    "to_device_bytes_max",
    "to_device_sender_items_max",
    "to_device_sender_bytes_max",
]);
const BACKUP: Owner = Settings(&["backup_versions_max", "backup_keys_max", "backup_bytes_max"]);
const HISTORY: Owner =
    Held("the room's history, which is what the server is for; its rate is the bound");
const MEMBERSHIP: Owner = Settings(&["rooms_max"]);
const LEFT: Owner = Held("one membership per user and room");
const RECEIPTS: Owner = Settings(&["receipt_threads_max"]);
const REPORTS: Owner = Settings(&["reports_max", "reports_bytes_max"]);
const MEDIA: Owner = Settings(&["media_files_max", "media_bytes_max"]);
const BODY: &str = "a body of 4 MiB";
const EVENT: &str = "an event of 64 KiB";

const fn row(
    method: Method,
    path: &'static str,
    rate: Rate,
    item: &'static str,
    owner: Owner,
) -> Bounds {
    Bounds { method, path, rate, item, owner }
}

/// What adds an event to a room.
const fn message(method: Method, path: &'static str) -> Bounds {
    row(method, path, Each(Class::Message), EVENT, HISTORY)
}

/// The bounds of every endpoint that writes.
pub(super) static ALL: &[Bounds] = &[
    // === Accounts and sessions ===
    row(
        POST,
        "/_matrix/client/v3/register",
        Inside(Class::Registration, "per address"),
        BODY,
        Held("one account each"),
    ),
    row(
        POST,
        "/_synapse/admin/v1/register",
        Inside(Class::Registration, "per address"),
        BODY,
        Held("one account each; asks for the shared secret"),
    ),
    row(
        POST,
        "/_matrix/client/v3/register/email/requestToken",
        Address(Class::Other),
        BODY,
        Nothing,
    ),
    row(
        POST,
        "/_matrix/client/v3/register/msisdn/requestToken",
        Address(Class::Other),
        BODY,
        Nothing,
    ),
    row(
        POST,
        "/_matrix/client/v3/account/password/email/requestToken",
        Address(Class::Other),
        BODY,
        Nothing,
    ),
    row(
        POST,
        "/_matrix/client/v3/account/password/msisdn/requestToken",
        Address(Class::Other),
        BODY,
        Nothing,
    ),
    row(
        POST,
        "/_matrix/client/v3/account/3pid/email/requestToken",
        Address(Class::Other),
        BODY,
        Nothing,
    ),
    row(
        POST,
        "/_matrix/client/v3/account/3pid/msisdn/requestToken",
        Address(Class::Other),
        BODY,
        Nothing,
    ),
    row(
        POST,
        "/_matrix/client/v3/login",
        Inside(Class::Login, "per address and account"),
        "a device id of 255 bytes, a name of 100",
        Settings(&["devices_max"]),
    ),
    row(
        POST,
        "/_matrix/client/v1/login/get_token",
        Each(Class::Other),
        "one token of two minutes",
        Settings(&["login_tokens_max"]),
    ),
    row(
        POST,
        "/_matrix/client/v3/refresh",
        Address(Class::Other),
        BODY,
        Held("two tokens of each kind per device"),
    ),
    row(POST, "/_matrix/client/v3/logout", ENDS, BODY, Nothing),
    row(POST, "/_matrix/client/v3/logout/all", ENDS, BODY, Nothing),
    row(
        POST,
        "/_matrix/client/v3/account/password",
        Inside(Class::Login, "wrong passwords, per user"),
        "a password of 512 bytes",
        Held("one password per account"),
    ),
    row(
        POST,
        "/_matrix/client/v3/account/deactivate",
        Inside(Class::Login, "wrong passwords, per user"),
        BODY,
        Nothing,
    ),
    row(
        POST,
        "/_matrix/client/v3/user/{userId}/openid/request_token",
        Each(Class::Other),
        "one token of an hour",
        Settings(&["openid_tokens_max"]),
    ),
    row(POST, "/_matrix/client/v3/account/3pid/add", Each(Class::Other), BODY, Nothing),
    row(POST, "/_matrix/client/v3/account/3pid/bind", Each(Class::Other), BODY, Nothing),
    row(POST, "/_matrix/client/v3/account/3pid/delete", Each(Class::Other), BODY, Nothing),
    row(POST, "/_matrix/client/v3/account/3pid/unbind", Each(Class::Other), BODY, Nothing),
    row(
        PUT,
        "/_matrix/client/v3/devices/{deviceId}",
        Each(Class::Other),
        "a name of 100 bytes",
        Settings(&["devices_max"]),
    ),
    row(DELETE, "/_matrix/client/v3/devices/{deviceId}", ENDS, BODY, Nothing),
    row(POST, "/_matrix/client/v3/delete_devices", ENDS, "1,000 devices", Nothing),
    // === What a user keeps here ===
    row(
        PUT,
        "/_matrix/client/v3/user/{userId}/account_data/{type}",
        Each(Class::Other),
        "a content of 512 KiB, a type of 255 bytes",
        ACCOUNT_DATA,
    ),
    row(
        PUT,
        "/_matrix/client/v3/user/{userId}/rooms/{roomId}/account_data/{type}",
        Each(Class::Other),
        "a content of 512 KiB, a type of 255 bytes",
        ACCOUNT_DATA,
    ),
    row(
        DELETE,
        "/_matrix/client/unstable/org.matrix.msc3391/user/{userId}/account_data/{type}",
        Each(Class::Other),
        BODY,
        ACCOUNT_DATA,
    ),
    row(
        DELETE,
        "/_matrix/client/unstable/org.matrix.msc3391/user/{userId}/rooms/{roomId}/account_data/{type}",
        Each(Class::Other),
        BODY,
        ACCOUNT_DATA,
    ),
    row(
        PUT,
        "/_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag}",
        Each(Class::Other),
        "all tags of a room 512 KiB, one 255 bytes",
        ACCOUNT_DATA,
    ),
    row(
        DELETE,
        "/_matrix/client/v3/user/{userId}/rooms/{roomId}/tags/{tag}",
        Each(Class::Other),
        BODY,
        Nothing,
    ),
    row(
        POST,
        "/_matrix/client/v3/user/{userId}/filter",
        Each(Class::Other),
        "a filter of 64 KiB",
        Settings(&["filters_max", "filters_bytes_max"]),
    ),
    row(
        PUT,
        "/_matrix/client/v3/profile/{userId}/{field}",
        Each(Class::Other),
        "a name of 255 bytes",
        Held("64 KiB for the whole profile, as the specification says"),
    ),
    row(DELETE, "/_matrix/client/v3/profile/{userId}/{field}", Each(Class::Other), BODY, Nothing),
    row(
        Method::PATCH,
        "/_matrix/client/v3/profile/{userId}",
        Each(Class::Other),
        "names of 255 bytes",
        Held("64 KiB for the whole profile, as the specification says"),
    ),
    row(
        PUT,
        "/_matrix/client/v3/presence/{userId}/status",
        Each(Class::Other),
        "a status of 1,024 bytes",
        Held("one status per user, in memory"),
    ),
    row(
        PUT,
        "/_matrix/client/v3/pushrules/global/{kind}/{ruleId}",
        Each(Class::Other),
        "an id of 255 bytes",
        PUSH_RULES,
    ),
    row(
        PUT,
        "/_matrix/client/v3/pushrules/global/{kind}/{ruleId}/actions",
        Each(Class::Other),
        "an id of 255 bytes",
        PUSH_RULES,
    ),
    row(
        PUT,
        "/_matrix/client/v3/pushrules/global/{kind}/{ruleId}/enabled",
        Each(Class::Other),
        "an id of 255 bytes",
        PUSH_RULES,
    ),
    row(
        DELETE,
        "/_matrix/client/v3/pushrules/global/{kind}/{ruleId}",
        Each(Class::Other),
        BODY,
        Nothing,
    ),
    row(
        POST,
        "/_matrix/client/v3/pushers/set",
        Each(Class::Other),
        "a pusher of 8 KiB",
        Settings(&["pushers_max"]),
    ),
    // === Administration ===
    row(PUT, "/_matrix/client/v1/admin/lock/{user_id}", Each(Class::Other), BODY, Nothing),
    row(PUT, "/_matrix/client/v1/admin/suspend/{user_id}", Each(Class::Other), BODY, Nothing),
    // === Encryption ===
    row(
        POST,
        "/_matrix/client/v3/keys/upload",
        Each(Class::Other),
        "1,000 keys of 8 KiB, device keys of 32 KiB",
        Settings(&["one_time_keys_max", "one_time_keys_bytes_max"]),
    ),
    row(POST, "/_matrix/client/v3/keys/query", Each(Class::Other), BODY, Nothing),
    row(
        POST,
        "/_matrix/client/v3/keys/claim",
        Each(Class::Other),
        "20,000 claims; the fallback key beyond `rate_limits.claim` per claimer and device",
        Held("the last keys given out, per device"),
    ),
    row(
        POST,
        "/_matrix/client/v3/keys/device_signing/upload",
        Each(Class::Other),
        "three keys of 64 KiB",
        Held("three keys per user"),
    ),
    row(
        POST,
        "/_matrix/client/v3/keys/signatures/upload",
        Each(Class::Other),
        "1,000 objects of 64 KiB",
        Settings(&["signatures_max"]),
    ),
    row(
        PUT,
        "/_matrix/client/v3/sendToDevice/{eventType}/{txnId}",
        Each(Class::Message),
        "20,000 messages of 64 KiB",
        INBOX,
    ),
    row(
        POST,
        "/_matrix/client/v3/room_keys/version",
        Each(Class::Other),
        "64 KiB that describe it",
        BACKUP,
    ),
    row(
        PUT,
        "/_matrix/client/v3/room_keys/version/{version}",
        Each(Class::Other),
        "64 KiB that describe it",
        BACKUP,
    ),
    row(
        DELETE,
        "/_matrix/client/v3/room_keys/version/{version}",
        Each(Class::Other),
        BODY,
        Nothing,
    ),
    row(
        PUT,
        "/_matrix/client/v3/room_keys/keys",
        Each(Class::Other),
        "a body of 32 MiB, keys of 16 KiB",
        BACKUP,
    ),
    row(
        PUT,
        "/_matrix/client/v3/room_keys/keys/{roomId}",
        Each(Class::Other),
        "a body of 32 MiB, keys of 16 KiB",
        BACKUP,
    ),
    row(
        PUT,
        "/_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}",
        Each(Class::Other),
        "a key of 16 KiB",
        BACKUP,
    ),
    row(DELETE, "/_matrix/client/v3/room_keys/keys", Each(Class::Other), BODY, Nothing),
    row(DELETE, "/_matrix/client/v3/room_keys/keys/{roomId}", Each(Class::Other), BODY, Nothing),
    row(
        DELETE,
        "/_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}",
        Each(Class::Other),
        BODY,
        Nothing,
    ),
    // === Rooms ===
    row(
        POST,
        "/_matrix/client/v3/createRoom",
        Each(Class::Join),
        "100 invites, 200 state events",
        HISTORY,
    ),
    message(PUT, "/_matrix/client/v3/rooms/{roomId}/send/{eventType}/{txnId}"),
    message(POST, "/_matrix/client/v3/rooms/{roomId}/send/{eventType}"),
    message(PUT, "/_matrix/client/v3/rooms/{roomId}/state/{eventType}"),
    message(PUT, "/_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}"),
    message(PUT, "/_matrix/client/v3/rooms/{roomId}/redact/{eventId}/{txnId}"),
    message(POST, "/_matrix/client/v3/rooms/{roomId}/redact/{eventId}"),
    row(
        POST,
        "/_matrix/client/v3/rooms/{roomId}/upgrade",
        Each(Class::Join),
        "1,000 bans are taken along",
        HISTORY,
    ),
    row(POST, "/_matrix/client/v3/rooms/{roomId}/join", Each(Class::Join), EVENT, MEMBERSHIP),
    row(POST, "/_matrix/client/v3/join/{roomIdOrAlias}", Each(Class::Join), EVENT, MEMBERSHIP),
    row(POST, "/_matrix/client/v3/knock/{roomIdOrAlias}", Each(Class::Join), EVENT, MEMBERSHIP),
    row(
        POST,
        "/_matrix/client/v3/rooms/{roomId}/invite",
        Each(Class::Join),
        EVENT,
        Settings(&["invites_max", "invites_sender_max"]),
    ),
    row(POST, "/_matrix/client/v3/rooms/{roomId}/leave", Each(Class::Message), EVENT, LEFT),
    row(POST, "/_matrix/client/v3/rooms/{roomId}/kick", Each(Class::Message), EVENT, LEFT),
    row(POST, "/_matrix/client/v3/rooms/{roomId}/ban", Each(Class::Message), EVENT, LEFT),
    row(POST, "/_matrix/client/v3/rooms/{roomId}/unban", Each(Class::Message), EVENT, LEFT),
    row(POST, "/_matrix/client/v3/rooms/{roomId}/forget", Each(Class::Message), BODY, Nothing),
    row(
        PUT,
        "/_matrix/client/v3/directory/room/{roomAlias}",
        Each(Class::Other),
        "an alias of 255 bytes",
        Settings(&["aliases_max"]),
    ),
    row(DELETE, "/_matrix/client/v3/directory/room/{roomAlias}", Each(Class::Other), BODY, Nothing),
    row(
        PUT,
        "/_matrix/client/v3/directory/list/room/{roomId}",
        Each(Class::Other),
        BODY,
        Held("one mark per room"),
    ),
    row(
        POST,
        "/_matrix/client/v3/rooms/{roomId}/receipt/{receiptType}/{eventId}",
        Each(Class::Other),
        BODY,
        RECEIPTS,
    ),
    row(POST, "/_matrix/client/v3/rooms/{roomId}/read_markers", Each(Class::Other), BODY, RECEIPTS),
    row(
        PUT,
        "/_matrix/client/v3/rooms/{roomId}/typing/{userId}",
        Each(Class::Other),
        BODY,
        Held("200 per room, in memory"),
    ),
    row(
        POST,
        "/_matrix/client/v3/rooms/{roomId}/report",
        Each(Class::Other),
        "a reason of 10,000 bytes",
        REPORTS,
    ),
    row(
        POST,
        "/_matrix/client/v3/rooms/{roomId}/report/{eventId}",
        Each(Class::Other),
        "a reason of 10,000 bytes",
        REPORTS,
    ),
    row(
        POST,
        "/_matrix/client/v3/users/{userId}/report",
        Each(Class::Other),
        "a reason of 10,000 bytes",
        REPORTS,
    ),
    // === Files ===
    row(
        POST,
        "/_matrix/media/v1/create",
        Each(Class::Media),
        "one id of a day",
        Held("20 ids without content"),
    ),
    row(POST, "/_matrix/media/v3/upload", Each(Class::Media), "`media.upload_bytes_max`", MEDIA),
    row(
        PUT,
        "/_matrix/media/v3/upload/{serverName}/{mediaId}",
        Each(Class::Media),
        "`media.upload_bytes_max`",
        MEDIA,
    ),
    // === Searches, which write nothing and cost as much ===
    row(
        POST,
        "/_matrix/client/v4/sync",
        Free("reads, as `/sync` does"),
        "256 KiB; 100 lists, 500 rooms",
        Held("8 connections of a device, in memory"),
    ),
    row(
        POST,
        "/_matrix/client/v3/publicRooms",
        Each(Class::Other),
        "a term of 255 bytes, 500 rooms a page",
        Nothing,
    ),
    row(
        POST,
        "/_matrix/client/v3/search",
        Inside(Class::Other, "per user"),
        "50 words, 100 results a page",
        Nothing,
    ),
    row(
        POST,
        "/_matrix/client/v3/user_directory/search",
        Each(Class::Other),
        "20 words, 50 results",
        Nothing,
    ),
];
