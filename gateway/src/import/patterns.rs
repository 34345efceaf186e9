//! Where a location of nginx lies, written as a pattern of ours. nginx looks at the path with its escapes
//! decoded, several slashes taken for one; rules here see it with an escape for whatever could not be
//! written without (`routing/request_target.rs`). What stands in a location is a decoded character, so it
//! is translated to the ways in which a rule can meet that; a path that passes is translated to the usual
//! way alone.
//!
//! A pattern that denies takes no less than nginx's, and where the two languages differ, more.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// Marks that a rule sees without an escape, besides letters, digits and slashes.
const PLAIN: &[u8] = b"-._~!$&'()*+,;=:@";

/// A slash that nginx sees, in a pattern that denies.
const SLASHES: &str = "(?:/|%2F)+";

/// The characters beyond ASCII in a class at most: alternatives somebody wrote, no range of a script.
const LETTERS_MAX: usize = 100;

/// What hides from rules where nginx resolves it: `.` and `..` between slashes that are escaped.
pub(super) const HIDDEN_DOTS: &str = r"^.*(?:/|%2F)\.{1,2}(?:(?:/|%2F).*)?$";

/// Where a location lies.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'w> {
    /// At one path.
    Exact(&'w str),
    /// At all that begin so.
    Prefix(&'w str),
    /// Where a regular expression matches, letters alike or not.
    Regex { regex: &'w str, any_case: bool },
}

impl Place<'_> {
    /// The pattern of a rule that passes on.
    pub(super) fn passing(self) -> String {
        match self {
            Self::Exact(path) => format!("^{}$", literal(path, "/")),
            Self::Prefix(path) => format!("^{}.*$", literal(path, "/")),
            Self::Regex { regex, any_case: false } => whole(regex),
            Self::Regex { regex, any_case: true } => format!("(?i){}", whole(regex)),
        }
    }

    /// The pattern of a rule that denies; none if the regular expression cannot be understood.
    pub(super) fn denying(self) -> Option<String> {
        match self {
            Self::Exact(path) => Some(format!("^{}$", literal(path, SLASHES))),
            Self::Prefix(path) => Some(format!("^{}.*$", literal(path, SLASHES))),
            Self::Regex { regex, any_case } => {
                let mut parser = ParserBuilder::new();
                let parser = parser.unicode(false).utf8(false).case_insensitive(any_case);
                let hir = parser.build().parse(regex).ok()?;
                Some(format!("^(?:{})$", branches(&hir)?))
            }
        }
    }
}

/// A path as it stands in a location.
fn literal(path: &str, slash: &str) -> String {
    path.bytes().map(|byte| letter(byte, slash)).collect()
}

/// The ways in which a rule can meet a character.
fn letter(byte: u8, slash: &str) -> String {
    match byte {
        b'/' => slash.to_owned(),
        // The two marks that both spellings of are kept.
        b'[' | b']' => format!("(?:\\{}|%{byte:02X})", char::from(byte)),
        plain if is_plain(plain) => regex::escape(&char::from(plain).to_string()),
        other => format!("%{other:02X}"),
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || PLAIN.contains(&byte)
}

/// A pattern that takes the whole path where nginx's takes part of it.
fn whole(regex: &str) -> String {
    let regex = regex.replace("\\/", "/");
    let begin = if regex.starts_with('^') { "" } else { "^.*" };
    let ends = regex.ends_with('$') && !regex.ends_with("\\$");
    // An alternation at the top would escape what is added around it.
    let (open, close) = if regex.contains('|') && !ends { ("(?:", ")") } else { ("", "") };
    let inner = regex.trim_start_matches('^');
    let start = if regex.starts_with('^') { "^" } else { begin };
    format!("{start}{open}{inner}{close}{}", if ends { "" } else { ".*$" })
}

/// The alternatives of an expression, each extended to the whole path where it is not anchored.
fn branches(hir: &Hir) -> Option<String> {
    match hir.kind() {
        HirKind::Alternation(parts) => {
            let parts: Option<Vec<String>> = parts.iter().map(branches).collect();
            Some(parts?.join("|"))
        }
        HirKind::Capture(capture) => branches(&capture.sub),
        HirKind::Concat(parts) => branch(parts),
        _ => branch(std::slice::from_ref(hir)),
    }
}

fn branch(parts: &[Hir]) -> Option<String> {
    let is =
        |part: Option<&Hir>, look| part.is_some_and(|part| *part.kind() == HirKind::Look(look));
    let begins = is(parts.first(), Look::Start);
    let ends = is(parts.last(), Look::End);
    let mut made = String::from(if begins { "" } else { ".*" });
    for part in parts {
        made.push_str(&decoded(part)?);
    }
    made.push_str(if ends { "" } else { ".*" });
    Some(made)
}

/// An expression over decoded characters, as one over how rules meet them. What looks around is left out,
/// so that it takes more.
fn decoded(hir: &Hir) -> Option<String> {
    let joined = |parts: &[Hir], between: &str| {
        let parts: Option<Vec<String>> = parts.iter().map(decoded).collect();
        Some(parts?.join(between))
    };
    Some(match hir.kind() {
        // PCRE's `$` matches before a last line break, too.
        HirKind::Look(Look::End) => "(?:%0A)?".to_owned(),
        HirKind::Empty | HirKind::Look(_) => String::new(),
        HirKind::Literal(literal) => literal.0.iter().map(|byte| letter(*byte, SLASHES)).collect(),
        HirKind::Class(class) => one_of(class)?,
        HirKind::Capture(capture) => format!("(?:{})", decoded(&capture.sub)?),
        HirKind::Concat(parts) => joined(parts, "")?,
        HirKind::Alternation(parts) => format!("(?:{})", joined(parts, "|")?),
        HirKind::Repetition(repetition) => {
            let (min, max) = (repetition.min, repetition.max);
            let most = max.map_or_else(String::new, |max| max.to_string());
            match (is_anything(&repetition.sub), min, max) {
                (true, 0, None) => ".*".to_owned(),
                (true, 1, None) => ".+".to_owned(),
                _ => format!("(?:{}){{{min},{most}}}", decoded(&repetition.sub)?),
            }
        }
    })
}

/// Tells whether an expression is `.`, or takes even more.
fn is_anything(hir: &Hir) -> bool {
    let HirKind::Class(class) = hir.kind() else { return false };
    let bytes = bytes_of(class);
    let all = |byte: u8| byte == b'\n' || bytes.contains(&byte);
    (1..=u8::MAX).all(all)
}

/// The bytes of a class, U+0000 left out: no path has it. Of characters those in ASCII.
fn bytes_of(class: &Class) -> Vec<u8> {
    let mut bytes = Vec::new();
    match class {
        Class::Bytes(class) => {
            class.ranges().iter().for_each(|range| bytes.extend(range.start()..=range.end()));
        }
        Class::Unicode(class) => {
            let letters = class.ranges().iter().flat_map(|range| range.start()..=range.end());
            let ascii = letters.take_while(char::is_ascii);
            bytes.extend(ascii.filter_map(|letter| u8::try_from(letter).ok()));
        }
    }
    bytes.retain(|byte| *byte != 0);
    bytes
}

/// The characters of a class beyond ASCII, as they are written in a path. None if there are too many.
fn beyond_ascii(class: &Class) -> Option<Vec<String>> {
    let Class::Unicode(class) = class else { return Some(Vec::new()) };
    let letters = class.ranges().iter().flat_map(|range| range.start()..=range.end());
    let beyond: Vec<char> =
        letters.filter(|letter| !letter.is_ascii()).take(LETTERS_MAX + 1).collect();
    let written = |letter: &char| literal(letter.encode_utf8(&mut [0; 4]), SLASHES);
    (beyond.len() <= LETTERS_MAX).then(|| beyond.iter().map(written).collect())
}

/// One character out of several: those without escapes, slashes, and those with, by their first digit.
fn one_of(class: &Class) -> Option<String> {
    let bytes = bytes_of(class);
    let mut ways = beyond_ascii(class)?;
    let is_visible = |byte: &u8| is_plain(*byte) || matches!(byte, b'[' | b']');
    let plain: String =
        bytes.iter().filter(|byte| is_visible(byte)).map(|byte| format!("\\x{byte:02X}")).collect();
    if !plain.is_empty() {
        ways.push(format!("[{plain}]"));
    }
    if bytes.contains(&b'/') {
        ways.push(SLASHES.to_owned());
    }
    for high in 0..16 {
        let is_escaped = |byte: &&u8| **byte >> 4 == high && !is_plain(**byte) && **byte != b'/';
        let low: String =
            bytes.iter().filter(is_escaped).map(|byte| format!("{:X}", byte & 15)).collect();
        if !low.is_empty() {
            ways.push(format!("%{high:X}[{low}]"));
        }
    }
    // An empty class takes nothing, and takes all that stands around it with it.
    (!ways.is_empty()).then(|| format!("(?:{})", ways.join("|")))
}
