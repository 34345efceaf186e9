//! What must hold of other rooms' and users' rows when a batch is committed. Whoever made the batch has
//! looked, but before the transaction: others, who write to other rooms, looked at the same time. So it is
//! asked again here, where each sees what those before it wrote.

use std::{collections::HashMap, sync::Arc};

use colonnade_model::nid::UserNid;

use super::batch::{Batch, Demand};
use crate::{
    Tx,
    database::{int_list, sql, text_list},
    error::{Result, StorageError},
};

/// Makes sure that aliases point to the rooms that call them theirs. Who wants to delete one waits for
/// the commit from here on. To be called before the seal: nobody who waits for a row may hold the lane.
///
/// # Errors
/// [`StorageError::Dangling`] when one does not; when the database fails.
pub(crate) async fn hold_aliases(tx: &mut Tx, batch: &Batch) -> Result<()> {
    const HOLD: &str = "UPDATE room_aliases SET room_nid = room_nid \
         WHERE room_nid = $1 AND alias IN {TEXTS 2} RETURNING alias";
    for demand in &batch.demands {
        let Demand::Aliases(aliases) = demand else { continue };
        let list = text_list(aliases);
        let held: Vec<String> = run_list!(tx, HOLD, |sql, c| sql::query_scalar(sql)
            .bind(batch.room.0)
            .bind(list)
            .fetch_all(c))?;
        if let Some(missing) = aliases.iter().find(|alias| !held.contains(alias)) {
            return Err(StorageError::Dangling(missing.clone()));
        }
    }
    Ok(())
}

/// Makes sure that nobody is in more rooms, and waits for more invitations, than may be. To be called
/// when everything is written, behind the seal: there the batches of all processes take turns.
///
/// # Errors
/// [`StorageError::Full`] when somebody is or does; when the database fails.
pub(crate) async fn require(tx: &mut Tx, batches: &[Arc<Batch>]) -> Result<()> {
    let demands = || batches.iter().flat_map(|batch| &batch.demands);
    let in_rooms = demands().filter_map(|demand| match demand {
        Demand::Rooms { user, .. } => Some(*user),
        _ => None,
    });
    let invited = demands().filter_map(|demand| match demand {
        Demand::Invitations { user, .. } => Some(*user),
        _ => None,
    });
    let rooms = rooms_of(tx, in_rooms.collect()).await?;
    let invitations = invitations_of(tx, invited.collect()).await?;
    for demand in demands() {
        match demand {
            Demand::Rooms { user, quota } => {
                quota.require(rooms.get(user).copied().unwrap_or(0), 0)?;
            }
            Demand::Invitations { user, all, sender, of_sender } => {
                let waiting = invitations.get(user).map(Vec::as_slice).unwrap_or_default();
                all.require(waiting.iter().map(|(_, count)| count).sum(), 0)?;
                let by_sender = waiting.iter().filter(|(by, _)| by == sender);
                of_sender.require(by_sender.map(|(_, count)| count).sum(), 0)?;
            }
            Demand::Aliases(_) => {}
        }
    }
    Ok(())
}

/// Counts the rooms each user is in or knocks at.
async fn rooms_of(tx: &mut Tx, users: Vec<UserNid>) -> Result<HashMap<UserNid, i64>> {
    const ROOMS: &str = "SELECT user_nid, count(*) FROM room_members \
         WHERE user_nid IN {INTS 1} AND membership IN (1, 3) GROUP BY user_nid";
    if users.is_empty() {
        return Ok(HashMap::new());
    }
    let list = int_list(users.iter().map(|user| user.0));
    let rows: Vec<(i64, i64)> =
        run_list!(tx, ROOMS, |sql, c| sql::query_as(sql).bind(list).fetch_all(c))?;
    Ok(rows.into_iter().map(|(user, count)| (UserNid(user), count)).collect())
}

/// Counts the invitations that wait for each user, by sender.
async fn invitations_of(
    tx: &mut Tx,
    users: Vec<UserNid>,
) -> Result<HashMap<UserNid, Vec<(UserNid, i64)>>> {
    const WAITING: &str = "SELECT user_nid, sender_nid, count(*) FROM room_members \
         WHERE user_nid IN {INTS 1} AND membership = 2 GROUP BY user_nid, sender_nid";
    let mut found: HashMap<UserNid, Vec<(UserNid, i64)>> = HashMap::new();
    if users.is_empty() {
        return Ok(found);
    }
    let list = int_list(users.iter().map(|user| user.0));
    let rows: Vec<(i64, i64, i64)> =
        run_list!(tx, WAITING, |sql, c| sql::query_as(sql).bind(list).fetch_all(c))?;
    for (user, sender, count) in rows {
        found.entry(UserNid(user)).or_default().push((UserNid(sender), count));
    }
    Ok(found)
}
