//! Requests that reach the wrong worker because a gateway's map is old: they are answered with 421 and the
//! owner's address, before anything is done, and the gateway sends them there (docs/decisions/0031).
//!
//! Only who shows the proof in the map is answered so. Clients do not have it, whichever proxy they come
//! through; what they ask for is passed on to the owner by the worker they reached.

use colonnade_api::{Reply, reply, router::EndpointName};
use colonnade_model::MatrixError;
use http::{HeaderMap, HeaderValue};
use subtle::ConstantTimeEq as _;

/// In an answer, the epoch of the worker's map; in a request, that of the gateway's, a blank, and the proof.
const EPOCH: &str = "x-colonnade-epoch";
/// Where the owner is, as the map says it.
const OWNER: &str = "x-colonnade-owner";
/// The status (RFC 9110 §15.5.20).
const STATUS: u16 = 421;

/// Returns the epoch of the map by which a gateway chose this worker, if it says so and has the map.
pub(crate) fn known(headers: &HeaderMap, proof: &str) -> Option<i64> {
    let mut header = headers.get_all(EPOCH).iter();
    let (header, another) = (header.next()?, header.next());
    let (epoch, shown) = header.to_str().ok()?.split_once(' ')?;
    let proved = another.is_none() && bool::from(shown.as_bytes().ct_eq(proof.as_bytes()));
    epoch.parse().ok().filter(|epoch| proved && *epoch >= 0)
}

/// Says who the owner is, by the map of `epoch`.
pub(crate) fn answer(endpoint: EndpointName, address: &str, epoch: i64) -> Option<Reply> {
    let error = MatrixError::unknown("another worker has this room").with_status(STATUS);
    let mut answer = reply::matrix_error(&error);
    answer.headers_mut().insert(OWNER, HeaderValue::from_str(address).ok()?);
    answer.headers_mut().insert(EPOCH, HeaderValue::from(epoch));
    answer.extensions_mut().insert(endpoint);
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known_by(values: &[&str]) -> Option<i64> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(EPOCH, value.parse().unwrap());
        }
        known(&headers, "secret")
    }

    #[test]
    fn only_who_has_the_map_is_believed() {
        assert_eq!(known_by(&["17 secret"]), Some(17));
        assert_eq!(known_by(&["0 secret"]), Some(0));
        for value in
            ["17", "17 ", "17 guess", "17 secre", "17 secrets", " secret", "-1 secret", "x secret"]
        {
            assert_eq!(known_by(&[value]), None, "{value}");
        }
        assert_eq!(known_by(&[]), None);
        assert_eq!(known_by(&["17 secret", "0 secret"]), None, "which one is the gateway's?");
    }

    #[test]
    fn the_answer_names_owner_and_epoch() {
        let answer = answer(EndpointName("/x"), "unix:/run/two.sock", 18).unwrap();
        assert_eq!(answer.status().as_u16(), 421);
        assert_eq!(answer.headers()["x-colonnade-owner"], "unix:/run/two.sock");
        assert_eq!(answer.headers()["x-colonnade-epoch"], "18");
        assert_eq!(answer.extensions().get::<EndpointName>().unwrap().0, "/x");
        assert!(super::answer(EndpointName("/x"), "two\nlines", 18).is_none());
    }
}
