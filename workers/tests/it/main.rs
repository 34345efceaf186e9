//! The built command as real processes: how it starts, what it says about mistakes, how it stops, and
//! that nothing acknowledged is lost when it is killed.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod admin;
mod answers;
mod apart;
mod authority;
mod bodies;
mod cluster;
mod commands;
mod configuration;
mod crash;
mod db;
mod discovered;
mod disk;
mod federation;
mod fleet;
mod floods;
mod leaving;
mod life;
mod metrics;
mod mistakes;
mod pooler;
mod postgres;
mod process;
mod push;
mod roles;
mod rolling;
mod scaling;
mod secured;
mod stale;
mod storm;
mod targets;
mod upgrade;
mod uploads;
