//! What an answer says of the user's own data and of other people: account data, ignored users,
//! presence.

use std::{collections::HashSet, sync::Arc};

use colonnade_model::{
    nid::{RoomNid, UserNid},
    ruma::{OwnedUserId, UserId},
    stream::{Position, Stream},
};
use colonnade_rooms::{Result, Room};
use colonnade_rules::account_data::blocks_invites;
use colonnade_storage::{
    rooms::members::{Member, Membership},
    users::account_data::{self, AccountData},
};
use colonnade_users::account_data::INVITE_PERMISSION;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{
    changed_data::ChangedData,
    filter,
    response::Events,
    service::{Memberships, Sync, SyncContext},
};

/// A piece of account data as a client gets it.
#[derive(Serialize)]
struct Entry<'a> {
    #[serde(rename = "type")]
    event_type: &'a str,
    content: &'a RawValue,
}

/// Which invitations an answer shows.
pub(super) enum Invites {
    None,
    New,
    All,
}

impl Sync {
    /// Returns whom the user ignores.
    pub(super) async fn ignored(&self, user: UserNid) -> Result<Arc<[OwnedUserId]>> {
        let ignored = self.from.account_data.ignored(user).await?;
        Ok(ignored.iter().cloned().collect())
    }

    /// Returns the presence of others that changed, and that of `newcomers`: whose devices are news
    /// to the user because a room is newly shared, theirs is too.
    pub(super) async fn presence(
        &self,
        context: &SyncContext<'_>,
        memberships: &Memberships,
        newcomers: &[(OwnedUserId, UserNid)],
    ) -> Result<Events> {
        let now = context.now(Stream::Presence);
        // A token of an earlier process may stand above the positions of this one.
        let since = context.since(Stream::Presence);
        let since = if since > now { 0 } else { since };
        let wanted = &context.request.filter.presence;
        if !filter::wants_plain(wanted, "m.presence", None) {
            return Ok(Events::default());
        }
        let presence = &self.from.presence;
        let mut changes = match since < now {
            true => {
                let joined = memberships.joined().collect();
                presence.changes(context.viewer.user, &joined, since, now).await?
            }
            false => Vec::new(),
        };
        let changed: HashSet<&str> = changes.iter().filter_map(|e| e["sender"].as_str()).collect();
        let unnamed: Vec<_> =
            newcomers.iter().filter(|(name, _)| !changed.contains(name.as_str())).collect();
        let newcomers = presence.of_newcomers(context.viewer.user, &unnamed, now);
        changes.extend(newcomers);
        let changes = changes.into_iter().filter(|event| {
            let sender = event["sender"].as_str().and_then(|id| <&UserId>::try_from(id).ok());
            !context.ignored.iter().any(|ignored| Some(&**ignored) == sender)
                && filter::wants_plain(wanted, "m.presence", sender)
        });
        Ok(Events { events: changes.filter_map(|event| to_raw_value(&event).ok()).collect() })
    }

    /// Returns the user's own account data that changed.
    pub(super) async fn account_data(&self, context: &SyncContext<'_>) -> Result<Events> {
        let wanted = &context.request.filter.account_data;
        let changes = self.data_changes(context).await?.global.iter().filter(|data| {
            filter::wants_plain(wanted, &data.event_type, Some(&context.viewer.user_id))
        });
        Ok(Events { events: changes.map(entry).collect() })
    }

    /// Returns the rooms for which the user's account data changed, and whether what the user says
    /// about being invited did.
    pub(super) async fn rooms_with_data(
        &self,
        context: &SyncContext<'_>,
    ) -> Result<(HashSet<RoomNid>, bool)> {
        let changes = self.data_changes(context).await?;
        let is_permission = |data: &AccountData| data.event_type == INVITE_PERMISSION;
        let invites_moved = changes.global.iter().any(is_permission);
        Ok((changes.rooms.keys().copied().collect(), invites_moved))
    }

    /// Returns which invitations an answer shows: none to a user who wants none, and all once the user
    /// wants them again.
    ///
    /// Source: Matrix v1.19, client-server, "Invite permission".
    pub(super) async fn invites(
        &self,
        context: &SyncContext<'_>,
        memberships: &Memberships,
        permission_moved: bool,
    ) -> Result<Invites> {
        let since = context.since(Stream::Events);
        let mut rooms = memberships.rooms.iter();
        let is_news = |member: &Member| permission_moved || member.pos > since;
        if !rooms.any(|member| member.membership == Membership::Invite && is_news(member)) {
            return Ok(Invites::New);
        }
        let (db, user) = (&self.context.db, context.viewer.user);
        let permission = account_data::get(db, user, None, INVITE_PERMISSION).await?;
        Ok(match permission.is_some_and(|permission| blocks_invites(&permission)) {
            true => Invites::None,
            false if permission_moved => Invites::All,
            false => Invites::New,
        })
    }

    /// Returns the user's account data for a room that changed above `after`.
    pub(super) async fn room_data(
        &self,
        context: &SyncContext<'_>,
        room: &Room,
        after: Position,
    ) -> Result<Events> {
        let wanted = &context.request.filter.room.account_data;
        let all;
        let changes = match after {
            // Whoever comes in now has not been told what is older than the token.
            0 if context.since.is_some() => {
                all = self.from.account_data.of_room(context.viewer.user, room.nid).await?;
                &all
            }
            _ => self.data_changes(context).await?.of_room(room.nid),
        };
        let changes = changes.iter().filter(|data| {
            filter::wants_type(wanted, &data.event_type)
                && filter::wants_room(wanted, &room.room_id)
        });
        Ok(Events { events: changes.map(entry).collect() })
    }

    /// Returns the user's account data that changed since the client's token: read once for an answer,
    /// however many rooms it has.
    async fn data_changes<'t>(&self, context: &'t SyncContext<'_>) -> Result<&'t ChangedData> {
        let read = || async { self.read_data_changes(context).await.map(ChangedData::of) };
        context.data.get_or_try_init(read).await
    }

    async fn read_data_changes(&self, context: &SyncContext<'_>) -> Result<Vec<AccountData>> {
        let after = context.since(Stream::AccountData);
        let (user, upto) = (context.viewer.user, context.now(Stream::AccountData));
        if context.since.is_none() {
            // With the push rules even of those who never changed any.
            return self.from.account_data.changes(user, 0, upto).await;
        }
        if after >= upto || self.heads.user(user).account_data <= after {
            return Ok(Vec::new());
        }
        // Not through the service: position 0 is the beginning there, here a young server's token.
        Ok(account_data::changes(&self.context.db, user, after, upto).await?)
    }
}

fn entry(data: &AccountData) -> Box<RawValue> {
    to_raw_value(&Entry { event_type: &data.event_type, content: &data.body })
        .expect("strings and JSON always serialise")
}
