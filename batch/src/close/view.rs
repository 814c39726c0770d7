//! The change log and the adjustments, read back for people and programs.

use jiff::Timestamp;
use jiff::civil::Date;
use reckon_schemas::ids::TenantId;
use reckon_schemas::stores;
use reckon_schemas::sums::{Sums, Unit};
use reckon_schemas::time::{EventTime, day_of_number};
use serde::Serialize;

use crate::Error;
use crate::settle::Store;

/// What a restatement changed in one measure of one cell of grain `1d`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// When.
    pub changed_at: Timestamp,
    /// The day.
    pub day: Date,
    /// The rollup's name.
    pub rollup: String,
    /// The event's name.
    pub event: String,
    /// The values of the rollup's dimensions.
    pub dimensions: Vec<String>,
    /// `count`, `money`, `sum` or `users`.
    pub measure: String,
    /// For sums: what they are in; else empty.
    pub unit: String,
    /// The value before, as a decimal text.
    pub before: String,
    /// The value since.
    pub after: String,
    /// Why: `late_events`, or `new_rollup` where it had not been counted before.
    pub reason: String,
    /// The run that changed it.
    pub run_id: String,
    /// The run before.
    pub run_before: String,
}

/// What a late event adds to one cell of a closed period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Adjusted {
    /// The day that it is posted on.
    pub posted_day: Date,
    /// When.
    pub posted_at: Timestamp,
    /// The closed period that it belongs to.
    pub period: String,
    /// The day that it belongs to.
    pub day: Date,
    /// The rollup's name.
    pub rollup: String,
    /// The event's name.
    pub event: String,
    /// The values of the rollup's dimensions.
    pub dimensions: Vec<String>,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// The event.
    pub event_id: String,
    /// Where it is in the log.
    pub partition: i32,
    /// Where it is in the log.
    pub offset: i64,
    /// How many events it is: 1.
    pub count: u64,
    /// Its sums as decimal texts, by unit.
    pub sums: std::collections::BTreeMap<String, String>,
    /// Whether it counts: its period is still closed.
    pub in_force: bool,
    /// The run that posted it.
    pub run_id: String,
}

/// The changes of a tenant's settled numbers since an instant, oldest first.
///
/// # Errors
/// [`Error::Retryable`] if ClickHouse is away, [`Error::Broken`] if what it holds cannot be read.
pub async fn changes(
    clickhouse: &stores::ClickHouse,
    tenant: &TenantId,
    since: Timestamp,
) -> Result<Vec<Change>, Error> {
    let mut changes = Vec::new();
    let store = Store::new(clickhouse);
    store
        .changes(tenant, EventTime::from_timestamp(since), |row| {
            let unit: Option<Unit> = row.unit.parse().ok();
            let text = |value: i128| unit.as_ref().map_or_else(|| value.to_string(), |unit| unit.format(value));
            changes.push(Change {
                changed_at: EventTime(row.changed_us).to_timestamp(),
                day: day_of_number(row.day),
                before: text(row.before),
                after: text(row.after),
                rollup: row.rollup,
                event: row.event,
                dimensions: row.dimensions,
                measure: row.measure,
                unit: row.unit,
                reason: row.reason,
                run_id: row.run_id,
                run_before: row.run_before,
            });
            Ok(())
        })
        .await?;
    Ok(changes)
}

/// The adjustments of a tenant that were posted since an instant, oldest first.
///
/// # Errors
/// As [`changes`].
pub async fn adjustments(
    clickhouse: &stores::ClickHouse,
    tenant: &TenantId,
    since: Timestamp,
) -> Result<Vec<Adjusted>, Error> {
    let mut adjustments = Vec::new();
    let texts = |sums: &Sums| sums.iter().map(|(unit, sum)| (unit.to_string(), unit.format(sum))).collect();
    let store = Store::new(clickhouse);
    store
        .adjustments(tenant, EventTime::from_timestamp(since), |row| {
            adjustments.push(Adjusted {
                posted_day: day_of_number(row.posted_day),
                posted_at: EventTime(row.posted_us).to_timestamp(),
                period: row.period,
                day: day_of_number(row.day),
                rollup: row.rollup,
                event: row.event,
                dimensions: row.dimensions,
                occurred_at: EventTime(row.occurred_us).to_timestamp(),
                event_id: row.event_id,
                partition: row.partition,
                offset: row.offset,
                count: row.count,
                sums: texts(&row.money),
                in_force: row.in_force != 0,
                run_id: row.run_id,
            });
            Ok(())
        })
        .await?;
    Ok(adjustments)
}
