//! Puts an answer together: which rooms have anything to tell, and everything outside rooms.

use colonnade_model::{
    nid::DeviceNid,
    ruma::{OwnedUserId, api::client::filter::RoomFilter},
    stream::{Position, Positions, Stream},
};
use colonnade_rooms::{Result, Room};
use colonnade_storage::rooms::members::{Member, Membership};
use colonnade_users::encryption::DeviceListChanges;
use serde_json::value::RawValue;

use super::{
    account::Invites,
    notifier::RoomHead,
    response::Always,
    service::{Memberships, Sync, SyncContext},
    writer::{Writer, all, text},
};

/// Messages to a device in one answer at most; the rest comes with the next.
const TO_DEVICE_MAX: usize = 100;
/// So many are read at a time: 1.25 MiB at most.
const TO_DEVICE_PAGE: usize = 20;

impl Sync {
    /// Writes the answer from the client's token to `context.now`.
    pub(super) async fn look(
        &self,
        context: &SyncContext,
        memberships: &Memberships,
        out: &mut Writer,
    ) -> Result<()> {
        let mut now = context.now;
        now.set(Stream::ToDevice, self.to_device(context, out).await?);
        let heads = self.heads.rooms(memberships.rooms.iter().map(|member| member.room));
        let DeviceListChanges { changed, left } =
            self.device_lists(context, memberships, &heads).await?;
        let (presence, told) = self.presence(context, memberships, &changed).await?;
        now.set(Stream::Presence, told);
        if !changed.is_empty() || !left.is_empty() {
            out.says_something();
            out.open("device_lists", '{');
            let changed: Vec<OwnedUserId> = changed.into_iter().map(|(name, _)| name).collect();
            // Clients ask for what is there.
            if !changed.is_empty() {
                out.list("changed", &changed).await?;
            }
            if !left.is_empty() {
                out.list("left", &left).await?;
            }
            out.close('}');
        }
        out.events_if_any("presence", all(presence)).await?;
        out.events_if_any("account_data", self.account_data(context).await?).await?;
        self.rooms(context, memberships, &heads, out).await?;
        // The token comes last: who has it has the rest.
        out.fields(&self.always(context.viewer.device, now).await?)
    }

    /// Returns the answer when nothing has moved.
    pub(super) async fn nothing(&self, device: DeviceNid, now: Positions) -> Result<String> {
        text(&self.always(device, now).await?)
    }

    async fn always(&self, device: DeviceNid, now: Positions) -> Result<Always> {
        let encryption = &self.from.encryption;
        Ok(Always {
            next_batch: self.encode(now),
            device_one_time_keys_count: encryption.one_time_key_counts(device).await?,
            device_unused_fallback_key_types: encryption.unused_fallback_key_types(device).await?,
        })
    }

    /// Writes the messages to the device and returns the position up to which they were told.
    async fn to_device(&self, context: &SyncContext, out: &mut Writer) -> Result<Position> {
        let (mut after, upto) = (context.since(Stream::ToDevice), context.now(Stream::ToDevice));
        let device = context.viewer.device;
        if self.heads.device(device) <= after {
            return Ok(upto);
        }
        let mut is_open = false;
        for _ in 0..TO_DEVICE_MAX / TO_DEVICE_PAGE {
            let some = self.from.to_device.messages(device, after, upto, TO_DEVICE_PAGE).await?;
            let last = some.last().filter(|_| some.len() == TO_DEVICE_PAGE);
            after = last.map_or(upto, |last| last.pos);
            if !some.is_empty() && !is_open {
                is_open = true;
                out.says_something();
                out.open("to_device", '{');
                out.open("events", '[');
            }
            let some = some.into_iter().map(|message| message.event).collect();
            out.elements(all(some)).await?;
            if after >= upto {
                break;
            }
        }
        if is_open {
            out.close(']');
            out.close('}');
        }
        Ok(after)
    }

    /// Returns whose keys changed for the user. Asks only for what has moved: of most answers
    /// nothing has.
    pub(super) async fn device_lists(
        &self,
        context: &SyncContext,
        memberships: &Memberships,
        heads: &[RoomHead],
    ) -> Result<DeviceListChanges> {
        let Some(mut since) = context.since else { return Ok(DeviceListChanges::default()) };
        let rooms = memberships.rooms.iter().zip(heads);
        let joined = rooms.filter(|(member, _)| member.membership == Membership::Join);
        let joined: Vec<&RoomHead> = joined.map(|(_, head)| head).collect();
        let user = self.heads.user(context.viewer.user);
        let (keys, events) = (since.get(Stream::DeviceLists), since.get(Stream::Events));
        if user.device_lists <= keys && joined.iter().all(|head| head.device_lists <= keys) {
            since.set(Stream::DeviceLists, context.now(Stream::DeviceLists));
        }
        let somebody_moved = self.heads.memberships() > events;
        if !somebody_moved
            || user.events <= events && joined.iter().all(|head| head.events <= events)
        {
            since.set(Stream::Events, context.now(Stream::Events));
        }
        self.from.encryption.device_list_changes(context.viewer.user, &since, &context.now).await
    }

    /// Writes the rooms: those of a kind together.
    async fn rooms(
        &self,
        context: &SyncContext,
        memberships: &Memberships,
        heads: &[RoomHead],
        out: &mut Writer,
    ) -> Result<()> {
        let mut strangers = self.context.settings.limits.invite_states_bytes_max as usize;
        let data_moved =
            self.heads.user(context.viewer.user).account_data > context.since(Stream::AccountData);
        let (data_rooms, invites_moved) = match data_moved {
            true => self.rooms_with_data(context).await?,
            false => Default::default(),
        };
        let invites = self.invites(context, memberships, invites_moved).await?;
        let rooms = memberships.rooms.iter().zip(heads);
        let due = rooms.filter(|(member, head)| {
            let has_data = data_rooms.contains(&member.room);
            is_due(context, member, head, has_data, &invites)
        });
        let mut due: Vec<_> = due.collect();
        due.sort_by_key(|(member, _)| kind_of(member.membership));
        for (member, head) in due {
            let room = self.from.rooms.room(member.room).await?;
            if passes(&context.request.filter.room, &room) {
                self.room(context, &room, (member, *head), out, &mut strangers).await?;
            }
        }
        out.end_rooms();
        Ok(())
    }

    async fn room(
        &self,
        context: &SyncContext,
        room: &Room,
        (member, head): (&Member, RoomHead),
        out: &mut Writer,
        strangers: &mut usize,
    ) -> Result<()> {
        let (kind, shown) = match member.membership {
            Membership::Join => return self.joined(context, room, member, head, out).await,
            Membership::Leave | Membership::Ban => {
                return self.left(context, room, member, out).await;
            }
            Membership::Invite => {
                let sender = self.context.interned.user_id(member.sender).await?;
                if context.ignored.contains(&sender) {
                    return Ok(());
                }
                ("invite", "invite_state")
            }
            Membership::Knock => ("knock", "knock_state"),
        };
        let stripped = self.stripped(member, strangers).await?;
        out.begin_room(kind, &room.room_id);
        out.events(shown, all(stripped)).await?;
        out.end_room();
        Ok(())
    }

    /// What is shown of a room by people the user may not know: bounded for each, and `left` for all
    /// of an answer.
    pub(super) async fn stripped(
        &self,
        member: &Member,
        left: &mut usize,
    ) -> Result<Vec<Box<RawValue>>> {
        let Some(event) = self.from.rooms.event(member.event).await? else {
            return Ok(Vec::new());
        };
        let bytes_max = self.context.settings.limits.invite_state_bytes_max as usize;
        let events = self.from.rooms.stripped_state(&event, bytes_max.min(*left)).await?;
        let bytes: usize = events.iter().map(|event| event.get().len()).sum();
        *left = left.saturating_sub(bytes);
        Ok(events)
    }
}

/// Tells whether there may be anything to tell of a room.
fn is_due(
    context: &SyncContext,
    member: &Member,
    head: &RoomHead,
    has_data: bool,
    invites: &Invites,
) -> bool {
    let is_new = member.pos > context.since(Stream::Events);
    match member.membership {
        Membership::Join => {
            is_new
                || context.since.is_none()
                || context.request.full_state
                || head.events > context.since(Stream::Events)
                || head.receipts > context.since(Stream::Receipts)
                || head.typing > context.since(Stream::Typing)
                || has_data
        }
        Membership::Knock => is_new,
        Membership::Invite => invites.shows(member, is_new),
        Membership::Leave | Membership::Ban => {
            // Forgotten or not: other devices have to hear that their user left.
            let wants_left = context.request.filter.room.include_leave && !member.forgotten;
            is_new && (context.since.is_some() || wants_left)
        }
    }
}

/// Returns the place of a kind of rooms in the answer.
fn kind_of(membership: Membership) -> u8 {
    match membership {
        Membership::Join => 0,
        Membership::Invite => 1,
        Membership::Knock => 2,
        Membership::Leave | Membership::Ban => 3,
    }
}

fn passes(wanted: &RoomFilter, room: &Room) -> bool {
    !wanted.not_rooms.contains(&room.room_id)
        && wanted.rooms.as_ref().is_none_or(|rooms| rooms.contains(&room.room_id))
}

#[cfg(test)]
mod tests {
    use colonnade_model::{
        nid::RoomNid,
        ruma::{RoomVersionId, room_id},
    };

    use super::*;

    #[test]
    fn rooms_pass_by_both_lists_of_a_filter() {
        let version = RoomVersionId::V11;
        let (rules, room_id) = (version.rules().unwrap(), room_id!("!a:b").to_owned());
        let room = Room { nid: RoomNid(1), room_id, version, rules };
        for (filter, expected) in [
            ("{}", true),
            (r#"{ "rooms": ["!a:b"] }"#, true),
            (r#"{ "rooms": [] }"#, false),
            (r#"{ "rooms": ["!c:b"] }"#, false),
            (r#"{ "not_rooms": ["!a:b"] }"#, false),
            (r#"{ "rooms": ["!a:b"], "not_rooms": ["!a:b"] }"#, false),
        ] {
            assert_eq!(passes(&serde_json::from_str(filter).unwrap(), &room), expected, "{filter}");
        }
    }
}
