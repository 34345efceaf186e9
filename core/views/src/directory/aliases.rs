//! Aliases of rooms on this server: who may make, read and delete them.

use std::sync::Arc;

use colonnade_model::session::Session;
use colonnade_model::{
    MatrixError,
    ruma::{OwnedRoomAliasId, OwnedRoomId, RoomAliasId, RoomId},
};
use colonnade_rooms::{Error, Result, Room, no_member};
use colonnade_storage::rooms::{directory as table, members::Membership};
use serde_json::Value;

use super::Directory;

/// The longest alias, in bytes.
///
/// Source: Matrix v1.19, appendices, "Room Aliases".
const ALIAS_BYTES_MAX: usize = 255;

impl Directory {
    /// Points a new alias to a room the user is in.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` for an alias of another server, `M_FORBIDDEN` outside the room and when the
    /// user made as many as it may, and `M_UNKNOWN` with 409 when the alias is taken.
    pub async fn create_alias(
        &self,
        session: &Session,
        alias: &RoomAliasId,
        room_id: &RoomId,
    ) -> Result<()> {
        self.require_ours(alias)?;
        let room = self.room(room_id).await?;
        let membership = self.rooms.membership(room.nid, session.user).await?;
        if membership != Some(Membership::Join) {
            return Err(no_member().into());
        }
        let (new, room, creator) = (alias.to_owned(), room.nid, session.user);
        let quota = self.context.settings.limits.aliases();
        let inserted = self.context.db.write(move |tx| {
            Box::pin(async move { table::insert_alias(tx, &new, room, creator, quota).await })
        });
        if inserted.await? {
            return Ok(());
        }
        let why = format!("the room alias {alias} exists already");
        Err(MatrixError::unknown(why).with_status(409).into())
    }

    /// Returns the room an alias points to.
    ///
    /// # Errors
    /// `M_NOT_FOUND`.
    pub async fn resolve(&self, alias: &RoomAliasId) -> Result<OwnedRoomId> {
        let target = table::resolve(&self.context.db, alias).await?;
        let target = target.ok_or_else(|| no_alias(alias))?;
        Ok(self.rooms.room(target.room).await?.room_id.clone())
    }

    /// Deletes an alias: its creator may, and who may change the room's canonical alias.
    ///
    /// # Errors
    /// `M_NOT_FOUND`, `M_FORBIDDEN`.
    pub async fn delete_alias(&self, session: &Session, alias: &RoomAliasId) -> Result<()> {
        let target = table::resolve(&self.context.db, alias).await?;
        let target = target.ok_or_else(|| no_alias(alias))?;
        let room = self.rooms.room(target.room).await?;
        let member = self.rooms.membership(room.nid, session.user).await?;
        let names = member == Some(Membership::Join) && self.may_name(session, &room).await?;
        if target.creator != session.user && !names {
            let why = "only its creator or a moderator of the room may delete an alias";
            return Err(MatrixError::forbidden(why).into());
        }
        let old = alias.to_owned();
        let deleted = self
            .context
            .db
            .write(move |tx| Box::pin(async move { table::delete_alias(tx, &old).await }));
        if !deleted.await? {
            return Err(no_alias(alias));
        }
        if names {
            self.forget_alias(session, &room, alias).await;
        }
        Ok(())
    }

    /// Takes a deleted alias out of the room's own list. The alias is gone either way, so failing is
    /// only noted.
    async fn forget_alias(&self, session: &Session, room: &Arc<Room>, alias: &RoomAliasId) {
        let without = |mut content: Value| strike(&mut content, alias.as_str()).then_some(content);
        let kind = "m.room.canonical_alias";
        let forgotten = self.rooms.change_state(&session.user_id, room, kind, without);
        if let Err(error) = forgotten.await {
            tracing::info!(room = %room.room_id, %error, "a deleted alias stays in the room's list");
        }
    }

    /// Returns the aliases this server has for a room.
    ///
    /// # Errors
    /// `M_FORBIDDEN` for who is not in the room, unless everybody may read it.
    pub async fn aliases(
        &self,
        session: &Session,
        room_id: &RoomId,
    ) -> Result<Vec<OwnedRoomAliasId>> {
        let stranger = || Error::from(no_member());
        let room = self.rooms.find(room_id).await?.ok_or_else(stranger)?;
        let membership = self.rooms.membership(room.nid, session.user).await?;
        if membership != Some(Membership::Join) && !self.is_world_readable(&room).await? {
            return Err(stranger());
        }
        Ok(table::aliases_of(&self.context.db, room.nid).await?)
    }

    fn require_ours(&self, alias: &RoomAliasId) -> Result<()> {
        let problem = if alias.server_name() != self.context.server_name {
            "this alias belongs to another server"
        } else if alias.alias().is_empty() {
            "an alias has a name before the colon"
        } else if alias.as_str().len() > ALIAS_BYTES_MAX {
            "an alias has at most 255 bytes"
        } else if alias.as_str().chars().any(char::is_control) {
            "an alias contains no control characters"
        } else {
            return Ok(());
        };
        Err(MatrixError::invalid_param(problem).into())
    }
}

/// Removes an alias from a canonical alias content. Returns false when it does not stand there.
fn strike(content: &mut Value, alias: &str) -> bool {
    let Some(content) = content.as_object_mut() else { return false };
    let mut struck = false;
    if content.get("alias").and_then(Value::as_str) == Some(alias) {
        content.remove("alias");
        struck = true;
    }
    if let Some(Value::Array(others)) = content.get_mut("alt_aliases") {
        let before = others.len();
        others.retain(|other| other.as_str() != Some(alias));
        struck |= others.len() < before;
    }
    struck
}

fn no_alias(alias: &RoomAliasId) -> Error {
    MatrixError::not_found(format!("the room alias {alias} does not exist")).into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_deleted_alias_leaves_the_lists_it_stands_in() {
        let after = |mut content: Value| strike(&mut content, "#a:b").then_some(content);
        for (content, expected) in [
            (json!({ "alias": "#a:b" }), Some(json!({}))),
            (
                json!({ "alias": "#c:b", "alt_aliases": ["#a:b", "#d:b"] }),
                Some(json!({ "alias": "#c:b", "alt_aliases": ["#d:b"] })),
            ),
            (
                json!({ "alias": "#a:b", "alt_aliases": ["#a:b"], "x": 1 }),
                Some(json!({ "alt_aliases": [], "x": 1 })),
            ),
            (json!({ "alias": "#c:b", "alt_aliases": ["#d:b"] }), None),
            (json!({ "alias": ["#a:b"], "alt_aliases": "#a:b" }), None),
            (json!({}), None),
            (json!("#a:b"), None),
        ] {
            assert_eq!(after(content.clone()), expected, "{content}");
        }
    }
}
