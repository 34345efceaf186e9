//! What the answer of each endpoint needs of the budget of answers (`users::answers`): set aside once it
//! is known who asks and what, and before anything is read. Whatever only reads makes a page, or a piece at a
//! time as large as one, unless it is listed here; whatever writes has a small answer unless it is.

use std::sync::Arc;

use colonnade_model::MatrixError;
use colonnade_services::Services;
use colonnade_users::{
    answers::{Growth, Need, Reserved},
    bodies::Payer,
};
use http::{Extensions, Method};
use parking_lot::Mutex;

use crate::reply::{Reply, ReplyBody};

/// What is no page though its method says so, or a page though it does not, by the end of its path.
const LISTED: &[(Method, &str, Need)] = &[
    // Waits for something to tell before anything is made.
    (Method::GET, "/sync", Need::Own),
    (Method::POST, "/sync", Need::Own),
    (Method::GET, "/events", Need::Own),
    (Method::GET, "/initialSync", Need::Own),
    // From the disk, a piece at a time.
    (Method::GET, "/download/{}/{}", Need::Little),
    (Method::GET, "/download/{}/{}/{}", Need::Little),
    (Method::GET, "/media/download/{}", Need::Little),
    // Small whatever was stored: told also to who has not taken his last answers.
    (Method::GET, "/.well-known/matrix/client", Need::Little),
    (Method::GET, "/.well-known/matrix/support", Need::Little),
    (Method::GET, "/versions", Need::Little),
    (Method::GET, "/capabilities", Need::Little),
    (Method::GET, "/login", Need::Little),
    (Method::GET, "/register/available", Need::Little),
    (Method::GET, "/account/whoami", Need::Little),
    (Method::GET, "/voip/turnServer", Need::Little),
    (Method::GET, "/config", Need::Little),
    (Method::GET, "/presence/{}/status", Need::Little),
    (Method::GET, "/directory/room/{}", Need::Little),
    (Method::GET, "/rooms/{}/timestamp_to_event", Need::Little),
    // Wait for an upload.
    (Method::GET, "/thumbnail/{}/{}", Need::Own),
    (Method::GET, "/media/thumbnail/{}", Need::Own),
    // All there is, however much.
    (Method::GET, "/rooms/{}/state", Need::Pieces),
    (Method::GET, "/rooms/{}/members", Need::Pieces),
    (Method::GET, "/rooms/{}/joined_members", Need::Pieces),
    (Method::POST, "/keys/query", Need::Whole),
    // Read by a request with a body.
    (Method::POST, "/keys/claim", Need::Page),
    (Method::POST, "/publicRooms", Need::Page),
    (Method::POST, "/search", Need::Page),
    (Method::POST, "/user_directory/search", Need::Page),
];

/// Returns what the answer of an endpoint needs.
pub(crate) fn of(method: &Method, path: &str) -> Need {
    let unnamed = path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part });
    let unnamed = unnamed.collect::<Vec<_>>().join("/");
    let listed = LISTED.iter().filter(|(m, end, _)| m == method && unnamed.ends_with(end));
    match listed.max_by_key(|(_, end, _)| end.len()) {
        Some((_, _, need)) => *need,
        None if *method == Method::GET => Need::Page,
        None => Need::Little,
    }
}

/// In the extensions of a request: what its answer needs, and what was set aside for it.
#[derive(Clone)]
pub(crate) struct Needed {
    need: Need,
    reserved: Arc<Mutex<Option<Reserved>>>,
}

impl Needed {
    /// Begins with nothing set aside.
    pub(crate) fn new(need: Need) -> Self {
        Self { need, reserved: Arc::default() }
    }

    /// Returns what is in a request's extensions.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().unwrap_or_else(|| Self::new(Need::Little))
    }

    /// Sets aside what the endpoint is listed with.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED` when there is no room for long.
    pub(crate) async fn admit(&self, services: &Services, payer: Payer) -> Result<(), MatrixError> {
        self.reserve(services, payer, self.need).await
    }

    /// Sets something aside.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED` when there is no room for long.
    pub(crate) async fn reserve(
        &self,
        services: &Services,
        payer: Payer,
        need: Need,
    ) -> Result<(), MatrixError> {
        let reserved = services.answers.reserve(payer, need).await?;
        self.keep(reserved);
        Ok(())
    }

    /// Hands over what was set aside, for an answer whose size is not known before it is made.
    pub(crate) fn growth(&self) -> Growth {
        Growth::from(self.reserved.lock().take())
    }

    /// Keeps what a service set aside.
    pub(crate) fn keep(&self, reserved: Option<Reserved>) {
        if let Some(reserved) = reserved {
            *self.reserved.lock() = Some(reserved);
        }
    }

    /// Lets the answer have what was set aside, until it is taken; what that is goes along in its extensions,
    /// for who writes it.
    pub(crate) fn pay(&self, mut answer: Reply) -> Reply {
        let Some(mut reserved) = self.reserved.lock().take() else { return answer };
        let held = match answer.body_mut() {
            ReplyBody::Whole(bytes) => {
                let (paid, held) = reserved.pay(std::mem::take(bytes));
                *bytes = paid;
                held
            }
            ReplyBody::Streamed { reserved: slot, .. } => {
                let held = reserved.pay_by_pieces();
                *slot = Some(reserved);
                held
            }
        };
        answer.extensions_mut().insert(held);
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes;

    #[test]
    fn what_reads_makes_a_page_unless_it_is_listed() {
        let client = "/_matrix/client/v3";
        for (method, path, need) in [
            (Method::GET, "/rooms/{room_id}/messages", Need::Page),
            (Method::GET, "/rooms/{r}/state", Need::Pieces),
            (Method::POST, "/keys/query", Need::Whole),
            (Method::GET, "/rooms/{r}/state/{event_type}/{state_key}", Need::Page),
            (Method::GET, "/room_keys/keys", Need::Page),
            (Method::POST, "/user_directory/search", Need::Page),
            (Method::PUT, "/rooms/{room_id}/send/{event_type}/{txn_id}", Need::Little),
            (Method::POST, "/keys/upload", Need::Little),
        ] {
            assert_eq!(of(&method, &format!("{client}{path}")), need, "{method} {path}");
        }
    }

    #[test]
    fn every_listed_need_is_of_an_endpoint() {
        let routes = routes::all().routes;
        for (method, end, need) in LISTED {
            let mut of_it = routes.iter().filter(|route| route.method == *method);
            let is_meant = |path: &str| {
                let parts = path.split('/').map(|p| if p.starts_with('{') { "{}" } else { p });
                parts.collect::<Vec<_>>().join("/").ends_with(end)
            };
            assert!(of_it.any(|r| is_meant(&r.path) && of(method, &r.path) == *need), "{end}");
        }
    }
}
