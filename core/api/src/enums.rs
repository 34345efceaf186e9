//! Parameters and fields that take one of a few values by the specification, and their one check: what
//! is not listed is refused, not taken for the default. The typed requests take any text there.
//!
//! A test compares this with the specification's own lists.

use colonnade_model::MatrixError;
use http::Method;
use serde_json::Value;

/// The end of an endpoint's path, the name of a query parameter, what it may be.
type Parameter = (&'static str, &'static str, &'static [&'static str]);
/// The end of an endpoint's path, the way to a field in its body, what it may be. `[]` stands for the
/// elements of an array.
type Field = (&'static str, &'static [&'static str], &'static [&'static str]);

const DIRECTIONS: &[&str] = &["b", "f"];
const MEMBERSHIPS: &[&str] = &["join", "invite", "knock", "leave", "ban"];
const MEDIA: &[&str] = &["email", "msisdn"];

const PARAMETERS: &[Parameter] = &[
    ("/rooms/{room_id}/messages", "dir", DIRECTIONS),
    ("/rooms/{room_id}/timestamp_to_event", "dir", DIRECTIONS),
    ("/relations/{event_id}", "dir", DIRECTIONS),
    ("/relations/{event_id}/{rel_type}", "dir", DIRECTIONS),
    ("/relations/{event_id}/{rel_type}/{event_type}", "dir", DIRECTIONS),
    ("/rooms/{room_id}/members", "membership", MEMBERSHIPS),
    ("/rooms/{room_id}/members", "not_membership", MEMBERSHIPS),
    ("/rooms/{room_id}/threads", "include", &["all", "participated"]),
    ("/state/{event_type}", "format", &["content", "event"]),
    ("/state/{event_type}/", "format", &["content", "event"]),
    ("/state/{event_type}/{state_key}", "format", &["content", "event"]),
    ("/thumbnail/{server_name}/{media_id}", "method", &["crop", "scale"]),
    ("/sync", "set_presence", &["offline", "online", "unavailable"]),
];

/// Arguments of paths, as [`PARAMETERS`], where something is put there. Whoever looks for it is told that
/// nothing is there.
const ARGUMENTS: &[Parameter] = &[(
    "/pushrules/global/{kind}/{rule_id}",
    "kind",
    &["override", "underride", "sender", "room", "content"],
)];

const FIELDS: &[Field] = &[
    ("/user/{user_id}/filter", &["event_format"], &["client", "federation"]),
    ("/createRoom", &["visibility"], &["public", "private"]),
    ("/createRoom", &["preset"], &["private_chat", "public_chat", "trusted_private_chat"]),
    ("/account/3pid/delete", &["medium"], MEDIA),
    ("/account/3pid/unbind", &["medium"], MEDIA),
    ("/pushers/set", &["data", "format"], &["event_id_only"]),
    (
        "/search",
        &["search_categories", "room_events", "keys", "[]"],
        &["content.body", "content.name", "content.topic"],
    ),
    ("/search", &["search_categories", "room_events", "order_by"], &["recent", "rank"]),
    (
        "/search",
        &["search_categories", "room_events", "groupings", "group_by", "[]", "key"],
        &["room_id", "sender"],
    ),
];

/// Checks the query string of a request that reads. What writes is counted before anything is said of it,
/// and its handler checks what it takes.
///
/// # Errors
/// `M_INVALID_PARAM` for a value the specification does not list.
pub(crate) fn check_query(
    method: &Method,
    path: &str,
    query: Option<&str>,
) -> Result<(), MatrixError> {
    let Some(query) = query.filter(|_| *method == Method::GET) else { return Ok(()) };
    for (_, name, values) in PARAMETERS.iter().filter(|(end, ..)| path.ends_with(end)) {
        let given = form_urlencoded::parse(query.as_bytes());
        let mut given = given.filter(|(key, _)| key == name);
        if given.any(|(_, value)| !values.contains(&&*value)) {
            return Err(MatrixError::invalid_param(one_of(name, values)));
        }
    }
    Ok(())
}

/// Checks the arguments in the path of a request to the endpoint at `path`.
///
/// # Errors
/// `M_INVALID_PARAM` for a value the specification does not list.
pub(crate) fn check_arguments(
    method: &Method,
    path: &str,
    arguments: &[String],
) -> Result<(), MatrixError> {
    if *method != Method::PUT {
        return Ok(());
    }
    for (_, name, values) in ARGUMENTS.iter().filter(|(end, ..)| path.ends_with(end)) {
        let mut names = path.split('/').filter(|segment| segment.starts_with('{'));
        let place = names.position(|segment| segment.trim_matches(['{', '}']) == *name);
        let given = place.and_then(|place| arguments.get(place));
        if given.is_some_and(|given| !values.contains(&given.as_str())) {
            return Err(MatrixError::invalid_param(one_of(name, values)));
        }
    }
    Ok(())
}

/// Checks the JSON body of a request to the endpoint at `path`. What is no text at such a place is left
/// to whoever reads the body.
///
/// # Errors
/// `M_BAD_JSON` for a value the specification does not list.
pub(crate) fn check_body(method: &Method, path: &str, body: &[u8]) -> Result<(), MatrixError> {
    if *method == Method::GET {
        return Ok(());
    }
    let mut fields = FIELDS.iter().filter(|(end, ..)| path.ends_with(end)).peekable();
    if fields.peek().is_none() {
        return Ok(());
    }
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return Ok(()) };
    for (_, place, values) in fields {
        if !is_listed(&body, place, values) {
            return Err(MatrixError::bad_json(one_of(&place.join("."), values)));
        }
    }
    Ok(())
}

/// Tells whether every text at the place is one of the values.
fn is_listed(body: &Value, place: &[&str], values: &[&str]) -> bool {
    match place.split_first() {
        None => body.as_str().is_none_or(|text| values.contains(&text)),
        Some((&"[]", rest)) => {
            let mut elements = body.as_array().into_iter().flatten();
            elements.all(|element| is_listed(element, rest, values))
        }
        Some((name, rest)) => body.get(*name).is_none_or(|member| is_listed(member, rest, values)),
    }
}

fn one_of(name: &str, values: &[&str]) -> String {
    format!("{name} is one of {}", values.join(", "))
}
