//! Transactions as they come in and go out: seen before or not, split into events and ephemeral messages, in
//! order for each room. It may import `keys` and `transport`.
