//! What a transaction to another server looks like.

use colonnade_model::ruma::ServerName;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// A transaction: its name, made of what is in it, and its body.
pub(super) struct Body {
    pub(super) txn_id: String,
    pub(super) json: Value,
}

/// Makes a transaction of PDUs and EDUs.
pub(super) fn transaction(
    ours: &ServerName,
    now_ms: i64,
    pdus: Vec<Value>,
    edus: Vec<Value>,
) -> Body {
    let mut digest = Sha256::new();
    for one in pdus.iter().chain(&edus) {
        digest.update(one.to_string());
        digest.update([0]);
    }
    let txn_id = digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let json = json!({
        "origin": ours,
        "origin_server_ts": now_ms,
        "pdus": pdus,
        "edus": edus,
    });
    Body { txn_id, json }
}

#[cfg(test)]
mod tests {
    use colonnade_model::ruma::server_name;

    use super::*;

    #[test]
    fn the_same_content_has_the_same_name_whenever_it_is_sent() {
        let ours = server_name!("one.org");
        let make = |now_ms, text: &str| transaction(ours, now_ms, vec![json!(text)], Vec::new());
        assert_eq!(make(1, "a").txn_id, make(2, "a").txn_id);
        assert_ne!(make(1, "a").txn_id, make(1, "b").txn_id);
        let split = transaction(ours, 1, vec![json!("a"), json!("b")], Vec::new());
        assert_ne!(split.txn_id, make(1, "ab").txn_id);
    }
}
