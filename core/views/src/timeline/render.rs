//! Renders events for one client: everything in `unsigned` that depends on who asks.

use std::{collections::HashMap, pin::Pin};

use colonnade_model::{nid::EventNid, ruma::OwnedEventId};
use colonnade_rooms::{Result, Room, RoomEvent};
use colonnade_rules::event::{ClientFormat, Unsigned};
use colonnade_storage::rooms::{
    aggregations, client_txns,
    events::{self, EventFlags},
    members::Membership,
};
use serde_json::value::RawValue;
use std::sync::Arc;

use super::{Shown, Timeline, Viewer};
use crate::recent::RecentRoom;

/// Rendered events to come.
pub(super) type Rendering<'a> =
    Pin<Box<dyn Future<Output = Result<Vec<Box<RawValue>>>> + Send + 'a>>;

/// Bytes of events on a page: it ends with the event that reaches them. A hundred messages have a tenth of it;
/// sixteen of the largest events fill it.
pub const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// Events of a page rendered at once. With what hangs on them, an edit and the last answer in a thread,
/// the largest have five times their bytes: 8 MB are made before it is seen that they are too many.
pub(super) const RENDERED_AT_ONCE: usize = 25;

/// How much of what hangs on an event goes along with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bundles {
    /// Edits, references and threads.
    All,
    /// Edits only: for the latest event of a thread.
    Edits,
    /// Nothing.
    None,
}

/// A redaction: its id, and what clients are shown of it.
type Redacted = (OwnedEventId, Box<RawValue>);

/// What a page's events say in `unsigned`, beside what is in their rows.
#[derive(Default)]
struct Extras {
    transactions: HashMap<EventNid, String>,
    because: HashMap<EventNid, Redacted>,
    replaced: HashMap<EventNid, Arc<RoomEvent>>,
    relations: HashMap<EventNid, Box<RawValue>>,
}

/// What those are shown of rooms who are invited by member events, or knock with them, by the event.
pub(crate) type Invitations = HashMap<EventNid, Vec<Box<RawValue>>>;

impl Timeline {
    /// Renders events, in order, with everything `unsigned` says to this viewer.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn render(
        &self,
        viewer: &Viewer,
        room: &Room,
        page: &[Shown],
        format: ClientFormat,
        bundles: Bundles,
    ) -> Result<Vec<Box<RawValue>>> {
        self.render_recent(viewer, room, page, (format, bundles), None).await
    }

    /// [`Timeline::render`] where some of the page may be in memory.
    async fn render_recent(
        &self,
        viewer: &Viewer,
        room: &Room,
        page: &[Shown],
        (format, bundles): (ClientFormat, Bundles),
        recent: Option<&RecentRoom>,
    ) -> Result<Vec<Box<RawValue>>> {
        let mut extras = self.extras(viewer, page, format, recent).await?;
        if bundles != Bundles::None {
            let parents = self.parents_among(page, recent).await?;
            extras.relations = self.bundles(viewer, room, &parents, format, bundles).await?;
        }
        Ok(self.written(page, format, &extras, &Invitations::new()))
    }

    /// Returns those of a page that others are edits of, refer to, or answer in a thread.
    async fn parents_among<'p>(
        &self,
        page: &'p [Shown],
        recent: Option<&RecentRoom>,
    ) -> Result<Vec<&'p Shown>> {
        let all: Vec<EventNid> = page.iter().map(|shown| shown.row.nid).collect();
        let parents = match recent.and_then(|recent| recent.parents_among(&all)) {
            Some(parents) => parents,
            None => aggregations::parents_among(&self.context.db, &all).await?,
        };
        Ok(page.iter().filter(|shown| parents.contains(&shown.row.nid)).collect())
    }

    /// Renders events of any rooms, in order, without what hangs on them; those by which the viewer is invited
    /// with what he is shown.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn render_across(
        &self,
        viewer: &Viewer,
        page: &[Shown],
        invitations: &Invitations,
    ) -> Result<Vec<Box<RawValue>>> {
        let format = ClientFormat::WithRoom;
        let extras = self.extras(viewer, page, format, None).await?;
        Ok(self.written(page, format, &extras, invitations))
    }

    /// Writes events as JSON.
    fn written(
        &self,
        page: &[Shown],
        format: ClientFormat,
        extras: &Extras,
        invitations: &Invitations,
    ) -> Vec<Box<RawValue>> {
        let now_ms = self.context.now_ms();
        let rendered = page.iter().map(|shown| {
            let nid = shown.row.nid;
            let replaced = extras.replaced.get(&nid).map(|replaced| &replaced.event);
            let unsigned = Unsigned {
                age: Some((now_ms - sent_ms(shown)).max(0)),
                transaction_id: extras.transactions.get(&nid).map(String::as_str),
                prev_content: replaced.map(|event| event.shown_content()),
                prev_sender: replaced.map(|event| event.sender()),
                replaces_state: replaced.map(|event| event.event_id()),
                membership: shown.membership.map(Membership::state),
                redacted_by: extras.because.get(&nid).map(|(redaction, _)| &**redaction),
                redacted_because: extras.because.get(&nid).map(|(_, json)| &**json),
                relations: extras.relations.get(&nid).map(|json| &**json),
                invite_room_state: invitations.get(&nid).map(Vec::as_slice),
            };
            shown.row.event.to_client(format, Some(&unsigned))
        });
        rendered.collect()
    }

    /// Renders the first events of a page with all that hangs on them, at least one, until they have so many
    /// bytes.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn render_within(
        &self,
        viewer: &Viewer,
        room: &Room,
        page: &[Shown],
        format: ClientFormat,
        bytes_max: usize,
    ) -> Result<Vec<Box<RawValue>>> {
        self.render_recent_within(viewer, room, page, (format, bytes_max), None).await
    }

    /// [`Timeline::render_within`] where some of the page may be in memory.
    pub(crate) async fn render_recent_within(
        &self,
        viewer: &Viewer,
        room: &Room,
        page: &[Shown],
        (format, bytes_max): (ClientFormat, usize),
        recent: Option<&RecentRoom>,
    ) -> Result<Vec<Box<RawValue>>> {
        let (mut rendered, mut bytes) = (Vec::new(), 0);
        let how = (format, Bundles::All);
        for some in page.chunks(RENDERED_AT_ONCE) {
            for json in self.render_recent(viewer, room, some, how, recent).await? {
                bytes += json.get().len();
                rendered.push(json);
                if bytes >= bytes_max {
                    return Ok(rendered);
                }
            }
        }
        Ok(rendered)
    }

    /// Returns how many of these events, the first ones, have so many bytes together as they are stored; at
    /// least one.
    pub(crate) async fn fitting(
        &self,
        nids: impl IntoIterator<Item = EventNid>,
        bytes_max: usize,
    ) -> Result<usize> {
        let nids: Vec<EventNid> = nids.into_iter().collect();
        let sizes = events::sizes(&self.context.db, &nids).await?;
        let mut bytes = 0;
        for (at, nid) in nids.iter().enumerate() {
            bytes += usize::try_from(sizes.get(nid).copied().unwrap_or(0)).unwrap_or(0);
            if bytes >= bytes_max {
                return Ok(at + 1);
            }
        }
        Ok(nids.len())
    }

    /// [`Timeline::render`] as a boxed future: a bundle renders the events in it.
    pub(super) fn render_boxed<'a>(
        &'a self,
        viewer: &'a Viewer,
        room: &'a Room,
        page: &'a [Shown],
        format: ClientFormat,
        bundles: Bundles,
    ) -> Rendering<'a> {
        Box::pin(self.render(viewer, room, page, format, bundles))
    }

    /// Reads what `unsigned` says of events, of whichever rooms; not what hangs on them.
    async fn extras(
        &self,
        viewer: &Viewer,
        page: &[Shown],
        format: ClientFormat,
        recent: Option<&RecentRoom>,
    ) -> Result<Extras> {
        let mut extras = Extras::default();
        let own = page.iter().filter(|shown| shown.row.sender == viewer.user);
        let own: Vec<EventNid> = own.map(|shown| shown.row.nid).collect();
        if !own.is_empty() {
            let sent = match recent.and_then(|recent| recent.sent_by(viewer.device, &own)) {
                Some(sent) => sent,
                None => client_txns::of_events(&self.context.db, viewer.device, &own).await?,
            };
            extras.transactions = sent.into_iter().collect();
        }
        extras.because = self.redactions(viewer, page, format).await?;
        extras.replaced = self.rooms.replaced_by(page.iter().map(|shown| &*shown.row)).await?;
        Ok(extras)
    }

    /// Renders the events that redacted others of a page, by the event redacted. One the viewer may not see,
    /// since it came after they left say, is left out: its reason is not for them.
    async fn redactions(
        &self,
        viewer: &Viewer,
        page: &[Shown],
        format: ClientFormat,
    ) -> Result<HashMap<EventNid, Redacted>> {
        let redacted = page.iter().filter(|shown| shown.row.flags.has(EventFlags::REDACTED));
        let redacted: HashMap<&str, EventNid> =
            redacted.map(|shown| (shown.row.event.event_id().as_str(), shown.row.nid)).collect();
        if redacted.is_empty() {
            return Ok(HashMap::new());
        }
        let ids = page.iter().map(|shown| shown.row.event.event_id());
        let ids: Vec<_> = ids.filter(|id| redacted.contains_key(id.as_str())).collect();
        let found = aggregations::redactions_of(&self.context.db, &ids).await?;
        let targets = found.into_iter();
        let targets: HashMap<EventNid, EventNid> = targets
            .filter_map(|(target, redaction)| Some((redaction, *redacted.get(target.as_str())?)))
            .collect();
        let nids: Vec<EventNid> = targets.keys().copied().collect();
        let redactions = self.visible(viewer, self.read(&nids).await?).await?;
        let rendered = redactions.into_iter().filter_map(|redaction| {
            let age = Some((self.context.now_ms() - sent_ms(&redaction)).max(0));
            let unsigned = Unsigned { age, ..Unsigned::default() };
            let target = targets.get(&redaction.row.nid)?;
            let id = redaction.row.event.event_id().to_owned();
            Some((*target, (id, redaction.row.event.to_client(format, Some(&unsigned)))))
        });
        Ok(rendered.collect())
    }
}

/// When an event was sent, as its sender's server says, in milliseconds since 1970.
fn sent_ms(shown: &Shown) -> i64 {
    i64::from(shown.row.event.origin_server_ts().0)
}
