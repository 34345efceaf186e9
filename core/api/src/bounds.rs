//! How every endpoint that writes is bounded: the class of the rate limit, what one request may bring,
//! and what its owner may keep. One list; `docs/limits.md` is written from it, and a test fails when an
//! endpoint that writes is missing here.
//!
//! The class is counted here and nowhere else, after authentication and before the body is read.

use std::net::IpAddr;

use colonnade_model::{MatrixError, nid::UserNid};
use colonnade_services::Services;
use colonnade_users::limits::{Class, Key};
use http::{Extensions, Method};

use crate::request::address_of;

mod kinds;
mod list;
mod servers;

pub use kinds::{Bounds, Owner, Rate};

/// Says whether a request with this method writes, or costs as much.
pub fn is_bounded(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Returns the bounds of every endpoint that writes.
pub fn all() -> impl Iterator<Item = &'static Bounds> {
    list::ALL.iter().chain(servers::ALL)
}

/// Returns the bounds of what is mounted at a path, in whatever version of the API.
pub fn of(method: &Method, path: &str) -> Option<&'static Bounds> {
    let shape = shape_of(path);
    all().find(|bounds| bounds.method == *method && shape_of(bounds.path) == shape)
}

/// A path without its version, the prefix of a proposal and the names of its arguments.
pub(crate) fn shape_of(path: &str) -> Vec<&str> {
    let mut segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if segments.first() == Some(&"_matrix") && segments.len() > 3 {
        let is_unstable = segments[2] == "unstable" && segments[3].contains('.');
        segments.drain(2..if is_unstable { 4 } else { 3 });
    }
    let named = |part: &&str| part.starts_with('{');
    segments.iter().map(|part| if named(part) { "{}" } else { *part }).collect()
}

/// Put into a request's extensions, so that whoever authenticates it can count it.
#[derive(Clone, Copy)]
struct Counted(Class);

/// Counts a request where its address is what counts; else notes the class, for whoever finds out who
/// makes it.
///
/// # Errors
/// `M_LIMIT_EXCEEDED`.
pub(crate) fn begin(
    services: &Services,
    rate: Option<Rate>,
    extensions: &mut Extensions,
) -> Result<(), MatrixError> {
    match rate {
        Some(Rate::Each(class)) => drop(extensions.insert(Counted(class))),
        Some(Rate::Address(class)) => count(services, class, None, address_of(extensions))?,
        Some(Rate::Inside(..) | Rate::Free(_)) | None => {}
    }
    Ok(())
}

/// Counts a request once it is known who makes it.
///
/// # Errors
/// `M_LIMIT_EXCEEDED`.
pub(crate) fn admit(
    services: &Services,
    extensions: &Extensions,
    user: Option<UserNid>,
) -> Result<(), MatrixError> {
    let Some(Counted(class)) = extensions.get() else { return Ok(()) };
    count(services, *class, user, address_of(extensions))
}

fn count(
    services: &Services,
    class: Class,
    user: Option<UserNid>,
    address: Option<IpAddr>,
) -> Result<(), MatrixError> {
    let key = user.map(Key::from).or(address.map(Key::from));
    key.map_or(Ok(()), |key| services.limits.check(class, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_unstable_paths_have_the_bounds_of_the_newest() {
        for (method, path) in [
            (Method::POST, "/_matrix/client/r0/login"),
            (Method::POST, "/_matrix/client/unstable/org.matrix.msc2918/refresh"),
            (Method::PUT, "/_matrix/client/r0/rooms/{room_id}/state/{event_type}/"),
            (Method::PUT, "/_matrix/client/unstable/room_keys/keys/{room_id}"),
            (Method::POST, "/_matrix/client/unstable/xyz.amorgan.knock/knock/{room}"),
        ] {
            assert!(of(&method, path).is_some(), "{method} {path}");
        }
        assert!(of(&Method::POST, "/_matrix/client/v3/nonsense").is_none());
    }

    #[test]
    fn nothing_is_bounded_twice() {
        for (n, one) in all().enumerate() {
            let same = |other: &Bounds| {
                other.method == one.method && shape_of(other.path) == shape_of(one.path)
            };
            assert!(!all().skip(n + 1).any(same), "{} {}", one.method, one.path);
        }
    }
}
