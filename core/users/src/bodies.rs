//! The budget of request bodies: how many bytes of them this process holds in memory at once, all together
//! and for one user or address. A body is paid for piece by piece as it arrives, and gives back what it
//! holds when it is dropped: so whoever sends slowly or falls silent holds a share at most, and everybody
//! together no more than the operator allows.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use bytes::Bytes;
use colonnade_model::{MatrixError, nid::UserNid};
use parking_lot::Mutex;

use crate::limits::Key;

/// One user or address holds at most this part of the budget: a few who flood it leave room for others.
const SHARE: usize = 4;
/// All strangers together hold at most this part: however many addresses they come from, who is logged in
/// has the rest.
const STRANGERS_SHARE: usize = 2;
/// When to try again, in milliseconds: bodies come and go within a second, except those of floods.
const RETRY_MS: u64 = 1_000;

/// Who pays for a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Payer {
    /// Somebody without a valid token, at an address if that is known.
    Stranger(Option<IpAddr>),
    /// A user.
    User(UserNid),
    /// Another server: by its address as long as it only says who it is, and then by its name.
    Server(Key),
    /// Another process of this deployment, which proved itself: it has no share, only the whole.
    Process,
}

impl Payer {
    /// Says whether nothing proves yet who it is.
    fn is_unknown(self) -> bool {
        matches!(self, Self::Stranger(_) | Self::Server(Key::Address(_)))
    }

    /// Names whose share it is.
    pub(crate) fn key(self) -> Option<Key> {
        match self {
            Self::Stranger(Some(address)) => Some(address.into()),
            Self::Stranger(None) => Some(Key::name("somewhere")),
            Self::User(user) => Some(user.into()),
            Self::Server(key) => Some(key),
            Self::Process => None,
        }
    }
}

/// What is held.
#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    by_strangers: usize,
    by_key: HashMap<Key, usize>,
}

/// The budget.
#[derive(Debug)]
pub struct Bodies {
    bytes_max: usize,
    held: Mutex<Held>,
}

impl Bodies {
    /// Makes a budget of so many bytes.
    pub fn new(bytes_max: u64) -> Arc<Self> {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        Arc::new(Self { bytes_max, held: Mutex::default() })
    }

    /// Returns how many bytes are held.
    pub fn bytes(&self) -> usize {
        self.held.lock().bytes
    }

    /// Begins a body, which holds nothing yet.
    pub fn begin(self: &Arc<Self>, payer: Payer) -> Body {
        Body { bytes: Vec::new(), paid: Paid { bodies: Arc::clone(self), payer, bytes: 0 } }
    }

    fn take(&self, payer: Payer, bytes: usize) -> Result<(), MatrixError> {
        let full = || MatrixError::limit_exceeded(RETRY_MS);
        let mut held = self.held.lock();
        if held.bytes.saturating_add(bytes) > self.bytes_max {
            return Err(full());
        }
        let is_stranger = payer.is_unknown();
        if is_stranger && held.by_strangers + bytes > self.bytes_max / STRANGERS_SHARE {
            return Err(full());
        }
        if let Some(key) = payer.key() {
            let share = held.by_key.get(&key).copied().unwrap_or_default();
            if share + bytes > self.bytes_max / SHARE {
                return Err(full());
            }
            held.by_key.insert(key, share + bytes);
        }
        held.bytes += bytes;
        held.by_strangers += if is_stranger { bytes } else { 0 };
        Ok(())
    }

    fn give_back(&self, payer: Payer, bytes: usize) {
        let mut held = self.held.lock();
        held.bytes -= bytes;
        held.by_strangers -= if payer.is_unknown() { bytes } else { 0 };
        if let Some(key) = payer.key()
            && let Some(share) = held.by_key.get_mut(&key)
        {
            *share -= bytes;
            if *share == 0 {
                held.by_key.remove(&key);
            }
        }
    }
}

/// A part of the budget, given back when dropped.
#[derive(Debug)]
struct Paid {
    bodies: Arc<Bodies>,
    payer: Payer,
    bytes: usize,
}

impl Drop for Paid {
    fn drop(&mut self) {
        self.bodies.give_back(self.payer, self.bytes);
    }
}

/// A body on its way in.
#[derive(Debug)]
pub struct Body {
    bytes: Vec<u8>,
    paid: Paid,
}

impl Body {
    /// Returns how many bytes have arrived.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Tells whether nothing has arrived.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED` when the payer's share, or the budget, is used up.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), MatrixError> {
        self.paid.bodies.take(self.paid.payer, piece.len())?;
        self.paid.bytes += piece.len();
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// Returns the whole body, paid for until its last copy is dropped.
    pub fn finish(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: Payer = Payer::User(UserNid(1));

    fn stranger(at: &str) -> Payer {
        Payer::Stranger(Some(at.parse().unwrap()))
    }

    fn filled(bodies: &Arc<Bodies>, payer: Payer, bytes: usize) -> Result<Bytes, MatrixError> {
        let mut body = bodies.begin(payer);
        body.push(&vec![b'x'; bytes])?;
        Ok(body.finish())
    }

    #[test]
    fn a_body_is_paid_for_until_its_last_copy_is_gone() {
        let bodies = Bodies::new(1_000);
        let body = filled(&bodies, USER, 200).unwrap();
        let copy = body.slice(10..20);
        drop(body);
        assert_eq!(bodies.bytes(), 200);
        drop(copy);
        assert_eq!(bodies.bytes(), 0);
        let mut unfinished = bodies.begin(USER);
        unfinished.push(&[0; 250]).unwrap();
        assert_eq!(unfinished.push(&[0; 1]).unwrap_err().errcode, "M_LIMIT_EXCEEDED");
        assert_eq!(bodies.bytes(), 250, "what was refused is not held");
        drop(unfinished);
        assert_eq!(bodies.bytes(), 0);
        assert!(bodies.held.lock().by_key.is_empty(), "nobody is remembered who holds nothing");
    }

    #[test]
    fn nobody_holds_more_than_a_share_and_strangers_not_more_than_half() {
        let bodies = Bodies::new(1_000);
        let first = filled(&bodies, stranger("2001:db8::1"), 250).unwrap();
        filled(&bodies, stranger("2001:db8::2"), 1).unwrap_err();
        let second = filled(&bodies, stranger("192.0.2.1"), 250).unwrap();
        let error = filled(&bodies, stranger("192.0.2.2"), 1).unwrap_err();
        assert_eq!((error.status, &*error.errcode), (429, "M_LIMIT_EXCEEDED"));
        let users: Vec<Bytes> =
            (1..3).map(|n| filled(&bodies, Payer::User(UserNid(n)), 250).unwrap()).collect();
        filled(&bodies, Payer::User(UserNid(9)), 1).unwrap_err();
        filled(&bodies, Payer::Process, 1).unwrap_err();
        drop((first, second, users));
        let process = filled(&bodies, Payer::Process, 1_000).unwrap();
        drop(process);
        assert_eq!(bodies.bytes(), 0);
    }
}
