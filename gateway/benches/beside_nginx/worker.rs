//! The worker behind all of them: answers everything with the same 200 bytes, and holds long polls
//! until it is told to let them go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// A request with this in its target is held.
pub(crate) const HELD: &str = "timeout=";

/// Answers how many requests are held.
pub(crate) const COUNT: &str = "/bench/count";

/// Lets them all go.
pub(crate) const RELEASE: &str = "/bench/release";

#[derive(Default)]
struct Polls {
    held: AtomicUsize,
    release: Notify,
}

/// Runs until killed; says its address first.
pub(crate) fn run() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener: TcpListener = socket.listen(4096).unwrap();
        println!("{}\n", listener.local_addr().unwrap());
        let polls = Arc::new(Polls::default());
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&polls)));
        }
    });
}

async fn serve(mut stream: TcpStream, polls: Arc<Polls>) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut buffer = Vec::with_capacity(4096);
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            more(&mut stream, &mut buffer).await?;
        };
        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<usize>().ok())?
        });
        let whole = end + length.unwrap_or(0);
        while buffer.len() < whole {
            more(&mut stream, &mut buffer).await?;
        }
        buffer.drain(..whole);
        let target = head.split(' ').nth(1)?;
        let body = if target.contains(HELD) {
            let released = polls.release.notified();
            polls.held.fetch_add(1, Ordering::Relaxed);
            released.await;
            polls.held.fetch_sub(1, Ordering::Relaxed);
            "x".repeat(200)
        } else if target == COUNT {
            polls.held.load(Ordering::Relaxed).to_string()
        } else if target == RELEASE {
            polls.release.notify_waiters();
            String::new()
        } else {
            "x".repeat(200)
        };
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

async fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let read = stream.read_buf(buffer).await.ok()?;
    (read > 0).then_some(())
}
