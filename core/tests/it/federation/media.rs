//! Files of other servers: fetched once, kept while there is room, and never trusted more than a file of one's own.

use std::{path::Path, time::Duration};

use colonnade_federation::transport::Request;
use colonnade_testkit::{
    Client, Method, RawAnswer,
    federation::Federation,
    peer::{self, Asked, PeerAddress},
};
use serde_json::Value;

const DOWNLOAD: &str = "/_matrix/client/v1/media/download";
const OLD_DOWNLOAD: &str = "/_matrix/media/v3/download";
const THUMBNAIL: &str = "/_matrix/client/v1/media/thumbnail";
/// A picture of one pixel.
const GIF: &[u8] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\
    \x01\x00\x01\x00\x00\x02\x02D\x01\x00;";

/// Uploads and returns `hs1/<media id>`.
async fn uploaded(user: &Client, kind: &str, name: &str, bytes: &[u8]) -> String {
    let path = format!("/_matrix/media/v3/upload?filename={name}");
    let sent = user.raw(Method::POST, &path, &[("content-type", kind)], bytes.to_vec()).await;
    place(&sent.answer().ok())
}

fn place(body: &Value) -> String {
    body["content_uri"].as_str().unwrap().strip_prefix("mxc://").unwrap().to_owned()
}

async fn download(user: &Client, place: &str) -> RawAnswer {
    user.raw(Method::GET, &format!("{DOWNLOAD}/{place}"), &[], vec![]).await
}

/// Files below a folder that are no thumbnails, nor written aside.
fn files(folder: &Path) -> usize {
    let mut found = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_whole = path.extension().is_none();
        found += if path.is_dir() { files(&path) } else { usize::from(is_whole) };
    }
    found
}

/// An answer of the authenticated endpoint whose second part has this head and body.
fn two_parts(head: &str, body: &[u8]) -> Vec<u8> {
    let before =
        format!("--xx\r\nContent-Type: application/json\r\n\r\n{{}}\r\n--xx\r\n{head}\r\n");
    let body = [before.as_bytes(), body, b"\r\n--xx--"].concat();
    peer::ok("content-type: multipart/mixed; boundary=xx\r\n", &body)
}

#[tokio::test]
async fn a_file_of_another_server_is_fetched_kept_and_made_small() {
    let servers = Federation::start(2).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let picture = uploaded(&alice, "image/gif", "dot.gif", GIF).await;
    let got = download(&bob, &picture).await;
    assert_eq!((got.status, &got.bytes[..]), (200, GIF));
    assert_eq!(got.header("content-type"), "image/gif");
    // Where servers ask that know the endpoint as it was proposed.
    let id = picture.strip_prefix("hs1/").unwrap();
    let before = "/_matrix/federation/unstable/org.matrix.msc3916.v2/media";
    for address in
        [format!("{before}/download/{id}"), format!("{before}/thumbnail/{id}?width=32&height=32")]
    {
        let transport = &servers[1].inside().await.services.transport;
        let asked = transport.send("hs1".try_into().unwrap(), Request::get(address)).await;
        let kind = asked.unwrap().headers["content-type"].to_str().unwrap().to_owned();
        assert!(kind.starts_with("multipart/mixed"), "{kind}");
    }
    assert_eq!(got.header("content-disposition"), "inline; filename=dot.gif");
    let policy = got.header("content-security-policy");
    assert!(policy.contains("sandbox"), "{policy}");
    // A name may be a script to a browser; it is only saved.
    let page = uploaded(&alice, "text/html", "page.html", b"<script>").await;
    let got = download(&bob, &page).await;
    assert_eq!(got.header("content-disposition"), "attachment; filename=page.html");
    let large: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
    let large_place = uploaded(&alice, "application/x-large", "large", &large).await;
    assert!(download(&bob, &large_place).await.bytes[..] == large[..]);
    servers.cut(0);
    let got = download(&bob, &picture).await;
    assert_eq!((got.status, &got.bytes[..]), (200, GIF), "it is kept");
    let small = format!("{THUMBNAIL}/{picture}?width=32&height=32&method=crop");
    let small = bob.raw(Method::GET, &small, &[], vec![]).await;
    assert_eq!(small.status, 200, "it is made here");
    assert!(["image/jpeg", "image/png"].contains(&small.header("content-type")));
    assert_eq!(download(&bob, "hs1/unseen").await.answer().status, 502);
    servers.mend(0);
    // It is left alone for a moment.
    let answered = async {
        while download(&bob, "hs1/unseen").await.status == 502 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), answered).await.unwrap();
    download(&bob, "hs1/unseen").await.answer().err(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn another_server_gets_files_and_thumbnails_by_its_signature_alone() {
    let servers = Federation::start(2).await;
    let alice = servers[0].user("alice").await;
    let picture = uploaded(&alice, "image/gif", "dot.gif", GIF).await;
    let id = picture.strip_prefix("hs1/").unwrap();
    let transport = servers[1].inside().await.services.transport.clone();
    for (path, kind) in [
        (format!("download/{id}"), "image/gif"),
        (format!("thumbnail/{id}?width=32&height=32&method=scale"), "image/"),
    ] {
        let path = format!("/_matrix/federation/v1/media/{path}");
        let stranger = servers[0].anonymous().get(&path).await;
        stranger.err(401, "M_UNAUTHORIZED");
        let request = colonnade_federation::transport::Request::get(path);
        let answer = transport.send("hs1".try_into().unwrap(), request).await.unwrap();
        let sort = answer.headers["content-type"].to_str().unwrap().to_owned();
        assert!(sort.starts_with("multipart/mixed; boundary="), "{sort}");
        let body = answer.bytes().await.unwrap();
        let text = String::from_utf8_lossy(&body);
        assert!(text.contains("Content-Type: application/json\r\n\r\n{}\r\n--"), "{text}");
        assert!(text.contains(&format!("\r\nContent-Type: {kind}")), "{text}");
    }
}

#[tokio::test]
async fn an_upload_that_is_still_to_come_is_waited_for() {
    let servers = Federation::start(2).await;
    let (alice, bob) = (servers[0].user("alice").await, servers[1].user("bob").await);
    let made = alice.post("/_matrix/media/v1/create", serde_json::json!({})).await.ok();
    let place = place(&made);
    let soon = format!("{place}?timeout_ms=10");
    download(&bob, &soon).await.answer().err(504, "M_NOT_YET_UPLOADED");
    // That is no reason to leave the server alone.
    download(&bob, &soon).await.answer().err(504, "M_NOT_YET_UPLOADED");
    let waiting = tokio::spawn({
        let (bob, place) = (bob.clone(), place.clone());
        async move { download(&bob, &place).await }
    });
    let path = format!("/_matrix/media/v3/upload/{place}");
    let sent = alice.raw(Method::PUT, &path, &[("content-type", "image/gif")], GIF.to_vec()).await;
    sent.answer().ok();
    assert_eq!(&waiting.await.unwrap().bytes[..], GIF);
}

#[tokio::test]
async fn a_file_is_fetched_once_for_all_who_wait() {
    let place = PeerAddress::at("127.0.0.9", "old").await;
    let servers = Federation::with(1, |_, settings| place.tell(settings)).await;
    let peer = place.answer(&servers.authority, |asked: &Asked| {
        match asked.target.starts_with("/_matrix/federation/v1/media/download/one?") {
            true => two_parts("Content-Type: image/gif\r\n", GIF),
            false => peer::error("404 Not Found", "M_NOT_FOUND"),
        }
    });
    let bob = servers[0].user("bob").await;
    // Whoever asks while it is on its way, and whoever asks when it is there.
    let all = (0..10).map(|_| download(&bob, "old/one"));
    for got in futures_util::future::join_all(all).await {
        assert_eq!((got.status, &got.bytes[..]), (200, GIF));
    }
    assert_eq!(peer.asked().len(), 1, "one process does it");
    download(&bob, "old/two").await.answer().err(404, "M_NOT_FOUND");
}

#[tokio::test]
async fn servers_that_know_only_the_old_endpoint_are_asked_there() {
    let (place, elsewhere) = (
        PeerAddress::at("127.0.0.9", "old").await,
        PeerAddress::at("127.0.0.10", "127.0.0.10").await,
    );
    let servers = Federation::with(1, |_, settings| place.tell(settings)).await;
    let at = elsewhere.address();
    let _keeper = elsewhere.answer(&servers.authority, |_: &Asked| peer::ok("", GIF));
    let moved = |to: &str| {
        format!("HTTP/1.1 307 Moved\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into_bytes()
    };
    let peer = place.answer(&servers.authority, move |asked: &Asked| {
        match asked.target.starts_with("/_matrix/media/v3/download/old/") {
            true if asked.target.contains("/one?") => peer::ok("content-type: image/gif\r\n", GIF),
            true if asked.target.contains("/moved?") => moved(&format!("https://{at}/file")),
            true => moved("https://10.1.2.3/secret"),
            false => peer::error("404 Not Found", "M_UNRECOGNIZED"),
        }
    });
    let bob = servers[0].user("bob").await;
    assert_eq!(&download(&bob, "old/one").await.bytes[..], GIF);
    let last = peer.asked().pop().unwrap().target;
    assert!(last.contains("allow_remote=false&allow_redirect=true"), "{last}");
    // It says where the file is: followed, but not into a network that is not asked.
    assert_eq!(&download(&bob, "old/moved").await.bytes[..], GIF);
    download(&bob, "old/inside").await.answer().err(502, "M_UNKNOWN");
}

#[tokio::test]
async fn a_file_may_be_elsewhere_but_not_in_a_network_that_is_not_asked() {
    let (place, elsewhere) = (
        PeerAddress::at("127.0.0.9", "old").await,
        PeerAddress::at("127.0.0.10", "127.0.0.10").await,
    );
    let servers = Federation::with(1, |_, settings| place.tell(settings)).await;
    let at = elsewhere.address();
    let _keeper = elsewhere.answer(&servers.authority, |_: &Asked| {
        peer::ok("content-type: image/gif\r\ncontent-disposition: inline; filename=a.gif\r\n", GIF)
    });
    let _peer = place.answer(&servers.authority, move |asked: &Asked| {
        let to = match asked.target.contains("/inside?") {
            true => "https://10.1.2.3/secret".to_owned(),
            false => format!("https://{at}/file"),
        };
        let to = if asked.target.contains("/plain?") { format!("http://{at}/file") } else { to };
        two_parts(&format!("Location: {to}\r\n"), b"")
    });
    let bob = servers[0].user("bob").await;
    let got = download(&bob, "old/moved").await;
    assert_eq!((got.status, &got.bytes[..]), (200, GIF));
    assert_eq!(got.header("content-disposition"), "inline; filename=a.gif");
    download(&bob, "old/inside").await.answer().err(502, "M_UNKNOWN");
    download(&bob, "old/plain").await.answer().err(502, "M_UNKNOWN");
}

#[tokio::test]
async fn what_is_too_large_is_not_taken_and_what_was_not_asked_for_goes() {
    let place = PeerAddress::at("127.0.0.9", "old").await;
    let servers = Federation::with(1, |_, settings| {
        place.tell(settings);
        settings.media.remote_file_bytes_max = 100_000;
        settings.media.remote_bytes_max = 250_000;
    })
    .await;
    let peer = place.answer(&servers.authority, |asked: &Asked| {
        let whole = vec![b'x'; 100_000];
        let more = vec![b'x'; 100_001];
        match asked.target.contains("/said?") {
            _ if asked.target.contains("/file") => two_parts("", &whole),
            // Its length says so.
            true => two_parts("", &vec![b'x'; 300_000]),
            // It turns out when it is read.
            false if asked.target.contains("/more?") => two_parts("", &more),
            false => {
                let broken = two_parts("", &whole);
                [&broken[..50_000], b"\r\n--xx--"].concat()
            }
        }
    });
    let bob = servers[0].user("bob").await;
    for large in ["said", "more"] {
        let refused = download(&bob, &format!("old/{large}")).await;
        refused.answer().err(502, "M_TOO_LARGE");
    }
    let media = servers[0].data_dir.join("media");
    assert_eq!(files(&media), 0);
    for number in 0..5 {
        assert_eq!(download(&bob, &format!("old/file{number}")).await.bytes.len(), 100_000);
    }
    assert_eq!(files(&media), 2, "two of them have room");
    let before = peer.asked().len();
    download(&bob, "old/file4").await;
    assert_eq!(peer.asked().len(), before);
    assert_eq!(download(&bob, "old/file0").await.status, 200);
    assert_eq!(peer.asked().len(), before + 1, "it is fetched again");
}

#[tokio::test]
async fn strangers_are_shown_only_what_the_old_endpoints_may_show() {
    let servers = Federation::with(3, |number, settings| {
        settings.media.unauthenticated_until_ms = Some(if number == 1 { i64::MAX } else { 0 });
    })
    .await;
    let alice = servers[0].user("alice").await;
    let picture = uploaded(&alice, "image/gif", "dot.gif", GIF).await;
    let path = format!("{OLD_DOWNLOAD}/{picture}");
    let here = format!("{path}?allow_remote=false");
    servers[1].anonymous().get(&here).await.err(404, "M_NOT_FOUND");
    let got = servers[1].anonymous().raw(Method::GET, &path, &[], vec![]).await;
    assert_eq!(&got.bytes[..], GIF);
    let got = servers[1].anonymous().raw(Method::GET, &here, &[], vec![]).await;
    assert_eq!(&got.bytes[..], GIF, "it is here now");
    servers[2].anonymous().get(&path).await.err(404, "M_NOT_FOUND");
}
