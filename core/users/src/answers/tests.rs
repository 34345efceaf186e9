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
    let (answer, _) = held.pay(Bytes::from(vec![b'x'; 10_000]));
    assert_eq!(answers.bytes(), 10 * 1024);
    let copy = answer.slice(5..6);
    drop(answer);
    assert_eq!(answers.bytes(), 10 * 1024);
    drop(copy);
    assert_eq!(answers.bytes(), 0);
    let (larger, _) = reserved(&answers, user(1), Need::Page).await.pay(vec![0; 9 * MIB].into());
    assert_eq!(answers.bytes(), 9 * MIB);
    drop(larger);
    let (huge, _) = reserved(&answers, user(1), Need::Whole).await.pay(vec![0; 30 * MIB].into());
    assert_eq!(answers.bytes(), 30 * MIB);
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
    assert_eq!((refused.status, &*refused.errcode), (429, "M_LIMIT_EXCEEDED"));
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
    for n in 0..2 {
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
async fn pages_and_what_cannot_be_a_page_keep_each_other_from_nothing() {
    let answers = Answers::new(128 * MIB as u64);
    let mut wholes = Vec::new();
    for n in 0..4 {
        wholes.push(reserved(&answers, user(n), Need::Whole).await);
    }
    let mut waits = Box::pin(answers.reserve(user(9), Need::Whole));
    assert!(waits.as_mut().now_or_never().is_none());
    let mut pages = Vec::new();
    for n in 10..26 {
        pages.push(reserved(&answers, user(n), Need::Page).await);
    }
    assert_eq!(answers.bytes(), 128 * MIB);
    answers.reserve(user(30), Need::Page).await.unwrap_err();
    wholes.pop();
    waits.await.unwrap();
    drop((wholes, pages));
    assert_eq!(answers.bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_an_answer_takes_grows_with_it_and_one_at_a_time_exceeds_the_budget() {
    let answers = Answers::new(128 * MIB as u64);
    let grown = Growth::from(Some(reserved(&answers, user(1), Need::Whole).await));
    grown.add(7 * MIB).await.unwrap();
    assert_eq!(answers.bytes(), 16 * MIB, "so much was set aside");
    grown.add(8 * MIB).await.unwrap();
    assert_eq!(answers.bytes(), 30 * MIB);
    grown.add(85 * MIB).await.unwrap();
    assert_eq!(answers.bytes(), 16 * MIB, "it is beyond, and keeps nobody from what there is");
    let second = Growth::from(Some(reserved(&answers, user(2), Need::Whole).await));
    second.add(12 * MIB).await.unwrap();
    let (paid, held) = grown.into_reserved().unwrap().pay(vec![0; 100 * MIB].into());
    assert_eq!(answers.bytes(), (16 + 24) * MIB);
    assert!(!held.is_wanted());
    let third = Growth::from(Some(reserved(&answers, user(3), Need::Page).await));
    let refused = third.add(60 * MIB).await.unwrap_err();
    assert_eq!((refused.status, &*refused.errcode), (429, "M_LIMIT_EXCEEDED"));
    assert_eq!(
        answers.bytes(),
        (16 + 24 + 4) * MIB,
        "who waits to be beyond takes no more than it had"
    );
    {
        let mut waits = Box::pin(third.add(1));
        assert!(waits.as_mut().now_or_never().is_none());
        assert!(held.is_wanted(), "who takes nothing of the one beyond is cut off");
        drop(paid);
        waits.await.unwrap();
    }
    drop((second, third));
    assert_eq!(answers.bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_sent_by_pieces_holds_little_and_few_pieces_are_made_at_a_time() {
    let answers = Answers::new(128 * MIB as u64);
    let mut sent = reserved(&answers, user(1), Need::Page).await;
    let held = sent.pay_by_pieces();
    assert_eq!((answers.bytes(), held.bytes()), (PIECES_BYTES, PIECES_BYTES));
    let mut turns = Vec::new();
    for _ in 0..PIECES_MADE_MAX {
        turns.push(answers.piece().now_or_never().expect("a turn"));
    }
    let mut waits = Box::pin(answers.piece());
    assert!(waits.as_mut().now_or_never().is_none());
    turns.pop();
    waits.await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_what_he_has_himself_says_so_to_that_alone() {
    let answers = Answers::new(128 * MIB as u64);
    let small = || Bytes::from(vec![0; MIB]);
    let whole = || Bytes::from(vec![0; 16 * MIB]);
    let (_other, of_other) = reserved(&answers, user(2), Need::Page).await.pay(small());
    let (stalled, held) = reserved(&answers, user(1), Need::Whole).await.pay(whole());
    let (_more, more_held) = reserved(&answers, user(1), Need::Whole).await.pay(whole());
    let mut waits = Box::pin(answers.reserve(user(1), Need::Page));
    assert!(waits.as_mut().now_or_never().is_none());
    assert!(held.is_wanted() && more_held.is_wanted() && !of_other.is_wanted());
    drop(stalled);
    waits.await.unwrap();
    assert!(!more_held.is_wanted());
}

#[tokio::test(start_paused = true)]
async fn answers_sent_by_pieces_leave_pages_alone_and_a_few_accounts_do_not_fill_their_half() {
    let answers = Answers::new(128 * MIB as u64);
    let mut sent = Vec::new();
    for n in 0..8 {
        for _ in 0..4 {
            let mut reserved = reserved(&answers, user(n), Need::Pieces).await;
            reserved.pay_by_pieces();
            sent.push(reserved);
        }
        let refused = answers.reserve(user(n), Need::Pieces).await.unwrap_err();
        assert_eq!((refused.status, &*refused.errcode), (429, "M_LIMIT_EXCEEDED"));
    }
    assert_eq!(answers.bytes(), 64 * MIB);
    answers.reserve(user(9), Need::Pieces).await.unwrap_err();
    drop(reserved(&answers, user(9), Need::Page).await);
    sent.pop();
    // What turns out to be small counts by its size.
    let (small, _) = reserved(&answers, user(9), Need::Pieces).await.pay(vec![0; 1000].into());
    assert_eq!(answers.bytes(), 62 * MIB + 1024);
    drop((small, sent));
    assert_eq!(answers.bytes(), 0);
    assert!(answers.shares.lock().is_empty());
}
