//! Any text where the gateway reads a document: routes, a slot map, an nginx configuration, a PROXY
//! header, forwarding headers, a list of endpoints. No panic, and what it accepts holds what it promises.
#![no_main]

use std::sync::LazyLock;

use colonnade_gateway::config::Config;
use colonnade_gateway::listen::proxy_protocol::{self, Parsed};
use colonnade_gateway::upstream::slots::SlotMap;
use colonnade_gateway::{
    import_nginx, parse_endpoints,
    pipeline::{access_log, forwarded},
};
use libfuzzer_sys::fuzz_target;

/// Read once: for each input it would take a hundred times as long as the input itself.
static BUNDLED: LazyLock<Config> = LazyLock::new(|| Config::bundled().unwrap());

fuzz_target!(|input: (u8, &[u8])| {
    let (which, bytes) = input;
    let text = String::from_utf8_lossy(bytes);
    match which % 6 {
        0 => {
            // What can be read can be compiled or is refused, and never takes the machine with it.
            if let Ok(config) = Config::parse("fuzz", &text)
                && config.routes.len() < 50
            {
                let _found = colonnade_gateway::check(&config, &[]);
            }
        }
        1 => {
            if let Ok(map) = SlotMap::parse(bytes) {
                assert!(map.workers().windows(2).all(|pair| pair[0] < pair[1]));
            }
        }
        2 => {
            if let Ok(imported) = import_nginx("fuzz", &text) {
                // Names of machines are carried over, and refused here: whoever imports is told.
                let _made_from_it = Config::parse("imported", &imported.routes);
            }
        }
        3 => match proxy_protocol::parse(bytes) {
            Parsed::Whole { length, .. } => assert!(length <= bytes.len()),
            Parsed::Partial => assert!(bytes.len() < proxy_protocol::HEADER_LEN_MAX),
            Parsed::Wrong => {}
        },
        4 => {
            let loopback = std::net::Ipv4Addr::LOCALHOST.into();
            let client = forwarded::client(&BUNDLED, loopback, false, Some(&text), Some(&text));
            assert!(client.forwarded_for.ends_with("127.0.0.1"));
        }
        _ => {
            let _endpoints = parse_endpoints(&text);
            let line = access_log::redact(&format!("/a?access_token={text}"));
            assert!(line.starts_with("/a?access_token=<redacted>"));
        }
    }
});
