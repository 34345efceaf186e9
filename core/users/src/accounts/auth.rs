//! What a client shows to pass a stage of user-interactive authentication: the `auth` of a request.
//! Read by us and not by the library's type, which knows the newest form of each stage only and calls
//! what this server does not offer a malformed request.
//!
//! Source: Matrix v1.19, client-server, "User-interactive authentication API".

use colonnade_model::MatrixError;
use serde_json::{Map, Value};

use super::names::{self, Named};

/// How long a session of user-interactive authentication may take, in milliseconds.
pub(super) const LIFETIME_MS: i64 = 15 * 60 * 1_000;

/// The `auth` of a request.
#[derive(Debug, Clone)]
pub struct Auth {
    /// The stage; `None` when the client only asks how a session stands.
    stage: Option<String>,
    /// The session.
    pub(super) session: Option<String>,
    fields: Map<String, Value>,
}

impl Auth {
    /// Reads the `auth` of a request's body.
    ///
    /// # Errors
    /// `M_BAD_JSON` when it is not an object, or type and session are not text.
    pub fn of_body(body: &[u8]) -> Result<Option<Self>, MatrixError> {
        let body: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
        Self::read(body.get("auth"))
    }

    /// Reads an `auth`.
    ///
    /// # Errors
    /// `M_BAD_JSON` when it is not an object, or type and session are not text.
    pub fn read(auth: Option<&Value>) -> Result<Option<Self>, MatrixError> {
        let fields = match auth {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Object(fields)) => fields.clone(),
            Some(_) => return Err(MatrixError::bad_json("auth is not an object")),
        };
        let owned = |key: &str| Ok(text(&fields, key)?.map(str::to_owned));
        let (stage, session): (Option<String>, Option<String>) =
            (owned("type")?, owned("session")?);
        if session.as_deref().is_some_and(|session| session.contains('\0')) {
            return Err(MatrixError::invalid_param("the session contains a NUL character"));
        }
        Ok(Some(Self { stage, session, fields }))
    }

    /// Tells whether it goes on with a session of stages.
    pub fn has_session(&self) -> bool {
        self.session.is_some()
    }

    /// Returns the name of the stage.
    pub(super) fn stage(&self) -> Option<&str> {
        self.stage.as_deref()
    }

    /// Returns whom a password is said to be of.
    pub(super) fn named(&self) -> Result<Named, MatrixError> {
        let (user, medium) = (text(&self.fields, "user")?, text(&self.fields, "medium")?);
        names::named(self.fields.get("identifier"), user, medium.is_some())
    }

    /// Returns what a stage needs as text.
    pub(super) fn text(&self, key: &str) -> Result<&str, MatrixError> {
        let text = text(&self.fields, key)?;
        text.ok_or_else(|| MatrixError::missing_param(format!("auth has no {key}")))
    }
}

/// Reads a field that is text where it is there.
fn text<'f>(fields: &'f Map<String, Value>, key: &str) -> Result<Option<&'f str>, MatrixError> {
    match fields.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(MatrixError::bad_json(format!("the {key} in auth is not text"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_auth_is_read_in_its_new_and_its_old_form() {
        let read = |auth: Value| Auth::read(Some(&auth)).unwrap().unwrap();
        let new = json!({ "type": "m.id.user", "user": "a" });
        let new = read(json!({ "type": "m.login.password", "identifier": new, "password": "p" }));
        assert_eq!(new.named(), Ok(Named::User("a".to_owned())));
        assert_eq!(new.text("password"), Ok("p"));
        let old = read(json!({ "type": "m.login.password", "user": "a", "session": "s" }));
        assert_eq!(old.named(), Ok(Named::User("a".to_owned())));
        assert_eq!((old.stage(), old.session.as_deref()), (Some("m.login.password"), Some("s")));
        assert_eq!(old.text("password").unwrap_err().errcode, "M_MISSING_PARAM");
        assert_eq!(read(json!({ "medium": "email" })).named(), Ok(Named::Unknown));
        for key in ["user", "medium"] {
            assert_eq!(read(json!({ key: 5 })).named().unwrap_err().errcode, "M_BAD_JSON", "{key}");
        }
        assert_eq!(
            read(json!({ "password": 5 })).text("password").unwrap_err().errcode,
            "M_BAD_JSON"
        );
        assert!(Auth::read(Some(&Value::Null)).unwrap().is_none());
        for wrong in [json!([]), json!("x"), json!({ "session": 7 }), json!({ "type": {} })] {
            assert_eq!(Auth::read(Some(&wrong)).unwrap_err().errcode, "M_BAD_JSON", "{wrong}");
        }
    }
}
