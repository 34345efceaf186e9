//! Headers right, short and wrong.

use super::*;

fn version_2_of(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([0x20 | command, family]);
    bytes.extend((addresses.len() as u16).to_be_bytes());
    bytes.extend(addresses);
    bytes
}

#[test]
fn both_versions_tell_the_client() {
    let text = b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 443\r\nGET";
    let client = Some("203.0.113.9".parse().unwrap());
    assert_eq!(parse(text), Parsed::Whole { length: 42, client });
    let mut binary = version_2_of(1, 0x11, &[203, 0, 113, 9, 10, 0, 0, 1, 1, 1, 2, 2]);
    assert_eq!(parse(&binary), Parsed::Whole { length: 28, client });
    binary.extend(b"GET");
    assert_eq!(parse(&binary), Parsed::Whole { length: 28, client });
    let text = b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n";
    let client = Some("2001:db8::1".parse().unwrap());
    assert_eq!(parse(text), Parsed::Whole { length: text.len(), client });
}

#[test]
fn the_balancer_may_speak_for_itself() {
    assert_eq!(parse(b"PROXY UNKNOWN\r\n"), Parsed::Whole { length: 15, client: None });
    let local = version_2_of(0, 0, &[]);
    assert_eq!(parse(&local), Parsed::Whole { length: 16, client: None });
}

#[test]
fn every_beginning_of_a_header_is_partial() {
    let whole =
        [b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 443\r\n".to_vec(), version_2_of(1, 0x11, &[1; 12])];
    for header in whole {
        for end in 0..header.len() {
            assert_eq!(parse(&header[..end]), Parsed::Partial, "{end}");
        }
    }
}

#[test]
fn anything_else_is_wrong() {
    let long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
    let huge = version_2_of(1, 0x11, &[0; 600]);
    let version_3 = {
        let mut b = version_2_of(1, 0x11, &[1; 12]);
        b[12] = 0x31;
        b
    };
    let wrong: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\n",
        b"PROXY TCP4 nonsense x 1 2\r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n",
        &long,
        &huge,
        &version_3,
    ];
    for bytes in wrong {
        assert_eq!(parse(bytes), Parsed::Wrong, "{bytes:?}");
    }
}
