//! Partners that are in a room by right, and lie: what they send and what they answer is bounded, dropped where it is
//! wrong, and the room goes on for everybody else.

use colonnade_model::ruma::RoomVersionId;
use colonnade_testkit::{Client, Method, federation::Federation};
use serde_json::{Value, json};

use super::{
    rooms::{create, encode, join, path, say, sees, until},
    villain::{EVE, Villain, now_ms, pdu, state_id},
};

/// The most that a number of JSON may be between servers.
const INTEGER_MAX: i64 = (1 << 53) - 1;
/// Requests that one PDU may lead to at most: those for what is missing, and as many again.
const QUESTIONS_MAX: usize = 80;

/// A room of alice's that eve joined.
struct Room {
    servers: Federation,
    villain: Villain,
    alice: Client,
    id: String,
    version: RoomVersionId,
    /// The events that allow eve to speak.
    auth: Vec<String>,
    joined: String,
}

impl Room {
    async fn of(version: RoomVersionId, count: usize) -> Self {
        let (servers, villain) = Villain::beside(count).await;
        let alice = servers[0].user("alice").await;
        let request = json!({ "preset": "public_chat", "room_version": version });
        let id = create(&alice, request).await;
        let joined = villain.join(&servers[0], &id, &version).await.event_id().to_string();
        let mut auth = vec![joined.clone()];
        for kind in ["m.room.create", "m.room.power_levels"] {
            auth.push(state_id(&alice, &id, kind, "").await);
        }
        Self { servers, villain, alice, id, version, auth, joined }
    }

    /// Ids as this version writes them.
    fn named(&self, ids: &[&str]) -> Value {
        match self.version {
            RoomVersionId::V1 => ids.iter().map(|id| json!([id, { "sha256": "" }])).collect(),
            _ => json!(ids),
        }
    }

    /// A message of eve's, with some fields as a test wants them.
    fn message(&self, text: &str, prev: &[&str], fields: Value) -> Value {
        let auth: Vec<&str> = self.auth.iter().map(String::as_str).collect();
        let mut event = json!({
            "type": "m.room.message", "room_id": self.id, "sender": EVE, "depth": 20,
            "origin_server_ts": now_ms(), "content": { "msgtype": "m.text", "body": text },
            "prev_events": self.named(prev), "auth_events": self.named(&auth),
        });
        for (field, value) in fields.as_object().unwrap() {
            event[field] = value.clone();
        }
        pdu(&self.villain.event(&self.version, event))
    }

    /// Sends one PDU and returns what became of it; null for what is no event and so has no id.
    async fn send(&self, name: &str, pdu: Value) -> Value {
        let results = self.villain.send(&self.servers[0], name, &[pdu]).await;
        results.as_object().unwrap().values().next().cloned().unwrap_or_default()
    }

    /// Everybody else goes on.
    async fn goes_on(&self) {
        say(&self.alice, &self.id, "as if nothing happened").await;
        sees(&self.alice, &self.id, "as if nothing happened").await;
    }
}

fn is_refused(result: &Value) -> bool {
    result.is_null() || result["error"].is_string()
}

#[tokio::test]
async fn what_was_changed_or_signed_by_others_is_dropped_by_itself() {
    let room = Room::of(RoomVersionId::V10, 1).await;
    let of = |text: &str| room.message(text, &[&room.joined], json!({}));
    let (good, mut unsigned, mut changed, mut foreign) =
        (of("good"), of("unsigned"), of("changed"), of("foreign"));
    unsigned["signatures"]["evil"]["ed25519:1"] = json!("A".repeat(86));
    changed["content"]["body"] = json!("what eve never said");
    foreign["sender"] = json!("@alice:hs1");
    let results =
        room.villain.send(&room.servers[0], "mixed", &[unsigned, changed, foreign, good]).await;
    let (refused, taken): (Vec<_>, Vec<_>) =
        results.as_object().unwrap().values().partition(|result| is_refused(result));
    // Of what its sender's server did not sign nothing is said: it is nobody's event.
    assert_eq!((refused.len(), taken.len()), (1, 2), "{results}");
    sees(&room.alice, &room.id, "good").await;
    // Of one whose hash is wrong what is signed remains: that there was a message.
    let page = room.alice.get(&path(&room.id, "messages?dir=b&limit=20")).await.ok().to_string();
    assert!(!page.contains("what eve never said") && !page.contains("foreign"), "{page}");
    room.goes_on().await;
}

#[tokio::test]
async fn events_that_follow_each_other_in_a_circle_are_not_taken() {
    let room = Room::of(RoomVersionId::V1, 1).await;
    let of = |id: &str, prev: &str| room.message(id, &[prev], json!({ "event_id": id }));
    let (one, other) = (of("$one:evil", "$other:evil"), of("$other:evil", "$one:evil"));
    room.villain.say("v1/get_missing_events", &json!({ "events": [other] }));
    room.villain.say("v1/event/%24one", &json!({ "pdus": [one] }));
    room.villain.say("v1/event/%24other", &json!({ "pdus": [other] }));
    let state: Vec<&String> = room.auth.iter().collect();
    room.villain.say("v1/state_ids", &json!({ "pdu_ids": state, "auth_chain_ids": [] }));
    room.send("circle", one).await;
    let itself = room.message("self", &["$self:evil"], json!({ "event_id": "$self:evil" }));
    room.villain.say("v1/get_missing_events", &json!({ "events": [itself] }));
    room.villain.say("v1/event/%24self", &json!({ "pdus": [itself] }));
    room.send("itself", itself).await;
    assert!(room.villain.asked("v1/") < QUESTIONS_MAX, "{}", room.villain.asked("v1/"));
    room.goes_on().await;
}

#[tokio::test]
async fn what_follows_a_thousand_events_is_refused_unasked() {
    let room = Room::of(RoomVersionId::V10, 1).await;
    let prev: Vec<String> = (0..1_000).map(|n| format!("${n:043}")).collect();
    let prev: Vec<&str> = prev.iter().map(String::as_str).collect();
    let wide = room.message("wide", &prev, json!({}));
    assert!(is_refused(&room.send("wide", wide).await));
    let heavy = room.message("heavy", &[&room.joined], json!({ "auth_events": prev }));
    assert!(is_refused(&room.send("heavy", heavy).await));
    assert_eq!(room.villain.asked("v1/"), 0);
    // As many as an event may follow, of which nobody says anything.
    let wide = room.message("not so wide", &prev[..20], json!({}));
    assert!(is_refused(&room.send("narrow", wide).await));
    assert!(room.villain.asked("v1/") < QUESTIONS_MAX, "{}", room.villain.asked("v1/"));
    room.goes_on().await;
}

#[tokio::test]
async fn a_past_without_a_beginning_is_not_followed_for_ever() {
    let room = Room::of(RoomVersionId::V10, 1).await;
    // Twenty more whatever is asked, which follow what nobody knows.
    let events: Vec<Value> = (0..20)
        .map(|n| room.message(&format!("past {n}"), &[&format!("${n:043}")], json!({})))
        .collect();
    room.villain.say("v1/get_missing_events", &json!({ "events": events }));
    let unknown = format!("${}", "x".repeat(43));
    let last = room.message("after all that", &[&unknown], json!({}));
    assert!(is_refused(&room.send("endless", last).await));
    assert!(room.villain.asked("v1/") < QUESTIONS_MAX, "{}", room.villain.asked("v1/"));
    room.goes_on().await;
}

#[tokio::test]
async fn the_greatest_depth_is_the_end_of_nothing() {
    let room = Room::of(RoomVersionId::V10, 1).await;
    let deep = room.message("deep", &[&room.joined], json!({ "depth": INTEGER_MAX }));
    assert!(!is_refused(&room.send("deep", deep.clone()).await));
    sees(&room.alice, &room.id, "deep").await;
    room.goes_on().await;
    let id = say(&room.alice, &room.id, "after the deepest").await;
    let asked = format!("v1/event/{}", encode(&id));
    let told = room.villain.ask(&room.servers[0], Method::GET, &asked, None).await.ok();
    assert_eq!(told["pdus"][0]["depth"], INTEGER_MAX);
    let deeper = room.message("deeper", &[&room.joined], json!({ "depth": 1 }));
    assert!(!is_refused(&room.send("shallow", deeper).await));
    room.goes_on().await;
}

#[tokio::test]
async fn answers_of_gigabytes_are_not_read() {
    let room = Room::of(RoomVersionId::V10, 1).await;
    let endless = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
        content-length: 20000000000\r\n\r\n{\"events\":[\""
        .to_vec();
    for path in ["v1/get_missing_events", "v1/state_ids", "v1/state/", "v1/event/", "v1/event_auth"]
    {
        room.villain.say_bytes(path, endless.clone());
    }
    let unknown = format!("${}", "x".repeat(43));
    let after = room.message("after what is not known", &[&unknown], json!({}));
    assert!(is_refused(&room.send("prev", after).await));
    let strange =
        room.message("allowed by that", &[&room.joined], json!({ "auth_events": [unknown] }));
    assert!(is_refused(&room.send("auth", strange).await));
    for path in
        ["v1/make_join", "v2/send_join", "v1/query/directory", "v1/user/devices", "v1/user/keys"]
    {
        room.villain.say_bytes(path, endless.clone());
    }
    let address = "/_matrix/client/v3/join/!somewhere:evil?via=evil";
    room.alice.post(address, json!({})).await.err(502, "M_UNKNOWN");
    let asked = json!({ "device_keys": { "@mallory:evil": [] } });
    let found = room.alice.post("/_matrix/client/v3/keys/query", asked).await.ok();
    assert!(found["failures"]["evil"].is_object(), "{found}");
    room.goes_on().await;
}

/// Two servers are told different things by a third. Whoever hears of the other half makes the same of both.
#[tokio::test]
async fn who_says_different_things_to_different_servers_divides_nobody() {
    for version in [RoomVersionId::V1, RoomVersionId::V10] {
        let room = Room::of(version, 2).await;
        let bob = room.servers[1].user("bob").await;
        join(&bob, &room.id, "hs1").await;
        let levels = json!({ "users": { "@alice:hs1": 100, EVE: 50 } });
        let set = path(&room.id, "state/m.room.power_levels");
        room.alice.put(&set, levels).await.ok();
        let given = state_id(&room.alice, &room.id, "m.room.power_levels", "").await;
        until(|| async { state_id(&bob, &room.id, "m.room.power_levels", "").await == given })
            .await;
        let auth = [room.auth[0].as_str(), room.auth[1].as_str(), given.as_str()];
        for (number, to) in [&room.servers[0], &room.servers[1]].into_iter().enumerate() {
            let topic = json!({
                "type": "m.room.topic", "state_key": "", "content": { "topic": format!("half {number}") },
                "auth_events": room.named(&auth),
            });
            let half = room.message("", &[&given], topic);
            let results = room.villain.send(to, "half", &[half]).await;
            assert!(
                results.as_object().unwrap().values().all(|result| !is_refused(result)),
                "{results}"
            );
        }
        say(&room.alice, &room.id, "have you heard").await;
        say(&bob, &room.id, "and you").await;
        sees(&bob, &room.id, "have you heard").await;
        sees(&room.alice, &room.id, "and you").await;
        until(|| async {
            let here = state_id(&room.alice, &room.id, "m.room.topic", "").await;
            !here.is_empty() && here == state_id(&bob, &room.id, "m.room.topic", "").await
        })
        .await;
    }
}

/// An hour ahead of what its key is valid for: what it says then is not proved by that key, where validity counts.
#[tokio::test]
async fn a_clock_ahead_of_its_key_proves_nothing_where_that_counts() {
    for (version, counts) in [(RoomVersionId::V4, false), (RoomVersionId::V10, true)] {
        let (servers, villain) = Villain::beside(1).await;
        villain.publish_keys(now_ms() + 10 * 60 * 1_000);
        let alice = servers[0].user("alice").await;
        let request = json!({ "preset": "public_chat", "room_version": version });
        let id = create(&alice, request).await;
        let joined = villain.join(&servers[0], &id, &version).await.event_id().to_string();
        let auth = [
            joined.clone(),
            state_id(&alice, &id, "m.room.create", "").await,
            state_id(&alice, &id, "m.room.power_levels", "").await,
        ];
        let room = Room { servers, villain, alice, id, version, auth: auth.to_vec(), joined };
        let hour = 60 * 60 * 1_000;
        for (text, at, passes) in [
            ("an hour behind", now_ms() - hour, true),
            ("now", now_ms(), true),
            ("an hour ahead", now_ms() + hour, !counts),
        ] {
            let said = room.message(text, &[&room.joined], json!({ "origin_server_ts": at }));
            let result = room.send(&text.replace(' ', "-"), said).await;
            assert_eq!(!is_refused(&result), passes, "{text}: {result}");
        }
        room.goes_on().await;
    }
}
