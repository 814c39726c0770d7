//! The truth: archive the log into the lake, recount it exactly, reconcile, settle

pub mod archive;
pub mod conservation;
pub mod explain;
pub mod lake;
mod named;
pub mod nightly;
pub mod reconcile;
pub mod recount;
pub mod settle;
pub mod tie_out;
