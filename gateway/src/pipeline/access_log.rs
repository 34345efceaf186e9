//! One JSON line for each request, secrets left out. Lines go through a bounded queue to a thread
//! that writes them: a slow disk costs lines, which are counted, never requests.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use serde::Serialize;

/// Lines that may wait for the disk, about 4 MB.
const QUEUE_LINES_MAX: usize = 8_192;

/// A line waits at most this long in the buffer.
const FLUSH_AFTER: Duration = Duration::from_millis(500);

/// Query parameters that are secrets, however they are written: a token in the wrong place is one still.
const SECRETS: [&str; 9] = [
    "access_token",
    "client_secret",
    "code",
    "id_token",
    "login_token",
    "logintoken",
    "password",
    "refresh_token",
    "token",
];

/// How tokens begin: ours, Synapse's, and the authentication service's. Wherever one stands, it is left out.
const TOKENS: [&str; 7] = ["cln_", "clr_", "syt_", "syr_", "mat_", "mar_", "mct_"];

/// Segments of a path behind which a secret stands.
const SECRET_BEHIND: &str = "registration_tokens";

/// What stands for a secret.
const REDACTED: &str = "<redacted>";

/// The rights of a new file: it says who asked for what, from where. One that exists keeps those it has.
const FILE_MODE: u32 = 0o600;

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The process's standard output.
    Stdout,
    /// A file, appended to; opened anew at every reload, for log rotation.
    File(PathBuf),
}

/// One request.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    /// When it ended.
    pub time: String,
    /// Its id, as client and worker know it.
    pub request_id: &'a str,
    /// Who asked.
    pub client: Option<IpAddr>,
    /// The method.
    pub method: &'a str,
    /// Path and query, secrets left out.
    pub target: String,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: &'a str,
    /// The answer's status; 0 when the client went away before there was one.
    pub status: u16,
    /// Bytes of the answer's body.
    pub bytes: usize,
    /// From the request's headers to the answer's end.
    pub took_ms: u64,
    /// The pool that served it.
    pub pool: Option<&'a str>,
    /// The line of the rule that took it.
    pub rule: Option<u64>,
    /// The worker that answered.
    pub worker: Option<&'a str>,
    /// What the client calls itself.
    pub user_agent: Option<&'a str>,
}

/// Leaves the secrets out of a path and query that have been read ([`crate::routing::request_target::Target`]): names have
/// no escapes, and none that is not needed hides a token.
pub fn redact(target: &str) -> String {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, q)| (path, Some(q)));
    let mut shown = String::with_capacity(target.len());
    let mut before = "";
    for (place, segment) in path.split('/').enumerate() {
        if place > 0 {
            shown.push('/');
        }
        let secret = is_token(segment) || (before == SECRET_BEHIND && segment != "new");
        shown.push_str(if secret && !segment.is_empty() { REDACTED } else { segment });
        before = segment;
    }
    for (place, pair) in query.iter().flat_map(|query| query.split('&')).enumerate() {
        shown.push(if place == 0 { '?' } else { '&' });
        match pair.split_once('=') {
            Some((name, value)) if is_secret(name) || is_token(value) => {
                shown.extend([name, "=", REDACTED]);
            }
            None if is_token(pair) => shown.push_str(REDACTED),
            _ => shown.push_str(pair),
        }
    }
    shown
}

fn is_secret(name: &str) -> bool {
    SECRETS.iter().any(|secret| secret.eq_ignore_ascii_case(name))
}

fn is_token(text: &str) -> bool {
    TOKENS.iter().any(|begin| text.contains(begin))
}

enum Word {
    Line(Vec<u8>),
    Reopen,
}

/// A log that is written.
#[derive(Debug)]
pub struct AccessLog {
    target: Target,
    queue: SyncSender<Word>,
    lost: AtomicU64,
}

impl AccessLog {
    /// Opens a log and starts its thread.
    ///
    /// # Errors
    /// If the file cannot be opened, or the system has no thread left.
    pub fn open(target: Target) -> io::Result<Self> {
        let out = open(&target)?;
        let (queue, words) = sync_channel(QUEUE_LINES_MAX);
        let reopen = target.clone();
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_all(&words, out, &reopen))?;
        Ok(Self { target, queue, lost: AtomicU64::new(0) })
    }

    /// Where its lines go.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Writes a line, soon.
    pub fn write(&self, line: &Line<'_>) {
        let Ok(mut bytes) = serde_json::to_vec(line) else { return };
        bytes.push(b'\n');
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Word::Line(bytes)) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Opens the file anew, after it was rotated away.
    pub fn reopen(&self) {
        let _full_or_ended = self.queue.try_send(Word::Reopen);
    }

    /// Lines the disk was too slow for.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

type Out = BufWriter<Box<dyn Write + Send>>;

fn open(target: &Target) -> io::Result<Out> {
    let out: Box<dyn Write + Send> = match target {
        Target::Stdout => Box::new(io::stdout()),
        Target::File(path) => {
            let mut file = OpenOptions::new();
            let file: File = file.create(true).append(true).mode(FILE_MODE).open(path)?;
            Box::new(file)
        }
    };
    Ok(BufWriter::new(out))
}

/// Writes until nobody can send any more. A disk that refuses costs lines and is tried again.
fn write_all(words: &Receiver<Word>, mut out: Out, target: &Target) {
    loop {
        match words.recv_timeout(FLUSH_AFTER) {
            Ok(Word::Line(bytes)) => {
                if let Err(error) = out.write_all(&bytes) {
                    tracing::warn!(%error, "cannot write the access log");
                }
            }
            Ok(Word::Reopen) => {
                let _full = out.flush();
                match open(target) {
                    Ok(fresh) => out = fresh,
                    Err(error) => tracing::warn!(%error, "cannot reopen the access log"),
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                let _full = out.flush();
            }
            Err(RecvTimeoutError::Disconnected) => {
                let _full = out.flush();
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_left_out_and_nothing_else() {
        let cases = [
            ("/a", "/a"),
            ("/a?b=c&&d", "/a?b=c&&d"),
            ("/s?since=1&access_token=syt_secret", "/s?since=1&access_token=<redacted>"),
            (
                "/l?loginToken=x&token=y&tokenx=z",
                "/l?loginToken=<redacted>&token=<redacted>&tokenx=z",
            ),
            ("/a?Access_Token=x&code=y", "/a?Access_Token=<redacted>&code=<redacted>"),
            ("/a?auth=Bearer%20syt_x&cln_ab_y", "/a?auth=<redacted>&<redacted>"),
            ("/rooms/cln_ab_c/x", "/rooms/<redacted>/x"),
            ("/v1/registration_tokens/abc?x", "/v1/registration_tokens/<redacted>?x"),
            ("/v1/registration_tokens/new", "/v1/registration_tokens/new"),
            ("/a?", "/a?"),
        ];
        for (target, redacted) in cases {
            assert_eq!(redact(target), redacted);
        }
    }
}
