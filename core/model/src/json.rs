//! The one rule for JSON that comes from outside and is stored or passed on: whatever passes here, every
//! client can read, also wrapped into the answers it ends up in. A reader that takes fewer levels, a
//! number no float can hold, half a surrogate pair or one key twice would see something else than we do,
//! or nothing, and a client that cannot read one piece of an answer cannot read any of it.
//!
//! Says nothing about shapes, and does not bind integers to ±(2^53 − 1): that is canonical JSON, asked of
//! events and signed keys where they are read.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::MatrixError;

/// How deep arrays and objects may stand in each other. Common readers stop at 128 levels, and the answer
/// that wraps most, a sync with an event bundled into an event bundled into a thread's root, takes 16.
pub const DEPTH_MAX: usize = 100;

/// Makes sure that a text is JSON by the rule above.
///
/// # Errors
/// `M_NOT_JSON` when it is no JSON at all, `M_BAD_JSON` when it is nested deeper than [`DEPTH_MAX`], has a
/// number that is not finite, half a surrogate pair, or an object with one key twice.
pub fn check(text: &[u8]) -> Result<(), MatrixError> {
    let text =
        std::str::from_utf8(text).map_err(|_| MatrixError::not_json("the JSON is not UTF-8"))?;
    let Err(error) = walk(text, Twins::Refused) else { return Ok(()) };
    // What follows the grammar and breaks the rule is JSON still.
    Err(match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => MatrixError::bad_json(error.to_string()),
        Err(error) => MatrixError::not_json(format!("this is not JSON: {error}")),
    })
}

/// Tells whether every client can read a text that was stored before this rule was kept. A key that stands
/// in an object twice is let through: clients read it, if not all alike.
pub fn is_readable(text: &str) -> bool {
    walk(text, Twins::Allowed).is_ok()
}

/// Tells whether a text that is JSON is nested deeper than [`DEPTH_MAX`].
pub fn is_deep(text: &str) -> bool {
    let opens = |byte: &u8| matches!(byte, b'{' | b'[');
    // Nearly all that is stored.
    if text.bytes().filter(|byte| opens(byte)).count() <= DEPTH_MAX {
        return false;
    }
    let (mut depth, mut in_text, mut is_escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_text => is_escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => depth += 1,
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return true;
        }
    }
    false
}

fn walk(text: &str, twins: Twins) -> serde_json::Result<()> {
    let mut reader = serde_json::Deserializer::from_str(text);
    Value { depth: 0, twins }.deserialize(&mut reader)?;
    reader.end()
}

/// What becomes of an object with one key twice.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Twins {
    Refused,
    Allowed,
}

/// Reads one value and keeps nothing of it. Reading a text decodes it, so that a surrogate without its
/// other half is an error, and a number is read as what it is, so that one beyond all floats is.
#[derive(Clone, Copy)]
struct Value {
    depth: usize,
    twins: Twins,
}

impl Value {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth == DEPTH_MAX {
            return Err(E::custom(format_args!("the JSON is deeper than {DEPTH_MAX} levels")));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Value {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let item = self.deeper()?;
        while items.next_element_seed(item)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let member = self.deeper()?;
        let mut keys = Vec::new();
        while let Some(Key(key)) = members.next_key()? {
            members.next_value_seed(member)?;
            if self.twins == Twins::Refused {
                keys.push(key);
            }
        }
        keys.sort_unstable();
        match keys.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => {
                let shown: String = pair[0].chars().take(64).collect();
                Err(A::Error::custom(format_args!("an object has the key {shown:?} twice")))
            }
            None => Ok(()),
        }
    }
}

/// A key, in place where it needs no decoding.
#[derive(Deserialize)]
struct Key<'k>(#[serde(borrow)] Cow<'k, str>);

#[cfg(test)]
mod tests;
