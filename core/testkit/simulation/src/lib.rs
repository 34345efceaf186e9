//! A cluster in one thread, by a seed: the production services of several processes over one database
//! and one bus, with faults, clients, and what must hold whatever happens (docs/TESTING.md,
//! "Simulation"). The same seed gives the same history.
//!
//! What is simulated is the world around the processes: when their statements happen and whether
//! they are answered (`disk.rs`), what reaches whom (`net.rs`), and whose time moves (`process.rs`).

mod checks;
mod clients;
mod dice;
mod disk;
mod faults;
mod history;
mod instantly;
mod net;
mod observer;
mod process;
mod template;
mod time;
mod world;

pub use dice::Dice;
pub use history::History;
pub use template::Template;
pub use world::{Flaw, Outcome, Plan, run};
