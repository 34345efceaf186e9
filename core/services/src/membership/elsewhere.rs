//! Memberships in rooms of other servers: coming in over a server that is there, knocking, leaving, and
//! inviting users of other servers.

use std::sync::Arc;

use colonnade_federation::messaging::{EntryKind, MessagingError};
use colonnade_model::{
    MatrixError,
    ruma::{
        CanonicalJsonObject, CanonicalJsonValue, OwnedRoomId, OwnedServerName, RoomAliasId, RoomId,
        RoomOrAliasId, RoomVersionId, ServerName, UserId,
    },
};
use colonnade_rooms::{
    Error, Result, Room,
    incoming::{Incoming, StateBefore},
    proposal::member,
    remote::Outcome,
};
use colonnade_rules::event::{Draft, Event, Reference};
use colonnade_storage::rooms::servers;
use futures_util::future::{BoxFuture, FutureExt as _};
use serde_json::Value;

use super::service::MembershipService;

/// Servers that are asked for one user, one after the other.
const SERVERS_MAX: usize = 10;
/// Bytes of stripped state that go with an invitation.
const SHOWN_BYTES_MAX: usize = 128 * 1024;

/// A room that a user names, and who may know it.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) room_id: OwnedRoomId,
    /// The room, if it is known here.
    pub(super) room: Option<Arc<Room>>,
    /// Other servers that may be in it, the likeliest first.
    pub(super) servers: Vec<OwnedServerName>,
    /// How many of them, the first, are named by who looks for the room.
    named: usize,
}

impl MembershipService {
    /// Finds a room by its id or alias, of this server or of another one.
    ///
    /// # Errors
    /// `M_NOT_FOUND` for an alias that leads nowhere.
    pub(super) async fn locate(
        &self,
        name: &RoomOrAliasId,
        via: &[OwnedServerName],
    ) -> Result<Located> {
        let mut servers = via.to_vec();
        let room_id = match <&RoomAliasId>::try_from(name) {
            Ok(alias) if alias.server_name() != self.context.server_name => {
                let found = self.messaging.resolve_alias(alias).await.map_err(told)?;
                servers.extend(found.servers);
                servers.push(alias.server_name().to_owned());
                found.room_id
            }
            _ => match <&RoomId>::try_from(name) {
                Ok(room_id) => room_id.to_owned(),
                Err(_) => self.rooms.resolve(name).await?.room_id.clone(),
            },
        };
        let named = servers.clone();
        let room = self.rooms.find(&room_id).await?;
        if let Some(room) = &room {
            let mut known = servers::of_rooms(&self.context.db, &[room.nid]).await?;
            known.sort_by_key(|server| std::cmp::Reverse(server.joined));
            servers.extend(known.into_iter().map(|server| server.server));
        }
        // What a room is called says where it began, not who is in it: it counts where nothing else is said.
        if via.is_empty() {
            servers.extend(room_id.server_name().map(ToOwned::to_owned));
        }
        let mut distinct: Vec<OwnedServerName> = Vec::new();
        for server in servers {
            if server != self.context.server_name && !distinct.contains(&server) {
                distinct.push(server);
            }
        }
        distinct.truncate(SERVERS_MAX);
        let named = distinct.iter().take_while(|server| named.contains(server)).count();
        Ok(Located { room_id, room, servers: distinct, named })
    }

    /// Joins a room over one of the servers that may be in it.
    ///
    /// # Errors
    /// What the room says, `M_NOT_FOUND` when no server knows it, `M_UNSUPPORTED_ROOM_VERSION`.
    pub(super) async fn join_over(
        &self,
        located: &Located,
        user: &UserId,
        content: &CanonicalJsonObject,
    ) -> Result<Arc<Room>> {
        first_of(located, |server| self.join_at(server, &located.room_id, user, content).boxed())
            .await
    }

    async fn join_at(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        user: &UserId,
        content: &CanonicalJsonObject,
    ) -> Result<Arc<Room>, MessagingError> {
        let (version, join) = self.made(server, room_id, user, EntryKind::Join, content).await?;
        self.messaging.send_join(server, &version, join).await
    }

    /// Knocks at a room over one of the servers that may be in it.
    ///
    /// # Errors
    /// As [`MembershipService::join_over`].
    pub(super) async fn knock_over(
        &self,
        located: &Located,
        user: &UserId,
        content: &CanonicalJsonObject,
    ) -> Result<Arc<Room>> {
        first_of(located, |server| self.knock_at(server, &located.room_id, user, content).boxed())
            .await
    }

    async fn knock_at(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        user: &UserId,
        content: &CanonicalJsonObject,
    ) -> Result<Arc<Room>, MessagingError> {
        let (version, knock) = self.made(server, room_id, user, EntryKind::Knock, content).await?;
        let shown = self.messaging.send_knock(server, &knock).await?;
        let room = self.rooms.elsewhere(room_id, &version).await?;
        self.take_outside(&room, knock, &shown).await?;
        Ok(room)
    }

    /// Leaves a room that nobody else of this server is in, or turns an invitation to it down. Where no server
    /// helps, the user has left all the same as far as this one is concerned.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn leave_over(
        &self,
        room: &Arc<Room>,
        user: &UserId,
        content: CanonicalJsonObject,
    ) -> Result<()> {
        let name: &RoomOrAliasId = (&*room.room_id).into();
        let mut located = self.locate(name, &[]).await?;
        if let Some(inviter) = self.inviting_server(room, user).await? {
            located.servers.insert(0, inviter);
        }
        let left = first_of(&located, |server| {
            self.leave_at(server, &located.room_id, user, &content).boxed()
        });
        let leave = match left.await {
            Ok(leave) => leave,
            Err(_) => {
                tracing::info!(room = %room.room_id, %user, "left without the servers of the room");
                self.leave_alone(room, user, content).await?
            }
        };
        self.take_outside(room, leave, &[]).await
    }

    async fn leave_at(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        user: &UserId,
        content: &CanonicalJsonObject,
    ) -> Result<Event, MessagingError> {
        let (_, leave) = self.made(server, room_id, user, EntryKind::Leave, content).await?;
        self.messaging.send_leave(server, &leave).await?;
        Ok(leave)
    }

    /// Has a server fill in the event by which a user becomes something in a room, and completes it; returns the
    /// room's version with it.
    async fn made(
        &self,
        server: &ServerName,
        room_id: &RoomId,
        user: &UserId,
        entry: EntryKind,
        content: &CanonicalJsonObject,
    ) -> Result<(RoomVersionId, Event), MessagingError> {
        let template = self.messaging.make(server, room_id, user, entry).await?;
        let version = template.version.clone();
        Ok((version, self.messaging.complete(with_content(template, content))?))
    }

    /// Invites a user of another server: his server signs the invitation before the room has it.
    ///
    /// # Errors
    /// `M_FORBIDDEN` when the room does not let it; what the other server says.
    pub(crate) async fn invite_elsewhere(
        &self,
        room: &Arc<Room>,
        sender: &UserId,
        target: &UserId,
        content: CanonicalJsonObject,
    ) -> Result<()> {
        let proposal = member(sender, target, content);
        let event = self.rooms.template(room, proposal).await?;
        let template =
            colonnade_federation::messaging::Template { version: room.version.clone(), event };
        let invite = self.messaging.complete(template).map_err(told)?;
        let invite = self.rooms.recommended(room, invite).await?;
        let shown = self.rooms.shown_to_invited(room, sender, SHOWN_BYTES_MAX).await?;
        let server = target.server_name();
        let signed = self.messaging.invite(server, room, &invite, &shown).await.map_err(told)?;
        match self.rooms.receive(room, signed).await? {
            (_, Outcome::Accepted) => Ok(()),
            _ => Err(MatrixError::forbidden("the room changed meanwhile; try again").into()),
        }
    }

    /// Takes a membership of a user in a room that nobody of this server is in.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn take_outside(
        &self,
        room: &Arc<Room>,
        event: Event,
        shown: &[Value],
    ) -> Result<()> {
        let shown = Value::Array(shown.iter().filter_map(stripped).collect());
        let before = StateBefore::OutOfBand(shown.to_string());
        self.rooms.receive(room, Incoming::with(event, before)).await?;
        Ok(())
    }

    async fn inviting_server(&self, room: &Room, user: &UserId) -> Result<Option<OwnedServerName>> {
        let nid = self.context.interned.user(user).await?;
        let Some(current) = self.rooms.member(room.nid, nid).await? else { return Ok(None) };
        let sender = self.context.interned.user_id(current.sender).await?;
        let server = sender.server_name();
        Ok((server != self.context.server_name).then(|| server.to_owned()))
    }

    /// Makes the event of a user who leaves although no server takes it.
    async fn leave_alone(
        &self,
        room: &Room,
        user: &UserId,
        content: CanonicalJsonObject,
    ) -> Result<Event> {
        let context = &self.context;
        let nid = context.interned.user(user).await?;
        let current = self.rooms.member(room.nid, nid).await?;
        let mut prevs: Vec<Reference> = Vec::new();
        if let Some(member) = current
            && let Some(event) = self.rooms.event(member.event).await?
        {
            let reference = event.event.reference(&room.rules);
            prevs.push(reference.map_err(|error| Error::internal("name an event", error))?);
        }
        let proposal = member(user, user, content);
        let draft = Draft {
            room_id: Some(room.room_id.clone()),
            sender: proposal.sender,
            event_type: proposal.event_type,
            state_key: proposal.state_key,
            content: proposal.content,
            auth_events: prevs.clone(),
            prev_events: prevs,
            depth: 1,
            origin_server_ts: colonnade_rooms::proposal::timestamp(context.now_ms()),
            redacts: None,
            opaque_id: Draft::opaque_id(&room.rules, &*context.random),
        };
        let signed = draft.sign(&context.server_name, &*context.signing_key.current(), &room.rules);
        Ok(signed.map_err(colonnade_rooms::proposal::draft_error)?)
    }
}

/// Asks the servers that may be in a room one after the other, until one helps or says the room's own word.
async fn first_of<'l, T>(
    located: &'l Located,
    ask: impl Fn(&'l ServerName) -> BoxFuture<'l, Result<T, MessagingError>> + Send,
) -> Result<T> {
    let mut last: Option<MessagingError> = None;
    for (number, server) in located.servers.iter().enumerate() {
        // Of those who were named one said that it cannot: others are not asked over the user's head.
        let is_answered = last.as_ref().is_some_and(MessagingError::is_inability);
        if located.named > 0 && number >= located.named && is_answered {
            break;
        }
        match ask(server).await {
            Ok(done) => return Ok(done),
            Err(error) => {
                tracing::info!(room = %located.room_id, %server, %error, "a server does not help");
                let is_last = !error.is_worth_another_server();
                last = Some(error);
                if is_last {
                    break;
                }
            }
        }
    }
    let nobody = || MatrixError::not_found("no server is known that is in this room").into();
    Err(last.map_or_else(nobody, told))
}

/// Puts what the user wants to say into an event that another server filled in. Who lets him in is that
/// server's word.
fn with_content(
    mut template: colonnade_federation::messaging::Template,
    content: &CanonicalJsonObject,
) -> colonnade_federation::messaging::Template {
    if let Some(CanonicalJsonValue::Object(filled)) = template.event.get_mut("content") {
        for (key, value) in content {
            if key != "membership" && key != "join_authorised_via_users_server" {
                filled.insert(key.clone(), value.clone());
            }
        }
    }
    template
}

/// Leaves of an event what those outside of a room are shown.
fn stripped(event: &Value) -> Option<Value> {
    let text = |key: &str| event.get(key).and_then(Value::as_str);
    Some(serde_json::json!({
        "type": text("type")?,
        "state_key": text("state_key")?,
        "sender": text("sender")?,
        "content": event.get("content").filter(|content| content.is_object())?,
    }))
}

/// Turns what another server says into what the client is told.
pub(crate) fn told(error: MessagingError) -> Error {
    use colonnade_federation::transport::TransportError;
    match error {
        MessagingError::Here(error) => error,
        MessagingError::Transport(TransportError::Status {
            status,
            errcode,
            message,
            room_version,
            ..
        }) if (400..500).contains(&status) && status != 401 => {
            let said = MatrixError::foreign(status, errcode.as_deref(), message);
            match room_version {
                Some(version) => said.with("room_version", version).into(),
                None => said.into(),
            }
        }
        // Of a server that is not spoken with nothing is known.
        MessagingError::Transport(TransportError::Refused(why)) => {
            MatrixError::not_found(why).into()
        }
        other => MatrixError::unknown(other.to_string()).with_status(502).into(),
    }
}
