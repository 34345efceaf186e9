//! Credentials for the TURN server that calls go through, as coturn's shared-secret scheme wants them.
//!
//! Source: draft-uberti-behave-turn-rest-00; Matrix v1.19, client-server, "Voice over IP".

use base64::{Engine as _, engine::general_purpose::STANDARD};
use colonnade_model::ruma::UserId;
use colonnade_rooms::settings::Voip;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;

/// What a client needs to use the TURN server; without one, the list of addresses is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnCredentials {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: String,
    /// The addresses.
    pub uris: Vec<String>,
    /// How long they can be used, in seconds.
    pub ttl_s: u64,
}

/// Makes credentials for a user.
pub fn turn_credentials(settings: &Voip, user_id: &UserId, now_ms: i64) -> TurnCredentials {
    let uris = settings.turn_uris.clone();
    let ttl_s = settings.turn_lifetime_s;
    let Some(secret) = settings.turn_shared_secret.as_deref().filter(|_| !uris.is_empty()) else {
        let username = settings.turn_username.clone().unwrap_or_default();
        let password = settings.turn_password.clone().unwrap_or_default();
        return TurnCredentials { username, password, uris, ttl_s };
    };
    let expires_s = u64::try_from(now_ms / 1_000).unwrap_or_default().saturating_add(ttl_s);
    let username = format!("{expires_s}:{user_id}");
    let mut mac =
        Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of every length");
    mac.update(username.as_bytes());
    let password = STANDARD.encode(mac.finalize().into_bytes());
    TurnCredentials { username, password, uris, ttl_s }
}

#[cfg(test)]
mod tests {
    use colonnade_model::ruma::user_id;

    use super::*;

    #[test]
    fn credentials_are_what_coturn_computes() {
        let alice = user_id!("@alice:localhost");
        let none = turn_credentials(&Voip::default(), alice, 0);
        assert!(none.uris.is_empty() && none.username.is_empty());
        let settings = Voip {
            turn_uris: vec!["turn:turn.example.org".to_owned()],
            turn_shared_secret: Some("secret".to_owned()),
            turn_lifetime_s: 100,
            ..Voip::default()
        };
        let made = turn_credentials(&settings, alice, 5_000);
        assert_eq!(made.username, "105:@alice:localhost");
        // printf '105:@alice:localhost' | openssl dgst -sha1 -hmac secret -binary | base64
        assert_eq!(made.password, "2enlLKCxItMQCouQded2uZkKpCk=");
    }
}
