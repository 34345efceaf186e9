//! What locked and suspended users may call.
//!
//! Source: Matrix v1.19, client-server, "Account locking", "Account suspension".

use colonnade_model::{
    MatrixError,
    session::{Restriction, Session},
};
use http::{Extensions, Method};

use crate::bounds::shape_of;

/// What a locked user may call, by the newest path.
const WHILE_LOCKED: &[(Method, &str)] =
    &[(Method::POST, "/_matrix/client/v3/logout"), (Method::POST, "/_matrix/client/v3/logout/all")];

/// What a suspended user may not call: whatever others notice. He reads, leaves, takes back his own words, and looks
/// after his devices and keys.
const NOT_WHILE_SUSPENDED: &[(Method, &str)] = &[
    (Method::POST, "/_matrix/client/v3/createRoom"),
    (Method::POST, "/_matrix/client/v3/join/{}"),
    (Method::POST, "/_matrix/client/v3/rooms/{}/join"),
    (Method::POST, "/_matrix/client/v3/knock/{}"),
    (Method::POST, "/_matrix/client/v3/rooms/{}/invite"),
    (Method::POST, "/_matrix/client/v3/rooms/{}/kick"),
    (Method::POST, "/_matrix/client/v3/rooms/{}/ban"),
    (Method::POST, "/_matrix/client/v3/rooms/{}/unban"),
    (Method::POST, "/_matrix/client/v3/rooms/{}/upgrade"),
    (Method::PUT, "/_matrix/client/v3/rooms/{}/send/{}/{}"),
    (Method::PUT, "/_matrix/client/v3/rooms/{}/state/{}"),
    (Method::PUT, "/_matrix/client/v3/rooms/{}/state/{}/{}"),
    (Method::PUT, "/_matrix/client/v3/profile/{}/{}"),
    (Method::DELETE, "/_matrix/client/v3/profile/{}/{}"),
    (Method::PUT, "/_matrix/client/v3/directory/room/{}"),
    (Method::PUT, "/_matrix/client/v3/directory/list/room/{}"),
];

/// In the extensions of a request: who may not make it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Restricted {
    may_while_locked: bool,
    may_not_while_suspended: bool,
}

impl Restricted {
    /// Says what holds for what is mounted at a path.
    pub(crate) fn at(method: &Method, path: &str) -> Self {
        let shape = shape_of(path);
        let is_client = path.starts_with("/_matrix/client/");
        let is_in = |list: &[(Method, &str)]| {
            is_client && list.iter().any(|(of, path)| of == method && shape_of(path) == shape)
        };
        Self {
            may_while_locked: is_in(WHILE_LOCKED),
            may_not_while_suspended: is_in(NOT_WHILE_SUSPENDED),
        }
    }

    /// Returns what was put into a request.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        extensions.get().copied().unwrap_or_default()
    }

    /// Turns away a user who is kept from this.
    ///
    /// # Errors
    /// `M_USER_LOCKED`, `M_USER_SUSPENDED`.
    pub(crate) fn admit(self, who: &Session) -> Result<(), MatrixError> {
        match who.restriction {
            Restriction::Locked if !self.may_while_locked => {
                let why = "this account has been locked";
                Err(MatrixError::user_locked(why).with("soft_logout", true))
            }
            Restriction::Suspended if self.may_not_while_suspended => Err(suspended()),
            _ => Ok(()),
        }
    }
}

/// What a suspended user is told.
pub(crate) fn suspended() -> MatrixError {
    MatrixError::user_suspended("this account is suspended and may not do this")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes;

    #[test]
    fn lists_hold_under_every_version() {
        let at = |method: Method, path: &str| Restricted::at(&method, path);
        assert!(at(Method::POST, "/_matrix/client/r0/logout").may_while_locked);
        assert!(!at(Method::GET, "/_matrix/client/v3/sync").may_while_locked);
        let sent = at(Method::PUT, "/_matrix/client/r0/rooms/{room_id}/send/{type}/{txn}");
        assert!(sent.may_not_while_suspended);
        assert!(!at(Method::POST, "/_matrix/client/v3/rooms/{r}/leave").may_not_while_suspended);
    }

    #[test]
    fn everything_listed_is_mounted() {
        let routes = routes::all().routes;
        for (method, path) in WHILE_LOCKED.iter().chain(NOT_WHILE_SUSPENDED) {
            let is_it = |mounted: &str| shape_of(mounted) == shape_of(path);
            let mounted = routes.iter().any(|route| route.method == *method && is_it(&route.path));
            assert!(mounted, "{method} {path}");
        }
    }
}
