//! The third way: hyper's low-level connections on both sides, and nothing of a gateway: no rules, no limits, no
//! retries. It says what an HTTP library costs before a gateway does anything.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

/// Connections to the worker that rest.
type Resting = Rc<RefCell<Vec<SendRequest<Incoming>>>>;

/// Runs until killed, in front of this worker; says its address first, twice, for it has no encrypted one.
pub(crate) fn run(worker: &str) {
    let worker: SocketAddr = worker.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener: TcpListener = socket.listen(4096).unwrap();
        let address = listener.local_addr().unwrap();
        println!("{address}\n{address}\n");
        let resting = Resting::default();
        while let Ok((stream, _)) = listener.accept().await {
            let resting = Rc::clone(&resting);
            tokio::task::spawn_local(serve(stream, worker, resting));
        }
    });
}

async fn serve(stream: TcpStream, worker: SocketAddr, resting: Resting) {
    let Ok(()) = stream.set_nodelay(true) else { return };
    let service = hyper::service::service_fn(move |request| {
        let resting = Rc::clone(&resting);
        async move { pass_on(request, worker, resting).await }
    });
    let connection = hyper::server::conn::http1::Builder::new();
    let _gone = connection.serve_connection(TokioIo::new(stream), service).await;
}

async fn pass_on(
    request: Request<Incoming>,
    worker: SocketAddr,
    resting: Resting,
) -> hyper::Result<Response<Incoming>> {
    let known = resting.borrow_mut().pop();
    let mut sender = match known {
        Some(sender) if !sender.is_closed() => sender,
        _ => connect(worker).await,
    };
    sender.ready().await?;
    let answer = sender.send_request(request).await;
    resting.borrow_mut().push(sender);
    answer
}

async fn connect(worker: SocketAddr) -> SendRequest<Incoming> {
    let stream = TcpStream::connect(worker).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::task::spawn_local(connection);
    sender
}
