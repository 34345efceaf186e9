//! What one process of many does for all of them: the shards of a role, and chores. Each falls into a
//! slot of its role, and whoever owns the slot does it, under the fence.
//!
//! Without other processes everything is ours.

use colonnade_model::slot;
use colonnade_storage::{
    Tx,
    error::Result,
    ownership::{self, Ownership, OwnershipEpoch, pools::ROLE_SLOTS},
};

use super::Slots;

/// Something of a role that one process does at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duty {
    role: &'static str,
    slot: u16,
}

impl Duty {
    /// Returns the duty of a role that has this name: a chore's, a user's, a destination's.
    pub fn of(role: &'static str, name: &str) -> Self {
        Self { role, slot: slot::slot_of(name) % ROLE_SLOTS }
    }
}

/// The right to do it, from one epoch on. Another one after a while somebody else had it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Right {
    ownership: Ownership,
    ownership_epoch: OwnershipEpoch,
}

impl Right {
    /// Makes the transaction fail unless the right still holds: the first statement of whatever is
    /// written by it.
    ///
    /// # Errors
    /// `Fenced` when somebody else has it now: nothing was written.
    pub async fn fence(&self, tx: &mut Tx) -> Result<()> {
        ownership::fence(tx, self.ownership, &[self.ownership_epoch]).await
    }
}

impl Slots {
    /// Returns by what right this process does a duty now; `None` when another one does, or nobody
    /// was named yet.
    pub fn right(&self, duty: Duty) -> Option<Right> {
        if !self.shared {
            return Some(Right::default());
        }
        let owner = self.map().owner(duty.role, duty.slot)?;
        let ownership = Ownership { pool: duty.role, incarnation: owner.incarnation };
        let right = Right { ownership, ownership_epoch: (duty.slot, owner.since) };
        (self.is_ours(owner) && !self.has_ended()).then_some(right)
    }
}
