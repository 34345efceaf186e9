//! What Pingora's own reader of answers says when a connection ends, and what that is taken for.

use std::io;

use pingora::protocols::http::v1::client::HttpSession;
use tokio_test::io::Builder;

use super::*;

/// As much of an answer as may come before the end, and what the end is taken for where the connection had rested.
/// A POST is sent again behind a stale connection, and must not be where a worker has begun to answer.
const CAME: [(&str, Attempt); 4] = [
    ("", Attempt::Stale),
    ("H", Attempt::Broken),
    ("HTTP/1.1 2", Attempt::Broken),
    ("HTTP/1.1 200 OK\r\nx: 0123456789\r\n", Attempt::Broken),
];

/// Has Pingora read an answer from a connection that ends so behind what has come.
async fn error_behind(came: &str, end: Option<io::Error>) -> Box<Error> {
    let mut connection = Builder::new();
    if !came.is_empty() {
        connection.read(came.as_bytes());
    }
    if let Some(error) = end {
        connection.read_error(error);
    }
    let stream = connection.build();
    drop(connection);
    HttpSession::new(Box::new(stream)).read_response().await.unwrap_err()
}

#[tokio::test]
async fn half_a_head_is_no_stale_connection() {
    for (came, expected) in CAME {
        let reset = io::Error::from(rustix::io::Errno::CONNRESET);
        for (end, kind) in
            [(None, ErrorType::ConnectionClosed), (Some(reset), ErrorType::ReadError)]
        {
            let error = error_behind(came, end).await;
            assert_eq!(*error.etype(), kind, "{came:?}: {error}");
            assert_eq!(outcome_of(&error, true), expected, "{came:?}: {error}");
            // What had not rested, or has said something before, is no stale connection.
            assert_eq!(outcome_of(&error, false), Attempt::Broken, "{came:?}: {error}");
        }
    }
}

/// An error that does not say how much had come is no leave to do anything twice.
#[test]
fn other_words_are_no_stale_connection() {
    for said in ["", "while reading response headers", "bytes already read: 10"] {
        let error = Error::explain(ErrorType::ReadError, said);
        assert_eq!(outcome_of(&error, true), Attempt::Broken, "{said:?}");
    }
}
