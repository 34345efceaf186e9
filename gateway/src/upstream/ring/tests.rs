//! Where keys point, and how few move.

use pingora_ketama::{Bucket, Continuum};
use proptest::prelude::*;

use super::*;

fn ring(members: &[(String, u32)]) -> Ring {
    Ring::new(members.iter().map(|(name, weight)| (name.as_str(), *weight)))
}

fn members(count: u16) -> Vec<(String, u32)> {
    (0..count).map(|n| (format!("127.0.0.1:{}", 9000 + n), 1)).collect()
}

fn owner(ring: &Ring, members: &[(String, u32)], key: &str) -> String {
    members[ring.walk(key.as_bytes()).next().unwrap()].0.clone()
}

#[test]
fn addresses_are_split_as_nginx_splits_them() {
    assert_eq!(host_and_port("127.0.0.1:80"), ("127.0.0.1", "80"));
    assert_eq!(host_and_port("[::1]:80"), ("[::1]", "80"));
    assert_eq!(host_and_port("unix:/run/a.sock"), ("/run/a.sock", ""));
    assert_eq!(host_and_port("worker"), ("worker", ""));
}

/// Points computed by hand from the description of nginx's module: CRC-32 of
/// `127.0.0.1 \0 9000` and four zero bytes, then chained.
#[test]
fn points_are_chained_crcs() {
    let one = ring(&members(1));
    let mut first = b"127.0.0.1\x009000".to_vec();
    first.extend_from_slice(&[0; 4]);
    let first = crc32fast::hash(&first);
    let mut second = b"127.0.0.1\x009000".to_vec();
    second.extend_from_slice(&first.to_le_bytes());
    let second = crc32fast::hash(&second);
    let hashes: Vec<u32> = one.points.iter().map(|(hash, _)| *hash).collect();
    assert_eq!(hashes.len(), 160);
    assert!(hashes.contains(&first) && hashes.contains(&second));
}

#[test]
fn an_empty_ring_points_nowhere() {
    assert_eq!(Ring::default().walk(b"key").next(), None);
}

#[test]
fn weights_share_keys_in_proportion() {
    let mut members = members(3);
    members[0].1 = 2;
    let ring = ring(&members);
    let count =
        (0..20_000).filter(|n| owner(&ring, &members, &format!("!{n}:h")) == members[0].0).count();
    assert!((8_000..12_000).contains(&count), "{count} of 20000, about 10000 expected");
}

/// Pingora's ring of the same members; it takes addresses alone, no names and no sockets of files.
fn pingoras(members: &[(String, u32)]) -> Continuum {
    let bucket = |(address, weight): &(String, u32)| Bucket::new(address.parse().unwrap(), *weight);
    Continuum::new(&members.iter().map(bucket).collect::<Vec<_>>())
}

#[test]
fn pingoras_ring_points_where_ours_does() {
    for weights in [&[1][..], &[1, 3, 1, 2], &[2, 1, 1], &[1; 40]] {
        let weighed = |(member, weight): ((String, u32), &u32)| (member.0, *weight);
        let members: Vec<_> = members(40).into_iter().zip(weights).map(weighed).collect();
        let (ours, theirs) = (ring(&members), pingoras(&members));
        let points = ours.points.len();
        for n in 0..500 {
            let key = format!("!room{n}:h");
            let ours = ours.walk(key.as_bytes()).map(|place| members[place].0.clone());
            let theirs = theirs.node_iter(key.as_bytes()).map(ToString::to_string);
            // Of some keys the walk around every point, where Pingora's has no end.
            let around = if n % 100 == 0 { points } else { 1 };
            assert!(ours.take(around).eq(theirs.take(around)), "{key} among {weights:?}");
        }
    }
}

/// nginx hashes the brackets of an IPv6 address (gateway/tests/it/nginx.rs asks it), Pingora does not.
#[test]
fn pingoras_ring_points_elsewhere_for_ipv6() {
    let members: Vec<_> = (0..4).map(|n| (format!("[::1]:{}", 9000 + n), 1)).collect();
    let (ours, theirs) = (ring(&members), pingoras(&members));
    let same = (0..2_000).filter(|n| {
        let key = format!("!room{n}:h");
        theirs.node(key.as_bytes()).unwrap().to_string() == owner(&ours, &members, &key)
    });
    let same = same.count();
    assert!((300..700).contains(&same), "{same} of 2000, a fourth would agree by chance");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn adding_a_worker_moves_only_keys_that_become_its_own(count in 1u16..20, at in 0usize..20) {
        let before = members(count);
        let mut after = before.clone();
        after.insert(at.min(before.len()), ("10.0.0.1:1".to_owned(), 1));
        let (old, new) = (ring(&before), ring(&after));
        let mut moved = 0;
        let keys = 2_000;
        for n in 0..keys {
            let key = format!("!room{n}:h");
            let (was, is) = (owner(&old, &before, &key), owner(&new, &after, &key));
            if was != is {
                prop_assert_eq!(is, "10.0.0.1:1");
                moved += 1;
            }
        }
        let fair = keys / (usize::from(count) + 1);
        prop_assert!(moved <= fair + fair / 2 + 20, "{moved} moved, fair is {fair}");
    }

    #[test]
    fn order_in_the_file_does_not_matter(mut shuffled in Just(members(8)).prop_shuffle()) {
        let (sorted, ring_sorted) = (members(8), ring(&members(8)));
        shuffled.truncate(8);
        let ring_shuffled = ring(&shuffled);
        for n in 0..200 {
            let key = format!("@u{n}:h");
            prop_assert_eq!(
                owner(&ring_sorted, &sorted, &key),
                owner(&ring_shuffled, &shuffled, &key)
            );
        }
    }
}
