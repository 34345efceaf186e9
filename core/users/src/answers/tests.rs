//! Tests of the budget of answers.

use colonnade_model::nid::UserNid;
use futures_util::FutureExt as _;

use super::*;

const MIB: usize = 1024 * 1024;

fn user(n: i64) -> Payer {
    Payer::User(UserNid(n))
}

/// Sets something aside that there is room for.
async fn reserved(answers: &Arc<Answers>, payer: Payer, need: Need) -> Reserved {
    answers.reserve(payer, need).now_or_never().expect("there is room").unwrap().unwrap()
}

#[tokio::test]
async fn an_answer_is_counted_by_its_size_until_its_last_copy_is_gone() {
    let answers = Answers::new(128 * MIB as u64);
    let held = reserved(&answers, user(1), Need::Page).await;
    assert_eq!(answers.bytes(), PAGE_BYTES);
    let answer = held.pay(Bytes::from(vec![b'x'; 10_000]));
    assert_eq!(answers.bytes(), 10 * 1024);
    let copy = answer.slice(5..6);
    drop(answer);
    assert_eq!(answers.bytes(), 10 * 1024);
    drop(copy);
    assert_eq!(answers.bytes(), 0);
    let larger = reserved(&answers, user(1), Need::Page).await.pay(vec![0; 9 * MIB].into());
    assert_eq!(answers.bytes(), 9 * MIB);
    drop(larger);
    let huge = reserved(&answers, user(1), Need::Whole).await.pay(vec![0; 40 * MIB].into());
    assert_eq!(answers.bytes(), 40 * MIB);
    drop(huge);
    assert!(answers.shares.lock().is_empty(), "nobody is remembered who holds nothing");
}

#[tokio::test(start_paused = true)]
async fn who_holds_his_share_waits_and_is_refused_and_others_are_not() {
    let answers = Answers::new(128 * MIB as u64);
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(reserved(&answers, user(1), Need::Page).await);
    }
    let refused = answers.reserve(user(1), Need::Page).await.unwrap_err();
    assert_eq!((refused.status, refused.errcode), (429, "M_LIMIT_EXCEEDED"));
    drop(reserved(&answers, user(2), Need::Whole).await);
    // Who waits is served as soon as there is room.
    let mut waits = Box::pin(answers.reserve(user(1), Need::Page));
    assert!(waits.as_mut().now_or_never().is_none());
    held.pop();
    waits.await.unwrap();
    drop(held);
    assert_eq!(answers.bytes(), 0);
    assert!(answers.shares.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn all_together_hold_the_budget_and_few_wait_in_line() {
    let answers = Answers::new(32 * MIB as u64);
    let mut held = Vec::new();
    for n in 0..4 {
        for _ in 0..2 {
            held.push(reserved(&answers, user(n), Need::Page).await);
        }
    }
    answers.reserve(user(9), Need::Page).await.unwrap_err();
    answers.reserve(Payer::Process, Need::Page).await.unwrap_err();
    let mut line: Vec<_> =
        (0..WAITING_MAX).map(|_| Box::pin(answers.reserve(user(9), Need::Page))).collect();
    for waits in &mut line {
        assert!(waits.as_mut().now_or_never().is_none());
    }
    let refused = answers.reserve(user(9), Need::Page).now_or_never();
    refused.expect("the line is full").unwrap_err();
    drop(line);
    drop(held);
    reserved(&answers, user(9), Need::Page).await;
    assert_eq!(answers.bytes(), 0);
    assert!(answers.shares.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn few_answers_that_are_no_pages_are_made_at_a_time_and_all_count_whole() {
    let answers = Answers::new(128 * MIB as u64);
    let mut made = Vec::new();
    for n in 0..MADE_MAX as i64 {
        made.push(reserved(&answers, user(n), Need::Whole).await);
    }
    let mut next = Box::pin(answers.reserve(user(9), Need::Whole));
    assert!(next.as_mut().now_or_never().is_none());
    let larger = made.pop().unwrap().pay(vec![0; 90 * MIB].into());
    let next = next.await.unwrap().unwrap();
    assert_eq!(answers.bytes(), 128 * MIB, "what was made takes what room there is");
    // Who waits says so, and stops when there is room.
    assert!(!answers.pressure().is_on());
    let mut waits = Box::pin(answers.reserve(user(10), Need::Page));
    assert!(waits.as_mut().now_or_never().is_none());
    assert!(answers.pressure().is_on());
    drop(larger);
    waits.await.unwrap();
    assert!(!answers.pressure().is_on());
    drop((made, next));
    assert_eq!(answers.bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_an_answer_takes_grows_with_it_and_one_at_a_time_exceeds_the_budget() {
    let answers = Answers::new(128 * MIB as u64);
    let grown = Growth::from(Some(reserved(&answers, user(1), Need::Whole).await));
    grown.add(7 * MIB).await.unwrap();
    assert_eq!(answers.bytes(), 16 * MIB, "so much was set aside");
    grown.add(13 * MIB).await.unwrap();
    assert_eq!(answers.bytes(), 40 * MIB);
    grown.add(80 * MIB).await.unwrap();
    assert_eq!(answers.bytes(), 128 * MIB);
    // Another one cannot begin, or if it has begun waits, and is refused in the end.
    let refused = answers.reserve(user(2), Need::Page).await.unwrap_err();
    assert_eq!((refused.status, refused.errcode), (429, "M_LIMIT_EXCEEDED"));
    let paid = grown.into_reserved().unwrap().pay(vec![0; 100 * MIB].into());
    assert_eq!(answers.bytes(), 100 * MIB, "it is counted by its size now, and nobody is beyond");
    let second = Growth::from(Some(reserved(&answers, user(2), Need::Whole).await));
    let third = Growth::from(Some(reserved(&answers, user(3), Need::Page).await));
    second.add(50 * MIB).await.unwrap();
    third.add(MIB).await.unwrap();
    let refused = third.add(9 * MIB).await.unwrap_err();
    assert_eq!((refused.status, refused.errcode), (429, "M_LIMIT_EXCEEDED"));
    {
        let mut waits = Box::pin(third.add(MIB));
        assert!(waits.as_mut().now_or_never().is_none());
        assert!(answers.pressure().is_on(), "who takes the one beyond slowly is cut off");
        drop(second);
        waits.await.unwrap();
    }
    drop((paid, third));
    assert_eq!(answers.bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_what_he_has_himself_says_so_to_that_alone() {
    let answers = Answers::new(128 * MIB as u64);
    let other = reserved(&answers, user(2), Need::Page).await;
    let stalled = reserved(&answers, user(1), Need::Whole).await.pay(vec![0; 16 * MIB].into());
    let held = reserved(&answers, user(1), Need::Whole).await;
    let mut waits = Box::pin(answers.reserve(user(1), Need::Page));
    assert!(waits.as_mut().now_or_never().is_none());
    assert!(held.pressure().is_on());
    assert!(!other.pressure().is_on() && !answers.pressure().is_on());
    drop(stalled);
    waits.await.unwrap();
    assert!(!held.pressure().is_on());
}
