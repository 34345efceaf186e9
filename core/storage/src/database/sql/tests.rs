//! No text with U+0000 reaches an engine, in whatever it is wrapped.

use crate::{
    database::{sql, testing::World, text_list},
    error::StorageError,
};

const NUL: &str = "a\0b";

async fn a_text_with_u0000_is_bound_nowhere(world: World) {
    let db = world.open().await;
    let select = "SELECT CAST($1 AS TEXT)";
    let one: crate::Result<String> =
        read!(db, |c| sql::query_scalar(select).bind(NUL).fetch_one(c));
    assert!(matches!(one, Err(StorageError::NotText)), "{one:?}");
    let some: crate::Result<Vec<(String,)>> =
        read!(db, |c| sql::query_as(select).bind(Some(NUL.to_owned())).fetch_all(c));
    assert!(matches!(some, Err(StorageError::NotText)), "{some:?}");
    const LISTED: &str = "SELECT user_nid FROM users WHERE user_id IN {TEXTS 1}";
    let list = text_list(["@a:b", NUL]);
    let listed: crate::Result<Vec<i64>> =
        read_list!(db, LISTED, |text, c| sql::query_scalar(text).bind(list).fetch_all(c));
    assert!(matches!(listed, Err(StorageError::NotText)), "{listed:?}");

    let write = db.write(|tx| {
        Box::pin(async move {
            const USER: &str = "INSERT INTO users (user_id) VALUES ($1)";
            execute!(tx, sql::query(USER).bind("@good:localhost"))?;
            let refused = execute!(tx, sql::query(USER).bind(NUL.to_owned()));
            assert!(matches!(refused, Err(StorageError::NotText)), "{refused:?}");
            let mut bulk = crate::database::Bulk::new(USER);
            bulk.row([NUL.to_owned().into()]);
            let refused = bulk.insert(tx).await;
            assert!(matches!(refused, Err(StorageError::NotText)), "{refused:?}");
            Ok(())
        })
    });
    write.await.expect("the transaction goes on after what was not run");
    const COUNT: &str = "SELECT count(*) FROM users WHERE user_id = '@good:localhost'";
    let good: i64 = read!(db, |c| sql::query_scalar(COUNT).fetch_one(c)).unwrap();
    assert_eq!(good, 1);
    db.close().await;
}

on_both!(a_text_with_u0000_is_bound_nowhere);
