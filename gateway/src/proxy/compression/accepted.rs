//! Which coding a client wants its answers in (RFC 9110 §12.5.3). Pure.

/// What the filter can do.
const CODINGS: [&str; 3] = ["gzip", "zstd", "br"];

/// The weight of what a client wants as much as possible, in thousandths.
const MOST: u16 = 1_000;

/// What `identity` weighs when nobody speaks of it: it will do, and anything that is asked for is better.
const UNSPOKEN: u16 = 1;

/// The coding to use, from the lines of `Accept-Encoding`; none where the client asks for none, or for none
/// that we have, also when it excludes `identity`: it then gets what there is, as the RFC recommends.
pub(crate) fn best(lines: &[&[u8]]) -> Option<&'static str> {
    let items = lines.iter().flat_map(|line| line.split(|byte| *byte == b','));
    let wanted: Vec<(String, u16)> = items.filter_map(item).collect();
    let weight =
        |name: &str| wanted.iter().find(|(known, _)| known == name).map(|(_, weight)| *weight);
    let any = weight("*");
    let plain = weight("identity").or(any).unwrap_or(UNSPOKEN);
    // In the order the client has them, which decides between equals.
    let named = wanted.iter().filter_map(|(name, weight)| {
        let coding = CODINGS.into_iter().find(|known| known == name)?;
        (*weight > 0 && *weight >= plain).then_some((coding, *weight))
    });
    let mut best: Option<(&'static str, u16)> = None;
    for (coding, weight) in named {
        if best.is_none_or(|(_, most)| weight > most) {
            best = Some((coding, weight));
        }
    }
    let unnamed = || CODINGS.into_iter().find(|coding| weight(coding).is_none());
    best.map(|(coding, _)| coding)
        .or_else(|| any.filter(|any| *any > plain).and_then(|_| unnamed()))
}

/// A coding and its weight; none for what is empty. A weight that is none is 0: no is the safer reading.
fn item(item: &[u8]) -> Option<(String, u16)> {
    let item = std::str::from_utf8(item).ok()?;
    let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
    let name = name.trim().to_ascii_lowercase();
    let name = if name == "x-gzip" { "gzip".to_owned() } else { name };
    let weight = match parameters.trim().split_once('=') {
        None => {
            if parameters.trim().is_empty() {
                MOST
            } else {
                0
            }
        }
        Some((q, value)) if q.trim().eq_ignore_ascii_case("q") => weight(value.trim()).unwrap_or(0),
        Some(_) => 0,
    };
    (!name.is_empty()).then_some((name, weight))
}

/// A weight in thousandths (RFC 9110 §12.4.2).
fn weight(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let whole: u16 = matches!(whole, "0" | "1").then(|| whole.parse().ok())??;
    let thousandths: u16 = format!("{fraction:0<3}").parse().ok()?;
    (digits && whole * MOST + thousandths <= MOST).then_some(whole * MOST + thousandths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_decide_and_zero_is_no() {
        for (accepts, coding) in [
            ("", None),
            ("gzip", Some("gzip")),
            ("GZip ; Q=1.000", Some("gzip")),
            ("x-gzip", Some("gzip")),
            ("what, br, gzip", Some("br")),
            ("gzip;q=0", None),
            ("gzip;q=0.000", None),
            ("gzip;q=0, br", Some("br")),
            ("gzip;q=0.1, br;q=0.9", Some("br")),
            ("gzip;q=0.5, identity", None),
            ("gzip;q=0.5, identity;q=0.5", Some("gzip")),
            ("gzip;q=0.5, identity;q=0.1", Some("gzip")),
            ("gzip;q=0.001", Some("gzip")),
            ("*;q=0", None),
            ("gzip, *;q=0", Some("gzip")),
            ("*", None),
            ("identity", None),
            ("identity;q=0", None),
            ("*, identity;q=0", Some("gzip")),
            ("gzip;q=0, *, identity;q=0", Some("zstd")),
            ("deflate, compress", None),
            ("gzip;q=2", None),
            ("gzip;q=-1", None),
            ("gzip;q=0.0001", None),
            ("gzip;q=x", None),
            ("gzip;x", None),
            ("gzip;q", None),
            (",, gzip,", Some("gzip")),
        ] {
            assert_eq!(best(&[accepts.as_bytes()]), coding, "{accepts}");
        }
        assert_eq!(best(&[]), None);
        assert_eq!(best(&[b"gzip;q=0", b"zstd"]), Some("zstd"), "lines are one list");
        assert_eq!(best(&[b"\xff, gzip"]), Some("gzip"));
    }
}
