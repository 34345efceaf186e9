//! What the process is told from outside: to stop (SIGTERM, SIGINT) or to reload (SIGHUP).

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{failure::Failure, terminal};

/// The exit code of a process that was told to stop at once, as shells write it for SIGINT.
const AT_ONCE: i32 = 130;

/// The signals we listen to.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What we are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OperatorRequest {
    Stop,
    Reload,
}

impl Signals {
    /// Starts to listen: from now on no signal of these ends the process by itself.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::running(&error));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) -> OperatorRequest {
        tokio::select! {
            _ = self.terminate.recv() => OperatorRequest::Stop,
            _ = self.interrupt.recv() => OperatorRequest::Stop,
            _ = self.hangup.recv() => OperatorRequest::Reload,
        }
    }

    /// Ends the process at the next signal to stop, whatever is still going on.
    pub(crate) fn end_at_the_next(mut self) {
        tokio::spawn(async move {
            while self.next().await != OperatorRequest::Stop {}
            terminal::complain("stopping at once");
            std::process::exit(AT_ONCE);
        });
    }
}
