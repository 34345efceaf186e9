//! Membership: who is in which room now, and how that came about. Rows are written by
//! [`crate::rooms::persist`], except whether a user has forgotten a room.

use colonnade_model::{
    nid::{EventNid, RoomNid, UserNid},
    ruma::events::room::member::MembershipState,
    stream::Position,
};

use crate::{
    Database, Tx,
    database::{int_list, sql},
    error::{Result, StorageError},
};

/// A membership, as it is stored. No row at all is a sixth: never had to do with the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Membership {
    /// In the room.
    Join = 1,
    /// Invited.
    Invite = 2,
    /// Asked to be let in.
    Knock = 3,
    /// Left, kicked, or turned an invite down.
    Leave = 4,
    /// Banned.
    Ban = 5,
}

impl Membership {
    /// Every membership.
    pub const ALL: [Self; 5] = [Self::Join, Self::Invite, Self::Knock, Self::Leave, Self::Ban];

    /// Reads a stored number.
    pub(crate) fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|membership| *membership as i64 == number)
    }

    /// Returns the stored form of the specification's; `None` of one it does not have.
    pub fn of(state: &MembershipState) -> Option<Self> {
        Some(match state {
            MembershipState::Join => Self::Join,
            MembershipState::Invite => Self::Invite,
            MembershipState::Knock => Self::Knock,
            MembershipState::Leave => Self::Leave,
            MembershipState::Ban => Self::Ban,
            _ => return None,
        })
    }

    /// Returns the specification's form.
    pub fn state(self) -> MembershipState {
        match self {
            Self::Join => MembershipState::Join,
            Self::Invite => MembershipState::Invite,
            Self::Knock => MembershipState::Knock,
            Self::Leave => MembershipState::Leave,
            Self::Ban => MembershipState::Ban,
        }
    }
}

/// A user's current membership of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The room.
    pub room: RoomNid,
    /// The user.
    pub user: UserNid,
    /// The membership.
    pub membership: Membership,
    /// The member event.
    pub event: EventNid,
    /// Who sent that; another one than the user for an invite, a kick, a ban.
    pub sender: UserNid,
    /// When the user came to have this membership; a new name does not change it.
    pub pos: Position,
    /// The user does not want to hear of the room again.
    pub forgotten: bool,
    /// The name in the room.
    pub display_name: Option<String>,
    /// The picture in the room.
    pub avatar_url: Option<String>,
}

/// A change of a user's membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberChange {
    /// The user.
    pub user: UserNid,
    /// When.
    pub pos: Position,
    /// The room.
    pub room: RoomNid,
    /// What it became.
    pub membership: Membership,
    /// By which event.
    pub event: EventNid,
}

#[derive(sqlx::FromRow)]
struct Row {
    room_nid: i64,
    user_nid: i64,
    membership: i64,
    event_nid: i64,
    sender_nid: i64,
    pos: i64,
    forgotten: i64,
    display_name: Option<String>,
    avatar_url: Option<String>,
}

impl Row {
    fn member(self) -> Result<Member> {
        Ok(Member {
            room: RoomNid(self.room_nid),
            user: UserNid(self.user_nid),
            membership: membership("room_members", self.event_nid, self.membership)?,
            event: EventNid(self.event_nid),
            sender: UserNid(self.sender_nid),
            pos: self.pos,
            forgotten: self.forgotten != 0,
            display_name: self.display_name,
            avatar_url: self.avatar_url,
        })
    }
}

#[derive(sqlx::FromRow)]
struct LogRow {
    user_nid: i64,
    pos: i64,
    room_nid: i64,
    membership: i64,
    event_nid: i64,
}

impl LogRow {
    fn change(self) -> Result<MemberChange> {
        Ok(MemberChange {
            user: UserNid(self.user_nid),
            pos: self.pos,
            room: RoomNid(self.room_nid),
            membership: membership("member_log", self.event_nid, self.membership)?,
            event: EventNid(self.event_nid),
        })
    }
}

fn membership(table: &'static str, key: i64, number: i64) -> Result<Membership> {
    let unknown = || StorageError::corrupt(table, "membership", key, format!("unknown {number}"));
    Membership::from_number(number).ok_or_else(unknown)
}

/// Expands to a read of members with this condition.
macro_rules! members {
    ($condition:literal) => {
        concat!(
            "SELECT room_nid, user_nid, membership, event_nid, sender_nid, pos, forgotten, ",
            "display_name, avatar_url FROM room_members WHERE ",
            $condition
        )
    };
}

/// Expands to a read of membership changes with this condition.
macro_rules! changes {
    ($condition:literal) => {
        concat!(
            "SELECT user_nid, pos, room_nid, membership, event_nid FROM member_log WHERE ",
            $condition
        )
    };
}

fn numbers(kinds: &[Membership]) -> String {
    int_list(kinds.iter().map(|kind| *kind as i64))
}

/// Returns a user's membership of a room; `None` if the user never had to do with it.
///
/// # Errors
/// When the database fails.
pub async fn get(db: &Database, room: RoomNid, user: UserNid) -> Result<Option<Member>> {
    const GET: &str = members!("room_nid = $1 AND user_nid = $2");
    let row: Option<Row> =
        read!(db, |c| sql::query_as(GET).bind(room.0).bind(user.0).fetch_optional(c))?;
    row.map(Row::member).transpose()
}

/// Counts the rooms that a user is in or knocks at.
///
/// # Errors
/// When the database fails.
pub async fn present(db: &Database, user: UserNid) -> Result<i64> {
    const PRESENT: &str =
        "SELECT count(*) FROM room_members WHERE user_nid = $1 AND membership IN (1, 3)";
    read!(db, |c| sql::query_scalar(PRESENT).bind(user.0).fetch_one(c))
}

/// Counts the invitations that wait for a user: all, and those by one sender.
///
/// # Errors
/// When the database fails.
pub async fn invitations(db: &Database, user: UserNid, sender: UserNid) -> Result<(i64, i64)> {
    const WAITING: &str = "SELECT count(*), \
         CAST(COALESCE(SUM(CASE WHEN sender_nid = $2 THEN 1 ELSE 0 END), 0) AS BIGINT) \
         FROM room_members WHERE user_nid = $1 AND membership = 2";
    read!(db, |c| sql::query_as(WAITING).bind(user.0).bind(sender.0).fetch_one(c))
}

/// Returns the memberships of some users in a room, in no particular order.
///
/// # Errors
/// When the database fails.
pub async fn many(db: &Database, room: RoomNid, users: &[UserNid]) -> Result<Vec<Member>> {
    const MANY: &str = members!("room_nid = $1 AND user_nid IN {INTS 2}");
    let list = int_list(users.iter().map(|user| user.0));
    let rows: Vec<Row> =
        read_list!(db, MANY, |sql, c| sql::query_as(sql).bind(room.0).bind(list).fetch_all(c))?;
    rows.into_iter().map(Row::member).collect()
}

/// Returns a user's memberships of some rooms, in no particular order.
///
/// # Errors
/// When the database fails.
pub async fn of_user_in(db: &Database, user: UserNid, rooms: &[RoomNid]) -> Result<Vec<Member>> {
    const OF_USER: &str = members!("user_nid = $1 AND room_nid IN {INTS 2}");
    let list = int_list(rooms.iter().map(|room| room.0));
    let rows: Vec<Row> =
        read_list!(db, OF_USER, |sql, c| sql::query_as(sql).bind(user.0).bind(list).fetch_all(c))?;
    rows.into_iter().map(Row::member).collect()
}

/// Returns a user's rooms with one of these memberships, forgotten ones too.
///
/// # Errors
/// When the database fails.
pub async fn rooms_of(db: &Database, user: UserNid, kinds: &[Membership]) -> Result<Vec<Member>> {
    const ROOMS: &str = members!("user_nid = $1 AND membership IN {INTS 2}");
    let list = numbers(kinds);
    let rows: Vec<Row> =
        read_list!(db, ROOMS, |sql, c| sql::query_as(sql).bind(user.0).bind(list).fetch_all(c))?;
    rows.into_iter().map(Row::member).collect()
}

/// Returns a room's members with one of these memberships, in the order in which they became so.
///
/// # Errors
/// When the database fails.
pub async fn members_of(db: &Database, room: RoomNid, kinds: &[Membership]) -> Result<Vec<Member>> {
    const MEMBERS: &str =
        members!("room_nid = $1 AND membership IN {INTS 2} ORDER BY pos, user_nid");
    let list = numbers(kinds);
    let rows: Vec<Row> =
        read_list!(db, MEMBERS, |sql, c| sql::query_as(sql).bind(room.0).bind(list).fetch_all(c))?;
    rows.into_iter().map(Row::member).collect()
}

/// Returns the members of a room who are joined and come after one, by local id: as many of the next
/// `rows_max` as have about `bytes_max` bytes of names and pictures together, and one at least.
///
/// # Errors
/// When the database fails.
pub async fn joined_page(
    db: &Database,
    room: RoomNid,
    after: UserNid,
    (rows_max, bytes_max): (i64, i64),
) -> Result<Vec<Member>> {
    const SIZES: &str = "SELECT user_nid, CAST(coalesce(octet_length(display_name), 0) \
         + coalesce(octet_length(avatar_url), 0) AS BIGINT) FROM room_members \
         WHERE room_nid = $1 AND user_nid > $2 AND membership = $3 ORDER BY user_nid LIMIT $4";
    const PAGE: &str = members!(
        "room_nid = $1 AND user_nid > $2 AND user_nid <= $3 AND membership = $4 ORDER BY user_nid"
    );
    let joined = Membership::Join as i64;
    let sizes: Vec<(i64, i64)> = read!(db, |c| sql::query_as(SIZES)
        .bind(room.0)
        .bind(after.0)
        .bind(joined)
        .bind(rows_max)
        .fetch_all(c))?;
    let (mut bytes, mut last) = (0, None);
    for (user, own) in sizes {
        (bytes, last) = (bytes + own, Some(user));
        if bytes >= bytes_max {
            break;
        }
    }
    let Some(last) = last else { return Ok(Vec::new()) };
    let rows: Vec<Row> = read!(db, |c| sql::query_as(PAGE)
        .bind(room.0)
        .bind(after.0)
        .bind(last)
        .bind(joined)
        .fetch_all(c))?;
    rows.into_iter().map(Row::member).collect()
}

/// Returns the first `limit` of a room's members with one of these memberships, in the order in
/// which they became so.
///
/// # Errors
/// When the database fails.
pub async fn first_members(
    db: &Database,
    room: RoomNid,
    kinds: &[Membership],
    limit: i64,
) -> Result<Vec<Member>> {
    const FIRST: &str =
        members!("room_nid = $1 AND membership IN {INTS 2} ORDER BY pos, user_nid LIMIT $3");
    let list = numbers(kinds);
    let rows: Vec<Row> = read_list!(db, FIRST, |sql, c| sql::query_as(sql)
        .bind(room.0)
        .bind(list)
        .bind(limit)
        .fetch_all(c))?;
    rows.into_iter().map(Row::member).collect()
}

/// Returns up to `limit` of a room's members with a name that ends so, `:example.org` say, whatever their
/// membership.
///
/// # Errors
/// When the database fails.
pub async fn named(
    db: &Database,
    room: RoomNid,
    ending: &str,
    limit: i64,
) -> Result<Vec<(UserNid, String)>> {
    const NAMED: &str = "SELECT u.user_nid, u.user_id FROM room_members m \
         JOIN users u ON u.user_nid = m.user_nid WHERE m.room_nid = $1 \
         AND substr(u.user_id, length(u.user_id) - length($2) + 1) = $2 LIMIT $3";
    let ending = ending.to_owned();
    let rows: Vec<(i64, String)> =
        read!(db, |c| sql::query_as(NAMED).bind(room.0).bind(ending).bind(limit).fetch_all(c))?;
    Ok(rows.into_iter().map(|(user, user_id)| (UserNid(user), user_id)).collect())
}

/// Counts a room's members with a membership.
///
/// # Errors
/// When the database fails.
pub async fn count(db: &Database, room: RoomNid, kind: Membership) -> Result<i64> {
    const COUNT: &str = "SELECT count(*) FROM room_members WHERE room_nid = $1 AND membership = $2";
    read!(db, |c| sql::query_scalar(COUNT).bind(room.0).bind(kind as i64).fetch_one(c))
}

/// Returns every user who is joined to a room in which this user is joined, the user too if so.
///
/// # Errors
/// When the database fails.
pub async fn sharing(db: &Database, user: UserNid) -> Result<Vec<UserNid>> {
    const SHARING: &str = "SELECT DISTINCT b.user_nid FROM room_members a \
         JOIN room_members b ON b.room_nid = a.room_nid AND b.membership = 1 \
         WHERE a.user_nid = $1 AND a.membership = 1";
    let rows: Vec<i64> = read!(db, |c| sql::query_scalar(SHARING).bind(user.0).fetch_all(c))?;
    Ok(rows.into_iter().map(UserNid).collect())
}

/// Returns the rooms in which two users are both joined.
///
/// # Errors
/// When the database fails.
pub async fn shared_rooms(db: &Database, one: UserNid, other: UserNid) -> Result<Vec<RoomNid>> {
    const SHARED: &str = "SELECT a.room_nid FROM room_members a \
         JOIN room_members b ON b.room_nid = a.room_nid \
         WHERE a.user_nid = $1 AND a.membership = 1 AND b.user_nid = $2 AND b.membership = 1";
    let rows: Vec<i64> =
        read!(db, |c| sql::query_scalar(SHARED).bind(one.0).bind(other.0).fetch_all(c))?;
    Ok(rows.into_iter().map(RoomNid).collect())
}

/// Returns how memberships of a room changed above `after` and up to `upto`, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn changes_of_room(
    db: &Database,
    room: RoomNid,
    after: Position,
    upto: Position,
) -> Result<Vec<MemberChange>> {
    const CHANGES: &str = changes!("room_nid = $1 AND pos > $2 AND pos <= $3 ORDER BY pos");
    let rows: Vec<LogRow> =
        read!(db, |c| sql::query_as(CHANGES).bind(room.0).bind(after).bind(upto).fetch_all(c))?;
    rows.into_iter().map(LogRow::change).collect()
}

/// Returns the latest change of a user's membership of a room up to a position: what it was then.
///
/// # Errors
/// When the database fails.
pub async fn at(
    db: &Database,
    room: RoomNid,
    user: UserNid,
    upto: Position,
) -> Result<Option<MemberChange>> {
    const AT: &str =
        changes!("user_nid = $1 AND room_nid = $2 AND pos <= $3 ORDER BY pos DESC LIMIT 1");
    let row: Option<LogRow> =
        read!(db, |c| sql::query_as(AT).bind(user.0).bind(room.0).bind(upto).fetch_optional(c))?;
    row.map(LogRow::change).transpose()
}

/// The last stay of a user in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stay {
    /// The room.
    pub room: RoomNid,
    /// When the user last was said to be in: at a join, or at a new name since then.
    pub joined: Position,
    /// When the stay ended, by whatever took the user out; `None` while it lasts. What became of the
    /// user afterwards, an invite turned down or a ban, is no part of it.
    pub ended: Option<Position>,
}

/// Returns the last stay of a user in each of these rooms, as of a position; none for a room the user
/// never was in.
///
/// # Errors
/// When the database fails.
pub async fn stays(
    db: &Database,
    user: UserNid,
    rooms: &[RoomNid],
    upto: Position,
) -> Result<Vec<Stay>> {
    const STAYS: &str = "SELECT j.room_nid, j.joined, (SELECT MIN(l.pos) FROM member_log l \
            WHERE l.user_nid = $1 AND l.room_nid = j.room_nid AND l.pos > j.joined AND l.pos <= $3) \
         FROM (SELECT room_nid, MAX(pos) AS joined FROM member_log \
            WHERE user_nid = $1 AND room_nid IN {INTS 2} AND membership = 1 AND pos <= $3 \
            GROUP BY room_nid) AS j";
    let list = int_list(rooms.iter().map(|room| room.0));
    let rows: Vec<(i64, i64, Option<i64>)> = read_list!(db, STAYS, |sql, c| sql::query_as(sql)
        .bind(user.0)
        .bind(list)
        .bind(upto)
        .fetch_all(c))?;
    let stay = |(room, joined, ended)| Stay { room: RoomNid(room), joined, ended };
    Ok(rows.into_iter().map(stay).collect())
}

/// Returns when a user's membership of a room became another one, and which: the newest `limit`
/// times, oldest first. A new name is none.
///
/// # Errors
/// When the database fails.
pub async fn turns(
    db: &Database,
    room: RoomNid,
    user: UserNid,
    limit: i64,
) -> Result<Vec<(Position, Membership)>> {
    const TURNS: &str = "SELECT pos, membership FROM (\
            SELECT pos, membership, LAG(membership) OVER (ORDER BY pos) AS former \
            FROM member_log WHERE user_nid = $1 AND room_nid = $2) AS turns \
         WHERE former IS NULL OR former <> membership ORDER BY pos DESC LIMIT $3";
    let rows: Vec<(i64, i64)> =
        read!(db, |c| sql::query_as(TURNS).bind(user.0).bind(room.0).bind(limit).fetch_all(c))?;
    let turn = |(pos, number): (i64, i64)| Ok((pos, membership("member_log", pos, number)?));
    rows.into_iter().rev().map(turn).collect()
}

/// Notes that a user who is not in the room does not want to hear of it again; false if the user
/// is in the room, invited or knocking. A new membership undoes it.
///
/// # Errors
/// When the database fails.
pub async fn forget(tx: &mut Tx, room: RoomNid, user: UserNid) -> Result<bool> {
    const FORGET: &str = "UPDATE room_members SET forgotten = 1 \
         WHERE room_nid = $1 AND user_nid = $2 AND membership IN (4, 5)";
    Ok(execute!(tx, sql::query(FORGET).bind(room.0).bind(user.0))? > 0)
}
