//! What a session is called whose client gives it no name: by its program and system, as far as the
//! `User-Agent` header says so. People tell their devices apart by these names.

use http::{HeaderMap, header};

/// The longest name of a program taken over, in characters.
const PROGRAM_CHARS_MAX: usize = 40;
/// Browsers by what marks them, the more special ones first: most claim to be others, too.
const BROWSERS: [(&str, &str); 8] = [
    ("Element/", "Element"),
    ("SchildiChat/", "SchildiChat"),
    ("Edg/", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("Electron/", "Desktop"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
];
/// Systems by what marks them, the more special ones first.
const SYSTEMS: [(&str, &str); 8] = [
    ("iPhone", "iOS"),
    ("iPad", "iPadOS"),
    ("iOS", "iOS"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
];

/// Names the client that sent a request; `None` when it says nothing of itself.
pub(crate) fn client(headers: &HeaderMap) -> Option<String> {
    let agent = headers.get(header::USER_AGENT)?.to_str().ok()?;
    named(agent)
}

fn named(agent: &str) -> Option<String> {
    let marked = |marks: &[(&str, &'static str)]| {
        marks.iter().find(|(mark, _)| agent.contains(mark)).map(|(_, name)| *name)
    };
    let program = match agent.starts_with("Mozilla/") {
        true => marked(&BROWSERS).unwrap_or("Browser").to_owned(),
        false => {
            let end = agent.find(['/', '(']).unwrap_or(agent.len());
            agent[..end].trim().chars().take(PROGRAM_CHARS_MAX).collect()
        }
    };
    if program.is_empty() {
        return None;
    }
    Some(match marked(&SYSTEMS) {
        Some(system) => format!("{program} on {system}"),
        None => program,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_named_by_program_and_system() {
        let firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
        let chrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like \
            Gecko) Chrome/140.0.0.0 Safari/537.36";
        let safari = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 \
            (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1";
        let desktop = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, \
            like Gecko) Element/1.11.90 Chrome/130.0 Electron/33.0 Safari/537.36";
        for (agent, name) in [
            (firefox, "Firefox on Linux"),
            (chrome, "Chrome on Windows"),
            (safari, "Safari on iOS"),
            (desktop, "Element on macOS"),
            ("Element X/25.01 (Android 15; Pixel 8)", "Element X on Android"),
            ("mautrix-python/0.20.6 aiohttp/3.9", "mautrix-python"),
            ("matrix-nio", "matrix-nio"),
            ("curl/8.5.0", "curl"),
        ] {
            assert_eq!(named(agent).as_deref(), Some(name), "{agent}");
        }
        assert_eq!(named(""), None);
        assert_eq!(named("/1.0"), None);
        assert_eq!(named(&"x".repeat(500)).unwrap().len(), PROGRAM_CHARS_MAX);
    }
}
