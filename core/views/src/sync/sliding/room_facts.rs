//! Reads what rooms are filtered by, as far as it is not in memory.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use colonnade_model::{
    nid::{RoomNid, UserNid},
    stream::Position,
};
use colonnade_rooms::Result;
use colonnade_storage::{
    rooms::{members::Member, summaries, summaries::Summary},
    users::account_data,
};
use serde_json::Value;

use super::facts::UserFacts;
use crate::sync::service::Sync;

impl Sync {
    /// Returns what a user says of rooms.
    pub(super) async fn user_facts(&self, user: UserNid) -> Result<Arc<UserFacts>> {
        let at = self.heads.user(user).account_data;
        if let Some(known) = self.facts.users.get(&user).filter(|known| known.at >= at) {
            return Ok(known);
        }
        let db = &self.context.db;
        let mut facts = UserFacts { at, direct: HashSet::new(), tags: HashMap::new() };
        for (_, content) in account_data::of_type(db, user, "m.direct").await? {
            let content: Value = serde_json::from_str(content.get()).unwrap_or_default();
            let lists = content.as_object().into_iter().flatten().filter_map(|(_, v)| v.as_array());
            let names = lists.flatten().filter_map(Value::as_str).map(str::to_owned);
            facts.direct.extend(names);
        }
        for (room, content) in account_data::of_type(db, user, "m.tag").await? {
            let content: Value = serde_json::from_str(content.get()).unwrap_or_default();
            let tags = content["tags"].as_object().into_iter().flatten();
            if let Some(room) = room {
                facts.tags.insert(room, tags.map(|(tag, _)| tag.clone()).collect());
            }
        }
        let facts = Arc::new(facts);
        self.facts.users.insert(user, Arc::clone(&facts));
        Ok(facts)
    }

    /// Returns what rooms say of themselves that stand where it is said; nothing of those that are not known
    /// here.
    pub(super) async fn room_facts(
        &self,
        rooms: impl Iterator<Item = (RoomNid, Position)>,
    ) -> Result<HashMap<RoomNid, Arc<Summary>>> {
        let (mut found, mut unknown) = (HashMap::new(), HashMap::new());
        for (room, at) in rooms {
            match self.facts.rooms.get(&room) {
                Some((known, summary)) if known >= at => drop(found.insert(room, summary)),
                _ => drop(unknown.insert(room, at)),
            }
        }
        if unknown.is_empty() {
            return Ok(found);
        }
        let nids: Vec<RoomNid> = unknown.keys().copied().collect();
        for (room, summary) in summaries::many(&self.context.db, &nids).await? {
            let summary = Arc::new(summary);
            let at = unknown.get(&room).copied().unwrap_or(0);
            self.facts.rooms.insert(room, (at, Arc::clone(&summary)));
            found.insert(room, summary);
        }
        Ok(found)
    }

    /// Returns what an invitation, or an answer to a knock, shows of a room that is not known here.
    pub(super) async fn shown_facts(&self, member: &Member) -> Result<Arc<Summary>> {
        if let Some((at, known)) = self.facts.rooms.get(&member.room)
            && at == member.pos
        {
            return Ok(known);
        }
        let mut bytes_max = self.context.settings.limits.invite_state_bytes_max as usize;
        let mut summary = Summary::default();
        for shown in self.stripped(member, &mut bytes_max).await? {
            let shown: Value = serde_json::from_str(shown.get()).unwrap_or_default();
            let text = |key: &str| shown["content"][key].as_str().map(str::to_owned);
            match shown["type"].as_str() {
                Some("m.room.create") => summary.room_type = text("type"),
                Some("m.room.encryption") => summary.encryption = text("algorithm"),
                Some("m.room.name") => summary.name = text("name"),
                Some("m.room.avatar") => summary.avatar_url = text("url"),
                _ => {}
            }
        }
        let summary = Arc::new(summary);
        self.facts.rooms.insert(member.room, (member.pos, Arc::clone(&summary)));
        Ok(summary)
    }
}
