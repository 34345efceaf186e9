//! Handing the listening sockets from one gateway process to the next, over a unix socket.
//!
//! The new process asks, gets descriptors of the very sockets the old one accepts from
//! (SCM_RIGHTS), starts to accept, and says so; only then the old one stops accepting. Both share
//! one queue of the kernel the whole time, so no connection is lost in it: with SO_REUSEPORT each
//! process has a queue of its own, and what stands in the old one's is reset when it closes.
//!
//! The conversation: the old process sends a JSON list of addresses and a line feed, with the
//! descriptors attached; the new one answers [`READY`], or ends, and then nothing has changed.
//! Only processes of the same user, or of root, are talked to.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::net::UnixListener;
use tokio::sync::watch;

/// Sockets in one message; the kernel allows 253 (SCM_MAX_FD).
const SOCKETS_MAX: usize = 128;

/// The list of addresses; a unix path has at most 108 bytes.
const LIST_BYTES_MAX: usize = 64 << 10;

/// How long the new process may take from the sockets to accepting: it compiles its table before.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the new process says when it accepts.
const READY: &[u8] = b"ready\n";

/// The sockets another process handed to us, and the way to tell it that they are in use.
pub(crate) struct Inherited {
    sockets: Vec<(String, OwnedFd)>,
    giver: UnixStream,
}

impl Inherited {
    /// Asks the process that listens at `path` for its sockets; `None` when there is none.
    ///
    /// # Errors
    /// When somebody answers, but not with sockets.
    pub(crate) fn ask(path: &Path) -> io::Result<Option<Self>> {
        let giver = match UnixStream::connect(path) {
            Ok(giver) => giver,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        giver.set_read_timeout(Some(PATIENCE))?;
        let sockets = receive(&giver)?;
        Ok(Some(Self { sockets, giver }))
    }

    /// Takes the socket that listens at an address, if one does.
    pub(crate) fn take(&mut self, address: &str) -> Option<OwnedFd> {
        let place = self.sockets.iter().position(|(known, _)| known == address)?;
        Some(self.sockets.swap_remove(place).1)
    }

    /// Tells the other process that we accept now. Sockets nobody took are closed.
    ///
    /// # Errors
    /// When it is gone; the sockets are ours all the same.
    pub(crate) fn confirm(mut self) -> io::Result<()> {
        self.giver.write_all(READY)
    }
}

fn receive(giver: &UnixStream) -> io::Result<Vec<(String, OwnedFd)>> {
    let wrong = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut list = vec![0; LIST_BYTES_MAX];
    let mut parts = [IoSliceMut::new(&mut list)];
    let got = recvmsg(giver, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut sockets = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            sockets.extend(received);
        }
    }
    let mut length = got.bytes;
    while !list[..length].ends_with(b"\n") {
        let read = (&mut &*giver).read(&mut list[length..])?;
        if read == 0 {
            return Err(wrong("the other gateway sent no sockets"));
        }
        length += read;
    }
    let addresses: Vec<String> = serde_json::from_slice(&list[..length])?;
    if addresses.len() != sockets.len() {
        return Err(wrong("the other gateway sent another number of sockets than it says"));
    }
    Ok(addresses.into_iter().zip(sockets).collect())
}

fn send(taker: &UnixStream, sockets: &[(String, OwnedFd)]) -> io::Result<()> {
    let addresses: Vec<&str> = sockets.iter().map(|(address, _)| address.as_str()).collect();
    let mut list = serde_json::to_vec(&addresses)?;
    list.push(b'\n');
    let descriptors: Vec<BorrowedFd<'_>> = sockets.iter().map(|(_, fd)| fd.as_fd()).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        let why = format!("more than {SOCKETS_MAX} listeners cannot be handed over");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let sent = sendmsg(taker, &[IoSlice::new(&list)], &mut control, SendFlags::NOSIGNAL)?;
    (&mut &*taker).write_all(&list[sent..])
}

/// The place where the next process may ask for our sockets.
pub(crate) struct Offer {
    listener: UnixListener,
    path: PathBuf,
    bound_at: PathBuf,
    sockets: Arc<Vec<(String, OwnedFd)>>,
}

impl Offer {
    /// Prepares to offer sockets at `path`, beside what listens there now; must be called inside a
    /// runtime.
    ///
    /// # Errors
    /// When no socket can be made in that folder.
    pub(crate) fn prepare(path: &Path, sockets: Vec<(String, OwnedFd)>) -> io::Result<Self> {
        let mut bound_at = path.as_os_str().to_owned();
        bound_at.push(format!(".{}", std::process::id()));
        let bound_at = PathBuf::from(bound_at);
        if bound_at.exists() {
            // Another process with our number left it behind.
            std::fs::remove_file(&bound_at)?;
        }
        let listener = UnixListener::bind(&bound_at)?;
        // Whoever connects is given our sockets: only our own user may, whatever the umask is.
        let own = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&bound_at, own)?;
        Ok(Self { listener, path: path.to_owned(), bound_at, sockets: Arc::new(sockets) })
    }

    /// Takes the place of whoever offered sockets at the path before.
    ///
    /// # Errors
    /// When the system does not let us.
    pub(crate) fn publish(&self) -> io::Result<()> {
        std::fs::rename(&self.bound_at, &self.path)
    }

    /// Answers until one process has taken the sockets, then tells `handed_over`.
    pub(crate) async fn serve(self, handed_over: watch::Sender<bool>) {
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let ours = rustix::process::geteuid().as_raw();
            let allowed = stream.peer_cred().is_ok_and(|who| [ours, 0].contains(&who.uid()));
            let Some(stream) = allowed.then(|| stream.into_std().ok()).flatten() else {
                tracing::warn!("a process of another user asked for the listening sockets");
                continue;
            };
            let sockets = Arc::clone(&self.sockets);
            let given = tokio::task::spawn_blocking(move || give(&stream, &sockets)).await;
            match given {
                Ok(Ok(())) => {
                    tracing::info!("another process accepts connections now");
                    handed_over.send_replace(true);
                    return;
                }
                Ok(Err(error)) => tracing::warn!(%error, "the listening sockets stay ours"),
                Err(_) => return,
            }
        }
    }
}

/// Hands the sockets over and waits until the other process accepts from them.
fn give(taker: &UnixStream, sockets: &[(String, OwnedFd)]) -> io::Result<()> {
    taker.set_nonblocking(false)?;
    taker.set_read_timeout(Some(PATIENCE))?;
    taker.set_write_timeout(Some(PATIENCE))?;
    send(taker, sockets)?;
    let mut said = [0; READY.len()];
    (&mut &*taker).read_exact(&mut said)?;
    match said == READY {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "not what a gateway says")),
    }
}

#[cfg(test)]
mod tests;
