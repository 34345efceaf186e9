//! The list of published rooms: in and out of it, and its pages, rooms with most members first.

use colonnade_model::session::Session;
use colonnade_model::{
    MatrixError,
    ruma::{
        MxcUri, RoomAliasId, RoomId, UInt,
        directory::{PublicRoomsChunk, RoomTypeFilter},
        room::JoinRuleKind,
    },
};
use colonnade_rooms::Result;
use colonnade_storage::rooms::{
    directory as table,
    directory::{Place, PublishedQuery, PublishedRoom},
};

use super::Directory;

/// Rooms on a page when the client does not say.
const PAGE_DEFAULT: u64 = 50;
/// Rooms on a page at most: about 250 kB of JSON.
const PAGE_MAX: u64 = 500;
/// The longest text searched for, in bytes; room names have at most as many.
const SEARCH_BYTES_MAX: usize = 255;
/// Room types asked for at once; two exist.
const TYPES_MAX: usize = 50;

/// Which part of the list is wanted.
#[derive(Debug, Clone, Default)]
pub struct PublishedRequest {
    /// Rooms wanted.
    pub limit: Option<u64>,
    /// A token from an earlier page.
    pub since: Option<String>,
    /// Text that name, topic or alias contain.
    pub search: Option<String>,
    /// Room types wanted; empty: all.
    pub types: Vec<RoomTypeFilter>,
}

/// A part of the list.
#[derive(Debug, Clone)]
pub struct PublishedPage {
    /// The rooms.
    pub rooms: Vec<PublicRoomsChunk>,
    /// Token of the next page.
    pub next: Option<String>,
    /// Token of the page before.
    pub prev: Option<String>,
    /// Published rooms, whether they were asked for or not.
    pub total: UInt,
}

impl Directory {
    /// Tells whether a room is published. One that does not exist is not: whoever asks, and that may be
    /// anybody, does not learn which of those that are not published there are.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn is_published(&self, room_id: &RoomId) -> Result<bool> {
        let Some(room) = self.rooms.find(room_id).await? else { return Ok(false) };
        Ok(table::published(&self.context.db, room.nid).await?.unwrap_or(false))
    }

    /// Publishes a room or takes it off the list: who may change its canonical alias may.
    ///
    /// # Errors
    /// `M_FORBIDDEN`.
    pub async fn publish(
        &self,
        session: &Session,
        room_id: &RoomId,
        published: bool,
    ) -> Result<()> {
        let room = self.room(room_id).await?;
        self.require_naming(session, &room).await?;
        let room = room.nid;
        let set = self.context.db.write(move |tx| {
            Box::pin(async move { table::set_published(tx, room, published).await })
        });
        Ok(set.await?)
    }

    /// Returns a page of the published rooms.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` for a token that is not one.
    pub async fn published(&self, request: PublishedRequest) -> Result<PublishedPage> {
        let limit = request.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let search = request.search.filter(|search| !search.is_empty());
        if search
            .as_ref()
            .is_some_and(|search| search.len() > SEARCH_BYTES_MAX || search.contains('\0'))
        {
            let why = format!("the search term has more than {SEARCH_BYTES_MAX} bytes");
            return Err(MatrixError::invalid_param(why).into());
        }
        if request.types.len() > TYPES_MAX {
            return Err(MatrixError::invalid_param("too many room types").into());
        }
        let types: Vec<String> =
            request.types.iter().map(|kind| kind.as_str().unwrap_or_default().to_owned()).collect();
        let since = match &request.since {
            Some(token) => Some(self.token(token).await?),
            None => None,
        };
        let backward = since.is_some_and(|since| since.backward);
        let query = PublishedQuery {
            from: since.map(|since| since.place),
            backward,
            // One more than wanted tells whether there is a page after this one.
            limit: i64::try_from(limit + 1).unwrap_or(i64::MAX),
            search,
            types: (!types.is_empty()).then_some(types),
        };
        let mut rooms = table::published_rooms(&self.context.db, query).await?;
        let more = rooms.len() > limit;
        if more && backward {
            rooms.remove(0);
        } else if more {
            rooms.pop();
        }
        let first = rooms.first().map(|room| token('b', room));
        let last = rooms.last().map(|room| token('f', room));
        let (prev, next) = if backward {
            (first.filter(|_| more), last)
        } else {
            (first.filter(|_| since.is_some()), last.filter(|_| more))
        };
        let total = table::published_count(&self.context.db).await?;
        Ok(PublishedPage {
            rooms: rooms.into_iter().map(shown).collect(),
            next,
            prev,
            total: UInt::new_saturating(u64::try_from(total).unwrap_or(0)),
        })
    }

    /// Reads a token: the direction, the members of the room at the edge, and its id.
    async fn token(&self, token: &str) -> Result<Since> {
        let invalid = || MatrixError::invalid_param("this is no token of a list of rooms");
        let (backward, rest) = match token.split_at_checked(1) {
            Some(("f", rest)) => (false, rest),
            Some(("b", rest)) => (true, rest),
            _ => return Err(invalid().into()),
        };
        let (joined, room_id) = rest.split_once('_').ok_or_else(invalid)?;
        let joined = joined.parse::<i64>().map_err(|_| invalid())?;
        let room_id = RoomId::parse(room_id).map_err(|_| invalid())?;
        let room = self.rooms.find(&room_id).await?.ok_or_else(invalid)?;
        Ok(Since { backward, place: Place { joined, room: room.nid } })
    }
}

/// Where a page starts.
#[derive(Clone, Copy)]
struct Since {
    backward: bool,
    place: Place,
}

fn token(direction: char, room: &PublishedRoom) -> String {
    format!("{direction}{}_{}", room.place.joined, room.room_id)
}

fn shown(room: PublishedRoom) -> PublicRoomsChunk {
    PublicRoomsChunk {
        canonical_alias: room.canonical_alias.and_then(|alias| RoomAliasId::parse(alias).ok()),
        name: room.name,
        num_joined_members: UInt::new_saturating(u64::try_from(room.place.joined).unwrap_or(0)),
        room_id: room.room_id,
        topic: room.topic,
        world_readable: room.history_visibility == "world_readable",
        guest_can_join: room.guest_access,
        avatar_url: room.avatar_url.map(|url| <&MxcUri>::from(url.as_str()).to_owned()),
        join_rule: JoinRuleKind::from(room.join_rule),
        room_type: room.room_type.map(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use colonnade_model::ruma::room_id;

    use super::*;

    fn room() -> PublishedRoom {
        PublishedRoom {
            place: Place { joined: 12, room: colonnade_model::nid::RoomNid(3) },
            room_id: room_id!("!a_b:c").to_owned(),
            name: None,
            topic: None,
            avatar_url: None,
            canonical_alias: None,
            room_type: None,
            join_rule: "knock".to_owned(),
            history_visibility: "shared".to_owned(),
            guest_access: false,
        }
    }

    #[test]
    fn a_token_names_the_room_at_the_edge() {
        assert_eq!(
            (token('f', &room()), token('b', &room())),
            ("f12_!a_b:c".into(), "b12_!a_b:c".into())
        );
    }

    #[test]
    fn what_a_list_shows_of_a_room_is_what_everybody_may_know() {
        let plain = shown(room());
        assert_eq!((plain.num_joined_members, plain.world_readable), (12_u32.into(), false));
        assert_eq!(plain.join_rule, JoinRuleKind::Knock);
        let world_readable = "world_readable".to_owned();
        let open =
            PublishedRoom { history_visibility: world_readable, guest_access: true, ..room() };
        let open = shown(open);
        assert!(open.world_readable && open.guest_can_join);
        // Anybody may have called anything the room's alias.
        let canonical_alias = Some("no alias".to_owned());
        assert_eq!(shown(PublishedRoom { canonical_alias, ..room() }).canonical_alias, None);
        let negative = Place { joined: -1, ..room().place };
        assert_eq!(
            shown(PublishedRoom { place: negative, ..room() }).num_joined_members,
            0_u32.into()
        );
    }
}
