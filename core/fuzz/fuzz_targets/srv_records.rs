//! Any records of a service: those that are tried name a host and a port, in an order that does not depend on how
//! the answer had them.

#![no_main]

use colonnade_federation::transport::{Srv, in_order};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|records: Vec<(u16, u16, String, u16)>| {
    let read = |(priority, weight, target, port)| Srv { priority, weight, target, port };
    let records: Vec<Srv> = records.into_iter().map(read).collect();
    let forwards = in_order(records.clone());
    assert!(forwards.iter().all(|record| !record.target.is_empty() && record.port != 0));
    assert!(forwards.is_sorted_by_key(|record| record.priority));
    let backwards = in_order(records.into_iter().rev().collect());
    let keys = |records: &[Srv]| -> Vec<(u16, u16)> {
        records.iter().map(|record| (record.priority, record.weight)).collect()
    };
    assert_eq!(keys(&forwards), keys(&backwards));
});
