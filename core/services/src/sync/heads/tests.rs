//! Who is woken when.

use futures_util::FutureExt as _;

use super::*;

const ROOM: RoomNid = RoomNid(1);

fn crowd(heads: &Heads, size: usize) -> Vec<Watch> {
    let watch = |n| heads.watch([ROOM].into_iter(), UserNid(n), DeviceNid(n));
    (1..=size as i64).map(watch).collect()
}

fn say(heads: &Heads, upto: Position) {
    let touched = vec![(Touch::Room(ROOM), upto)];
    heads.apply(&StreamAdvance { stream: Stream::Events, prev: upto - 1, upto, touched });
}

/// How many were woken since the last time.
fn woken(crowd: &[Watch]) -> usize {
    crowd.iter().filter(|watch| watch.moved().now_or_never().is_some()).count()
}

#[tokio::test(start_paused = true)]
async fn a_crowd_is_woken_in_turn_and_all_of_it() {
    let heads = Heads::new(Positions::default());
    let mut crowd = crowd(&heads, 10_000);
    say(&heads, 1);
    assert_eq!(heads.applied().get(Stream::Events), 1, "who asks now is not kept waiting");
    tokio::time::sleep(SPREAD / 2).await;
    let first = woken(&crowd);
    assert!((4_000..6_000).contains(&first), "{first}");
    // Some went meanwhile, and another word falls.
    crowd.truncate(9_000);
    say(&heads, 2);
    tokio::time::sleep(SPREAD * 2).await;
    assert_eq!(woken(&crowd), 9_000);
    tokio::time::sleep(SPREAD * 2).await;
    assert_eq!(woken(&crowd), 0);
}

#[tokio::test(start_paused = true)]
async fn few_are_woken_at_once() {
    let heads = Heads::new(Positions::default());
    let crowd = crowd(&heads, AT_ONCE_MAX);
    say(&heads, 1);
    assert_eq!(woken(&crowd), AT_ONCE_MAX);
}
