//! nginx files of the shapes people have, and what becomes of them.

use super::*;
use crate::admin::explain::explain;

/// The shape of Synapse's worker documentation: maps for the user and for /sync, one upstream per
/// kind of worker, unanchored locations, the main process for the rest.
const SYNAPSE: &str = r#"
# Choose sync worker based on the existence of "since" query parameter
map $arg_since $sync {
    default synapse_sync;
    '' synapse_initial_sync;
}
map $arg_access_token $accesstoken_from_urlparam {
    default $arg_access_token;
    "~syt_(?<username>.*?)_.*" $username;
}
map $http_authorization $mxid_localpart {
    default $http_authorization;
    "~Bearer syt_(?<username>.*?)_.*" $username;
    "" $accesstoken_from_urlparam;
}
map $request_uri $room_name {
    default "not_room";
    "~^/_matrix/(client|federation)/.*?(?:%21|!)(?<room>[A-Za-z0-9._=\-\/]+)(?::|%3A)[A-Za-z0-9._=\-\/]+" "!$room";
}
upstream synapse_initial_sync {
    hash $mxid_localpart consistent;
    server 127.0.0.1:8083 max_fails=3;
}
upstream synapse_sync {
    hash $mxid_localpart consistent;
    server 127.0.0.1:8084;
    server 127.0.0.1:8085 weight=2 backup;
}
upstream synapse_rooms { hash $room_name consistent; server unix:/run/rooms.sock; }
upstream synapse_federation { ip_hash; server localhost:8086; }
server {
    listen 443 ssl http2;
    server_name matrix.example.org;
    ssl_certificate /etc/ssl/hs.pem;
    ssl_certificate_key "/etc/ssl/hs key.pem";
    client_max_body_size 50m;
    location ~ ^/_matrix/client/(r0|v3)/sync$ {
        proxy_pass http://$sync;
        proxy_set_header X-Forwarded-For $remote_addr;
    }
    location ~ ^/_matrix/client/(api/v1|r0|v3|unstable)/rooms/.*/(join|invite)$ {
        proxy_pass http://synapse_rooms;
    }
    location ~ ^/_matrix/client/(r0|v3)/rooms/.*/send {
        proxy_pass http://synapse_rooms$request_uri;
    }
    location ~ ^/_matrix/federation/v1/ { proxy_pass http://synapse_federation; }
    location ~* ^(\/_matrix|\/_synapse\/client) {
        proxy_pass http://localhost:8008;
    }
    location = /_synapse/admin { return 403; }
    location / { root /var/www; }
}
"#;

fn pool_of(config: &Config, method: &str, target: &str) -> String {
    let explained = explain(config, method, target, Some("syt_YWxpY2U_x_y"), None).unwrap();
    explained.pool.unwrap_or_else(|| "none".to_owned())
}

#[test]
fn the_usual_shape_is_carried_over() {
    let imported = import_nginx("nginx.conf", SYNAPSE).unwrap();
    let config = Config::parse("imported", &imported.routes)
        .unwrap_or_else(|error| panic!("{error}\n{}", imported.routes));
    let cases = [
        ("GET", "/_matrix/client/v3/sync", "synapse_initial_sync"),
        ("GET", "/_matrix/client/v3/sync?since=s1", "synapse_sync"),
        ("POST", "/_matrix/client/v3/rooms/!a:b/join", "synapse_rooms"),
        ("PUT", "/_matrix/client/v3/rooms/!a:b/send/m.x/1", "synapse_rooms"),
        ("PUT", "/_matrix/federation/v1/send/1", "synapse_federation"),
        ("GET", "/_matrix/client/versions", "at_127_0_0_1_8008"),
        ("GET", "/_synapse/admin", "none"),
        ("GET", "/index.html", "none"),
    ];
    for (method, target, pool) in cases {
        let pool = pool.replace("at_127_0_0_1_8008", "localhost_8008");
        assert_eq!(pool_of(&config, method, target), pool, "{target}\n{}", imported.routes);
    }
    let room = explain(&config, "POST", "/_matrix/client/v3/rooms/%21a%3Ab/join", None, None);
    assert_eq!(room.unwrap().key.unwrap(), "!a:b");
    let tls = config.listen[0].tls.as_ref().unwrap();
    assert_eq!(tls.certificates[0].1.to_str().unwrap(), "/etc/ssl/hs key.pem");
    assert_eq!(config.limits.body_bytes, 50 << 20);
    let sync = config.pools.iter().find(|pool| pool.name == "synapse_sync").unwrap();
    assert_eq!(sync.workers[1].1, 2);
    let notes: Vec<&str> = imported.notes.iter().map(|note| note.text.as_str()).collect();
    let expected = ["`backup` of server 127.0.0.1:8085", "`root /var/www`", "without proxy_pass"];
    for part in expected {
        assert!(notes.iter().any(|note| note.contains(part)), "{part} is not in {notes:#?}");
    }
}

#[test]
fn locations_keep_nginx_order_of_precedence() {
    let text = "upstream a { server 127.0.0.1:1; } upstream b { server 127.0.0.1:2; }\n\
        upstream c { server 127.0.0.1:3; } upstream d { server 127.0.0.1:4; }\n\
        location /x { proxy_pass http://a; }\n\
        location /x/long { proxy_pass http://b; }\n\
        location ~ /x/(l|m) { proxy_pass http://c; }\n\
        location = /x/m { proxy_pass http://d; }\n\
        location ^~ /x/mm { proxy_pass http://b; }";
    let imported = import_nginx("n", text).unwrap();
    let config = Config::parse("imported", &imported.routes).unwrap();
    let cases =
        [("/x/m", "d"), ("/x/mmm", "b"), ("/x/long", "c"), ("/x/k", "a"), ("/y/x/l/z", "c")];
    for (target, pool) in cases {
        assert_eq!(pool_of(&config, "GET", target), pool, "{target}\n{}", imported.routes);
    }
}

#[test]
fn what_is_unclear_is_said() {
    let text = "upstream a { hash $cookie_x; server backend.example:1; }\n\
        server { listen 8448 ssl; location ~ ^/a { proxy_pass http://$who; }\n\
        location ~ ^/b { if ($x) { return 1; } proxy_pass https://a; } }";
    let imported = import_nginx("n", text).unwrap();
    let notes: Vec<&str> = imported.notes.iter().map(|note| note.text.as_str()).collect();
    for part in [
        "what `$cookie_x` hashes by",
        "most keys move once",
        "is a name",
        "certificate is elsewhere",
        "what `$who` stands for",
        "without TLS",
        "`if ($x)`",
        "needs a hand",
    ] {
        assert!(notes.iter().any(|note| note.contains(part)), "{part} is not in {notes:#?}");
    }
}

#[test]
fn files_that_are_no_configuration_are_refused_with_a_line() {
    let cases = [
        ("a {\n b c;\n", 1, "a block without end"),
        ("a;\n}\n", 2, "a } without a {"),
        ("a 'b", 1, "a quote without end"),
        ("a b\n", 1, "a directive without ;"),
        ("{}", 1, "a { without a name"),
    ];
    for (text, line, problem) in cases {
        assert_eq!(import_nginx("n", text).unwrap_err(), SyntaxError { line, problem }, "{text}");
    }
    assert!(import_nginx("n", &"a {".repeat(1_000)).is_err());
}

fn imported(text: &str) -> (Config, Vec<String>) {
    let imported = import_nginx("n", text).unwrap();
    let config = Config::parse("imported", &imported.routes)
        .unwrap_or_else(|error| panic!("{error}\n{}", imported.routes));
    (config, imported.notes.into_iter().map(|note| note.text).collect())
}

#[track_caller]
fn says(notes: &[String], parts: &[&str]) {
    for part in parts {
        assert!(notes.iter().any(|note| note.contains(part)), "{part} is not in {notes:#?}");
    }
}

#[test]
fn what_nginx_closes_stays_closed_and_is_named() {
    for closes in [
        "deny all;",
        "deny 192.0.2.0/24;",
        "allow 10.0.0.0/8; deny all;",
        "auth_basic \"staff\";",
        "auth_request /check;",
        "internal;",
        "return 403;",
        "return 200 \"ok\";",
        "return 301 https://example.org$request_uri;",
        "limit_except GET { deny all; }",
        "if ($request_method = DELETE) { return 405; }",
        "rewrite ^ /elsewhere break;",
        "try_files $uri @backend;",
        "satisfy any; allow 10.0.0.1;",
        "include snippets/staff-only.conf;",
        "some_module_nobody_knows on;",
        "location ~ ^/closed/x { deny all; }",
    ] {
        let (config, notes) = imported(&format!(
            "upstream a {{ server 127.0.0.1:1; }}\n\
             server {{ listen 80; location /closed {{ {closes} proxy_pass http://a; }}\n\
             location / {{ proxy_pass http://a; }} }}"
        ));
        assert_eq!(pool_of(&config, "GET", "/open"), "a", "{closes}");
        for target in ["/closed", "/closed/x", "/%63losed", "//closed"] {
            assert_eq!(pool_of(&config, "GET", target), "none", "{closes} {target}");
        }
        let name = closes.split([' ', ';']).next().unwrap();
        says(&notes, &[&format!("`{name}"), "location /closed"]);
    }
}

/// nginx decodes a path and takes several slashes for one before it looks for a location.
#[test]
fn closed_patterns_stay_closed_however_slashes_are_written() {
    for location in ["^~ /_synapse/admin", "~ ^/_synapse/admin", "~* ^/_synapse/?[^/]*admin"] {
        let (config, _) = imported(&format!(
            "upstream a {{ server 127.0.0.1:1; }}\n\
             server {{ listen 80; location {location} {{ deny all; proxy_pass http://a; }}\n\
             location / {{ proxy_pass http://a; }} }}"
        ));
        for target in
            ["/_synapse/admin", "//_synapse/admin/x", "/_synapse//admin/x", "/_synapse%2Fadmin/x"]
        {
            assert_eq!(pool_of(&config, "GET", target), "none", "{location} {target}");
        }
        assert_eq!(pool_of(&config, "GET", "/_synapse/client"), "a", "{location}");
    }
}

/// A rule sees an escape where nginx sees a character.
#[test]
fn closed_places_stay_closed_whatever_needs_an_escape() {
    for (location, targets) in [
        ("\"/a b\"", &["/a%20b", "/a%20b/x"][..]),
        ("= \"/a b\"", &["/a%20b"]),
        ("=/glued", &["/glued"]),
        ("~*/GLUED", &["/x/glued"]),
        ("/\u{e9}", &["/%C3%A9", "/%c3%a9x"]),
        ("/per%cent", &["/per%25cent"]),
        ("^~ \"/a{b|c}\"", &["/a%7Bb%7Cc%7D", "/a{b|c}"]),
        ("\"/[x]\"", &["/[x]", "/%5Bx%5D", "/[x%5d/y"]),
        ("~ ^/a.b$", &["/a%20b", "/axb", "/a%2Fb", "/a%25b"]),
        ("~ ^/[^/]+/shut", &["/a%20b/shut", "/a%C3%A9/shut"]),
        ("~* ^/sec\\sret|^/b$", &["/sec%20ret", "/SEC%09RET/x", "/B", "/b%0A"]),
        ("~ \\.php$", &["/x.php", "/x.php%0A", "/a%20b.php"]),
        ("~ \"^/(\u{e9}|e){2}$\"", &["/e%C3%A9", "/ee"]),
        ("~ ^/a(?!b)", &["/ac", "/x"]),
        ("/p!q", &["/x%2F..%2Fp!q", "/.%2Fp!q", "/x/..%2Fp!q", "/x%2f%2e%2e%2fp%21q"]),
        ("~* ^/secret", &["/x%2F.%2F..%2Fsecret", "/x/..%2FSecret", "/%2Fsecret"]),
    ] {
        let (config, _) = imported(&format!(
            "upstream a {{ server 127.0.0.1:1; }}\n\
             server {{ listen 80; location {location} {{ deny all; proxy_pass http://a; }}\n\
             location / {{ proxy_pass http://a; }} }}"
        ));
        for target in targets {
            assert_eq!(pool_of(&config, "GET", target), "none", "{location} {target}");
        }
        let opens = if location.contains("(?!") { "none" } else { "a" };
        for open in ["/open", "/x%2Fy", "/..a", "/a..%2Fb", "/x.phps"] {
            assert_eq!(pool_of(&config, "GET", open), opens, "{location} {open}");
        }
    }
}

#[test]
fn places_that_pass_are_met_whatever_needs_an_escape() {
    let (config, _) = imported(
        "upstream a { server 127.0.0.1:1; }\n\
         location \"/a b\" { proxy_pass http://a; }\n\
         location = /\u{e9} { proxy_pass http://a; }",
    );
    for target in ["/a%20b/c", "/%C3%A9"] {
        assert_eq!(pool_of(&config, "GET", target), "a", "{target}");
    }
    assert_eq!(pool_of(&config, "GET", "/x%2F..%2Fy"), "none");
}

#[test]
fn what_is_inherited_closes_too_and_can_be_taken_back() {
    for (server, location, open) in [
        ("deny all;", "", false),
        ("deny all;", "allow all;", true),
        ("deny all;", "allow 10.0.0.1; deny all;", false),
        ("auth_basic x;", "", false),
        ("auth_basic x;", "auth_basic off;", true),
        ("return 301 https://x;", "", false),
        ("if ($host != x) { return 444; }", "", false),
        ("ssl_verify_client on;", "", false),
        ("include conf.d/*.locations;", "", false),
        ("include /etc/letsencrypt/options-ssl-nginx.conf;", "", true),
        ("add_header x y; gzip on;", "access_log off;", true),
    ] {
        for (before, within) in [(server, ""), ("", server)] {
            let (config, _) = imported(&format!(
                "http {{ {before} upstream a {{ server 127.0.0.1:1; }}\n\
                 server {{ {within} location / {{ {location} proxy_pass http://a; }} }} }}"
            ));
            let inherits = !within.is_empty() || !server.starts_with(['r', 'i']);
            let expected = if open || !inherits { "a" } else { "none" };
            assert_eq!(pool_of(&config, "GET", "/x"), expected, "{before}|{within}|{location}");
        }
    }
}

#[test]
fn a_location_that_passes_nothing_on_does_not_fall_through_to_another() {
    let (config, notes) = imported(
        "upstream a { server 127.0.0.1:1; }\n\
         location /static { root /var/www; }\n\
         location /php { fastcgi_pass unix:/run/php; }\n\
         location /stripped/ { proxy_pass http://a/; }\n\
         location /outer { location /outer/inner { deny all; } proxy_pass http://a; }\n\
         location / { proxy_pass http://a/; }",
    );
    for (target, pool) in [
        ("/static/x", "none"),
        ("/php/x", "none"),
        ("/stripped/x", "none"),
        ("/outer/inner/x", "none"),
        ("/outer/x", "a"),
        ("/x", "a"),
    ] {
        assert_eq!(pool_of(&config, "GET", target), pool, "{target}");
    }
    says(
        &notes,
        &["`root /var/www` is left out", "`fastcgi_pass unix:/run/php`", "changes the path"],
    );
}

#[test]
fn another_server_is_not_opened_by_this_ones_listeners() {
    let (config, notes) = imported(
        "upstream a { server 127.0.0.1:1; } upstream b { server 127.0.0.1:2; }\n\
         server { listen 80; return 301 https://$host$request_uri; }\n\
         server { listen 8008; location / { proxy_pass http://a; } }\n\
         server { listen 8448; location / { proxy_pass http://a; } }\n\
         server { listen 127.0.0.1:9000; location /inner { proxy_pass http://b; } }",
    );
    let bound: Vec<String> = config.listen.iter().map(|listen| listen.bind.to_string()).collect();
    assert_eq!(bound, ["0.0.0.0:8008", "0.0.0.0:8448"]);
    assert_eq!(pool_of(&config, "GET", "/inner"), "a");
    says(
        &notes,
        &["passes nothing on", "`return 301 https://$host$request_uri`", "import it by itself"],
    );
}

#[test]
fn servers_that_are_down_get_nothing() {
    let (config, notes) = imported(
        "upstream a { server 127.0.0.1:1 down; server 127.0.0.1:2; zone x 64k; slow_start 3s; }\n\
         location / { proxy_pass http://a; }",
    );
    let workers: Vec<String> =
        config.pools[0].workers.iter().map(|(worker, _)| worker.to_string()).collect();
    assert_eq!(workers, ["127.0.0.1:2"]);
    says(&notes, &["server 127.0.0.1:1 is `down`", "`slow_start`"]);
}
