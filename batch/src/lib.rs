//! The truth: archive the log into the lake, recount it exactly, reconcile, settle

pub mod archive;
pub mod backfill;
pub mod close;
pub mod cluster;
pub mod conservation;
mod count;
mod error;
pub mod explain;
pub mod forecast;
pub mod gate;
pub mod lake;
mod lock;
pub mod manifest;
pub mod nightly;
mod objects;
pub mod reconcile;
pub mod reconciliation;
pub mod recount;
pub mod rejects;
pub mod retention;
pub mod settle;
pub mod tie_out;
pub mod verify;

pub use self::error::Error;
