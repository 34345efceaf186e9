//! What a user was notified of.

use colonnade_model::{MatrixError, ruma::api::client::push::get_notifications, stream::Position};
use colonnade_rooms::Result;
use colonnade_users::accounts::Session;
use colonnade_views::timeline::{NotificationsPage, NotificationsRequest, Viewer};
use serde_json::{Value, json};

use super::rooms_read::bounded;
use crate::{call::Call, table::Table};

/// Notifications in one answer if the client does not say.
const PAGE_DEFAULT: i64 = 20;
/// Notifications in one answer at most.
const PAGE_MAX: i64 = 100;

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table.add_json::<get_notifications::v3::Request, _>(notifications);
}

async fn notifications(call: Call<get_notifications::v3::Request, Session>) -> Result<Value> {
    let get_notifications::v3::Request { from, limit, only } = call.request;
    let bad = || MatrixError::invalid_param("from is no token of this endpoint");
    let position = |text: String| text.strip_prefix('n').and_then(|n| n.parse::<Position>().ok());
    let before = match from {
        Some(text) => Some(position(text).filter(|before| *before >= 0).ok_or_else(bad)?),
        None => None,
    };
    let limit = limit.map_or(PAGE_DEFAULT, bounded).clamp(1, PAGE_MAX);
    // Further filters may come: what is not known leaves nothing out.
    let only_highlights = only.as_deref() == Some("highlight");
    let request = NotificationsRequest { before, limit, only_highlights };
    let rules = call.services.push.rules_of(call.who.user).await?;
    let viewer = Viewer::from(&call.who);
    let page = call.services.timeline.notifications(&viewer, &rules, request).await?;
    let NotificationsPage { notifications, next } = page;
    let mut answer = json!({ "notifications": notifications });
    if let Some(next) = next {
        answer["next_token"] = format!("n{next}").into();
    }
    Ok(answer)
}
