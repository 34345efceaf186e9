//! The target of a request, read once at the door: rules, keys, limits and the log see what is read
//! here, and the worker is sent what it was read from. What two readers could understand differently
//! is refused. The cases in docs/targets.tsv are the contract with the workers, which refuse the same
//! (`core/api/src/request_target.rs`).
//!
//! Invariants of a [`Target`]:
//! 1. It is visible ASCII that begins with `/`, without `#` and `\`, and every `%` begins an escape.
//! 2. Escapes are spelled one way: none where none is needed, capital letters, UTF-8, no U+0000
//!    (RFC 3986 §6.2.2). Nothing else is changed: servers sign what they send.
//! 3. No segment of the path is `.` or `..`.
//! 4. Names of parameters have no escapes, and those in [`ONCE`] stand there once.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The longest target, in bytes: a filter written out in `/sync` has a few kB.
pub const TARGET_BYTES_MAX: usize = 32 << 10;

/// The longest path, in bytes: workers look at no longer one. Ids have at most 255 characters, tripled
/// by escapes.
pub const PATH_BYTES_MAX: usize = 8 << 10;

/// Parameters by which it is decided who asks, where the request goes, how long it may take, or from
/// where something is read: one that stands there twice could be two things to two readers. Others may
/// repeat, as `via` and `server_name` do (Matrix v1.19, client-server, §Joining rooms).
pub const ONCE: [&str; 20] = [
    "access_token",
    "at",
    "client_secret",
    "device_id",
    "dir",
    "filename",
    "filter",
    "from",
    "kind",
    "limit",
    "loginToken",
    "method",
    "org.matrix.msc3202.device_id",
    "sid",
    "since",
    "timeout",
    "timeout_ms",
    "to",
    "token",
    "user_id",
];

/// Marks in the path that need no escape there (RFC 3986 §3.3); with it or without, rules see them as
/// they are.
const PATH_MARKS: &[u8] = b"!$&'()*+,;=:@";

/// Visible characters that no target has (RFC 3986 §2), yet some clients write: they get an escape.
const UNSAFE: &[u8] = b"\"<>^`{|}";

/// Why a target is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetError {
    /// Target or path have more bytes than [`TARGET_BYTES_MAX`] and [`PATH_BYTES_MAX`].
    TooLong,
    /// It has no reading, or two readers could read it differently.
    Unclear,
}

/// A target that has one reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    text: String,
    path_bytes: usize,
    /// The path as rules see it, where that is not how it is sent.
    read: Option<String>,
}

impl Target {
    /// Reads a target in origin form.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn parse(raw: &[u8]) -> Result<Self, TargetError> {
        if raw.len() > TARGET_BYTES_MAX {
            return Err(TargetError::TooLong);
        }
        if raw.first() != Some(&b'/') {
            return Err(TargetError::Unclear);
        }
        let end = memchr::memchr(b'?', raw).unwrap_or(raw.len());
        let mut text = String::with_capacity(raw.len());
        normalise(&raw[..end], false, &mut text)?;
        let path_bytes = text.len();
        if text.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err(TargetError::Unclear);
        }
        if let Some(query) = raw.get(end + 1..) {
            names_are_clear(query)?;
            text.push('?');
            normalise(query, true, &mut text)?;
        }
        if path_bytes > PATH_BYTES_MAX || text.len() > TARGET_BYTES_MAX {
            return Err(TargetError::TooLong);
        }
        let escaped = text.contains('%');
        if escaped && percent_decode_str(&text).decode_utf8().is_err() {
            return Err(TargetError::Unclear);
        }
        let read = escaped.then(|| read_path(&text[..path_bytes])).flatten();
        Ok(Self { text, path_bytes, read })
    }

    /// The whole as workers are sent it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The path as rules see it: every segment with escapes only where it could not be written without.
    pub fn path(&self) -> &str {
        self.read.as_deref().unwrap_or(&self.text[..self.path_bytes])
    }

    /// The query, without the `?`; values have their escapes.
    pub fn query(&self) -> &str {
        self.text.get(self.path_bytes + 1..).unwrap_or_default()
    }

    /// The value of a parameter.
    pub fn parameter(&self, name: &str) -> Option<Cow<'_, str>> {
        parameter(self.query(), name)
    }

    /// Says whether a parameter stands there more than once.
    pub fn repeats(&self, name: &str) -> bool {
        pairs(self.query()).filter(|(known, _)| *known == name).count() > 1
    }
}

/// Names and values of a query; values have their escapes.
pub fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let written = query.split('&').filter(|pair| !pair.is_empty());
    written.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Finds a parameter of a query.
pub fn parameter<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    pairs(query).find(|(known, _)| *known == name).map(|(_, value)| value_of(value))
}

/// What a value in a query means: a form's, in which `+` is a blank (WHATWG URL,
/// application/x-www-form-urlencoded).
pub fn value_of(raw: &str) -> Cow<'_, str> {
    if !raw.contains(['%', '+']) {
        return Cow::Borrowed(raw);
    }
    let blanks = raw.replace('+', " ");
    Cow::Owned(percent_decode_str(&blanks).decode_utf8_lossy().into_owned())
}

/// Refuses who says twice who he is, in one way or in two: workers might take the other one.
///
/// # Errors
/// [`TargetError::Unclear`].
pub(crate) fn credentials_are_one(
    authorizations: usize,
    any_is_bearer: bool,
    target: &Target,
) -> Result<(), TargetError> {
    let several = authorizations > 1 && any_is_bearer;
    let mixed = authorizations > 0 && target.parameter("access_token").is_some();
    if several || mixed { Err(TargetError::Unclear) } else { Ok(()) }
}

/// Writes part of a target the one way there is.
fn normalise(part: &[u8], is_query: bool, out: &mut String) -> Result<(), TargetError> {
    let mut rest = part.iter();
    while let Some(byte) = rest.next() {
        match *byte {
            b'%' => {
                let mut digit = || char::from(*rest.next()?).to_digit(16);
                let value = digit().zip(digit()).and_then(|(h, l)| u8::try_from(h << 4 | l).ok());
                match value {
                    None | Some(0) => return Err(TargetError::Unclear),
                    Some(plain) if is_unreserved(plain) => out.push(char::from(plain)),
                    Some(other) => escape(other, out),
                }
            }
            b'#' | b'\\' => return Err(TargetError::Unclear),
            mark if UNSAFE.contains(&mark) => escape(mark, out),
            // To some readers it separates parameters.
            b';' if is_query => escape(b';', out),
            plain @ b'!'..=b'~' => out.push(char::from(plain)),
            _ => return Err(TargetError::Unclear),
        }
    }
    Ok(())
}

fn names_are_clear(query: &[u8]) -> Result<(), TargetError> {
    let mut seen = [false; ONCE.len()];
    for pair in query.split(|byte| *byte == b'&') {
        let end = memchr::memchr(b'=', pair).unwrap_or(pair.len());
        let name = &pair[..end];
        if name.iter().any(|byte| matches!(byte, b'%' | b'+' | b';') || UNSAFE.contains(byte)) {
            return Err(TargetError::Unclear);
        }
        let Some(place) = ONCE.iter().position(|known| known.as_bytes() == name) else { continue };
        if std::mem::replace(&mut seen[place], true) {
            return Err(TargetError::Unclear);
        }
    }
    Ok(())
}

/// Takes the escapes off that a path could do without; none if there are none.
fn read_path(path: &str) -> Option<String> {
    let mut read = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        read.push_str(&rest[..at]);
        let (written, after) = rest[at..].split_at(3);
        match u8::from_str_radix(&written[1..], 16) {
            Ok(mark) if PATH_MARKS.contains(&mark) => read.push(char::from(mark)),
            _ => read.push_str(written),
        }
        rest = after;
    }
    read.push_str(rest);
    (read.len() < path.len()).then_some(read)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn escape(byte: u8, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let [high, low] = [byte >> 4, byte & 15].map(|digit| char::from(DIGITS[usize::from(digit)]));
    out.extend(['%', high, low]);
}

#[cfg(test)]
mod tests;
