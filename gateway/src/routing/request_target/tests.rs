//! The contract with the workers, and what holds for every target.

use proptest::prelude::*;

use super::*;

const CASES: &str = include_str!("../../../../docs/targets.tsv");

/// What a target means, as the table of cases writes it.
fn reading(target: &Target) -> Vec<String> {
    let path = percent_decode_str(target.path()).decode_utf8().unwrap().into_owned();
    let pairs = pairs(target.query());
    let values = pairs.flat_map(|(name, value)| [name.to_owned(), value_of(value).into_owned()]);
    [path].into_iter().chain(values).collect()
}

#[test]
fn targets_are_read_as_the_workers_read_them() {
    let mut cases = 0;
    for line in CASES.lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = line.split('\t').collect();
        let [verdict, target, sent, meaning] = columns[..] else { panic!("{line}") };
        cases += 1;
        match Target::parse(target.as_bytes()) {
            Ok(read) => {
                assert_eq!((verdict, sent), ("ok", read.as_str()), "{target}");
                let meaning: Vec<String> = serde_json::from_str(meaning).unwrap();
                assert_eq!(reading(&read), meaning, "{target}");
            }
            Err(error) => {
                let status = match error {
                    TargetError::Unclear => "400",
                    TargetError::TooLong => "414",
                };
                assert_eq!(verdict, status, "{target}");
            }
        }
    }
    assert!(cases > 50);
    for name in ONCE {
        assert!(Target::parse(format!("/a?{name}=b").as_bytes()).is_ok(), "{name}");
        let twice = Target::parse(format!("/a?{name}=b&c&{name}").as_bytes());
        assert_eq!(twice, Err(TargetError::Unclear), "{name}");
    }
}

#[test]
fn what_is_too_long_is_refused_also_when_it_becomes_so() {
    let whole = |text: String| Target::parse(text.as_bytes()).map(|_| ());
    assert_eq!(whole(format!("/{}", "a".repeat(PATH_BYTES_MAX - 1))), Ok(()));
    assert_eq!(whole(format!("/{}", "a".repeat(PATH_BYTES_MAX))), Err(TargetError::TooLong));
    let query = TARGET_BYTES_MAX - 4;
    assert_eq!(whole(format!("/?b={}", "a".repeat(query))), Ok(()));
    assert_eq!(whole(format!("/?b={}", "a".repeat(query + 1))), Err(TargetError::TooLong));
    assert_eq!(whole(format!("/?b={}", "{".repeat(query / 2))), Err(TargetError::TooLong));
}

#[test]
fn rules_see_one_spelling_of_a_path() {
    for (sent, seen) in [
        ("/a", "/a"),
        ("/%5Fmatrix/%73lots", "/_matrix/slots"),
        ("/%21r%3Ah%40%2B", "/!r:h@+"),
        ("/%2F%25%3F%23%20%C3%A9", "/%2F%25%3F%23%20%C3%A9"),
    ] {
        assert_eq!(Target::parse(sent.as_bytes()).unwrap().path(), seen, "{sent}");
    }
}

#[test]
fn it_is_said_once_who_asks() {
    let (plain, token) = ("/a", "/a?access_token=b");
    for (authorizations, bearer, target, clear) in [
        (0, false, plain, true),
        (0, false, token, true),
        (1, true, plain, true),
        (1, true, token, false),
        (1, false, token, false),
        (2, true, plain, false),
        // Federation signs with several keys.
        (2, false, plain, true),
    ] {
        let target = Target::parse(target.as_bytes()).unwrap();
        let one = credentials_are_one(authorizations, bearer, &target).is_ok();
        assert_eq!(one, clear, "{authorizations} {bearer} {target:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_sent_on_is_read_as_it_was_read_here(
        raw in "/(([a-z._~!%+;:@=&?#/{\"-]|%2[eEfF]|%[0-9a-fA-F]{2}|since=|access_token=){0,30})",
    ) {
        if let Ok(first) = Target::parse(raw.as_bytes()) {
            let again = Target::parse(first.as_str().as_bytes());
            prop_assert_eq!(again.as_ref(), Ok(&first));
            prop_assert!(first.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert!(!first.as_str().contains(['#', '\\']));
        }
    }
}
