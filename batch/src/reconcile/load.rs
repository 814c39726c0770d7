//! A finished reconciliation, read back from what is stored.

use reckon_schemas::ids::TenantId;
use reckon_schemas::settlement::last_settled_day;
use reckon_schemas::stores;

use super::{Report, RunFacts, Summary};
use crate::nightly::Error;
use crate::settle::{Store, StoreError};

/// The report of a run, the tenant's newest one if none is named: the same that the run itself gave, but for the
/// horizon, which is where it is now. `None` if the tenant has no such run.
///
/// # Errors
/// [`Error::Retryable`] if ClickHouse is away, [`Error::Broken`] if what it holds cannot be read.
pub async fn load(
    clickhouse: &stores::ClickHouse,
    tenant: &TenantId,
    run_id: Option<&str>,
) -> Result<Option<Report>, Error> {
    let store = Store::new(clickhouse);
    let run_id = match run_id {
        Some(run_id) => Some(run_id.to_owned()),
        None => store.newest_run(tenant).await?,
    };
    let Some(run_id) = run_id else { return Ok(None) };
    let days = store.days_of_run(tenant, &run_id).await?;
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
        users_exact: store.users_of_run(tenant, &run_id).await?,
        days: days.iter().map(|(date, day)| (*date, (day.deliveries, day.events))).collect(),
    };
    let mut summary = Summary::default();
    let add = |cell: &_, drift: &_| {
        summary.add(cell, drift).map_err(|error| StoreError::Incompatible(format!("drift of {run_id}: {error}")))
    };
    store.drift_of_run(tenant, &run_id, add).await?;
    Ok(summary.finish(facts))
}
