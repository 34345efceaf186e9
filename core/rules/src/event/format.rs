//! The form an event from outside must have in its room version (Matrix v1.19, rooms, §Event format; client-server,
//! §Size limits). What an event means is not asked here.

use colonnade_model::ruma::{
    CanonicalJsonObject, CanonicalJsonValue, Int,
    room_version_rules::{EventIdFormatVersion, EventsReferenceFormatVersion, RoomVersionRules},
    state_res::check_pdu_format,
};

use super::{
    malformed::{DEPTH_MAX, EVENT_BYTES_MAX, FIELD_BYTES_MAX, Malformed},
    object::EventObject,
};

/// The fields that ruma's check looks at, but for `depth`, which may be greater than it can hold.
const CHECKED: [&str; 7] =
    ["type", "sender", "room_id", "event_id", "state_key", "prev_events", "auth_events"];

/// The fields whose characters were counted where the specification limits bytes, before room version 11.
const COUNTED_ONCE: [&str; 2] = ["type", "state_key"];

/// Tells whether a text is longer than a field may be, but was taken by servers before room version 11, which
/// counted characters. Such an event is one that is rejected: what follows it stands.
fn fits_once(text: &str, rules: &RoomVersionRules) -> bool {
    text.len() > FIELD_BYTES_MAX
        && !rules.authorization.use_room_create_sender
        && text.chars().count() <= FIELD_BYTES_MAX
}

/// Checks the form of an object that takes so many bytes.
pub(super) fn check(
    object: &EventObject,
    bytes: usize,
    rules: &RoomVersionRules,
) -> Result<(), Malformed> {
    if bytes > EVENT_BYTES_MAX {
        return Err(Malformed(format!("{bytes} bytes, more than {EVENT_BYTES_MAX}")));
    }
    // ruma's has a limit of its own on the size, which is a byte less than what is allowed. So it sees
    // neither content nor signatures.
    let mut fields = CanonicalJsonObject::new();
    for field in CHECKED {
        if let Some(value) = object.get(field) {
            fields.insert(field.to_owned(), value.clone());
        }
    }
    fields.insert("depth".to_owned(), CanonicalJsonValue::Integer(Int::from(1)));
    for field in COUNTED_ONCE {
        if object.string(field).is_some_and(|text| fits_once(text, rules)) {
            fields.insert(field.to_owned(), CanonicalJsonValue::String("fits".to_owned()));
        }
    }
    // An event that names the create event where it must not is an event all the same: the authorization
    // rules reject it, and others may follow it (Matrix v1.19, rooms, v12, §Authorization rules).
    let mut format = rules.event_format.clone();
    format.allow_room_create_in_auth_events = true;
    check_pdu_format(&fields, &format).map_err(Malformed)?;
    texts(object, rules)?;
    depth(object, rules)?;
    references(object, rules)?;
    match object.object("content") {
        Some(_) => Ok(()),
        None => Err(Malformed("`content` is no object".to_owned())),
    }
}

/// Checks what is stored as text. U+0000 is not forbidden by the specification, but PostgreSQL cannot store it.
fn texts(object: &EventObject, rules: &RoomVersionRules) -> Result<(), Malformed> {
    for field in ["type", "sender", "room_id", "event_id", "state_key"] {
        let Some(value) = object.get(field) else { continue };
        match object.string(field) {
            Some(text)
                if text.len() > FIELD_BYTES_MAX
                    && !(COUNTED_ONCE.contains(&field) && fits_once(text, rules)) =>
            {
                return Err(Malformed(format!("`{field}` is longer than {FIELD_BYTES_MAX}")));
            }
            Some(text) if text.contains('\0') => {
                return Err(Malformed(format!("`{field}` contains U+0000")));
            }
            Some(_) => {}
            None => return Err(Malformed(format!("`{field}` is no string: {value}"))),
        }
    }
    Ok(())
}

/// Checks the depth: an integer that this room version can say.
fn depth(object: &EventObject, rules: &RoomVersionRules) -> Result<(), Malformed> {
    let depth = object.integer("depth");
    let depth = depth.ok_or_else(|| Malformed("`depth` is no integer, or negative".to_owned()))?;
    let max = if rules.authorization.strict_canonical_json {
        DEPTH_MAX
    } else {
        // Matrix v1.19, rooms, v1, §Event format.
        i64::MAX.unsigned_abs()
    };
    if depth > max {
        return Err(Malformed(format!("`depth` is greater than {max}")));
    }
    Ok(())
}

/// Checks how the event names others, and that it does not name itself: where ids are no hashes it could.
fn references(object: &EventObject, rules: &RoomVersionRules) -> Result<(), Malformed> {
    let own = match rules.event_id_format {
        EventIdFormatVersion::V1 => object.string("event_id"),
        _ => None,
    };
    for field in ["prev_events", "auth_events"] {
        let bad = |why: &str| Malformed(format!("`{field}` {why}"));
        let named = object.get(field).and_then(CanonicalJsonValue::as_array).unwrap_or_default();
        for reference in named {
            let id = match (&rules.events_reference_format, reference) {
                (EventsReferenceFormatVersion::V2, CanonicalJsonValue::String(id)) => id,
                (EventsReferenceFormatVersion::V1, CanonicalJsonValue::Array(pair)) => {
                    match &pair[..] {
                        [CanonicalJsonValue::String(id), CanonicalJsonValue::Object(_)] => id,
                        _ => return Err(bad("are pairs of an id and hashes")),
                    }
                }
                _ => return Err(bad("are not written as in this room version")),
            };
            if id.len() > FIELD_BYTES_MAX || id.contains('\0') {
                return Err(bad("has an id that is none"));
            }
            if own == Some(id) {
                return Err(bad("names the event itself"));
            }
        }
    }
    Ok(())
}
