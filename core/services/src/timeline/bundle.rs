//! Bundled aggregations: what hangs on an event, told together with it.
//!
//! Source: Matrix v1.19, client-server, "Aggregations of child events".

use std::collections::{BTreeMap, HashMap};

use colonnade_model::nid::EventNid;
use colonnade_rules::event::ClientFormat;
use colonnade_storage::{aggregations, events::EventFlags};
use serde_json::{
    json,
    value::{RawValue, to_raw_value},
};

use super::{Bundles, Shown, Timeline, Viewer};
use crate::{Error, Result, rooms::Room};

/// The bundle of one event while it is put together: relation type → aggregation.
type Bundle = BTreeMap<&'static str, Box<RawValue>>;

impl Timeline {
    /// Returns the `m.relations` of those events of a page that have any.
    pub(super) async fn bundles(
        &self,
        viewer: &Viewer,
        room: &Room,
        page: &[Shown],
        format: ClientFormat,
        bundles: Bundles,
    ) -> Result<HashMap<EventNid, Box<RawValue>>> {
        let parents: Vec<EventNid> = page.iter().map(|shown| shown.row.nid).collect();
        let mut found: HashMap<EventNid, Bundle> = HashMap::new();
        let intact = page.iter().filter(|shown| !shown.row.flags.has(EventFlags::REDACTED));
        let intact: Vec<EventNid> = intact.map(|shown| shown.row.nid).collect();
        self.add_edits(viewer, room, &intact, format, &mut found).await?;
        if bundles == Bundles::All {
            self.add_references(&parents, &mut found).await?;
            self.add_threads(viewer, room, page, format, &mut found).await?;
        }
        found.into_iter().map(|(nid, bundle)| Ok((nid, raw(&bundle)?))).collect()
    }

    async fn add_edits(
        &self,
        viewer: &Viewer,
        room: &Room,
        parents: &[EventNid],
        format: ClientFormat,
        found: &mut HashMap<EventNid, Bundle>,
    ) -> Result<()> {
        let edits = aggregations::edits(&self.context.db, parents).await?;
        let children: Vec<EventNid> = edits.iter().map(|(_, child)| *child).collect();
        let rendered = self.render_children(viewer, room, &children, format, Bundles::None).await?;
        for (parent, child) in edits {
            if let Some(json) = rendered.get(&child) {
                found.entry(parent).or_default().insert("m.replace", json.clone());
            }
        }
        Ok(())
    }

    async fn add_references(
        &self,
        parents: &[EventNid],
        found: &mut HashMap<EventNid, Bundle>,
    ) -> Result<()> {
        let mut chunks: HashMap<EventNid, Vec<serde_json::Value>> = HashMap::new();
        for (parent, id) in aggregations::references(&self.context.db, parents).await? {
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
        viewer: &Viewer,
        room: &Room,
        page: &[Shown],
        format: ClientFormat,
        found: &mut HashMap<EventNid, Bundle>,
    ) -> Result<()> {
        let roots: Vec<EventNid> = page.iter().map(|shown| shown.row.nid).collect();
        let threads = aggregations::threads(&self.context.db, &roots, viewer.user).await?;
        let latest: Vec<EventNid> = threads.iter().map(|thread| thread.latest).collect();
        let rendered = self.render_children(viewer, room, &latest, format, Bundles::Edits).await?;
        for thread in threads {
            let Some(latest) = rendered.get(&thread.latest) else { continue };
            let own_root = page
                .iter()
                .any(|shown| shown.row.nid == thread.root && shown.row.sender == viewer.user);
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
        viewer: &Viewer,
        room: &Room,
        children: &[EventNid],
        format: ClientFormat,
        bundles: Bundles,
    ) -> Result<HashMap<EventNid, Box<RawValue>>> {
        if children.is_empty() {
            return Ok(HashMap::new());
        }
        let page = self.read(children).await?;
        let page = self.visible(viewer, room, page).await?;
        let rendered = self.render_boxed(viewer, room, &page, format, bundles).await?;
        Ok(page.iter().map(|shown| shown.row.nid).zip(rendered).collect())
    }
}

fn raw(value: &impl serde::Serialize) -> Result<Box<RawValue>> {
    to_raw_value(value).map_err(|error| Error::internal("render a bundle", error))
}
