//! User-interactive authentication: proving once more who one is before something that a stolen
//! access token must not be enough for. A session belongs to one user and one request, lasts a
//! quarter of an hour, and ends when it was successful.
//!
//! Source: Matrix v1.19, client-server, "User-interactive authentication API".

use std::sync::Arc;

use colonnade_model::{
    MatrixError,
    ruma::api::client::uiaa::{AuthData, UserIdentifier},
};
use colonnade_storage::uia::{self, UiaSession};
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;

use super::{Session, names, passwords::Passwords};
use crate::{
    Context, Error, Result,
    limits::{Class, Limits},
};

/// How long a session may take, in milliseconds.
pub(super) const LIFETIME_MS: i64 = 15 * 60 * 1_000;
/// Sessions kept at a time; beyond it the oldest end, so that strangers cannot fill the disk.
pub(super) const SESSIONS_MAX: i64 = 10_000;
/// Random characters of a session's name.
const SESSION_LENGTH: usize = 32;

/// A stage somebody can go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The password of the user.
    Password,
    /// Nothing to prove.
    Dummy,
    /// A token the operator gave out.
    RegistrationToken,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Password => "m.login.password",
            Self::Dummy => "m.login.dummy",
            Self::RegistrationToken => "m.login.registration_token",
        }
    }
}

/// Checks proofs.
pub struct Uia {
    context: Arc<Context>,
    passwords: Arc<Passwords>,
    limits: Arc<Limits>,
}

impl Uia {
    pub(super) fn new(
        context: Arc<Context>,
        passwords: Arc<Passwords>,
        limits: Arc<Limits>,
    ) -> Self {
        Self { context, passwords, limits }
    }

    /// Makes sure that the session's user proves who he is once more, by password.
    ///
    /// `action` names the request with all it acts on (method and path, say): a session opened for
    /// another action is refused.
    ///
    /// # Errors
    /// [`Error::UserInteractive`] when a stage is needed or failed, `M_FORBIDDEN` when the session
    /// belongs to another request or the proof to another user, `M_UNKNOWN` when the session is not
    /// known (any more).
    pub async fn check(
        &self,
        session: &Session,
        auth: Option<&AuthData>,
        action: &str,
    ) -> Result<()> {
        self.check_flows(Some(session), auth, action, &[vec![Stage::Password]]).await
    }

    /// Makes sure that every stage of one of the flows is done.
    pub(super) async fn check_flows(
        &self,
        caller: Option<&Session>,
        auth: Option<&AuthData>,
        action: &str,
        flows: &[Vec<Stage>],
    ) -> Result<()> {
        let Some(auth) = auth else {
            let opened = self.open(caller, action);
            self.put(&opened).await?;
            return Err(demand(flows, &opened, None));
        };
        if let (AuthData::Password(proof), Some(caller)) = (auth, caller) {
            require_same_user(&proof.identifier, caller)?;
        }
        let mut known = match auth.session() {
            Some(name) => self.resume(name, caller, action).await?,
            None => self.open(caller, action),
        };
        match self.pass(caller, auth, flows).await {
            Ok(Some(stage)) if !known.completed.iter().any(|done| done == stage.name()) => {
                known.completed.push(stage.name().to_owned());
            }
            Ok(_) => {}
            Err(Error::Client(why)) if why.errcode == "M_FORBIDDEN" => {
                self.put(&known).await?;
                return Err(demand(flows, &known, Some(&why)));
            }
            Err(error) => return Err(error),
        }
        let is_done = |stage: &Stage| known.completed.iter().any(|done| done == stage.name());
        if !flows.iter().any(|flow| flow.iter().all(is_done)) {
            self.put(&known).await?;
            return Err(demand(flows, &known, None));
        }
        if auth.session().is_some() {
            let name = known.session;
            let ended = self.context.db.write(move |tx| Box::pin(uia::end(tx, name))).await?;
            if !ended {
                return Err(unknown_session());
            }
        }
        Ok(())
    }

    /// Checks one stage; `None` when there was nothing to check.
    async fn pass(
        &self,
        caller: Option<&Session>,
        auth: &AuthData,
        flows: &[Vec<Stage>],
    ) -> Result<Option<Stage>> {
        let stage = match auth {
            AuthData::Password(_) => Stage::Password,
            AuthData::Dummy(_) => Stage::Dummy,
            AuthData::RegistrationToken(_) => Stage::RegistrationToken,
            AuthData::FallbackAcknowledgement(_) => return Ok(None),
            _ => return Err(not_offered()),
        };
        if !flows.iter().any(|flow| flow.contains(&stage)) {
            return Err(not_offered());
        }
        match auth {
            AuthData::Password(proof) => {
                let user = caller.ok_or_else(not_offered)?;
                // Whoever stole an access token must not be able to try out passwords.
                self.limits.check(Class::Login, user.user)?;
                self.passwords.require(user.user, &proof.password).await?;
            }
            AuthData::RegistrationToken(proof)
                if !is_listed(&proof.token, &self.context.settings.registration.tokens) =>
            {
                return Err(MatrixError::forbidden("the registration token is not valid").into());
            }
            _ => {}
        }
        Ok(Some(stage))
    }

    fn open(&self, caller: Option<&Session>, action: &str) -> UiaSession {
        UiaSession {
            session: self.context.random.alphanumeric(SESSION_LENGTH),
            action: digest(action),
            user: caller.map(|session| session.user),
            completed: Vec::new(),
            created_ts: self.context.now_ms(),
        }
    }

    async fn resume(
        &self,
        name: &str,
        caller: Option<&Session>,
        action: &str,
    ) -> Result<UiaSession> {
        let oldest_ts = self.context.now_ms() - LIFETIME_MS;
        let known = uia::find(&self.context.db, name, oldest_ts).await?;
        let known = known.ok_or_else(unknown_session)?;
        if known.action != digest(action) || known.user != caller.map(|session| session.user) {
            let why = "this authentication session was opened for another request";
            return Err(MatrixError::forbidden(why).into());
        }
        Ok(known)
    }

    async fn put(&self, session: &UiaSession) -> Result<()> {
        let (session, oldest_ts) = (session.clone(), self.context.now_ms() - LIFETIME_MS);
        let write = self
            .context
            .db
            .write(move |tx| Box::pin(uia::put(tx, session, oldest_ts, SESSIONS_MAX)));
        Ok(write.await?)
    }
}

/// Shortens an action, which may list a thousand devices.
fn digest(action: &str) -> String {
    blake3::hash(action.as_bytes()).to_hex().to_string()
}

/// Makes sure that the name in a password proof is the caller's own.
fn require_same_user(identifier: &UserIdentifier, caller: &Session) -> Result<()> {
    if let UserIdentifier::Matrix(named) = identifier {
        let candidates = names::login_candidates(&named.user, caller.user_id.server_name());
        if candidates.contains(&caller.user_id) {
            return Ok(());
        }
    }
    Err(MatrixError::forbidden("this is not the user who is logged in").into())
}

/// Tells whether a secret is among those listed, in a time that does not say which letter differs.
pub(super) fn is_listed(secret: &str, list: &[String]) -> bool {
    list.iter()
        .fold(false, |found, listed| found | bool::from(listed.as_bytes().ct_eq(secret.as_bytes())))
}

fn not_offered() -> Error {
    MatrixError::forbidden("this stage is not among the flows of this request").into()
}

fn unknown_session() -> Error {
    MatrixError::unknown("the authentication session is not known, or took too long").into()
}

/// Renders the 401 answer: what can be done, what was done, and why a stage failed.
fn demand(flows: &[Vec<Stage>], session: &UiaSession, why: Option<&MatrixError>) -> Error {
    let flows: Vec<Value> = flows
        .iter()
        .map(|flow| json!({ "stages": flow.iter().map(|stage| stage.name()).collect::<Vec<_>>() }))
        .collect();
    let mut body = json!({ "flows": flows, "params": {}, "session": session.session });
    if !session.completed.is_empty() {
        body["completed"] = json!(session.completed);
    }
    if let Some(why) = why {
        body["errcode"] = json!(why.errcode);
        body["error"] = json!(why.message);
    }
    Error::UserInteractive(body)
}
