//! Which key a request has.

use super::*;
use crate::config::Config;

fn key_of(kind: &str, pattern: &str, clues: KeySources<'_>) -> Option<String> {
    let text = format!(
        "pools: {{ p: {{ balance: {{ hash: {kind} }} }} }}\n\
         routes: [{{ match: \"{pattern}\", pool: p }}]"
    );
    let config = Config::parse("t", &text).unwrap();
    key(&config.routes[0], &clues).map(|key| String::from_utf8_lossy(&key).into_owned())
}

fn clues<'a>(target: &'a str, authorization: Option<&'a str>) -> KeySources<'a> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    KeySources { path, query, authorization, client: "203.0.113.9".parse().unwrap() }
}

#[test]
fn rooms_are_decoded_once() {
    let pattern = "^/rooms/(?<room>[^/]+)/send$";
    for path in ["/rooms/!a:b/send", "/rooms/%21a%3Ab/send", "/rooms/%21a%3ab/send"] {
        assert_eq!(key_of("room", pattern, clues(path, None)).unwrap(), "!a:b");
    }
    // Version 12 ids have no server part; twice encoded stays encoded once.
    assert_eq!(key_of("room", pattern, clues("/rooms/!abc/send", None)).unwrap(), "!abc");
    assert_eq!(key_of("room", pattern, clues("/rooms/%2521a/send", None)).unwrap(), "%21a");
    let join = "^/join/(?<room>[^/]+)$";
    assert_eq!(key_of("room", join, clues("/join/%23a:b", None)).unwrap(), "#a:b");
}

#[test]
fn users_come_from_path_appservice_or_token_in_this_order() {
    let by_path = "^/user/(?<user>[^/]+)/x$";
    let any = "^/.*$";
    let bearer = Some("Bearer cln_ab_secret");
    assert_eq!(key_of("user", by_path, clues("/user/%40u:h/x", bearer)).unwrap(), "@u:h");
    assert_eq!(key_of("user", any, clues("/s?user_id=%40as:h", bearer)).unwrap(), "@as:h");
    assert_eq!(key_of("user", any, clues("/s", bearer)).unwrap(), "ab");
    assert_eq!(key_of("user", any, clues("/s", Some("bEARER cln_ab_x"))).unwrap(), "ab");
    // Workers take the second blank for the token's.
    let padded = Some("bearer  cln_ab_x");
    assert_eq!(key_of("user", any, clues("/s", padded)).unwrap(), " cln_ab_x");
    assert_eq!(key_of("user", any, clues("/s?access_token=cln_ab_y", None)).unwrap(), "ab");
    let synapse = Some("Bearer syt_YWxpY2U_random_1a2b3c");
    assert_eq!(key_of("user", any, clues("/s", synapse)).unwrap(), "YWxpY2U");
    assert_eq!(
        key_of("user", any, clues("/s", Some("Bearer mat_foreign"))).unwrap(),
        "mat_foreign"
    );
    assert_eq!(
        key_of("user", any, clues("/s", Some("Bearer cln_toolong_x"))).unwrap(),
        "cln_toolong_x"
    );
    assert_eq!(key_of("user", any, clues("/s", Some("Basic abc"))), None);
    assert_eq!(key_of("user", any, clues("/s", None)), None);
}

#[test]
fn origins_are_read_from_x_matrix_or_fall_back_to_the_address() {
    let any = "^/.*$";
    let signed =
        "X-Matrix origin=\"hs.example\",destination=\"here\",key=\"ed25519:1\",sig=\"a=b\"";
    assert_eq!(key_of("origin", any, clues("/x", Some(signed))).unwrap(), "hs.example");
    let bare = "x-matrix key=\"k\", Origin=hs.example";
    assert_eq!(key_of("origin", any, clues("/x", Some(bare))).unwrap(), "hs.example");
    for unusable in [None, Some("X-Matrix"), Some("X-Matrix key=1"), Some("Bearer origin=x")] {
        assert_eq!(key_of("origin", any, clues("/x", unusable)).unwrap(), "203.0.113.9");
    }
    assert_eq!(key_of("source_ip", any, clues("/x", Some(signed))).unwrap(), "203.0.113.9");
}
