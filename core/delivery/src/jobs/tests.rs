//! When a job is done, and what its failure leaves.

use std::sync::atomic::{AtomicU64, Ordering};

use colonnade_model::MatrixError;
use colonnade_storage::ownership::pools::BACKGROUND;
use colonnade_testkit_rooms::World;

use super::*;

const NAME: &str = "a_job";

#[tokio::test]
async fn a_job_is_done_when_it_is_due_and_not_again_until_then() {
    let world = World::new().await;
    let job = LeasedJob { name: NAME, duty: Duty::of(BACKGROUND, NAME) };
    let done = AtomicU64::new(0);
    let attend = async || {
        let work = async |_| Ok(done.fetch_add(1, Ordering::Relaxed));
        job.attend(&world.context, work).await.unwrap()
    };
    world.clock.advance(EVERY.as_millis() as i64);
    assert_eq!((attend().await, done.load(Ordering::Relaxed)), (EVERY, 1));
    world.clock.advance(1_000);
    assert_eq!(attend().await, EVERY - Duration::from_secs(1));
    assert_eq!(done.load(Ordering::Relaxed), 1);
    world.clock.advance(EVERY.as_millis() as i64);
    assert_eq!((attend().await, done.load(Ordering::Relaxed)), (EVERY, 2));
    // Done in a future from which the clock went back: nobody knows.
    world.clock.advance(-10 * EVERY.as_millis() as i64);
    assert_eq!((attend().await, done.load(Ordering::Relaxed)), (EVERY, 3));
}

#[tokio::test]
async fn a_job_that_failed_is_due_still() {
    let world = World::new().await;
    let job = LeasedJob { name: NAME, duty: Duty::of(BACKGROUND, NAME) };
    world.clock.advance(EVERY.as_millis() as i64);
    let fails = async |_| Err(MatrixError::unavailable("not now").into());
    job.attend(&world.context, fails).await.unwrap_err();
    assert_eq!(table::done_ts(&world.context.db, NAME).await.unwrap(), 0);
    assert_eq!(job.attend(&world.context, async |_| Ok(7)).await.unwrap(), EVERY);
    assert_eq!(table::done_ts(&world.context.db, NAME).await.unwrap(), world.context.now_ms());
}
