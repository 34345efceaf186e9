//! The walks of docs/ARCHITECTURE.md: the files a request goes through, in the order in which they are
//! called. There are few of them, each is entered once, and none calls back into one before it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::circles::Crate;

/// Walks with their beginnings in the document, and how many files each may go through: as many as one
/// holds in mind while reading.
const WALKS: &[(&str, usize)] = &[("## Walk A: `PUT ", 15), ("## Walk C: `GET ", 12)];

/// The files of a walk: the first path of each numbered step.
fn files_of(document: &str, heading: &str) -> Vec<String> {
    let section = document.split(heading).nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    let steps = section.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit()));
    steps.map(|step| step.split('`').nth(1).unwrap_or_default().to_owned()).collect()
}

/// The folder of a file's crate, and the file's place in it as a module's path.
fn place_of(file: &str) -> (String, String) {
    let (krate, module) = file.split_once("/src/").unwrap_or_default();
    (krate.to_owned(), module.trim_end_matches(".rs").replace('/', "::"))
}

/// Functions and modules of an earlier file that a later one of the same crate names. A type may be
/// shared; calls of its methods are not seen here.
fn returns(root: &Path, files: &[String]) -> Vec<String> {
    let mut crates: BTreeMap<String, Crate> = BTreeMap::new();
    let mut found = Vec::new();
    for (n, file) in files.iter().enumerate() {
        let (krate, module) = place_of(file);
        let read = crates.entry(krate.clone());
        let read = read.or_insert_with(|| Crate::read(&root.join(&krate).join("src")));
        let earlier: Vec<(String, String)> = files[..n].iter().map(|file| place_of(file)).collect();
        for (home, path) in read.names(&module) {
            let is_type =
                path.iter().any(|word| word.starts_with(|c: char| c.is_ascii_uppercase()));
            if !is_type && earlier.contains(&(krate.clone(), home)) {
                found.push(format!("{file} goes back by {}", path.join("::")));
            }
        }
    }
    found
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn a_request_goes_through_few_files_and_back_to_none() {
    let document = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let mut problems = Vec::new();
    for (heading, most) in WALKS {
        let files = files_of(&document, heading);
        assert!(files.len() > 8, "{heading}: {files:?}");
        if files.len() > *most {
            problems.push(format!("{heading}: {} files, {most} are allowed", files.len()));
        }
        for (n, file) in files.iter().enumerate() {
            if !root().join(file).is_file() {
                problems.push(format!("{heading}: there is no file {file:?}"));
            }
            if files[..n].contains(file) {
                problems.push(format!("{heading}: {file} is entered twice"));
            }
        }
        problems.extend(returns(&root(), &files));
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn a_way_back_is_found() {
    let document = "## Walk X: `GET /`\n\nFirst `a.rs`.\n\n1. `x/src/a.rs` asks `x/src/c.rs`\n   more\n2. `x/src/b.rs`\n\n## Next\n1. `d`\n";
    assert_eq!(files_of(document, "## Walk X: `GET "), ["x/src/a.rs", "x/src/b.rs"]);
    let walk = |files: &[&str]| {
        let files: Vec<String> =
            files.iter().map(|file| format!("core/rooms/src/{file}")).collect();
        returns(&root(), &files)
    };
    assert_eq!(walk(&["actor.rs", "pending_room/checks.rs"]), Vec::<String>::new());
    assert!(
        !walk(&["pending_room/checks.rs", "actor.rs"]).is_empty(),
        "the actor calls the checks"
    );
}
