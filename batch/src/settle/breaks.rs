//! Breaks of ledgers: what is open, and what was.

use std::collections::HashSet;

use clickhouse::Row;
use jiff::civil::Date;
use reckon_schemas::ids::TenantId;
use reckon_schemas::time::{EventTime, day_number, day_of_number};
use serde::{Deserialize, Serialize};

use super::store::unavailable;
use super::{Store, StoreError};

const READING: &str = "read the open breaks";
const WRITING: &str = "write breaks";

/// One break: a reference that the two sides do not agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BreakRow {
    /// The reference.
    pub(crate) reference: String,
    /// The currency's code.
    pub(crate) currency: String,
    /// What is wrong.
    pub(crate) kind: String,
    /// The day that it belongs to.
    pub(crate) day: Date,
    /// The events' sum in minor units.
    pub(crate) ours: Option<i128>,
    /// The ledger's sum in minor units.
    pub(crate) theirs: Option<i128>,
}

/// What a tie-out found out about some days.
pub(crate) struct Found<'a> {
    /// Whose.
    pub(crate) tenant: &'a TenantId,
    /// The ledger.
    pub(crate) ledger: &'a str,
    /// The run.
    pub(crate) run_id: &'a str,
    /// The first and the last day.
    pub(crate) days: (Date, Date),
    /// What does not match.
    pub(crate) open: &'a [BreakRow],
    /// The references and currencies that match now, on whatever day.
    pub(crate) matched: HashSet<(&'a str, &'a str)>,
}

#[derive(Row, Deserialize)]
struct OpenRow {
    reference: String,
    currency: String,
    kind: String,
    day: i32,
    ours: Option<i128>,
    theirs: Option<i128>,
    recorded_at: i64,
}

#[derive(Row, Serialize)]
struct StoredRow<'a> {
    tenant: &'a str,
    ledger: &'a str,
    reference: &'a str,
    currency: &'a str,
    kind: &'a str,
    day: i32,
    ours: Option<i128>,
    theirs: Option<i128>,
    state: &'a str,
    run_id: &'a str,
    recorded_at: i64,
}

impl Store {
    /// Records the breaks that a run found on some days as open, and those that were open there and were not found again
    /// as resolved, in one insert; returns how many were resolved. Repeating it changes nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn record_breaks(&self, run: &Found<'_>, now: jiff::Timestamp) -> Result<u64, StoreError> {
        let Found { tenant, ledger, run_id, days, open, matched } = run;
        let (from, to) = *days;
        let (before, latest) = self.open_breaks(tenant, ledger).await?;
        let found: HashSet<(&str, &str)> =
            open.iter().map(|row| (row.reference.as_str(), row.currency.as_str())).collect();
        let is_over = |row: &&BreakRow| {
            let key = (row.reference.as_str(), row.currency.as_str());
            matched.contains(&key) || ((from..=to).contains(&row.day) && !found.contains(&key))
        };
        let resolved: Vec<&BreakRow> = before.iter().filter(is_over).collect();
        let rows = open.iter().map(|row| (row, "open")).chain(resolved.iter().map(|row| (*row, "resolved")));
        // Of two records of a break the later one counts, also where a clock went back in between.
        let recorded_at = EventTime::from_timestamp(now).0.max(latest.saturating_add(1));
        if open.is_empty() && resolved.is_empty() {
            return Ok(0);
        }
        let failed = |error| unavailable(WRITING, &error);
        let mut insert = self.insert::<StoredRow<'_>>(WRITING, "ledger_breaks_stored").await?;
        for (row, state) in rows {
            let stored = StoredRow {
                tenant: tenant.as_str(),
                ledger,
                reference: &row.reference,
                currency: &row.currency,
                kind: &row.kind,
                day: day_number(row.day),
                ours: row.ours,
                theirs: row.theirs,
                state,
                run_id,
                recorded_at,
            };
            insert.write(&stored).await.map_err(failed)?;
        }
        insert.end().await.map_err(failed)?;
        Ok(resolved.len() as u64)
    }

    /// The open breaks of a ledger, and when the newest of them was recorded.
    async fn open_breaks(&self, tenant: &TenantId, ledger: &str) -> Result<(Vec<BreakRow>, i64), StoreError> {
        let query = self
            .query(
                "SELECT reference, currency, kind, day, ours, theirs, \
                 toUnixTimestamp64Micro(recorded_at) AS recorded_at FROM ledger_breaks \
                 WHERE tenant = {tenant:String} AND ledger = {ledger:String} AND state = 'open'",
            )
            .param("tenant", tenant.as_str())
            .param("ledger", ledger);
        let (mut breaks, mut latest) = (Vec::new(), 0);
        self.read(READING, query, |row: OpenRow| {
            latest = row.recorded_at.max(latest);
            breaks.push(BreakRow {
                reference: row.reference,
                currency: row.currency,
                kind: row.kind,
                day: day_of_number(row.day),
                ours: row.ours,
                theirs: row.theirs,
            });
            Ok(())
        })
        .await?;
        Ok((breaks, latest))
    }
}
