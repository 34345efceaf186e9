//! A path pattern: a regular expression that takes the whole path or nothing, and where in the path
//! the segment stands that is a key. Analysis at load time only; nothing here runs per request.

use regex_syntax::hir::{Hir, HirKind, Look};

/// A checked pattern.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    /// Where the room id stands, if the pattern names it.
    pub room: Option<Segment>,
    /// Where the user id stands, if the pattern names it.
    pub user: Option<Segment>,
}

/// The place of a path segment, counted so that it is the same in every path that matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// This many slashes stand before it.
    FromStart(usize),
    /// This many slashes stand after it.
    FromEnd(usize),
}

/// Why a pattern cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    /// What is wrong.
    pub problem: String,
    /// What would make it right.
    pub mend: Option<String>,
}

impl Wrong {
    fn new(problem: impl Into<String>, mend: &str) -> Self {
        Self { problem: problem.into(), mend: Some(mend.to_owned()) }
    }
}

/// How a pattern is read everywhere: bytes, not characters, since a raw path is bytes.
pub(crate) fn syntax() -> regex_automata::util::syntax::Config {
    regex_automata::util::syntax::Config::new().unicode(false).utf8(false)
}

impl Pattern {
    /// Parses and checks a pattern.
    ///
    /// # Errors
    /// [`Wrong`] if it is no regular expression, could match part of a path only, or names a group
    /// that is not one whole path segment.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let hir = regex_automata::util::syntax::parse_with(text, &syntax()).map_err(|error| {
            let why = error.to_string();
            let last = why.lines().last().unwrap_or("").trim().trim_start_matches("error: ");
            Wrong { problem: format!("is no regular expression: {last}"), mend: None }
        })?;
        let looks = hir.properties();
        if !looks.look_set_prefix().contains(Look::Start) {
            return Err(Wrong::new("can match in the middle of a path", "begin it with ^"));
        }
        if !looks.look_set_suffix().contains(Look::End) {
            return Err(Wrong::new("can match the beginning of a longer path", "end it with $"));
        }
        let mut names = Vec::new();
        group_names(&hir, &mut names);
        if let Some(name) = names.iter().find(|name| !["room", "user"].contains(&name.as_str())) {
            let problem = format!("names a group `{name}`");
            return Err(Wrong::new(problem, "the groups with a meaning are room and user"));
        }
        Ok(Self {
            text: text.to_owned(),
            room: segment(&hir, "room", &names)?,
            user: segment(&hir, "user", &names)?,
        })
    }

    /// Gives the text the file has.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl Segment {
    /// Cuts the segment out of a path that matched.
    pub fn cut<'p>(&self, path: &'p str) -> Option<&'p str> {
        match *self {
            Self::FromStart(slashes) => path.split('/').nth(slashes),
            Self::FromEnd(slashes) => path.rsplit('/').nth(slashes),
        }
    }
}

fn group_names(hir: &Hir, names: &mut Vec<String>) {
    match hir.kind() {
        HirKind::Capture(capture) => {
            names.extend(capture.name.iter().map(|name| name.to_string()));
            group_names(&capture.sub, names);
        }
        HirKind::Concat(parts) | HirKind::Alternation(parts) => {
            parts.iter().for_each(|part| group_names(part, names));
        }
        HirKind::Repetition(repetition) => group_names(&repetition.sub, names),
        _ => {}
    }
}

/// Finds the named group in the top-level concatenation and counts the slashes around it.
fn segment(hir: &Hir, name: &str, names: &[String]) -> Result<Option<Segment>, Wrong> {
    if !names.iter().any(|known| known == name) {
        return Ok(None);
    }
    let whole = "write it as a whole path segment, like /(?<room>[^/]+)/, outside other groups";
    let parts = match hir.kind() {
        HirKind::Concat(parts) => parts.as_slice(),
        _ => std::slice::from_ref(hir),
    };
    let is_group = |part: &Hir| match part.kind() {
        HirKind::Capture(capture) => capture.name.as_deref() == Some(name),
        _ => false,
    };
    let Some(at) = parts.iter().position(is_group) else {
        return Err(Wrong::new(format!("has the group `{name}` inside another"), whole));
    };
    let alone = slashes(&parts[at]) == Some(0)
        && ends_with_slash(&parts[..at])
        && starts_with_slash_or_ends(&parts[at + 1..]);
    if !alone {
        return Err(Wrong::new(format!("has a group `{name}` that is not a segment"), whole));
    }
    let count = |parts: &[Hir]| parts.iter().map(slashes).sum::<Option<usize>>();
    if let Some(before) = count(&parts[..at]) {
        return Ok(Some(Segment::FromStart(before)));
    }
    if let Some(after) = count(&parts[at + 1..]) {
        return Ok(Some(Segment::FromEnd(after)));
    }
    Err(Wrong::new(
        format!("has varying numbers of segments before and after `{name}`"),
        "split the rule, so that one side always has the same number of slashes",
    ))
}

/// Counts the slashes in whatever this part matches; `None` when their number varies.
fn slashes(hir: &Hir) -> Option<usize> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Some(0),
        HirKind::Literal(literal) => Some(literal.0.iter().filter(|b| **b == b'/').count()),
        HirKind::Class(class) => {
            let has_slash = match class {
                regex_syntax::hir::Class::Bytes(class) => {
                    class.ranges().iter().any(|r| r.start() <= b'/' && b'/' <= r.end())
                }
                regex_syntax::hir::Class::Unicode(class) => {
                    class.ranges().iter().any(|r| r.start() <= '/' && '/' <= r.end())
                }
            };
            (!has_slash).then_some(0)
        }
        HirKind::Repetition(repetition) => match slashes(&repetition.sub)? {
            0 => Some(0),
            n if repetition.max == Some(repetition.min) => Some(n * repetition.min as usize),
            _ => None,
        },
        HirKind::Capture(capture) => slashes(&capture.sub),
        HirKind::Concat(parts) => parts.iter().map(slashes).sum(),
        HirKind::Alternation(parts) => {
            let mut counts = parts.iter().map(slashes);
            let first = counts.next()??;
            counts.all(|count| count == Some(first)).then_some(first)
        }
    }
}

fn ends_with_slash(before: &[Hir]) -> bool {
    matches!(before.last().map(Hir::kind), Some(HirKind::Literal(l)) if l.0.last() == Some(&b'/'))
}

fn starts_with_slash_or_ends(after: &[Hir]) -> bool {
    match after.first().map(Hir::kind) {
        Some(HirKind::Look(Look::End)) => true,
        Some(HirKind::Literal(literal)) => literal.0.first() == Some(&b'/'),
        // An optional tail, `(/…)?` then the end.
        Some(HirKind::Repetition(repetition)) => {
            first_is_slash(&repetition.sub) && starts_with_slash_or_ends(&after[1..])
        }
        Some(HirKind::Capture(capture)) => first_is_slash(&capture.sub),
        _ => false,
    }
}

fn first_is_slash(hir: &Hir) -> bool {
    match hir.kind() {
        HirKind::Literal(literal) => literal.0.first() == Some(&b'/'),
        HirKind::Capture(capture) => first_is_slash(&capture.sub),
        HirKind::Concat(parts) => parts.first().is_some_and(first_is_slash),
        HirKind::Alternation(parts) => parts.iter().all(first_is_slash),
        _ => false,
    }
}
