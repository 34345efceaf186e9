//! What a file, the environment and flags make together, and what is said about mistakes.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Config, ConfigError, Setting, Source, Sources, TEMPLATE, file::File};

fn load(
    yaml: &str,
    environment: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("colonnade.yaml");
    std::fs::write(&path, yaml).unwrap();
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let flag = |(key, value): &(&str, &str)| Setting {
        source: Source::Flag(format!("--set {key}")),
        key: (*key).to_owned(),
        value: (*value).to_owned(),
    };
    let sources = Sources {
        path,
        environment: environment.iter().map(own).collect(),
        flags: flags.iter().map(flag).collect(),
    };
    let at = format!("{}/", folder.path().display());
    Config::load(&sources).map_err(|error| error.to_string().replace(&at, ""))
}

#[track_caller]
fn check_error(yaml: &str, environment: &[(&str, &str)], expected: &str) {
    assert_eq!(load(yaml, environment, &[]).unwrap_err(), expected);
}

#[test]
fn an_empty_file_is_a_trial_server() {
    let config = load("", &[], &[]).unwrap();
    assert_eq!(config.server_name, "localhost");
    assert_eq!(config.listen, ["127.0.0.1:8008".parse().unwrap()]);
    assert!(config.is_local_trial() && config.registration_is_open());
}

#[test]
fn the_environment_beats_the_file_and_flags_beat_both() {
    let yaml = "server_name: file.example\nlogging:\n  level: warn\n  format: json\n";
    let environment =
        [("COLONNADE_SERVER_NAME", "env.example"), ("COLONNADE_LOGGING__LEVEL", "debug")];
    let config = load(yaml, &environment, &[("server_name", "flag.example")]).unwrap();
    assert_eq!(config.server_name, "flag.example");
    assert_eq!(config.logging.level, super::Level::Debug);
    assert_eq!(config.logging.format, super::Format::Json);
    let environment =
        [("COLONNADE_LISTEN", "127.0.0.1:1,[::1]:2"), ("OTHER", "x"), ("COLONNADE_CONFIG", "x")];
    assert_eq!(load("", &environment, &[]).unwrap().listen.len(), 2);
    let environment = [("COLONNADE_TRUSTED_PROXIES", "10.0.0.5, 10.1.0.0/16,fd00::/8")];
    let trusted = load("", &environment, &[]).unwrap().trusted_proxies;
    assert_eq!(
        trusted,
        ["10.0.0.5/32", "10.1.0.0/16", "fd00::/8"].map(|range| range.parse().unwrap())
    );
    assert!(load("trusted_proxies: []", &[], &[]).unwrap().trusted_proxies.is_empty());
    // Text that looks like a number stays text where text belongs.
    let environment = [("COLONNADE_REGISTRATION__SHARED_SECRET", "12345")];
    let config = load("", &environment, &[]).unwrap();
    assert_eq!(config.settings.registration.shared_secret.as_deref(), Some("12345"));
}

#[test]
fn registration_is_open_only_where_nobody_else_can_come() {
    for (yaml, open) in [
        ("listen: [\"127.0.0.1:0\", \"[::1]:0\"]", true),
        ("listen: [\"127.0.0.1:0\", \"0.0.0.0:0\"]", false),
        ("server_name: example.org", false),
        ("server_name: example.org\nregistration: { open: true }", true),
        ("registration: { open: false }", false),
    ] {
        assert_eq!(load(yaml, &[], &[]).unwrap().registration_is_open(), open, "{yaml}");
    }
}

#[test]
fn mistakes_name_their_place_and_their_mend() {
    check_error(
        "server_name: localhost\nlogging:\n  levle: debug\n",
        &[],
        "colonnade.yaml:3:3: levle: there is no such key; did you mean `level`?",
    );
    check_error(
        "logging:\n  level: loud\n",
        &[],
        "colonnade.yaml:2:10: level: `loud` is not one of its values; \
         possible here: error, warn, info, debug, trace",
    );
    check_error(
        "listen: [\"localhost\"]\n",
        &[],
        "colonnade.yaml:1:10: listen: `localhost` is not an address with a port: \
         write it like 127.0.0.1:8008 or [::1]:8008",
    );
    check_error(
        "trusted_proxies: [\"10.0.0.0/40\"]\n",
        &[],
        "colonnade.yaml:1:19: trusted_proxies: `10.0.0.0/40` is no address and no range: \
         write it like 10.0.0.5 or 10.0.0.0/24",
    );
    check_error(
        "",
        &[("COLONNADE_LOGGING__FROMAT", "json")],
        "environment variable COLONNADE_LOGGING__FROMAT: logging.fromat: there is no such key; \
         did you mean COLONNADE_LOGGING__FORMAT?",
    );
    check_error(
        "",
        &[("COLONNADE_RATE_LIMITS__ENABLED", "perhaps")],
        "environment variable COLONNADE_RATE_LIMITS__ENABLED: rate_limits.enabled: \
         invalid type: string \"perhaps\", expected a boolean",
    );
    check_error(
        "",
        &[("COLONNADE_SERVR_NAME", "a.example")],
        "environment variable COLONNADE_SERVR_NAME: servr_name: there is no such key; \
         did you mean COLONNADE_SERVER_NAME?",
    );
    let secret = load("database: { url: \"mysql://u:hunter2@h/d\" }", &[], &[]).unwrap_err();
    assert!(secret.contains("database") && !secret.contains("hunter2"), "{secret}");
    let version = load("rooms: { default_version: \"13\" }", &[], &[]).unwrap_err();
    assert!(version.contains("rooms.default_version") && version.contains("1, 2, 3"), "{version}");
    for key in ["bodies_bytes_max", "answers_bytes_max"] {
        let few = load(&format!("requests: {{ {key}: 1000000 }}"), &[], &[]).unwrap_err();
        assert!(few.contains(&format!("requests.{key}")) && few.contains("or more"), "{few}");
    }
    let missing = load("routes: nowhere.yaml", &[], &[]).unwrap_err();
    assert!(missing.starts_with("nowhere.yaml: routes: there is no such file"), "{missing}");
}

#[test]
fn a_server_with_a_name_of_its_own_federates() {
    for (yaml, enabled) in [
        ("", false),
        ("server_name: localhost:8448", false),
        ("server_name: example.org", true),
        ("server_name: example.org\nfederation: { enabled: false }", false),
        ("federation: { enabled: true }", true),
    ] {
        assert_eq!(
            load(yaml, &[], &[]).unwrap().settings.federation.enabled,
            Some(enabled),
            "{yaml}"
        );
    }
    let yaml = "federation:\n  overrides: { hs1: \"127.0.0.2:8448\" }\noutgoing:\n  \
                allowed_ranges: [\"127.0.0.0/8\", \"10.0.0.5\"]\n";
    let settings = load(yaml, &[], &[]).unwrap().settings;
    assert_eq!(settings.federation.overrides.len(), 1);
    assert_eq!(settings.outgoing.allowed_ranges[1].to_string(), "10.0.0.5/32");
}

#[test]
fn mistakes_about_other_servers_name_their_place_and_their_mend() {
    for (yaml, expected) in [
        (
            "federation:\n  trusted_ca_files: [ca.pem]\n",
            "ca.pem: federation.trusted_ca_files: there is no such file; name an existing PEM file; a \
             relative path starts beside this one",
        ),
        (
            "federation:\n  listen: [{ bind: \"0.0.0.0:8448\", certificate: c.pem, key: k.pem }]\n",
            "c.pem: federation.listen: there is no such file",
        ),
        (
            "federation:\n  alow: [a]\n",
            "colonnade.yaml:2:3: alow: there is no such key; did you mean `allow`?",
        ),
        ("federation:\n  retry_min_ms: 0\n", "federation.retry_min_ms"),
        (
            "outgoing:\n  allowed_ranges: [\"10.0.0.0/40\"]\n",
            "colonnade.yaml:2:20: allowed_ranges: `10.0.0.0/40`",
        ),
        ("federation:\n  overrides: { \"a b\": \"c\" }\n", "colonnade.yaml:2:16"),
    ] {
        let told = load(yaml, &[], &[]).unwrap_err();
        assert!(told.contains(expected), "{yaml}: {told}");
    }
}

/// The template with every commented key in force.
fn whole_template() -> String {
    let lines = TEMPLATE.lines().map(|line| match line.trim_start().strip_prefix('#') {
        Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase()) => line.replacen('#', "", 1),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_template_shows_the_defaults() {
    for text in [TEMPLATE.to_owned(), whole_template()] {
        let shown = load(&text, &[], &[]).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let mut default = load("", &[], &[]).unwrap();
        default.data_dir = shown.data_dir.clone();
        default.database = shown.database.clone();
        assert_eq!(format!("{shown:?}"), format!("{default:?}"));
    }
}

/// The keys the reader knows below `path`, from what it says about one it does not know.
fn known_keys(path: &[String]) -> Vec<String> {
    let mut value = json!({ "no_such_key": 1 });
    for level in path.iter().rev() {
        value = json!({ level: value });
    }
    let error = serde_json::from_value::<File>(value).unwrap_err().to_string();
    if !error.starts_with("unknown field") {
        return Vec::new();
    }
    error.split('`').skip(1).step_by(2).skip(1).map(str::to_owned).collect()
}

/// A key that is for tests of upgrades alone, and is not shown to operators.
const OF_TESTS: &str = "next_migrations";

#[test]
fn the_template_lists_every_key() {
    let tree: Value = serde_saphyr::from_str(&whole_template()).unwrap();
    let mut waiting: Vec<Vec<String>> = vec![Vec::new()];
    let mut seen = 0;
    while let Some(path) = waiting.pop() {
        for key in known_keys(&path).into_iter().filter(|key| key != OF_TESTS) {
            let mut path = path.clone();
            path.push(key);
            let pointer = format!("/{}", path.join("/"));
            assert!(tree.pointer(&pointer).is_some(), "template.yaml does not list {pointer}");
            seen += 1;
            waiting.push(path);
        }
    }
    assert!(seen > 20, "only {seen} keys were looked at");
}

#[test]
fn the_file_knows_every_topic_of_the_services() {
    let error = serde_json::from_value::<colonnade_rooms::Settings>(json!({ "no_such_key": 1 }));
    let error = error.unwrap_err().to_string();
    let ours = known_keys(&[]);
    for topic in error.split('`').skip(1).step_by(2).skip(1) {
        assert!(ours.iter().any(|key| key == topic), "{topic} cannot be configured");
    }
}

#[test]
fn variables_of_others_with_our_prefix_are_left_alone() {
    let others = [
        ("COLONNADE_BIN", "/usr/bin/colonnade"),
        ("COLONNADE_SERVICE_HOST", "10.0.0.1"),
        ("COLONNADE_SERVICE_PORT", "8008"),
        ("COLONNADE_PORT", "tcp://10.0.0.1:8008"),
        ("COLONNADE_PORT_8008_TCP_ADDR", "10.0.0.1"),
        ("COLONNADE_VERSION", "1"),
    ];
    let config = load("server_name: a.example", &others, &[]).unwrap();
    assert_eq!(config.server_name, "a.example");
}

#[test]
fn a_first_start_writes_its_flags_to_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/colonnade.yaml");
    let flag = |key: &str, value: &str| Setting {
        source: Source::Flag("--x".to_owned()),
        key: key.to_owned(),
        value: value.to_owned(),
    };
    let flags = vec![flag("server_name", "example.org"), flag("listen", "0.0.0.0:1234")];
    let sources = Sources { path: path.clone(), environment: Vec::new(), flags };
    let config = Config::load(&sources).unwrap();
    super::write_first(&path, &config).unwrap();
    let alone = Sources { path: path.clone(), ..Default::default() };
    assert_eq!(format!("{:?}", Config::load(&alone).unwrap()), format!("{config:?}"));
    assert!(super::write_first(&path, &config).is_err(), "a file is never overwritten");
    let unreadable = Sources { path: PathBuf::from("/"), ..Default::default() };
    assert!(matches!(Config::load(&unreadable), Err(ConfigError::Read { .. })));
}
