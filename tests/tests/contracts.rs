//! Contracts: what one layer writes, another reads, on real servers.

#[path = "contracts/collect.rs"]
mod collect;
#[path = "contracts/sketch.rs"]
mod sketch;
#[path = "contracts/serving/mod.rs"]
mod serving;
