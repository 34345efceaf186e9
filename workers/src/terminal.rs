//! What the command says to the person who typed it: answers on standard output, complaints on
//! standard error. The log is elsewhere.

use std::io::Write as _;

/// Says something; a closed pipe is nobody listening, which is no error.
pub(crate) fn say(text: &str) {
    let _nobody_listens = writeln!(std::io::stdout().lock(), "{text}");
}

/// Says what went wrong.
pub(crate) fn complain(text: &str) {
    let _nobody_listens = writeln!(std::io::stderr().lock(), "colonnade: {text}");
}
