//! The front door of a Matrix deployment: one proxy, one table, sticky columns of workers.
//!
//! [`config`] reads `routes.yaml`. [`routing`] reads what is asked for, finds the rule that takes it and the key
//! by which it sticks. [`upstream`] holds the workers: pools, the hash ring, health, the slot map, idle
//! connections. [`pipeline`] decides what becomes of a request, by [`pipeline::active_config`], which is all of that in
//! force. [`proxy`] carries it to a worker and the answer back, over HTTP/1 and HTTP/2. [`listen`] accepts
//! connections for it, and for the admin listener ([`admin`]), whose requests come through Pingora. [`run`]
//! starts and stops.
//!
//! The crate imports nothing of core: their contract is the list of endpoints, docs/routes.txt, and what
//! targets mean, docs/targets.tsv.

pub mod config;

pub mod pipeline;

pub mod listen;
pub mod metrics;
pub mod spans;

mod admin;
mod import;
pub mod proxy;
pub mod routing;
mod run;
pub mod upstream;

pub use admin::Checked;
pub use admin::check::{Problem, check, parse_endpoints};
pub use admin::explain::{Explanation, explain, rule_lines};
pub use admin::reload::{ReloadReport, Source, compare};
pub use admin::remote::{admin_address, ask_admin, explain_target};
pub use config::BUNDLED_ROUTES;
pub use import::{Imported, Note, SyntaxError, import_nginx};
pub use run::{RunOptions, Running, StartError, THREADS_DEFAULT, run};
