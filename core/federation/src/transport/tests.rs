//! Servers that are found in every way there is, and sites that do not behave: on loopback addresses, with names
//! that only these tests know.

mod site;

use std::net::IpAddr;

use colonnade_rooms::Settings;
use colonnade_testkit_rooms::World;
use serde_json::Value;

use self::site::{Authority, Known, Site, ok, redirect};
use super::{
    names::{Names as _, Srv, in_order},
    *,
};

/// How long a site may take in these tests: one that never answers is waited for.
const WITHIN: Duration = Duration::from_millis(800);

/// A server that finds others by `names`, of which those of `allowed` are connected to.
async fn server(site: &Site, names: Known, allowed: &[&str]) -> (World, Transport) {
    let mut settings = Settings::default();
    settings.federation.enabled = Some(true);
    let ranges = allowed.iter().map(|range| range.parse().unwrap());
    settings.outgoing.allowed_ranges = ranges.collect();
    let world = World::with(settings).await;
    let tls = tls::client_config(&[site.authority.file()]).unwrap();
    let addresses = AddressPolicy::new(&world.context.settings.outgoing.allowed_ranges);
    let dialer = Arc::new(Dialer { names: Arc::new(names), addresses, tls });
    let bounds = FetchBounds { within: WITHIN, bytes_max: 50 * 1024 };
    let transport = Transport::over(&world.context, dialer, Web { port: site.port, bounds });
    (world, transport)
}

/// Names that all are at one address.
fn all_at(address: &str, hosts: &[&str]) -> Known {
    let address: IpAddr = address.parse().unwrap();
    let mut known = Known::default();
    for host in hosts {
        known.addresses.insert((*host).to_owned(), vec![address]);
    }
    known
}

const LOOPBACK: &[&str] = &["127.0.0.0/8"];

fn version() -> Request {
    Request::get("/version?a=%20b")
}

async fn ask(transport: &Transport, server: &str) -> Result<Value, TransportError> {
    let server = OwnedServerName::try_from(server).unwrap();
    transport.send(&server, version()).await?.json().await
}

/// A site that hands `a.test` over to whatever, and answers requests.
fn delegating(to: String) -> impl Fn(&str) -> Vec<u8> + Send + Sync + 'static {
    move |head| match head.contains("/.well-known/matrix/server") {
        true => ok(&format!("{{\"m.server\":\"{to}\"}}")),
        false => ok("{\"here\":true}"),
    }
}

#[tokio::test]
async fn a_host_with_a_port_is_asked_there_by_its_name() {
    let authority = Authority::new();
    let site = Site::open(authority, &["a.test"], |_, _| ok("{\"here\":true}")).await;
    let (_world, transport) = server(&site, all_at("127.0.0.1", &["a.test"]), LOOPBACK).await;
    let name = format!("a.test:{}", site.port);
    assert_eq!(ask(&transport, &name).await.unwrap()["here"], true);
    ask(&transport, &name).await.unwrap();
    let heads = site.heads();
    assert_eq!(heads.len(), 2);
    assert_eq!(site.connections(), 1, "connections are kept");
    let head = heads[0].to_ascii_lowercase();
    assert!(head.starts_with("get /version?a=%20b http/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: {name}\r\n")), "{head}");
    assert!(head.contains("user-agent: colonnade/"), "{head}");
    let origin = "authorization: x-matrix origin=\"localhost\",destination=\"a.test:";
    assert!(head.contains(origin), "{head}");
}

#[tokio::test]
async fn a_well_known_file_hands_over_to_a_host_a_port_or_an_address() {
    for (to, host, sni) in
        [("b.test:PORT", "b.test:PORT", "b.test"), ("127.0.0.1:PORT", "127.0.0.1:PORT", "")]
    {
        let authority = Authority::new();
        let site = Site::open(authority, &["a.test", "b.test", "127.0.0.1"], {
            let to = to.to_owned();
            move |port, head| delegating(to.replace("PORT", &port.to_string()))(head)
        })
        .await;
        let known = all_at("127.0.0.1", &["a.test", "b.test"]);
        let (_world, transport) = server(&site, known, LOOPBACK).await;
        assert_eq!(ask(&transport, "a.test").await.unwrap()["here"], true);
        let heads = site.heads();
        assert!(heads[0].contains("GET /.well-known/matrix/server"), "{}", heads[0]);
        let host = host.replace("PORT", &site.port.to_string());
        assert!(
            heads[1].to_ascii_lowercase().contains(&format!("host: {host}\r\n")),
            "{}",
            heads[1]
        );
        assert_eq!(site.names(), ["a.test", sni]);
        // Known from now on.
        ask(&transport, "a.test").await.unwrap();
        assert_eq!(site.heads().len(), 3);
    }
}

#[tokio::test]
async fn services_are_asked_for_by_both_names_and_the_new_one_first() {
    for service in ["_matrix-fed._tcp", "_matrix._tcp"] {
        let authority = Authority::new();
        let missing = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec();
        let site = Site::open(authority, &["a.test"], move |_, head| {
            if head.contains(".well-known") { missing.clone() } else { ok("{}") }
        })
        .await;
        let mut known = all_at("127.0.0.1", &["a.test", "target.test"]);
        let srv =
            |target: &str, port| Srv { priority: 1, weight: 1, target: target.to_owned(), port };
        let records = vec![srv("nowhere.test", 1), srv("target.test", site.port)];
        known.services.insert(format!("{service}.a.test"), records);
        let (_world, transport) = server(&site, known, LOOPBACK).await;
        ask(&transport, "a.test").await.unwrap();
        // By the name of the server, not of where it is.
        assert!(site.heads()[1].to_ascii_lowercase().contains("host: a.test\r\n"));
        assert_eq!(site.names(), ["a.test", "a.test"]);
    }
}

#[tokio::test]
async fn files_that_loop_never_end_or_never_come_are_given_up() {
    type Script = fn(u16, &str) -> Vec<u8>;
    let scripts: [(&str, Script); 6] = [
        ("a redirect to itself", |port, _| redirect(&format!("https://a.test:{port}/again"))),
        ("gigabytes", |_, _| {
            let mut head = b"HTTP/1.1 200 OK\r\ncontent-length: 9000000000\r\n\r\n".to_vec();
            head.extend([b' '; 100_000]);
            head
        }),
        ("chunks without end", |_, _| {
            let mut whole = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
            for _ in 0..100 {
                whole.extend(format!("{:x}\r\n", 4096).as_bytes());
                whole.extend([b' '; 4096]);
                whole.extend(b"\r\n");
            }
            whole
        }),
        ("silence", |_, _| Vec::new()),
        ("half a head", |_, _| b"HTTP/1.1 200 OK\r\ncontent-le".to_vec()),
        ("nonsense", |_, _| ok("{\"m.server\":\"a b\"}")),
    ];
    for (what, script) in scripts {
        let authority = Authority::new();
        let site = Site::open(authority, &["a.test"], move |port, head| {
            if head.starts_with("GET /version") {
                ok("{\"here\":true}")
            } else {
                script(port, head)
            }
        })
        .await;
        let mut known = all_at("127.0.0.1", &["a.test"]);
        let record = Srv { priority: 0, weight: 0, target: "a.test".to_owned(), port: site.port };
        known.services.insert("_matrix-fed._tcp.a.test".to_owned(), vec![record]);
        let (_world, transport) = server(&site, known, LOOPBACK).await;
        assert_eq!(ask(&transport, "a.test").await.unwrap()["here"], true, "{what}");
        let asked = site.heads().len();
        assert!(asked <= 9, "{what}: asked {asked} times");
        // And that is remembered.
        ask(&transport, "a.test").await.unwrap();
        assert_eq!(site.heads().len(), asked + 1, "{what}");
    }
}

#[tokio::test]
async fn nothing_leads_to_an_address_that_is_not_allowed() {
    let authority = Authority::new();
    let hosts = ["a.test", "inner.test", "127.0.0.1"];
    let site = Site::open(authority, &hosts, |port, head| {
        if head.contains("/to-address") {
            return redirect(&format!("https://127.0.0.2:{port}/"));
        }
        if head.contains("/to-name") {
            return redirect(&format!("https://inner.test:{port}/"));
        }
        if head.contains("/to-clear") { redirect("http://a.test/") } else { ok("secret") }
    })
    .await;
    let mut known = all_at("127.0.0.1", &["a.test"]);
    let inner: Vec<IpAddr> = vec!["10.0.0.1".parse().unwrap(), "127.0.0.3".parse().unwrap()];
    known.addresses.insert("inner.test".to_owned(), inner);
    let (_world, transport) = server(&site, known, &["127.0.0.1/32"]).await;
    let bounds = FetchBounds { within: Duration::from_secs(20), bytes_max: 1_000 };
    let at = |path: &str| -> Uri { format!("https://a.test:{}{path}", site.port).parse().unwrap() };
    let fetched = transport.fetch(at("/"), bounds).await.unwrap().bytes().await.unwrap();
    assert_eq!(fetched, "secret");
    for path in ["/to-address", "/to-name", "/to-clear"] {
        let refused = transport.fetch(at(path), bounds).await.unwrap_err();
        assert!(matches!(refused, TransportError::Refused(_)), "{path}: {refused}");
    }
    let connections = site.connections();
    let named = format!("inner.test:{}", site.port);
    for server in [named, format!("127.0.0.2:{}", site.port), "[::1]:1".to_owned()] {
        let refused = ask(&transport, &server).await.unwrap_err();
        assert!(matches!(refused, TransportError::Refused(_)), "{server}: {refused}");
    }
    assert_eq!(site.connections(), connections, "nobody was connected to");
}

#[tokio::test]
async fn answers_that_grow_or_stall_are_cut() {
    let authority = Authority::new();
    let site = Site::open(authority, &["a.test"], |_, head| {
        if head.starts_with("GET /grows") {
            let mut whole = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
            for _ in 0..100 {
                whole.extend(b"1000\r\n");
                whole.extend([b' '; 0x1000]);
                whole.extend(b"\r\n");
            }
            return whole;
        }
        match head.starts_with("GET /stalls") {
            true => b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec(),
            false => Vec::new(),
        }
    })
    .await;
    let (_world, transport) = server(&site, all_at("127.0.0.1", &["a.test"]), LOOPBACK).await;
    let name = OwnedServerName::try_from(format!("a.test:{}", site.port)).unwrap();
    let send = async |path: &str| {
        let request = Request::get(path).within(WITHIN).taking(10_000).ignoring_backoff();
        transport.send(&name, request).await?.bytes().await
    };
    let grown = send("/grows").await.unwrap_err();
    assert!(matches!(grown, TransportError::TooLarge { bytes_max: 10_000 }), "{grown:?}");
    for path in ["/stalls", "/silence"] {
        let late = send(path).await.unwrap_err();
        assert!(matches!(late, TransportError::TimedOut), "{path}: {late:?}");
    }
}

#[tokio::test]
async fn nobody_else_s_certificate_is_taken() {
    let site = Site::open(Authority::new(), &["b.test"], |_, _| ok("{}")).await;
    let (_world, transport) =
        server(&site, all_at("127.0.0.1", &["a.test", "b.test"]), LOOPBACK).await;
    let wrong = ask(&transport, &format!("a.test:{}", site.port)).await.unwrap_err();
    assert!(wrong.to_string().contains("TLS"), "{wrong}");
    ask(&transport, &format!("b.test:{}", site.port)).await.unwrap();
    // An authority that is not trusted.
    let other = Site::open(Authority::new(), &["b.test"], |_, _| ok("{}")).await;
    let (_world, transport) = server(&site, all_at("127.0.0.1", &["b.test"]), LOOPBACK).await;
    let wrong = ask(&transport, &format!("b.test:{}", other.port)).await.unwrap_err();
    assert!(wrong.to_string().contains("TLS"), "{wrong}");
}

#[test]
fn records_are_tried_by_priority_and_weight_and_none_means_none() {
    let srv = |priority, weight, target: &str| Srv {
        priority,
        weight,
        target: target.to_owned(),
        port: 1,
    };
    let records = vec![srv(2, 9, "c"), srv(1, 1, "b"), srv(1, 5, "a"), srv(0, 0, "")];
    let order: Vec<String> = in_order(records).into_iter().map(|srv| srv.target).collect();
    assert_eq!(order, ["a", "b", "c"]);
}

#[tokio::test]
async fn the_system_resolves_what_its_hosts_file_says() {
    let found = names::System::new().addresses("localhost").await.unwrap();
    assert!(found.iter().any(IpAddr::is_loopback), "{found:?}");
    assert!(
        names::System::new()
            .services("_matrix._tcp.localhost")
            .await
            .is_ok_and(|none| none.is_empty())
    );
}
