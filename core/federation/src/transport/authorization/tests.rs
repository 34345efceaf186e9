//! Headers as peers write them, and as nobody should.

use colonnade_model::ruma::server_name;
use http::HeaderValue;

use super::*;

fn key() -> Ed25519KeyPair {
    let der = Ed25519KeyPair::generate();
    Ed25519KeyPair::from_der(&der, "a_1".to_owned()).unwrap()
}

fn read(text: &str) -> XMatrix {
    XMatrix::parse(text).unwrap().unwrap()
}

#[test]
fn every_way_of_quoting_is_read() {
    let plain =
        read(r#"X-Matrix origin="a.example",destination="b.example",key="ed25519:a_1",sig="c2ln""#);
    assert_eq!(plain.origin, "a.example");
    assert_eq!(plain.destination.as_deref(), Some(server_name!("b.example")));
    assert_eq!((plain.key_id.as_str(), plain.signature.as_str()), ("ed25519:a_1", "c2ln"));
    for other in [
        "X-Matrix origin=a.example,destination=b.example,key=ed25519:a_1,sig=c2ln",
        r#"x-matrix sig=c2ln,KEY="ed25519:a_1" , Destination = b.example,	origin="a.example""#,
        r#"X-Matrix  origin="a.ex\ample", destination="b.example", key="ed\25519:a_1", sig="c2ln","#,
        r#"X-Matrix origin="a.example",destination="b.example",key="ed25519:a_1",sig="c2ln",new="a,b""#,
        r#"X-Matrix ,origin="a.example",,destination="b.example",key="ed25519:a_1",sig="c2ln""#,
    ] {
        assert_eq!(read(other), plain, "{other}");
    }
    let ported = read("X-Matrix origin=a.example:8448,key=ed25519:1,sig=ab/+c==");
    assert_eq!((ported.origin.as_str(), ported.destination), ("a.example:8448", None));
    assert_eq!(ported.signature, "ab/+c==");
}

#[test]
fn what_is_broken_is_refused_and_other_schemes_are_passed_over() {
    for broken in [
        "X-Matrix",
        "X-Matrix origin=a.example",
        "X-Matrix origin=a.example,key=k",
        "X-Matrix origin=a.example,origin=b.example,key=k,sig=s",
        r#"X-Matrix origin="a.example,key=k,sig=s"#,
        r#"X-Matrix origin="a.example"b,key=k,sig=s"#,
        r#"X-Matrix origin="a.example\"#,
        "X-Matrix origin=a example,key=k,sig=s",
        "X-Matrix origin=,key=k,sig=s",
        "X-Matrix origin",
    ] {
        assert!(XMatrix::parse(broken).is_err(), "{broken}");
    }
    assert_eq!(XMatrix::parse(&format!("X-Matrix {}", "a".repeat(10_000))), Err("it is too long"));
    assert_eq!(XMatrix::parse("Bearer abc"), Ok(None));
    assert_eq!(XMatrix::parse(""), Ok(None));
}

#[test]
fn several_headers_are_of_one_origin() {
    let mut headers = HeaderMap::new();
    assert_eq!(XMatrix::read_all(&headers), Err(AuthorizationError::Missing));
    let add = |headers: &mut HeaderMap, text: &'static str| {
        headers.append(AUTHORIZATION, HeaderValue::from_static(text));
    };
    add(&mut headers, "Bearer abc");
    add(&mut headers, "X-Matrix origin=a.example,key=k1,sig=s1");
    add(&mut headers, "X-Matrix origin=a.example,key=k2,sig=s2");
    assert_eq!(XMatrix::read_all(&headers).unwrap().len(), 2);
    add(&mut headers, "X-Matrix origin=b.example,key=k2,sig=s2");
    assert!(matches!(XMatrix::read_all(&headers), Err(AuthorizationError::Malformed(_))));
}

#[test]
fn a_signature_holds_for_one_request_to_one_server_and_no_other() {
    let key = key();
    let public = || Base64::new(key.public_key().to_vec());
    let content = "{ \"pdus\": [{ \"b\": 1, \"a\": \"\\u00e4\" }] }";
    let signed = Signed {
        method: "PUT",
        uri: "/_matrix/federation/v1/send/1?a=%20b",
        origin: server_name!("a.example"),
        destination: server_name!("b.example"),
        content: Some(content),
    };
    let header = read(&signed.sign(&key).unwrap().to_header());
    let of = |name: &str| (name == "ed25519:a_1").then(public);
    let headers = std::slice::from_ref(&header);
    assert_eq!(signed.verify(headers, of), Ok(()));
    // An older server does not say for whom, and signs it all the same.
    let older = XMatrix { destination: None, ..header.clone() };
    assert_eq!(signed.verify(&[older], of), Ok(()));

    // However it is written.
    let same = Signed { content: Some("{\"pdus\":[{\"a\":\"ä\",\"b\":1}]}"), ..signed };
    assert_eq!(same.verify(headers, of), Ok(()));
    let broken = Signed { content: Some("{"), ..signed };
    assert!(matches!(broken.verify(headers, of), Err(AuthorizationError::NotJson(_))));

    let others = [
        Signed { method: "POST", ..signed },
        Signed { uri: "/_matrix/federation/v1/send/2?a=%20b", ..signed },
        Signed { uri: "/_matrix/federation/v1/send/1?a= b", ..signed },
        Signed { origin: server_name!("c.example"), ..signed },
        Signed { content: Some("{\"pdus\":[{\"a\":\"ä\",\"b\":2}]}"), ..signed },
        Signed { content: None, ..signed },
    ];
    for other in others {
        let forged = AuthorizationError::Forged(other.origin.to_owned());
        assert_eq!(other.verify(headers, of), Err(forged), "{other:?}");
    }
    let elsewhere = Signed { destination: server_name!("c.example"), ..signed };
    let told = AuthorizationError::OtherDestination("b.example".to_owned());
    assert_eq!(elsewhere.verify(headers, of), Err(told));
    let unnamed = XMatrix { destination: None, ..header.clone() };
    assert!(elsewhere.verify(&[unnamed], of).is_err(), "signed over the destination, too");

    assert!(signed.verify(headers, |_| None).is_err(), "a key that nobody knows");
    let another = Base64::new(self::key().public_key().to_vec());
    assert!(signed.verify(headers, |_| Some(another.clone())).is_err());
    assert!(signed.verify(headers, |_| Some(Base64::new(vec![1, 2, 3]))).is_err());
    let garbled = XMatrix { signature: "?".to_owned(), ..header };
    assert!(signed.verify(std::slice::from_ref(&garbled), of).is_err());
    // One right signature is enough.
    assert_eq!(signed.verify(&[garbled, signed.sign(&key).unwrap()], of), Ok(()));
}
