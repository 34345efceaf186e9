//! A consistent hash ring that points where nginx's `hash … consistent` points, so that moving from
//! nginx keeps every worker's caches warm. Pure arithmetic; members are known by their place.
//!
//! The layout is nginx's (ngx_http_upstream_hash_module.c): each member owns 160 points per unit of
//! weight, each the CRC-32 of host, a zero byte, port and the point before it; a key belongs to the
//! first point at or after its own CRC-32.

/// Points per unit of weight, as nginx has it.
const POINTS_PER_WEIGHT: u32 = 160;

/// The ring: points sorted by hash, each with the place of its member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ring {
    points: Box<[(u32, u32)]>,
}

impl Ring {
    /// Builds the ring of members given by address text and weight.
    pub fn new<'a>(members: impl IntoIterator<Item = (&'a str, u32)>) -> Self {
        let mut points = Vec::new();
        for (place, (address, weight)) in (0u32..).zip(members) {
            let (host, port) = host_and_port(address);
            let mut base = crc32fast::Hasher::new();
            base.update(host.as_bytes());
            base.update(&[0]);
            base.update(port.as_bytes());
            let mut previous = 0u32;
            for _ in 0..weight.saturating_mul(POINTS_PER_WEIGHT) {
                let mut point = base.clone();
                point.update(&previous.to_le_bytes());
                previous = point.finalize();
                points.push((previous, place));
            }
        }
        // Stable, so that of two equal points the earlier member's stays, as in nginx.
        points.sort_by_key(|(hash, _)| *hash);
        points.dedup_by_key(|(hash, _)| *hash);
        Self { points: points.into_boxed_slice() }
    }

    /// Walks the members a key belongs to: its own first, then those that would follow it.
    /// A member appears once for each of its points.
    pub fn walk(&self, key: &[u8]) -> impl Iterator<Item = usize> + '_ {
        let hash = crc32fast::hash(key);
        let first = self.points.partition_point(|(point, _)| *point < hash);
        let (before, after) = self.points.split_at(first);
        after.iter().chain(before).map(|(_, place)| *place as usize)
    }
}

/// Splits an address as nginx does: digits after the last colon are the port.
fn host_and_port(address: &str) -> (&str, &str) {
    if let Some(path) = address.strip_prefix("unix:") {
        return (path, "");
    }
    match address.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (host, port),
        _ => (address, ""),
    }
}

#[cfg(test)]
mod tests;
