//! The catalog changes while the worker runs.

use std::sync::Arc;

use super::Driver;
use crate::worker::Error;
use crate::worker::windows::Plan;

impl Driver {
    /// Counts by the newest catalog from the next record on.
    pub(super) fn follow_catalog(&mut self) -> Result<(), Error> {
        // A sender that is gone only means that there will be no more changes.
        if !self.catalog.has_changed().unwrap_or(false) {
            return Ok(());
        }
        let catalog = self.catalog.borrow_and_update().clone();
        self.lanes.change_plan(&Arc::new(Plan::new(&catalog, self.tuning.rules())))?;
        tracing::info!(tenants = catalog.tenants.len(), "the catalog changed; counting by the new one");
        Ok(())
    }
}
