//! What was published under a manifest, for those who check it.

use std::collections::BTreeMap;

use clickhouse::Row;
use jiff::civil::Date;
use reckon_schemas::ids::TenantId;
use reckon_schemas::time::day_of_number;
use serde::Deserialize;

use super::{Store, StoreError};

const OF_RUN: &str = "
    SELECT day, argMin(content_hash, settled_at) AS hash, argMin(manifest, settled_at) AS anchor
    FROM settlements WHERE tenant = {tenant:String} AND run_id = {run:String} GROUP BY day";

// Rows from before there were manifests name none.
const ANCHORED: &str = "
    SELECT day, run_id, content_hash, manifest FROM settlements FINAL
    WHERE tenant = {tenant:String} AND manifest != '' ORDER BY settled_at, day";

#[derive(Row, Deserialize)]
struct HashRow {
    day: i32,
    hash: String,
    anchor: String,
}

#[derive(Row, Deserialize)]
struct AnchoredRow {
    day: i32,
    run_id: String,
    content_hash: String,
    manifest: String,
}

/// A settled day and the manifest that its row names.
pub(crate) struct AnchoredDay {
    pub(crate) day: Date,
    pub(crate) run_id: String,
    pub(crate) content_hash: String,
    pub(crate) manifest: String,
}

impl Store {
    /// The fingerprint of every day of a run, as it was first written, and the hash of the run's manifest.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn hashes_of_run(
        &self,
        tenant: &TenantId,
        run_id: &str,
    ) -> Result<BTreeMap<Date, (String, String)>, StoreError> {
        let mut days = BTreeMap::new();
        let query = self.query(OF_RUN).param("tenant", tenant.as_str()).param("run", run_id);
        self.read("read the fingerprints of a run", query, |row: HashRow| {
            days.insert(day_of_number(row.day), (row.hash, row.anchor));
            Ok(())
        })
        .await?;
        Ok(days)
    }

    /// Every row of settlements that names a manifest, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn anchored_days(&self, tenant: &TenantId) -> Result<Vec<AnchoredDay>, StoreError> {
        let mut days = Vec::new();
        let query = self.query(ANCHORED).param("tenant", tenant.as_str());
        self.read("read what names a manifest", query, |row: AnchoredRow| {
            let (day, manifest) = (day_of_number(row.day), row.manifest);
            days.push(AnchoredDay { day, run_id: row.run_id, content_hash: row.content_hash, manifest });
            Ok(())
        })
        .await?;
        Ok(days)
    }
}
