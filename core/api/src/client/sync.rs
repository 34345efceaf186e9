//! `/sync`.

use std::sync::Arc;

use colonnade_model::{
    MatrixError,
    ruma::{
        api::client::{
            filter::EventFormat,
            sync::sync_events::v3::{Filter, Request},
        },
        presence::PresenceState,
    },
};
use colonnade_rooms::Result;
use colonnade_services::Services;
use colonnade_users::accounts::Session;
use colonnade_views::sync::{SyncAnswer, SyncRequest};
use futures_util::stream::try_unfold;
use http::StatusCode;

use crate::{
    call::Call,
    needs::Needed,
    pieces,
    reply::{self, Reply},
    table::Table,
};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table.add_rendered::<Request, _>(sync);
}

async fn sync(call: Call<Request, Session>) -> Result<Reply> {
    // Boxed, for a client that waits shall not carry what was needed to understand it.
    let needed = call.needed.clone();
    let (services, who, request) = Box::pin(understand(call)).await?;
    let answer = services.sync.sync(&who, request).await?;
    Ok(sent(answer, &needed))
}

/// Answers with what was written, a piece at a time if it has several.
pub(super) fn sent(answer: SyncAnswer, needed: &Needed) -> Reply {
    let SyncAnswer { first, rest, reserved } = answer;
    needed.keep(reserved);
    let Some(rest) = rest else { return reply::json(StatusCode::OK, first) };
    let rest = try_unfold(rest, async |mut rest| Ok(rest.next().await?.map(|piece| (piece, rest))));
    pieces::sent(first, rest)
}

/// Says who asks for what.
async fn understand(call: Call<Request, Session>) -> Result<(Arc<Services>, Session, SyncRequest)> {
    let Call { services, request, who, .. } = call;
    let filter = match request.filter {
        None => Arc::default(),
        Some(Filter::FilterDefinition(filter)) => {
            if ![EventFormat::Client, EventFormat::Federation].contains(&filter.event_format) {
                let why = "filter: event_format is one of client, federation";
                return Err(MatrixError::invalid_param(why).into());
            }
            Arc::new(filter)
        }
        Some(Filter::FilterId(id)) => services.sync.filter_by_id(&who, &id).await?,
    };
    let known = [PresenceState::Online, PresenceState::Unavailable, PresenceState::Offline];
    if !known.contains(&request.set_presence) {
        let why = "set_presence is one of online, unavailable, offline";
        return Err(MatrixError::invalid_param(why).into());
    }
    let timeout_ms = request.timeout.map_or(0, |timeout| timeout.as_millis());
    let request = SyncRequest {
        since: request.since,
        timeout_ms: u64::try_from(timeout_ms).unwrap_or(u64::MAX),
        full_state: request.full_state,
        filter,
        set_presence: request.set_presence,
        use_state_after: request.use_state_after,
    };
    Ok((services, who, request))
}
