//! Writing to a room one is not in.

use super::*;

/// Who is not in the room.
const OUTSIDERS: [&str; 4] = ["stranger", "invited", "left", "banned"];

/// What outsiders may ask all the same: the end of the path, who, and why.
const ALLOWED: &[(&str, &[&str], &str)] = &[
    ("/join", &["invited"], "an invitation is there to be accepted"),
    ("/join/{room_id_or_alias}", &["invited"], "an invitation is there to be accepted"),
    ("/leave", &["invited"], "an invitation can be turned down"),
    ("/leave", &["left"], "who has left is where he wanted to be"),
    ("/forget", &OUTSIDERS, "it changes one's own list, and says the same of rooms there are not"),
    ("/rooms/{room_id}/report", &OUTSIDERS, "a room can be reported without having joined it"),
    ("/account_data/{event_type}", &OUTSIDERS, "a user's own data, shown to nobody else"),
    ("/tags/{tag}", &OUTSIDERS, "a user's own data, shown to nobody else"),
    ("/room_keys/keys/{room_id}", &OUTSIDERS, "a user's own backup, shown to nobody else"),
    ("/room_keys/keys/{room_id}/{session_id}", &OUTSIDERS, "a user's own backup, as above"),
];
/// What no member is answered with success either, each with the reason.
const NOT_FOR_MEMBERS: &[(&str, &str)] =
    &[("/knock/{room_id_or_alias}", "who is in a room does not ask to be let in")];

fn may(route: &Route, who: &str) -> bool {
    let mut allowed = ALLOWED.iter().filter(|(end, ..)| is_at(route, end));
    allowed.any(|(_, whose, _)| whose.contains(&who))
}

/// Tells whether a route's path ends so. `/join` is not the end of `/rooms/{room_id}/join/…`.
fn is_at(route: &Route, end: &str) -> bool {
    route.path.ends_with(end)
}

/// Who has to do with the rooms of a test.
struct People {
    creator: Client,
    member: Client,
    banned: Client,
    uninvited: Client,
}

impl People {
    async fn new(server: &TestServer) -> Self {
        Self {
            creator: server.user("creator").await,
            member: server.user("member").await,
            banned: server.user("culprit").await,
            uninvited: server.user("guest").await,
        }
    }
}

/// A private room, with a member, a user who is banned, one who can be invited, and an alias.
struct Place<'a> {
    people: &'a People,
    room: String,
    event: String,
    alias: String,
}

impl<'a> Place<'a> {
    async fn new(people: &'a People, number: usize) -> Self {
        let People { creator, member, banned, .. } = people;
        let request = json!({ "invite": [member.user_id] });
        let room = creator.post("/_matrix/client/v3/createRoom", request).await.ok();
        let room = room["room_id"].as_str().unwrap().to_owned();
        member.post(&in_room(&room, "join"), json!({})).await.ok();
        let ban = json!({ "user_id": banned.user_id });
        creator.post(&in_room(&room, "ban"), ban).await.ok();
        let event = say(creator, &room, "hello").await;
        let alias = format!("#taken{number}:localhost");
        let path = format!("/_matrix/client/v3/directory/room/{}", encoded(&alias));
        creator.put(&path, json!({ "room_id": room })).await.ok();
        Self { people, room, event, alias }
    }

    /// Sends a request to a route that a member with all power is allowed.
    async fn asked(&self, route: &Route, by: &Client, number: usize) -> colonnade_testkit::Answer {
        let mut names = plain_names();
        names.insert("room_id", self.room.clone());
        names.insert("room_id_or_alias", self.room.clone());
        names.insert("event_id", self.event.clone());
        names.insert("user_id", by.user_id.clone());
        names.insert("txn_id", format!("swept{number}"));
        let alias = match route.method {
            Method::DELETE => self.alias.clone(),
            _ => format!("#free{number}:localhost"),
        };
        names.insert("room_alias", alias);
        let path = path_of(route, &names);
        let body = self.body(route).map(|body| body.to_string().into_bytes());
        by.send(route.method.clone(), &path, body).await
    }

    fn body(&self, route: &Route) -> Option<Value> {
        if route.method == Method::DELETE {
            return None;
        }
        let last = route.path.rsplit('/').find(|segment| !segment.starts_with('{'));
        Some(match last.unwrap_or_default() {
            "kick" | "ban" => json!({ "user_id": self.people.member.user_id }),
            "unban" => json!({ "user_id": self.people.banned.user_id }),
            "invite" => json!({ "user_id": self.people.uninvited.user_id }),
            "read_markers" => json!({ "m.fully_read": self.event, "m.read": self.event }),
            "room" if route.path.contains("{room_alias}") => json!({ "room_id": self.room }),
            "upgrade" => json!({ "new_version": "11" }),
            _ => body_of(route)?,
        })
    }
}

/// The endpoints that write to a room their path names, by its id or an alias.
fn writing() -> Vec<Route> {
    let routes = routes::of_clients().routes.into_iter();
    let routes = routes.filter(|route| route.method != Method::GET);
    let names_a_room =
        |route: &Route| ["{room_id", "{room_alias}"].iter().any(|n| route.path.contains(n));
    routes.filter(names_a_room).collect()
}

/// Makes a user who stands to the room as asked.
async fn outsider(server: &TestServer, place: &Place<'_>, who: &str, number: usize) -> Client {
    let user = server.user(&format!("{who}{number}")).await;
    let by_creator = async |what: &str| {
        let body = json!({ "user_id": user.user_id });
        place.people.creator.post(&in_room(&place.room, what), body).await.ok();
    };
    match who {
        "stranger" => {}
        "invited" => by_creator("invite").await,
        "left" => {
            by_creator("invite").await;
            user.post(&in_room(&place.room, "join"), json!({})).await.ok();
            user.post(&in_room(&place.room, "leave"), json!({})).await.ok();
        }
        "banned" => by_creator("ban").await,
        other => panic!("there is no {other}"),
    }
    user
}

/// The newest event of the room and where a user stands in it.
async fn stands(place: &Place<'_>, user: &Client) -> (Value, Value) {
    let path = in_room(&place.room, "messages?dir=b&limit=1");
    let newest = place.people.creator.get(&path).await.ok()["chunk"][0]["event_id"].clone();
    let member = in_room(&place.room, &format!("state/m.room.member/{}", encode(&user.user_id)));
    (newest, place.people.creator.get(&member).await.body["membership"].clone())
}

#[tokio::test]
async fn nobody_writes_to_a_room_from_outside() {
    let server = TestServer::start().await;
    let people = People::new(&server).await;
    let place = Place::new(&people, 0).await;
    let routes = writing();
    assert!(routes.len() > 60, "only {} endpoints write to a room", routes.len());
    let mut problems = Vec::new();
    for who in OUTSIDERS {
        let user = outsider(&server, &place, who, 0).await;
        let before = stands(&place, &user).await;
        for (number, route) in routes.iter().enumerate().filter(|(_, route)| !may(route, who)) {
            let answer = place.asked(route, &user, number).await;
            let errcode = answer.body["errcode"].as_str().unwrap_or_default();
            if ![(403, "M_FORBIDDEN"), (404, "M_NOT_FOUND")].contains(&(answer.status, errcode)) {
                let Route { method, path, .. } = route;
                problems.push(format!("{who}: {method} {path}: {} {}", answer.status, answer.body));
            }
        }
        assert_eq!(stands(&place, &user).await, before, "{who} left no trace");
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[tokio::test]
async fn what_outsiders_are_refused_would_work_for_a_member() {
    let server = TestServer::start().await;
    let people = People::new(&server).await;
    let mut problems = Vec::new();
    for (number, route) in writing().iter().enumerate() {
        let is_left_out = NOT_FOR_MEMBERS.iter().any(|(end, _)| is_at(route, end));
        if is_left_out || OUTSIDERS.iter().all(|who| may(route, who)) {
            continue;
        }
        let place = Place::new(&people, number).await;
        let answer = place.asked(route, &people.creator, number).await;
        if answer.status != 200 {
            let Route { method, path, .. } = route;
            problems.push(format!("{method} {path}: {} {}", answer.status, answer.body));
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[tokio::test]
async fn what_outsiders_may_do_breaks_nothing() {
    let server = TestServer::start().await;
    let people = People::new(&server).await;
    let place = Place::new(&people, 0).await;
    let mut problems = Vec::new();
    for (nth, who) in OUTSIDERS.into_iter().enumerate() {
        let mut user = outsider(&server, &place, who, 0).await;
        for (number, route) in writing().iter().enumerate().filter(|(_, route)| may(route, who)) {
            let before = stands(&place, &user).await;
            let answer = place.asked(route, &user, nth * 1_000 + number).await;
            if answer.status >= 500 {
                let Route { method, path, .. } = route;
                problems.push(format!("{who}: {method} {path}: {} {}", answer.status, answer.body));
            }
            if stands(&place, &user).await != before {
                user = outsider(&server, &place, who, 1_000 + number).await;
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    for (end, _, why) in ALLOWED {
        let is_mounted = writing().iter().any(|route| is_at(route, end));
        assert!(is_mounted, "{end} ({why}) is allowed and does not exist");
    }
}

#[tokio::test]
async fn a_member_event_of_ones_own_opens_no_door() {
    let server = TestServer::start().await;
    let people = People::new(&server).await;
    let place = Place::new(&people, 0).await;
    for who in OUTSIDERS {
        let user = outsider(&server, &place, who, 0).await;
        let own = in_room(&place.room, &format!("state/m.room.member/{}", encode(&user.user_id)));
        for membership in ["knock", "invite", "ban", "join"] {
            let answer = user.put(&own, json!({ "membership": membership })).await;
            match (who, membership) {
                ("invited", "join") => drop(answer.ok()),
                _ => drop(answer.err(403, "M_FORBIDDEN")),
            }
        }
    }
}
