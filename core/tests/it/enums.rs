//! What the specification lists is all there is: an unknown value of a parameter or of a field in a body
//! is refused everywhere. Generated from the specification, so that a new endpoint is asked, too.

use colonnade_testkit::{
    Answer, Method, TestServer,
    openapi::{Operation, Parameter, SPEC},
};
use serde_json::{Value, json};

use crate::conformance::{Place, served};

/// A value nothing lists.
const UNKNOWN: &str = "zzz";
/// Why a rule of a kind there is not is not found.
const NO_SUCH_RULE: &str = "who looks for a rule of a kind there is not finds none: 404";
/// Places where an unknown value is answered otherwise, by the operation and the place, each with its
/// reason.
const OTHERWISE: &[(&str, &str, &str)] = &[
    (
        "postRoomKeysVersion",
        "algorithm",
        "the server keeps what clients encrypted and reads none of it; they have used other names",
    ),
    ("putRoomKeysVersion", "algorithm", "it has to be that of the backup, whatever that is"),
    ("getPushRule", "kind", NO_SUCH_RULE),
    ("deletePushRule", "kind", NO_SUCH_RULE),
    ("isPushRuleEnabled", "kind", NO_SUCH_RULE),
    ("setPushRuleEnabled", "kind", NO_SUCH_RULE),
    ("getPushRuleActions", "kind", NO_SUCH_RULE),
    ("setPushRuleActions", "kind", NO_SUCH_RULE),
];

fn is_otherwise(operation: &Operation, place: &str) -> bool {
    OTHERWISE.iter().any(|(id, of, _)| *id == operation.id && *of == place)
}

/// Sends a request; a user whose session ended by an earlier one gets a new place.
async fn sent(place: &Place, operation: &Operation, path: &str, body: Option<&Value>) -> Answer {
    let method: Method = operation.method.parse().unwrap();
    let body = body.map(|body| body.to_string().into_bytes());
    place.user.send(method, path, body).await
}

/// The path with a parameter of the query or of the path itself.
fn with(place: &Place, operation: &Operation, parameter: &Parameter, value: &str) -> String {
    let mut changed = operation.clone();
    for other in changed.parameters.iter_mut().filter(|other| other.name == parameter.name) {
        other.example = Some(json!(value));
        other.required = true;
    }
    place.path(&changed)
}

fn errcode(answer: &Answer) -> &str {
    answer.body["errcode"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn unknown_values_of_parameters_are_refused() {
    let server = TestServer::start().await;
    let place = Place::new(&server, 0).await;
    let is_served = served();
    let mut problems = Vec::new();
    let mut asked = 0;
    for operation in SPEC.operations.iter().filter(|operation| is_served(operation)) {
        let listed = operation.parameters.iter().filter(|parameter| !parameter.values.is_empty());
        for parameter in listed.filter(|parameter| !is_otherwise(operation, &parameter.name)) {
            let body = operation.takes_json.then(|| operation.example.clone().unwrap_or(json!({})));
            let path = with(&place, operation, parameter, UNKNOWN);
            let answer = sent(&place, operation, &path, body.as_ref()).await;
            if (answer.status, errcode(&answer)) != (400, "M_INVALID_PARAM") {
                problems.push(format!("{path}: {} {}", answer.status, answer.body));
            }
            asked += 1;
            for value in parameter.values.iter().filter(|_| parameter.place == "query") {
                let path = with(&place, operation, parameter, value);
                let answer = sent(&place, operation, &path, body.as_ref()).await;
                if errcode(&answer) == "M_INVALID_PARAM" {
                    problems.push(format!("{path}: is listed, {}", answer.body));
                }
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    assert!(asked > 12, "the specification lists more: {asked}");
}

#[tokio::test]
async fn unknown_values_in_bodies_are_refused() {
    let server = TestServer::start().await;
    let is_served = served();
    let mut place = Place::new(&server, 0).await;
    let mut problems = Vec::new();
    let mut asked = 0;
    for operation in SPEC.operations.iter().filter(|operation| is_served(operation)) {
        for choice in &operation.choices {
            let name = choice.place.join(".");
            if is_otherwise(operation, &name) {
                continue;
            }
            let path = place.path(operation);
            let example = operation.example.clone().unwrap_or(json!({}));
            let body = choice.put(&example, UNKNOWN);
            let answer = sent(&place, operation, &path, Some(&body)).await;
            let is_refused = ["M_BAD_JSON", "M_INVALID_PARAM"].contains(&errcode(&answer));
            if answer.status != 400 || !is_refused {
                problems.push(format!("{path} {name}: {} {}", answer.status, answer.body));
            }
            asked += 1;
            for value in &choice.values {
                let body = choice.put(&example, value);
                let answer = sent(&place, operation, &path, Some(&body)).await;
                let why = answer.body["error"].as_str().unwrap_or_default();
                if errcode(&answer) == "M_BAD_JSON" && why.contains(" is one of ") {
                    problems.push(format!("{path} {name}: {value} is listed, {}", answer.body));
                }
            }
        }
        if place.user.get("/_matrix/client/v3/account/whoami").await.status != 200 {
            place = Place::new(&server, asked).await;
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    assert!(asked > 10, "the specification lists more: {asked}");
}

#[tokio::test]
async fn a_filter_in_the_query_of_a_sync_is_read_as_closely() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let path = |format: &str| {
        let filter = crate::sync::filter(json!({ "event_format": format }));
        format!("/_matrix/client/v3/sync?{filter}")
    };
    alice.get(&path(UNKNOWN)).await.err(400, "M_INVALID_PARAM");
    alice.get(&path("federation")).await.ok();
}
