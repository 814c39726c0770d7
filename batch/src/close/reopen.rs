//! Opening a closed period again: explicit, the latest first, on record.

use jiff::Timestamp;
use reckon_schemas::ids::TenantId;
use reckon_schemas::period::Period;
use reckon_schemas::settlement::State;
use serde::Serialize;
use std::collections::BTreeMap;
use uuid::Uuid;

use super::{Config, Error};
use crate::lock::Lock;
use crate::manifest::{self, Action, Reopened};
use crate::objects::Objects;
use crate::settle::{PeriodDay, PeriodEntry, Store, after_all};

/// A reopening that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reopening {
    /// Whose period.
    pub tenant: TenantId,
    /// Which.
    pub period: Period,
    /// Who did it.
    pub signed_by: String,
    /// Why.
    pub reason: String,
    /// When.
    pub reopened_at: Timestamp,
    /// How many days are open again.
    pub days: u64,
    /// The SHA-256 of the manifest.
    pub manifest: String,
}

/// Opens a closed period again. Its days have the states that they had before; its adjustments are no longer in force,
/// because the next nightly counts those events on their own days.
///
/// # Errors
/// [`Error::NotReopenable`] if it is not closed or a later one is, [`Error::Failed`] if a server was away or the request
/// names what is not there.
pub async fn reopen(
    config: &Config,
    tenant: &TenantId,
    period: Period,
    signed_by: &str,
    reason: &str,
    now: Timestamp,
) -> Result<Reopening, Error> {
    config.catalog.require(tenant)?;
    if signed_by.trim().is_empty() || reason.trim().is_empty() {
        return Err(crate::Error::Config("a reopening needs a name and a reason".to_owned()).into());
    }
    let objects = Objects::open(&config.lake)?;
    let work = reopen_locked(config, &objects, tenant, period, (signed_by, reason), now);
    Lock::hold(&objects, tenant, &config.owner, config.lock_expiry, work).await
}

async fn reopen_locked(
    config: &Config,
    objects: &Objects,
    tenant: &TenantId,
    period: Period,
    (signed_by, reason): (&str, &str),
    now: Timestamp,
) -> Result<Reopening, Error> {
    let store = Store::new(&config.clickhouse);
    let closed = store.closed_periods(tenant).await?;
    let Some(closing) = closed.iter().find(|closed| closed.period == period) else {
        return Err(Error::NotReopenable(format!("{period} of tenant {tenant} is not closed")));
    };
    if let Some(later) = closed.iter().rev().find(|closed| closed.period > period) {
        return Err(Error::NotReopenable(format!(
            "{} of tenant {tenant} is closed, and adjustments of {period} may be posted in it: the latest is opened first",
            later.period
        )));
    }
    let former = store.former_states(tenant, period, closing.generation).await?;
    let days = store.settled_between(tenant, period.first_day(), period.last_day()).await?;
    // Later than the days of the period, and no others: a reopening writes only those, and is no run that could have to be
    // the newest of all.
    let at = after_all(now, days.iter().map(|day| day.settled_at));
    let generation = closing.generation + 1;
    let opened: Vec<PeriodDay> = days
        .into_iter()
        .map(|day| PeriodDay {
            state: former.get(&day.day).copied().unwrap_or(State::Settled),
            generation,
            settled_at: at,
            ..day
        })
        .collect();
    let action =
        Action::Reopened(Reopened { period, generation, signed_by: signed_by.to_owned(), reason: reason.to_owned() });
    let manifest = manifest::append(objects, tenant, Uuid::now_v7(), at.to_timestamp(), action).await?;
    let entry = PeriodEntry {
        tenant,
        period,
        generation,
        action: "reopened",
        at,
        signed_by,
        reason,
        lake_version: 0,
        next_offsets: &BTreeMap::new(),
        deliveries: 0,
        content_hash: &closing.content_hash,
        manifest: &manifest,
    };
    store.write_period(&entry).await?;
    store.write_period_days(tenant, &opened, &manifest).await?;
    Ok(Reopening {
        tenant: tenant.clone(),
        period,
        signed_by: signed_by.to_owned(),
        reason: reason.to_owned(),
        reopened_at: at.to_timestamp(),
        days: opened.len() as u64,
        manifest,
    })
}
