//! The catalog changes while the worker runs.

use std::sync::Arc;
use std::time::Duration;

use super::Driver;
use crate::worker::Error;
use crate::worker::windows::Plan;

impl Driver {
    /// Counts by the newest catalog from the next record on. Windows that are open stay: cells of rollups that are not
    /// counted any more are kept until they expire.
    ///
    /// A replay that begins below this point counts by the newer catalog, so the states are captured at once, to keep
    /// such a replay short.
    pub(super) fn follow_catalog(&mut self) -> Result<(), Error> {
        // A sender that is gone only means that there will be no more changes.
        if !self.catalog.has_changed().unwrap_or(false) {
            return Ok(());
        }
        let catalog = self.catalog.borrow_and_update().clone();
        for (partition, owned) in &mut self.owned {
            owned.state.fold(&self.plan).map_err(|_| Error::SumOverflow {
                topic: self.topic.clone(),
                partition: *partition,
                offset: owned.state.next_offset(),
            })?;
            owned.state.plan_changed();
            owned.capture(Duration::ZERO);
        }
        self.plan = Arc::new(Plan::new(&catalog, self.tuning.rules()));
        tracing::info!(tenants = catalog.tenants.len(), "the catalog changed; counting by the new one");
        Ok(())
    }
}
