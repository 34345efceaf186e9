//! The colonnade command.
fn main() {}
