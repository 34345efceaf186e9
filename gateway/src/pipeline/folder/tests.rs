//! What a path finds, and that nothing outside the folder is found.

use super::*;

fn folder() -> tempfile::TempDir {
    let above = tempfile::tempdir().unwrap();
    let root = above.path().join("web");
    std::fs::create_dir_all(root.join("a b")).unwrap();
    std::fs::write(above.path().join("secret"), "no").unwrap();
    for (name, text) in [("index.html", "home"), ("app.js", "js"), (".env", "no")] {
        std::fs::write(root.join(name), text).unwrap();
    }
    std::fs::write(root.join("a b/index.html"), "sub").unwrap();
    std::os::unix::fs::symlink(above.path().join("secret"), root.join("link")).unwrap();
    above
}

#[test]
fn paths_find_files_and_directories_their_index() {
    let above = folder();
    let find = |path| find(&above.path().join("web"), path);
    assert_eq!(find("/").unwrap().content_type, "text/html; charset=utf-8");
    assert_eq!(find("/app.js").unwrap().content_type, "text/javascript; charset=utf-8");
    assert_eq!(find("/a%20b/").unwrap().length, 3);
    assert!(find("/a%20b").is_none(), "a directory is no file");
    assert!(find("/nothing").is_none());
    let before = find("/app.js").unwrap().etag;
    std::fs::write(above.path().join("web/app.js"), "other").unwrap();
    assert_ne!(before, find("/app.js").unwrap().etag);
}

#[test]
fn nothing_outside_the_folder_is_found() {
    let above = folder();
    for path in [
        "/../secret",
        "/%2e%2e/secret",
        "/..%2fsecret",
        "/a%20b/../../secret",
        "/a%20b/%2e%2e%2f%2e%2e%2fsecret",
        "/..\\secret",
        "//etc/passwd",
        "/%2fetc/passwd",
        "/.env",
        "/link",
        "/app.js%00.html",
        "secret",
        "/%ff",
    ] {
        assert!(find(&above.path().join("web"), path).is_none(), "{path}");
    }
}

#[test]
fn entity_tags_are_compared_weakly() {
    for (header, known) in [("\"a\"", true), ("W/\"a\"", true), ("\"b\", \"a\"", true), ("*", true)]
    {
        assert_eq!(is_known(header, "\"a\""), known, "{header}");
    }
    assert!(!is_known("\"b\"", "\"a\""));
}
