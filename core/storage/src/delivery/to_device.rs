//! The inbox of each device. A message stays until the device has presented a sync token past it, so
//! a repeated token gets the same messages again and nothing is lost with an answer.
//!
//! What waits is bounded per device, and per device and sender. A counter per inbox says how much there
//! is; it is set anew whenever the device acknowledges, so it cannot drift for long.

use std::collections::{BTreeMap, HashMap};

use colonnade_model::{
    nid::{DeviceNid, UserNid},
    stream::{Position, Stream, Touch},
};

use crate::{
    Database, Tx,
    database::{int_list, sql},
    error::Result,
    federation::{inbound_messages, outbox},
};

/// Rows per INSERT: five parameters each, far below what an engine takes.
const INSERT_ROWS: usize = 100;
/// Rows per DELETE, so that a huge inbox does not hold the writer for long.
const DELETE_ROWS: i64 = 1_000;
/// Users asked for in one statement.
const LIST_MAX: usize = 1_000;

/// A device that can be sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Whose device it is.
    pub user: UserNid,
    /// The device's name among the user's devices.
    pub device_id: String,
    /// The device.
    pub device: DeviceNid,
}

/// What a transaction id is remembered by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Txn {
    /// The sending device.
    pub device: DeviceNid,
    /// The type of the messages: the same id with another type is another request.
    pub event_type: String,
    /// The id the client chose.
    pub txn_id: String,
    /// Now, in milliseconds since the Unix epoch.
    pub ts: i64,
    /// Ids older than this may be forgotten.
    pub forget_before_ts: i64,
}

/// What a message of another server is remembered by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbound {
    /// The server.
    pub origin: String,
    /// The id it chose.
    pub message_id: String,
    /// Now, in milliseconds since the Unix epoch.
    pub ts: i64,
}

/// A message for one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// For whom.
    pub device: DeviceNid,
    /// The whole event as JSON.
    pub json: String,
    /// The sender's own device: it has the whole inbox, not a stranger's share of it.
    pub is_own: bool,
}

/// How much may wait in an inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboxLimits {
    /// In all.
    pub all: Waits,
    /// From one other user.
    pub of_sender: Waits,
}

impl InboxLimits {
    /// As much as comes.
    pub const NONE: Self = {
        let all = Waits { items: i64::MAX, bytes: i64::MAX };
        Self { all, of_sender: all }
    };
}

/// Messages and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waits {
    /// How many.
    pub items: i64,
    /// Their bytes.
    pub bytes: i64,
}

impl Waits {
    fn add(&mut self, bytes: i64) {
        self.items += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn admits(self, waiting: Self, bytes: i64) -> bool {
        waiting.items < self.items && waiting.bytes.saturating_add(bytes) <= self.bytes
    }
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The messages wait, but for this many whose inboxes are full.
    Now {
        /// How many do not.
        full: usize,
    },
    /// It was sent before, and nothing is now.
    Before,
}

/// A message waiting in an inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its place in the stream.
    pub pos: Position,
    /// The whole event as JSON.
    pub json: String,
}

/// Returns every device of `users`.
///
/// # Errors
/// When the database fails.
pub async fn devices_of(db: &Database, users: &[UserNid]) -> Result<Vec<Recipient>> {
    const FIND: &str = "SELECT user_nid, device_id, device_nid FROM devices \
         WHERE user_nid IN {INTS 1} ORDER BY user_nid, device_nid";
    let mut found = Vec::new();
    for chunk in users.chunks(LIST_MAX) {
        let list = int_list(chunk.iter().map(|user| user.0));
        let rows: Vec<(i64, String, i64)> =
            read_list!(db, FIND, |sql, c| sql::query_as(sql).bind(list).fetch_all(c))?;
        found.extend(rows.into_iter().map(|(user, device_id, device)| Recipient {
            user: UserNid(user),
            device_id,
            device: DeviceNid(device),
        }));
    }
    Ok(found)
}

/// Puts messages into inboxes, and those for other servers into the outbox, once per transaction id. Takes
/// positions: call it last. A message whose
/// inbox is full is left out, as if the device did not exist: it must not keep the others from theirs.
///
/// # Errors
/// When the database fails.
pub async fn send(
    tx: &mut Tx,
    txn: Txn,
    sender: UserNid,
    messages: Vec<Message>,
    outgoing: Vec<outbox::DeviceMessage>,
    limits: InboxLimits,
) -> Result<Sent> {
    const FORGET: &str = "DELETE FROM to_device_txns WHERE device_nid = $1 AND ts < $2";
    const REMEMBER: &str = "INSERT INTO to_device_txns (device_nid, event_type, txn_id, ts) \
         VALUES ($1, $2, $3, $4) ON CONFLICT (device_nid, event_type, txn_id) DO NOTHING";
    execute!(tx, sql::query(FORGET).bind(txn.device.0).bind(txn.forget_before_ts))?;
    let new = execute!(
        tx,
        sql::query(REMEMBER).bind(txn.device.0).bind(txn.event_type).bind(txn.txn_id).bind(txn.ts)
    )?;
    if new == 0 {
        return Ok(Sent::Before);
    }
    let sent = put(tx, sender, messages, limits).await?;
    outbox::put(tx, outgoing, txn.ts).await?;
    Ok(sent)
}

/// Puts messages of another server into inboxes, once per id. Takes positions: call it last.
///
/// # Errors
/// When the database fails.
pub async fn receive(
    tx: &mut Tx,
    inbound: Inbound,
    sender: UserNid,
    messages: Vec<Message>,
    limits: InboxLimits,
) -> Result<Sent> {
    let Inbound { origin, message_id, ts } = inbound;
    if !inbound_messages::note(tx, origin, message_id, ts).await? {
        return Ok(Sent::Before);
    }
    put(tx, sender, messages, limits).await
}

async fn put(
    tx: &mut Tx,
    sender: UserNid,
    messages: Vec<Message>,
    limits: InboxLimits,
) -> Result<Sent> {
    let wanted = messages.len();
    let messages = with_room(tx, sender, messages, limits).await?;
    let full = wanted - messages.len();
    deliver(tx, sender, messages).await?;
    Ok(Sent::Now { full })
}

/// Returns the messages whose inboxes have room for them.
async fn with_room(
    tx: &mut Tx,
    sender: UserNid,
    messages: Vec<Message>,
    limits: InboxLimits,
) -> Result<Vec<Message>> {
    const ALL: &str = "SELECT device_nid, messages, bytes FROM to_device_inboxes \
         WHERE device_nid IN {INTS 1}";
    const OF_SENDER: &str = "SELECT device_nid, count(*), CAST(SUM(bytes) AS BIGINT) \
         FROM to_device WHERE device_nid IN {INTS 1} AND sender_nid = $2 GROUP BY device_nid";
    let mut admitted = Vec::with_capacity(messages.len());
    let mut messages = messages.into_iter().peekable();
    while messages.peek().is_some() {
        let some: Vec<Message> = messages.by_ref().take(LIST_MAX).collect();
        let list = int_list(some.iter().map(|message| message.device.0));
        let all: Vec<(i64, i64, i64)> =
            run_list!(tx, ALL, |sql, c| sql::query_as(sql).bind(list.clone()).fetch_all(c))?;
        let of_sender: Vec<(i64, i64, i64)> =
            run_list!(tx, OF_SENDER, |sql, c| sql::query_as(sql)
                .bind(list)
                .bind(sender.0)
                .fetch_all(c))?;
        let (mut all, mut of_sender) = (waits(all), waits(of_sender));
        admitted.extend(some.into_iter().filter(|message| {
            let bytes = bytes_of(message);
            let all = all.entry(message.device.0).or_default();
            let of_sender = of_sender.entry(message.device.0).or_default();
            let has_room = limits.all.admits(*all, bytes)
                && (message.is_own || limits.of_sender.admits(*of_sender, bytes));
            if has_room {
                all.add(bytes);
                of_sender.add(bytes);
            }
            has_room
        }));
    }
    Ok(admitted)
}

fn waits(rows: Vec<(i64, i64, i64)>) -> HashMap<i64, Waits> {
    rows.into_iter().map(|(device, items, bytes)| (device, Waits { items, bytes })).collect()
}

fn bytes_of(message: &Message) -> i64 {
    i64::try_from(message.json.len()).unwrap_or(i64::MAX)
}

/// Puts messages into inboxes and wakes their devices.
async fn deliver(tx: &mut Tx, sender: UserNid, mut messages: Vec<Message>) -> Result<()> {
    if messages.is_empty() {
        return Ok(());
    }
    let mut pos = tx.seal(Stream::ToDevice, messages.len()).await?;
    for message in &messages {
        tx.touch(Stream::ToDevice, Touch::Device(message.device), pos);
        pos += 1;
    }
    pos -= i64::try_from(messages.len()).unwrap_or(i64::MAX);
    while !messages.is_empty() {
        let rest = messages.split_off(messages.len().min(INSERT_ROWS));
        let rows = messages.len();
        count(tx, &messages).await?;
        insert(tx, pos, sender, messages).await?;
        pos += i64::try_from(rows).unwrap_or(i64::MAX);
        messages = rest;
    }
    Ok(())
}

/// Adds messages to the counters of their inboxes.
async fn count(tx: &mut Tx, messages: &[Message]) -> Result<()> {
    const ADD: &str = " ON CONFLICT (device_nid) DO UPDATE SET \
         messages = to_device_inboxes.messages + excluded.messages, \
         bytes = to_device_inboxes.bytes + excluded.bytes";
    let mut added: BTreeMap<i64, Waits> = BTreeMap::new();
    for message in messages {
        added.entry(message.device.0).or_default().add(bytes_of(message));
    }
    let mut sql =
        String::from("INSERT INTO to_device_inboxes (device_nid, messages, bytes) VALUES ");
    for n in 0..added.len() {
        let comma = if n == 0 { "" } else { ", " };
        sql.push_str(&format!("{comma}(${}, ${}, ${})", 3 * n + 1, 3 * n + 2, 3 * n + 3));
    }
    sql.push_str(ADD);
    execute!(tx, {
        let mut query = sql::query(sqlx::AssertSqlSafe(sql));
        for (device, waits) in added {
            query = query.bind(device).bind(waits.items).bind(waits.bytes);
        }
        query
    })?;
    Ok(())
}

async fn insert(
    tx: &mut Tx,
    first: Position,
    sender: UserNid,
    messages: Vec<Message>,
) -> Result<()> {
    let mut sql =
        String::from("INSERT INTO to_device (pos, device_nid, sender_nid, bytes, message) VALUES ");
    for n in 0..messages.len() {
        let comma = if n == 0 { "" } else { ", " };
        let params: Vec<String> = (1..=5).map(|place| format!("${}", 5 * n + place)).collect();
        sql.push_str(&format!("{comma}({})", params.join(", ")));
    }
    let rows = (first..).zip(messages);
    execute!(tx, {
        let mut query = sql::query(sqlx::AssertSqlSafe(sql));
        for (pos, message) in rows {
            let bytes = bytes_of(&message);
            query = query.bind(pos).bind(message.device.0).bind(sender.0);
            query = query.bind(bytes).bind(message.json);
        }
        query
    })?;
    Ok(())
}

/// Takes a position without a message: wakes `device` because its key counts changed.
///
/// # Errors
/// When the database fails.
pub async fn wake(tx: &mut Tx, devices: &[DeviceNid]) -> Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    let first = tx.seal(Stream::ToDevice, devices.len()).await?;
    for (pos, device) in (first..).zip(devices) {
        tx.touch(Stream::ToDevice, Touch::Device(*device), pos);
        tx.touch(Stream::ToDevice, Touch::Stale(*device), pos);
    }
    Ok(())
}

/// Takes a position without a message: every process forgets what it keeps in memory of `device`,
/// and nobody is woken.
///
/// # Errors
/// When the database fails.
pub async fn forget(tx: &mut Tx, device: DeviceNid) -> Result<()> {
    let pos = tx.seal(Stream::ToDevice, 1).await?;
    tx.touch(Stream::ToDevice, Touch::Stale(device), pos);
    Ok(())
}

/// Returns at most `limit` messages after `after` up to `upto`, in order.
///
/// # Errors
/// When the database fails.
pub async fn messages(
    db: &Database,
    device: DeviceNid,
    after: Position,
    upto: Position,
    limit: i64,
) -> Result<Vec<Waiting>> {
    const FIND: &str = "SELECT pos, message FROM to_device \
         WHERE device_nid = $1 AND pos > $2 AND pos <= $3 ORDER BY pos LIMIT $4";
    let rows: Vec<(i64, String)> = read!(db, |c| sql::query_as(FIND)
        .bind(device.0)
        .bind(after)
        .bind(upto)
        .bind(limit)
        .fetch_all(c))?;
    Ok(rows.into_iter().map(|(pos, json)| Waiting { pos, json }).collect())
}

/// Tells whether an inbox holds anything up to `upto`.
///
/// # Errors
/// When the database fails.
pub async fn holds_any(db: &Database, device: DeviceNid, upto: Position) -> Result<bool> {
    const ANY: &str = "SELECT CAST(count(*) AS BIGINT) FROM (SELECT 1 FROM to_device \
         WHERE device_nid = $1 AND pos <= $2 LIMIT 1) AS found";
    let found: i64 = read!(db, |c| sql::query_scalar(ANY).bind(device.0).bind(upto).fetch_one(c))?;
    Ok(found > 0)
}

/// Deletes some of the messages up to `upto`, oldest first; false when none is left.
///
/// # Errors
/// When the database fails.
pub async fn delete_some(tx: &mut Tx, device: DeviceNid, upto: Position) -> Result<bool> {
    const DELETE: &str = "DELETE FROM to_device WHERE pos IN (SELECT pos FROM to_device \
         WHERE device_nid = $1 AND pos <= $2 ORDER BY pos LIMIT $3)";
    const RECOUNT: &str = "UPDATE to_device_inboxes SET \
         messages = (SELECT count(*) FROM to_device WHERE device_nid = $1), \
         bytes = (SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) FROM to_device \
             WHERE device_nid = $1) \
         WHERE device_nid = $1";
    let rows = execute!(tx, sql::query(DELETE).bind(device.0).bind(upto).bind(DELETE_ROWS))?;
    let more = rows == DELETE_ROWS.unsigned_abs();
    if !more {
        execute!(tx, sql::query(RECOUNT).bind(device.0))?;
    }
    Ok(more)
}
