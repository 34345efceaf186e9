//! Asks a running gateway through its admin listener: for the command line, which has no HTTP
//! client.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// The admin listener is on this machine; it answers at once or not at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest answer read: the table of two thousand rules takes a tenth of it.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// Reads where an admin listener is: `127.0.0.1:8009`, `localhost:8009` or `http://127.0.0.1:8009/`.
///
/// # Errors
/// A sentence that says what was expected.
pub fn admin_address(text: &str) -> Result<SocketAddr, String> {
    let wrong = || format!("`{text}` is no admin listener; write it like http://127.0.0.1:8009");
    let bare = text.strip_prefix("http://").unwrap_or(text);
    let bare = bare.strip_suffix('/').unwrap_or(bare);
    let mut addresses = bare.to_socket_addrs().map_err(|_| wrong())?;
    addresses.next().ok_or_else(wrong)
}

/// Sends one request to an admin listener; gives status and body.
///
/// # Errors
/// If nobody listens there, or what comes is no answer.
pub fn ask_admin(
    admin: SocketAddr,
    method: &str,
    target: &str,
    body: &str,
) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let length = body.len();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let parts = text.split_once("\r\n\r\n");
    let status = text.get(9..12).and_then(|status| status.parse().ok());
    match (parts, status) {
        (Some((_, body)), Some(status)) => Ok((status, body.to_owned())),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "that is no gateway")),
    }
}

/// The target of `GET /explain` for a request.
pub fn explain_target(
    method: &str,
    path_and_query: &str,
    token: Option<&str>,
    ip: Option<std::net::IpAddr>,
) -> String {
    let coded = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let mut target = format!("/explain?method={}&target={}", coded(method), coded(path_and_query));
    if let Some(token) = token {
        target.push_str(&format!("&token={}", coded(token)));
    }
    if let Some(ip) = ip {
        target.push_str(&format!("&ip={}", coded(&ip.to_string())));
    }
    target
}
