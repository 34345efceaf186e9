//! Tells the service manager how we are (`Type=notify`, `WatchdogSec=` of systemd), if there is one.

use sd_notify::NotifyState;

/// Says that we serve, and from now on, in time, that we live: from the runtime that serves requests, so
/// that one that hangs falls silent.
pub(crate) fn ready() {
    let _nobody_listens = sd_notify::notify(&[NotifyState::Ready]);
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    tokio::spawn(async move {
        loop {
            let _nobody_listens = sd_notify::notify(&[NotifyState::Watchdog]);
            tokio::time::sleep(patience / 3).await;
        }
    });
}

/// Says that we are about to end.
pub(crate) fn stopping() {
    let _nobody_listens = sd_notify::notify(&[NotifyState::Stopping]);
}
