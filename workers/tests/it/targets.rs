//! Gateway and worker understand the same: generated requests go through a gateway to a worker that answers what
//! it read of them, and straight to that worker.

use std::{collections::BTreeMap, net::SocketAddr};

use colonnade_gateway::{
    RunOptions, Source,
    config::{Config, Overrides},
    explain,
    routing::{
        request_target::{Target, pairs, value_of},
        sticky,
    },
    run,
};
use colonnade_testkit::reader::{self, Understood};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Requests of a run.
const REQUESTS: usize = 1_500;

/// Any number, from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % sides as u64) as usize
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.roll(from.len())]
    }

    /// The same text, some of whose characters are written as escapes.
    fn spelled(&mut self, text: &str) -> String {
        let every = [1, 3, 20, usize::MAX][self.roll(4)];
        let mut out = String::new();
        for byte in text.bytes() {
            match (self.roll(every), self.roll(2)) {
                (0, 0) if every < 21 => out.push_str(&format!("%{byte:02x}")),
                (0, _) if every < 21 => out.push_str(&format!("%{byte:02X}")),
                _ => out.push(char::from(byte)),
            }
        }
        out
    }

    fn target(&mut self) -> String {
        let path = self.pick(&[
            "/_matrix/client/v3/sync",
            "/_matrix/client/v3/rooms/!r:h/send/m.room.message/t",
            "/_matrix/client/v3/rooms/!r:h/state/m.x/a~b+c;d",
            "/_matrix/client/v3/profile/@u:h/displayname",
            "/_matrix/client/v3/user/@u:h/filter",
            "/_matrix/client/v3/join/#a:h",
            "/_matrix/client/v3/publicRooms",
            "/_colonnade/slots",
        ]);
        let mut target = String::new();
        for segment in path.split('/').skip(1) {
            let noise = self.roll(30);
            target.push('/');
            target.push_str(&match noise {
                0 => self
                    .pick(&["..", ".", "%2e.", "%2E%2e", "", "%", "%zz", "%00", "%ff", "\\", "é"])
                    .to_owned(),
                1 => self
                    .pick(&["%2F", "%25", "%3F", "%23", "..%2f", "a b", "{}", "%c3%a9", "[x]"])
                    .replace(' ', "%20"),
                _ => self.spelled(&segment.replace('#', "%23")),
            });
        }
        for place in 0..self.roll(5) {
            let mark = match (place, self.roll(25)) {
                (0, _) => "?",
                (_, 0) => ";",
                (_, 1) => "#",
                _ => "&",
            };
            let name = self.pick(&[
                "since",
                "access_token",
                "user_id",
                "timeout",
                "from",
                "via",
                "server_name",
                "filter",
                "x",
                "full_state",
                "",
            ]);
            let name = if self.roll(12) == 0 { self.spelled(name) } else { name.to_owned() };
            let value = self.pick(&[
                "s1",
                "cln_ab_x",
                "cln_cd_y",
                "syt_YQ_r_c",
                "@u:h",
                "30000",
                "a b",
                "a+b",
                "a=b",
                "a&b",
                "{\"a\":1}",
                "",
                "é;",
            ]);
            let value = match self.roll(3) {
                0 => value.replace(['&', ' '], "+"),
                _ => self.spelled(value).replace(' ', "%20").replace('&', "%26"),
            };
            target.push_str(&format!("{mark}{name}{}{value}", ["=", "="][self.roll(2)]));
        }
        target
    }

    fn authorization(&mut self) -> Option<&'static str> {
        match self.roll(6) {
            0 => Some("Bearer cln_ab_x"),
            1 => Some("bEARER syt_YQ_r_c"),
            2 => Some("Bearer  cln_cd_y"),
            3 => Some("Basic eDp5"),
            _ => None,
        }
    }
}

/// The status, and what was understood.
async fn ask(at: SocketAddr, request: &str) -> (u16, Option<Understood>) {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    let _reset_behind_the_answer = stream.read_to_end(&mut bytes).await;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, serde_json::from_str(body).ok())
}

/// What the gateway understood, as workers tell it.
fn read_here(target: &Target, authorization: Option<&str>) -> Understood {
    let pair = |(name, value): (&str, &str)| (name.to_owned(), value_of(value).into_owned());
    Understood {
        path: target
            .path()
            .split('/')
            .map(|segment| value_of(&segment.replace('+', "%2B")).into_owned())
            .collect(),
        query: pairs(target.query()).map(pair).collect(),
        token: sticky::token(target.query(), authorization).map(std::borrow::Cow::into_owned),
    }
}

#[tokio::test]
async fn gateway_and_worker_understand_the_same_of_any_request() {
    let worker = reader::start().await;
    let behind = vec![worker.to_string().parse().unwrap()];
    let overrides = Overrides {
        listen: Some(vec!["127.0.0.1:0".parse().unwrap()]),
        workers_for_all_pools: Some(behind),
        no_admin: true,
        ..Overrides::default()
    };
    let config = Config::bundled().unwrap().with(&overrides);
    let mut options = RunOptions::new(Source::bundled());
    options.overrides = overrides;
    let gateway = run(options).unwrap();
    // To see it again, put what was printed in its place.
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut dice = Dice(seed);
    let mut ends: BTreeMap<u16, usize> = BTreeMap::new();
    for _ in 0..REQUESTS {
        let (target, authorization) = (dice.target(), dice.authorization());
        let header =
            authorization.map(|value| format!("authorization: {value}\r\n")).unwrap_or_default();
        let method = dice.pick(&["GET", "PUT"]);
        let request = format!(
            "{method} {target} HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: 0\r\n{header}\r\n"
        );
        let (status, through) = ask(gateway.addrs()[0], &request).await;
        let (direct_status, direct) = ask(worker, &request).await;
        *ends.entry(status).or_default() += 1;
        let case =
            format!("{request:?}: {status} {through:?}, directly {direct_status} {direct:?}");
        match (Target::parse(target.as_bytes()), status) {
            (_, 400 | 414) => {
                assert_eq!(through, None, "{case}");
                // What stands behind a # no worker sees.
                assert!(target.contains('#') || direct_status == status, "{case}");
            }
            (Ok(read), 200) => {
                let here = read_here(&read, authorization);
                assert_eq!(Some(&here), through.as_ref(), "{case}");
                // hyper wants escapes that the gateway puts there.
                let bare = target.contains(['"', '<', '>', '^', '`', '{', '|', '}']);
                assert!(Some(&here) == direct.as_ref() || (bare && direct_status == 400), "{case}");
                sticks(&config, method, &target, &here, &case);
            }
            // No rule for the path, or none with this method.
            (Ok(_), 404 | 405) => {
                assert_eq!(through, None, "{case}");
            }
            _ => panic!("{case}"),
        }
    }
    println!("{ends:?}");
    assert!(ends[&200] > REQUESTS / 10 && ends[&400] > REQUESTS / 10, "{ends:?}");
}

/// The key of a request is a part of what the worker read.
fn sticks(config: &Config, method: &str, target: &str, read: &Understood, case: &str) {
    let explained = explain(config, method, target, read.token.as_deref(), None).unwrap();
    let Some(key) = explained.key else { return };
    let named =
        |name: &str| read.query.iter().find(|(known, _)| known == name).map(|(_, value)| value);
    let hint =
        |token: &str| token.split('_').nth(1).is_some_and(|part| part == key) || token == key;
    let known = read.path.contains(&key)
        || named("user_id") == Some(&key)
        || read.token.as_deref().is_some_and(hint)
        // Who names nobody sticks by his address.
        || key == "127.0.0.1";
    assert!(known, "{key} of {case}");
}
