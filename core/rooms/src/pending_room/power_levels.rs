//! The power levels of a state, kept as long as the event that says them is the same.

use std::sync::Arc;

use colonnade_model::{nid::StateNid, ruma::events::StateEventType};
use colonnade_rules::{auth::StateKey, power::PowerLevels};

use super::{PendingRoom, push_candidates::Levels};
use crate::{Result, store::Store};

/// Reads the power levels of a state; `None` when the room's are malformed or there is no state.
pub(crate) async fn levels(
    pending: &mut PendingRoom,
    store: &Store,
    state: Option<StateNid>,
) -> Result<Option<Arc<PowerLevels>>> {
    let key = |kind: &str| -> StateKey { (StateEventType::from(kind), String::new()) };
    let (create, power) = (key("m.room.create"), key("m.room.power_levels"));
    let found = pending.look_up(store, state, &[create.clone(), power.clone()]).await?;
    let Some(create) = found.get(&create) else { return Ok(None) };
    let power = found.get(&power);
    let nid = power.map(|event| event.nid);
    if let Some((known, levels)) = &pending.tip.levels.0
        && *known == nid
    {
        return Ok(Some(Arc::clone(levels)));
    }
    let rules = &pending.room.rules.authorization;
    let power = power.map(|event| &*event.event);
    let Ok(levels) = PowerLevels::new(&create.event, power, rules) else { return Ok(None) };
    let levels = Arc::new(levels);
    pending.tip.levels = Levels(Some((nid, Arc::clone(&levels))));
    Ok(Some(levels))
}
