//! Which numbers are set aside, and that they come back as they were spelled.

use proptest::prelude::*;

use super::*;

#[test]
fn numbers_come_back_as_they_were_spelled() {
    for number in [
        "1.5",
        "1.0",
        "1e3",
        "1E+03",
        "-2.50e-7",
        "9007199254740992",
        "-9007199254740992",
        "18446744073709551616",
        "123456789012345678901234567890",
        "-0.0",
    ] {
        let json = format!(r#"{{"a":[{number},1,"{number}"],"b\"{number}":{{"c":{number}}}}}"#);
        let (mark, marked) = Mark::set(&json).unwrap();
        let value: serde_json::Value = serde_json::from_str(&marked).unwrap();
        assert_eq!(mark.number(value["a"][0].as_str().unwrap()), Some(number));
        assert_eq!(mark.number(value["a"][2].as_str().unwrap()), None);
        assert_eq!(mark.restore(&marked), json);
        assert_eq!(mark.restore(&value["a"].to_string()), format!(r#"[{number},1,"{number}"]"#));
    }
    let (mark, marked) = Mark::set(r#"{"a":-0,"b":0}"#).unwrap();
    assert_eq!(marked, r#"{"a":0,"b":0}"#);
    assert_eq!(mark.restore(&marked), marked);
}

#[test]
fn canonical_json_is_left_alone() {
    for json in [
        r#"{"a":0,"b":[-1,9007199254740991,-9007199254740991],"c":"1.5 -0 1e3"}"#,
        r#"{"1.5":"\"1.5","\\":"\\1.5"}"#,
        "{}",
    ] {
        assert!(Mark::set(json).is_none(), "{json}");
        assert!(truncate(json).is_none(), "{json}");
    }
}

#[test]
fn levels_are_cut_at_the_point() {
    for (number, level) in [
        ("50.57", "50"),
        ("-50.57", "-50"),
        ("5.114698E4", "51146"),
        ("0.9", "0"),
        ("-0", "0"),
        ("1e300", "9007199254740991"),
        ("-18446744073709551616", "-9007199254740991"),
        ("9007199254740992", "9007199254740991"),
    ] {
        assert_eq!(truncate(&format!("[{number}]")), Some(format!("[{level}]")), "{number}");
    }
}

proptest! {
    #[test]
    fn any_text_is_walked_to_its_end(json in ".{0,100}") {
        let _ = Mark::set(&json).map(|(mark, marked)| mark.restore(&marked));
        let _ = truncate(&json);
    }

    #[test]
    fn any_json_with_floats_comes_back(floats in prop::collection::vec(any::<f64>(), 1..9), text in ".{0,20}") {
        let floats: Vec<f64> = floats.into_iter().filter(|float| float.is_finite()).collect();
        let json = serde_json::json!({ "a": floats, "b": { "c": [text, floats.first()] } });
        let json = json.to_string().replace("-0.0,", "1.0,");
        if let Some((mark, marked)) = Mark::set(&json) {
            prop_assert_eq!(mark.restore(&marked), json);
            let canonical = serde_json::from_str::<colonnade_model::ruma::CanonicalJsonObject>(&marked);
            prop_assert!(canonical.is_ok());
        }
    }
}
