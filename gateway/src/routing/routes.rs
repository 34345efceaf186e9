//! A rule as a typed value: which requests it takes, and what becomes of them. Plain data and
//! cheap tests on it; finding the rule for a request is `table.rs`.

use crate::routing::request_target::{pairs, value_of};
use crate::routing::table::pattern::Pattern;

/// An HTTP method, as far as rules tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Method {
    /// GET
    Get,
    /// HEAD
    Head,
    /// POST
    Post,
    /// PUT
    Put,
    /// DELETE
    Delete,
    /// PATCH
    Patch,
    /// OPTIONS
    Options,
    /// Any other; only rules for all methods take it.
    Other,
}

impl Method {
    /// The methods a rule may name.
    pub const NAMES: [&'static str; 7] =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];

    /// Every method, in the order of their bits.
    pub const EACH: [Self; 8] = [
        Self::Get,
        Self::Head,
        Self::Post,
        Self::Put,
        Self::Delete,
        Self::Patch,
        Self::Options,
        Self::Other,
    ];

    /// Parses the name of a method a rule may name.
    pub fn from_name(name: &str) -> Option<Self> {
        let at = Self::NAMES.iter().position(|known| *known == name)?;
        Some(Self::EACH[at])
    }

    /// Reads the method of a request; methods no rule can name are [`Method::Other`].
    pub fn of(name: &str) -> Self {
        Self::from_name(name).unwrap_or(Self::Other)
    }
}

/// A set of methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Methods(u8);

impl Methods {
    /// Every method, known or not.
    pub const ALL: Self = Self(u8::MAX);
    /// Every method that a rule may name.
    pub const NAMED: Self = Self(!(1 << Method::Other as u8));
    /// No method yet.
    pub const NONE: Self = Self(0);

    /// Adds a method; GET brings HEAD along (RFC 9110 §9.3.2).
    #[must_use]
    pub fn with(self, method: Method) -> Self {
        let head = if method == Method::Get { 1 << Method::Head as u8 } else { 0 };
        Self(self.0 | 1 << method as u8 | head)
    }

    /// Adds the methods of another set.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Says whether the set has the method.
    pub fn has(self, method: Method) -> bool {
        self.0 & (1 << method as u8) != 0
    }

    /// Names the methods of the set.
    pub fn names(self) -> Vec<&'static str> {
        if self == Self::ALL {
            return vec!["*"];
        }
        let named = Method::EACH.iter().zip(Method::NAMES);
        named.filter(|(method, _)| self.has(**method)).map(|(_, name)| name).collect()
    }
}

/// A condition on a query parameter or header: `name`, or `name=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predicate {
    /// The parameter or header.
    pub name: String,
    /// The value it must have; any, when absent.
    pub value: Option<String>,
}

impl Predicate {
    /// Parses `name` or `name=value`.
    pub fn parse(text: &str) -> Self {
        match text.split_once('=') {
            Some((name, value)) => Self { name: name.to_owned(), value: Some(value.to_owned()) },
            None => Self { name: text.to_owned(), value: None },
        }
    }

    fn holds_in_query(&self, query: &str) -> bool {
        pairs(query).any(|(name, value)| {
            let wanted = self.value.as_deref();
            name == self.name && wanted.is_none_or(|wanted| wanted == value_of(value))
        })
    }
}

/// By what a request sticks to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// The room in the path, or the alias where the client gave one.
    Room,
    /// The user in the path, of the access token, or the one an appservice acts for.
    User,
    /// The client's address.
    SourceIp,
    /// The server that signed the federation request, or else its address.
    Origin,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// It goes to the pool at this place in [`crate::config::Config::pools`].
    Pool(usize),
    /// It is answered as if the path did not exist.
    Deny,
}

/// Whether a request may be sent a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Where that cannot make anything happen twice.
    Safe,
    /// Only if the worker cannot have seen it: no connection was made.
    Never,
}

/// One rule.
#[derive(Debug, Clone)]
pub struct Route {
    /// Its place in the file, from 0.
    pub index: usize,
    /// The line it stands in.
    pub line: u64,
    /// What the path looks like.
    pub pattern: Pattern,
    /// The methods it takes.
    pub methods: Methods,
    /// Query parameters that must be there.
    pub if_query: Vec<Predicate>,
    /// Query parameters that must not be there.
    pub unless_query: Vec<Predicate>,
    /// Headers that must be there.
    pub if_header: Vec<Predicate>,
    /// What becomes of the request.
    pub target: Target,
    /// By what it sticks, if it does.
    pub key: Option<KeyKind>,
    /// Whether it may wait a long time for something to happen.
    pub long_poll: bool,
    /// Whether it may be sent a second time.
    pub retry: Retry,
    /// Its own limit for the body, in bytes.
    pub body_bytes: Option<u64>,
}

impl Route {
    /// Says whether the rule takes every request of its methods whose path matches.
    pub fn is_unconditional(&self) -> bool {
        self.if_query.is_empty() && self.unless_query.is_empty() && self.if_header.is_empty()
    }

    /// Says whether the conditions on query and headers hold.
    pub fn conditions_hold<'h>(
        &self,
        query: &str,
        header: &dyn Fn(&str) -> Option<&'h [u8]>,
    ) -> bool {
        self.if_query.iter().all(|p| p.holds_in_query(query))
            && !self.unless_query.iter().any(|p| p.holds_in_query(query))
            && self.if_header.iter().all(|p| match (header(&p.name), &p.value) {
                (Some(value), Some(wanted)) => value == wanted.as_bytes(),
                (value, None) => value.is_some(),
                (None, Some(_)) => false,
            })
    }
}
