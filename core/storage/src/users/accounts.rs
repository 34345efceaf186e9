//! Accounts of this server: passwords (as PHC strings), rights, whether they are still in use. Who
//! is logged in is in `sessions`, on what in `devices`.

use colonnade_model::nid::UserNid;

use crate::{
    Database, Tx,
    database::{int_list, sql},
    delivery::to_device,
    error::Result,
    users::devices,
};

/// An account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Whose it is.
    pub user: UserNid,
    /// The password's PHC string; `None` when nobody can log in by password.
    pub password: Option<String>,
    /// May administrate the server.
    pub admin: bool,
    /// Closed for good.
    pub deactivated: bool,
    /// Closed, with the wish that messages be hidden from whoever joins later.
    pub erased: bool,
    /// The kind of user an administrator's script asked for.
    pub user_type: Option<String>,
    /// Made without proof, and may do little.
    pub guest: bool,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_ts: i64,
}

/// Stores a new account; false when the user has one already, deactivated or not.
///
/// # Errors
/// When the database fails.
pub async fn create(tx: &mut Tx, account: Account) -> Result<bool> {
    const INSERT: &str = "INSERT INTO accounts \
         (user_nid, password, admin, deactivated, erased, user_type, created_ts, guest) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (user_nid) DO NOTHING";
    let inserted = execute!(
        tx,
        sql::query(INSERT)
            .bind(account.user.0)
            .bind(account.password)
            .bind(i64::from(account.admin))
            .bind(i64::from(account.deactivated))
            .bind(i64::from(account.erased))
            .bind(account.user_type)
            .bind(account.created_ts)
            .bind(i64::from(account.guest))
    )?;
    Ok(inserted == 1)
}

/// Returns the account of a user, `None` if it has none here.
///
/// # Errors
/// When the database fails.
pub async fn find(db: &Database, user: UserNid) -> Result<Option<Account>> {
    const FIND: &str = "SELECT password, admin, deactivated, erased, user_type, created_ts, guest \
         FROM accounts WHERE user_nid = $1";
    type Row = (Option<String>, i64, i64, i64, Option<String>, i64, i64);
    let row: Option<Row> = read!(db, |c| sql::query_as(FIND).bind(user.0).fetch_optional(c))?;
    Ok(row.map(|(password, admin, deactivated, erased, user_type, created_ts, guest)| Account {
        user,
        password,
        admin: admin != 0,
        deactivated: deactivated != 0,
        erased: erased != 0,
        user_type,
        created_ts,
        guest: guest != 0,
    }))
}

/// Tells inside a transaction whether an account is in use and has this password, so that what was
/// proven before it still holds.
///
/// # Errors
/// When the database fails.
pub async fn is_current(tx: &mut Tx, user: UserNid, password: Option<&str>) -> Result<bool> {
    const NOW: &str = "SELECT password FROM accounts WHERE user_nid = $1 AND deactivated = 0";
    let row: Option<Option<String>> =
        run!(tx, |c| sql::query_scalar(NOW).bind(user.0).fetch_optional(c))?;
    Ok(row.is_some_and(|now| password.is_none() || now.as_deref() == password))
}

/// Returns which of these users closed their accounts with the wish that newcomers see nothing.
///
/// # Errors
/// When the database fails.
pub async fn erased_among(db: &Database, users: &[UserNid]) -> Result<Vec<UserNid>> {
    const ERASED: &str = "SELECT user_nid FROM accounts WHERE erased = 1 AND user_nid IN {INTS 1}";
    let list = int_list(users.iter().map(|user| user.0));
    let rows: Vec<i64> =
        read_list!(db, ERASED, |sql, c| sql::query_scalar(sql).bind(list).fetch_all(c))?;
    Ok(rows.into_iter().map(UserNid).collect())
}

/// Replaces the password of a user; false when there is no account in use.
///
/// # Errors
/// When the database fails.
pub async fn set_password(tx: &mut Tx, user: UserNid, password: String) -> Result<bool> {
    const SET: &str = "UPDATE accounts SET password = $2 WHERE user_nid = $1 AND deactivated = 0";
    Ok(execute!(tx, sql::query(SET).bind(user.0).bind(password))? == 1)
}

/// Grants or takes the right to administrate; false when there is no such account.
///
/// # Errors
/// When the database fails.
pub async fn set_admin(tx: &mut Tx, user: UserNid, admin: bool) -> Result<bool> {
    const SET: &str = "UPDATE accounts SET admin = $2 WHERE user_nid = $1";
    Ok(execute!(tx, sql::query(SET).bind(user.0).bind(i64::from(admin)))? == 1)
}

/// What an administrator can keep a user from, one beside the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestrictionKind {
    /// Everything.
    Lock,
    /// Whatever others notice.
    Suspension,
}

/// Tells whether a user is kept from something.
///
/// # Errors
/// When the database fails.
pub async fn is_restricted(db: &Database, user: UserNid, kind: RestrictionKind) -> Result<bool> {
    const LOCKED: &str = "SELECT locked FROM accounts WHERE user_nid = $1";
    const SUSPENDED: &str = "SELECT suspended FROM accounts WHERE user_nid = $1";
    let query = match kind {
        RestrictionKind::Lock => LOCKED,
        RestrictionKind::Suspension => SUSPENDED,
    };
    let found: Option<i64> =
        read!(db, |c| sql::query_scalar(query).bind(user.0).fetch_optional(c))?;
    Ok(found.is_some_and(|found| found != 0))
}

/// Keeps a user from something, or no more; what is kept in memory of his sessions becomes stale. Takes positions: call
/// it last in the transaction.
///
/// # Errors
/// When the database fails.
pub async fn restrict(tx: &mut Tx, user: UserNid, kind: RestrictionKind, on: bool) -> Result<()> {
    const LOCK: &str = "UPDATE accounts SET locked = $2 WHERE user_nid = $1";
    const SUSPEND: &str = "UPDATE accounts SET suspended = $2 WHERE user_nid = $1";
    let query = match kind {
        RestrictionKind::Lock => LOCK,
        RestrictionKind::Suspension => SUSPEND,
    };
    execute!(tx, sql::query(query).bind(user.0).bind(i64::from(on)))?;
    for device in devices::all_of(tx, user).await? {
        to_device::forget(tx, device).await?;
    }
    Ok(())
}

/// Closes an account for good; false when there is no such account. Its password is kept, so that only
/// who knows it is told that the account is closed.
///
/// # Errors
/// When the database fails.
pub async fn deactivate(tx: &mut Tx, user: UserNid, erase: bool) -> Result<bool> {
    const CLOSE: &str = "UPDATE accounts SET deactivated = 1, admin = 0, \
         erased = CASE WHEN $2 = 1 THEN 1 ELSE erased END WHERE user_nid = $1";
    Ok(execute!(tx, sql::query(CLOSE).bind(user.0).bind(i64::from(erase)))? == 1)
}
