//! Requests as they come on the wire: what has several readings is refused, a wrong method is told the right
//! ones, and a body that nobody read does not cost the next request.

use std::time::Duration;

use colonnade_testkit::TestServer;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A connection to a server.
struct Wire(TcpStream);

/// An answer: status, head, body.
type Said = (u16, String, String);

impl Wire {
    async fn to(server: &TestServer) -> Self {
        let address = server.url.strip_prefix("http://").unwrap();
        Self(TcpStream::connect(address).await.unwrap())
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads one answer; none at the end.
    async fn answer(&mut self) -> Option<Said> {
        let reading = async {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(self.0.read_u8().await.ok()?);
            }
            let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
            let status = head.get(9..12)?.parse().ok()?;
            let length =
                header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
            let mut body = vec![0; length];
            self.0.read_exact(&mut body).await.ok()?;
            Some((status, head, String::from_utf8(body).unwrap()))
        };
        tokio::time::timeout(Duration::from_secs(60), reading).await.unwrap()
    }

    async fn asks(&mut self, first: &str, headers: &str) -> Said {
        self.send(format!("{first} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n")).await;
        self.answer().await.unwrap()
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_several_readings_is_refused() {
    let server = TestServer::start().await;
    let alice = server.user("alice").await;
    let token = alice.token.clone().unwrap();
    let who = "GET /_matrix/client/v3/account/whoami";
    for (first, headers, status) in [
        (format!("{who}?access_token={token}"), String::new(), 200),
        (format!("{who}?access%5Ftoken={token}"), String::new(), 400),
        (format!("{who}?access_token={token}&access_token={token}"), String::new(), 400),
        (format!("{who}?access_token={token}"), format!("authorization: Bearer {token}\r\n"), 400),
        (who.to_owned(), format!("authorization: Bearer {token}\r\n").repeat(2), 400),
        (format!("{who}?x=%"), format!("authorization: Bearer {token}\r\n"), 400),
        (format!("{who}?x=%00"), format!("authorization: Bearer {token}\r\n"), 400),
        (format!("{who}/../whoami"), format!("authorization: Bearer {token}\r\n"), 400),
        (format!("{who}/%2e%2E/whoami"), format!("authorization: Bearer {token}\r\n"), 400),
        (format!("{who}?since=1&since=2"), format!("authorization: Bearer {token}\r\n"), 400),
        (format!("{who}?{}", "x".repeat(40_000)), String::new(), 414),
    ] {
        let (got, head, body) = Wire::to(&server).await.asks(&first, &headers).await;
        assert_eq!(got, status, "{first} {body}");
        assert!(header(&head, "access-control-allow-origin").is_some(), "a browser sees why");
        assert!(status == 200 || body.contains("errcode"), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_method_is_answered_with_the_right_ones() {
    let server = TestServer::start().await;
    for (first, allow) in [
        ("DELETE /_matrix/client/versions", "get, head, options"),
        ("PATCH /_matrix/client/v3/createRoom", "options, post"),
    ] {
        let (status, head, _) = Wire::to(&server).await.asks(first, "").await;
        assert_eq!(status, 405, "{first}");
        let allowed = header(&head, "allow").unwrap();
        let mut allowed: Vec<&str> = allowed.split(", ").collect();
        allowed.sort_unstable();
        assert_eq!(allowed.join(", "), allow, "{first}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_before_the_body_came_says_that_the_connection_ends() {
    let server = TestServer::start().await;
    if server.takes_turns() && !server.has_gateway() {
        // Whose door is the test's own, which does not linger.
        return;
    }
    let post = |path: &str, length: usize| {
        format!(
            "POST /_matrix/client/v3/{path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             authorization: Bearer nobody\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    // Most of it never comes: the answer does, and that the connection ends.
    for (path, status) in [("createRoom", 401), ("nonsense", 404), ("sync", 405)] {
        let mut wire = Wire::to(&server).await;
        wire.send(post(path, 100_000)).await;
        wire.send([b'x'; 1_000]).await;
        let (got, head, _) = wire.answer().await.unwrap();
        assert_eq!((got, header(&head, "connection")), (status, Some("close")), "{path}");
        // What still comes is no reset, which could take the answer with it.
        wire.send(vec![b'x'; 99_000]).await;
        assert_eq!(wire.answer().await, None);
    }
    // A body that is here already is read, and the connection carries the next request.
    let mut wire = Wire::to(&server).await;
    for _ in 0..20 {
        wire.send(
            post("createRoom", 2).into_bytes().into_iter().chain(*b"{}").collect::<Vec<u8>>(),
        )
        .await;
        let (got, head, _) = wire.answer().await.unwrap();
        assert_eq!((got, header(&head, "connection")), (401, None));
    }
}
