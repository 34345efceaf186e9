//! The keys of `colonnade.yaml`, each a typed value with a default. A new topic of the services'
//! settings gets a field here, a line in `checked` and its keys in `template.yaml`; tests compare
//! all three.

use std::{
    fmt,
    marker::PhantomData,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use colonnade_model::{
    ruma::{OwnedServerName, RoomVersionId},
    versions,
};
use colonnade_rooms::{Settings, settings as services};
use colonnade_storage::Location;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};

use super::{
    federation,
    problem::{ConfigError, Problem},
    values::{Config, Format, Level, Logging, Tracing},
};

/// Connections to PostgreSQL a process holds at most, unless told otherwise: enough for two cores
/// of work, few enough that ten processes fit into a server's usual hundred.
const CONNECTIONS_DEFAULT: u32 = 10;

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    server_name: OwnedServerName,
    data_dir: String,
    #[serde(deserialize_with = "listen")]
    listen: Vec<SocketAddr>,
    #[serde(deserialize_with = "ranges")]
    trusted_proxies: Vec<IpNet>,
    routes: Option<String>,
    #[serde(deserialize_with = "database")]
    database: Database,
    redis: RedisFile,
    admin: Admin,
    logging: LoggingFile,
    tracing: TracingFile,
    public_base_url: Option<String>,
    registration: services::Registration,
    sessions: services::Sessions,
    user_directory: services::UserDirectory,
    sync: services::Sync,
    support: services::Support,
    voip: services::Voip,
    rooms: services::Rooms,
    media: services::Media,
    rate_limits: services::RateLimits,
    limits: services::OwnerLimits,
    requests: services::Requests,
    federation: services::Federation,
    outgoing: OutgoingFile,
}

impl Default for File {
    fn default() -> Self {
        Self {
            server_name: OwnedServerName::try_from("localhost").expect("a server name"),
            data_dir: "data".to_owned(),
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8008))],
            trusted_proxies: Vec::new(),
            routes: None,
            database: Database::default(),
            redis: RedisFile::default(),
            admin: Admin::default(),
            logging: LoggingFile::default(),
            tracing: TracingFile::default(),
            public_base_url: None,
            registration: Default::default(),
            sessions: Default::default(),
            user_directory: Default::default(),
            sync: Default::default(),
            support: Default::default(),
            voip: Default::default(),
            rooms: Default::default(),
            media: Default::default(),
            rate_limits: Default::default(),
            limits: Default::default(),
            requests: Default::default(),
            federation: Default::default(),
            outgoing: Default::default(),
        }
    }
}

/// Requests that this server makes itself.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct OutgoingFile {
    #[serde(deserialize_with = "ranges")]
    allowed_ranges: Vec<IpNet>,
}

/// Where the database is.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Database {
    url: DatabaseUrl,
    direct_url: Option<DatabaseUrl>,
    connections_max: u32,
    /// For tests of upgrades, and not in the template: see [`Location`].
    next_migrations: Option<std::path::PathBuf>,
}

impl Default for Database {
    fn default() -> Self {
        let connections_max = CONNECTIONS_DEFAULT;
        Self { url: DatabaseUrl::Sqlite, direct_url: None, connections_max, next_migrations: None }
    }
}

/// `sqlite`, or a URL, which may hold a password and is never shown.
enum DatabaseUrl {
    Sqlite,
    Postgres(String),
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "sqlite",
            Self::Postgres(_) => "postgres://…",
        })
    }
}

/// The section, or the URL alone.
fn database<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Database, D::Error> {
    struct Visitor;
    impl<'de> de::Visitor<'de> for Visitor {
        type Value = Database;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("`sqlite`, a URL like postgres://user:password@host/database, or a section")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Database, E> {
            let url = DatabaseUrl::deserialize(de::value::StrDeserializer::new(text))?;
            Ok(Database { url, ..Database::default() })
        }

        fn visit_map<A: de::MapAccess<'de>>(self, section: A) -> Result<Database, A::Error> {
            Database::deserialize(de::value::MapAccessDeserializer::new(section))
        }

        fn visit_unit<E: de::Error>(self) -> Result<Database, E> {
            Ok(Database::default())
        }
    }
    deserializer.deserialize_any(Visitor)
}

impl<'de> Deserialize<'de> for DatabaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "sqlite" {
            return Ok(Self::Sqlite);
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return Ok(Self::Postgres(text));
        }
        // The text may hold a password: it is not repeated.
        Err(de::Error::custom(
            "this is not a database: write `sqlite`, or `postgres://user:password@host/database`",
        ))
    }
}

/// Where processes over one database tell each other that something is new.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RedisFile {
    url: Option<RedisUrl>,
}

#[derive(Debug)]
struct RedisUrl(String);

impl<'de> Deserialize<'de> for RedisUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if ["redis://", "rediss://", "redis+unix://"].iter().any(|start| text.starts_with(start)) {
            return Ok(Self(text));
        }
        // The text may hold a password: it is not repeated.
        Err(de::Error::custom(
            "this is not a Redis: write `redis://user:password@host:6379/0`, `rediss://…` for TLS, or \
             `redis+unix:///run/redis.sock`",
        ))
    }
}

/// Listeners for the operator, not for clients.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Admin {
    listen: Option<Address>,
    gateway: Option<Address>,
    hosts: Vec<HostName>,
}

impl Default for Admin {
    fn default() -> Self {
        let port = |port| Some(Address(SocketAddr::from(([127, 0, 0, 1], port))));
        Self { listen: port(8010), gateway: port(8009), hosts: Vec::new() }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LoggingFile {
    level: Level,
    format: Format,
    filter: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TracingFile {
    otlp_endpoint: Option<String>,
    sample_ratio: Ratio,
}

impl Default for TracingFile {
    fn default() -> Self {
        Self { otlp_endpoint: None, sample_ratio: Ratio(1.0) }
    }
}

/// A share, 0 to 1.
#[derive(Debug)]
struct Ratio(f64);

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let share = f64::deserialize(deserializer)?;
        if (0.0..=1.0).contains(&share) {
            return Ok(Self(share));
        }
        Err(de::Error::custom(format!("{share} is not a share: write a number from 0 to 1")))
    }
}

/// An address and port.
#[derive(Debug, Clone, Copy)]
struct Address(SocketAddr);

/// A name of a host, without a port.
#[derive(Debug)]
struct HostName(String);

impl<'de> Deserialize<'de> for HostName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        match !name.is_empty() && name.bytes().all(plain) {
            true => Ok(Self(name)),
            false => Err(de::Error::custom(format!(
                "`{name}` is not a host's name: write it like worker1.internal, without a port"
            ))),
        }
    }
}

/// An address, or a range of them.
#[derive(Debug, Clone, Copy)]
struct Range(IpNet);

/// What a list is of, and how one of them is written.
trait Item: Sized {
    const EXAMPLE: &'static str;

    fn read(text: &str) -> Result<Self, String>;
}

impl Item for Address {
    const EXAMPLE: &'static str = "a list of addresses like [\"127.0.0.1:8008\"]";

    fn read(text: &str) -> Result<Self, String> {
        text.trim().parse().map(Self).map_err(|_| {
            format!(
                "`{text}` is not an address with a port: write it like 127.0.0.1:8008 or [::1]:8008"
            )
        })
    }
}

impl Item for Range {
    const EXAMPLE: &'static str = "a list of addresses and ranges like [\"10.0.0.0/24\"]";

    fn read(text: &str) -> Result<Self, String> {
        let plain = text.trim();
        let single = plain.parse::<IpAddr>().map(IpNet::from);
        single.or_else(|_| plain.parse()).map(Self).map_err(|_| {
            format!("`{text}` is no address and no range: write it like 10.0.0.5 or 10.0.0.0/24")
        })
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Range {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// One, several with commas between them, or a list.
#[derive(Debug)]
struct Listed<T>(Vec<T>);

impl<'de, T: Item + Deserialize<'de>> Deserialize<'de> for Listed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);
        impl<'de, T: Item + Deserialize<'de>> de::Visitor<'de> for Visitor<T> {
            type Value = Listed<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::EXAMPLE)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Listed<T>, E> {
                let read = text.split(',').map(|item| T::read(item).map_err(E::custom));
                read.collect::<Result<_, E>>().map(Listed)
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Listed<T>, A::Error> {
                let mut found = Vec::new();
                while let Some(item) = list.next_element()? {
                    found.push(item);
                }
                Ok(Listed(found))
            }
        }
        deserializer.deserialize_any(Visitor(PhantomData))
    }
}

/// Where the gateway listens: somewhere.
fn listen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    let Listed(addresses) = Listed::<Address>::deserialize(deserializer)?;
    if addresses.is_empty() {
        return Err(de::Error::custom(
            "an empty list: name at least one address, like [\"127.0.0.1:8008\"]",
        ));
    }
    Ok(addresses.into_iter().map(|address| address.0).collect())
}

fn ranges<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let Listed(ranges) = Listed::<Range>::deserialize(deserializer)?;
    Ok(ranges.into_iter().map(|range| range.0).collect())
}

impl File {
    /// Checks what the types do not say; relative paths start at `folder`, the file's own.
    pub(super) fn checked(self, folder: &Path) -> Result<Config, ConfigError> {
        let data_dir = folder.join(self.data_dir);
        let database = match self.database.url {
            DatabaseUrl::Sqlite => Location::Sqlite(data_dir.join("colonnade.db")),
            DatabaseUrl::Postgres(url) => Location::Postgres {
                url,
                direct_url: match self.database.direct_url {
                    Some(DatabaseUrl::Postgres(url)) => Some(url),
                    Some(DatabaseUrl::Sqlite) | None => None,
                },
                connections_max: self.database.connections_max.max(1),
                next_migrations: self.database.next_migrations.map(|path| folder.join(path)),
            },
        };
        let beside = folder.join("routes.yaml");
        let routes = match self.routes {
            Some(named) => Some(existing(folder.join(named))?),
            None => beside.is_file().then_some(beside),
        };
        let version = &self.rooms.default_version;
        if versions::rules(version).is_none() {
            return Err(unknown_version(version));
        }
        if self.sync.gather_ms > services::Sync::GATHER_MS_MAX {
            return Err(too_late(self.sync.gather_ms));
        }
        let services::Requests { bodies_bytes_max, answers_bytes_max } = self.requests;
        let least = services::Requests::BODIES_BYTES_MIN;
        require_bytes("bodies_bytes_max", bodies_bytes_max, least, "one user's largest request")?;
        let least = services::Requests::ANSWERS_BYTES_MIN;
        require_bytes("answers_bytes_max", answers_bytes_max, least, "one user's pages")?;
        let settings = Settings {
            public_base_url: self.public_base_url,
            registration: self.registration,
            sessions: self.sessions,
            user_directory: self.user_directory,
            sync: self.sync,
            support: self.support,
            voip: self.voip,
            rooms: self.rooms,
            media: self.media,
            rate_limits: self.rate_limits,
            limits: self.limits,
            requests: self.requests,
            federation: federation::checked(self.federation, &self.server_name, folder)?,
            outgoing: services::Outgoing { allowed_ranges: self.outgoing.allowed_ranges },
            is_local_trial: false,
        };
        let mut config = Config {
            server_name: self.server_name,
            data_dir,
            listen: self.listen,
            trusted_proxies: self.trusted_proxies,
            routes,
            database,
            redis: self.redis.url.map(|url| url.0),
            admin: self.admin.listen.map(|address| address.0),
            admin_hosts: self.admin.hosts.into_iter().map(|host| host.0).collect(),
            gateway_admin: self.admin.gateway.map(|address| address.0),
            logging: Logging {
                level: self.logging.level,
                format: self.logging.format,
                filter: self.logging.filter,
            },
            tracing: Tracing {
                otlp_endpoint: self.tracing.otlp_endpoint,
                sample_ratio: self.tracing.sample_ratio.0,
            },
            settings,
            readable: None,
        };
        let open = config.settings.registration.open;
        config.settings.registration.open = Some(open.unwrap_or(config.is_local_trial()));
        config.settings.is_local_trial = config.is_local_trial();
        Ok(config)
    }
}

fn unknown_version(version: &RoomVersionId) -> ConfigError {
    let known: Vec<&str> = versions::SUPPORTED.iter().map(|known| known.as_str()).collect();
    ConfigError::Problems(vec![Problem {
        place: "rooms".to_owned(),
        key: Some("rooms.default_version".to_owned()),
        problem: format!("this server does not make rooms of version {version}"),
        mend: Some(format!("it makes {}", known.join(", "))),
    }])
}

fn too_late(gather_ms: u64) -> ConfigError {
    ConfigError::Problems(vec![Problem {
        place: "sync".to_owned(),
        key: Some("sync.gather_ms".to_owned()),
        problem: format!("people would notice if it were told {gather_ms} milliseconds later"),
        mend: Some(format!("name {} or less", services::Sync::GATHER_MS_MAX)),
    }])
}

fn require_bytes(key: &str, bytes: u64, least: u64, what: &str) -> Result<(), ConfigError> {
    if bytes >= least {
        return Ok(());
    }
    Err(ConfigError::Problems(vec![Problem {
        place: "requests".to_owned(),
        key: Some(format!("requests.{key}")),
        problem: format!("{bytes} bytes are too few for {what}"),
        mend: Some(format!("name {least} or more")),
    }]))
}

fn existing(path: std::path::PathBuf) -> Result<std::path::PathBuf, ConfigError> {
    if path.is_file() {
        return Ok(path);
    }
    Err(ConfigError::Problems(vec![Problem {
        place: path.display().to_string(),
        key: Some("routes".to_owned()),
        problem: "there is no such file".to_owned(),
        mend: Some("name an existing routes file, or leave the key out".to_owned()),
    }]))
}
