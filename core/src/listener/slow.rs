//! Clients that do not take their answer. What is said to them stays in memory until they do, so a
//! connection that takes too little of what waits for it is closed. A connection that has nothing to take
//! may rest as long as it likes.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use colonnade_users::answers::Holding;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// How long is looked at together. The system takes from us in pieces, as large as half of what it keeps
/// for the connection: two minutes between them are not rare over a bad line.
const WINDOW: Duration = Duration::from_secs(120);
/// How many bytes a client takes in that time at least while there are any: the slowest telephones do.
const TAKEN_BYTES_MIN: usize = 240 * 1024;

/// An answer that holds so much is looked at more often while others wait for the memory it is in.
const LARGE_BYTES: usize = 256 * 1024;
/// How long is looked at together then: twice that is shorter than they wait.
const WANTED_WINDOW: Duration = Duration::from_secs(6);
/// How many bytes of it are taken in that time at least: 85 kbit/s, and one piece that the system takes.
const WANTED_BYTES_MIN: usize = 64 * 1024;

/// What the answer that a connection writes holds of the memory for answers.
pub(crate) type Held = Arc<Mutex<Holding>>;

fn is_urgent(held: &Held) -> bool {
    let held = held.lock();
    held.bytes() >= LARGE_BYTES && held.is_wanted()
}

/// A connection that is closed when its client takes too little.
pub(crate) struct Impatient<S> {
    stream: S,
    held: Held,
    waiting: Option<Window>,
}

/// A time in which something waited to be taken.
struct Window {
    ends: Pin<Box<Sleep>>,
    taken: usize,
    /// The same for when others wait.
    look: Pin<Box<Sleep>>,
    taken_before_look: usize,
}

impl<S> Impatient<S> {
    pub(crate) fn new(stream: S, held: Held) -> Self {
        Self { stream, held, waiting: None }
    }

    /// Looks at what became of a write: at once if the client takes it, else for as long as it waits.
    fn judge(
        &mut self,
        written: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = written {
            let bytes = written.as_ref().map_or(0, |bytes| *bytes);
            if let Some(window) = &mut self.waiting {
                window.taken += bytes;
                window.taken_before_look += bytes;
            }
            return Poll::Ready(written);
        }
        let window = self.waiting.get_or_insert_with(Window::begin);
        while window.look.as_mut().poll(cx).is_ready() {
            if is_urgent(&self.held) && window.taken_before_look < WANTED_BYTES_MIN {
                let why = "the client takes next to nothing, and others wait for that memory";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
            }
            window.look = Box::pin(tokio::time::sleep(WANTED_WINDOW));
            window.taken_before_look = 0;
        }
        while window.ends.as_mut().poll(cx).is_ready() {
            if window.taken < TAKEN_BYTES_MIN {
                let why = "the client does not take its answer";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
            }
            let look = std::mem::replace(window, Window::begin());
            (window.look, window.taken_before_look) = (look.look, look.taken_before_look);
        }
        Poll::Pending
    }
}

impl Window {
    fn begin() -> Self {
        let sleep = |time| Box::pin(tokio::time::sleep(time));
        let (ends, look) = (sleep(WINDOW), sleep(WANTED_WINDOW));
        Self { ends, taken: 0, look, taken_before_look: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.judge(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        // All that waited was taken.
        self.waiting = None;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use colonnade_users::{
        answers::{Answers, Need},
        bodies::Payer,
    };
    use http_body_util::Full;
    use hyper::{Response, server::conn::http1, service::service_fn};
    use hyper_util::rt::{TokioIo, TokioTimer};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        task::JoinHandle,
        time::{Instant, sleep},
    };

    use super::*;

    const ANSWER_BYTES: usize = 4 * 1024 * 1024;

    /// Serves a large answer over a connection that keeps little, and asks for it.
    async fn asked() -> (DuplexStream, JoinHandle<bool>) {
        asked_with(Held::default()).await
    }

    async fn asked_with(held: Held) -> (DuplexStream, JoinHandle<bool>) {
        let (mut client, server) = duplex(16 * 1024);
        let answer = service_fn(async |_| {
            Ok::<_, io::Error>(Response::new(Full::new(Bytes::from(vec![b'x'; ANSWER_BYTES]))))
        });
        let mut serving = http1::Builder::new();
        serving.timer(TokioTimer::new()).header_read_timeout(None);
        let serving = serving.serve_connection(TokioIo::new(Impatient::new(server, held)), answer);
        let serving = tokio::spawn(async move { serving.await.is_ok() });
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        (client, serving)
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_take_his_answer_is_not_waited_for() {
        let begun = Instant::now();
        let (client, serving) = asked().await;
        assert!(!serving.await.unwrap());
        assert!(begun.elapsed() >= WINDOW && begun.elapsed() < 2 * WINDOW);
        drop(client);
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_it_in_sips_is_not_waited_for() {
        let (mut client, serving) = asked().await;
        let sips = tokio::spawn(async move {
            let mut sip = [0; 1_000];
            while client.read(&mut sip).await.is_ok_and(|bytes| bytes > 0) {
                sleep(Duration::from_secs(1)).await;
            }
        });
        let begun = Instant::now();
        assert!(!serving.await.unwrap());
        assert!(begun.elapsed() < 2 * WINDOW);
        sips.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_it_slowly_gets_all_and_may_rest_then() {
        let (mut client, serving) = asked().await;
        let mut taken = 0;
        let mut piece = vec![0; 8 * 1024];
        while taken < ANSWER_BYTES {
            let bytes = client.read(&mut piece).await.unwrap();
            assert!(bytes > 0, "closed after {taken} bytes");
            taken += bytes;
            sleep(Duration::from_secs(2)).await;
        }
        sleep(WINDOW / 2).await;
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert!(client.read(&mut piece).await.unwrap() > 0);
        sleep(WINDOW * 3 / 4).await;
        assert!(!serving.is_finished(), "a rest counts for nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_next_to_nothing_is_cut_off_while_others_wait_for_it() {
        let answers = Answers::new(64 * 1024);
        let reserved = answers.reserve(Payer::Process, Need::Page).await.unwrap().unwrap();
        let (paid, holding) = reserved.pay(Bytes::from(vec![b'x'; LARGE_BYTES]));
        let held = Held::new(Mutex::new(holding));
        // Nobody waits: it may take its time.
        let (mut client, serving) = asked_with(Arc::clone(&held)).await;
        let mut piece = vec![0; 8 * 1024];
        for _ in 0..10 {
            assert!(client.read(&mut piece).await.unwrap() > 0);
            sleep(Duration::from_secs(1)).await;
        }
        assert!(!serving.is_finished());
        // There is no room but this.
        let waits = tokio::spawn({
            let answers = Arc::clone(&answers);
            async move { answers.reserve(Payer::Process, Need::Page).await.is_ok() }
        });
        let begun = Instant::now();
        assert!(!serving.await.unwrap(), "it is cut off");
        assert!(begun.elapsed() <= 2 * WANTED_WINDOW, "{:?}", begun.elapsed());
        // Who takes some is not.
        let (mut client, serving) = asked_with(Arc::clone(&held)).await;
        let mut taken = 0;
        while taken < WANTED_BYTES_MIN + WANTED_BYTES_MIN / 2 {
            taken += client.read(&mut piece).await.unwrap();
            sleep(WANTED_WINDOW / 16).await;
        }
        assert!(!serving.is_finished());
        drop((client, paid));
        assert!(waits.await.unwrap());
    }
}
