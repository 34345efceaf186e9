//! Every reply is JSON a Matrix client can read.

use super::*;

#[test]
fn bodies_are_json_with_errcode_and_error() {
    for status in 400..=599 {
        let reply = Reply::for_status(status);
        let json: serde_json::Value = serde_json::from_slice(&reply.body()).unwrap();
        assert!(json["errcode"].as_str().unwrap().starts_with("M_"));
        assert!(!json["error"].as_str().unwrap().is_empty());
    }
}

#[test]
fn parting_bytes_are_a_whole_answer() {
    let bytes = TOO_SLOW.parting_bytes();
    let text = std::str::from_utf8(&bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n"));
    assert!(head.contains(&format!("content-length: {}", body.len())));
    assert!(head.contains("access-control-allow-origin: *"));
}
