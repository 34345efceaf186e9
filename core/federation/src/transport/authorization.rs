//! `Authorization: X-Matrix`: which server makes a request, proved by its signature over method, target,
//! both servers and content. Reads whatever peers write: values with quotes and without, escapes, any order,
//! any case of names, several headers. Pure: who has the keys passes them in.
//!
//! Source: Matrix v1.19, server-server, "Request Authentication"; RFC 9110 §11.4.

use colonnade_model::ruma::{
    OwnedServerName, ServerName, SigningKeyAlgorithm,
    serde::{Base64, base64::Standard},
    signatures::{Ed25519KeyPair, KeyPair as _, verify_canonical_json_bytes},
};
use http::{HeaderMap, header::AUTHORIZATION};
use serde_json::json;

use super::canonical::canonical;

/// What is looked at of one header, in bytes: two names, a key's and a signature have 900 at most.
const HEADER_BYTES_MAX: usize = 4 * 1024;
/// Headers that are looked at: one for each key a server signs with.
const HEADERS_MAX: usize = 8;
/// The scheme's name.
const SCHEME: &str = "X-Matrix";

/// Why a request is not known to be of the server it names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorizationError {
    /// There is no such header.
    #[error("there is no Authorization header of the scheme X-Matrix")]
    Missing,
    /// There is one that cannot be read.
    #[error("the X-Matrix header cannot be read: {0}")]
    Malformed(&'static str),
    /// It was meant for another server.
    #[error("the request is signed for {0}")]
    OtherDestination(String),
    /// Its body is no JSON.
    #[error("the body is no JSON: {0}")]
    NotJson(&'static str),
    /// None of its signatures is right.
    #[error("the signature of {0} over this request is not right")]
    Forged(OwnedServerName),
}

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XMatrix {
    /// The server that makes the request, it says.
    pub origin: OwnedServerName,
    /// For which server; older ones do not say.
    pub destination: Option<OwnedServerName>,
    /// The name of the key, `ed25519:a_key` say.
    pub key_id: String,
    /// The signature, base64.
    pub signature: String,
}

impl XMatrix {
    /// Reads every header of the scheme: at least one, all of one origin.
    ///
    /// # Errors
    /// [`AuthorizationError::Missing`], or what is wrong with the first.
    pub fn read_all(headers: &HeaderMap) -> Result<Vec<Self>, AuthorizationError> {
        let mut found: Vec<Self> = Vec::new();
        let mut wrong = AuthorizationError::Missing;
        for header in headers.get_all(AUTHORIZATION).iter().take(HEADERS_MAX) {
            let Ok(text) = header.to_str() else { continue };
            match Self::parse(text) {
                Ok(Some(one)) => found.push(one),
                Ok(None) => {}
                Err(why) => wrong = AuthorizationError::Malformed(why),
            }
        }
        let Some(first) = found.first() else { return Err(wrong) };
        if found.iter().any(|one| one.origin != first.origin) {
            return Err(AuthorizationError::Malformed("two headers name two origins"));
        }
        Ok(found)
    }

    /// Reads the value of one header; `None` when it is of another scheme.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Option<Self>, &'static str> {
        let text = text.trim();
        let (scheme, rest) = text.split_once([' ', '\t']).unwrap_or((text, ""));
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Ok(None);
        }
        if text.len() > HEADER_BYTES_MAX {
            return Err("it is too long");
        }
        let (mut origin, mut destination, mut key_id, mut signature) = (None, None, None, None);
        let mut parameters = Parameters(rest);
        while let Some((name, value)) = parameters.next()? {
            let place = match name.to_ascii_lowercase().as_str() {
                "origin" => &mut origin,
                "destination" => &mut destination,
                "key" => &mut key_id,
                "sig" | "signature" => &mut signature,
                // ErrorBody to be passed over.
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err("a parameter stands there twice");
            }
        }
        let server = |name: String| OwnedServerName::try_from(name).map_err(|_| "no server name");
        Ok(Some(Self {
            origin: server(origin.ok_or("origin is missing")?)?,
            destination: destination.map(server).transpose()?,
            key_id: key_id.ok_or("key is missing")?,
            signature: signature.ok_or("sig is missing")?,
        }))
    }

    /// Writes the value of a header.
    pub fn to_header(&self) -> String {
        let Self { origin, destination, key_id, signature } = self;
        let destination = destination.as_ref().map(|name| format!(",destination=\"{name}\""));
        let destination = destination.unwrap_or_default();
        format!("{SCHEME} origin=\"{origin}\"{destination},key=\"{key_id}\",sig=\"{signature}\"")
    }
}

/// The parameters of a header, one after the other.
struct Parameters<'a>(&'a str);

impl Parameters<'_> {
    fn next(&mut self) -> Result<Option<(String, String)>, &'static str> {
        self.0 = self.0.trim_start_matches([' ', '\t', ',']);
        if self.0.is_empty() {
            return Ok(None);
        }
        let (name, rest) = self.0.split_once('=').ok_or("a parameter has no value")?;
        let name = name.trim().to_owned();
        let rest = rest.trim_start_matches([' ', '\t']);
        let Some(quoted) = rest.strip_prefix('"') else {
            let end = rest.find(',').unwrap_or(rest.len());
            let value = rest[..end].trim().to_owned();
            self.0 = &rest[end..];
            return Ok(Some((name, value)));
        };
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    self.0 = &quoted[at + 1..];
                    let after = self.0.trim_start_matches([' ', '\t']);
                    if !after.is_empty() && !after.starts_with(',') {
                        return Err("something follows a quoted value");
                    }
                    return Ok(Some((name, value)));
                }
                '\\' => value.push(characters.next().ok_or("a quoted value does not end")?.1),
                other => value.push(other),
            }
        }
        Err("a quoted value does not end")
    }
}

/// What is signed of a request.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    /// The method.
    pub method: &'a str,
    /// The path and query, as they stand in the request.
    pub uri: &'a str,
    /// The server that makes it.
    pub origin: &'a ServerName,
    /// The server that answers it.
    pub destination: &'a ServerName,
    /// The JSON body as it is written, if there is one.
    pub content: Option<&'a str>,
}

impl Signed<'_> {
    /// Returns the bytes that are signed.
    ///
    /// # Errors
    /// [`AuthorizationError::NotJson`].
    fn bytes(&self) -> Result<Vec<u8>, AuthorizationError> {
        // The keys in their order.
        let content = match self.content.map(canonical).transpose() {
            Ok(Some(content)) => format!("\"content\":{content},"),
            Ok(None) => String::new(),
            Err(why) => return Err(AuthorizationError::NotJson(why)),
        };
        let text = |text: &str| json!(text).to_string();
        let (destination, method) = (text(self.destination.as_str()), text(self.method));
        let (origin, uri) = (text(self.origin.as_str()), text(self.uri));
        let head = format!("\"destination\":{destination},\"method\":{method}");
        Ok(format!("{{{content}{head},\"origin\":{origin},\"uri\":{uri}}}").into_bytes())
    }

    /// Signs it.
    ///
    /// # Errors
    /// [`AuthorizationError::NotJson`].
    pub fn sign(&self, key: &Ed25519KeyPair) -> Result<XMatrix, AuthorizationError> {
        let signature = key.sign(&self.bytes()?);
        Ok(XMatrix {
            origin: self.origin.to_owned(),
            destination: Some(self.destination.to_owned()),
            key_id: signature.id(),
            signature: signature.base64(),
        })
    }

    /// Makes sure that one of the signatures is right. `key_of` returns a valid public key by its name.
    ///
    /// # Errors
    /// [`AuthorizationError::OtherDestination`] when it was meant for another server,
    /// [`AuthorizationError::Forged`] when no signature is right.
    pub fn verify(
        &self,
        headers: &[XMatrix],
        key_of: impl Fn(&str) -> Option<Base64>,
    ) -> Result<(), AuthorizationError> {
        self.require_destination(headers)?;
        let forged = || AuthorizationError::Forged(self.origin.to_owned());
        let known = headers.iter().filter_map(|header| Some((header, key_of(&header.key_id)?)));
        let known: Vec<_> = known.collect();
        if known.is_empty() {
            // Nothing is made of the body of somebody whom nobody knows.
            return Err(forged());
        }
        let bytes = self.bytes()?;
        let is_right = |(header, key): &(&XMatrix, Base64)| {
            let Ok(signature) = Base64::<Standard>::parse(&header.signature) else { return false };
            let kind = SigningKeyAlgorithm::Ed25519;
            verify_canonical_json_bytes(&kind, key.as_bytes(), signature.as_bytes(), &bytes).is_ok()
        };
        if known.iter().any(is_right) { Ok(()) } else { Err(forged()) }
    }

    /// Makes sure that no header is meant for another server.
    ///
    /// # Errors
    /// [`AuthorizationError::OtherDestination`].
    pub fn require_destination(&self, headers: &[XMatrix]) -> Result<(), AuthorizationError> {
        let mut named = headers.iter().filter_map(|header| header.destination.as_ref());
        match named.find(|named| *named != self.destination) {
            Some(other) => Err(AuthorizationError::OtherDestination(other.to_string())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
