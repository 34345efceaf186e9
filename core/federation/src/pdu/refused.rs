//! Why a PDU does not become an event.

use colonnade_model::ruma::OwnedServerName;
use colonnade_rules::event::Malformed;

/// Why a PDU is dropped.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// It has not the form of an event of its room version.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A server that must have signed it did not.
    #[error("not signed by {0}")]
    NotSigned(OwnedServerName),
    /// None of the keys is known with which a server signed it: it may pass when they are.
    #[error("no key of {0} is known that signed it")]
    KeyUnknown(OwnedServerName),
    /// A signature is wrong.
    #[error("the signature of {server} with {key_id} is wrong")]
    WrongSignature {
        /// Whose.
        server: OwnedServerName,
        /// By which key.
        key_id: String,
    },
}
