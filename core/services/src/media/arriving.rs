//! What of uploads is on its way, by who sends it. It counts against the owner's quota beside what is
//! kept: many uploads at once fill the disk no further than one after the other do, and a body that
//! does not say its length is not read beyond the quota. The last word has the transaction that writes
//! the row; each process counts what arrives at it.

use std::{collections::HashMap, sync::Arc};

use colonnade_model::nid::UserNid;
use colonnade_storage::{error::Result, quota::Quota};
use parking_lot::Mutex;

/// The owners from whom something is on its way: no more than there are connections.
#[derive(Debug, Default)]
pub(super) struct Arriving {
    owners: Arc<Mutex<HashMap<UserNid, Uploader>>>,
}

/// What arrives from one owner.
#[derive(Debug, Default)]
struct Uploader {
    /// Uploads that began; the owner is forgotten when all have ended.
    uploads: usize,
    coming: Amount,
    /// What was stored since the owner is remembered: who looked at the table before does not know it.
    stored: Amount,
}

#[derive(Debug, Default, Clone, Copy)]
struct Amount {
    items: i64,
    bytes: i64,
}

impl Amount {
    fn plus(self, other: Self) -> Self {
        let bytes = self.bytes.saturating_add(other.bytes);
        Self { items: self.items + other.items, bytes }
    }

    fn minus(self, other: Self) -> Self {
        let bytes = self.bytes.saturating_sub(other.bytes);
        Self { items: self.items - other.items, bytes }
    }
}

/// One upload, from before its admission to its end. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Arrival {
    owners: Arc<Mutex<HashMap<UserNid, Uploader>>>,
    owner: UserNid,
    quota: Quota,
    /// What was kept when this began, less what had been stored by then.
    base: Amount,
    coming: Amount,
}

impl Arriving {
    /// Begins an upload of `owner`'s. What the owner keeps is looked up after this: what is stored
    /// meanwhile counts twice at worst, never not at all.
    pub(super) fn begin(&self, owner: UserNid, quota: Quota) -> Arrival {
        let owners = Arc::clone(&self.owners);
        let base = {
            let mut all = owners.lock();
            let known = all.entry(owner).or_default();
            known.uploads += 1;
            Amount::default().minus(known.stored)
        };
        Arrival { owners, owner, quota, base, coming: Amount::default() }
    }
}

impl Arrival {
    /// Admits the upload of `items` more files, of `bytes` as far as is known, beside the `kept` files
    /// and bytes.
    ///
    /// # Errors
    /// [`Full`](colonnade_storage::StorageError::Full) when that is more than the owner may keep.
    pub(super) fn admit(&mut self, kept: (i64, i64), items: i64, bytes: u64) -> Result<()> {
        self.base = self.base.plus(Amount { items: kept.0, bytes: kept.1 });
        self.add(Amount { items, bytes: signed(bytes) })
    }

    /// Admits as much of the body as has come, in bytes from its beginning.
    ///
    /// # Errors
    /// As [`Arrival::admit`].
    pub(super) fn reach(&mut self, bytes: u64) -> Result<()> {
        let more = signed(bytes) - self.coming.bytes;
        if more <= 0 {
            return Ok(());
        }
        self.add(Amount { items: 0, bytes: more })
    }

    fn add(&mut self, more: Amount) -> Result<()> {
        let mut all = self.owners.lock();
        let Some(known) = all.get_mut(&self.owner) else { return Ok(()) };
        let total = self.base.plus(known.stored).plus(known.coming).plus(more);
        self.quota.require(total.items, total.bytes)?;
        known.coming = known.coming.plus(more);
        self.coming = self.coming.plus(more);
        Ok(())
    }

    /// Ends an upload whose row is written.
    pub(super) fn stored(self) {
        let mut all = self.owners.lock();
        if let Some(known) = all.get_mut(&self.owner) {
            known.stored = known.stored.plus(self.coming);
        }
        drop(all);
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let mut all = self.owners.lock();
        let Some(known) = all.get_mut(&self.owner) else { return };
        known.uploads -= 1;
        known.coming = known.coming.minus(self.coming);
        if known.uploads == 0 {
            all.remove(&self.owner);
        }
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use colonnade_storage::quota::Bound;

    use super::*;

    fn quota(items: i64, bytes: i64) -> Quota {
        let bound = |setting, max| Bound { setting, max };
        Quota {
            what: "files",
            items: bound("limits.media_files_max", items),
            bytes: bound("limits.media_bytes_max", bytes),
        }
    }

    #[test]
    fn what_is_on_its_way_counts_until_it_ends() {
        let (arriving, quota, alice) = (Arriving::default(), quota(3, 1_000), UserNid(1));
        let mut first = arriving.begin(alice, quota);
        first.admit((1, 100), 1, 500).unwrap();
        let mut second = arriving.begin(alice, quota);
        second.admit((1, 100), 1, 401).unwrap_err();
        drop(second);
        let mut second = arriving.begin(alice, quota);
        second.admit((1, 100), 1, 0).unwrap();
        second.reach(400).unwrap();
        second.reach(401).unwrap_err();
        first.reach(500).unwrap();
        first.reach(501).unwrap_err();
        arriving.begin(alice, quota).admit((1, 100), 1, 0).unwrap_err();
        arriving.begin(UserNid(2), quota).admit((0, 0), 1, 1_000).unwrap();
        drop(first);
        second.reach(900).unwrap();
        drop(second);
        assert!(arriving.owners.lock().is_empty(), "nobody is remembered for nothing");
    }

    #[test]
    fn what_is_stored_meanwhile_counts_for_who_looked_before() {
        let (arriving, quota, alice) = (Arriving::default(), quota(2, 1_000), UserNid(1));
        let (mut early, mut stored) = (arriving.begin(alice, quota), arriving.begin(alice, quota));
        early.admit((0, 0), 1, 0).unwrap();
        stored.admit((0, 0), 1, 700).unwrap();
        stored.stored();
        early.reach(301).unwrap_err();
        early.reach(300).unwrap();
        let mut late = arriving.begin(alice, quota);
        late.admit((1, 700), 1, 0).unwrap_err();
        late.admit((0, 0), 0, 1).unwrap_err();
    }
}
