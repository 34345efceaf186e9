//! Files of a folder, a web client's for instance, by request path.
//!
//! Invariant: what is opened lies in the folder. Segments that begin with a dot, are empty, or hold
//! a separator after decoding are refused before the disk is asked, and the resolved file, links
//! followed, must be beneath the resolved folder.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use percent_encoding::percent_decode_str;

/// What a directory shows.
const INDEX: &str = "index.html";

/// A file that was asked for.
#[derive(Debug)]
pub struct Found {
    /// The open file, at its beginning.
    pub file: File,
    /// Its length in bytes.
    pub length: u64,
    /// Changes whenever length or time of change do (RFC 9110 §8.8.3).
    pub etag: String,
    /// From its name.
    pub content_type: &'static str,
}

/// Finds the file of a raw request path; `None` when there is none to show. Blocks on the disk.
pub fn find(folder: &Path, path: &str) -> Option<Found> {
    let folder = folder.canonicalize().ok()?;
    let file = folder.join(relative(path)?).canonicalize().ok()?;
    if !file.starts_with(&folder) {
        return None;
    }
    let opened = File::open(&file).ok()?;
    let metadata = opened.metadata().ok()?;
    if !metadata.is_file() {
        return None;
    }
    let changed = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos();
    let length = metadata.len();
    let extension = file.extension().and_then(|text| text.to_str()).unwrap_or("");
    Some(Found {
        file: opened,
        length,
        etag: format!("\"{length:x}-{changed:x}\""),
        content_type: content_type(extension),
    })
}

/// The path inside the folder that a raw request path names.
fn relative(path: &str) -> Option<PathBuf> {
    let mut relative = PathBuf::new();
    let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    let (last, above) = segments.split_last()?;
    for segment in above.iter().chain((!last.is_empty()).then_some(last)) {
        let name = percent_decode_str(segment).decode_utf8().ok()?;
        let plain = !name.is_empty() && !name.starts_with('.');
        if !plain || name.contains(['/', '\\', '\0']) {
            return None;
        }
        relative.push(name.as_ref());
    }
    if last.is_empty() {
        relative.push(INDEX);
    }
    Some(relative)
}

/// Says whether a client's `If-None-Match` names the file as it is (RFC 9110 §13.1.2).
pub fn is_known(if_none_match: &str, etag: &str) -> bool {
    let mut tags = if_none_match.split(',').map(|tag| tag.trim());
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

fn content_type(extension: &str) -> &'static str {
    match extension.to_ascii_lowercase().as_str() {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "wasm" => "application/wasm",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff" => "font/woff",
        "woff2" => "font/woff2",
        "ttf" => "font/ttf",
        "mp3" => "audio/mpeg",
        "ogg" => "audio/ogg",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests;
