//! Any bytes as the tokens clients hand back to us: refused, or the very text we would write. Half
//! of the inputs are sealed with our own key first, for no fuzzer guesses a MAC.

#![no_main]

use colonnade_model::{
    stream::Stream,
    token::{SyncToken, TimelineToken, TokenKey},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u64, [i64; 7], &str)| {
    let (epoch, numbers, text) = input;
    let key = TokenKey::new([7; 32]);
    // Text of a stranger.
    if let Ok(token) = SyncToken::decode(text, &key) {
        assert_eq!(SyncToken::decode(&token.encode(&key), &key), Ok(token));
    }
    if let Ok(token) = text.parse::<TimelineToken>() {
        assert_eq!(token.to_string().parse(), Ok(token));
    }
    // A token of ours comes back as it was, and damage to it is noticed.
    let mut token = SyncToken { epoch, ..SyncToken::default() };
    for (stream, number) in Stream::ALL.into_iter().zip(numbers) {
        token.positions.set(stream, number.max(0));
    }
    let written = token.encode(&key);
    assert_eq!(SyncToken::decode(&written, &key), Ok(token));
    let damaged = format!("{written}{text}");
    assert!(text.is_empty() || SyncToken::decode(&damaged, &key).is_err());
});
