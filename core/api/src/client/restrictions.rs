//! Locking and suspending accounts, for administrators.

use colonnade_model::ruma::api::client::admin::{
    is_user_locked, is_user_suspended, lock_user, suspend_user,
};
use colonnade_rooms::Result;
use colonnade_users::accounts::{RestrictionKind, Session};

use crate::{call::Call, table::Table};

/// Mounts the endpoints of this area.
pub(crate) fn mount(table: &mut Table) {
    table
        .add::<is_user_locked::v1::Request, _>(is_locked)
        .add::<lock_user::v1::Request, _>(lock)
        .add::<is_user_suspended::v1::Request, _>(is_suspended)
        .add::<suspend_user::v1::Request, _>(suspend);
}

async fn is_locked(
    call: Call<is_user_locked::v1::Request, Session>,
) -> Result<is_user_locked::v1::Response> {
    let (accounts, user_id) = (&call.services.accounts, &call.request.user_id);
    let locked = accounts.is_restricted(&call.who, user_id, RestrictionKind::Lock).await?;
    Ok(is_user_locked::v1::Response { locked })
}

async fn lock(call: Call<lock_user::v1::Request, Session>) -> Result<lock_user::v1::Response> {
    let (accounts, user_id, locked) =
        (&call.services.accounts, &call.request.user_id, call.request.locked);
    accounts.restrict(&call.who, user_id, RestrictionKind::Lock, locked).await?;
    Ok(lock_user::v1::Response { locked })
}

async fn is_suspended(
    call: Call<is_user_suspended::v1::Request, Session>,
) -> Result<is_user_suspended::v1::Response> {
    let (accounts, user_id) = (&call.services.accounts, &call.request.user_id);
    let suspended = accounts.is_restricted(&call.who, user_id, RestrictionKind::Suspension).await?;
    Ok(is_user_suspended::v1::Response { suspended })
}

async fn suspend(
    call: Call<suspend_user::v1::Request, Session>,
) -> Result<suspend_user::v1::Response> {
    let (accounts, user_id, suspended) =
        (&call.services.accounts, &call.request.user_id, call.request.suspended);
    accounts.restrict(&call.who, user_id, RestrictionKind::Suspension, suspended).await?;
    Ok(suspend_user::v1::Response { suspended })
}
