//! Puts an answer together: which rooms have anything to tell, and everything outside rooms.

use colonnade_model::{
    nid::DeviceNid,
    ruma::api::client::filter::RoomFilter,
    stream::{Positions, Stream},
};
use colonnade_rooms::{Result, Room};
use colonnade_storage::rooms::members::{Member, Membership};
use colonnade_users::encryption::DeviceListChanges;
use serde_json::value::RawValue;

use super::{
    account::Invites,
    notifier::RoomHead,
    response::{ChangedDevices, Events, InvitedRoom, KnockedRoom, Rooms, SyncResponse},
    service::{Memberships, Sync, SyncContext},
};

/// Messages to a device in one answer at most; the rest comes with the next.
const TO_DEVICE_MAX: usize = 100;

impl Sync {
    /// Makes the answer from the client's token to `context.now`.
    pub(super) async fn look(
        &self,
        context: &SyncContext<'_>,
        memberships: &Memberships,
    ) -> Result<SyncResponse> {
        let mut now = context.now;
        let (to_device, delivered_upto) = self.to_device(context).await?;
        context.growth.add(to_device.bytes()).await?;
        now.set(Stream::ToDevice, delivered_upto);
        let heads = self.heads.rooms(memberships.rooms.iter().map(|member| member.room));
        let device_lists = self.device_lists(context, memberships, &heads).await?;
        let account_data = self.account_data(context).await?;
        context.growth.add(account_data.bytes()).await?;
        let presence = self.presence(context, memberships, &device_lists.changed).await?;
        context.growth.add(presence.bytes()).await?;
        Ok(SyncResponse {
            rooms: self.rooms(context, memberships, &heads).await?,
            presence,
            account_data,
            to_device,
            device_lists: ChangedDevices::of(device_lists),
            ..self.nothing(context.viewer.device, now).await?
        })
    }

    /// The answer when nothing has moved.
    pub(super) async fn nothing(&self, device: DeviceNid, now: Positions) -> Result<SyncResponse> {
        let encryption = &self.from.encryption;
        Ok(SyncResponse {
            next_batch: self.encode(now),
            rooms: Rooms::default(),
            presence: Events::default(),
            account_data: Events::default(),
            to_device: Events::default(),
            device_lists: None,
            device_one_time_keys_count: encryption.one_time_key_counts(device).await?,
            device_unused_fallback_key_types: encryption.unused_fallback_key_types(device).await?,
            reserved: None,
        })
    }

    /// Returns the messages to the device and the position up to which they were told.
    async fn to_device(&self, context: &SyncContext<'_>) -> Result<(Events, i64)> {
        let (after, upto) = (context.since(Stream::ToDevice), context.now(Stream::ToDevice));
        let device = context.viewer.device;
        if self.heads.device(device) <= after {
            return Ok((Events::default(), upto));
        }
        let messages = self.from.to_device.messages(device, after, upto, TO_DEVICE_MAX).await?;
        let full = messages.len() == TO_DEVICE_MAX;
        let delivered_upto = messages.last().filter(|_| full).map_or(upto, |last| last.pos);
        let events = messages.into_iter().map(|message| message.event).collect();
        Ok((Events { events }, delivered_upto))
    }

    /// Returns whose keys changed for the user. Asks only for what has moved: of most answers
    /// nothing has.
    async fn device_lists(
        &self,
        context: &SyncContext<'_>,
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

    async fn rooms(
        &self,
        context: &SyncContext<'_>,
        memberships: &Memberships,
        heads: &[RoomHead],
    ) -> Result<Rooms> {
        let wanted = &context.request.filter.room;
        let mut rooms = Rooms::default();
        let mut strangers = self.context.settings.limits.invite_states_bytes_max as usize;
        let data_moved =
            self.heads.user(context.viewer.user).account_data > context.since(Stream::AccountData);
        let (data_rooms, invites_moved) = match data_moved {
            true => self.rooms_with_data(context).await?,
            false => Default::default(),
        };
        let invites = self.invites(context, memberships, invites_moved).await?;
        for (member, head) in memberships.rooms.iter().zip(heads) {
            let is_new = member.pos > context.since(Stream::Events);
            let is_due = match member.membership {
                Membership::Join => {
                    is_new
                        || context.since.is_none()
                        || context.request.full_state
                        || head.events > context.since(Stream::Events)
                        || head.receipts > context.since(Stream::Receipts)
                        || head.typing > context.since(Stream::Typing)
                        || data_rooms.contains(&member.room)
                }
                Membership::Knock => is_new,
                Membership::Invite => match invites {
                    Invites::None => false,
                    Invites::New => is_new,
                    Invites::All => true,
                },
                Membership::Leave | Membership::Ban => {
                    // Forgotten or not: other devices have to hear that their user left.
                    is_new && (context.since.is_some() || wanted.include_leave && !member.forgotten)
                }
            };
            if !is_due {
                continue;
            }
            let room = self.from.rooms.room(member.room).await?;
            if passes(wanted, &room) {
                let part = (member, *head);
                self.add_room(context, &room, part, &mut rooms, &mut strangers).await?;
            }
        }
        Ok(rooms)
    }

    async fn add_room(
        &self,
        context: &SyncContext<'_>,
        room: &Room,
        (member, head): (&Member, RoomHead),
        rooms: &mut Rooms,
        strangers: &mut usize,
    ) -> Result<()> {
        let room_id = room.room_id.clone();
        match member.membership {
            Membership::Join => {
                if let Some(joined) = self.joined(context, room, member, head).await? {
                    rooms.join.insert(room_id, joined);
                }
            }
            Membership::Leave | Membership::Ban => {
                if let Some(left) = self.left(context, room, member).await? {
                    rooms.leave.insert(room_id, left);
                }
            }
            Membership::Invite => {
                let sender = self.context.interned.user_id(member.sender).await?;
                if !context.ignored.contains(&sender) {
                    let invite_state = Events { events: self.stripped(member, strangers).await? };
                    rooms.invite.insert(room_id, InvitedRoom { invite_state });
                }
            }
            Membership::Knock => {
                let knock_state = Events { events: self.stripped(member, strangers).await? };
                rooms.knock.insert(room_id, KnockedRoom { knock_state });
            }
        }
        Ok(())
    }

    /// What is shown of a room by people the user may not know: bounded for each, and `left` for all
    /// of an answer.
    async fn stripped(&self, member: &Member, left: &mut usize) -> Result<Vec<Box<RawValue>>> {
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

fn passes(wanted: &RoomFilter, room: &Room) -> bool {
    !wanted.not_rooms.contains(&room.room_id)
        && wanted.rooms.as_ref().is_none_or(|rooms| rooms.contains(&room.room_id))
}
