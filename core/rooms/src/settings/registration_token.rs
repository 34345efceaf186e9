//! A token by which somebody may register: alone, or with how often and until when.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

/// A token by which somebody may register.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct RegistrationToken {
    /// The token.
    pub token: String,
    /// How many accounts it is good for; `None`: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uses_allowed: Option<u32>,
    /// Until when it can be used, in milliseconds since the Unix epoch; `None`: for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expiry_time_ms: Option<i64>,
}

impl From<&str> for RegistrationToken {
    fn from(token: &str) -> Self {
        Self { token: token.to_owned(), uses_allowed: None, expiry_time_ms: None }
    }
}

/// Never shows the token.
impl fmt::Debug for RegistrationToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistrationToken")
            .field("uses_allowed", &self.uses_allowed)
            .field("expiry_time_ms", &self.expiry_time_ms)
            .finish_non_exhaustive()
    }
}

impl<'de> Deserialize<'de> for RegistrationToken {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

struct Visitor;

impl<'de> de::Visitor<'de> for Visitor {
    type Value = RegistrationToken;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token, or { token: …, uses_allowed: 10, expiry_time_ms: 1767225600000 }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<RegistrationToken, E> {
        if text.is_empty() {
            return Err(E::custom("the token is empty: anybody would know it"));
        }
        Ok(text.into())
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<RegistrationToken, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Whole {
            token: String,
            uses_allowed: Option<u32>,
            expiry_time_ms: Option<i64>,
        }
        let whole = Whole::deserialize(de::value::MapAccessDeserializer::new(map))?;
        let Whole { token, uses_allowed, expiry_time_ms } = whole;
        let plain: RegistrationToken = self.visit_str(&token)?;
        Ok(RegistrationToken { uses_allowed, expiry_time_ms, ..plain })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_is_text_or_says_how_often_and_until_when() {
        let read = |value| serde_json::from_value::<RegistrationToken>(value).unwrap();
        assert_eq!(read(json!("abc")), RegistrationToken::from("abc"));
        assert_eq!(read(json!({ "token": "abc" })), RegistrationToken::from("abc"));
        let whole = read(json!({ "token": "abc", "uses_allowed": 2, "expiry_time_ms": 5 }));
        assert_eq!((whole.uses_allowed, whole.expiry_time_ms), (Some(2), Some(5)));
        assert_eq!(read(serde_json::to_value(&whole).unwrap()), whole);
    }

    #[test]
    fn a_token_that_anybody_would_know_is_refused() {
        for wrong in [
            json!(""),
            json!({ "token": "" }),
            json!({ "uses_allowed": 1 }),
            json!({ "token": "abc", "uses": 1 }),
            json!({ "token": "abc", "uses_allowed": -1 }),
            json!(5),
            json!(["abc"]),
        ] {
            let read = serde_json::from_value::<RegistrationToken>(wrong.clone());
            assert!(read.is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_token_is_not_shown_in_logs() {
        let shown = format!("{:?}", RegistrationToken::from("sesame"));
        assert!(!shown.contains("sesame"), "{shown}");
        assert!(shown.contains("uses_allowed"), "{shown}");
    }
}
