//! A copy has every row, goes on after an interruption, and is refused onto other data.

use colonnade_testkit_postgres::Cluster;

use super::*;
use crate::{
    Database, Location,
    database::{
        settings, sql,
        testing::{self, World},
    },
};

/// More than a few pages.
const ROWS: i64 = 5_300;

/// A SQLite file with rows of every kind.
async fn filled() -> World {
    let world = testing::sqlite();
    let db = world.open().await;
    settings::get_or_insert(&db, "digest_key", vec![7; 32]).await.unwrap();
    let fill = db.write(|tx| {
        Box::pin(async move {
            const USER: &str = "INSERT INTO users (user_id) VALUES ($1)";
            const BODY: &str = "INSERT INTO event_json (event_nid, codec, body) VALUES ($1, 0, $2)";
            const WORD: &str = "INSERT INTO user_words (word, user_nid) VALUES ($1, $2)";
            const DEVICE: &str = "INSERT INTO devices (device_nid, user_nid, device_id, \
                 display_name, created_ts) VALUES ($1, $2, $3, $4, $5)";
            for n in 0..ROWS {
                execute!(tx, sql::query(USER).bind(format!("@ü{n}:localhost")))?;
                execute!(tx, sql::query(BODY).bind(n - 50).bind(n.to_le_bytes().to_vec()))?;
                execute!(tx, sql::query(WORD).bind(vec![n as u8, 255, 0]).bind(n))?;
                let name = (n % 3 > 0).then(|| format!("'\"\\ {n}"));
                let (id, created) = (format!("D{n}"), i64::MIN + n);
                execute!(tx, sql::query(DEVICE).bind(n).bind(n).bind(id).bind(name).bind(created))?;
            }
            Ok(())
        })
    });
    fill.await.unwrap();
    db.close().await;
    world
}

fn path(world: &World) -> &Path {
    match &world.location {
        Location::Sqlite(path) => path,
        Location::Postgres { .. } => unreachable!("a place on SQLite"),
    }
}

fn refused(outcome: Result<Vec<Copied>>, why: &str) {
    match outcome {
        Err(StorageError::Unusable(text)) => assert!(text.contains(why), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_row_arrives_also_after_an_interruption() {
    let from = filled().await;
    let url = Cluster::shared().database();
    let place = Location::Postgres {
        url: url.clone(),
        direct_url: None,
        connections_max: 8,
        next_migrations: None,
    };
    // Stops when part of a table is there, without a chance to tidy up.
    let (tell, stop) = tokio::sync::oneshot::channel();
    let mut tell = Some(tell);
    let begun = copy(path(&from), &url, |step| {
        if step.table == "event_json" && step.rows > 2_000 {
            tell.take().map(|tell| tell.send(()));
        }
    });
    tokio::select! {
        _ = begun => panic!("it was not interrupted"),
        _ = stop => {}
    }
    let early =
        Database::open(&place, std::sync::Arc::new(crate::database::commit_listener::NoListener))
            .await;
    match early.map(|_| ()) {
        Err(StorageError::Unusable(text)) => assert!(text.contains("unfinished copy"), "{text}"),
        other => panic!("a server starts on half a copy: {other:?}"),
    }
    let other = filled().await;
    let changed = other.open().await;
    let change = "UPDATE settings SET value = zeroblob(32) WHERE key = 'digest_key'";
    changed
        .write(move |tx| Box::pin(async move { execute!(tx, sql::query(change)) }))
        .await
        .unwrap();
    changed.close().await;
    refused(until_free(path(&other), &url).await, "a copy of another server");

    let mut went_on_at = None;
    let copied = copy(path(&from), &url, |step| {
        if step.table == "event_json" && went_on_at.is_none() {
            went_on_at = Some(step.rows);
        }
    });
    let copied = copied.await.unwrap();
    assert!(went_on_at > Some(2_000), "it began anew: {went_on_at:?}");
    let rows = |name: &str| copied.iter().find(|table| table.table == name).unwrap().sum.rows;
    assert_eq!((rows("users"), rows("event_json")), (5_300, 5_300));
    assert_eq!((rows("stream_positions"), rows("settings")), (7, 1));

    let db =
        Database::open(&place, std::sync::Arc::new(crate::database::commit_listener::NoListener))
            .await
            .unwrap();
    let interned = crate::rooms::interned::Interned::new(db.clone());
    let new = colonnade_model::ruma::user_id!("@new:localhost");
    assert_eq!(interned.user(new).await.unwrap().0, ROWS + 1, "ids go on where they were");
    const NAMES: &str = "SELECT count(*) FROM devices WHERE display_name = '''\"\\ 4'";
    let found: i64 = read!(db, |c| sql::query_scalar(NAMES).fetch_one(c)).unwrap();
    assert_eq!(found, 1);
    db.close().await;
    refused(copy(path(&from), &url, |_| ()).await, "has rows: name an empty one");
}

/// Copies once the server has noticed that an earlier copy is gone.
async fn until_free(from: &Path, to: &str) -> Result<Vec<Copied>> {
    loop {
        match copy(from, to, |_| ()).await {
            Err(StorageError::Unusable(text)) if text.contains("another copy uses") => {}
            done => return done,
        }
    }
}

#[tokio::test]
async fn what_changed_meanwhile_is_noticed() {
    let from = filled().await;
    let url = Cluster::shared().database();
    let mut steps = 0;
    let database = url.split('?').next().unwrap().rsplit('/').next().unwrap().to_owned();
    let outcome = copy(path(&from), &url, |step| {
        if step.comparing && steps == 0 {
            steps += 1;
            Cluster::shared().sql(&database, "UPDATE users SET user_id = 'x' WHERE user_nid = 77");
        }
    });
    refused(outcome.await, "table users differs after copying: 5300 rows");
}

#[tokio::test]
async fn texts_with_u0000_of_older_versions_are_named_and_mended() {
    let from = filled().await;
    let db = from.open().await;
    let put = db.write(|tx| {
        Box::pin(async move {
            // Bound as no statement of ours binds it any more: older versions did.
            const USERS: &str = "INSERT INTO users (user_id) VALUES (CAST(x'4000' AS TEXT)), \
                 (CAST(x'4000' AS TEXT) || 'x'), (CAST(x'40efbfbd' AS TEXT))";
            const DEVICE: &str = "UPDATE devices SET device_id = CAST(x'4000' AS TEXT) \
                 WHERE device_nid = 7";
            execute!(tx, sql::query(USERS))?;
            execute!(tx, sql::query(DEVICE))?;
            // A key to page by, more than once: each its own page would begin after it.
            const BACKUP: &str = "INSERT INTO backup_keys (user_nid, version, room_id, session_id, \
                 first_message_index, forwarded_count, is_verified, session_data) \
                 VALUES (1, 1, 'r', CAST(x'00' AS TEXT), 0, 0, 0, '{}')";
            execute!(tx, sql::query(BACKUP))
        })
    });
    put.await.unwrap();
    db.close().await;
    let url = Cluster::shared().database();
    let copied = copy(path(&from), &url, |_| ()).await.unwrap();
    let table = |name: &str| copied.iter().find(|table| table.table == name).unwrap();
    let users = table("users");
    assert_eq!(users.mended_count, 2);
    let texts: Vec<&str> = users.mended.iter().map(|mended| mended.text.as_str()).collect();
    assert!(texts.iter().all(|text| text.starts_with("@\u{fffd}") && text.contains('~')));
    assert_ne!(texts[0], texts[1]);
    assert_eq!(users.mended[0].column, "user_id");
    let device = &table("devices").mended[0];
    assert_eq!((device.column.as_str(), device.key.as_str()), ("device_id", "[7]"));
    assert_eq!(device.text, texts[0], "one name stays one name in every table");
    assert_eq!(table("backup_keys").mended_count, 1);
}
