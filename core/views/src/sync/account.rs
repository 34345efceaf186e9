//! What an answer says of the user's own data and of other people: account data, ignored users,
//! presence.

use std::{collections::HashSet, sync::Arc};

use colonnade_model::{
    nid::{RoomNid, UserNid},
    ruma::{OwnedUserId, UserId},
    stream::{Position, Stream},
};
use colonnade_rooms::{Result, Room};
use colonnade_rules::account_data::{InviteAction, InvitePermission};
use colonnade_storage::{
    rooms::members::{Member, Membership},
    users::account_data::AccountData,
};
use colonnade_users::account_data::{Changes, Scope, invite_permission};
use futures_util::{TryStreamExt as _, stream::try_unfold};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::{
    changed_data::ChangedData,
    filter,
    service::{Memberships, Sync, SyncContext},
    writer::{Elements, all, elements},
};

/// A piece of account data as a client gets it.
#[derive(Serialize)]
struct Entry<'a> {
    #[serde(rename = "type")]
    event_type: &'a str,
    content: &'a RawValue,
}

/// Which invitations an answer shows.
#[derive(Default)]
pub(super) struct Invites {
    /// Older ones too.
    is_all: bool,
    /// Rooms the user was invited to by somebody whose invitations he does not want.
    unwanted: HashSet<RoomNid>,
}

impl Invites {
    /// Tells whether an invitation is shown that is new to the client, or not.
    pub(super) fn shows(&self, member: &Member, is_new: bool) -> bool {
        (self.is_all || is_new) && !self.unwanted.contains(&member.room)
    }
}

impl Sync {
    /// Returns whom the user ignores.
    pub(super) async fn ignored(&self, user: UserNid) -> Result<Arc<[OwnedUserId]>> {
        let ignored = self.from.account_data.ignored(user).await?;
        Ok(ignored.iter().cloned().collect())
    }

    /// Returns the presence of others and of the user that changed, and that of `newcomers`: whose devices are
    /// news to the user because a room is newly shared, theirs is too. And up to where that is all: the changes
    /// of newcomers are told now, not with a later answer.
    pub(super) async fn presence(
        &self,
        context: &SyncContext,
        memberships: &Memberships,
        newcomers: &[(OwnedUserId, UserNid)],
    ) -> Result<(Vec<Box<RawValue>>, Position)> {
        let mut now = context.now(Stream::Presence);
        // A token of an earlier process may stand above the positions of this one.
        let since = context.since(Stream::Presence);
        let since = if since > now { 0 } else { since };
        let wanted = &context.request.filter.presence;
        if !filter::wants_plain(wanted, "m.presence", None) {
            return Ok((Vec::new(), now));
        }
        let presence = &self.from.presence;
        if !newcomers.is_empty() {
            let nids: Vec<UserNid> = newcomers.iter().map(|(_, user)| *user).collect();
            now = presence.tell_now(&nids).await?.max(now);
        }
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
        let newcomers = presence.of_newcomers(context.viewer.user, &unnamed);
        changes.extend(newcomers);
        let changes = changes.into_iter().filter(|event| {
            let sender = event["sender"].as_str().and_then(|id| <&UserId>::try_from(id).ok());
            !context.ignored.iter().any(|ignored| Some(&**ignored) == sender)
                && filter::wants_plain(wanted, "m.presence", sender)
        });
        Ok((changes.filter_map(|event| to_raw_value(&event).ok()).collect(), now))
    }

    /// Returns the user's own account data that changed.
    pub(super) async fn account_data<'a>(
        &'a self,
        context: &'a SyncContext,
    ) -> Result<Elements<'a>> {
        let wanted = &context.request.filter.account_data;
        let is_wanted = |data: &AccountData| {
            filter::wants_plain(wanted, &data.event_type, Some(&context.viewer.user_id))
        };
        Ok(match self.data_changes(context).await? {
            ChangedData::Little { global, .. } => entries(global, is_wanted),
            ChangedData::Much { .. } => {
                let after = context.since(Stream::AccountData);
                self.pages_of_data(context, Scope::Global, after, is_wanted)
            }
        })
    }

    /// Returns the rooms for which the user's account data changed, and whether what the user says
    /// about being invited did, or may have.
    pub(super) async fn rooms_with_data(
        &self,
        context: &SyncContext,
    ) -> Result<(HashSet<RoomNid>, bool)> {
        let changes = self.data_changes(context).await?;
        Ok((changes.rooms(), changes.may_have_invite_permission()))
    }

    /// Returns which invitations an answer shows: none by those from whom the user wants none, and all once
    /// the user says something else about them.
    ///
    /// Source: Matrix v1.19, client-server, "Invite permission".
    pub(super) async fn invites(
        &self,
        context: &SyncContext,
        memberships: &Memberships,
        permission_moved: bool,
    ) -> Result<Invites> {
        let since = context.since(Stream::Events);
        let is_news = |member: &&Member| {
            member.membership == Membership::Invite && (permission_moved || member.pos > since)
        };
        let invited: Vec<&Member> = memberships.rooms.iter().filter(is_news).collect();
        if invited.is_empty() {
            return Ok(Invites::default());
        }
        let permission = invite_permission(&self.context.db, context.viewer.user).await?;
        if permission == InvitePermission::default() {
            return Ok(Invites { is_all: permission_moved, ..Invites::default() });
        }
        let mut unwanted = HashSet::new();
        for member in invited {
            let inviter = self.context.interned.user_id(member.sender).await?;
            if permission.of(&inviter) != InviteAction::Allow {
                unwanted.insert(member.room);
            }
        }
        Ok(Invites { is_all: permission_moved, unwanted })
    }

    /// Returns the user's account data for a room that changed above `after`.
    pub(super) async fn room_data<'a>(
        &'a self,
        context: &'a SyncContext,
        room: &'a Room,
        after: Position,
    ) -> Result<Elements<'a>> {
        let wanted = &context.request.filter.room.account_data;
        let is_wanted = |data: &AccountData| {
            filter::wants_type(wanted, &data.event_type)
                && filter::wants_room(wanted, &room.room_id)
        };
        // Whoever comes in now has not been told what is older than the token.
        if after > 0 || context.since.is_none() {
            match self.data_changes(context).await? {
                ChangedData::Little { rooms, .. } => {
                    let changes = rooms.get(&room.nid).map_or(&[][..], Vec::as_slice);
                    return Ok(entries(changes, is_wanted));
                }
                ChangedData::Much { rooms } if !rooms.contains(&room.nid) => {
                    return Ok(all(Vec::new()));
                }
                ChangedData::Much { .. } => {}
            }
        }
        Ok(self.pages_of_data(context, Scope::Room(room.nid), after, is_wanted))
    }

    /// Reads the user's account data that changed above `after` as it is told.
    fn pages_of_data<'a>(
        &'a self,
        context: &'a SyncContext,
        scope: Scope,
        after: Position,
        is_wanted: impl Fn(&AccountData) -> bool + Send + 'a,
    ) -> Elements<'a> {
        let (user, upto) = (context.viewer.user, context.now(Stream::AccountData));
        let is_first = context.since.is_none();
        let pages = try_unfold(Some(after), move |after| async move {
            let Some(after) = after else { return Ok(None) };
            let changes = Changes { scope, after, upto, is_first };
            let page = self.from.account_data.page(user, changes).await?;
            Ok(Some((page.data, page.next)))
        });
        elements(
            pages.map_ok(move |data| {
                data.iter().filter(|data| is_wanted(data)).map(entry).collect()
            }),
        )
    }

    /// Returns the user's account data that changed since the client's token: asked for once for an
    /// answer, however many rooms it has.
    async fn data_changes<'t>(&self, context: &'t SyncContext) -> Result<&'t ChangedData> {
        context.data.get_or_try_init(|| self.read_data_changes(context)).await
    }

    async fn read_data_changes(&self, context: &SyncContext) -> Result<ChangedData> {
        let after = context.since(Stream::AccountData);
        let (user, upto) = (context.viewer.user, context.now(Stream::AccountData));
        let is_first = context.since.is_none();
        if !is_first && (after >= upto || self.heads.user(user).account_data <= after) {
            return Ok(ChangedData::little(Vec::new()));
        }
        // With the push rules even of those who never changed any.
        let changes = Changes { scope: Scope::All, after, upto, is_first };
        let page = self.from.account_data.page(user, changes).await?;
        if page.next.is_none() {
            return Ok(ChangedData::little(page.data));
        }
        let rooms = self.from.account_data.changed_rooms(user, after, upto).await?;
        Ok(ChangedData::Much { rooms: rooms.into_iter().collect() })
    }
}

/// Renders what of some data is wanted.
fn entries<'a>(data: &[AccountData], is_wanted: impl Fn(&AccountData) -> bool) -> Elements<'a> {
    all(data.iter().filter(|data| is_wanted(data)).map(entry).collect())
}

pub(super) fn entry(data: &AccountData) -> Box<RawValue> {
    to_raw_value(&Entry { event_type: &data.event_type, content: &data.body })
        .expect("strings and JSON always serialise")
}
