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

/// The line of `core/`: each crate may import those to its left and none to its right
/// (docs/ARCHITECTURE.md, "Who may import whom").
const LINE: &[&str] = &[
    "model",
    "rules",
    "storage",
    "replication",
    "rooms",
    "federation",
    "users",
    "views",
    "delivery",
    "services",
    "api",
    "core",
];
/// Crates that may import less than the line lets them, and crates beside it, with all they may import.
const NARROWER: &[(&str, &[&str])] = &[
    ("rules", &["model"]),
    ("api", &["services", "delivery", "views", "users", "federation", "rooms", "model"]),
    ("http1", &[]),
    ("gateway", &["http1"]),
    ("workers", &["core", "gateway"]),
];
/// Files a crate may have at its root: what is more belongs into folders.
const ROOT_FILES_MAX: usize = 20;

/// Packages only one crate (with the assembly where it says so) may use.
const OWNED: &[(&str, &[&str])] = &[
    ("sqlx", &["core/storage"]),
    ("redis", &["core/replication"]),
    ("pingora", &["gateway"]),
    ("clap", &["workers"]),
    ("image", &["core/services"]),
    ("matchit", &["core/api"]),
    ("hyper", &["core/api", "core", "core/federation"]),
    ("http", &["core/api", "core", "core/federation", "gateway"]),
    ("hickory-resolver", &["core/federation"]),
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

/// The crates this page is about: the line, and those beside it, with their folders.
fn crates() -> Vec<(&'static str, String)> {
    let folder = |name: &str| match name {
        "core" | "gateway" | "workers" => name.to_owned(),
        "http1" => "gateway/http1".to_owned(),
        inner => format!("core/{inner}"),
    };
    let beside = ["http1", "gateway", "workers"];
    LINE.iter().chain(&beside).map(|name| (*name, folder(name))).collect()
}

/// Whether a crate may import another of ours.
fn may_import(name: &str, other: &str) -> bool {
    let place = |name: &str| LINE.iter().position(|of_line| *of_line == name);
    match NARROWER.iter().find(|(narrower, _)| *narrower == name) {
        Some((_, allowed)) => allowed.contains(&other),
        None => matches!((place(name), place(other)), (Some(own), Some(other)) if other < own),
    }
}

/// The packages that a table of a manifest names, each with its line.
fn dependencies<'m>(manifest: &'m str, table: &str) -> Vec<(&'m str, &'m str)> {
    let lines = manifest.split(&format!("\n[{table}]\n")).nth(1).unwrap_or_default();
    let lines = lines.split("\n[").next().unwrap_or_default().lines();
    let named = lines.map(|line| (line.split(['.', ' ', '=']).next().unwrap_or_default(), line));
    named.filter(|(package, _)| !package.is_empty() && !package.starts_with('#')).collect()
}

#[test]
fn crates_import_only_to_their_left() {
    assert!(may_import("views", "users") && may_import("core", "storage"));
    assert!(!may_import("users", "views") && !may_import("rooms", "rooms"), "it can fail");
    assert!(!may_import("api", "storage") && !may_import("gateway", "model"));
    let mut problems = Vec::new();
    for (krate, folder) in crates() {
        let manifest = fs::read_to_string(root().join(&folder).join("Cargo.toml")).unwrap();
        for (package, line) in dependencies(&manifest, "dependencies") {
            if let Some(ours) = package.strip_prefix("colonnade-")
                && !may_import(krate, ours)
            {
                problems.push(format!("{folder} may not import {ours}"));
            }
            if let Some((_, owners)) = OWNED.iter().find(|(owned, _)| *owned == package)
                && !owners.contains(&folder.as_str())
            {
                problems.push(format!("{folder} may not use {package}: it belongs to {owners:?}"));
            }
            // A version, or a path around the workspace's table.
            if line.contains("version =") && krate != "gateway" {
                problems.push(format!("{folder}: versions stand in the root manifest: {line}"));
            }
        }
        // Tests may use testkits, too, and nothing else to the right.
        for (package, _) in dependencies(&manifest, "dev-dependencies") {
            if let Some(ours) = package.strip_prefix("colonnade-")
                && !ours.starts_with("testkit")
                && !may_import(krate, ours)
            {
                problems.push(format!("the tests of {folder} may not import {ours}"));
            }
        }
    }
    check(problems);
}

#[test]
fn every_crate_of_core_has_its_place_in_the_line() {
    let folders = fs::read_dir(root().join("core")).unwrap();
    let folders = folders.map(|entry| entry.unwrap().path());
    let crates = folders.filter(|folder| folder.join("Cargo.toml").exists());
    let names = crates.map(|folder| folder.file_name().unwrap().to_string_lossy().into_owned());
    let strangers = names
        .filter(|name| !LINE.contains(&name.as_str()) && !["testkit", "fuzz"].contains(&&**name));
    check(strangers.map(|name| format!("core/{name} has no place in the line")).collect());
    let map = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let line = LINE.join(" ← ");
    assert!(map.contains(&line), "docs/ARCHITECTURE.md does not show the line {line}");
}

/// The names a row of the table "What is where" has for a crate.
fn named_in_the_map(map: &str, krate: &str) -> Vec<String> {
    let table = map.split("## What is where").nth(1).unwrap_or_default();
    let table = table.split("\n## ").next().unwrap_or_default();
    let row = table.lines().find(|line| line.starts_with(&format!("| {krate} |")));
    let mut names: Vec<String> =
        row.unwrap_or_default().split('`').skip(1).step_by(2).map(str::to_owned).collect();
    names.sort();
    names
}

#[test]
fn the_map_names_what_lies_at_the_root_of_a_crate_and_it_is_little() {
    let map = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let mut problems = Vec::new();
    for (krate, folder) in crates() {
        let source = fs::read_dir(root().join(&folder).join("src")).unwrap();
        let paths = source.map(|entry| entry.unwrap().path());
        let files = paths.filter(|path| path.extension().is_some_and(|ending| ending == "rs"));
        let stems = files.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned());
        let mut stems: Vec<String> =
            stems.filter(|stem| !["lib", "main", "tests"].contains(&stem.as_str())).collect();
        stems.sort();
        if stems.len() > ROOT_FILES_MAX {
            problems.push(format!("{folder}/src: {} files, put some into folders", stems.len()));
        }
        let named = named_in_the_map(&map, krate);
        if named != stems {
            let row: Vec<String> = stems.iter().map(|stem| format!("`{stem}`")).collect();
            problems
                .push(format!("the map has of {krate}: {named:?}; there are {}", row.join(", ")));
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
