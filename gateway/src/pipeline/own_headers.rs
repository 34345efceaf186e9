//! Headers between the gateway and its workers: the gateway writes them itself, so that neither clients nor
//! workers can speak for it to the other side.

use colonnade_http1::HeaderAction;

use crate::upstream::slots::{EPOCH_HEADER, OWNER_HEADER};

/// What becomes of a client's header that is not its connection's own.
pub fn in_request(name: &str) -> HeaderAction {
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    match name.len() {
        10 if is("tracestate") => HeaderAction::Trace,
        11 if is("traceparent") => HeaderAction::Trace,
        12 if is("x-request-id") => HeaderAction::Drop,
        15 if is("x-forwarded-for") => HeaderAction::Drop,
        17 if is("x-forwarded-proto") || is(EPOCH_HEADER) => HeaderAction::Drop,
        _ => HeaderAction::Pass,
    }
}

/// Says whether the client gets a worker's header: where workers are is nothing to clients.
pub fn passes_in_answer(name: &str) -> bool {
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    match name.len() {
        12 => !is("x-request-id"),
        17 => !is(OWNER_HEADER) && !is(EPOCH_HEADER),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_speaks_for_the_gateway() {
        let dropped = ["X-Request-Id", "x-forwarded-for", "X-Forwarded-Proto", EPOCH_HEADER];
        for name in dropped {
            assert_eq!(in_request(name), HeaderAction::Drop, "{name}");
        }
        for name in ["traceparent", "Tracestate"] {
            assert_eq!(in_request(name), HeaderAction::Trace, "{name}");
        }
        for name in ["x-forwarded-host", "authorization", "accept"] {
            assert_eq!(in_request(name), HeaderAction::Pass, "{name}");
        }
        for name in ["x-request-id", OWNER_HEADER, EPOCH_HEADER] {
            assert!(!passes_in_answer(name), "{name}");
        }
        assert!(passes_in_answer("content-type"));
    }
}
