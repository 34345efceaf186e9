//! From an nginx configuration of the usual Matrix shape to a routes file, and a list of what could
//! not be carried over: every directive that is not translated is named. Text in, text out; the result is
//! parsed before it is given out.
//!
//! What was closed is not opened: a location that lets only some in, passes nothing on, or is not
//! understood becomes a rule that denies; of several servers one is taken.
//!
//! nginx looks for exact locations, then `^~` prefixes, then regular expressions in file order,
//! then the longest prefix: rules are written in that order. Its patterns may match anywhere in
//! the path; ours take the whole path, so `^`, `$` and what they need are added. It looks at the path
//! decoded, ours see it with escapes (`import/patterns.rs`).

mod access;
mod importer;
mod nginx;
mod patterns;
mod server;

use access::Closed;
use importer::Importer;
pub use importer::{Imported, Note};
pub use nginx::SyntaxError;

use crate::config::Config;

/// Translates an nginx configuration.
///
/// # Errors
/// [`SyntaxError`] if it is not one.
pub fn import_nginx(name: &str, text: &str) -> Result<Imported, SyntaxError> {
    let directives = nginx::parse(text)?;
    let mut importer = Importer::default();
    importer.declarations(&directives);
    importer.blocks(&directives, &Closed::default());
    importer.server_blocks();
    let routes = importer.write(name);
    if let Err(error) = Config::parse("imported", &routes) {
        for fault in error.faults() {
            importer.note(0, format!("the result needs a hand: {fault}"));
        }
    }
    Ok(Imported { routes, notes: importer.notes })
}

#[cfg(test)]
mod tests;
