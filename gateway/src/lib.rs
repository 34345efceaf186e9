//! The front door of a Matrix deployment: one proxy, one table, sticky columns of workers.
//!
//! [`config`] reads `routes.yaml` into [`routes`]; [`table`] compiles them; [`request_target`] reads what is
//! asked for; [`sticky`] finds a request's key; [`slots`], [`ring`], [`pools`] and [`health`] choose the worker;
//! [`live`] is all of that in force, and [`reload`] replaces it. None of these know sockets or Pingora.
//! [`front`] asks them what becomes of a request; [`lean`] carries it there and back; `listener` accepts
//! connections for it, and for the admin listener, whose requests come through Pingora on a [`connection`].
//! [`run`] starts and stops. [`explain`] and [`check`] answer a person's questions from the same parts.
//!
//! The crate imports nothing of core: their contract is the list of endpoints, docs/routes.txt, and what
//! targets mean, docs/targets.tsv.

pub mod config;
pub mod routes;
pub mod table;

pub mod front;
pub mod head;
pub mod health;
pub mod pools;
pub mod request_target;
pub mod ring;
pub mod slots;
pub mod sticky;

pub mod live;
pub mod reload;

pub mod access_log;
pub mod buckets;
pub mod connection;
pub mod folder;
pub mod forwarded;
mod gathered;
mod listener;
pub mod metrics;
pub mod proxy_protocol;
pub mod reply;
pub mod spans;
pub mod tls;
pub mod transport;
pub mod whoami;

mod admin;
mod authority;
mod check;
mod checker;
mod explain;
mod follow;
mod handover;
mod import;
pub mod lean;
mod question;
mod remote;
mod run;

pub use admin::Checked;
pub use check::{Problem, check, parse_endpoints};
pub use config::BUNDLED_ROUTES;
pub use explain::{Explanation, explain, rule_lines};
pub use import::{Imported, Note, SyntaxError, import_nginx};
pub use reload::{ReloadReport, Source, compare};
pub use remote::{admin_address, ask_admin, explain_target};
pub use run::{RunOptions, Running, StartError, THREADS_DEFAULT, run};
