//! `docs/limits.md`: how every endpoint that writes is bounded, what the settings say, and what bounds
//! each table of the database. Written from `core/api/src/bounds/list.rs`, the settings and [`TABLES`].

use std::{fmt::Write as _, fs, path::Path};

use colonnade_api::{
    bounds::{self, Bounds, Owner, Rate},
    routes,
};
use colonnade_rooms::{Settings, settings};
use colonnade_users::limits::Class;

use super::golden;

/// Every table: whose rows they are, and what bounds them. `limits.x` names a setting.
const TABLES: &[(&str, &str, &str)] = &[
    ("access_tokens", "device", "two per device: the newest, and the one it replaces"),
    ("account_data", "user", "limits.account_data_items_max, limits.account_data_bytes_max"),
    ("accounts", "server", "one per registration, which is rated per address"),
    (
        "backup_keys",
        "user",
        "limits.backup_keys_max, limits.backup_bytes_max; those of a deleted version count until they \
         are gone",
    ),
    ("backup_sizes", "user", "one per backup version"),
    ("backup_versions", "user", "limits.backup_versions_max, and the newest deleted one"),
    ("chores", "server", "one per kind of chore"),
    ("client_txns", "device", "forgotten after a day; one per event sent, at the rate `message`"),
    ("cluster", "server", "a few settings of the deployment"),
    ("cross_signing_keys", "user", "three of 64 KiB"),
    (
        "destination_members",
        "other server",
        "one per invitation of a user of it that was taken back, until it is told",
    ),
    (
        "destination_outbox",
        "other server",
        "10,000 messages to its devices, given up after 30 days",
    ),
    ("destination_positions", "other server", "one per stream and server that shared a room"),
    ("destinations", "other server", "one per server that was ever asked and not reached"),
    (
        "device_changes",
        "user and who is told",
        "the newest, and at the rate `other` those of the last hour",
    ),
    ("device_keys", "device", "one of 32 KiB"),
    ("device_list_heads", "user", "one per user"),
    ("devices", "user", "limits.devices_max"),
    (
        "early_events",
        "other server",
        "100 of one server in a room that is being entered, the newest; 1,000 in a room; an hour",
    ),
    ("entering_rooms", "user who joins", "gone when the join ends, or after an hour"),
    ("event_json", "room", "history, at the rate `message`; 64 KiB each"),
    ("event_stream", "room", "history, at the rate `message`"),
    ("event_types", "server", "history: one per type of event in use"),
    ("event_words", "room", "history: at most 1,000 words of an event"),
    ("events", "room", "history, at the rate `message`"),
    ("fallback_keys", "device", "16, one per algorithm"),
    ("filters", "user", "limits.filters_max, limits.filters_bytes_max"),
    ("followers", "server", "one per follower of the stream"),
    ("inbound_messages", "other server", "forgotten after a week; 100 in a transaction"),
    ("inbound_transactions", "other server", "forgotten after a week; one at a time from each"),
    ("incarnations", "server", "one per start of a process"),
    ("invite_states", "user", "one per room he is invited to or knocks at, 128 KiB"),
    ("issued_keys", "device", "the newest 500"),
    ("key_signatures", "user who signs", "limits.signatures_max"),
    ("login_addresses", "user", "30, the newest"),
    ("login_tokens", "user", "limits.login_tokens_max"),
    ("media", "user", "limits.media_files_max, limits.media_bytes_max; 20 ids without content"),
    ("member_log", "room", "history, at the rates `join` and `message`"),
    ("missing_prevs", "room", "20 per event that came after a gap"),
    ("nid_blocks", "server", "one per kind of number"),
    (
        "one_time_keys",
        "device",
        "limits.one_time_keys_max, limits.one_time_keys_bytes_max; 16 algorithms",
    ),
    ("openid_tokens", "user", "limits.openid_tokens_max"),
    ("pool_slots", "server", "1,024 per pool"),
    ("profiles", "user", "64 KiB for the whole profile"),
    (
        "push_exceptions",
        "user and room",
        "what is unread: at most one per event and member; what was read is forgotten within an hour",
    ),
    ("push_positions", "server", "one per shard of users, 32"),
    ("pushers", "user", "limits.pushers_max, of 8 KiB each"),
    ("receipts", "user and room", "limits.receipt_threads_max"),
    ("redacted_notifications", "room", "history: one per event that was redacted"),
    ("redactions", "room", "history, at the rate `message`"),
    ("refresh_tokens", "device", "two per device"),
    ("registration_tokens", "server", "one per token of the configuration that was used"),
    ("relations", "room", "history: one per event"),
    ("remote_device_lists", "user of another server", "one per user whose devices were asked for"),
    ("remote_devices", "user of another server", "2,000 of 32 KiB"),
    ("remote_media", "other server", "`media.remote_bytes_max` for all together"),
    ("remote_media_size", "server", "one"),
    ("reports", "user who reports", "limits.reports_max, limits.reports_bytes_max"),
    ("retired_signing_keys", "server", "one per change of the signing key"),
    ("room_aliases", "user who made them", "limits.aliases_max; 255 bytes each"),
    ("room_heads", "room", "one"),
    (
        "room_members",
        "user and room",
        "one; in or knocking: limits.rooms_max; invitations that wait: limits.invites_max, \
         limits.invites_sender_max",
    ),
    ("room_servers", "room", "one per server that was ever in it"),
    ("room_state_log", "room", "history, one per change of state"),
    ("room_states", "room", "history, one per change of state"),
    ("room_successors", "room", "one per room that replaces it, at the rate `join`"),
    ("room_summary", "room", "one"),
    ("rooms", "server", "one per room made, at the rate `join`"),
    ("server_key_answers", "other server", "the newest, of 64 KiB"),
    ("server_key_answers_by_key", "other server", "16, of 64 KiB"),
    (
        "server_keys",
        "other server",
        "100 per answer, of 32 bytes; kept to verify what was signed with them",
    ),
    ("settings", "server", "a few settings of the server"),
    ("state_keys", "room", "history: one per key of the state"),
    ("stream_positions", "server", "one per stream"),
    ("thread_participants", "room", "history: at most one per event"),
    ("threads", "room", "history: at most one per event"),
    (
        "to_device",
        "device",
        "limits.to_device_items_max, limits.to_device_bytes_max; of one sender: \
         limits.to_device_sender_items_max, limits.to_device_sender_bytes_max",
    ),
    ("to_device_inboxes", "device", "one"),
    (
        "to_device_txns",
        "device",
        "forgotten after a day, whether the device still sends or not; at the rate `message`",
    ),
    (
        "uia_sessions",
        "user or address",
        "50 of a user, 500 of an address, the newest; 50,000 of all addresses; a quarter of an hour",
    ),
    ("user_words", "user", "20 words of 64 bytes"),
    ("users", "server", "one per user that was ever named in an event"),
    ("writers", "server", "one per writer"),
];

fn rate(rate: Rate) -> String {
    match rate {
        Rate::Each(class) => name(class).to_owned(),
        Rate::Address(class) => format!("{}, per address", name(class)),
        Rate::Inside(class, how) => format!("{}, {how}", name(class)),
        Rate::Free(why) => format!("none: {why}"),
    }
}

fn name(class: Class) -> &'static str {
    match class {
        Class::Login => "`login`",
        Class::Registration => "`registration`",
        Class::Message => "`message`",
        Class::Join => "`join`",
        Class::Media => "`media`",
        Class::Claim => "`claim`",
        Class::Other => "`other`",
        Class::Stranger => "`stranger`",
        Class::Federation => "`federation`",
    }
}

fn owner(owner: Owner) -> String {
    match owner {
        Owner::Settings(keys) => {
            let keys = keys.iter().map(|key| format!("`limits.{key}`"));
            keys.collect::<Vec<_>>().join(", ")
        }
        Owner::Held(how) => how.to_owned(),
        Owner::Nothing => "keeps nothing".to_owned(),
    }
}

/// Every `limits.…` setting with its default.
fn defaults() -> Vec<(String, u64)> {
    let limits = serde_json::to_value(settings::OwnerLimits::default()).unwrap();
    let limits = limits.as_object().unwrap().iter();
    let mut all: Vec<_> = limits.map(|(k, v)| (k.clone(), v.as_u64().unwrap())).collect();
    all.sort();
    all
}

#[test]
fn docs_limits_md_says_how_everything_is_bounded() {
    let mut text = String::from(
        "# Limits\n\nGenerated by `core/tests/it/conformance/limits.rs` from \
         `core/api/src/bounds/list.rs`, the settings and the migrations.\n\n\
         A request counts against its *rate* class (`rate_limits` in colonnade.yaml), per user once \
         somebody is logged in, before its body is read. *Item* is what one request may bring, \
         *owner* what its owner may keep: beyond it the answer is 413 `M_TOO_LARGE` for bytes and 403 \
         `M_FORBIDDEN` for numbers, with the name of the setting; deleting always works.\n\n\
         ## Endpoints\n\n| Method | Path | Rate | Item | Owner |\n|---|---|---|---|---|\n",
    );
    for Bounds { method, path, rate: how_often, item, owner: whose } in bounds::all() {
        let (how_often, whose) = (rate(*how_often), owner(*whose));
        writeln!(text, "| {method} | `{path}` | {how_often} | {item} | {whose} |").unwrap();
    }
    let rates = serde_json::to_value(Settings::default().rate_limits).unwrap();
    text.push_str("\n## Rates\n\n| Setting | Per second | At once |\n|---|---|---|\n");
    for (class, rate) in rates.as_object().unwrap().iter().filter(|(_, rate)| rate.is_object()) {
        let (per_second, burst) = (&rate["per_second"], &rate["burst"]);
        writeln!(text, "| `rate_limits.{class}` | {per_second} | {burst} |").unwrap();
    }
    text.push_str("\n## Owners\n\n| Setting | Default |\n|---|---|\n");
    for (key, default) in defaults() {
        writeln!(text, "| `limits.{key}` | {default} |").unwrap();
    }
    text.push_str("\n## Tables\n\n| Table | Owner | Bound |\n|---|---|---|\n");
    for (table, owner, bound) in TABLES {
        writeln!(text, "| {table} | {owner} | {bound} |").unwrap();
    }
    golden("limits.md", &text);
}

#[test]
fn every_endpoint_that_writes_is_bounded() {
    let routes = routes::all().routes;
    let unbounded = routes.iter().filter(|route| {
        bounds::is_bounded(&route.method) && bounds::of(&route.method, &route.path).is_none()
    });
    let unbounded: Vec<_> = unbounded.map(|route| (&route.method, &route.path)).collect();
    assert!(unbounded.is_empty(), "not in core/api/src/bounds/list.rs: {unbounded:#?}");
    let is_mounted = |wanted: &&Bounds| {
        let found = routes.iter().filter_map(|route| bounds::of(&route.method, &route.path));
        found.into_iter().any(|found| std::ptr::eq(found, *wanted))
    };
    let idle = bounds::all().filter(|bounds| !is_mounted(bounds));
    let idle: Vec<_> = idle.map(|bounds| (&bounds.method, bounds.path)).collect();
    assert!(idle.is_empty(), "bounded, but not mounted: {idle:#?}");
}

#[test]
fn every_limit_that_is_named_is_a_setting_and_every_setting_is_named() {
    let mut named: Vec<String> = Vec::new();
    for bounds in bounds::all() {
        if let Owner::Settings(keys) = bounds.owner {
            named.extend(keys.iter().map(|key| (*key).to_owned()));
        }
    }
    for (_, _, bound) in TABLES {
        let words = bound.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.');
        named.extend(words.filter_map(|word| word.strip_prefix("limits.")).map(str::to_owned));
    }
    // What bounds an answer, not a table.
    named.extend(["invite_state_bytes_max", "invite_states_bytes_max"].map(str::to_owned));
    let known: Vec<String> = defaults().into_iter().map(|(key, _)| key).collect();
    for key in &named {
        assert!(known.contains(key), "limits.{key} is no setting");
    }
    for key in &known {
        assert!(named.contains(key), "nothing is bounded by limits.{key}");
    }
}

#[test]
fn every_table_has_a_bound() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/sqlite");
    let mut tables: Vec<String> = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let created = text.lines().filter_map(|line| line.strip_prefix("CREATE TABLE "));
        tables.extend(created.map(|rest| rest.split([' ', '(']).next().unwrap().to_owned()));
    }
    tables.sort();
    let known: Vec<&str> = TABLES.iter().map(|(table, ..)| *table).collect();
    assert_eq!(tables, known, "TABLES says of each table what bounds it, in order");
}
