//! Who is spoken with: whether this server has anything to do with others, and with which of them.

use colonnade_model::{
    MatrixError,
    ruma::{ServerName, events::room::server_acl::RoomServerAclEventContent},
};
use colonnade_rooms::settings::Federation;

/// Says with whom this server speaks.
#[derive(Debug, Clone)]
pub struct Policy {
    is_enabled: bool,
    /// The operator's lists, in the form a room's would have.
    lists: RoomServerAclEventContent,
}

impl Policy {
    /// Makes the policy of these settings.
    pub fn new(settings: &Federation) -> Self {
        let allow = match settings.allow.as_slice() {
            [] => vec!["*".to_owned()],
            patterns => patterns.to_vec(),
        };
        let lists = RoomServerAclEventContent::new(true, allow, settings.deny.clone());
        Self { is_enabled: settings.enabled == Some(true), lists }
    }

    /// Says whether this server has anything to do with others.
    pub fn is_enabled(&self) -> bool {
        self.is_enabled
    }

    /// Says whether this server speaks with another.
    pub fn permits(&self, server: &ServerName) -> bool {
        self.is_enabled && self.lists.is_allowed(server)
    }

    /// Makes sure that this server speaks with another.
    ///
    /// # Errors
    /// `M_FORBIDDEN`, with which of the two reasons.
    pub fn require(&self, server: &ServerName) -> Result<(), MatrixError> {
        if !self.is_enabled {
            return Err(MatrixError::forbidden(format!(
                "{server} is another server, and this one does not federate"
            )));
        }
        if !self.lists.is_allowed(server) {
            return Err(MatrixError::forbidden(format!(
                "this server does not speak with {server}"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(enabled: Option<bool>, allow: &[&str], deny: &[&str], server: &str) -> bool {
        let list = |patterns: &[&str]| patterns.iter().map(|text| (*text).to_owned()).collect();
        let settings =
            Federation { enabled, allow: list(allow), deny: list(deny), ..Federation::default() };
        Policy::new(&settings).permits(<&ServerName>::try_from(server).unwrap())
    }

    #[test]
    fn off_is_nobody_and_deny_beats_allow() {
        assert!(!permits(None, &[], &[], "a.example"));
        assert!(!permits(Some(false), &["*"], &[], "a.example"));
        assert!(permits(Some(true), &[], &[], "a.example"));
        assert!(permits(Some(true), &["*.example"], &[], "A.Example:8448"));
        assert!(!permits(Some(true), &["*.example"], &[], "a.example.org"));
        assert!(!permits(Some(true), &[], &["evil.*"], "EVIL.example:1"));
        assert!(!permits(Some(true), &["evil.example"], &["evil.?xample"], "evil.example"));
        assert!(permits(Some(true), &[], &["evil.example"], "not.evil.example"));
    }
}
