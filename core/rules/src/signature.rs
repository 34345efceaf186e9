//! Whether a signature is right: strictly, as libsodium checks it, which most of the federation uses. Neither keys nor
//! points of small order pass, nor a second form of a signature: whoever accepted more than the others would see
//! another room (decision 43). Never in batches, for the same reason.

use colonnade_model::ruma::serde::{Base64, base64::Standard};
use ed25519_dalek::{Signature, VerifyingKey};

/// Tells whether a signature, in unpadded base64, is one of these bytes with this key.
pub fn is_right(key: &[u8; 32], signature: &str, signed: &[u8]) -> bool {
    let Ok(signature) = Base64::<Standard>::parse(signature) else { return false };
    let Ok(signature) = Signature::from_slice(signature.as_bytes()) else { return false };
    let Ok(key) = VerifyingKey::from_bytes(key) else { return false };
    key.verify_strict(signed, &signature).is_ok()
}
