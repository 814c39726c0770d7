//! Taking old dates out of the lake.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::prelude::{ident, lit};
use datafusion::scalar::ScalarValue;
use deltalake::DeltaTable;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake::kernel::{Action, Transaction};
use deltalake::protocol::DeltaOperation;
use futures::TryStreamExt;
use jiff::Timestamp;
use jiff::civil::Date;
use reckon_schemas::catalog::{Catalog, Tenant};
use reckon_schemas::lake::{EVENTS_TABLE, EXPIRED_ID, REJECTED_TABLE};
use reckon_schemas::settlement::State;
use reckon_schemas::stores;
use reckon_schemas::time::{EventTime, Zone};
use serde::Serialize;

use super::held::number_of;
use super::record::{self, Record};
use super::{Held, files};
use crate::Error;
use crate::conservation;
use crate::lake::{Lake, LakeError, version};
use crate::objects::Objects;
use crate::recount::PinnedLake;
use crate::settle::Store;

/// How often a commit is tried again after another writer was faster.
const ATTEMPTS: u32 = 10;
/// What others append meanwhile is no conflict: nothing of it is removed.
const COMMIT_RETRIES: usize = 15;
const PAUSE: Duration = Duration::from_millis(200);

/// What an expiry works on.
#[derive(Clone, Debug)]
pub struct Config {
    /// The store of settlements.
    pub clickhouse: stores::ClickHouse,
    /// The lake.
    pub lake: stores::Lake,
    /// The tenants.
    pub catalog: Arc<Catalog>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// How many days stay, by the date of universal time on which something happened, today not counted.
    pub keep_days: u32,
    /// Now.
    pub now: Timestamp,
    /// Whether it is only told what would be done.
    pub dry_run: bool,
}

/// What left a table, or would.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Expired {
    /// The table.
    pub table: &'static str,
    /// Its version now.
    pub version: u64,
    /// The first date that is still there.
    pub before: Date,
    /// How many files.
    pub files: usize,
    /// How many records.
    pub records: u64,
}

/// Takes what is older out of both tables.
///
/// # Errors
/// [`Error::NotYetFinal`] if a day that would expire is not settled as the lake holds it, [`Error::Retryable`] if a server
/// was away or other writers were faster again and again. The other table may be done then.
pub async fn expire(config: &Config, request: Request) -> Result<Vec<Expired>, Error> {
    let today = Zone::UTC.day_of(EventTime::from_timestamp(request.now));
    let keep = jiff::Span::new().try_days(request.keep_days).ok().and_then(|days| today.checked_sub(days).ok());
    let before = keep.ok_or_else(|| Error::Config(format!("{} days cannot be kept", request.keep_days)))?;
    let (lake, objects) = (Lake::open(&config.lake).await?, Objects::open(&config.lake)?);
    let store = Store::new(&config.clickhouse);
    let mut expired = Vec::new();
    for name in [EVENTS_TABLE, REJECTED_TABLE] {
        let mut attempt = 1;
        let one = loop {
            let table = if name == EVENTS_TABLE { lake.events().await? } else { lake.rejected().await? };
            // What is gone stays gone, if more is to be kept from now on.
            let since = Held::of(&table).await?.since.map_or(before, |since| since.max(before));
            if name == EVENTS_TABLE {
                check_settled(&table, &store, &config.catalog, since).await?;
            }
            match expire_table(name, &table, &objects, since, request).await {
                Err(Error::Retryable(reason)) if attempt < ATTEMPTS => {
                    tracing::debug!(attempt, table = name, "{reason}");
                    attempt += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                ended => break ended?,
            }
        };
        expired.push(one);
    }
    Ok(expired)
}

pub(super) async fn expire_table(
    name: &'static str,
    table: &DeltaTable,
    objects: &Objects,
    before: Date,
    request: Request,
) -> Result<Expired, Error> {
    let failed = |error| LakeError::of(name, error);
    let mut views = table.get_active_add_actions_by_partitions(&[]);
    let mut removed = Vec::new();
    while let Some(view) = views.try_next().await.map_err(failed)? {
        if files::date_of(view.object_store_path().as_ref()).is_some_and(|date| date < before) {
            removed.push(Action::Remove(view.remove_action(true)));
        }
    }
    drop(views);
    let date = ScalarValue::Date32(i32::try_from(number_of(before)).ok());
    let leaving = ident("event_date").lt(lit(date));
    let offsets =
        if removed.is_empty() { BTreeMap::new() } else { conservation::archived(table, Some(leaving)).await? };
    let records = offsets.values().flat_map(conservation::Offsets::ranges).map(conservation::Range::len).sum();
    let mut expired = Expired { table: name, version: version(table), before, files: removed.len(), records };
    if removed.is_empty() || request.dry_run {
        return Ok(expired);
    }
    let ranges = |offsets: &conservation::Offsets| offsets.ranges().map(|range| (range.from, range.to)).collect();
    let offsets = offsets.iter().map(|(partition, offsets)| (*partition, ranges(offsets))).collect();
    record::write(objects, name, &Record { before, at: request.now, offsets }).await?;
    let properties = CommitProperties::default()
        .with_application_transaction(Transaction::new(EXPIRED_ID, number_of(before)))
        .with_max_retries(COMMIT_RETRIES);
    let operation = DeltaOperation::Delete { predicate: Some(format!("event_date < '{before}'")) };
    let snapshot = table.snapshot().map_err(failed)?;
    let committed = CommitBuilder::from(properties)
        .with_actions(removed)
        .build(Some(snapshot), table.log_store(), operation)
        .await
        .map_err(failed)?;
    expired.version = committed.version();
    Ok(expired)
}

/// Refuses to let a day go that no settlement has counted as the lake holds it.
async fn check_settled(table: &DeltaTable, store: &Store, catalog: &Catalog, before: Date) -> Result<(), Error> {
    let held = Held::of(table).await?;
    let pinned = PinnedLake::new(table).await?;
    for tenant in &catalog.tenants {
        let deliveries = pinned.deliveries_by_day(tenant).await?;
        let settled = store.settled_days(&tenant.id).await?;
        let is_counted = |day: Date, deliveries: u64| {
            settled.get(&day).is_some_and(|known| known.state == State::Closed || known.deliveries == deliveries)
        };
        let leaving = |day: Date| held.holds(day, &tenant.time_zone) && is_leaving(day, tenant, before);
        let open = deliveries.iter().find(|(day, count)| leaving(**day) && !is_counted(**day, **count));
        if let Some((day, _)) = open {
            return Err(Error::NotYetFinal(format!(
                "{day} of tenant {} would expire and is not settled as the lake holds it: run `reckon nightly` first",
                tenant.id
            )));
        }
    }
    Ok(())
}

fn is_leaving(day: Date, tenant: &Tenant, before: Date) -> bool {
    !Held { since: Some(before) }.holds(day, &tenant.time_zone)
}
