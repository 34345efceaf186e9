//! Numbers that canonical JSON does not have, in events of room versions 1 to 5.
//!
//! These versions must not enforce canonical JSON (Matrix v1.19, rooms, v1, §Canonical JSON), so an event of
//! another server may contain `1.5`, `1e3` or 2^60. What its server hashed and signed is the number as it
//! spelled it, and the library underneath holds none of them. So such a number is set aside: a string takes
//! its place that says how it was spelled, and when the event is written, to be hashed, signed or stored,
//! the spelling stands there again. Two spellings of one number stay two. Only `-0` becomes `0`: every known
//! server writes it so.
//!
//! The texts must be JSON already: [`colonnade_model::json::check`] comes first, and refuses what no
//! float holds.

/// The greatest integer of canonical JSON; the least is its negative.
const CANONICAL_MAX: i64 = (1 << 53) - 1;

/// What the strings begin with that stand for numbers: a hash of the text they are in, so that no other string
/// of that text begins so.
#[derive(Clone, Debug)]
pub(super) struct Mark(String);

impl Mark {
    /// Sets the numbers of a text aside that canonical JSON does not have; `None` where there are none.
    pub(super) fn set(json: &str) -> Option<(Self, String)> {
        let mut mark = None;
        let marked = rewrite(json, |number, out| {
            let mark: &String =
                mark.get_or_insert_with(|| blake3::hash(json.as_bytes()).to_hex().to_string());
            match number {
                "-0" => out.push('0'),
                number => out.extend(["\"", mark, number, "\""]),
            }
        });
        Some((Self(mark?), marked?))
    }

    /// Puts the numbers back into a text that was made from the marked one.
    pub(super) fn restore(&self, json: &str) -> String {
        let begin = format!("\"{}", self.0);
        let mut parts = json.split(&begin);
        let mut restored = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            // Nothing in the spelling of a number is ever escaped.
            let (number, rest) = part.split_once('"').unwrap_or((part, ""));
            restored.extend([number, rest]);
        }
        restored
    }

    /// Returns how the number was spelled that a string stands for, if it stands for one.
    pub(super) fn number<'a>(&self, text: &'a str) -> Option<&'a str> {
        text.strip_prefix(&self.0)
    }
}

/// Makes every number of a text an integer of canonical JSON, as power levels are read where they may be floats:
/// cut at the decimal point (Matrix v1.19, rooms, v1, §`m.room.power_levels` events accept values as floats).
/// What is beyond the range becomes its end. `None` where nothing has to change.
pub(super) fn truncate(json: &str) -> Option<String> {
    rewrite(json, |number, out| {
        let whole = match number.parse::<i64>() {
            Ok(whole) => whole,
            // Saturates, and there is no number here that is not finite.
            Err(_) => number.parse::<f64>().unwrap_or(0.0).trunc() as i64,
        };
        out.push_str(&whole.clamp(-CANONICAL_MAX, CANONICAL_MAX).to_string());
    })
}

/// Copies a JSON text and lets the caller write each number that canonical JSON does not have; `None` where
/// there is none.
fn rewrite(json: &str, mut write: impl FnMut(&str, &mut String)) -> Option<String> {
    let bytes = json.as_bytes();
    let (mut rewritten, mut copied, mut at) = (String::new(), 0, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_string(bytes, at),
            b'-' | b'0'..=b'9' => {
                let is_part =
                    |byte: &&u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                let end = at + bytes[at..].iter().take_while(is_part).count();
                let number = &json[at..end];
                if !is_canonical(number) {
                    rewritten.push_str(&json[copied..at]);
                    write(number, &mut rewritten);
                    copied = end;
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    if copied == 0 {
        return None;
    }
    rewritten.push_str(&json[copied..]);
    Some(rewritten)
}

/// Returns where the text goes on after the string that begins at `start`.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}

fn is_canonical(number: &str) -> bool {
    let range = -CANONICAL_MAX..=CANONICAL_MAX;
    number != "-0" && number.parse::<i64>().is_ok_and(|number| range.contains(&number))
}

#[cfg(test)]
mod tests;
