//! From where somebody looks at a room: who left sees it as it was when his last stay ended, whatever
//! became of him since, and nothing counts or points at what he may not see.

use colonnade_testkit::{Client, TestServer};
use serde_json::{Value, json};

use crate::sync::{create, encode, filter, in_room, now, say, send, sync_with};

fn v1(room: &str, rest: &str) -> String {
    format!("/_matrix/client/v1/rooms/{}/{rest}", encode(room))
}

async fn act(client: &Client, room: &str, what: &str) {
    client.post(&in_room(room, what), json!({})).await.ok();
}

async fn to(client: &Client, room: &str, what: &str, whom: &Client) {
    client.post(&in_room(room, what), json!({ "user_id": whom.user_id })).await.ok();
}

async fn topic(client: &Client, room: &str, topic: &str) {
    client.put(&in_room(room, "state/m.room.topic"), json!({ "topic": topic })).await.ok();
}

async fn said(client: &Client, room: &str, body: &str, rel_type: &str, parent: &str) -> String {
    let relation = json!({ "rel_type": rel_type, "event_id": parent });
    let content = json!({ "msgtype": "m.text", "body": body, "m.relates_to": relation });
    send(client, room, "m.room.message", content).await
}

async fn relations(client: &Client, room: &str, event: &str) -> Value {
    let event = client.get(&in_room(room, &format!("event/{}", encode(event)))).await.ok();
    event["unsigned"]["m.relations"].clone()
}

/// A room with this visibility and these rules for joining.
async fn room(maker: &Client, visibility: &str, join_rule: &str) -> String {
    let state = json!([
        {
            "type": "m.room.history_visibility", "content": { "history_visibility": visibility },
        },
        { "type": "m.room.join_rules", "content": { "join_rule": join_rule } },
    ]);
    create(maker, json!({ "initial_state": state, "topic": "of old" })).await
}

fn text(answer: &Value) -> String {
    answer.to_string()
}

/// What became of somebody after he left, without his coming in again.
#[derive(Debug, Clone, Copy, PartialEq)]
enum After {
    Knocked,
    KnockedAndLeft,
    Invited,
    RejectedAnInvite,
    Banned,
    BannedAndUnbanned,
}

const AFTER: [After; 6] = [
    After::Knocked,
    After::KnockedAndLeft,
    After::Invited,
    After::RejectedAnInvite,
    After::Banned,
    After::BannedAndUnbanned,
];

impl After {
    async fn happen(self, owner: &Client, other: &Client, room: &str) {
        match self {
            Self::Knocked | Self::KnockedAndLeft => {
                let knock = format!("/_matrix/client/v3/knock/{}", encode(room));
                other.post(&knock, json!({})).await.ok();
            }
            Self::Invited | Self::RejectedAnInvite => to(owner, room, "invite", other).await,
            Self::Banned | Self::BannedAndUnbanned => to(owner, room, "ban", other).await,
        }
        match self {
            Self::KnockedAndLeft | Self::RejectedAnInvite => act(other, room, "leave").await,
            Self::BannedAndUnbanned => to(owner, room, "unban", other).await,
            _ => {}
        }
    }
}

#[tokio::test]
async fn who_left_sees_the_room_as_it_was_whatever_became_of_him() {
    let server = TestServer::start().await;
    let (alice, bob, eve) =
        (server.user("alice").await, server.user("bob").await, server.user("eve").await);
    for after in AFTER {
        let room = room(&alice, "shared", "knock").await;
        to(&alice, &room, "invite", &bob).await;
        act(&bob, &room, "join").await;
        act(&bob, &room, "leave").await;
        topic(&alice, &room, "a secret").await;
        to(&alice, &room, "invite", &eve).await;
        act(&eve, &room, "join").await;
        let hidden = say(&alice, &room, "behind his back").await;
        after.happen(&alice, &bob, &room).await;
        topic(&alice, &room, "another secret").await;

        let state = text(&bob.get(&in_room(&room, "state")).await.ok());
        assert!(state.contains("of old") && !state.contains("secret"), "{after:?}: {state}");
        assert!(!state.contains(&eve.user_id), "{after:?}: {state}");
        let one = bob.get(&in_room(&room, "state/m.room.topic")).await.ok();
        assert_eq!(one["topic"], "of old", "{after:?}");
        let members = text(&bob.get(&in_room(&room, "members")).await.ok());
        assert!(members.contains(&bob.user_id), "{after:?}: {members}");
        assert!(!members.contains(&eve.user_id), "{after:?}: {members}");
        bob.get(&in_room(&room, "joined_members")).await.err(403, "M_FORBIDDEN");
        let page = bob.get(&in_room(&room, "messages?dir=b&limit=100")).await.ok();
        let page = text(&page);
        assert!(page.contains("of old") && !page.contains("secret"), "{after:?}: {page}");
        assert!(!page.contains("behind his back"), "{after:?}: {page}");
        let hidden = encode(&hidden);
        bob.get(&in_room(&room, &format!("event/{hidden}"))).await.err(404, "M_NOT_FOUND");
        bob.get(&in_room(&room, &format!("context/{hidden}"))).await.err(404, "M_NOT_FOUND");
    }
}

#[tokio::test]
async fn the_surroundings_of_what_became_of_somebody_show_no_more_of_the_room() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    for after in [After::KnockedAndLeft, After::RejectedAnInvite, After::BannedAndUnbanned] {
        let room = room(&alice, "shared", "knock").await;
        to(&alice, &room, "invite", &bob).await;
        act(&bob, &room, "join").await;
        act(&bob, &room, "leave").await;
        topic(&alice, &room, "a secret").await;
        after.happen(&alice, &bob, &room).await;
        let page = bob.get(&in_room(&room, "messages?dir=b&limit=1")).await.ok();
        let own = &page["chunk"][0];
        assert_eq!(own["state_key"], bob.user_id.as_str(), "{after:?}: his own end is his to know");
        let own = encode(own["event_id"].as_str().unwrap());
        let lazy = filter(json!({ "lazy_load_members": true }));
        for query in ["limit=0", "limit=10", &format!("limit=0&{lazy}")] {
            let around = bob.get(&in_room(&room, &format!("context/{own}?{query}"))).await.ok();
            assert!(!text(&around["state"]).contains("secret"), "{after:?} {query}: {around}");
        }
        let around = bob.get(&in_room(&room, &format!("context/{own}?limit=0"))).await.ok();
        assert!(text(&around["state"]).contains("of old"), "{after:?}: {around}");
    }
}

#[tokio::test]
async fn who_never_came_in_is_shown_no_state() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let leave = filter(json!({ "room": { "include_leave": true } }));
    for after in [After::KnockedAndLeft, After::RejectedAnInvite, After::BannedAndUnbanned] {
        let room = room(&alice, "shared", "knock").await;
        say(&alice, &room, "among ourselves").await;
        let since = now(&bob).await;
        after.happen(&alice, &bob, &room).await;
        bob.get(&in_room(&room, "state")).await.err(403, "M_FORBIDDEN");
        bob.get(&in_room(&room, "members")).await.err(403, "M_FORBIDDEN");
        for (since, more) in [(None, leave.as_str()), (Some(&*since), "full_state=true")] {
            for after_too in ["", "&use_state_after=true"] {
                let answer = sync_with(&bob, since, &format!("{more}{after_too}")).await;
                let left = &answer["rooms"]["leave"][&room];
                assert!(left.is_object(), "{after:?} {more}: {answer}");
                let left = text(left);
                assert!(!left.contains("of old"), "{after:?} {more}{after_too}: {left}");
                assert!(!left.contains("among ourselves"), "{after:?} {more}: {left}");
                assert!(left.contains(&bob.user_id), "{after:?}: he hears how it ended: {left}");
            }
        }
    }
}

#[tokio::test]
async fn a_sync_shows_a_left_room_as_it_was_when_the_last_stay_ended() {
    let server = TestServer::start().await;
    let (alice, bob, eve) =
        (server.user("alice").await, server.user("bob").await, server.user("eve").await);
    for after in [After::KnockedAndLeft, After::RejectedAnInvite, After::Banned] {
        let room = room(&alice, "shared", "knock").await;
        to(&alice, &room, "invite", &bob).await;
        act(&bob, &room, "join").await;
        let inside = now(&bob).await;
        act(&bob, &room, "leave").await;
        let outside = now(&bob).await;
        topic(&alice, &room, "a secret").await;
        to(&alice, &room, "invite", &eve).await;
        act(&eve, &room, "join").await;
        after.happen(&alice, &bob, &room).await;
        let request = |limit: i64| {
            let timeline = json!({ "limit": limit });
            filter(json!({ "room": { "include_leave": true, "timeline": timeline } }))
        };
        for limit in [0, 1, 2, 50] {
            for (since, more) in [
                (None, ""),
                (None, "&use_state_after=true"),
                (Some(&*inside), ""),
                (Some(&*inside), "&full_state=true"),
                (Some(&*inside), "&use_state_after=true"),
                (Some(&*outside), ""),
                (Some(&*outside), "&full_state=true"),
                (Some(&*outside), "&use_state_after=true&full_state=true"),
            ] {
                let answer = sync_with(&bob, since, &format!("{}{more}", request(limit))).await;
                let left = &answer["rooms"]["leave"][&room];
                assert!(left.is_object(), "{after:?} {limit} {more}: {answer}");
                let shown = text(left);
                let place = format!("{after:?} {limit} {} {more}: {shown}", since.is_some());
                assert!(!shown.contains("secret"), "{place}");
                assert!(!shown.contains(&eve.user_id), "{place}");
                if since.is_none() || more.contains("full_state") {
                    assert!(shown.contains("of old"), "{place}");
                }
            }
        }
    }
}

#[tokio::test]
async fn members_of_a_time_one_may_not_see_are_forbidden() {
    let server = TestServer::start().await;
    let (alice, bob, eve) =
        (server.user("alice").await, server.user("bob").await, server.user("eve").await);
    let room = room(&alice, "joined", "public").await;
    act(&eve, &room, "join").await;
    say(&alice, &room, "before").await;
    let page = alice.get(&in_room(&room, "messages?dir=b&limit=1")).await.ok();
    let (early, early_by_sync) = (page["end"].as_str().unwrap().to_owned(), now(&alice).await);
    say(&alice, &room, "still before").await;
    act(&eve, &room, "leave").await;
    act(&bob, &room, "join").await;
    let at = |token: &str| in_room(&room, &format!("members?at={token}"));
    for token in [&early, &early_by_sync] {
        alice.get(&at(token)).await.ok();
        bob.get(&at(token)).await.err(403, "M_FORBIDDEN");
    }
    let seen = now(&bob).await;
    bob.get(&at(&seen)).await.ok();
    // What a sync calls the place before its timeline may be asked for.
    let answer = sync_with(&bob, None, "").await;
    let before = answer["rooms"]["join"][&room]["timeline"]["prev_batch"].as_str().unwrap();
    bob.get(&at(before)).await.ok();
    act(&bob, &room, "leave").await;
    say(&alice, &room, "after").await;
    act(&eve, &room, "join").await;
    say(&alice, &room, "long after").await;
    let page = alice.get(&in_room(&room, "messages?dir=b&limit=1")).await.ok();
    bob.get(&at(page["end"].as_str().unwrap())).await.err(403, "M_FORBIDDEN");
    assert!(text(&bob.get(&at(&seen)).await.ok()).contains(&bob.user_id));
}

#[tokio::test]
async fn a_search_counts_nothing_one_may_not_see() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = room(&alice, "joined", "public").await;
    say(&alice, &room, "needle before").await;
    act(&bob, &room, "join").await;
    let seen = say(&alice, &room, "needle between").await;
    act(&bob, &room, "leave").await;
    for n in 0..3 {
        say(&alice, &room, &format!("needle after {n}")).await;
    }
    let other = create(&alice, json!({ "invite": [bob.user_id] })).await;
    say(&alice, &other, "needle elsewhere").await;
    for order in ["recent", "rank"] {
        let request = |term: &str| {
            json!({ "search_categories": { "room_events": {
                "search_term": term, "order_by": order,
                "groupings": { "group_by": [{ "key": "room_id" }, { "key": "sender" }] },
            } } })
        };
        let path = "/_matrix/client/v3/search";
        let found = bob.post(path, request("needle")).await.ok();
        let found = &found["search_categories"]["room_events"];
        assert_eq!(found["count"], 1, "{order}: {found}");
        assert_eq!(found["results"][0]["result"]["event_id"], seen.as_str(), "{order}");
        let groups = found["groups"]["room_id"].as_object().unwrap();
        assert_eq!(groups.keys().collect::<Vec<_>>(), [&room], "{order}");
        let none = bob.post(path, request("elsewhere")).await.ok();
        let none = &none["search_categories"]["room_events"];
        assert_eq!((&none["count"], &none["highlights"]), (&json!(0), &json!([])), "{order}");
        let all = alice.post(path, request("needle")).await.ok();
        assert_eq!(all["search_categories"]["room_events"]["count"], 6, "{order}");
    }
}

#[tokio::test]
async fn what_hangs_on_an_event_is_seen_before_it_is_chosen() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = room(&alice, "joined", "public").await;
    act(&bob, &room, "join").await;
    let root = say(&alice, &room, "root").await;
    let other = say(&alice, &room, "another root").await;
    let edit = |body: &str| {
        json!({
            "msgtype": "m.text", "body": "*", "m.new_content": { "msgtype": "m.text", "body": body },
            "m.relates_to": { "rel_type": "m.replace", "event_id": root },
        })
    };
    let message = "m.room.message";
    let edited = send(&alice, &room, message, edit("while he was there")).await;
    let pointing = said(&alice, &room, "see there", "m.reference", &root).await;
    let reply = said(&alice, &room, "a reply", "m.thread", &root).await;
    act(&bob, &room, "leave").await;
    send(&alice, &room, message, edit("after")).await;
    said(&alice, &room, "see there, after", "m.reference", &root).await;
    said(&alice, &room, "a reply, after", "m.thread", &root).await;
    said(&alice, &room, "a reply, after", "m.thread", &other).await;
    let bundle = relations(&bob, &room, &root).await;
    assert_eq!(bundle["m.replace"]["event_id"], edited.as_str(), "{bundle}");
    assert_eq!(bundle["m.reference"]["chunk"], json!([{ "event_id": pointing }]), "{bundle}");
    let thread = &bundle["m.thread"];
    assert_eq!(thread["latest_event"]["event_id"], reply.as_str(), "{bundle}");
    let counted = (&thread["count"], &thread["current_user_participated"]);
    assert_eq!(counted, (&json!(1), &json!(false)), "{bundle}");
    assert_eq!(relations(&bob, &room, &other).await, Value::Null);
    let threads = bob.get(&v1(&room, "threads?limit=1")).await.ok();
    assert_eq!(threads["chunk"][0]["event_id"], root.as_str(), "{threads}");
    assert_eq!(threads.get("next_batch"), None, "{threads}");
    let list = v1(&room, &format!("relations/{}?limit=3", encode(&root)));
    let page = bob.get(&list).await.ok();
    let ids: Vec<_> = page["chunk"].as_array().unwrap().iter().map(|e| &e["event_id"]).collect();
    assert_eq!(ids, [&json!(reply), &json!(pointing), &json!(edited)]);
    assert_eq!(page.get("next_batch"), None, "{page}");
    // Whoever stayed sees all of it.
    let bundle = relations(&alice, &room, &root).await;
    assert_eq!(bundle["m.thread"]["count"], 2, "{bundle}");
    let threads = alice.get(&v1(&room, "threads")).await.ok();
    assert_eq!(threads["chunk"][0]["event_id"], other.as_str(), "{threads}");
}

#[tokio::test]
async fn the_event_at_a_time_is_the_nearest_one_may_see() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let room = room(&alice, "joined", "public").await;
    let opening = say(&alice, &room, "opening").await;
    let opening = encode(&opening);
    let opening = alice.get(&in_room(&room, &format!("event/{opening}"))).await.ok();
    for n in 0..30 {
        say(&alice, &room, &format!("before {n}")).await;
    }
    act(&bob, &room, "join").await;
    let last = say(&alice, &room, "for him").await;
    act(&bob, &room, "leave").await;
    for n in 0..30 {
        say(&alice, &room, &format!("after {n}")).await;
    }
    let ts = &opening["origin_server_ts"];
    let first = bob.get(&v1(&room, &format!("timestamp_to_event?dir=f&ts={ts}"))).await.ok();
    let first = encode(first["event_id"].as_str().unwrap());
    let first = bob.get(&in_room(&room, &format!("event/{first}"))).await.ok();
    assert_eq!(first["content"]["membership"], "join", "{first}");
    let ts = i64::MAX >> 11;
    let found = bob.get(&v1(&room, &format!("timestamp_to_event?dir=b&ts={ts}"))).await.ok();
    let found = encode(found["event_id"].as_str().unwrap());
    let found = bob.get(&in_room(&room, &format!("event/{found}"))).await.ok();
    assert_eq!(found["content"]["membership"], "leave", "{found}");
    let sent = found["origin_server_ts"].as_i64().unwrap();
    let back = bob.get(&v1(&room, &format!("timestamp_to_event?dir=f&ts={}", sent + 1))).await;
    assert_eq!(back.status, 404, "nothing he may see came later: {}", back.body);
    alice.get(&in_room(&room, &format!("event/{}", encode(&last)))).await.ok();
}

#[tokio::test]
async fn ignored_senders_do_not_shine_through() {
    let server = TestServer::start().await;
    let (alice, bob, eve) =
        (server.user("alice").await, server.user("bob").await, server.user("eve").await);
    let room = room(&alice, "shared", "public").await;
    act(&bob, &room, "join").await;
    act(&eve, &room, "join").await;
    let root = say(&alice, &room, "root").await;
    let from_bob = said(&bob, &room, "needle of bob", "m.thread", &root).await;
    said(&eve, &room, "needle of eve", "m.thread", &root).await;
    said(&eve, &room, "see there", "m.reference", &root).await;
    let by_eve = say(&eve, &room, "a root of hers").await;
    said(&bob, &room, "an answer to her", "m.thread", &by_eve).await;
    let only_hers = say(&alice, &room, "she alone answers").await;
    said(&eve, &room, "an answer of hers", "m.thread", &only_hers).await;
    let edit = json!({
        "msgtype": "m.text", "body": "*", "m.new_content": { "msgtype": "m.text", "body": "edited" },
        "m.relates_to": { "rel_type": "m.replace", "event_id": by_eve },
    });
    send(&eve, &room, "m.room.message", edit).await;
    let ignored = json!({ "ignored_users": { eve.user_id.clone(): {} } });
    let list = format!(
        "/_matrix/client/v3/user/{}/account_data/m.ignored_user_list",
        encode(&alice.user_id)
    );
    alice.put(&list, ignored).await.ok();

    let bundle = relations(&alice, &room, &root).await;
    let thread = &bundle["m.thread"];
    assert_eq!(thread["latest_event"]["event_id"], from_bob.as_str(), "{bundle}");
    assert_eq!(thread["count"], 1, "{bundle}");
    assert_eq!(bundle.get("m.reference"), None, "{bundle}");
    assert_eq!(relations(&alice, &room, &only_hers).await, Value::Null);
    let threads = alice.get(&v1(&room, "threads")).await.ok();
    let roots: Vec<_> =
        threads["chunk"].as_array().unwrap().iter().map(|root| &root["event_id"]).collect();
    assert_eq!(roots, [&json!(by_eve), &json!(root)], "{threads}");
    // Her root is returned as if it were redacted, not left out.
    assert_eq!(threads["chunk"][0]["content"], json!({}), "{threads}");
    assert!(!text(&threads).contains("edited") && !text(&threads).contains("of hers"), "{threads}");
    let related = alice.get(&v1(&room, &format!("relations/{}?limit=1", encode(&root)))).await.ok();
    assert_eq!(related["chunk"][0]["event_id"], from_bob.as_str(), "{related}");
    assert_eq!(related.get("next_batch"), None, "{related}");
    let request = json!({ "search_categories": { "room_events": { "search_term": "needle" } } });
    let found = alice.post("/_matrix/client/v3/search", request).await.ok();
    let found = &found["search_categories"]["room_events"];
    assert_eq!(found["count"], 1, "{found}");
    assert_eq!(found["results"][0]["result"]["event_id"], from_bob.as_str(), "{found}");
    let bundle = relations(&bob, &room, &root).await;
    assert_eq!(bundle["m.thread"]["count"], 2, "others see all of it: {bundle}");
}

/// The reason of a redaction is said to those who see it: somebody who had left sees that the event has
/// become empty, and no more.
#[tokio::test]
async fn a_redaction_of_later_does_not_hang_on_what_was_seen_before() {
    let server = TestServer::start().await;
    let (alice, carol) = (server.user("alice").await, server.user("carol").await);
    let room = room(&alice, "joined", "public").await;
    act(&carol, &room, "join").await;
    let event = say(&alice, &room, "of old").await;
    let read = async |client: &Client| {
        client.get(&in_room(&room, &format!("event/{}", encode(&event)))).await.ok()
    };
    act(&carol, &room, "leave").await;
    let path = in_room(&room, &format!("redact/{}/1", encode(&event)));
    alice.put(&path, json!({ "reason": "a secret reason" })).await.ok();
    let seen = read(&alice).await;
    assert_eq!(seen["unsigned"]["redacted_because"]["content"]["reason"], "a secret reason");
    for rejoined in [false, true] {
        if rejoined {
            act(&carol, &room, "join").await;
        }
        let seen = read(&carol).await;
        assert_eq!(seen["content"], json!({}), "{seen}");
        assert!(seen["unsigned"].get("redacted_because").is_none(), "{seen}");
        let page = carol.get(&in_room(&room, "messages?dir=b&limit=50")).await.ok();
        assert!(text(&page).contains(&event) && !text(&page).contains("a secret reason"), "{page}");
    }
}
