//! Who should have which slots: pure arithmetic, the same for whoever works it out.

use std::collections::BTreeMap;

/// Returns an owner for every slot. As few slots move as an even share allows: nobody who stays
/// loses one while having no more than a share, and shares differ by one at most.
///
/// `owners` are those of now by slot, 0 for none; `members` are those who may have slots. Without
/// members everything stays as it is.
pub(super) fn balance(owners: &[i64], members: &[i64]) -> Vec<i64> {
    if members.is_empty() {
        return owners.to_vec();
    }
    let mut has: BTreeMap<i64, usize> = members.iter().map(|member| (*member, 0)).collect();
    for owner in owners {
        if let Some(count) = has.get_mut(owner) {
            *count += 1;
        }
    }
    let mut shares = shares(&has, owners.len());
    let mut wanted: Vec<i64> = Vec::with_capacity(owners.len());
    for owner in owners {
        let stays = shares.get_mut(owner).filter(|left| **left > 0);
        wanted.push(stays.map_or(0, |left| {
            *left -= 1;
            *owner
        }));
    }
    let mut takers =
        shares.into_iter().flat_map(|(member, left)| std::iter::repeat_n(member, left));
    for slot in wanted.iter_mut().filter(|owner| **owner == 0) {
        *slot = takers.next().unwrap_or(0);
    }
    wanted
}

/// Tells from the number of slots of each owner, without looking at the slots, that [`balance`] would
/// move none.
pub(super) fn is_balanced(counts: &[(i64, i64)], slots: usize, members: &[i64]) -> bool {
    if members.is_empty() {
        return true;
    }
    let share = i64::try_from(slots / members.len()).unwrap_or(i64::MAX);
    let count_of = |member: &i64| {
        let found = counts.iter().find(|(owner, _)| owner == member);
        found.map_or(0, |(_, count)| *count)
    };
    let all: i64 = members.iter().map(count_of).sum();
    let even = members.iter().map(count_of).all(|count| count == share || count == share + 1);
    even && usize::try_from(all) == Ok(slots)
}

/// Returns how many slots each member should have; the larger shares go to those who have most.
fn shares(has: &BTreeMap<i64, usize>, slots: usize) -> BTreeMap<i64, usize> {
    let (share, larger) = (slots / has.len(), slots % has.len());
    let mut order: Vec<(usize, i64)> =
        has.iter().map(|(member, count)| (*count, *member)).collect();
    order.sort_by_key(|(count, member)| (std::cmp::Reverse(*count), *member));
    let shares = order.into_iter().enumerate();
    shares.map(|(n, (_, member))| (member, share + usize::from(n < larger))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn counts(owners: &[i64]) -> HashMap<i64, usize> {
        let mut counts = HashMap::new();
        for owner in owners {
            *counts.entry(*owner).or_default() += 1;
        }
        counts
    }

    fn moved(before: &[i64], after: &[i64]) -> usize {
        before.iter().zip(after).filter(|(before, after)| before != after).count()
    }

    #[test]
    fn shares_are_even_and_few_slots_move() {
        let mut owners = vec![0; 1024];
        let mut members: Vec<i64> = Vec::new();
        // Who comes and who goes: none ever moves more than the share concerned.
        for (come, go) in [(1, 0), (2, 0), (3, 0), (4, 2), (5, 0), (6, 1), (7, 3), (8, 0), (0, 8)] {
            let before = members.len();
            members.retain(|member| *member != go);
            if come != 0 {
                members.push(come);
            }
            let next = balance(&owners, &members);
            let counted = |owners| -> Vec<(i64, i64)> {
                counts(owners).into_iter().map(|(owner, count)| (owner, count as i64)).collect()
            };
            let rests = moved(&owners, &next) == 0;
            assert_eq!(is_balanced(&counted(&owners), 1024, &members), rests, "{come}, {go}");
            assert!(is_balanced(&counted(&next), 1024, &members), "nothing moves twice");
            let counts = counts(&next);
            for member in &members {
                let even = 1024 / members.len();
                assert!((even..=even + 1).contains(&counts[member]), "{counts:?}");
            }
            assert_eq!(counts.len(), members.len(), "nobody else has slots");
            let most = 1024 / members.len() + 1024 / before.max(1) + 1;
            assert!(before == 0 || moved(&owners, &next) <= most, "{come} comes, {go} goes");
            assert_eq!(balance(&next, &members), next, "nothing moves for nothing");
            owners = next;
        }
    }

    #[test]
    fn a_newcomer_takes_only_his_share() {
        let two: Vec<i64> = (0..1024).map(|slot| 1 + slot % 2).collect();
        let three = balance(&two, &[1, 2, 3]);
        assert_eq!(moved(&two, &three), 341);
        assert!(two.iter().zip(&three).all(|(before, after)| before == after || *after == 3));
    }

    #[test]
    fn without_members_nothing_moves() {
        assert_eq!(balance(&[5, 0, 5], &[]), [5, 0, 5]);
    }
}
