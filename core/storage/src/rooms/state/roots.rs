//! How the roots of a state are stored: for each of its two tries where the root is, and how many
//! entries there are.

use colonnade_model::nid::StateNid;
use colonnade_rules::trie::{Digest, NodeRef, State};

use crate::{
    error::{Result, StorageError},
    rooms::varints,
};

/// Renders the roots: for each part 0, or 1 with state and index; then the numbers of entries.
pub(crate) fn encode_roots(state: &State) -> Vec<u8> {
    let mut numbers = Vec::with_capacity(8);
    for root in [state.core, state.member] {
        match root {
            None => numbers.push(0),
            Some(at) => numbers.extend([1, at.state.0, i64::from(at.index)]),
        }
    }
    numbers.extend([state.core_len as i64, state.member_len as i64]);
    varints::encode(numbers)
}

/// Reads a state from its row.
pub(crate) fn read_state(nid: StateNid, digest: Vec<u8>, roots: &[u8]) -> Result<State> {
    let corrupt = |why: &str| StorageError::corrupt("room_states", "roots", nid, why);
    let digest = digest.try_into().map_err(|_| corrupt("the digest has not 16 bytes"))?;
    decode_roots(roots, Digest(digest)).ok_or_else(|| corrupt("not two roots"))
}

fn decode_roots(bytes: &[u8], digest: Digest) -> Option<State> {
    let mut numbers = varints::decode(bytes)?.into_iter();
    let mut root = || -> Option<Option<NodeRef>> {
        match numbers.next()? {
            0 => Some(None),
            1 => {
                let state = StateNid(numbers.next()?);
                Some(Some(NodeRef { state, index: u32::try_from(numbers.next()?).ok()? }))
            }
            _ => None,
        }
    };
    let (core, member) = (root()?, root()?);
    let core_len = numbers.next()? as u64;
    let member_len = numbers.next()? as u64;
    numbers.next().is_none().then_some(State { core, member, core_len, member_len, digest })
}
