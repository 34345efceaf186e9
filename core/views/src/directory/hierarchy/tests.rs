//! Tokens of a hierarchy.

use super::*;

#[test]
fn tokens_go_with_what_they_were_made_for() {
    assert_eq!(skipped(&token(7, 3, true), 3, true).unwrap(), 7);
    assert!(skipped(&token(7, 3, true), 3, false).is_err());
    assert!(skipped(&token(7, 3, true), 4, true).is_err());
    for wrong in ["", "h", "h_", "7_3_1", "h-1_3_1", "h99999999_3_1", "h1_3_1_", "hx_3_1"] {
        assert!(skipped(wrong, 3, true).is_err(), "{wrong}");
    }
}
