//! User-interactive authentication: proving once more who one is before something that a stolen
//! access token must not be enough for. A session belongs to one user and one request, lasts a
//! quarter of an hour, and ends when it was successful.
//!
//! Source: Matrix v1.19, client-server, "User-interactive authentication API".

use std::{net::IpAddr, sync::Arc};

use colonnade_model::MatrixError;
use colonnade_model::session::Session;
use colonnade_rooms::{Context, Error, Result};
use colonnade_storage::users::uia::{self, Bounds, Passed, UiaSession};
use serde_json::{Value, json};

use super::{
    attempts::{self, Attempts},
    auth::{Auth, LIFETIME_MS},
    cleared::{Cleared, unknown_session},
    names::{self, Named},
    passwords::Passwords,
    registration_tokens::RegistrationTokens,
};

/// Sessions of one user: each of his devices may be at several things.
const OF_USER_MAX: i64 = 50;
/// Sessions of those without an account at one address: more than the limit on registration lets in
/// during a session's lifetime, so that a school registers behind one address.
const OF_ADDRESS_MAX: i64 = 500;
/// Sessions of all those together, some 300 bytes each. Beyond it nobody registers, but nobody's
/// session ends either.
const OF_STRANGERS_MAX: i64 = 50_000;
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
    const ALL: [Self; 3] = [Self::Password, Self::Dummy, Self::RegistrationToken];

    fn name(self) -> &'static str {
        match self {
            Self::Password => "m.login.password",
            Self::Dummy => "m.login.dummy",
            Self::RegistrationToken => "m.login.registration_token",
        }
    }
}

/// Who goes through stages.
#[derive(Debug, Clone, Copy)]
pub(super) enum Caller<'c> {
    /// Somebody who is logged in.
    User(&'c Session),
    /// Somebody at an address.
    Stranger(Option<IpAddr>),
}

impl<'c> Caller<'c> {
    fn session(self) -> Option<&'c Session> {
        match self {
            Self::User(session) => Some(session),
            Self::Stranger(_) => None,
        }
    }

    /// Names among whose sessions one counts.
    fn owner(self) -> String {
        match self {
            Self::User(session) => format!("user {}", session.user),
            Self::Stranger(address) => owner_at(address),
        }
    }
}

/// Names the owner of what somebody without an account begins.
pub(super) fn owner_at(address: Option<IpAddr>) -> String {
    let network = address.map(attempts::network);
    format!("address {}", network.as_deref().unwrap_or("unknown"))
}

/// Checks proofs.
pub struct Uia {
    context: Arc<Context>,
    passwords: Arc<Passwords>,
    attempts: Arc<Attempts>,
    tokens: RegistrationTokens,
}

impl Uia {
    pub(super) fn new(
        context: Arc<Context>,
        passwords: Arc<Passwords>,
        attempts: Arc<Attempts>,
    ) -> Self {
        let tokens = RegistrationTokens::new(Arc::clone(&context));
        Self { context, passwords, attempts, tokens }
    }

    /// Returns what registration tokens are good for.
    pub(super) fn tokens(&self) -> &RegistrationTokens {
        &self.tokens
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
    pub async fn check(&self, session: &Session, auth: Option<&Auth>, action: &str) -> Result<()> {
        let flows = [vec![Stage::Password]];
        let cleared = self.check_flows(Caller::User(session), auth, action, &flows, "").await?;
        if let Some(name) = cleared.session {
            let ended = self.context.db.write(move |tx| Box::pin(uia::end(tx, name))).await?;
            if !ended {
                return Err(unknown_session());
            }
        }
        Ok(())
    }

    /// Makes sure that every stage of one of the flows is done. Ending the session is left to the
    /// caller, who does it together with what it was for. A session that is opened without a proof remembers
    /// `request`.
    pub(super) async fn check_flows(
        &self,
        caller: Caller<'_>,
        auth: Option<&Auth>,
        action: &str,
        flows: &[Vec<Stage>],
        request: &str,
    ) -> Result<Cleared> {
        let Some(auth) = auth else {
            let opened =
                UiaSession { request: request.to_owned(), ..self.new_session(caller, action) };
            self.open(caller, &opened).await?;
            return Err(demand(flows, &opened, None));
        };
        if let (Some(stage), Some(user)) = (auth.stage(), caller.session())
            && stage == Stage::Password.name()
        {
            require_same_user(auth, user)?;
        }
        let mut is_stored = auth.session.is_some();
        let mut known = match &auth.session {
            Some(name) => self.resume(name, caller, action).await?,
            None => self.new_session(caller, action),
        };
        if !known.made.is_empty() {
            return Ok(Cleared { made: Some(known.made), ..Cleared::default() });
        }
        match self.pass(caller, auth, flows).await {
            Ok(Some(stage)) => {
                // What only has to be seen once needs no row, unless it holds something.
                if !is_stored && stage != Stage::RegistrationToken && is_done(flows, stage) {
                    return Ok(Cleared::default());
                }
                if !is_stored {
                    self.open(caller, &known).await?;
                    is_stored = true;
                }
                self.note(&mut known, stage, auth, flows).await?;
            }
            Ok(None) => {}
            Err(Error::Client(why)) if is_failure(&why) => {
                if !is_stored {
                    self.open(caller, &known).await?;
                }
                return Err(demand(flows, &known, Some(&why)));
            }
            Err(error) => return Err(error),
        }
        let done = |stage: &Stage| known.completed.iter().any(|done| done == stage.name());
        if !flows.iter().any(|flow| flow.iter().all(done)) {
            if !is_stored {
                self.open(caller, &known).await?;
            }
            return Err(demand(flows, &known, None));
        }
        Ok(Cleared {
            session: Some(known.session),
            token: Some(known.token).filter(|token| !token.is_empty()),
            is_unknown: auth.session.is_none(),
            request: known.request,
            made: None,
        })
    }

    /// Checks one stage; `None` when there was nothing to check.
    async fn pass(
        &self,
        caller: Caller<'_>,
        auth: &Auth,
        flows: &[Vec<Stage>],
    ) -> Result<Option<Stage>> {
        let Some(name) = auth.stage() else { return Ok(None) };
        let offered = |stage: &Stage| flows.iter().any(|flow| flow.contains(stage));
        let stage = Stage::ALL.into_iter().find(|stage| stage.name() == name);
        let stage = stage.filter(offered).ok_or_else(not_offered)?;
        match stage {
            Stage::Password => {
                let session = caller.session().ok_or_else(not_offered)?;
                let password = auth.text("password")?;
                // Whoever stole an access token must not be able to try out passwords.
                let attempt = self.attempts.again(session.user)?;
                match self.passwords.require(session.user, password).await {
                    Ok(()) => attempt.was_right(),
                    Err(error) => {
                        attempts::log_failure(session.user_id.as_str(), session.address);
                        return Err(error);
                    }
                }
            }
            Stage::RegistrationToken => {
                self.tokens.require(auth.text("token")?)?;
            }
            Stage::Dummy => {}
        }
        Ok(Some(stage))
    }

    /// Notes that a stage is done.
    async fn note(
        &self,
        known: &mut UiaSession,
        stage: Stage,
        auth: &Auth,
        flows: &[Vec<Stage>],
    ) -> Result<()> {
        let hold = match stage {
            Stage::RegistrationToken => Some(self.tokens.hold(auth.text("token")?)?),
            Stage::Password | Stage::Dummy => None,
        };
        let token = hold.as_ref().map(|hold| hold.token.clone());
        let (name, stage) = (known.session.clone(), stage.name());
        let passed =
            self.context.db.write(move |tx| Box::pin(uia::pass(tx, name, stage, hold))).await?;
        match passed {
            Passed::Noted(completed) => {
                known.completed = completed;
                known.token = token.unwrap_or_else(|| std::mem::take(&mut known.token));
                Ok(())
            }
            Passed::Gone => Err(unknown_session()),
            Passed::UsedUp => {
                let why = MatrixError::forbidden("the registration token is used up");
                Err(demand(flows, known, Some(&why)))
            }
        }
    }

    fn new_session(&self, caller: Caller<'_>, action: &str) -> UiaSession {
        UiaSession {
            session: self.context.random.alphanumeric(SESSION_LENGTH),
            action: digest(action),
            user: caller.session().map(|session| session.user),
            owner: caller.owner(),
            completed: Vec::new(),
            token: String::new(),
            created_ts: self.context.now_ms(),
            request: String::new(),
            made: String::new(),
        }
    }

    async fn resume(&self, name: &str, caller: Caller<'_>, action: &str) -> Result<UiaSession> {
        let oldest_ts = self.context.now_ms() - LIFETIME_MS;
        let known = uia::find(&self.context.db, name, oldest_ts).await?;
        let known = known.ok_or_else(unknown_session)?;
        let user = caller.session().map(|session| session.user);
        if known.action != digest(action) || known.user != user {
            let why = "this authentication session was opened for another request";
            return Err(MatrixError::forbidden(why).into());
        }
        Ok(known)
    }

    async fn open(&self, caller: Caller<'_>, session: &UiaSession) -> Result<()> {
        let owned_max = match caller {
            Caller::User(_) => OF_USER_MAX,
            Caller::Stranger(_) => OF_ADDRESS_MAX,
        };
        store(&self.context, session.clone(), owned_max).await
    }
}

/// Stores a new session within its bounds.
///
/// # Errors
/// `M_LIMIT_EXCEEDED` when strangers have too many.
pub(super) async fn store(context: &Context, session: UiaSession, owned_max: i64) -> Result<()> {
    let oldest_ts = context.now_ms() - LIFETIME_MS;
    let bounds = Bounds { oldest_ts, owned_max, strangers_max: OF_STRANGERS_MAX };
    let write = context.db.write(move |tx| Box::pin(uia::open(tx, session, bounds)));
    if write.await? {
        return Ok(());
    }
    Err(MatrixError::limit_exceeded(LIFETIME_MS.unsigned_abs()).into())
}

/// Tells whether a stage is a whole flow.
fn is_done(flows: &[Vec<Stage>], stage: Stage) -> bool {
    flows.iter().any(|flow| flow.iter().all(|needed| *needed == stage))
}

/// Tells whether an error means that a stage failed, which the client hears with what it can do next.
fn is_failure(why: &MatrixError) -> bool {
    matches!(&*why.errcode, "M_FORBIDDEN" | "M_MISSING_PARAM")
}

/// Shortens an action, which may list a thousand devices.
fn digest(action: &str) -> String {
    blake3::hash(action.as_bytes()).to_hex().to_string()
}

/// Makes sure that the name in a password proof is the caller's own, if there is one: whose session it
/// is, is known.
fn require_same_user(auth: &Auth, caller: &Session) -> Result<()> {
    let is_own = match auth.named() {
        Ok(Named::User(name)) => {
            let server = caller.user_id.server_name();
            names::login_candidates(&name, server).contains(&caller.user_id)
        }
        Ok(Named::Unknown) => false,
        // Nobody is named: a stage that failed.
        Err(error) if is_failure(&error) => true,
        Err(error) => return Err(error.into()),
    };
    if is_own {
        return Ok(());
    }
    Err(MatrixError::forbidden("this is not the user who is logged in").into())
}

fn not_offered() -> Error {
    MatrixError::forbidden("this stage is not among the flows of this request").into()
}

/// Renders the 401 answer: what can be done, what was done, and why a stage failed.
fn demand(flows: &[Vec<Stage>], session: &UiaSession, why: Option<&MatrixError>) -> Error {
    let flows: Vec<Value> = flows
        .iter()
        .map(|flow| json!({ "stages": flow.iter().map(|stage| stage.name()).collect::<Vec<_>>() }))
        .collect();
    let mut body = json!({
        "flows": flows,
        "params": {},
        "session": session.session,
        "completed": session.completed,
    });
    if let Some(why) = why {
        body["errcode"] = json!(why.errcode);
        body["error"] = json!(why.message);
    }
    Error::UserInteractive(body)
}

#[cfg(test)]
mod tests {
    use colonnade_model::{
        nid::{DeviceNid, UserNid},
        ruma::user_id,
    };

    use super::*;

    fn session() -> UiaSession {
        UiaSession {
            session: "s".to_owned(),
            action: "POST /x".to_owned(),
            user: None,
            owner: "o".to_owned(),
            completed: vec!["m.login.dummy".to_owned()],
            token: String::new(),
            created_ts: 1,
            request: String::new(),
            made: String::new(),
        }
    }

    #[test]
    fn one_stage_is_enough_where_a_flow_has_no_other() {
        let flows = [vec![Stage::Password], vec![Stage::RegistrationToken, Stage::Dummy]];
        assert!(is_done(&flows, Stage::Password));
        assert!(!is_done(&flows, Stage::Dummy));
        assert!(!is_done(&flows, Stage::RegistrationToken));
        assert!(!is_done(&[], Stage::Password));
    }

    #[test]
    fn a_demand_says_what_can_be_done_and_what_went_wrong() {
        let flows = [vec![Stage::RegistrationToken, Stage::Dummy]];
        let Error::UserInteractive(body) = demand(&flows, &session(), None) else { panic!("401") };
        let stages = json!([{ "stages": ["m.login.registration_token", "m.login.dummy"] }]);
        assert_eq!((&body["flows"], &body["session"]), (&stages, &json!("s")));
        assert_eq!(body["completed"], json!(["m.login.dummy"]));
        assert_eq!(body["params"], json!({}));
        assert!(body.get("errcode").is_none());
        let why = MatrixError::forbidden("no");
        let Error::UserInteractive(body) = demand(&flows, &session(), Some(&why)) else {
            panic!("401")
        };
        assert_eq!((&body["errcode"], &body["error"]), (&json!("M_FORBIDDEN"), &json!("no")));
    }

    #[test]
    fn a_proof_is_of_the_caller() {
        let (user_id, user) = (user_id!("@a:b").to_owned(), UserNid(1));
        let (device_id, device) = ("D".into(), DeviceNid(1));
        let caller = Session {
            user_id,
            user,
            device_id,
            device,
            is_guest: false,
            restriction: colonnade_model::session::Restriction::None,
            address: None,
        };
        let code = |auth: Value| {
            let auth = Auth::read(Some(&auth)).unwrap().unwrap();
            match require_same_user(&auth, &caller) {
                Ok(()) => None,
                Err(Error::Client(error)) => Some(error.errcode),
                Err(other) => panic!("{other}"),
            }
        };
        let named = |user: &str| json!({ "identifier": { "type": "m.id.user", "user": user } });
        for (auth, expected) in [
            (named("a"), None),
            (named("@a:b"), None),
            (json!({ "user": "a" }), None),
            // Whose session it is, is known.
            (json!({ "password": "p" }), None),
            (named("c"), Some("M_FORBIDDEN")),
            (named("@a:elsewhere"), Some("M_FORBIDDEN")),
            (json!({ "identifier": { "type": "m.id.phone" } }), Some("M_FORBIDDEN")),
            (json!({ "identifier": { "type": "org.example" } }), Some("M_UNKNOWN")),
            (json!({ "user": 5 }), Some("M_BAD_JSON")),
            (json!({ "identifier": { "type": "m.id.user", "user": 5 } }), Some("M_BAD_JSON")),
        ] {
            assert_eq!(code(auth.clone()).as_deref(), expected, "{auth}");
        }
    }

    #[test]
    fn a_stage_that_failed_is_tried_again_and_other_faults_are_not() {
        assert!(is_failure(&MatrixError::forbidden("wrong password")));
        assert!(is_failure(&MatrixError::missing_param("no password")));
        assert!(!is_failure(&MatrixError::limit_exceeded(5)));
        assert!(!is_failure(&MatrixError::unknown("no such session")));
    }
}
