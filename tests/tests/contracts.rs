//! Contracts: what one layer writes, another reads, on real servers.

#[path = "contracts/close.rs"]
mod close;
#[path = "contracts/collect.rs"]
mod collect;
#[path = "contracts/lineage.rs"]
mod lineage;
#[path = "contracts/raw.rs"]
mod raw;
#[path = "contracts/retention.rs"]
mod retention;
#[path = "contracts/serving/mod.rs"]
mod serving;
#[path = "contracts/sketch.rs"]
mod sketch;
