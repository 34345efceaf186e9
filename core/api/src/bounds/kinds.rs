//! What bounds an endpoint.

use colonnade_users::limits::Class;
use http::Method;

/// How often a request may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// Counted per user, or per address where nobody is logged in.
    Each(Class),
    /// Counted per address, before anything else is looked at.
    Address(Class),
    /// The endpoint counts by itself; how.
    Inside(Class, &'static str),
    /// Not counted; why not.
    Free(&'static str),
}

/// What the owner of what a request writes may keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// These settings say.
    Settings(&'static [&'static str]),
    /// Bounded by its nature; how.
    Held(&'static str),
    /// Nothing is kept.
    Nothing,
}

/// The bounds of an endpoint.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// The method.
    pub method: Method,
    /// The newest path.
    pub path: &'static str,
    /// How often.
    pub rate: Rate,
    /// What one request may bring.
    pub item: &'static str,
    /// What its owner may keep.
    pub owner: Owner,
}
