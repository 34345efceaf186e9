//! Ranges, names and marks.

use http::Request;

use super::*;

fn ranged(value: &str, bytes: u64) -> Range {
    let request = Request::builder().header(header::RANGE, value).body(()).unwrap();
    range(&request.into_parts().0, &etag(&[7; 32], ""), bytes)
}

#[test]
fn ranges() {
    for (value, wanted) in [
        ("bytes=0-", Range::Part { first: 0, last: 99 }),
        ("bytes=10-19", Range::Part { first: 10, last: 19 }),
        ("bytes=90-1000", Range::Part { first: 90, last: 99 }),
        ("bytes=-5", Range::Part { first: 95, last: 99 }),
        ("bytes=-500", Range::Part { first: 0, last: 99 }),
        ("bytes=100-", Range::Beyond),
        ("bytes=-0", Range::Beyond),
        ("bytes=19-10", Range::Whole),
        ("bytes=0-1,5-6", Range::Whole),
        ("bytes=abc", Range::Whole),
        ("bytes=-", Range::Whole),
        ("lines=1-2", Range::Whole),
        ("bytes=99999999999999999999-", Range::Whole),
    ] {
        assert_eq!(ranged(value, 100), wanted, "{value}");
    }
    assert_eq!(ranged("bytes=0-0", 0), Range::Beyond);
}

#[test]
fn names_cannot_leave_the_header() {
    let show = |kind: &'static str, name: &str| {
        let value = disposition(&HeaderValue::from_static(kind), Some(name.to_owned()));
        value.to_str().unwrap().to_owned()
    };
    assert_eq!(show("image/png", "a.png"), "inline; filename=a.png");
    assert_eq!(show("Image/PNG; x=y", "a b.png"), "inline; filename=\"a b.png\"");
    assert_eq!(show("text/html", "a\"b"), "attachment; filename=\"a\\\"b\"");
    assert_eq!(
        show("image/svg+xml", "a\r\nSet-Cookie: x"),
        "attachment; filename=\"aSet-Cookie: x\""
    );
    assert_eq!(show("text/plain", "дом.txt"), "inline; filename*=utf-8''%D0%B4%D0%BE%D0%BC.txt");
    assert_eq!(disposition(&HeaderValue::from_static("x/y"), None), "attachment");
}

#[test]
fn odd_media_types_become_bytes() {
    assert_eq!(content_type(None), "application/octet-stream");
    assert_eq!(content_type(Some(" ")), "application/octet-stream");
    assert_eq!(content_type(Some("a\nb")), "application/octet-stream");
    assert_eq!(content_type(Some("image/png")), "image/png");
}
