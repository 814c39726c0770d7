//! The truth: archive the log into the lake, recount it exactly, reconcile, settle

pub mod archive;
pub mod lake;
pub mod nightly;
pub mod reconcile;
pub mod recount;
pub mod settle;
