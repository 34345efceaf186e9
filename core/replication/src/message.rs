//! How an advance looks on the bus between processes: JSON, with short names, for many travel.
//! Whatever arrives is checked; what is not understood is dropped, and the gap is noticed.

use colonnade_model::{
    nid::{DeviceNid, EventNid, RoomNid, UserNid},
    stream::{Position, Stream, StreamAdvance, Touch},
};
use serde::{Deserialize, Serialize};

/// The longest list of touches that travels; beyond it readers are told that anybody may be
/// concerned. At about 16 bytes each a message stays below 64 kB.
const TOUCHES_MAX: usize = 4_000;

/// An advance as it travels.
#[derive(Debug, Serialize, Deserialize)]
struct Message {
    /// The stream's number.
    s: i64,
    /// Where it stood.
    p: Position,
    /// Where it stands.
    u: Position,
    /// Whom the rows concern: kind, id, position.
    t: Vec<(u8, i64, Position)>,
}

/// Writes an advance.
pub(crate) fn encode(advance: &StreamAdvance) -> Vec<u8> {
    let touched = &advance.touched;
    let row = |(touch, position): &(Touch, Position)| match touch {
        Touch::Room(room) => (0, room.0, *position),
        Touch::User(user) => (1, user.0, *position),
        Touch::Device(device) => (2, device.0, *position),
        Touch::Anybody => (3, 0, *position),
        Touch::Stale(device) => (4, device.0, *position),
        Touch::Redacted(event) => (5, event.0, *position),
    };
    let t = match touched.len() {
        0..=TOUCHES_MAX => touched.iter().map(row).collect(),
        _ => vec![(3, 0, advance.upto)],
    };
    let message = Message { s: advance.stream.number(), p: advance.prev, u: advance.upto, t };
    serde_json::to_vec(&message).expect("integers can be written as JSON")
}

/// Reads an advance; `None` if it is none.
pub(crate) fn decode(bytes: &[u8]) -> Option<StreamAdvance> {
    let Message { s, p: prev, u: upto, t } = serde_json::from_slice(bytes).ok()?;
    let stream = Stream::ALL.into_iter().find(|stream| stream.number() == s)?;
    if prev < 0 || upto <= prev {
        return None;
    }
    let touch = |(kind, id, position)| {
        let touch = match kind {
            0 => Touch::Room(RoomNid(id)),
            1 => Touch::User(UserNid(id)),
            2 => Touch::Device(DeviceNid(id)),
            4 => Touch::Stale(DeviceNid(id)),
            5 => Touch::Redacted(EventNid(id)),
            // Also what a newer version says and we do not know.
            _ => Touch::Anybody,
        };
        (touch, position)
    };
    Some(StreamAdvance { stream, prev, upto, touched: t.into_iter().map(touch).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advance_survives_the_journey() {
        let touched = vec![
            (Touch::Room(RoomNid(7)), 11),
            (Touch::User(UserNid(8)), 12),
            (Touch::Device(DeviceNid(9)), 12),
            (Touch::Stale(DeviceNid(9)), 12),
            (Touch::Redacted(EventNid(10)), 12),
            (Touch::Anybody, 12),
        ];
        let advance = StreamAdvance { stream: Stream::Receipts, prev: 10, upto: 12, touched };
        assert_eq!(decode(&encode(&advance)), Some(advance));
    }

    #[test]
    fn what_touches_too_many_touches_anybody() {
        let touched = (0..5_000).map(|n| (Touch::User(UserNid(n)), n + 1)).collect();
        let advance = StreamAdvance { stream: Stream::Events, prev: 0, upto: 5_000, touched };
        let bytes = encode(&advance);
        assert!(bytes.len() < 100);
        assert_eq!(decode(&bytes).unwrap().touched, [(Touch::Anybody, 5_000)]);
    }

    #[test]
    fn nonsense_is_dropped() {
        for text in [
            "",
            "{}",
            "ping",
            r#"{"s":99,"p":0,"u":1,"t":[]}"#,
            r#"{"s":1,"p":5,"u":5,"t":[]}"#,
            r#"{"s":1,"p":-1,"u":5,"t":[]}"#,
            r#"{"s":1,"p":1e99,"u":5,"t":[]}"#,
        ] {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
    }
}
