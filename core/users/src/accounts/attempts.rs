//! Who may try a password, and how often: failures count, right passwords do not.
//!
//! An account has one bucket for all addresses that it was never used from, however its name is
//! spelled, and one for each address and each device that it was: strangers who guess at a password
//! use up their own, and do not keep the user out. An address has a bucket for all accounts together that
//! are not known by something: whoever guesses from the address of a school or an office keeps nobody out
//! who was in from there before. What fails there counts for the address, too, as long as it has any left.
//!
//! A failure is one line in the log, of a form that programs like fail2ban read:
//! `failed login from <address> for <account>`. docs/operating/fail2ban.md holds the filter, and
//! tests compare the two.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use colonnade_model::{nid::UserNid, ruma::OwnedUserId};
use colonnade_rooms::{Context, Result};
use colonnade_storage::users::{login_addresses, sessions};

use super::{names, tokens};
use crate::limits::{Attempt, Class, Key, Limits};

/// The longest account name in the log, in bytes: user ids are no longer.
const SHOWN_BYTES_MAX: usize = 255;

/// Where a login comes from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// The address.
    pub address: Option<IpAddr>,
    /// An access token that the device has had, valid or expired.
    pub token: Option<String>,
}

/// Guards passwords against guessing.
pub(super) struct Attempts {
    context: Arc<Context>,
    limits: Arc<Limits>,
}

impl Attempts {
    pub(super) fn new(context: Arc<Context>, limits: Arc<Limits>) -> Self {
        Self { context, limits }
    }

    /// Begins an attempt to log in as somebody: the user, if there is one of that name, and the name.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED` when too many failed.
    pub(super) async fn begin(
        &self,
        user: Option<UserNid>,
        user_id: Option<&OwnedUserId>,
        origin: &Origin,
    ) -> Result<Attempt> {
        let way_in = match user {
            Some(user) => self.way_in(user, origin).await?,
            None => None,
        };
        let named = |user_id, way_in: &str| Key::name(&format!("log in as {user_id} {way_in}"));
        let attempt = self.limits.attempt();
        if let (Some(user_id), Some(way_in)) = (user_id, way_in) {
            // Others at the address may have used up what it has.
            let attempt = attempt.and(Class::Login, named(user_id, &way_in))?;
            self.limits.check(Class::Other, named(user_id, &way_in))?;
            let Some(address) = origin.address else { return Ok(attempt) };
            return Ok(attempt.also(Class::Login, address));
        }
        let attempt = match origin.address {
            Some(address) => {
                // Right ones cost a hash, too.
                self.limits.check(Class::Other, address)?;
                attempt.and(Class::Login, address)?
            }
            None => attempt,
        };
        let Some(user_id) = user_id else { return Ok(attempt) };
        Ok(attempt.and(Class::Login, named(user_id, ""))?)
    }

    /// Begins an attempt of a user who is logged in to prove who he is once more.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED` when too many failed.
    pub(super) fn again(&self, user: UserNid) -> Result<Attempt> {
        Ok(self.limits.attempt().and(Class::Login, user)?)
    }

    /// Names what of the origin the user is known by, if anything.
    async fn way_in(&self, user: UserNid, origin: &Origin) -> Result<Option<String>> {
        let db = &self.context.db;
        if let Some(token) = &origin.token
            && let Some(session) = sessions::find(db, tokens::hash(token)).await?
            && session.user == user
        {
            return Ok(Some(format!("on device {}", session.device)));
        }
        let Some(address) = origin.address else { return Ok(None) };
        let network = network(address);
        let known = login_addresses::of_user(db, user).await?;
        let is_known = |text: &String| {
            *text == network || text.parse::<IpAddr>().is_ok_and(|ip| self::network(ip) == network)
        };
        Ok(known.iter().any(is_known).then(|| format!("from {network}")))
    }
}

/// Returns what of an address stays the same for a while, as [`Key`] has it: IPv6 hosts change the
/// second half.
pub(super) fn network(address: IpAddr) -> String {
    match Key::from(address) {
        Key::Address(network) => network.to_string(),
        Key::User(_) | Key::Name(_) => address.to_string(),
    }
}

/// Returns the account that a name stands for in limits and log when nobody has it: all spellings are
/// one.
pub(super) fn nobody(name: &str, context: &Context) -> Option<OwnedUserId> {
    names::login_candidates(name, &context.server_name).pop()
}

/// Writes the line of a failed login.
pub(super) fn log_failure(account: &str, address: Option<IpAddr>) {
    let address =
        address.map_or(Cow::Borrowed("unknown"), |ip| ip.to_canonical().to_string().into());
    tracing::warn!(target: "colonnade::login", "failed login from {address} for {}", shown(account));
}

/// Returns an account's name that cannot be mistaken for more of the line.
fn shown(account: &str) -> String {
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\');
    let plain = |c: char| if is_plain(c) { c } else { '?' };
    account.chars().take(SHOWN_BYTES_MAX).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_never_ends_its_line() {
        assert_eq!(shown("@alice:example.org"), "@alice:example.org");
        assert_eq!(shown("@a b\n\u{1b}[2Jé:x"), "@a?b??[2J?:x");
        assert_eq!(shown(&"a".repeat(1_000)).len(), SHOWN_BYTES_MAX);
    }

    #[test]
    fn hosts_of_one_network_are_one() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::2"));
        assert_eq!(of("::ffff:192.0.2.1"), "192.0.2.1");
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
