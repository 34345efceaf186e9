//! Sockets go through whole, and a new process that dies changes nothing.

use super::*;
use std::net::{TcpListener, TcpStream};

fn offer(path: &Path) -> (Offer, std::net::SocketAddr) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let offer = Offer::prepare(path, vec![("one".to_owned(), OwnedFd::from(socket))]).unwrap();
    offer.publish().unwrap();
    (offer, address)
}

#[tokio::test]
async fn a_socket_goes_over_and_the_giver_learns_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("upgrade.sock");
    let (offer, address) = offer(&path);
    let (handed_over, mut handed) = watch::channel(false);
    let serving = tokio::spawn(offer.serve(handed_over));
    let taken = tokio::task::spawn_blocking(move || {
        // One that asks and dies: the giver goes on.
        drop(Inherited::ask(&path).unwrap().unwrap());
        let mut inherited = Inherited::ask(&path).unwrap().unwrap();
        assert!(inherited.take("other").is_none());
        let socket = TcpListener::from(inherited.take("one").unwrap());
        inherited.confirm().unwrap();
        socket
    })
    .await
    .unwrap();
    handed.wait_for(|handed| *handed).await.unwrap();
    serving.await.unwrap();
    // The giver's descriptor is closed, ours still accepts.
    let client = tokio::task::spawn_blocking(move || TcpStream::connect(address).unwrap());
    taken.set_nonblocking(false).unwrap();
    let (_stream, peer) =
        tokio::task::spawn_blocking(move || taken.accept().unwrap()).await.unwrap();
    assert_eq!(client.await.unwrap().local_addr().unwrap(), peer);
}

#[test]
fn nobody_there_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("upgrade.sock");
    assert!(Inherited::ask(&path).unwrap().is_none());
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(Inherited::ask(&path).unwrap().is_none(), "a file an ended process left behind");
}
