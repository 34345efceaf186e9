//! The map is true because a machine checks it: imports, file heads, sizes, names, documented
//! paths, migrations. What fails here says which line of docs/ARCHITECTURE.md or docs/STYLE.md.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Lines a source file may have outside tests.
const FILE_LINES_MAX: usize = 500;
/// Lines a function may have outside tests.
const FUNCTION_LINES_MAX: usize = 70;
/// Files and functions that are longer, with the reason; this list only shrinks.
const LONGER: &[(&str, &str)] = &[];
/// Places a type name may be defined in before the glossary has to say what it means.
const NAMESAKES_MAX: usize = 2;
/// Type names that meant something only here once.
const PRIVATE_NAMES: &[&str] = &[
    "Told", "Said", "Heard", "Wanted", "Wish", "Errand", "Whisper", "Turn", "Stretch", "Gap",
    "Asked", "Letter",
];
/// Module names that say nothing.
const EMPTY_NAMES: &[&str] = &["utils", "util", "helpers", "common", "misc", "manager", "handler"];

/// Which of our crates a crate may import (docs/ARCHITECTURE.md, "Who may import whom").
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("core/model", &[]),
    ("core/rules", &["model"]),
    ("core/storage", &["model", "rules"]),
    ("core/replication", &["storage", "model"]),
    ("core/rooms", &["replication", "storage", "rules", "model"]),
    ("core/users", &["rooms", "replication", "storage", "rules", "model"]),
    ("core/views", &["users", "rooms", "replication", "storage", "rules", "model"]),
    ("core/services", &["views", "users", "rooms", "replication", "storage", "rules", "model"]),
    ("core/api", &["services", "views", "users", "rooms", "model"]),
    (
        "core",
        &["api", "services", "views", "users", "rooms", "replication", "storage", "rules", "model"],
    ),
    ("gateway/http1", &[]),
    ("gateway", &["http1"]),
    ("workers", &["core", "gateway"]),
];

/// Packages only one crate (with the assembly where it says so) may use.
const OWNED: &[(&str, &[&str])] = &[
    ("sqlx", &["core/storage"]),
    ("redis", &["core/replication"]),
    ("pingora", &["gateway"]),
    ("clap", &["workers"]),
    ("image", &["core/services"]),
    ("matchit", &["core/api"]),
    ("hyper", &["core/api", "core"]),
    ("http", &["core/api", "core", "gateway"]),
    ("argon2", &["core/users"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Every file below the crates' folders with this ending, outside build folders.
fn files(ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["core", "gateway", "workers"].iter().map(|top| root().join(top)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && name != "node_modules" {
                folders.push(path);
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

fn is_test(path: &str) -> bool {
    ["/tests/", "/tests.rs", "/benches/", "/fuzz/", "testkit/", "sdk-tests/"]
        .iter()
        .any(|part| path.contains(part))
}

#[track_caller]
fn check(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    let headless = files(".rs")
        .into_iter()
        .filter(|path| !fs::read_to_string(path).unwrap().starts_with("//!"));
    check(headless.map(|path| format!("{}: no `//!` at its head", shown(&path))).collect());
}

#[test]
fn files_and_functions_stay_small() {
    let mut problems = Vec::new();
    for path in files(".rs") {
        let name = shown(&path);
        if is_test(&name) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        if lines.len() > FILE_LINES_MAX && !LONGER.iter().any(|(longer, _)| *longer == name) {
            problems.push(format!("{name}: {} lines, more than {FILE_LINES_MAX}", lines.len()));
        }
        for (function, length) in functions(&lines) {
            let place = format!("{name}::{function}");
            if length > FUNCTION_LINES_MAX && !LONGER.iter().any(|(longer, _)| *longer == place) {
                problems.push(format!("{place}: {length} lines, more than {FUNCTION_LINES_MAX}"));
            }
        }
    }
    check(problems);
}

/// Names and lengths of the functions of a formatted file: from `fn` to the brace at its indent.
fn functions(lines: &[&str]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let words = line.trim_start().trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        let words = words.trim_start_matches("const ").trim_start_matches("async ");
        let Some(rest) = words.strip_prefix("fn ") else { continue };
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let close = format!("{}}}", " ".repeat(indent));
        let length = lines[start..].iter().position(|line| *line == close).unwrap_or(0);
        found.push((name, length + 1));
    }
    found
}

#[test]
fn crates_import_only_downwards() {
    let mut problems = Vec::new();
    for (krate, allowed) in MAY_IMPORT {
        let manifest = fs::read_to_string(root().join(krate).join("Cargo.toml")).unwrap();
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap_or_default();
        let dependencies = dependencies.split("\n[").next().unwrap_or_default();
        for line in dependencies.lines() {
            let package = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if let Some(ours) = package.strip_prefix("colonnade-")
                && !allowed.contains(&ours)
            {
                problems.push(format!("{krate} may not import {ours}"));
            }
            if let Some((_, owners)) = OWNED.iter().find(|(owned, _)| *owned == package)
                && !owners.contains(krate)
            {
                problems.push(format!("{krate} may not use {package}: it belongs to {owners:?}"));
            }
            // A version, or a path around the workspace's table.
            if line.contains("version =") && *krate != "gateway" {
                problems.push(format!("{krate}: versions stand in the root manifest: {line}"));
            }
        }
    }
    check(problems);
}

#[test]
fn only_the_database_folder_names_an_engine() {
    let engines = ["sqlx::sqlite", "sqlx::postgres", "SqlitePool", "PgPool", "PgConnection"];
    let outside = files(".rs").into_iter().filter(|path| {
        let name = shown(path);
        name.starts_with("core/storage/src/") && !name.starts_with("core/storage/src/database")
    });
    let named = outside.filter(|path| {
        let text = fs::read_to_string(path).unwrap();
        engines.iter().any(|engine| text.contains(engine))
    });
    check(named.map(|path| format!("{} names an SQL engine", shown(&path))).collect());
}

#[test]
fn modules_have_names_that_say_something() {
    let empty = files(".rs").into_iter().filter(|path| {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        EMPTY_NAMES.contains(&stem.as_str()) || stem == "mod"
    });
    check(empty.map(|path| format!("{}: a name that says nothing", shown(&path))).collect());
}

/// Every type our sources define, outside tests, with the files that do.
fn types() -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in files(".rs").into_iter().filter(|path| !is_test(&shown(path))) {
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for line in text.lines() {
            let words = line.trim_start();
            let pubs = ["pub(super) ", "pub(crate) ", "pub "];
            let line = pubs.iter().find_map(|word| words.strip_prefix(word)).unwrap_or(words);
            let kinds = ["struct ", "enum ", "trait "];
            let Some(name) = kinds.iter().find_map(|kind| line.strip_prefix(kind)) else {
                continue;
            };
            let end = name.find(|c: char| !c.is_alphanumeric()).unwrap_or(name.len());
            found.entry(name[..end].to_owned()).or_default().push(shown(&path));
        }
    }
    found
}

#[test]
fn types_have_names_of_their_own_or_stand_in_the_glossary() {
    let glossary = fs::read_to_string(root().join("docs/GLOSSARY.md")).unwrap();
    let types = types();
    assert!(types.len() > 500, "the types are found");
    let shared = types.iter().filter(|(name, files)| {
        files.len() > NAMESAKES_MAX && !glossary.contains(&format!("| `{name}` |"))
    });
    let private = types.iter().filter(|(name, _)| PRIVATE_NAMES.contains(&name.as_str()));
    let shared =
        shared.map(|(name, files)| format!("{name} is not in docs/GLOSSARY.md: {files:?}"));
    let private = private.map(|(name, files)| format!("{name} says nothing to others: {files:?}"));
    check(shared.chain(private).collect());
}

#[test]
fn both_migration_sets_match_and_are_registered() {
    let list = |engine: &str| {
        let folder = fs::read_dir(root().join("migrations").join(engine)).unwrap();
        let names = folder.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    };
    assert_eq!(list("sqlite"), list("postgres"));
    let registry = root().join("core/storage/src/database/migrations.rs");
    let registry = fs::read_to_string(registry).unwrap();
    let missing = list("sqlite")
        .into_iter()
        .filter(|name| !registry.contains(&format!("\"{}\"", name.trim_end_matches(".sql"))));
    check(missing.map(|name| format!("{name} is not registered")).collect());
}

#[test]
fn every_test_that_docs_security_md_names_exists() {
    let text = fs::read_to_string(root().join("docs/security.md")).unwrap();
    let mut problems = Vec::new();
    let mut named = 0;
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let test = line.trim_end_matches(" |").rsplit(" | ").next().unwrap_or_default();
        if ["test", "a command"].contains(&test) {
            continue;
        }
        for test in test.split(", ") {
            let bare = test.trim_matches('`');
            let Some((file, function)) = bare.split_once("::").filter(|_| bare != test) else {
                problems.push(format!("{line}: no test, written `path.rs::function`"));
                continue;
            };
            named += 1;
            let source = fs::read_to_string(root().join(file)).unwrap_or_default();
            if !source.contains(&format!("fn {function}(")) {
                problems.push(format!("{test} is not there"));
            }
        }
    }
    assert!(named > 0, "no test is named");
    check(problems);
}

#[test]
fn every_path_the_documents_name_exists() {
    let mut problems = Vec::new();
    let mut documents = vec![root().join("README.md")];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                documents.push(path);
            }
        }
    }
    for document in documents {
        let Ok(text) = fs::read_to_string(&document) else { continue };
        for quoted in text.split('`').skip(1).step_by(2) {
            let ours = ["core/", "gateway/", "workers/", "migrations/", "loadtest/", "docs/"];
            // A test is its file and a name: that it is there is another test's business.
            let quoted = quoted.split("::").next().unwrap_or_default();
            let is_path = ours.iter().any(|top| quoted.starts_with(top))
                && !quoted.contains([' ', '*', '{', '…', '<', '\n']);
            if is_path && !root().join(quoted).exists() {
                problems.push(format!("{} names {quoted}", shown(&document)));
            }
        }
    }
    check(problems);
}
