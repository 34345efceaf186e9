//! The specification is read whole, and what it forbids is found.

use super::*;

#[test]
fn every_schema_compiles_and_every_operation_is_found() {
    assert_eq!(SPEC.operations.len(), 166);
    for operation in &SPEC.operations {
        for schema in operation.answers.values().flatten() {
            SPEC.validator(schema);
        }
        let path = operation.path.replace(['{', '}'], "");
        let found = SPEC.find(&operation.method, &path).expect("an operation");
        assert_eq!(found.path, operation.path);
    }
}

#[test]
fn wrong_answers_are_found() {
    let check = |path: &str, status: u16, body: Value| SPEC.check("GET", path, status, Some(&body));
    let path = "/_matrix/client/v3/account/whoami";
    assert!(check(path, 200, json!({ "user_id": "@a:b" })).is_ok());
    assert!(check(path, 200, json!({})).is_err(), "a member is missing");
    assert!(check(path, 200, json!({ "user_id": 7 })).is_err(), "a wrong type");
    assert!(check(path, 200, json!({ "user_id": "a" })).is_err(), "no user id");
    assert!(check(path, 201, json!({ "user_id": "@a:b" })).is_err(), "no such status");
    assert!(check(path, 403, json!({ "error": "no code" })).is_err());
    assert!(check(path, 500, json!({ "errcode": "M_UNKNOWN" })).is_ok());
    assert!(SPEC.check("GET", path, 200, None).is_err(), "not JSON");
    let typed = "/_matrix/client/v3/rooms/!a:b/state/m.room.name/";
    assert_eq!(SPEC.find("GET", typed).map(|found| found.id.as_str()), Some("getRoomStateWithKey"));
    let sync = "/_matrix/client/v3/sync?since=7";
    assert!(check(sync, 200, json!({ "next_batch": "a", "rooms": { "join": [] } })).is_err());
}
