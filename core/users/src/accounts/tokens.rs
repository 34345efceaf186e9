//! What tokens look like: `cln_`, two characters that name the user's shard, `_`, and 40 random
//! letters and digits (238 bits). The shard stands in clear so that the gateway can lead all of a
//! user's devices to one worker without asking anybody; it says nothing else about the user.

use colonnade_model::{Random, ruma::UserId, slot::slot_of};
use colonnade_storage::users::sessions::TokenHash;

/// The beginning of every access token; the gateway knows it too.
const ACCESS_PREFIX: &str = "cln";
/// The beginning of a refresh token.
const REFRESH_PREFIX: &str = "clr";
/// The beginning of a login token.
const LOGIN_PREFIX: &str = "cll";
/// The beginning of an OpenID token.
const OPENID_PREFIX: &str = "clo";
/// Random characters of a token.
const SECRET_LENGTH: usize = 40;
/// 32 characters: two of them name one of the 1024 slots.
const HINT_ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Makes an access token.
pub(super) fn access(user_id: &UserId, random: &dyn Random) -> String {
    let slot = usize::from(slot_of(user_id.as_str()));
    let hint = [slot / 32, slot % 32].map(|n| char::from(HINT_ALPHABET[n % 32]));
    let secret = random.alphanumeric(SECRET_LENGTH);
    format!("{ACCESS_PREFIX}_{}{}_{secret}", hint[0], hint[1])
}

/// Makes a refresh token.
pub(super) fn refresh(random: &dyn Random) -> String {
    format!("{REFRESH_PREFIX}_{}", random.alphanumeric(SECRET_LENGTH))
}

/// Makes a login token.
pub(super) fn login(random: &dyn Random) -> String {
    format!("{LOGIN_PREFIX}_{}", random.alphanumeric(SECRET_LENGTH))
}

/// Makes an OpenID token.
pub(super) fn openid(random: &dyn Random) -> String {
    format!("{OPENID_PREFIX}_{}", random.alphanumeric(SECRET_LENGTH))
}

/// Returns the hash a token is stored as. The secret has 238 bits, so no salt is needed.
pub(super) fn hash(token: &str) -> TokenHash {
    *blake3::hash(token.as_bytes()).as_bytes()
}

#[cfg(test)]
mod tests {
    use colonnade_model::{SeededRandom, ruma::user_id};

    use super::*;

    #[test]
    fn devices_of_a_user_share_the_hint_and_nothing_else() {
        let random = SeededRandom::new(7);
        let [a, b] = [(); 2].map(|()| access(user_id!("@alice:localhost"), &random));
        assert_ne!(a, b);
        assert_eq!(a[..7], b[..7]);
        assert!(a.starts_with("cln_") && a.as_bytes()[6] == b'_' && a.len() == 47);
        assert_ne!(hash(&a), hash(&b));
    }
}
