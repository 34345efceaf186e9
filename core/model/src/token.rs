//! Tokens clients hand back to us: sync tokens (`s…`) and timeline tokens (`t…`). Opaque to
//! clients, versioned, and sync tokens carry a MAC so that a forged one is told from one that a
//! restored database has forgotten.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::stream::{Position, Positions, Stream};

/// The layout written by this version.
const VERSION: u8 = 1;
/// Bytes of the MAC: enough to catch mistakes and guesses, short enough for a URL.
const MAC_LEN: usize = 4;
/// The longest token looked at; ours have at most 80 characters.
const TOKEN_LEN_MAX: usize = 160;

/// What stands between a sync token and a place on a connection.
pub const PLACE: char = '~';

/// Why a token cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token is not one of ours")]
pub struct BadToken;

/// The key with which sync tokens are sealed; made once per deployment.
#[derive(Clone)]
pub struct TokenKey([u8; 32]);

impl TokenKey {
    /// Takes 32 secret bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn mac(&self, payload: &[u8]) -> [u8; MAC_LEN] {
        let hash = blake3::keyed_hash(&self.0, payload);
        let mut mac = [0; MAC_LEN];
        mac.copy_from_slice(&hash.as_bytes()[..MAC_LEN]);
        mac
    }
}

/// Where a client stands in every stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SyncToken {
    /// Grows when the database lost a tail that clients may have seen.
    pub epoch: u64,
    /// The positions up to which the client has been told everything.
    pub positions: Positions,
}

impl SyncToken {
    /// Renders the token: `s` and base64url of version, epoch, positions and MAC.
    pub fn encode(&self, key: &TokenKey) -> String {
        let mut bytes = vec![VERSION];
        put_varint(&mut bytes, self.epoch);
        for stream in Stream::ALL {
            put_varint(&mut bytes, self.positions.get(stream).max(0).unsigned_abs());
        }
        let mac = key.mac(&bytes);
        bytes.extend_from_slice(&mac);
        format!("s{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Reads a token.
    ///
    /// # Errors
    /// [`BadToken`] when it was not written with this key.
    pub fn decode(text: &str, key: &TokenKey) -> Result<Self, BadToken> {
        // A position of a sliding sync says behind it where on its connection it stands.
        let text = text.split(PLACE).next().unwrap_or_default();
        let body =
            text.strip_prefix('s').filter(|_| text.len() <= TOKEN_LEN_MAX).ok_or(BadToken)?;
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| BadToken)?;
        let split = bytes.len().checked_sub(MAC_LEN).ok_or(BadToken)?;
        let (payload, mac) = bytes.split_at(split);
        if key.mac(payload) != mac {
            return Err(BadToken);
        }
        let mut rest = payload.strip_prefix(&[VERSION]).ok_or(BadToken)?;
        let mut token = Self { epoch: take_varint(&mut rest)?, ..Self::default() };
        for stream in Stream::ALL {
            let position = Position::try_from(take_varint(&mut rest)?).map_err(|_| BadToken)?;
            token.positions.set(stream, position);
        }
        if rest.is_empty() { Ok(token) } else { Err(BadToken) }
    }
}

/// A place between two events in a room's timeline; `t` and the timeline key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimelineToken(pub i64);

impl std::fmt::Display for TimelineToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "t{}", self.0)
    }
}

impl std::str::FromStr for TimelineToken {
    type Err = BadToken;

    fn from_str(text: &str) -> Result<Self, BadToken> {
        let digits = text.strip_prefix('t').ok_or(BadToken)?;
        digits.parse().map(Self).map_err(|_| BadToken)
    }
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take_varint(rest: &mut &[u8]) -> Result<u64, BadToken> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, tail) = rest.split_first().ok_or(BadToken)?;
        *rest = tail;
        let part = u64::from(first & 0x7f);
        if shift == 63 && part > 1 {
            return Err(BadToken);
        }
        value |= part << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(BadToken)
}

#[cfg(test)]
mod tests;
