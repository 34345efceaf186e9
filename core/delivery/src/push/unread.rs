//! Counting what is unread of a user in all rooms: what a telephone shows on the application's icon. Where something
//! happened in one room, that one is counted again.

use colonnade_model::{
    nid::{RoomNid, UserNid},
    stream::Stream,
};
use colonnade_rooms::Result;
use colonnade_storage::delivery::push;
use colonnade_views::sync::unread_of;

use super::sender::PushSender;

/// Counts what is unread of a user in all rooms, after something happened in one.
pub(super) async fn in_all_rooms(
    sender: &PushSender,
    user: UserNid,
    room: Option<RoomNid>,
) -> Result<i64> {
    let rooms = match (sender.badges.has(user), room) {
        (true, Some(room)) => vec![room],
        (true, None) => Vec::new(),
        (false, _) => push::rooms_with_news(&sender.context.db, user).await?,
    };
    let upto = sender.positions.get().get(Stream::Events);
    let mut counted = Vec::with_capacity(rooms.len());
    for room in rooms {
        let is_in = sender.index.lock().is_member(room, user);
        let unread = match is_in {
            true => unread_of(&sender.rooms, (user, room), upto).await?.sum().notify,
            false => 0,
        };
        counted.push((room, unread));
    }
    Ok(sender.badges.put(user, counted))
}
