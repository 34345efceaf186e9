//! The server's signing key: one line in a file, `ed25519 <version> <unpadded base64 of the seed>`,
//! the format other homeservers use too, so that a key can move between them.

use std::path::Path;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use colonnade_model::{Random, ruma::signatures::Ed25519KeyPair};

use crate::secret_file;

/// PKCS#8 (RFC 8410) around a 32-byte Ed25519 seed.
const PKCS8_HEAD: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// Standard base64, written without padding, read with or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a signing key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("cannot use the signing key file {path}: {why}")]
    File {
        /// The file.
        path: String,
        /// The cause.
        why: std::io::Error,
    },
    /// The file does not hold a key.
    #[error("{path} does not hold a signing key: expected `ed25519 <version> <base64 seed>`")]
    Malformed {
        /// The file.
        path: String,
    },
}

/// Reads the key from `path`, making a new one there if the file does not exist.
///
/// # Errors
/// [`KeyError`] when the file cannot be used.
pub fn load_or_create(path: &Path, random: &dyn Random) -> Result<Ed25519KeyPair, KeyError> {
    let file_error = |why| KeyError::File { path: path.display().to_string(), why };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let text = new_text(random);
            secret_file::write_new(path, &text).map_err(file_error)?;
            text
        }
        Err(error) => return Err(file_error(error)),
    };
    parse(&text).ok_or_else(|| KeyError::Malformed { path: path.display().to_string() })
}

/// Reads the key from `path`.
///
/// # Errors
/// [`KeyError`] when the file cannot be used.
pub(crate) fn load(path: &Path) -> Result<Ed25519KeyPair, KeyError> {
    let file_error = |why| KeyError::File { path: path.display().to_string(), why };
    let text = std::fs::read_to_string(path).map_err(file_error)?;
    parse(&text).ok_or_else(|| KeyError::Malformed { path: path.display().to_string() })
}

/// Makes the text of a file with a new key, of a name that none had before.
pub(crate) fn new_text(random: &dyn Random) -> String {
    let mut seed = [0; 32];
    random.fill(&mut seed);
    format!("ed25519 a_{} {}\n", random.alphanumeric(4), BASE64.encode(seed))
}

/// Returns the key's name and public half as text: `ed25519:<version> <unpadded base64>`.
pub(crate) fn public(key: &Ed25519KeyPair) -> String {
    format!("ed25519:{} {}", key.version(), BASE64.encode(key.public_key()))
}

fn parse(text: &str) -> Option<Ed25519KeyPair> {
    let mut words = text.split_whitespace();
    let (kind, version, seed) = (words.next()?, words.next()?, words.next()?);
    let seed = BASE64.decode(seed).ok().filter(|seed| seed.len() == 32 && kind == "ed25519")?;
    let der: Vec<u8> = PKCS8_HEAD.iter().copied().chain(seed).collect();
    Ed25519KeyPair::from_der(&der, version.to_owned()).ok()
}

/// Returns the name by which the processes over one database find each other elsewhere. It tells
/// nothing of the secret it is made of.
pub(crate) fn name_of_deployment(secret: &[u8; 32]) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("colonnade 2026 name of a deployment");
    hasher.update(secret);
    hasher.finalize().to_hex()[..16].to_owned()
}

/// Returns what a process shows another to prove that both use one database.
pub(crate) fn proof_among_processes(secret: &[u8; 32]) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("colonnade 2026 proof among processes");
    hasher.update(secret);
    hasher.finalize().to_hex().to_string()
}

/// Returns what a gateway shows a worker to prove that it may read the map of slots, which says it.
pub(crate) fn proof_of_the_map(secret: &[u8; 32]) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("colonnade 2026 proof of the map of slots");
    hasher.update(secret);
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use colonnade_model::{SeededRandom, ruma::signatures::KeyPair as _};

    use super::*;

    #[test]
    fn a_key_is_made_once_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/signing.key");
        let first = load_or_create(&path, &SeededRandom::new(1)).unwrap();
        let again = load_or_create(&path, &SeededRandom::new(2)).unwrap();
        assert_eq!(first.sign(b"x").base64(), again.sign(b"x").base64());
        std::fs::write(&path, "ed25519 1 tooshort").unwrap();
        assert!(matches!(
            load_or_create(&path, &SeededRandom::new(1)),
            Err(KeyError::Malformed { .. })
        ));
    }
}
