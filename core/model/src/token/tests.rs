//! Tokens survive the round trip and nothing else passes.

use super::*;

fn key() -> TokenKey {
    TokenKey::new([7; 32])
}

#[test]
fn sync_token_round_trips() {
    let mut token = SyncToken { epoch: 3, ..SyncToken::default() };
    for (n, stream) in (1..).zip(Stream::ALL) {
        token.positions.set(stream, n * 1_000_003);
    }
    token.positions.set(Stream::Events, i64::MAX);
    assert_eq!(SyncToken::decode(&token.encode(&key()), &key()), Ok(token));
}

#[test]
fn forged_or_damaged_tokens_are_refused() {
    let good = SyncToken::default().encode(&key());
    for bad in
        ["", "s", "s0", "x", "t5", "s!!!!", &good[1..], &format!("{good}A"), &"s".repeat(500)]
    {
        assert_eq!(SyncToken::decode(bad, &key()), Err(BadToken), "{bad}");
    }
    assert_eq!(SyncToken::decode(&good, &TokenKey::new([8; 32])), Err(BadToken));
}

#[test]
fn timeline_token_round_trips() {
    for timeline_key in [i64::MIN, -1, 0, 1, i64::MAX] {
        assert_eq!(
            TimelineToken(timeline_key).to_string().parse(),
            Ok(TimelineToken(timeline_key))
        );
    }
    for bad in ["", "t", "5", "tx", "t1.5", "s1"] {
        assert_eq!(bad.parse::<TimelineToken>(), Err(BadToken), "{bad}");
    }
}
