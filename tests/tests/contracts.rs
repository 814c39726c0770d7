//! Contracts: what one layer writes, another reads, on real servers.

#[path = "contracts/sketch.rs"]
mod sketch;
