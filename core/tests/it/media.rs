//! Uploads, downloads and thumbnails through the API, and what lies on disk behind them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::{path::Path, time::Duration};

use colonnade_testkit::{Client, Method, RawAnswer, TestServer, server::open_settings};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const UPLOAD: &str = "/_matrix/media/v3/upload";
const CREATE: &str = "/_matrix/media/v1/create";
const DOWNLOAD: &str = "/_matrix/client/v1/media/download";
const THUMBNAIL: &str = "/_matrix/client/v1/media/thumbnail";
/// A picture of one pixel.
const GIF: &[u8] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\
    \x01\x00\x01\x00\x00\x02\x01D\x00;";

async fn upload(user: &Client, kind: &str, name: &str, bytes: &[u8]) -> RawAnswer {
    let path = format!("{UPLOAD}?filename={name}");
    user.raw(Method::POST, &path, &[("content-type", kind)], bytes.to_vec()).await
}

/// Uploads and returns `localhost/<media id>`.
async fn uploaded(user: &Client, kind: &str, name: &str, bytes: &[u8]) -> String {
    let body = upload(user, kind, name, bytes).await.answer().ok();
    place(&body)
}

fn place(body: &Value) -> String {
    let uri = body["content_uri"].as_str().unwrap();
    uri.strip_prefix("mxc://").unwrap().to_owned()
}

async fn download(user: &Client, place: &str) -> RawAnswer {
    user.raw(Method::GET, &format!("{DOWNLOAD}/{place}"), &[], vec![]).await
}

async fn thumbnail(user: &Client, place: &str, query: &str) -> RawAnswer {
    user.raw(Method::GET, &format!("{THUMBNAIL}/{place}?{query}"), &[], vec![]).await
}

/// A server whose old endpoints serve everything.
async fn open_to_all() -> TestServer {
    let mut settings = open_settings();
    settings.media.unauthenticated_until_ms = Some(i64::MAX);
    TestServer::with_settings(settings).await
}

/// Files below a folder.
pub(crate) fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(data.len()).unwrap().to_be_bytes().to_vec();
    let body = [&name[..], data].concat();
    bytes.extend_from_slice(&body);
    bytes.extend_from_slice(&crc32(&body).to_be_bytes());
    bytes
}

/// A grey PNG that says it has `width` × `height` pixels and holds `rows` rows of them.
fn png(width: u32, height: u32, rows: u32) -> Vec<u8> {
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    header.extend_from_slice(&[8, 0, 0, 0, 0]);
    let row = vec![0u8; usize::try_from(width).unwrap() + 1];
    let mut data = vec![0x78, 0x01];
    let (mut low, mut high) = (1u32, 0u32);
    for n in 0..rows {
        let length = u16::try_from(row.len()).unwrap();
        data.push(u8::from(n + 1 == rows));
        data.extend_from_slice(&length.to_le_bytes());
        data.extend_from_slice(&(!length).to_le_bytes());
        data.extend_from_slice(&row);
        for byte in &row {
            low = (low + u32::from(*byte)) % 65_521;
            high = (high + low) % 65_521;
        }
    }
    data.extend_from_slice(&((high << 16) | low).to_be_bytes());
    let signature = b"\x89PNG\r\n\x1a\n".to_vec();
    [signature, chunk(b"IHDR", &header), chunk(b"IDAT", &data), chunk(b"IEND", &[])].concat()
}

/// Reads width and height of a JPEG.
fn jpeg_size(bytes: &[u8]) -> (u16, u16) {
    let mut at = 2;
    loop {
        let length = usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
        if matches!(bytes[at + 1], 0xc0..=0xc2) {
            let number = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            return (number(at + 7), number(at + 5));
        }
        at += 2 + length;
    }
}

#[tokio::test]
async fn a_file_comes_back_as_it_went() {
    let server = open_to_all().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let bytes: Vec<u8> = (0..700_000u32).flat_map(u32::to_le_bytes).collect();
    let place = uploaded(&alice, "image/png", "d%C3%B6g.png", &bytes).await;
    let server = server.restart().await;
    let (alice, bob) = (alice.at(&server.url), bob.at(&server.url));
    for user in [&alice, &bob] {
        let answer = download(user, &place).await;
        assert_eq!(answer.status, 200);
        assert!(answer.bytes == bytes);
        assert_eq!(answer.header("content-type"), "image/png");
        let disposition = answer.header("content-disposition");
        assert_eq!(disposition, "inline; filename*=utf-8''d%C3%B6g.png");
        assert_eq!(answer.header("cross-origin-resource-policy"), "cross-origin");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert!(
            answer.header("content-security-policy").starts_with("sandbox; default-src 'none'")
        );
        assert!(answer.header("cache-control").contains("private"));
        assert_eq!(answer.header("content-length"), bytes.len().to_string());
    }
    let answer = download(&bob, &format!("{place}/a%2Fb.html")).await;
    assert_eq!(answer.header("content-disposition"), "inline; filename=\"a/b.html\"");
    let anybody = server.anonymous();
    download(&anybody, &place).await.answer().err(401, "M_MISSING_TOKEN");
    for version in ["v3", "v1", "r0"] {
        let path = format!("/_matrix/media/{version}/download/{place}");
        let answer = anybody.raw(Method::GET, &path, &[], vec![]).await;
        assert_eq!((answer.status, answer.bytes.len()), (200, bytes.len()));
        assert!(answer.header("cache-control").contains("public"));
    }
    let head = bob.raw(Method::HEAD, &format!("{DOWNLOAD}/{place}"), &[], vec![]).await;
    assert_eq!((head.status, head.header("content-length")), (200, "2800000"));
    assert!(head.bytes.is_empty());
}

#[tokio::test]
async fn what_a_browser_may_show() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    for (kind, shown) in [
        ("image/webp", "inline"),
        ("text/plain; charset=utf-8", "inline"),
        ("text/html", "attachment"),
        ("image/svg+xml", "attachment"),
        ("application/xhtml+xml", "attachment"),
        ("application/pdf", "attachment"),
    ] {
        let place = uploaded(&alice, kind, "", b"x").await;
        let answer = download(&alice, &place).await;
        assert_eq!(answer.header("content-type"), kind);
        assert_eq!(answer.header("content-disposition"), shown);
    }
    let body = alice.raw(Method::POST, UPLOAD, &[], vec![]).await.answer().ok();
    let answer = download(&alice, &place(&body)).await;
    assert_eq!(answer.header("content-type"), "application/octet-stream");
    assert_eq!((answer.status, answer.bytes.len()), (200, 0));
}

#[tokio::test]
async fn parts_and_caches() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let place = uploaded(&alice, "video/mp4", "a.mp4", b"0123456789").await;
    let path = format!("{DOWNLOAD}/{place}");
    let get = |headers: &'static [(&'static str, &'static str)]| {
        alice.raw(Method::GET, &path, headers, vec![])
    };
    let answer = get(&[("range", "bytes=2-4")]).await;
    assert_eq!((answer.status, &answer.bytes[..]), (206, &b"234"[..]));
    assert_eq!(answer.header("content-range"), "bytes 2-4/10");
    let answer = get(&[("range", "bytes=-3")]).await;
    assert_eq!((answer.status, &answer.bytes[..]), (206, &b"789"[..]));
    let answer = get(&[("range", "bytes=10-")]).await;
    assert_eq!((answer.status, answer.header("content-range")), (416, "bytes */10"));
    let answer = get(&[("range", "bytes=2-4"), ("if-range", "\"other\"")]).await;
    assert_eq!((answer.status, answer.bytes.len()), (200, 10));
    let etag = answer.header("etag").to_owned();
    let again = alice.raw(Method::GET, &path, &[("if-none-match", &etag)], vec![]).await;
    assert_eq!((again.status, again.bytes.len()), (304, 0));
}

#[tokio::test]
async fn the_same_file_is_stored_once() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let first = uploaded(&alice, "text/plain", "a.txt", b"the same").await;
    let second = uploaded(&bob, "text/css", "b.css", b"the same").await;
    assert_ne!(first, second);
    assert_eq!(files(&server.data_dir.join("media")).len(), 1);
    let answer = download(&alice, &second).await;
    assert_eq!(answer.header("content-disposition"), "inline; filename=b.css");
}

#[tokio::test]
async fn large_uploads_are_refused_early_and_late() {
    let mut settings = open_settings();
    settings.media.upload_bytes_max = 100_000;
    let server = TestServer::with_settings(settings).await;
    let alice = server.user("alice").await;
    for path in ["/_matrix/client/v1/media/config", "/_matrix/media/v3/config"] {
        assert_eq!(alice.get(path).await.ok()["m.upload.size"], 100_000);
    }
    uploaded(&alice, "text/plain", "", &vec![0; 100_000]).await;
    let large = vec![0; 3_000_000];
    upload(&alice, "text/plain", "", &large).await.answer().err(413, "M_TOO_LARGE");
    // Without a length, it is noticed on the way.
    let mut text = format!(
        "POST {UPLOAD} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n\
         transfer-encoding: chunked\r\nconnection: close\r\n\r\n",
        alice.token.as_deref().unwrap()
    )
    .into_bytes();
    for _ in 0..3 {
        text.extend_from_slice(b"c350\r\n");
        text.extend_from_slice(&[b'x'; 50_000]);
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"0\r\n\r\n");
    let mut socket = TcpStream::connect(server.url.trim_start_matches("http://")).await.unwrap();
    socket.write_all(&text).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("M_TOO_LARGE"));
    assert_eq!(files(&server.data_dir.join("media")).len(), 1);
}

#[tokio::test]
async fn a_truncated_upload_leaves_nothing() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let text = format!(
        "POST {UPLOAD} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n\
         content-length: 1000000\r\n\r\n",
        alice.token.as_deref().unwrap()
    );
    let mut socket = TcpStream::connect(server.url.trim_start_matches("http://")).await.unwrap();
    socket.write_all(text.as_bytes()).await.unwrap();
    socket.write_all(&vec![1; 600_000]).await.unwrap();
    let folder = server.data_dir.join("media");
    wait_for(|| files(&folder).len() == 1).await;
    drop(socket);
    wait_for(|| files(&folder).is_empty()).await;
    server
        .anonymous()
        .raw(Method::POST, UPLOAD, &[], vec![1; 100_000])
        .await
        .answer()
        .err(401, "M_MISSING_TOKEN");
    assert!(files(&folder).is_empty());
}

pub(crate) async fn wait_for(condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "it never came to that");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn upload_later() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let body = alice.post(CREATE, serde_json::json!({})).await.ok();
    let now_ms = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis());
    assert!(body["unused_expires_at"].as_i64().unwrap() > now_ms.unwrap() + 3_600_000);
    let place = place(&body);
    let path = format!("/_matrix/media/v3/upload/{place}");
    let put = |user: &Client, bytes: &[u8]| {
        let (user, path, bytes) = (user.clone(), path.clone(), bytes.to_vec());
        async move { user.raw(Method::PUT, &path, &[], bytes).await.answer() }
    };
    download(&alice, &format!("{place}?timeout_ms=0"))
        .await
        .answer()
        .err(504, "M_NOT_YET_UPLOADED");
    put(&bob, b"mine now").await.err(403, "M_FORBIDDEN");
    // A download that waits gets the content when it comes.
    let query = format!("{place}?timeout_ms=40000");
    let (waited, filled) = tokio::join!(download(&bob, &query), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        put(&alice, b"here it is").await
    });
    filled.ok();
    assert_eq!((waited.status, &waited.bytes[..]), (200, &b"here it is"[..]));
    put(&alice, b"changed").await.err(409, "M_CANNOT_OVERWRITE_MEDIA");
    let unknown = "/_matrix/media/v3/upload/localhost/neverCreated";
    alice.raw(Method::PUT, unknown, &[], vec![1]).await.answer().err(404, "M_NOT_FOUND");
    let elsewhere = path.replace("localhost", "elsewhere.org");
    alice.raw(Method::PUT, &elsewhere, &[], vec![1]).await.answer().err(404, "M_NOT_FOUND");
    download(&alice, &format!("{place}?timeout_ms=soon"))
        .await
        .answer()
        .err(400, "M_INVALID_PARAM");
}

#[tokio::test]
async fn ids_without_content_are_few() {
    let server = TestServer::start().await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let mut made = Vec::new();
    let refused = loop {
        let answer = alice.post(CREATE, serde_json::json!({})).await;
        if answer.status != 200 {
            break answer;
        }
        made.push(place(&answer.body));
        assert!(made.len() <= 1_000);
    };
    let body = refused.err(429, "M_LIMIT_EXCEEDED");
    assert!(body["retry_after_ms"].as_u64().unwrap() > 0);
    bob.post(CREATE, serde_json::json!({})).await.ok();
    let path = format!("/_matrix/media/v3/upload/{}", made[0]);
    alice.raw(Method::PUT, &path, &[], vec![1]).await.answer().ok();
    alice.post(CREATE, serde_json::json!({})).await.ok();
}

#[tokio::test]
async fn names_lead_nowhere() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let long = "a".repeat(5_000);
    for place in [
        "localhost/nothing",
        "localhost/..%2F..%2Fsigning.key",
        "localhost/%2Fetc%2Fpasswd",
        "localhost/%252e%252e",
        "localhost/a%00b",
        "localhost/%ff",
        "..%2F..%2F/x",
        "elsewhere.org/abc",
        "not%20a%20server/abc",
        &format!("localhost/{long}"),
    ] {
        let answer = download(&alice, place).await.answer();
        assert!([400, 404].contains(&answer.status), "{place}: {}", answer.status);
        let answer = thumbnail(&alice, place, "width=9&height=9").await.answer();
        assert!([400, 404].contains(&answer.status), "{place}: {}", answer.status);
    }
    let long_name = "n".repeat(5_000);
    upload(&alice, "a/b", &long_name, b"").await.answer().err(400, "M_INVALID_PARAM");
    let place = uploaded(&alice, "text/plain", "..%2F..%2Fx%0d%0aX-Y:%20z", b"q").await;
    let answer = download(&alice, &place).await;
    assert_eq!(answer.header("content-disposition"), "inline; filename=\"../../xX-Y: z\"");
    assert_eq!(answer.header("x-y"), "");
}

#[tokio::test]
async fn old_endpoints_can_be_frozen() {
    let server = open_to_all().await;
    let alice = server.user("alice").await;
    let place = uploaded(&alice, "text/plain", "", b"old").await;
    let path = format!("/_matrix/media/v3/download/{place}");
    server.anonymous().raw(Method::GET, &path, &[], vec![]).await;
    let server = server.restart_with(|settings| {
        settings.media.unauthenticated_until_ms = Some(0);
    });
    let server = server.await;
    let anybody = server.anonymous();
    anybody.raw(Method::GET, &path, &[], vec![]).await.answer().err(404, "M_NOT_FOUND");
    let server = server.restart_with(|settings| {
        settings.media.unauthenticated_until_ms = Some(i64::MAX);
    });
    let server = server.await;
    let answer = server.anonymous().raw(Method::GET, &path, &[], vec![]).await;
    assert_eq!((answer.status, &answer.bytes[..]), (200, &b"old"[..]));
}

#[tokio::test]
async fn thumbnails() {
    let server = open_to_all().await;
    let alice = server.user("alice").await;
    let place = uploaded(&alice, "image/png", "", &png(400, 200, 200)).await;
    for (query, size) in [
        ("width=30&height=30&method=crop", (32, 32)),
        ("width=30&height=30&method=scale", (32, 16)),
        ("width=200&height=100", (320, 160)),
        ("width=320&height=240&method=crop", (320, 200)),
        ("width=2000&height=2000&animated=false", (400, 200)),
    ] {
        for _ in 0..2 {
            let answer = thumbnail(&alice, &place, query).await;
            assert_eq!(answer.status, 200, "{query}");
            assert_eq!(answer.header("content-type"), "image/jpeg");
            assert_eq!(answer.header("content-disposition"), "inline; filename=thumbnail.jpg");
            assert_eq!(jpeg_size(&answer.bytes), size, "{query}");
        }
    }
    assert_eq!(files(&server.data_dir.join("media")).len(), 6);
    let gif = uploaded(&alice, "image/gif", "", GIF).await;
    assert_eq!(jpeg_size(&thumbnail(&alice, &gif, "width=9&height=9").await.bytes), (1, 1));
    let path = format!("/_matrix/media/v3/thumbnail/{place}?width=30&height=30&method=crop");
    assert_eq!(server.anonymous().raw(Method::GET, &path, &[], vec![]).await.status, 200);
    for (query, errcode) in [
        ("height=3", "M_MISSING_PARAM"),
        ("width=0&height=3", "M_INVALID_PARAM"),
        ("width=-1&height=3", "M_INVALID_PARAM"),
        ("width=1.5&height=3", "M_INVALID_PARAM"),
        ("width=3&height=3&method=stretch", "M_INVALID_PARAM"),
    ] {
        thumbnail(&alice, &place, query).await.answer().err(400, errcode);
    }
}

#[tokio::test]
async fn bombs_and_broken_pictures() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let size = "width=32&height=32";
    for bomb in [png(60_000, 60_000, 1), png(29_000, 29_000, 1)] {
        let place = uploaded(&alice, "image/png", "", &bomb).await;
        for _ in 0..2 {
            thumbnail(&alice, &place, size).await.answer().err(413, "M_TOO_LARGE");
        }
        assert_eq!(download(&alice, &place).await.bytes, bomb);
    }
    let mut cut = png(100, 100, 100);
    cut.truncate(2_000);
    for broken in [&b""[..], b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"GIF89a", &cut] {
        let place = uploaded(&alice, "image/png", "", broken).await;
        for _ in 0..2 {
            thumbnail(&alice, &place, size).await.answer().err(400, "M_UNKNOWN");
        }
    }
}
