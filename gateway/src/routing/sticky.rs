//! From a request to the key it sticks by. Pure: slices in, bytes out.
//!
//! Keys are percent-decoded once, so that `%21room` and `!room` meet the same worker. Stickiness is
//! speed, never correctness: nothing here is verified, and nothing may rely on it.

use std::borrow::Cow;
use std::net::IpAddr;

use percent_encoding::percent_decode_str;

use crate::routing::request_target::parameter;
use crate::routing::routes::{KeyKind, Route};

/// Access tokens Colonnade mints: this, then the user's two-character shard hint, then `_`.
/// The hint lets all devices of a user meet the same worker without a lookup.
pub const OWN_TOKEN_PREFIX: &str = "cln_";

/// How many characters the shard hint has.
const HINT_LEN: usize = 2;

/// What a key can be made from.
pub struct KeySources<'a> {
    /// The path as rules see it.
    pub path: &'a str,
    /// The query, values with their escapes.
    pub query: &'a str,
    /// The `Authorization` header.
    pub authorization: Option<&'a str>,
    /// The client's address, as the trusted proxies tell it.
    pub client: IpAddr,
}

/// Finds the key of a request under a rule; `None` when the rule sticks by nothing, or the request
/// carries nothing to stick by.
pub fn key<'a>(route: &Route, clues: &KeySources<'a>) -> Option<Cow<'a, [u8]>> {
    match route.key? {
        KeyKind::Room => route.pattern.room?.cut(clues.path).map(decoded),
        KeyKind::User => user(route, clues),
        KeyKind::SourceIp => Some(address(clues.client)),
        KeyKind::Origin => {
            let origin = clues.authorization.and_then(origin_server);
            Some(match origin {
                Some(origin) => Cow::Borrowed(origin.as_bytes()),
                None => address(clues.client),
            })
        }
    }
}

fn address<'a>(client: IpAddr) -> Cow<'a, [u8]> {
    Cow::Owned(client.to_canonical().to_string().into_bytes())
}

fn bytes(text: Cow<'_, str>) -> Cow<'_, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}

fn decoded(segment: &str) -> Cow<'_, [u8]> {
    percent_decode_str(segment).into()
}

/// The user in the path, the one an appservice acts for, or the one the token belongs to.
fn user<'a>(route: &Route, clues: &KeySources<'a>) -> Option<Cow<'a, [u8]>> {
    if let Some(segment) = route.pattern.user {
        return segment.cut(clues.path).map(decoded);
    }
    if let Some(user) = parameter(clues.query, "user_id") {
        return Some(bytes(user));
    }
    let token = token(clues.query, clues.authorization)?;
    Some(match token {
        Cow::Borrowed(token) => Cow::Borrowed(user_of_token(token).as_bytes()),
        Cow::Owned(token) => Cow::Owned(user_of_token(&token).as_bytes().to_vec()),
    })
}

/// The access token of a request, from the header or the query; a request has no more than one of them.
pub fn token<'a>(query: &'a str, authorization: Option<&'a str>) -> Option<Cow<'a, str>> {
    match authorization {
        Some(value) => bearer(value).map(Cow::Borrowed),
        None => parameter(query, "access_token"),
    }
}

/// The token that stands for the user of a request, if neither path nor query nor the token's own shape
/// tell who that is.
pub fn unresolved<'a>(route: &Route, clues: &KeySources<'a>) -> Option<Cow<'a, str>> {
    let is_known = route.key != Some(KeyKind::User)
        || route.pattern.user.is_some()
        || parameter(clues.query, "user_id").is_some();
    let token = (!is_known).then(|| token(clues.query, clues.authorization)).flatten()?;
    (user_of_token(&token) == token).then_some(token)
}

/// The part of a token that is the same for every device of its user, or else the whole token.
fn user_of_token(token: &str) -> &str {
    if let Some(rest) = token.strip_prefix(OWN_TOKEN_PREFIX)
        && let Some((hint, _)) = rest.split_once('_')
        && hint.len() == HINT_LEN
    {
        return hint;
    }
    // Synapse: syt_<localpart in base64>_<random>_<checksum>.
    if let Some(rest) = token.strip_prefix("syt_")
        && let Some((localpart, _)) = rest.split_once('_')
    {
        return localpart;
    }
    token
}

/// The token of a header, exactly as workers read it.
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// The `origin` of an `X-Matrix` header (Matrix v1.19, server-server, §Request Authentication).
fn origin_server(authorization: &str) -> Option<&str> {
    let (scheme, parameters) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("x-matrix") {
        return None;
    }
    let mut pairs = parameters.split(',').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("origin"))?;
    Some(value.trim().trim_matches('"'))
}

#[cfg(test)]
mod tests;
