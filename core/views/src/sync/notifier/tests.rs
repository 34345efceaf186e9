//! Who is woken when.

use futures_util::FutureExt as _;

use super::{throttle::PRESENCE_CROWD_MAX, *};

const ROOM: RoomNid = RoomNid(1);

fn crowd(heads: &Notifier, size: usize) -> Vec<Watch> {
    let watch = |n| heads.watch([ROOM].into_iter(), UserNid(n), DeviceNid(n));
    (1..=size as i64).map(watch).collect()
}

fn say(heads: &Notifier, upto: Position) {
    touch(heads, Stream::Events, Touch::Room(ROOM), upto);
}

fn touch(heads: &Notifier, stream: Stream, touch: Touch, upto: Position) {
    let touched = vec![(touch, upto)];
    heads.apply(&StreamAdvance { stream, prev: upto - 1, upto, touched });
}

/// How many were woken since the last time.
fn woken(crowd: &[Watch]) -> usize {
    crowd.iter().filter(|watch| watch.moved().now_or_never().is_some()).count()
}

#[tokio::test(start_paused = true)]
async fn a_crowd_is_woken_in_turn_and_all_of_it() {
    let heads = Notifier::new(Positions::default(), Duration::from_millis(200));
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
    let heads = Notifier::new(Positions::default(), Duration::from_millis(200));
    let crowd = crowd(&heads, AT_ONCE_MAX);
    say(&heads, 1);
    assert_eq!(woken(&crowd), AT_ONCE_MAX);
}

/// Lets the queue go for so long.
async fn pass(heads: &Arc<Notifier>, time: Duration) {
    let parts = throttle::wake_in_parts(Arc::downgrade(heads), Arc::clone(&heads.queue_grew));
    tokio::time::timeout(time, parts).await.expect_err("it goes on");
}

#[tokio::test]
async fn nobody_wakes_for_a_notifier_that_is_gone() {
    let heads = Notifier::new(Positions::default(), Duration::from_millis(200));
    let parts = throttle::wake_in_parts(Arc::downgrade(&heads), Arc::clone(&heads.queue_grew));
    let parts = tokio::spawn(parts);
    tokio::task::yield_now().await;
    drop(heads);
    tokio::time::timeout(Duration::from_secs(60), parts).await.expect("it ends").unwrap();
}

#[tokio::test(start_paused = true)]
async fn presence_wakes_no_crowd() {
    let heads = Notifier::new(Positions::default(), Duration::from_millis(200));
    let mut crowd = crowd(&heads, PRESENCE_CROWD_MAX + 1);
    touch(&heads, Stream::Presence, Touch::Room(ROOM), 1);
    pass(&heads, Duration::from_secs(60)).await;
    assert_eq!(woken(&crowd), 0);
    assert_eq!(heads.rooms([ROOM].into_iter())[0].presence, 1, "it comes with the next answer");
    touch(&heads, Stream::DeviceLists, Touch::Room(ROOM), 1);
    pass(&heads, Duration::from_secs(60)).await;
    assert_eq!(woken(&crowd), PRESENCE_CROWD_MAX + 1, "keys concern everybody");
    crowd.pop();
    touch(&heads, Stream::Presence, Touch::Room(ROOM), 2);
    pass(&heads, Duration::from_secs(60)).await;
    assert_eq!(woken(&crowd), PRESENCE_CROWD_MAX);
}

#[tokio::test(start_paused = true)]
async fn few_are_woken_at_once_by_a_login() {
    let heads = Notifier::new(Positions::default(), Duration::from_millis(200));
    let crowd = crowd(&heads, 5);
    touch(&heads, Stream::DeviceLists, Touch::Room(ROOM), 1);
    pass(&heads, Duration::ZERO).await;
    assert_eq!(woken(&crowd), 5);
}

#[tokio::test(start_paused = true)]
async fn many_logins_wake_each_client_once() {
    let heads = Notifier::new(Positions::default(), Duration::from_millis(200));
    let mut crowd = crowd(&heads, 1_000);
    (1..100).for_each(|n| touch(&heads, Stream::DeviceLists, Touch::Room(ROOM), n));
    assert_eq!(heads.rooms([ROOM].into_iter())[0].device_lists, 99, "who asks is told");
    pass(&heads, Duration::from_secs(1)).await;
    let first = woken(&crowd);
    assert!((95..=110).contains(&first), "{first}: 100 a second");
    // Those who went are not waited for, and nobody is woken twice.
    crowd.drain(200..700);
    pass(&heads, Duration::from_secs(5)).await;
    assert_eq!(first + woken(&crowd), 500);
    assert!(heads.next_part().is_none(), "the queue is empty");
}

#[tokio::test(start_paused = true)]
async fn a_long_queue_goes_faster() {
    let heads = Notifier::new(Positions::default(), Duration::from_millis(200));
    let crowd = crowd(&heads, 20_000);
    touch(&heads, Stream::DeviceLists, Touch::Room(ROOM), 1);
    pass(&heads, Duration::from_secs(60)).await;
    assert_eq!(woken(&crowd), 20_000);
}

#[test]
fn a_message_concerns_one_device() {
    let heads = Notifier::new(Positions::default(), Duration::from_millis(200));
    touch(&heads, Stream::ToDevice, Touch::Device(DeviceNid(1)), 5);
    assert_eq!((heads.device(DeviceNid(1)), heads.device(DeviceNid(2))), (5, 0));
    touch(&heads, Stream::ToDevice, Touch::Anybody, 7);
    assert_eq!((heads.device(DeviceNid(1)), heads.device(DeviceNid(2))), (7, 7));
}

#[test]
fn a_membership_is_distinguished_from_a_message() {
    let heads = Notifier::new(Positions::default(), Duration::from_millis(200));
    touch(&heads, Stream::Events, Touch::User(UserNid(1)), 1);
    say(&heads, 2);
    assert_eq!(heads.memberships(), 1);
    touch(&heads, Stream::Events, Touch::Anybody, 3);
    assert_eq!(heads.memberships(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_message_waits_for_company() {
    let heads = Notifier::new(Positions::default(), Duration::from_millis(200));
    let crowd = crowd(&heads, 3);
    let gathered =
        gather::wake_gathered(Arc::downgrade(&heads), Arc::clone(&heads.gathering_began));
    let gathered = tokio::spawn(gathered);
    touch(&heads, Stream::Receipts, Touch::Room(ROOM), 1);
    tokio::time::sleep(Duration::from_millis(150)).await;
    touch(&heads, Stream::Typing, Touch::Room(ROOM), 1);
    assert_eq!(woken(&crowd), 0);
    assert_eq!(heads.rooms([ROOM].into_iter())[0].receipts, 1, "who asks is told");
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(woken(&crowd), 3, "the first waits no longer than it would alone");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(woken(&crowd), 0, "once for both");
    touch(&heads, Stream::Receipts, Touch::Room(ROOM), 2);
    say(&heads, 1);
    assert_eq!(woken(&crowd), 3, "a message waits for nobody");
    drop((crowd, heads));
    gathered.await.unwrap();
}
