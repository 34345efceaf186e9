//! What passes the rule, and what is told about the rest.

use super::*;

fn code(text: &str) -> Option<std::borrow::Cow<'static, str>> {
    check(text.as_bytes()).err().map(|error| error.errcode)
}

fn nested(levels: usize) -> String {
    format!("{}1{}", "[".repeat(levels), "]".repeat(levels))
}

#[test]
fn json_that_every_client_reads_passes() {
    for text in [
        "{}",
        "null",
        r#" {"a":[1,-2,3.5,1e300,true,null,"ü\ud83d\ude00\u0000"],"b":{"a":{}}} "#,
        "9007199254740993",
        "123456789012345678901234567890",
    ] {
        assert_eq!(code(text), None, "{text}");
        assert!(is_readable(text), "{text}");
    }
    assert_eq!(code(&nested(DEPTH_MAX)), None);
}

#[test]
fn json_that_some_client_cannot_read_is_bad_json() {
    let deep = nested(DEPTH_MAX + 1);
    let far_deeper = format!(r#"{{"a":{}}}"#, nested(30_000));
    let objects = format!("{}1{}", r#"{"a":"#.repeat(101), "}".repeat(101));
    for text in [
        &deep,
        &far_deeper,
        &objects,
        "1e400",
        r#"{"a":[-1e400]}"#,
        r#"{"a":"\ud800"}"#,
        r#"{"a":"\udc00x"}"#,
        r#"{"\ud800":1}"#,
        r#"["\ud800\ud800"]"#,
    ] {
        let shown = &text[..text.len().min(40)];
        assert_eq!(code(text), Some("M_BAD_JSON".into()), "{shown}");
        assert!(!is_readable(text), "{shown}");
    }
    for twice in [r#"{"a":1,"b":2,"a":3}"#, r#"[{"x":{"a":1,"\u0061":1}}]"#] {
        assert_eq!(code(twice), Some("M_BAD_JSON".into()), "{twice}");
        assert!(is_readable(twice), "{twice}: was stored before, and clients read it");
    }
}

#[test]
fn what_is_no_json_is_not_json() {
    for text in ["", "{", "nonsense", "{'a':1}", r#"{"a":1}x"#, "[1,]", "NaN", r#""\x""#, "01"] {
        assert_eq!(code(text), Some("M_NOT_JSON".into()), "{text}");
        assert!(!is_readable(text), "{text}");
    }
    assert_eq!(check(b"{\"a\":\"\xff\"}").unwrap_err().errcode, "M_NOT_JSON");
    let broken = &nested(30_000)[..40_000];
    assert_eq!(code(broken), Some("M_NOT_JSON".into()));
}
