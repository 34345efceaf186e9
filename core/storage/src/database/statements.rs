//! Every statement of this crate is prepared on both engines: unknown columns, wrong types and
//! foreign dialects are found here, before anybody runs the statement.
//!
//! The statements are read out of the source: string literals that begin like one. What is put
//! together at run time cannot be, and is listed in [`DYNAMIC`].

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use sqlx::{AssertSqlSafe, Either, Executor as _, SqlSafeStr as _, Statement as _, TypeInfo as _};

use super::{Engine, list_sql, testing};

/// Files with statements put together at run time, and how many pieces; their tests run them all.
const DYNAMIC: &[(&str, usize)] = &[
    ("keys/encryption.rs", 1),
    ("keys/key_backup.rs", 2),
    ("keys/key_backup/sizes.rs", 1),
    ("delivery/to_device.rs", 2),
];
/// What our columns are, and nothing else: PostgreSQL is strict about what a row is read into.
const COLUMNS: [&str; 4] = ["INT8", "TEXT", "BYTEA", "BOOL"];
/// What PostgreSQL may infer for a parameter. We say what we bind, which is `INT8` or `TEXT` where
/// it infers `INT4` (beside a small number) or `JSONB` (a list).
const PARAMETERS: [&str; 5] = ["INT8", "TEXT", "BYTEA", "INT4", "JSONB"];

/// Every source file of the crate that holds statements for both engines.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("database") || path.ends_with("tests") || path.ends_with("tests.rs") {
            continue;
        }
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// What a source text consists of, as far as statements are concerned.
#[derive(Debug, Clone, PartialEq)]
enum Token {
    Text(String),
    Word(String),
    Sign(char),
}

fn tokens(text: &str) -> Vec<Token> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let chars: Vec<char> = code.collect::<Vec<_>>().join("\n").chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        at += 1;
        if c == '"' {
            let mut literal = String::new();
            while chars[at] != '"' {
                if chars[at] == '\\' && chars[at + 1] == '\n' {
                    at += 1;
                    while chars[at].is_whitespace() {
                        at += 1;
                    }
                } else {
                    at += usize::from(chars[at] == '\\');
                    literal.push(chars[at]);
                    at += 1;
                }
            }
            at += 1;
            found.push(Token::Text(literal));
        } else if c == '\'' && chars.get(at + 1) == Some(&'\'') {
            at += 2;
        } else if c == '\'' && chars.get(at) == Some(&'\\') {
            at += 3;
        } else if c.is_alphanumeric() || c == '_' {
            let end = chars[at..].iter().position(|c| !c.is_alphanumeric() && *c != '_');
            let end = end.map_or(chars.len(), |end| at + end);
            found.push(Token::Word(chars[at - 1..end].iter().collect()));
            at = end;
        } else if !c.is_whitespace() {
            found.push(Token::Sign(c));
        }
    }
    found
}

/// The texts of a file that may be statements, those put together by `concat!` in macros included.
fn texts(file: &str) -> Vec<String> {
    let file = file.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let tokens = tokens(file);
    let word = |at: usize| match tokens.get(at) {
        Some(Token::Word(word)) => word.as_str(),
        _ => "",
    };
    let mut macros: BTreeMap<&str, (Vec<&str>, Vec<Token>)> = BTreeMap::new();
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if word(at) == "macro_rules" {
            let name = word(at + 2);
            let body = (at..).find(|at| word(*at) == "concat").unwrap();
            let parameters = (at..body).filter(|at| word(*at) == "literal");
            let parameters = parameters.map(|at| word(at - 2)).collect();
            let end = (body..).find(|at| tokens[*at] == Token::Sign(')')).unwrap();
            macros.insert(name, (parameters, tokens[body + 1..end].to_vec()));
            at = end;
        } else if tokens.get(at + 1) == Some(&Token::Sign('!'))
            && let Some((parameters, body)) = macros.get(word(at))
        {
            let end = (at..).find(|at| tokens[*at] == Token::Sign(')')).unwrap();
            let arguments = tokens[at..end].iter().filter_map(|token| match token {
                Token::Text(text) => Some(text),
                _ => None,
            });
            let given: BTreeMap<_, _> = parameters.iter().copied().zip(arguments).collect();
            let pieces = body.iter().filter_map(|token| match token {
                Token::Text(text) => Some(text.as_str()),
                Token::Word(name) => Some(given[name.as_str()].as_str()),
                Token::Sign(_) => None,
            });
            found.push(pieces.collect());
            at = end;
        } else if let Token::Text(text) = &tokens[at] {
            found.push(text.clone());
        }
        at += 1;
    }
    found
}

fn is_statement(literal: &str) -> bool {
    ["SELECT ", "INSERT INTO ", "UPDATE ", "DELETE FROM ", "WITH "]
        .iter()
        .any(|verb| literal.starts_with(verb))
}

#[tokio::test]
async fn every_statement_can_be_prepared_on_both_engines() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut dynamic: BTreeMap<String, usize> = BTreeMap::new();
    let mut statements = Vec::new();
    for file in files {
        let name = file.strip_prefix(&root).unwrap().display().to_string();
        let text = fs::read_to_string(&file).unwrap();
        for sql in texts(&text).into_iter().filter(|text| is_statement(text)) {
            let known = ["{INTS ", "{TEXTS ", "{NOW_MS"];
            let braces = known.iter().fold(sql.clone(), |sql, known| sql.replace(known, ""));
            if braces.contains('{') || sql.trim_end().ends_with("VALUES") {
                *dynamic.entry(name.clone()).or_default() += 1;
            } else {
                statements.push((name.clone(), sql));
            }
        }
    }
    assert!(statements.len() > 200, "only {} statements found", statements.len());
    let known = DYNAMIC.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    assert_eq!(dynamic, known, "statements put together at run time: their tests must run them");
    let mut problems = Vec::new();
    for world in [testing::sqlite(), testing::postgres()] {
        let db = world.open().await;
        for (name, sql) in &statements {
            if let Err(why) = prepare(&db.engine, sql).await {
                problems.push(format!("{name}: {sql}\n    {why}"));
            }
        }
        db.close().await;
    }
    assert!(problems.is_empty(), "{} problems\n{}", problems.len(), problems.join("\n"));
}

async fn prepare(engine: &Engine, sql: &str) -> Result<(), String> {
    let sql: &'static str = sql.to_owned().leak();
    match engine {
        Engine::Sqlite(sqlite) => {
            let text = AssertSqlSafe(list_sql(sql, false)).into_sql_str();
            let mut connection =
                sqlite.pool().unwrap().acquire().await.map_err(|e| e.to_string())?;
            connection.prepare(text).await.map(|_| ()).map_err(|error| error.to_string())
        }
        Engine::Postgres(postgres) => {
            let text = AssertSqlSafe(list_sql(sql, true)).into_sql_str();
            let mut connection = postgres.reader().await.map_err(|e| e.to_string())?;
            let prepared = connection.prepare(text).await.map_err(|error| error.to_string())?;
            let Some(Either::Left(parameters)) = prepared.parameters() else {
                return Err("no types of parameters".to_owned());
            };
            let mut columns = prepared.columns().iter().map(sqlx::Column::type_info);
            let foreign = columns.find(|kind| !COLUMNS.contains(&kind.name()));
            let odd = parameters.iter().find(|kind| !PARAMETERS.contains(&kind.name()));
            foreign.or(odd).map_or(Ok(()), |kind| Err(format!("type {}", kind.name())))
        }
    }
}
