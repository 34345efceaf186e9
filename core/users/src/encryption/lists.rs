//! Whose keys a user has to look at again, and whose no longer.
//!
//! Source: Matrix v1.19, client-server, "Tracking the device list for a user".

use std::collections::HashSet;

use colonnade_model::session::Session;
use colonnade_model::{
    MatrixError,
    nid::{RoomNid, UserNid},
    ruma::OwnedUserId,
    stream::{Positions, Stream},
    token::SyncToken,
};
use colonnade_rooms::Result;
use colonnade_storage::keys::device_lists::{self, Moved};

use super::Encryption;

/// What changed between two places of the streams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceListChanges {
    /// Users with new keys, and users who newly share a room, by name.
    pub changed: Vec<(OwnedUserId, UserNid)>,
    /// Users who no longer share any room.
    pub left: Vec<OwnedUserId>,
}

impl Encryption {
    /// Returns whose keys `user` has to look at again after `from` up to `upto`. Costs nothing when
    /// neither keys nor events have moved, one probe when no membership has.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn device_list_changes(
        &self,
        user: UserNid,
        from: &Positions,
        upto: &Positions,
    ) -> Result<DeviceListChanges> {
        let db = &self.context.db;
        let range = |stream| (from.get(stream), upto.get(stream));
        let mut changed = HashSet::new();
        let mut left = HashSet::new();
        let (keys_from, keys_upto) = range(Stream::DeviceLists);
        if keys_from < keys_upto {
            changed.extend(device_lists::changes(db, user, keys_from, keys_upto).await?);
        }
        let (events_from, events_upto) = range(Stream::Events);
        if events_from < events_upto
            && device_lists::any_membership(db, events_from, events_upto).await?
        {
            let moves = device_lists::moves(db, user, events_from, events_upto).await?;
            let (own, others): (Vec<_>, Vec<_>) =
                moves.into_iter().partition(|moved| moved.user == user);
            let rooms = |of: fn(&Moved) -> bool| -> Vec<RoomNid> {
                own.iter().filter(|moved| of(moved)).map(|moved| moved.room).collect()
            };
            let (entered, exited) = (rooms(|own| own.is_in), rooms(|own| !own.is_in));
            let (not_now, not_before): (HashSet<_>, HashSet<_>) =
                (exited.iter().copied().collect(), rooms(|own| !own.was_in).into_iter().collect());
            for moved in others {
                // Who came to a room without the user, or went from one, is no news.
                match moved.is_in {
                    true if !not_now.contains(&moved.room) => drop(changed.insert(moved.user)),
                    false if !not_before.contains(&moved.room) => drop(left.insert(moved.user)),
                    _ => {}
                }
            }
            changed.extend(device_lists::joined(db, &entered).await?);
            left.extend(device_lists::joined_at(db, &exited, events_from).await?);
            left.remove(&user);
            let gone: Vec<UserNid> = left.iter().copied().collect();
            for sharing in device_lists::sharing(db, user, &gone).await? {
                left.remove(&sharing);
            }
        }
        changed.retain(|user| !left.contains(user));
        let left = self.named(left).await?;
        Ok(DeviceListChanges {
            changed: self.named(changed).await?,
            left: left.into_iter().map(|(name, _)| name).collect(),
        })
    }

    /// Returns the changes between two sync tokens.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` when a token is not one of ours.
    pub async fn changes_between(
        &self,
        session: &Session,
        from: &str,
        to: &str,
    ) -> Result<DeviceListChanges> {
        let decode = |name: &str, token: &str| {
            SyncToken::decode(token, &self.context.token_key)
                .map_err(|error| MatrixError::invalid_param(format!("{name}: {error}")))
        };
        let from = decode("from", from)?;
        let to = decode("to", to)?;
        self.device_list_changes(session.user, &from.positions, &to.positions).await
    }

    /// Returns the users with their ids, in the order of these.
    async fn named(&self, users: HashSet<UserNid>) -> Result<Vec<(OwnedUserId, UserNid)>> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let nids: Vec<UserNid> = users.into_iter().collect();
        let names = self.context.interned.user_ids(&nids).await?;
        let mut named: Vec<_> = names.into_iter().zip(nids).collect();
        named.sort();
        Ok(named)
    }
}
