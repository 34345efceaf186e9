//! Bundled aggregations: what hangs on an event, told together with it, as far as the viewer sees it.
//!
//! Source: Matrix v1.19, client-server, "Aggregations of child events".

use std::collections::{BTreeMap, HashMap};

use colonnade_model::{nid::EventNid, ruma::events::TimelineEventType};
use colonnade_rooms::{Error, Result, Room};
use colonnade_rules::event::relation::RelatesTo;
use colonnade_rules::event::{ClientFormat, Event};
use colonnade_storage::rooms::{
    aggregations::{self, Lens},
    events::EventFlags,
};
use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};

use super::{Bundles, Shown, Timeline, Viewer};

/// How many edits of an event are looked at, by turns, until one is valid: nearly always the first is.
/// Whoever sends more invalid edits of his own event on top of a valid one shows it unedited.
const EDITS_TAKEN: [i64; 3] = [1, 10, 100];

/// The bundle of one event while it is put together: relation type → aggregation.
type Bundle = BTreeMap<&'static str, Box<RawValue>>;

/// For whom a page is bundled.
#[derive(Clone, Copy)]
struct Reader<'a> {
    viewer: &'a Viewer,
    room: &'a Room,
    lens: &'a Lens,
    format: ClientFormat,
}

impl Timeline {
    /// Returns the `m.relations` of events that others relate to.
    pub(super) async fn bundles(
        &self,
        viewer: &Viewer,
        room: &Room,
        parents: &[&Shown],
        format: ClientFormat,
        bundles: Bundles,
    ) -> Result<HashMap<EventNid, Box<RawValue>>> {
        let mut found: HashMap<EventNid, Bundle> = HashMap::new();
        if parents.is_empty() {
            return Ok(HashMap::new());
        }
        let lens = self.lens(viewer, room).await?;
        let reader = Reader { viewer, room, lens: &lens, format };
        self.add_edits(reader, parents, &mut found).await?;
        if bundles == Bundles::All {
            self.add_references(reader, parents, &mut found).await?;
            self.add_threads(reader, parents, &mut found).await?;
        }
        found.into_iter().map(|(nid, bundle)| Ok((nid, raw(&bundle)?))).collect()
    }

    async fn add_edits(
        &self,
        reader: Reader<'_>,
        parents: &[&Shown],
        found: &mut HashMap<EventNid, Bundle>,
    ) -> Result<()> {
        let editable = parents.iter().filter(|shown| {
            !shown.row.flags.has(EventFlags::REDACTED) && !is_edit(&shown.row.event)
        });
        let mut open: Vec<EventNid> = editable.map(|shown| shown.row.nid).collect();
        let mut chosen: HashMap<EventNid, Shown> = HashMap::new();
        let mut skip = 0;
        for take in EDITS_TAKEN {
            if open.is_empty() {
                break;
            }
            let db = &self.context.db;
            let candidates = aggregations::edits(db, &open, reader.lens, (skip, take)).await?;
            skip += take;
            let children: Vec<EventNid> = candidates.iter().map(|(_, child)| *child).collect();
            let page = self.visible(reader.viewer, self.read(&children).await?).await?;
            let valid = page.into_iter().filter(|shown| says_what_it_is_now(&shown.row.event));
            let mut valid: HashMap<EventNid, Shown> =
                valid.map(|shown| (shown.row.nid, shown)).collect();
            let mut asked: HashMap<EventNid, i64> = HashMap::new();
            for (parent, child) in candidates {
                *asked.entry(parent).or_default() += 1;
                if let Some(edit) = valid.remove(&child) {
                    chosen.entry(parent).or_insert(edit);
                }
            }
            open.retain(|parent| asked.get(parent) == Some(&take) && !chosen.contains_key(parent));
        }
        let (parents, edits): (Vec<EventNid>, Vec<Shown>) = chosen.into_iter().unzip();
        let rendered = self.render_children(reader, &edits, Bundles::None).await?;
        for (parent, json) in parents.into_iter().zip(rendered) {
            found.entry(parent).or_default().insert("m.replace", json);
        }
        Ok(())
    }

    async fn add_references(
        &self,
        reader: Reader<'_>,
        parents: &[&Shown],
        found: &mut HashMap<EventNid, Bundle>,
    ) -> Result<()> {
        let parents: Vec<EventNid> = parents.iter().map(|shown| shown.row.nid).collect();
        let mut chunks: HashMap<EventNid, Vec<Value>> = HashMap::new();
        let references = aggregations::references(&self.context.db, &parents, reader.lens).await?;
        for (parent, id) in references {
            chunks.entry(parent).or_default().push(json!({ "event_id": id }));
        }
        for (parent, chunk) in chunks {
            let bundle = raw(&json!({ "chunk": chunk }))?;
            found.entry(parent).or_default().insert("m.reference", bundle);
        }
        Ok(())
    }

    async fn add_threads(
        &self,
        reader: Reader<'_>,
        parents: &[&Shown],
        found: &mut HashMap<EventNid, Bundle>,
    ) -> Result<()> {
        let (db, user) = (&self.context.db, reader.viewer.user);
        let roots: Vec<EventNid> = parents.iter().map(|shown| shown.row.nid).collect();
        let threads = aggregations::threads(db, &roots, user, reader.lens).await?;
        let latest: Vec<EventNid> = threads.iter().map(|thread| thread.latest).collect();
        let page = self.visible(reader.viewer, self.read(&latest).await?).await?;
        let rendered = self.render_children(reader, &page, Bundles::Edits).await?;
        let rendered: HashMap<EventNid, Box<RawValue>> =
            page.iter().map(|shown| shown.row.nid).zip(rendered).collect();
        for thread in threads {
            let Some(latest) = rendered.get(&thread.latest) else { continue };
            let own_root = parents
                .iter()
                .any(|shown| shown.row.nid == thread.root && shown.row.sender == user);
            let bundle = raw(&json!({
                "latest_event": latest,
                "count": thread.count,
                "current_user_participated": thread.participated || own_root,
            }))?;
            found.entry(thread.root).or_default().insert("m.thread", bundle);
        }
        Ok(())
    }

    /// Renders the events of a bundle.
    async fn render_children(
        &self,
        reader: Reader<'_>,
        page: &[Shown],
        bundles: Bundles,
    ) -> Result<Vec<Box<RawValue>>> {
        if page.is_empty() {
            return Ok(Vec::new());
        }
        self.render_boxed(reader.viewer, reader.room, page, reader.format, bundles).await
    }
}

/// Tells whether an event is an edit; what edits it is none then.
fn is_edit(event: &Event) -> bool {
    RelatesTo::of(event).is_some_and(|relates_to| relates_to.rel_type == "m.replace")
}

/// Tells whether an edit has the new content it must have. An encrypted one has it inside.
///
/// Source: Matrix v1.19, client-server, "Validity of replacement events".
fn says_what_it_is_now(event: &Event) -> bool {
    #[derive(serde::Deserialize)]
    struct Content {
        #[serde(rename = "m.new_content")]
        new_content: Value,
    }
    *event.event_type() == TimelineEventType::RoomEncrypted
        || event.content_as::<Content>().is_ok_and(|content| content.new_content.is_object())
}

fn raw(value: &impl serde::Serialize) -> Result<Box<RawValue>> {
    to_raw_value(value).map_err(|error| Error::internal("render a bundle", error))
}

#[cfg(test)]
mod tests {
    use colonnade_testkit_rooms::event;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_edit_replaces_what_it_relates_to() {
        let related = |kind: &str| {
            event(
                "m.room.message",
                None,
                json!({ "m.relates_to": { "rel_type": kind, "event_id": "$a" } }),
            )
        };
        assert!(is_edit(&related("m.replace")));
        assert!(!is_edit(&related("m.thread")));
        assert!(!is_edit(&event("m.room.message", None, json!({}))));
    }

    #[test]
    fn an_edit_that_can_be_read_says_what_is_new() {
        let valid = |kind: &str, content| says_what_it_is_now(&event(kind, None, content));
        assert!(valid("m.room.message", json!({ "m.new_content": { "body": "x" } })));
        assert!(!valid("m.room.message", json!({ "body": "x" })));
        assert!(!valid("m.room.message", json!({ "m.new_content": "x" })));
        assert!(valid("m.room.encrypted", json!({ "ciphertext": "x" })), "it has it inside");
    }
}
