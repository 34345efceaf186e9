//! Names of the DNS: addresses and SRV records, as the system resolves them, its hosts file included. What is
//! looked up is kept as long as the records say.

use std::net::IpAddr;

use futures_util::future::BoxFuture;
use hickory_resolver::{TokioResolver, proto::rr::RData};

/// Addresses of one name that are tried at most.
pub(super) const ADDRESSES_MAX: usize = 8;
/// SRV records of one name that are looked at: a service has a handful.
const RECORDS_MAX: usize = 16;

/// One record of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Srv {
    /// Lower ones first.
    pub priority: u16,
    /// How much of the load, among those of one priority.
    pub weight: u16,
    /// The host.
    pub target: String,
    /// The port.
    pub port: u16,
}

/// Looks names up; another in tests.
pub(super) trait Names: Send + Sync {
    /// Returns the addresses of a host; none when it has none.
    ///
    /// # Errors
    /// Why it cannot be told.
    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, String>>;

    /// Returns the records of a service; none when there is no such service.
    ///
    /// # Errors
    /// Why it cannot be told.
    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Srv>, String>>;
}

/// The system's way.
pub(super) struct System(Result<TokioResolver, String>);

impl System {
    /// Reads how the system resolves names.
    pub(super) fn new() -> Self {
        let made = TokioResolver::builder_tokio().and_then(|builder| builder.build());
        if let Err(error) = &made {
            tracing::warn!(%error, "no name of another server can be resolved");
        }
        Self(made.map_err(|error| format!("no names are resolved here: {error}")))
    }
}

/// Makes a name one of the root, so that no domain of ours is added to it.
fn absolute(name: &str) -> String {
    // A name without dots may be of the operator's own network.
    if name.ends_with('.') || !name.contains('.') { name.to_owned() } else { format!("{name}.") }
}

impl Names for System {
    fn addresses<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, String>> {
        Box::pin(async move {
            match self.0.as_ref()?.lookup_ip(absolute(host)).await {
                Ok(found) => Ok(found.iter().take(ADDRESSES_MAX).collect()),
                Err(error) if error.is_no_records_found() => Ok(Vec::new()),
                Err(error) => Err(error.to_string()),
            }
        })
    }

    fn services<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<Srv>, String>> {
        Box::pin(async move {
            let found = match self.0.as_ref()?.srv_lookup(absolute(name)).await {
                Ok(found) => found,
                Err(error) if error.is_no_records_found() => return Ok(Vec::new()),
                Err(error) => return Err(error.to_string()),
            };
            let records = found.answers().iter().filter_map(|record| match &record.data {
                RData::SRV(srv) => Some(Srv {
                    priority: srv.priority,
                    weight: srv.weight,
                    target: srv.target.to_string().trim_end_matches('.').to_owned(),
                    port: srv.port,
                }),
                _ => None,
            });
            Ok(records.take(RECORDS_MAX).collect())
        })
    }
}

/// Puts the records of a service into the order in which they are tried: by priority, and among equals those
/// first that shall carry more. Those that say there is no such service (a target of `.`) go.
pub fn in_order(mut records: Vec<Srv>) -> Vec<Srv> {
    records.retain(|record| !record.target.is_empty() && record.port != 0);
    records.sort_by_key(|record| (record.priority, std::cmp::Reverse(record.weight)));
    records
}
