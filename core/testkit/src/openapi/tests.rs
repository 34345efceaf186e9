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

#[test]
fn missing_containers_are_found_unless_they_may_be_absent() {
    let check = |method: &str, path: &str, body: Value| SPEC.check(method, path, 200, Some(&body));
    let claim = "/_matrix/client/v3/keys/claim";
    let problem = check("POST", claim, json!({ "one_time_keys": {} })).unwrap_err();
    assert!(problem.contains(r#"["/failures"]"#), "{problem}");
    assert!(check("POST", claim, json!({ "one_time_keys": {}, "failures": {} })).is_ok());
    // Inside of what is there, too: maps by any key, and lists.
    let keys = |master: Value| {
        json!({ "failures": {}, "device_keys": {}, "master_keys": { "@a:b": master },
            "self_signing_keys": {}, "user_signing_keys": {} })
    };
    let query = "/_matrix/client/v3/keys/query";
    let key = json!({ "user_id": "@a:b", "usage": ["master"], "keys": { "ed25519:x": "x" } });
    let problem = check("POST", query, keys(key.clone())).unwrap_err();
    assert!(problem.contains("/master_keys/*/signatures"), "{problem}");
    let mut signed = key;
    signed["signatures"] = json!({});
    assert!(check("POST", query, keys(signed)).is_ok());
    let search = "/_matrix/client/v3/search";
    let found = |result: Value| {
        let found = json!({ "results": [result], "highlights": [], "state": {}, "groups": {} });
        json!({ "search_categories": { "room_events": found } })
    };
    assert!(check("POST", search, found(json!({ "rank": 1 }))).is_err(), "a result without event");
    assert!(check("POST", search, json!({ "search_categories": {} })).is_ok());
    // What users wrote is theirs, and a sync says what happened.
    let state = "/_matrix/client/v3/rooms/!a:b/state/m.room.power_levels/";
    assert!(check("GET", state, json!({ "ban": 50 })).is_ok());
    assert!(check("GET", "/_matrix/client/v3/sync", json!({ "next_batch": "a" })).is_ok());
}

#[test]
fn what_may_be_absent_is_in_the_schema() {
    for (operation, place, why) in containers::ABSENT {
        let known = SPEC.operations.iter().find(|known| known.id == *operation);
        let known = known.unwrap_or_else(|| panic!("there is no operation {operation}"));
        let schema = known.answers[&200].as_deref().expect("a schema");
        assert!(SPEC.schemas.names(schema, place), "{operation} has no {place}");
        assert!(!why.is_empty());
    }
}
