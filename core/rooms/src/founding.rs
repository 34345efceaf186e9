//! Making a room by a plan: its first events are built, checked like any others, and written together.

use std::sync::Arc;

use colonnade_model::{
    MatrixError,
    nid::{EventNid, RoomNid, UserNid},
    ruma::{
        CanonicalJsonObject, MilliSecondsSinceUnixEpoch, OwnedRoomAliasId, OwnedUserId, RoomId,
        RoomVersionId, UInt, events::TimelineEventType, room_version_rules::RoomVersionRules,
    },
    versions,
};
use colonnade_rules::event::{Draft, Event};
use colonnade_storage::{
    StorageError,
    rooms::persist::{NewAlias, NewRoom},
};

use crate::{Error, Result};
use crate::{
    pending_room::{PendingRoom, checks},
    proposal::{Proposal, draft_error, member},
    service::Rooms,
    store::Room,
};

/// Characters of the random part of a room id, for versions that need one: 107 bits.
const ROOM_ID_LEN: usize = 18;

/// Attempts to make a room. The id of a version 12 room is the hash of its create event, so two
/// alike rooms that a user makes in one millisecond would be one; later attempts say they are later.
/// More attempts than requests of one user that can sensibly be under way at once.
const CREATE_ATTEMPTS_MAX: i64 = 100;

/// A room about to be made: what its first events say.
pub struct RoomPlan {
    /// The user who makes it.
    pub creator: OwnedUserId,
    /// Its version.
    pub version: RoomVersionId,
    /// What its version says.
    pub rules: RoomVersionRules,
    /// The content of the create event, as far as it is given.
    pub create: CanonicalJsonObject,
    /// What follows the creator's join, in order.
    pub proposals: Vec<Proposal>,
    /// An alias that is taken with it, or it is not made.
    pub alias: Option<OwnedRoomAliasId>,
    /// Whether it stands in the public directory.
    pub published: bool,
    /// The room it replaces, and its tombstone of before.
    pub replaces: Option<(RoomNid, Option<EventNid>)>,
}

impl Rooms {
    /// Makes a room by a plan, for the local id of its creator and the content of the join of the creator:
    /// all its first events are written together, or none.
    ///
    /// # Errors
    /// `M_ROOM_IN_USE` when the alias is taken, or the room it replaces has been replaced;
    /// `M_INVALID_ROOM_STATE` when its own beginning does not allow an event.
    pub async fn found(
        &self,
        user: UserNid,
        plan: &RoomPlan,
        join: &CanonicalJsonObject,
    ) -> Result<Arc<Room>> {
        for later_ms in 0..CREATE_ATTEMPTS_MAX {
            let create = self.create_event(plan, later_ms)?;
            let room_id = create.room_id().to_owned();
            if self.store.find(&room_id).await?.is_some() {
                continue;
            }
            match self.found_with(user, plan, create, join).await? {
                Some(room) => return Ok(room),
                // Another request was faster with the same room, or else with the alias.
                None if self.store.find(&room_id).await?.is_some() => {}
                None => return Err(alias_taken().into()),
            }
        }
        Err(MatrixError::unavailable("too many rooms are being made at once").into())
    }

    /// Makes a room by a plan, beginning with this event; `None` if its id or alias is taken.
    async fn found_with(
        &self,
        user: UserNid,
        plan: &RoomPlan,
        create: Event,
        join: &CanonicalJsonObject,
    ) -> Result<Option<Arc<Room>>> {
        let context = &self.context;
        let room = Arc::new(Room {
            nid: context.nids.room(&context.db).await?,
            room_id: create.room_id().to_owned(),
            version: plan.version.clone(),
            rules: plan.rules.clone(),
        });
        let new = NewRoom {
            room_id: room.room_id.to_string(),
            version: room.version.to_string(),
            created_ts: context.now_ms(),
            alias: plan.alias.clone().map(|alias| NewAlias {
                alias,
                creator: user,
                quota: context.settings.limits.aliases(),
            }),
            replaces: plan.replaces,
        };
        let mut pending = PendingRoom::empty(Arc::clone(&room), new, plan.published);
        pending.begin(&self.store, create).await.map_err(invalid_state)?;
        let join = member(&plan.creator, &plan.creator, join.clone());
        for proposal in std::iter::once(join).chain(plan.proposals.iter().cloned()) {
            checks::proposal(&mut pending, &self.store, &proposal).await?;
            pending.propose(&self.store, proposal).await.map_err(invalid_state)?;
        }
        pending.keep();
        let Some(batch) = pending.batch()? else { return Ok(None) };
        match self.committer.commit(Arc::clone(&batch)).await {
            Ok(persisted) => pending.settle(&self.store, &batch, &persisted),
            Err(StorageError::Conflict(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        Ok(Some(room))
    }

    /// Makes and signs the create event, dated so much later than now.
    fn create_event(&self, plan: &RoomPlan, later_ms: i64) -> Result<Event> {
        let context = &self.context;
        let mut content = plan.create.clone();
        content.insert("room_version".to_owned(), plan.version.to_string().into());
        content.remove("creator");
        if !plan.rules.authorization.use_room_create_sender {
            content.insert("creator".to_owned(), plan.creator.to_string().into());
        }
        let room_id = match plan.rules.event_format.require_room_create_room_id {
            true => {
                let name = context.random.alphanumeric(ROOM_ID_LEN);
                let room_id = RoomId::parse(format!("!{name}:{}", context.server_name));
                Some(room_id.map_err(|error| Error::internal("make a room id", error))?)
            }
            false => None,
        };
        let draft = Draft {
            room_id,
            sender: plan.creator.clone(),
            event_type: TimelineEventType::RoomCreate,
            state_key: Some(String::new()),
            content,
            prev_events: Vec::new(),
            auth_events: Vec::new(),
            depth: 1,
            origin_server_ts: MilliSecondsSinceUnixEpoch(
                UInt::try_from(context.now_ms() + later_ms).unwrap_or_default(),
            ),
            redacts: None,
            opaque_id: Draft::opaque_id(&plan.rules, &*context.random),
        };
        let key = context.signing_key.current();
        let signed = draft.sign(&context.server_name, &*key, &plan.rules);
        Ok(signed.map_err(draft_error)?)
    }
}

/// Returns the rules of a version.
///
/// # Errors
/// `M_UNSUPPORTED_ROOM_VERSION`.
pub fn rules_of(version: &RoomVersionId) -> Result<RoomVersionRules> {
    let unsupported = || {
        MatrixError::unsupported_room_version(format!("room version {version} is not known here"))
    };
    Ok(versions::rules(version).ok_or_else(unsupported)?)
}

/// What is said when the alias of a new room is taken.
pub fn alias_taken() -> MatrixError {
    MatrixError::room_in_use("the room alias is taken")
}

/// An event that the room's own beginning does not allow makes the request contradictory.
fn invalid_state(error: Error) -> Error {
    match error {
        Error::Client(error) if error.errcode == "M_FORBIDDEN" => {
            MatrixError::invalid_room_state(error.message).into()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_that_the_rules_forbid_is_a_contradiction() {
        let code = |error: Error| match invalid_state(error) {
            Error::Client(error) => (error.status, error.errcode),
            other => panic!("{other}"),
        };
        let forbidden = MatrixError::forbidden("no");
        assert_eq!(code(forbidden.into()), (400, "M_INVALID_ROOM_STATE".into()));
        assert_eq!(code(MatrixError::bad_json("no").into()), (400, "M_BAD_JSON".into()));
    }

    #[test]
    fn a_version_that_nobody_knows_is_refused() {
        assert!(rules_of(&RoomVersionId::V11).is_ok());
        for version in ["0", "99", "org.example.next"] {
            let Err(Error::Client(error)) = rules_of(&version.try_into().unwrap()) else {
                panic!("{version} is known");
            };
            assert_eq!(error.errcode, "M_UNSUPPORTED_ROOM_VERSION", "{version}");
        }
    }
}
