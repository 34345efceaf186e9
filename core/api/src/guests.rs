//! What guests may call. Whatever else looks at who calls is for users.
//!
//! Source: Matrix v1.19, client-server, "Guest access", client behaviour.

use colonnade_model::{MatrixError, session::Session};
use http::{Extensions, Method};

use crate::bounds::shape_of;

/// The one field of his profile that a guest may change.
const FIELD: &str = "displayname";

/// What guests may call, by the newest path.
const ALLOWED: &[(Method, &str)] = &[
    (Method::GET, "/_matrix/client/v3/rooms/{}/state"),
    (Method::GET, "/_matrix/client/v3/rooms/{}/state/{}"),
    (Method::GET, "/_matrix/client/v3/rooms/{}/state/{}/{}"),
    (Method::GET, "/_matrix/client/v3/rooms/{}/context/{}"),
    (Method::GET, "/_matrix/client/v3/rooms/{}/event/{}"),
    (Method::GET, "/_matrix/client/v3/rooms/{}/messages"),
    (Method::GET, "/_matrix/client/v3/rooms/{}/members"),
    (Method::GET, "/_matrix/client/v3/rooms/{}/initialSync"),
    (Method::GET, "/_matrix/client/v3/sync"),
    (Method::POST, "/_matrix/client/v4/sync"),
    (Method::GET, "/_matrix/client/v3/events"),
    (Method::GET, "/_matrix/client/v1/media/download/{}/{}"),
    (Method::GET, "/_matrix/client/v1/media/download/{}/{}/{}"),
    (Method::GET, "/_matrix/client/v1/media/thumbnail/{}/{}"),
    (Method::POST, "/_matrix/client/v3/rooms/{}/join"),
    // As the other way to join.
    (Method::POST, "/_matrix/client/v3/join/{}"),
    (Method::POST, "/_matrix/client/v3/rooms/{}/leave"),
    (Method::PUT, "/_matrix/client/v3/rooms/{}/send/{}/{}"),
    (Method::PUT, "/_matrix/client/v3/rooms/{}/state/{}"),
    (Method::PUT, "/_matrix/client/v3/rooms/{}/state/{}/{}"),
    (Method::PUT, "/_matrix/client/v3/sendToDevice/{}/{}"),
    // Of the display name alone: see `require_field`.
    (Method::PUT, "/_matrix/client/v3/profile/{}/{}"),
    (Method::DELETE, "/_matrix/client/v3/profile/{}/{}"),
    (Method::GET, "/_matrix/client/v3/devices"),
    (Method::GET, "/_matrix/client/v3/devices/{}"),
    (Method::PUT, "/_matrix/client/v3/devices/{}"),
    (Method::GET, "/_matrix/client/v3/account/whoami"),
    (Method::POST, "/_matrix/client/v3/keys/upload"),
    (Method::POST, "/_matrix/client/v3/keys/query"),
    (Method::POST, "/_matrix/client/v3/keys/claim"),
    // These ask for nobody.
    (Method::GET, "/_matrix/client/versions"),
    (Method::GET, "/_matrix/client/v1/room_summary/{}"),
    (Method::POST, "/_matrix/client/v3/login"),
    // The specification lists neither; without them a guest could not go, and clients ask what a server can do.
    (Method::POST, "/_matrix/client/v3/logout"),
    (Method::GET, "/_matrix/client/v3/capabilities"),
];

/// In the extensions of a request: whether guests may make it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Guests(bool);

impl Guests {
    /// Says what of guests holds for what is mounted at a path.
    pub(crate) fn at(method: &Method, path: &str) -> Self {
        let shape = shape_of(path);
        let is_it =
            |(allowed, listed): &(Method, &str)| allowed == method && shape_of(listed) == shape;
        Self(path.starts_with("/_matrix/client/") && ALLOWED.iter().any(is_it))
    }

    /// Returns what was put into a request; what was not is for users.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        extensions.get().copied().unwrap_or(Self(false))
    }

    /// Turns a guest away from what is for users.
    ///
    /// # Errors
    /// `M_GUEST_ACCESS_FORBIDDEN`.
    pub(crate) fn admit(self, who: &Session) -> Result<(), MatrixError> {
        if who.is_guest && !self.0 {
            return Err(MatrixError::guest_access_forbidden("guests may not do this"));
        }
        Ok(())
    }
}

/// Makes sure that somebody may change a field of his profile.
///
/// # Errors
/// `M_GUEST_ACCESS_FORBIDDEN` when he is a guest and it is not his display name.
pub(crate) fn require_field(who: &Session, field: &str) -> Result<(), MatrixError> {
    if who.is_guest && field != FIELD {
        let why = "guests may change their display name alone";
        return Err(MatrixError::guest_access_forbidden(why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes;

    #[test]
    fn guests_may_do_what_is_listed_under_every_version() {
        for (method, path, may) in [
            (Method::GET, "/_matrix/client/r0/sync", true),
            (Method::GET, "/_matrix/client/v3/rooms/{room_id}/state/{event_type}/", true),
            (Method::PUT, "/_matrix/client/v3/rooms/{r}/send/{t}/{txn}", true),
            (Method::POST, "/_matrix/client/v3/createRoom", false),
            (Method::POST, "/_matrix/client/v3/rooms/{room_id}/invite", false),
            (Method::PUT, "/_matrix/client/v3/rooms/{room_id}/redact/{e}/{t}", false),
            (Method::POST, "/_matrix/media/v3/upload", false),
            (Method::PATCH, "/_matrix/client/v3/profile/{user_id}", false),
            (Method::POST, "/_matrix/client/v3/account/password", false),
            (Method::GET, "/_matrix/client/v3/account/3pid", false),
        ] {
            assert_eq!(Guests::at(&method, path), Guests(may), "{method} {path}");
        }
    }

    #[test]
    fn everything_listed_is_mounted() {
        let routes = routes::all().routes;
        for (method, path) in ALLOWED {
            let is_it = |mounted: &str| {
                let parts = mounted.split('/').map(|p| if p.starts_with('{') { "{}" } else { p });
                parts.collect::<Vec<_>>().join("/").trim_end_matches('/') == *path
            };
            let mounted = routes.iter().any(|route| route.method == *method && is_it(&route.path));
            assert!(mounted, "{method} {path}");
        }
    }
}
