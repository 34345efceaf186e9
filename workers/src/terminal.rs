//! What the command says to the person who typed it: answers on standard output, complaints on
//! standard error. The log is elsewhere.

use std::io::Write as _;

/// Says something; a closed pipe is nobody listening, which is no error.
pub(crate) fn say(text: &str) {
    let _nobody_listens = writeln!(std::io::stdout().lock(), "{text}");
}

/// Writes a line over the last one, on the terminal behind standard error.
pub(crate) fn over(line: &str) {
    let _nobody_listens = write!(std::io::stderr().lock(), "\r\x1b[K{line}");
}

/// Says what went wrong.
pub(crate) fn complain(text: &str) {
    let _nobody_listens = writeln!(std::io::stderr().lock(), "colonnade: {text}");
}
