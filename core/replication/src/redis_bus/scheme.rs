//! Whether a Redis speaks TLS although `redis://` was said, or does not although `rediss://` was: it answers
//! nothing then, or closes, as one does that is away. No user and no password is sent to find out.

use redis::{AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, RedisError};
use std::time::Duration;
use tokio::time::timeout;

/// How long Redis may take to connect or to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// What helps where no TLS is spoken.
pub(super) const NO_TLS: &str = "it speaks no TLS: write redis:// instead of rediss:// in redis.url, or \
     name the port on which it does";

/// Says which scheme to write, if the server answers to the other one.
pub(super) async fn mend(client: &Client) -> Option<&'static str> {
    let (other, mend) = match client.get_connection_info().addr() {
        ConnectionAddr::Tcp(host, port) => (
            format!("rediss://{}:{port}", bracketed(host)),
            "it speaks TLS: write rediss:// instead of redis:// in redis.url",
        ),
        ConnectionAddr::TcpTls { host, port, .. } => {
            (format!("redis://{}:{port}", bracketed(host)), NO_TLS)
        }
        _ => return None,
    };
    let other = Client::open(other).ok()?;
    timeout(PATIENCE, speaks(&other)).await.unwrap_or(false).then_some(mend)
}

/// Writes a host as a URL has it.
fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// Tells whether a server answers anything that a Redis says.
async fn speaks(client: &Client) -> bool {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    let asked = async {
        let mut line = client.get_multiplexed_async_connection_with_config(&config).await?;
        redis::cmd("PING").query_async::<String>(&mut line).await
    };
    match asked.await {
        Ok(_) => true,
        Err(error) => {
            let refuses = matches!(error.kind(), ErrorKind::Server(_))
                || error.kind() == ErrorKind::AuthenticationFailed
                || error.code().is_some();
            refuses || is_untrusted(&error) || error.to_string().contains("received fatal alert")
        }
    }
}

/// Tells whether what came instead of a handshake is no TLS.
pub(super) fn is_in_clear(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Io && error.to_string().contains("received corrupt message")
}

/// Tells whether a handshake failed by the certificate that was shown. The library has no kind for it.
pub(super) fn is_untrusted(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Io && error.to_string().contains("invalid peer certificate")
}
