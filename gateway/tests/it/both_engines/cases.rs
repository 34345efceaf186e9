//! What clients send and workers say when both engines are compared, and how it is generated.

use std::net::SocketAddr;

use proptest::prelude::*;

use crate::worker::Seen;

/// Requests that no gateway may take for one, or not in one way.
const HOSTILE: [&str; 15] = [
    "GET / HTTP/1.1\r\nhost: h\r\nhost: h\r\n\r\n",
    "GET / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.1\nhost: h\n\n",
    "GET /a#b HTTP/1.1\r\nhost: h\r\n\r\n",
    "GET /a/../b HTTP/1.1\r\nhost: h\r\n\r\n",
    "GET /%zz HTTP/1.1\r\nhost: h\r\n\r\n",
    "GET * HTTP/1.1\r\nhost: h\r\n\r\n",
    "GET http://i/a HTTP/1.1\r\nhost: h\r\n\r\n",
    "CONNECT h:80 HTTP/1.1\r\nhost: h:80\r\n\r\n",
    "GET / HTTP/1.1\r\nhost: h\r\nx: y\r\n z\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nz",
    "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
    "POST /long HTTP/1.1\r\nhost: h\r\ncontent-length: 5000\r\n\r\n",
];

const METHODS: [&str; 6] = ["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"];

const TARGETS: [&str; 7] = [
    "/a",
    "/a?b=c&d",
    "/%21a%3Ab",
    "http://h/abs",
    "/away",
    "/denied",
    "/.well-known/matrix/client",
];

const STATUSES: [u16; 6] = [200, 201, 204, 304, 404, 500];

/// Something a client sends.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    Hostile(&'static str),
    Request { method: &'static str, target: &'static str, http10: bool, body: Framed, extras: u8 },
    Switch,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Framed {
    None,
    Length(usize),
    Chunks(usize),
}

/// Something a worker does with a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Say {
    Length { status: u16, length: usize, extras: u8 },
    Chunks { status: u16, length: usize, extras: u8 },
    UntilClose { status: u16, length: usize },
    Trailers,
    Hints,
    NotOwner,
    Switch,
    CutInHead,
    CutInBody,
    CutInChunks,
    NoHttp,
    Nothing,
}

pub(super) fn ask() -> impl Strategy<Value = Ask> {
    let request = (
        0..METHODS.len(),
        0..TARGETS.len(),
        prop::bool::weighted(0.2),
        0..3u8,
        0..3_000usize,
        0..128u8,
    )
        .prop_map(|(method, target, http10, framing, length, extras)| Ask::Request {
            method: METHODS[method],
            target: TARGETS[target],
            http10,
            body: match framing {
                0 => Framed::None,
                // Chunks are of HTTP/1.1.
                2 if !http10 => Framed::Chunks(length),
                _ => Framed::Length(length),
            },
            extras,
        });
    prop_oneof![
        8 => request,
        2 => (0..HOSTILE.len()).prop_map(|which| Ask::Hostile(HOSTILE[which])),
        1 => Just(Ask::Switch),
    ]
}

pub(super) fn say() -> impl Strategy<Value = Say> {
    let status = (0..STATUSES.len()).prop_map(|which| STATUSES[which]);
    let parts = (status, 0..20_000usize, 0..16u8);
    prop_oneof![
        4 => parts.clone().prop_map(|(status, length, extras)| Say::Length { status, length, extras }),
        3 => parts.clone().prop_map(|(status, length, extras)| Say::Chunks { status, length, extras }),
        2 => parts.prop_map(|(status, length, _)| Say::UntilClose { status, length }),
        1 => Just(Say::Trailers),
        1 => Just(Say::Hints),
        1 => Just(Say::NotOwner),
        2 => Just(Say::Switch),
        1 => Just(Say::CutInHead),
        1 => Just(Say::CutInBody),
        1 => Just(Say::CutInChunks),
        1 => Just(Say::NoHttp),
        2 => Just(Say::Nothing),
    ]
}

impl Ask {
    pub(super) fn is_head(&self) -> bool {
        matches!(self, Self::Request { method: "HEAD", .. })
    }

    pub(super) fn is_http10(&self) -> bool {
        matches!(self, Self::Request { http10: true, .. })
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let (method, target, http10, body, extras) = match self {
            Self::Hostile(text) => return text.as_bytes().to_vec(),
            Self::Switch => {
                let text = "GET /a HTTP/1.1\r\nhost: h\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n";
                return text.as_bytes().to_vec();
            }
            Self::Request { method, target, http10, body, extras } => {
                (method, target, *http10, *body, *extras)
            }
        };
        let version = if http10 { "HTTP/1.0" } else { "HTTP/1.1" };
        let mut out = format!("{method} {target} {version}\r\nHost: h\r\n");
        let lines = [
            "connection: close\r\n",
            "connection: x-own\r\nx-own: 1\r\n",
            "te: trailers\r\n",
            "cookie: a=b\r\ncookie: c=d\r\n",
            "expect: 100-continue\r\n",
            "x-forwarded-for: 9.9.9.9\r\ntraceparent: t\r\n",
            "x-request-id: given\r\nproxy-connection: keep-alive\r\n",
        ];
        for (bit, line) in lines.iter().enumerate() {
            if extras & (1 << bit) != 0 {
                out.push_str(line);
            }
        }
        match body {
            Framed::None => out.push_str("\r\n"),
            Framed::Length(length) => {
                out.push_str(&format!("content-length: {length}\r\n\r\n{}", "b".repeat(length)));
            }
            Framed::Chunks(length) => {
                out.push_str("transfer-encoding: chunked\r\n\r\n");
                if length > 0 {
                    out.push_str(&format!("{length:X};ext=1\r\n{}\r\n", "c".repeat(length)));
                }
                out.push_str("0\r\ntrailer: t\r\n\r\n");
            }
        }
        out.into_bytes()
    }
}

impl Say {
    /// What is written for a request, and whether the worker closes behind it.
    pub(super) fn bytes(self, seen: &Seen, owner: SocketAddr) -> (Vec<u8>, bool) {
        let head = |status: u16, rest: &str| format!("HTTP/1.1 {status} said\r\n{rest}\r\n");
        let bodiless = |status: u16| seen.method == "HEAD" || matches!(status, 204 | 304);
        let text = match self {
            Self::Length { status, length, extras } => {
                let length = if bodiless(status) { 0 } else { length };
                let line = format!("content-length: {length}\r\n{}", lines(extras));
                return (
                    [head(status, &line), "l".repeat(length)].concat().into(),
                    extras & 1 != 0,
                );
            }
            Self::Chunks { status, length, extras } => {
                let line = format!("transfer-encoding: chunked\r\n{}", lines(extras));
                let mut text = head(status, &line);
                if !bodiless(status) {
                    if length > 0 {
                        text.push_str(&format!("{length:x}\r\n{}\r\n", "k".repeat(length)));
                    }
                    text.push_str("0\r\n\r\n");
                }
                return (text.into(), extras & 1 != 0);
            }
            Self::UntilClose { status, length } => {
                let length = if bodiless(status) { 0 } else { length };
                [head(status, ""), "u".repeat(length)].concat()
            }
            Self::Trailers => {
                let body = if bodiless(200) { "" } else { "3;a=b\r\nabc\r\n0\r\nt: u\r\n\r\n" };
                return (
                    [head(200, "transfer-encoding: chunked\r\n").as_str(), body].concat().into(),
                    false,
                );
            }
            Self::Hints => {
                let hints = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: x\r\n\r\n";
                let body = if bodiless(200) { "" } else { "ok" };
                return ([hints, &head(200, "content-length: 2\r\n"), body].concat().into(), false);
            }
            Self::NotOwner => {
                let line = format!("content-length: 0\r\nx-colonnade-owner: {owner}\r\n");
                return (head(421, &line).into(), false);
            }
            Self::Switch => {
                let line = "connection: Upgrade\r\nupgrade: websocket\r\n";
                [head(101, line).as_str(), "hello"].concat()
            }
            Self::CutInHead => "HTTP/1.1 200 said\r\ncontent-le".to_owned(),
            Self::CutInBody => [head(200, "content-length: 100\r\n").as_str(), "cut"].concat(),
            Self::CutInChunks => {
                [head(200, "transfer-encoding: chunked\r\n").as_str(), "5\r\ncut"].concat()
            }
            Self::NoHttp => "no HTTP\r\n\r\n".to_owned(),
            Self::Nothing => String::new(),
        };
        (text.into_bytes(), true)
    }
}

fn lines(extras: u8) -> String {
    let lines = [
        "connection: close\r\n",
        "connection: x-gone\r\nx-gone: 1\r\nkeep-alive: timeout=5\r\n",
        "set-cookie: a\r\nset-cookie: b\r\nx-request-id: worker\r\n",
        "access-control-allow-origin: https://a\r\n",
    ];
    let chosen = lines.iter().enumerate().filter(|(bit, _)| extras & (1 << bit) != 0);
    chosen.map(|(_, line)| *line).collect()
}
