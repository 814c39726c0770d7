//! A finished reconciliation, read back from what is stored.

use jiff::civil::Date;
use reckon_schemas::ids::TenantId;
use reckon_schemas::settlement::last_settled_day;
use reckon_schemas::stores;

use crate::Error;
use crate::reconcile::{CellName, Drift, Report, RunFacts, Summary};
use crate::settle::{Store, StoreError};

/// Which reconciliation.
#[derive(Clone, Debug, Default)]
pub struct Which {
    /// The run; the newest one if absent, that of the day if a day is given.
    pub run_id: Option<String>,
    /// Only this calendar day of it.
    pub day: Option<Date>,
}

/// The report of a run, or of one of its days: the same that the run itself gave, but for the horizon, which is where it
/// is now. `receive` is given every cell, in no order. `None` if the tenant has no such run or day.
///
/// # Errors
/// [`Error::Retryable`] if ClickHouse is away, [`Error::Broken`] if what it holds cannot be read.
pub async fn load(
    clickhouse: &stores::ClickHouse,
    tenant: &TenantId,
    which: &Which,
    mut receive: impl FnMut(&CellName, &Drift),
) -> Result<Option<Report>, Error> {
    let store = Store::new(clickhouse);
    let run_id = match (&which.run_id, which.day) {
        (Some(run_id), _) => Some(run_id.clone()),
        (None, Some(day)) => store.run_of_day(tenant, day).await?,
        (None, None) => store.newest_run(tenant).await?,
    };
    let Some(run_id) = run_id else { return Ok(None) };
    let is_asked = |day: Date| which.day.is_none_or(|asked| asked == day);
    let mut days = store.days_of_run(tenant, &run_id).await?;
    days.retain(|day, _| is_asked(*day));
    let Some(day) = days.values().next() else { return Ok(None) };
    let settled = store.settled_days(tenant).await?;
    let last = last_settled_day(settled.keys().copied());
    let facts = RunFacts {
        tenant: tenant.clone(),
        run_id: run_id.parse().map_err(|_| Error::Broken(format!("{run_id:?} is not the id of a run")))?,
        lake_version: day.lake_version,
        settled_at: day.settled_at,
        horizon: last.and_then(|last| settled.get(&last)).map(|previous| previous.window_end),
        conflicts: store.conflicts_of_run(tenant, &run_id).await?,
        users_exact: store.users_of_run(tenant, &run_id, which.day).await?,
        days: days.iter().map(|(date, day)| (*date, (day.deliveries, day.events))).collect(),
    };
    let mut summary = Summary::default();
    let add = |cell: &CellName, drift: &Drift| {
        if is_asked(cell.day) {
            receive(cell, drift);
            let added = summary.add(cell, drift);
            added.map_err(|error| StoreError::Incompatible(format!("drift of {run_id}: {error}")))?;
        }
        Ok(())
    };
    store.drift_of_run(tenant, &run_id, add).await?;
    Ok(summary.finish(facts))
}
