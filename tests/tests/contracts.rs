//! Contracts: what one layer writes, another reads, on real servers.

#[path = "contracts/accounts/mod.rs"]
mod accounts;
#[path = "contracts/alerts/mod.rs"]
mod alerts;
#[path = "contracts/backfill.rs"]
mod backfill;
#[path = "contracts/close.rs"]
mod close;
#[path = "contracts/collect.rs"]
mod collect;
#[path = "contracts/conservation.rs"]
mod conservation;
#[path = "contracts/deep/mod.rs"]
mod deep;
#[path = "contracts/drill_down.rs"]
mod drill_down;
#[path = "contracts/expire.rs"]
mod expire;
#[path = "contracts/incremental.rs"]
mod incremental;
#[path = "contracts/later_catalog.rs"]
mod later_catalog;
#[path = "contracts/libraries.rs"]
mod libraries;
#[path = "contracts/lineage.rs"]
mod lineage;
#[path = "contracts/openapi.rs"]
mod openapi;
#[path = "contracts/raw.rs"]
mod raw;
#[path = "contracts/rejected.rs"]
mod rejected;
#[path = "contracts/retention.rs"]
mod retention;
#[path = "contracts/serving/mod.rs"]
mod serving;
#[path = "contracts/sketch.rs"]
mod sketch;
#[path = "contracts/tie_out.rs"]
mod tie_out;
#[path = "contracts/tops.rs"]
mod tops;
