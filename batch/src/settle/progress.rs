//! How far the speed layer has read: now, and when a run compared with it.

use std::collections::BTreeMap;

use reckon_schemas::ids::TenantId;

use super::rows::{CutRow, ProgressRow, offset};
use super::store::unavailable;
use super::{Store, StoreError};

const WRITING_CUT: &str = "write how far the speed layer was";

impl Store {
    /// Writes how far the speed layer had read when a run compared with it. Before the run becomes visible.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn write_cut(
        &self,
        tenant: &TenantId,
        run_id: &str,
        topic: &str,
        next_offsets: &BTreeMap<i32, i64>,
    ) -> Result<(), StoreError> {
        if next_offsets.is_empty() {
            return Ok(());
        }
        let failed = |error| unavailable(WRITING_CUT, &error);
        let mut insert = self.insert::<CutRow<'_>>(WRITING_CUT, "settlement_cuts").await?;
        for (partition, next_offset) in next_offsets {
            let next_offset = u64::try_from(*next_offset).unwrap_or(0);
            let row = CutRow { tenant: tenant.as_str(), run_id, topic, partition: *partition, next_offset };
            insert.write(&row).await.map_err(failed)?;
        }
        insert.end().await.map_err(failed)
    }

    /// How far the speed layer had read when a run compared with it; empty for a run of an older build.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn cut_of_run(
        &self,
        tenant: &TenantId,
        run_id: &str,
        topic: &str,
    ) -> Result<BTreeMap<i32, i64>, StoreError> {
        let query = self
            .query(
                "SELECT partition, next_offset FROM settlement_cuts FINAL \
                 WHERE tenant = {tenant:String} AND run_id = {run_id:String} AND topic = {topic:String}",
            )
            .param("tenant", tenant.as_str())
            .param("run_id", run_id)
            .param("topic", topic);
        let mut cut = BTreeMap::new();
        self.read("read how far the speed layer was", query, |row: ProgressRow| {
            cut.insert(row.partition, offset(row.next_offset)?);
            Ok(())
        })
        .await?;
        Ok(cut)
    }

    /// How far the speed layer is in its tables now: the first offset of every partition that it has not counted.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn speed_progress(&self, topic: &str) -> Result<BTreeMap<i32, i64>, StoreError> {
        let query = self
            .query("SELECT partition, next_offset FROM speed_progress FINAL WHERE topic = {topic:String}")
            .param("topic", topic);
        let mut progress = BTreeMap::new();
        self.read("read the speed layer's progress", query, |row: ProgressRow| {
            progress.insert(row.partition, offset(row.next_offset)?);
            Ok(())
        })
        .await?;
        Ok(progress)
    }
}
