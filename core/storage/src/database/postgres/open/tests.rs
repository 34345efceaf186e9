//! What is said of servers we cannot live on.

use super::*;

fn about(version: i64) -> About {
    (version, "UTF8".to_owned(), false, "on".to_owned(), "on".to_owned(), false, 0)
}

#[test]
fn an_old_server_is_refused() {
    for (version, named) in [(90_624, "9"), (130_023, "13"), (140_022, "14"), (149_999, "14")] {
        let why = objection(&about(version)).unwrap();
        assert!(why.contains(&format!("PostgreSQL {named}, and 15 is the oldest")), "{why}");
        assert!(why.ends_with("upgrade the server"), "{why}");
    }
    for version in [150_000, 150_018, 160_000, 180_004, 200_000] {
        assert_eq!(objection(&about(version)), None);
    }
}

#[test]
fn its_age_is_said_before_anything_else() {
    let wrong = (140_000, "LATIN1".to_owned(), true, "on".to_owned(), "on".to_owned(), false, 7);
    assert!(objection(&wrong).unwrap().contains("upgrade the server"));
    let standby = (150_000, "UTF8".to_owned(), true, "on".to_owned(), "on".to_owned(), true, 7);
    assert!(objection(&standby).unwrap().contains("name the primary"));
}
