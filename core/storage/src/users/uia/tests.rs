//! Who owns sessions of stages, and how registration tokens are counted.

use super::*;
use crate::database::testing::World;

fn session(name: &str, owner: &str, created_ts: i64) -> UiaSession {
    let user = owner.strip_prefix("user ").map(|nid| UserNid(nid.parse().unwrap()));
    UiaSession {
        session: name.to_owned(),
        action: "action".to_owned(),
        user,
        owner: owner.to_owned(),
        completed: Vec::new(),
        token: String::new(),
        created_ts,
        request: String::new(),
        made: String::new(),
    }
}

async fn opened(db: &Database, session: UiaSession, strangers_max: i64) -> bool {
    let bounds = Bounds { oldest_ts: 0, owned_max: 3, strangers_max };
    db.write(move |tx| Box::pin(open(tx, session, bounds))).await.unwrap()
}

async fn is_open(db: &Database, name: &str) -> bool {
    find(db, name, 0).await.unwrap().is_some()
}

async fn nobody_ends_the_sessions_of_others(world: World) {
    let db = world.open().await;
    assert!(opened(&db, session("alice", "user 1", 1), 100).await);
    assert!(opened(&db, session("stranger", "address a", 1), 100).await);
    for n in 0..20 {
        assert!(opened(&db, session(&format!("m{n}"), "user 2", 10 + n), 100).await);
        assert!(opened(&db, session(&format!("s{n}"), "address b", 10 + n), 100).await);
    }
    assert!(is_open(&db, "alice").await && is_open(&db, "stranger").await);
    assert!(!is_open(&db, "m16").await && is_open(&db, "m17").await && is_open(&db, "m19").await);
    assert!(!is_open(&db, "s16").await && is_open(&db, "s17").await);
    // Strangers together have a bound, at which users are not stopped and nobody's session ends.
    assert!(!opened(&db, session("late", "address c", 50), 4).await);
    assert!(opened(&db, session("user", "user 3", 50), 4).await);
    assert!(is_open(&db, "stranger").await);
    db.close().await;
}

async fn a_session_that_ended_does_not_come_back(world: World) {
    let db = world.open().await;
    assert!(opened(&db, session("s", "user 1", 1), 100).await);
    let noted = db.write(|tx| Box::pin(pass(tx, "s".to_owned(), "first", None))).await;
    assert_eq!(noted.unwrap(), Passed::Noted(vec!["first".to_owned()]));
    let noted = db.write(|tx| Box::pin(pass(tx, "s".to_owned(), "second", None))).await;
    assert_eq!(noted.unwrap(), Passed::Noted(vec!["first".to_owned(), "second".to_owned()]));
    assert!(db.write(|tx| Box::pin(end(tx, "s".to_owned()))).await.unwrap());
    let noted = db.write(|tx| Box::pin(pass(tx, "s".to_owned(), "first", None))).await;
    assert_eq!(noted.unwrap(), Passed::Gone);
    assert!(!is_open(&db, "s").await);
    db.close().await;
}

async fn a_token_is_held_by_sessions_and_used_by_accounts(world: World) {
    let db = world.open().await;
    let hold = |oldest_ts| Hold { token: "t".to_owned(), uses_max: Some(2), oldest_ts };
    for (n, name) in ["a", "b", "c"].into_iter().enumerate() {
        let created_ts = 10 + i64::try_from(n).unwrap();
        assert!(opened(&db, session(name, &format!("address {name}"), created_ts), 100).await);
    }
    let take = |name: &str, hold: Hold| {
        let (db, name) = (db.clone(), name.to_owned());
        async move { db.write(move |tx| Box::pin(pass(tx, name, "token", Some(hold)))).await.unwrap() }
    };
    let done = Passed::Noted(vec!["token".to_owned()]);
    assert_eq!(take("a", hold(0)).await, done);
    assert_eq!(take("a", hold(0)).await, done, "once more by the same session");
    assert_eq!(take("b", hold(0)).await, done);
    assert_eq!(take("c", hold(0)).await, Passed::UsedUp);
    assert_eq!(token_uses(&db, "t", 0).await.unwrap(), 2);
    // An account made, and a session that took too long.
    db.write(|tx| {
        Box::pin(async move {
            end(tx, "a".to_owned()).await?;
            token_used(tx, "t".to_owned()).await
        })
    })
    .await
    .unwrap();
    assert_eq!(token_uses(&db, "t", 0).await.unwrap(), 2);
    assert_eq!(token_uses(&db, "t", 12).await.unwrap(), 1);
    assert_eq!(take("c", hold(12)).await, done);
    db.close().await;
}

on_both!(
    nobody_ends_the_sessions_of_others,
    a_session_that_ended_does_not_come_back,
    a_token_is_held_by_sessions_and_used_by_accounts,
);
