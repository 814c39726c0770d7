//! How much is read, so that everybody can see what the cost of a count follows.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::physical_plan::ExecutionPlan;
use serde::Serialize;

/// What was read of the lake, and of the index that is derived from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Read {
    /// Bytes of the lake's files.
    pub lake_bytes: u64,
    /// Rows of the lake; one that is read twice counts twice.
    pub lake_rows: u64,
    /// Bytes of the index of first deliveries.
    pub index_bytes: u64,
}

impl AddAssign for Read {
    fn add_assign(&mut self, more: Self) {
        self.lake_bytes += more.lake_bytes;
        self.lake_rows += more.lake_rows;
        self.index_bytes += more.index_bytes;
    }
}

/// Adds up, from any thread.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    lake_bytes: AtomicU64,
    lake_rows: AtomicU64,
    index_bytes: AtomicU64,
}

impl Reading {
    pub(super) fn add_rows(&self, rows: usize) {
        self.lake_rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// Adds bytes of the lake's files.
    pub(crate) fn add_bytes(&self, bytes: u64) {
        self.lake_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn add_index_bytes(&self, bytes: u64) {
        self.index_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What was read so far.
    pub(crate) fn so_far(&self) -> Read {
        let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Read { lake_bytes: of(&self.lake_bytes), lake_rows: of(&self.lake_rows), index_bytes: of(&self.index_bytes) }
    }
}

/// What the leaves of a plan, when it has run, say that they have read of files.
pub(super) fn scanned_bytes(plan: &dyn ExecutionPlan) -> u64 {
    let children = plan.children();
    if children.is_empty() {
        let scanned = plan.metrics().and_then(|metrics| metrics.sum_by_name("bytes_scanned"));
        return scanned.map_or(0, |bytes| bytes.as_usize() as u64);
    }
    children.into_iter().map(|child| scanned_bytes(child.as_ref())).sum()
}
