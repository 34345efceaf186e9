//! Signed JSON of clients: parsed to canonical JSON once, compared without its signatures, checked
//! one signature at a time. Pure.

use colonnade_model::{
    MatrixError,
    ruma::{
        CanonicalJsonObject, CanonicalJsonValue, SigningKeyAlgorithm,
        serde::Base64,
        signatures::{to_canonical_json_string_for_signing, verify_canonical_json_bytes},
    },
};
use serde_json::value::RawValue;

/// Parses an object as canonical JSON.
///
/// # Errors
/// `M_BAD_JSON` when it is no object or holds what canonical JSON cannot.
pub(super) fn object(raw: &RawValue) -> Result<CanonicalJsonObject, MatrixError> {
    serde_json::from_str(raw.get())
        .map_err(|error| MatrixError::bad_json(format!("the key is not canonical JSON: {error}")))
}

/// Renders canonical JSON.
pub(super) fn text(object: CanonicalJsonObject) -> String {
    CanonicalJsonValue::Object(object).to_string()
}

/// Returns what is signed: everything but the signatures and `unsigned`.
pub(super) fn content(object: &CanonicalJsonObject) -> CanonicalJsonObject {
    let mut content = object.clone();
    content.remove("signatures");
    content.remove("unsigned");
    content
}

/// Returns the signatures of `signer`: key ids with base64.
pub(super) fn signatures_by<'o>(
    object: &'o CanonicalJsonObject,
    signer: &str,
) -> Vec<(&'o str, &'o str)> {
    let of_signer = object
        .get("signatures")
        .and_then(CanonicalJsonValue::as_object)
        .and_then(|signatures| signatures.get(signer))
        .and_then(CanonicalJsonValue::as_object);
    let Some(of_signer) = of_signer else { return Vec::new() };
    let signatures = of_signer.iter().filter_map(|(key_id, signature)| {
        signature.as_str().map(|signature| (key_id.as_str(), signature))
    });
    signatures.collect()
}

/// Drops the signatures of everybody but `signer`.
pub(super) fn keep_signatures_by(object: &mut CanonicalJsonObject, signer: &str) {
    let Some(CanonicalJsonValue::Object(signatures)) = object.get_mut("signatures") else {
        object.remove("signatures");
        return;
    };
    signatures.retain(|user_id, _| user_id == signer);
}

/// Returns the public key called `key_id` in the object's `keys`.
pub(super) fn public_key<'o>(object: &'o CanonicalJsonObject, key_id: &str) -> Option<&'o str> {
    object.get("keys")?.as_object()?.get(key_id)?.as_str()
}

/// Checks one ed25519 signature on an object.
///
/// # Errors
/// `M_INVALID_SIGNATURE` when it does not fit.
pub(super) fn verify(
    object: &CanonicalJsonObject,
    signature: &str,
    public_key: &str,
) -> Result<(), MatrixError> {
    let invalid = |why: String| MatrixError::invalid_signature(why);
    let decode = |what: &str, text: &str| -> Result<Vec<u8>, MatrixError> {
        let decoded: Result<Base64, _> = Base64::parse(text);
        decoded.map(Base64::into_inner).map_err(|_| invalid(format!("the {what} is not base64")))
    };
    let public_key = decode("public key", public_key)?;
    let signature = decode("signature", signature)?;
    let signed = to_canonical_json_string_for_signing(object)
        .map_err(|error| invalid(format!("the signed object is malformed: {error}")))?;
    let algorithm = SigningKeyAlgorithm::Ed25519;
    verify_canonical_json_bytes(&algorithm, &public_key, &signature, signed.as_bytes())
        .map_err(|error| invalid(format!("the signature does not verify: {error}")))
}

#[cfg(test)]
mod tests;
