//! Rooms of other servers: two servers that exchange events without HTTP.

use colonnade_model::ruma::events::TimelineEventType;
use colonnade_rules::event::{EventObject, complete};
use colonnade_storage::rooms::servers;

use super::*;
use crate::incoming::{Incoming, StateBefore};
use crate::remote::Outcome;

const VERSIONS: [RoomVersionId; 3] = [RoomVersionId::V6, RoomVersionId::V10, RoomVersionId::V12];

/// A public room of a first server, and a second server.
async fn two_servers(version: RoomVersionId) -> (World, World, Session, Arc<Room>) {
    let (one, two) = (World::named("one.org").await, World::named("two.org").await);
    let alice = one.user("alice").await;
    let users = match version {
        RoomVersionId::V12 => json!({}),
        _ => json!({ "@alice:one.org": 100 }),
    };
    let room = one.room(&alice, version, json!({ "users": users })).await;
    (one, two, alice, room)
}

/// The events of a state and of its auth chain, as one server gives them to another.
async fn state_of(at: &World, room: &Room) -> (Vec<Event>, Vec<OwnedEventId>) {
    let head = at.rooms.head(room.nid).await.unwrap();
    let state = at.rooms.state_nids(head.state).await.unwrap();
    let mut all = at.rooms.auth_chain(&state).await.unwrap();
    all.extend(&state);
    all.sort_unstable();
    all.dedup();
    let events = at.rooms.events(&all).await.unwrap();
    let events = events.iter().map(|event| (*event.event).clone()).collect();
    (events, at.rooms.ids_of(&state).await.unwrap())
}

/// Stores at one server the state that another has, and returns what it consists of.
async fn fetch(from: &World, to: &World, room: &Arc<Room>) -> (Arc<Room>, Vec<EventNid>) {
    let (events, state) = state_of(from, room).await;
    let there = to.rooms.elsewhere(&room.room_id, &room.version).await.unwrap();
    let stored = to.rooms.add_outliers(&there, events).await.unwrap();
    let nids = stored.iter().filter(|sent| state.contains(&sent.event_id)).map(|sent| sent.nid);
    (there, nids.collect())
}

/// Lets a user of one server come into a room of another, and returns the room there.
async fn enter(from: &World, to: &World, room: &Arc<Room>, user: &Session) -> Arc<Room> {
    let join = member(&user.user_id, &user.user_id, joined());
    let template = from.rooms.template(room, join).await.unwrap();
    let key = to.context.signing_key.current();
    let join =
        complete(template, &to.context.server_name, &*key, &room.rules, &SystemRandom).unwrap();
    let (there, state) = fetch(from, to, room).await;
    let (_, outcome) = from.rooms.receive(room, join.clone()).await.unwrap();
    assert_eq!(outcome, Outcome::Accepted);
    let incoming = Incoming::with(join, StateBefore::Entered(state));
    let (_, outcome) = to.rooms.receive(&there, incoming).await.unwrap();
    assert_eq!(outcome, Outcome::Accepted);
    there
}

async fn say(world: &World, room: &Room, by: &Session, text: &str) -> Event {
    let body = to_raw_value(&json!({ "body": text, "msgtype": "m.text" })).unwrap();
    let sent =
        world.rooms.send(by, &room.room_id, "m.room.message", &body, Some(text)).await.unwrap();
    (*world.rooms.event(sent.nid).await.unwrap().unwrap().event).clone()
}

/// The ids of the current state, sorted.
async fn state_ids(world: &World, room: &Room) -> Vec<OwnedEventId> {
    let head = world.rooms.head(room.nid).await.unwrap();
    let nids = world.rooms.state_nids(head.state).await.unwrap();
    let mut ids = world.rooms.ids_of(&nids).await.unwrap();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn a_room_of_another_server_is_entered_and_goes_on_on_both() {
    for version in VERSIONS {
        let (one, two, alice, room) = two_servers(version).await;
        assert!(two.rooms.find(&room.room_id).await.unwrap().is_none());
        let bob = two.user("bob").await;
        let there = enter(&one, &two, &room, &bob).await;
        assert_eq!(state_ids(&one, &room).await, state_ids(&two, &there).await);
        for (world, room, other) in [(&one, &room, "two.org"), (&two, &there, "one.org")] {
            let head = world.rooms.head(room.nid).await.unwrap();
            assert_eq!(head.joined, 2);
            let others = servers::of_rooms(&world.context.db, &[room.nid]).await.unwrap();
            assert_eq!(others.len(), 1);
            assert_eq!((others[0].server.as_str(), others[0].joined), (other, 1));
            assert!(world.rooms.is_resident(room).await.unwrap());
        }
        let hello = say(&two, &there, &bob, "hello").await;
        assert_eq!(one.rooms.receive(&room, hello).await.unwrap().1, Outcome::Accepted);
        let welcome = say(&one, &room, &alice, "welcome").await;
        assert_eq!(two.rooms.receive(&there, welcome).await.unwrap().1, Outcome::Accepted);
        assert_eq!(one.latest(&room).await, two.latest(&there).await);
        let two = two.restart().await;
        let there = two.rooms.find(&room.room_id).await.unwrap().unwrap();
        assert_eq!(state_ids(&one, &room).await, state_ids(&two, &there).await);
        say(&two, &there, &bob, "after a restart").await;
    }
}

#[tokio::test]
async fn an_event_after_a_gap_needs_the_state_before_it() {
    let (one, two, alice, room) = two_servers(RoomVersionId::V11).await;
    let bob = two.user("bob").await;
    let there = enter(&one, &two, &room, &bob).await;
    let lost = say(&one, &room, &alice, "lost").await;
    let late = say(&one, &room, &alice, "late").await;
    let ids = [lost.event_id().to_owned(), late.event_id().to_owned()];
    assert_eq!(two.rooms.unknown_among(&there, &ids).await.unwrap(), ids);
    two.rooms.receive(&there, late.clone()).await.unwrap_err();
    let (_, state) = fetch(&one, &two, &room).await;
    let incoming = Incoming::with(late.clone(), StateBefore::Given(state));
    let (_, outcome) = two.rooms.receive(&there, incoming).await.unwrap();
    assert_eq!(outcome, Outcome::Accepted);
    let head = two.rooms.head(there.nid).await.unwrap();
    assert_eq!(head.extremities.len(), 2, "nothing says that one follows the other");
    say(&two, &there, &bob, "both").await;
    // What was lost comes after all, and changes nothing.
    two.rooms.receive(&there, lost).await.unwrap();
    assert_eq!(state_ids(&one, &room).await, state_ids(&two, &there).await);
}

#[tokio::test]
async fn the_state_at_what_is_missing_does_not_stand_for_what_is_known() {
    let (one, two, alice, room) = two_servers(RoomVersionId::V11).await;
    let bob = two.user("bob").await;
    let there = enter(&one, &two, &room, &bob).await;
    let known = say(&one, &room, &alice, "known").await;
    two.rooms.receive(&there, known.clone()).await.unwrap();
    let topic = |topic: &str| content(json!({ "topic": topic })).unwrap();
    let change = state_event(&alice.user_id, "m.room.topic", String::new(), topic("changed"));
    let (_, state) = fetch(&one, &two, &room).await;
    one.clock.advance(1);
    let missing = one.rooms.propose(&room, change).await.unwrap();
    let missing = (*one.rooms.event(missing.nid).await.unwrap().unwrap().event).clone();
    let late = say(&one, &room, &alice, "late").await;
    let outlier = two.rooms.add_outliers(&there, vec![missing]).await.unwrap().remove(0);
    let before = StateBefore::Between(vec![(state, outlier.nid)]);
    let (_, outcome) =
        two.rooms.receive(&there, Incoming::with(late.clone(), before)).await.unwrap();
    assert_eq!(outcome, Outcome::Accepted);
    assert_eq!(two.topic(&there).await.as_deref(), Some("changed"));
    let head = two.rooms.head(there.nid).await.unwrap();
    let mut tips = two.rooms.ids_of(&head.extremities).await.unwrap();
    let mut expected = vec![known.event_id().to_owned(), late.event_id().to_owned()];
    tips.sort_unstable();
    expected.sort_unstable();
    assert_eq!(tips, expected, "another server's word covers nothing");
    assert_eq!(state_ids(&one, &room).await, state_ids(&two, &there).await);
}

#[tokio::test]
async fn a_redaction_takes_effect_once_there_is_what_it_redacts() {
    for version in VERSIONS {
        let (one, two, alice, room) = two_servers(version).await;
        let bob = two.user("bob").await;
        let there = enter(&one, &two, &room, &bob).await;
        let secret = say(&one, &room, &alice, "secret").await;
        let by = (&alice, &room.room_id);
        let sent = one.rooms.redact(by.0, by.1, secret.event_id(), None, None).await.unwrap();
        let redaction = (*one.rooms.event(sent.nid).await.unwrap().unwrap().event).clone();
        let (_, state) = fetch(&one, &two, &room).await;
        let incoming = Incoming::with(redaction, StateBefore::Given(state));
        let (first, outcome) = two.rooms.receive(&there, incoming).await.unwrap();
        assert_eq!(outcome, Outcome::SoftFailed, "it redacts nothing yet");
        assert!(!two.flags(first.nid).await.1, "and is shown to nobody");
        let (sent, outcome) = two.rooms.receive(&there, secret).await.unwrap();
        assert_eq!(outcome, Outcome::Accepted);
        let two = two.restart().await;
        let stored = two.rooms.event(sent.nid).await.unwrap().unwrap();
        assert!(stored.flags.has(EventFlags::REDACTED));
        assert!(!stored.event.json().contains("secret"));
    }
}

#[tokio::test]
async fn a_redaction_of_another_rooms_event_is_shown_to_nobody() {
    let (one, two, alice, room) = two_servers(RoomVersionId::V11).await;
    let bob = two.user("bob").await;
    let there = enter(&one, &two, &room, &bob).await;
    let other = two.room(&bob, RoomVersionId::V11, json!({})).await;
    let target = say(&two, &other, &bob, "stays").await;
    let start = one.latest(&room).await;
    let forged = one
        .make(
            &room,
            &start,
            &alice,
            "m.room.redaction",
            None,
            json!({ "redacts": target.event_id() }),
        )
        .await;
    let (sent, outcome) = two.rooms.receive(&there, forged).await.unwrap();
    assert_eq!(outcome, Outcome::SoftFailed);
    assert!(!two.flags(sent.nid).await.1);
    let found = two.rooms.event_by_id(target.event_id()).await.unwrap().unwrap();
    assert!(found.event.json().contains("stays"));
}

#[tokio::test]
async fn what_events_of_another_room_allow_is_rejected() {
    let (one, two, alice, room) = two_servers(RoomVersionId::V10).await;
    let bob = two.user("bob").await;
    let there = enter(&one, &two, &room, &bob).await;
    let other = one.room(&alice, RoomVersionId::V10, json!({})).await;
    fetch(&one, &two, &other).await;
    let start = one.latest(&other).await;
    let foreign = one.make(&other, &start, &alice, "m.room.message", None, json!({})).await;
    let template = serde_json::from_str(foreign.json()).unwrap();
    let mut template: colonnade_model::ruma::CanonicalJsonObject = template;
    let prev = one.latest(&room).await;
    template.insert("room_id".into(), room.room_id.to_string().into());
    template.insert("prev_events".into(), vec![prev.to_string().into()].into());
    let key = one.context.signing_key.current();
    let name = &one.context.server_name;
    let event = complete(template, name, &*key, &room.rules, &SystemRandom).unwrap();
    let (_, outcome) = two.rooms.receive(&there, event).await.unwrap();
    assert_eq!(outcome, Outcome::Rejected);
}

#[tokio::test]
async fn an_outlier_becomes_part_of_the_room_when_it_is_its_turn() {
    let (one, two, alice, room) = two_servers(RoomVersionId::V10).await;
    let bob = two.user("bob").await;
    let there = enter(&one, &two, &room, &bob).await;
    let proposal = state_event(
        &alice.user_id,
        "m.room.topic",
        String::new(),
        content(json!({ "topic": "later" })).unwrap(),
    );
    one.rooms.propose(&room, proposal).await.unwrap();
    let (_, state) = fetch(&one, &two, &room).await;
    assert_eq!(two.topic(&there).await.as_deref(), Some("first"));
    assert!(!state.is_empty());
    let topic = one.rooms.state_event(room.nid, "m.room.topic", "").await.unwrap().unwrap();
    let topic = (*topic.event).clone();
    assert_eq!(two.rooms.receive(&there, topic).await.unwrap().1, Outcome::Accepted);
    assert_eq!(two.topic(&there).await.as_deref(), Some("later"));
    assert_eq!(state_ids(&one, &room).await, state_ids(&two, &there).await);
}

#[tokio::test]
async fn what_its_auth_events_do_not_allow_is_a_rejected_outlier_and_in_no_state() {
    let (one, two, _, room) = two_servers(RoomVersionId::V10).await;
    let mallory = one.user("mallory").await;
    let (mut events, state) = state_of(&one, &room).await;
    let start = one.latest(&room).await;
    // Names the power levels that forbid it, and not the membership he does not have.
    let forged = one
        .make(&room, &start, &mallory, "m.room.topic", Some(""), json!({ "topic": "mine" }))
        .await;
    events.push(forged.clone());
    let there = two.rooms.elsewhere(&room.room_id, &room.version).await.unwrap();
    let stored = two.rooms.add_outliers(&there, events).await.unwrap();
    let (flags, _) = two.flags(stored.last().unwrap().nid).await;
    assert!(flags.has(EventFlags::OUTLIER.with(EventFlags::REJECTED)));
    let bob = two.user("bob").await;
    let join = member(&bob.user_id, &bob.user_id, joined());
    let template = one.rooms.template(&room, join).await.unwrap();
    let key = two.context.signing_key.current();
    let join =
        complete(template, &two.context.server_name, &*key, &room.rules, &SystemRandom).unwrap();
    let given = stored
        .iter()
        .filter(|sent| state.contains(&sent.event_id) || sent.event_id == forged.event_id());
    let before = StateBefore::Entered(given.map(|sent| sent.nid).collect());
    two.rooms.receive(&there, Incoming::with(join, before)).await.unwrap();
    assert_eq!(two.topic(&there).await.as_deref(), Some("first"), "not the forged one");
}

#[tokio::test]
async fn an_invitation_to_an_unknown_room_is_a_membership_and_can_be_followed() {
    for version in VERSIONS {
        let (one, two, alice, room) = two_servers(version).await;
        let bob = two.user("bob").await;
        let invite = member(
            &alice.user_id,
            &bob.user_id,
            content(json!({ "membership": "invite" })).unwrap(),
        );
        let sent = one.rooms.propose(&room, invite).await.unwrap();
        let invite = (*one.rooms.event(sent.nid).await.unwrap().unwrap().event).clone();
        assert_eq!(*invite.event_type(), TimelineEventType::RoomMember);
        let there = two.rooms.elsewhere(&room.room_id, &room.version).await.unwrap();
        let shown = json!([{ "type": "m.room.name", "state_key": "", "sender": "@alice:one.org",
            "content": { "name": "Far away" } }]);
        let before = StateBefore::OutOfBand(shown.to_string());
        for _ in 0..2 {
            let event = invite.clone();
            let incoming = Incoming::with(event, before.clone());
            two.rooms.receive(&there, incoming).await.unwrap();
        }
        let known = two.rooms.find(&room.room_id).await.unwrap().unwrap();
        let membership = two.rooms.membership(known.nid, bob.user).await.unwrap();
        assert_eq!(membership, Some(Membership::Invite));
        assert!(two.rooms.is_elsewhere(&known).await.unwrap());
        let member = two.rooms.member(known.nid, bob.user).await.unwrap().unwrap();
        let event = two.rooms.event(member.event).await.unwrap().unwrap();
        let stripped = two.rooms.stripped_state(&event, 65_536).await.unwrap();
        assert!(stripped[0].get().contains("Far away"));
        assert!(stripped[1].get().contains("invite"), "the invitation itself");

        let there = enter(&one, &two, &room, &bob).await;
        assert_eq!(state_ids(&one, &room).await, state_ids(&two, &there).await);
        assert!(!two.rooms.is_elsewhere(&there).await.unwrap());
        let head = two.rooms.head(there.nid).await.unwrap();
        assert_eq!((head.joined, head.invited), (2, 0));
        say(&two, &there, &bob, "thanks").await;
    }
}

#[tokio::test]
async fn an_event_of_another_room_is_not_taken_for_one_of_this() {
    let one = World::named("one.org").await;
    let alice = one.user("alice").await;
    let users = json!({ "users": { "@alice:one.org": 100 } });
    let version = RoomVersionId::V1;
    let here = one.room(&alice, version.clone(), users.clone()).await;
    let there = one.room(&alice, version, users).await;
    let head = one.rooms.head(there.nid).await.unwrap();
    let known = one.rooms.state_nids(head.state).await.unwrap();
    let known = one.rooms.events(&known[..1]).await.unwrap().remove(0);
    // In the first versions an id says nothing of its event.
    let named = known.event.json().replace(there.room_id.as_str(), here.room_id.as_str());
    let object = EventObject::parse(&named, &here.rules).unwrap();
    let event = Event::parse(&object, &here.rules).unwrap();
    assert_eq!(event.event_id(), known.event.event_id());
    for refused in [
        one.rooms.receive(&here, event.clone()).await.map(drop),
        one.rooms.add_outliers(&here, vec![event.clone()]).await.map(drop),
        one.rooms.add_history(&here, vec![event], Vec::new()).await.map(drop),
    ] {
        let Err(crate::Error::Client(told)) = refused else { panic!("it is refused") };
        assert_eq!(told.errcode, "M_INVALID_PARAM");
    }
}

#[tokio::test]
async fn a_knock_is_all_that_is_known_of_a_room_and_does_not_make_it_one_of_here() {
    let (one, two, _, room) = two_servers(RoomVersionId::V11).await;
    let bob = two.user("bob").await;
    let there = two.rooms.elsewhere(&room.room_id, &room.version).await.unwrap();
    let by_alice = json!([{ "sender": "@alice:one.org" }, { "sender": "@carol:two.org" }]);
    for (shown, known) in [(json!([]), vec![]), (by_alice, vec!["one.org"])] {
        let template = json!({ "type": "m.room.member", "state_key": bob.user_id,
            "sender": bob.user_id, "room_id": room.room_id, "depth": 9, "origin_server_ts": 1,
            "content": { "membership": "knock", "reason": known.join("") },
            "auth_events": [], "prev_events": [] });
        let template = serde_json::from_value(template).unwrap();
        let (name, key) = (&two.context.server_name, two.context.signing_key.current());
        let event = complete(template, name, &*key, &room.rules, &SystemRandom).unwrap();
        let before = StateBefore::OutOfBand(shown.to_string());
        two.rooms.receive(&there, Incoming::with(event, before)).await.unwrap();
        assert!(two.rooms.is_elsewhere(&there).await.unwrap());
        let others = servers::of_rooms(&two.context.db, &[there.nid]).await.unwrap();
        let others: Vec<&str> = others.iter().map(|other| other.server.as_str()).collect();
        assert_eq!(others, known);
    }
    assert!(!one.rooms.is_elsewhere(&room).await.unwrap());
}

#[tokio::test]
async fn what_is_too_long_is_rejected_where_characters_were_counted_and_followed() {
    for (version, is_event) in [(RoomVersionId::V10, true), (RoomVersionId::V11, false)] {
        let (one, two, _, room) = two_servers(version).await;
        let bob = two.user("bob").await;
        let there = enter(&one, &two, &room, &bob).await;
        let long = "\u{1f4a5}".repeat(70);
        let mut said = state_event(&bob.user_id, "org.example.short", String::new(), joined());
        said.state_key = None;
        let mut template = two.rooms.template(&there, said).await.unwrap();
        template.insert("type".to_owned(), long.into());
        let key = two.context.signing_key.current();
        let name = &two.context.server_name;
        let made = complete(template, name, &*key, &room.rules, &SystemRandom);
        let made = made.unwrap();
        let read = EventObject::parse(made.json(), &room.rules)
            .and_then(|object| Event::parse(&object, &room.rules));
        assert_eq!(read.is_ok(), is_event, "{}", room.version);
        if is_event {
            let (_, outcome) = one.rooms.receive(&room, made).await.unwrap();
            assert_eq!(outcome, Outcome::Rejected);
        }
    }
}
