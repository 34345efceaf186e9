//! What versions may do to each other: the texts of the migrations only add unless they say otherwise,
//! and who may run on what is decided as promised.

use std::{path::PathBuf, sync::Arc};

use super::{step::PROCESSES_SINCE, *};
use crate::{
    Database, Location,
    database::{
        commit_listener::NoListener,
        sql,
        testing::{self, World},
    },
    ownership::coordinator,
};

/// Before this one nobody could run beside an older version.
const CHECKED_SINCE: i64 = 18;

/// Splits a migration into statements of words, without comments, in capitals. What stands between
/// quotes stays one word.
fn statements(sql: &str) -> Vec<Vec<String>> {
    let code: Vec<&str> =
        sql.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
    let mut found = vec![Vec::new()];
    let (mut word, mut quoted) = (String::new(), false);
    for c in code.join("\n").chars() {
        quoted ^= c == '\'';
        if quoted || c.is_alphanumeric() || "_'\"".contains(c) {
            word.push(c.to_ascii_uppercase());
            continue;
        }
        if !word.is_empty() {
            found.last_mut().unwrap().push(std::mem::take(&mut word));
        }
        match c {
            ';' => found.push(Vec::new()),
            c if c.is_whitespace() => {}
            sign => found.last_mut().unwrap().push(sign.to_string()),
        }
    }
    found.retain(|statement| !statement.is_empty());
    found
}

/// Says what in a migration an older process may stumble over; `None` when it only adds. What is not
/// known to be harmless is not.
fn contracts(sql: &str) -> Option<String> {
    let statements = statements(sql);
    let is_new = |table: &str| {
        let made = |words: &Vec<String>| {
            words.starts_with(&["CREATE".to_owned(), "TABLE".to_owned(), table.to_owned()])
        };
        statements.iter().any(made)
    };
    // Two tables locked one after the other may be locked the other way round by a statement that reads
    // them, and PostgreSQL would end that.
    let mut touched: Option<&str> = None;
    statements.iter().find_map(|words| {
        let words: Vec<&'_ str> = words.iter().map(String::as_str).collect();
        let adds = match words[..] {
            ["CREATE", "TABLE", ..] | ["INSERT", "INTO", ..] => true,
            ["CREATE", "INDEX", _, "ON", ..] => true,
            ["CREATE", "INDEX", "IF", "NOT", "EXISTS", _, "ON", ..] => true,
            // Rows that an older process writes may be twins, where they could be before.
            ["CREATE", "UNIQUE", "INDEX", _, "ON", table, ..] => is_new(table),
            ["ALTER", "TABLE", table, ..] if is_new(table) => true,
            ["ALTER", "TABLE", _, "SET", "(", ..] => true,
            ["ALTER", "TABLE", _, "ADD", "COLUMN", _, _, ref rest @ ..] => {
                matches!(rest, [] | ["DEFAULT", _] | ["NOT", "NULL", "DEFAULT", _])
            }
            _ => false,
        };
        let table = match words[..] {
            ["ALTER", "TABLE", table, ..] => Some(table),
            ["CREATE", "INDEX", _, "ON", table, ..] => Some(table),
            ["CREATE", "INDEX", "IF", "NOT", "EXISTS", _, "ON", table, ..] => Some(table),
            _ => None,
        };
        let table = table.filter(|table| !is_new(table));
        let another = touched.is_some_and(|touched| table.is_some_and(|table| table != touched));
        touched = touched.or(table);
        (!adds || another).then(|| words.join(" "))
    })
}

#[test]
fn migrations_only_add_unless_they_say_otherwise() {
    for (engine, built_in) in [("sqlite", SQLITE), ("postgres", POSTGRES)] {
        for step in steps(built_in, None).unwrap() {
            let place = format!("{engine}/{}", step.name);
            if step.number < CHECKED_SINCE {
                continue;
            }
            match contract::declared(&step).unwrap() {
                None => assert_eq!(
                    contracts(&step.sql),
                    None,
                    "{place}: an older process may use that. Add now and take away in a later \
                     version (docs/decisions/0030-versions-side-by-side.md)"
                ),
                Some(needs) => {
                    assert!(
                        (PROCESSES_SINCE..step.number).contains(&needs),
                        "{place} needs a migration from before itself: the last of the version before"
                    );
                }
            }
        }
    }
    let needs = |built_in| -> Vec<Option<i64>> {
        let steps = steps(built_in, None).unwrap();
        steps.iter().map(|step| contract::declared(step).unwrap()).collect()
    };
    assert_eq!(needs(SQLITE), needs(POSTGRES), "both engines declare the same");
}

#[test]
fn what_takes_something_away_is_found() {
    for harmless in [
        "-- Nothing.",
        "CREATE TABLE a (b BIGINT NOT NULL); CREATE UNIQUE INDEX c ON a (b);",
        "CREATE INDEX c ON events (b) WHERE b > 0; -- DROP TABLE events;",
        "CREATE INDEX IF NOT EXISTS c ON events (b);",
        "ALTER TABLE events ADD COLUMN a TEXT;",
        "alter table events add column a bigint not null default 0;",
        "ALTER TABLE events ADD COLUMN a TEXT DEFAULT 'x; DROP TABLE y';",
        "ALTER TABLE events SET (fillfactor = 20);",
        "INSERT INTO cluster (key, value) VALUES ('a', 1);",
    ] {
        assert_eq!(contracts(harmless), None, "{harmless}");
    }
    for harmful in [
        "DROP TABLE events;",
        "CREATE TABLE a (b BIGINT);\nDROP INDEX c;",
        "ALTER TABLE events DROP COLUMN a;",
        "ALTER TABLE events RENAME COLUMN a TO b;",
        "ALTER TABLE events RENAME TO b;",
        "ALTER TABLE events ALTER COLUMN a TYPE TEXT;",
        "ALTER TABLE events ALTER COLUMN a SET NOT NULL;",
        "ALTER TABLE events ADD COLUMN a BIGINT NOT NULL;",
        "ALTER TABLE events ADD COLUMN a BIGINT UNIQUE;",
        "ALTER TABLE events ADD COLUMN a BIGINT DEFAULT 0 REFERENCES rooms (nid);",
        "ALTER TABLE events ADD COLUMN a BIGINT, DROP COLUMN b;",
        "ALTER TABLE events ADD CONSTRAINT a CHECK (b > 0);",
        "CREATE UNIQUE INDEX a ON events (b);",
        "CREATE TRIGGER a BEFORE INSERT ON events EXECUTE FUNCTION b();",
        "ALTER TABLE events ADD COLUMN a TEXT; ALTER TABLE rooms ADD COLUMN a TEXT;",
        "UPDATE events SET a = 1;",
        "DELETE FROM events;",
        "TRUNCATE events;",
    ] {
        assert!(contracts(harmful).is_some(), "{harmful}");
    }
    // One that is applied everywhere, from before anybody asked.
    let directory = POSTGRES.iter().find(|(number, ..)| *number == 8).unwrap();
    assert_eq!(contracts(directory.2).unwrap(), "DROP INDEX ROOM_SUMMARY_PUBLISHED");
}

/// Puts the migrations of a version to come into a folder of their own.
fn next(folder: &tempfile::TempDir, version: &str, migrations: &[(&str, &str)]) -> PathBuf {
    let path = folder.path().join(version);
    std::fs::create_dir(&path).unwrap();
    for (name, sql) in migrations {
        std::fs::write(path.join(name), sql).unwrap();
    }
    path
}

/// The same database for the version that has this migration besides ours.
fn newer(world: &World, path: PathBuf) -> Location {
    let Location::Postgres { url, direct_url, connections_max, .. } = world.location.clone() else {
        unreachable!("a world on PostgreSQL")
    };
    Location::Postgres { url, direct_url, connections_max, next_migrations: Some(path) }
}

/// Opens a database and says why it cannot be.
async fn refused(location: &Location) -> String {
    match Database::open(location, Arc::new(NoListener)).await {
        Err(StorageError::Unusable(why)) => why,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("opened"),
    }
}

#[tokio::test]
async fn an_expansion_is_made_under_an_older_process_and_a_contraction_is_not() {
    let world = testing::postgres();
    let folder = tempfile::tempdir().unwrap();
    let old = world.open().await;
    let held = old.hold(Lock::Database, true).await.unwrap().unwrap();
    let inc = coordinator::register(&old, "worker-7", &["rooms".to_owned()], "x").await.unwrap();
    assert!(held.also(Lock::Alive(inc), false).await.unwrap());

    let more = ("9001_more.sql", "ALTER TABLE settings ADD COLUMN more TEXT;");
    let expands = next(&folder, "expands", &[more]);
    let expanded = newer(&world, expands);
    let pending = crate::database::pending(&expanded).await.unwrap();
    assert_eq!(
        pending.missing,
        [Change { number: 9001, name: "9001_more".to_owned(), needs: None }]
    );
    Database::open(&expanded, Arc::new(NoListener)).await.unwrap().close().await;
    // Another process of the older version may start still, and knows that it is one.
    let late = world.open().await;
    assert_eq!((late.schema_known, late.writes_waiting()), (KNOWN, 0));
    late.close().await;
    assert_eq!(crate::database::pending(&world.location).await.unwrap().newer, [9001]);

    let text = "-- contracting: needs 9001 (`more` took its place)\n\
         ALTER TABLE settings DROP COLUMN value;";
    let less = ("9002_less.sql", text);
    let contracted = newer(&world, next(&folder, "contracts", &[less, more]));
    // A version that came after 9001 without having it is none.
    let stranger = newer(&world, next(&folder, "strange", &[less]));
    assert!(refused(&stranger).await.contains("migration 9001, which no version"));
    for _ in 0..2 {
        let why = crate::database::pending(&contracted).await.unwrap_err().to_string();
        assert!(why.contains("still run: worker-7"), "{why}");
        let why = refused(&contracted).await;
        assert!(
            why.contains("still run: worker-7") && why.contains("knows migration 9001"),
            "{why}"
        );
    }
    // It uses what is there still; then it ends without a word.
    let get = "SELECT count(value) FROM settings";
    let _count: i64 = read!(old, |c| sql::query_scalar(get).fetch_one(c)).unwrap();
    held.release().await;
    let pending = crate::database::pending(&contracted).await.unwrap();
    assert_eq!(pending.missing[0].needs, Some(9001));
    let new = Database::open(&contracted, Arc::new(NoListener)).await.unwrap();
    assert_eq!(new.schema_known, 9002);
    let why = refused(&world.location).await;
    assert!(why.contains("migration 9002 of a newer version"), "{why}");
    assert!(why.contains("start the newer version (any that knows migration 9001)"), "{why}");
    // Whoever was between opening and taking part meanwhile is told, too.
    let why = coordinator::register(&old, "worker-8", &[], "y").await.unwrap_err().to_string();
    assert!(why.contains("took away what this one uses while it started"), "{why}");
    coordinator::register(&new, "worker-9", &[], "z").await.unwrap();
    new.close().await;
    old.close().await;
}

#[tokio::test]
async fn a_process_alone_keeps_what_it_uses() {
    let world = testing::postgres();
    let folder = tempfile::tempdir().unwrap();
    let old = world.open().await;
    let held = old.hold(Lock::Database, false).await.unwrap().unwrap();
    crate::ownership::register_alone(&old, "alone, process 7".to_owned(), 0).await.unwrap();
    let less = ("9002_less.sql", "-- contracting: needs 9001\nDROP TABLE settings;");
    let contracted = newer(&world, next(&folder, "contracts", &[less]));
    assert!(refused(&contracted).await.contains("still run: alone, process 7"));
    held.release().await;
    Database::open(&contracted, Arc::new(NoListener)).await.unwrap().close().await;
    old.close().await;
}

#[tokio::test]
async fn a_migration_waits_for_its_tables_without_holding_up_others() {
    const READ: &str = "SELECT count(*) FROM settings";
    let world = testing::postgres();
    let folder = tempfile::tempdir().unwrap();
    let old = world.open().await;
    let more = ("9001_more.sql", "ALTER TABLE settings ADD COLUMN more TEXT;");
    let expands = next(&folder, "expands", &[more]);
    let expanded = newer(&world, expands);
    let Location::Postgres { url, .. } = &world.location else { unreachable!("on PostgreSQL") };
    // A long transaction that read the table, as of a backup: nothing can be added to it meanwhile.
    let mut backup = PgConnection::connect(url).await.unwrap();
    let mut backing_up = backup.begin().await.unwrap();
    let _count: i64 = sql::query_scalar(READ).fetch_one(&mut *backing_up).await.unwrap();
    let opening =
        tokio::spawn(async move { Database::open(&expanded, Arc::new(NoListener)).await });
    // Readers come through while it waits, however often it tries.
    let reads = async {
        for _ in 0..10 {
            let _count: i64 = read!(old, |c| sql::query_scalar(READ).fetch_one(c)).unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), reads).await.expect("nobody is held up");
    backing_up.rollback().await.unwrap();
    opening.await.unwrap().unwrap().close().await;
    old.close().await;
}

#[tokio::test]
async fn an_sqlite_file_of_a_newer_version() {
    let world = testing::sqlite();
    world.open().await.close().await;
    let say = async |sql: &'static str| {
        let db = world.open().await;
        let said = db.write(move |tx| Box::pin(async move { execute!(tx, sql::query(sql)) }));
        said.await.unwrap();
        db.close().await;
        // The lock file is let go of when the last clone is gone.
        drop(db);
    };
    say("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (9001, 'x', TRUE, x'', 0)")
    .await;
    assert_eq!(crate::database::pending(&world.location).await.unwrap().newer, [9001]);
    say("UPDATE cluster SET value = 9001 WHERE key = 'schema_known_min'").await;
    let why = refused(&world.location).await;
    assert!(why.contains("any that knows migration 9001"), "{why}");
}
