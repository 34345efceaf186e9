//! Where a worker is reached: a TCP socket or a path.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// What the socket of `up` is called in the data folder.
const SOCKET_NAME: &str = "worker.sock";
/// The longest path a unix socket may have on every system we know.
pub const SOCKET_PATH_BYTES_MAX: usize = 100;

/// Where a worker listens for the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        text.parse().map(Self::Tcp).map_err(|_| {
            format!("`{text}` is not an address: write it like 127.0.0.1:9101 or unix:/run/w.sock")
        })
    }
}

impl Address {
    /// Returns a private address for a worker that only this machine's gateway may reach: a socket
    /// in the data folder, or a free port if the folder's path is too long for one.
    pub fn private(data_dir: &Path) -> Self {
        let path = data_dir.join(SOCKET_NAME);
        if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
            Self::Unix(path)
        } else {
            Self::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))
        }
    }
}
