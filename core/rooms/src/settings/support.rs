//! Whom people turn to who need help with this server.

use colonnade_model::ruma::OwnedUserId;
use serde::{Deserialize, Serialize};

/// Whom people turn to. Told to everybody who looks at `/.well-known/matrix/support`.
///
/// Source: Matrix v1.19, client-server, "Server Discovery", `/.well-known/matrix/support`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Support {
    /// A page with help, `https://example.org/support.html` say.
    pub page: Option<String>,
    /// People.
    pub contacts: Vec<SupportContact>,
}

/// Somebody who looks after this server.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(try_from = "Unchecked")]
pub struct SupportContact {
    /// What for: `m.role.admin` for anything, `m.role.security` for what is to be kept secret.
    pub role: String,
    /// The user, perhaps on another server, which is there when this one is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matrix_id: Option<OwnedUserId>,
    /// The address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email_address: Option<String>,
}

/// A contact as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    #[serde(default = "for_anything")]
    role: String,
    matrix_id: Option<OwnedUserId>,
    email_address: Option<String>,
}

fn for_anything() -> String {
    "m.role.admin".to_owned()
}

impl TryFrom<Unchecked> for SupportContact {
    type Error = &'static str;

    fn try_from(written: Unchecked) -> Result<Self, Self::Error> {
        let Unchecked { role, matrix_id, email_address } = written;
        if matrix_id.is_none() && email_address.is_none() {
            return Err("a contact needs a matrix_id like @admin:example.org, or an email_address");
        }
        if email_address.as_ref().is_some_and(|address| !address.contains('@')) {
            return Err("an email_address is written like admin@example.org");
        }
        Ok(Self { role, matrix_id, email_address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_can_be_reached() {
        let read = |text: &str| serde_json::from_str::<SupportContact>(text);
        let contact = read(r#"{ "email_address": "a@b.example" }"#).unwrap();
        assert_eq!(contact.role, "m.role.admin");
        assert!(read(r#"{ "role": "m.role.security", "matrix_id": "@a:b.example" }"#).is_ok());
        for wrong in [
            "{}",
            r#"{ "role": "m.role.admin" }"#,
            r#"{ "email_address": "nowhere" }"#,
            r#"{ "matrix_id": "nobody" }"#,
            r#"{ "email_address": "a@b.example", "phone": "1" }"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
