//! Adjustments: events that came for a closed period.

use clickhouse::Row;
use hashbrown::HashSet;
use jiff::civil::Date;
use reckon_schemas::ids::TenantId;
use reckon_schemas::period::Period;
use reckon_schemas::sums::Sums;
use reckon_schemas::time::{EventTime, day_number};
use serde::{Deserialize, Serialize};

use super::store::unavailable;
use super::{Store, StoreError};

const POSTED: &str = "
    SELECT DISTINCT event_key FROM adjustments_stored
    WHERE tenant = {tenant:String} AND period = {period:String} AND generation = {generation:UInt32}";

const READ: &str = "
    SELECT period, event_id, `rollup`, event, dimensions, day, toUnixTimestamp64Micro(occurred_at) AS occurred_us,
           partition, offset, count, money, posted_day, toUnixTimestamp64Micro(posted_at) AS posted_us, run_id,
           toUInt8(in_force) AS in_force
    FROM adjustments
    WHERE tenant = {tenant:String} AND posted_at >= fromUnixTimestamp64Micro({since:Int64}, 'UTC')
    ORDER BY posted_at, period, day, partition, offset, `rollup` != 'total', `rollup`";

/// What one late event adds to one cell.
#[derive(Clone, Debug)]
pub(crate) struct Adjustment {
    pub(crate) event_key: u128,
    pub(crate) event_id: String,
    pub(crate) rollup: String,
    pub(crate) event: String,
    pub(crate) dimensions: Vec<String>,
    pub(crate) day: Date,
    pub(crate) occurred_at: EventTime,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) sums: Sums,
    /// 0 if nobody did it.
    pub(crate) user_key: u128,
}

/// An adjustment as it is read back.
#[derive(Row, Deserialize)]
pub(crate) struct AdjustmentRow {
    pub(crate) period: String,
    pub(crate) event_id: String,
    pub(crate) rollup: String,
    pub(crate) event: String,
    pub(crate) dimensions: Vec<String>,
    pub(crate) day: i32,
    pub(crate) occurred_us: i64,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) count: u64,
    pub(crate) money: Sums,
    pub(crate) posted_day: i32,
    pub(crate) posted_us: i64,
    pub(crate) run_id: String,
    pub(crate) in_force: u8,
}

#[derive(Row, Serialize)]
struct WrittenRow<'a> {
    tenant: &'a str,
    period: &'a str,
    generation: u32,
    event_key: u128,
    event_id: &'a str,
    rollup: &'a str,
    event: &'a str,
    dimensions: &'a [String],
    day: i32,
    occurred_at: i64,
    partition: i32,
    offset: i64,
    count: u64,
    money: &'a Sums,
    user_key: u128,
    posted_day: i32,
    posted_at: i64,
    run_id: &'a str,
}

impl Store {
    /// The keys of the events that are posted for a closed period.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn posted_events(
        &self,
        tenant: &TenantId,
        period: Period,
        generation: u32,
    ) -> Result<HashSet<u128>, StoreError> {
        let mut keys = HashSet::new();
        let query = self.query(POSTED).param("tenant", tenant.as_str()).param("period", period.to_string());
        self.read("read what is posted", query.param("generation", generation), |key: u128| {
            keys.insert(key);
            Ok(())
        })
        .await?;
        Ok(keys)
    }

    /// Posts adjustments of a closed period. An event that was posted before keeps its first posting.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) async fn post_adjustments(
        &self,
        tenant: &TenantId,
        (period, generation): (Period, u32),
        (posted_day, posted_at): (Date, EventTime),
        run_id: &str,
        adjustments: &[Adjustment],
    ) -> Result<(), StoreError> {
        const WRITING: &str = "post adjustments";
        let failed = |error| unavailable(WRITING, &error);
        let mut insert = self.insert::<WrittenRow<'_>>(WRITING, "adjustments_stored").await?;
        let period = period.to_string();
        for adjustment in adjustments {
            let row = WrittenRow {
                tenant: tenant.as_str(),
                period: &period,
                generation,
                event_key: adjustment.event_key,
                event_id: &adjustment.event_id,
                rollup: &adjustment.rollup,
                event: &adjustment.event,
                dimensions: &adjustment.dimensions,
                day: day_number(adjustment.day),
                occurred_at: adjustment.occurred_at.0,
                partition: adjustment.partition,
                offset: adjustment.offset,
                count: 1,
                money: &adjustment.sums,
                user_key: adjustment.user_key,
                posted_day: day_number(posted_day),
                posted_at: posted_at.0,
                run_id,
            };
            insert.write(&row).await.map_err(failed)?;
        }
        insert.end().await.map_err(failed)
    }

    /// Hands over every adjustment of a tenant that was posted since an instant, oldest first.
    ///
    /// # Errors
    /// [`StoreError`], also what the receiver returns.
    pub(crate) async fn adjustments(
        &self,
        tenant: &TenantId,
        since: EventTime,
        receive: impl FnMut(AdjustmentRow) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let query = self.query(READ).param("tenant", tenant.as_str()).param("since", since.0);
        self.read("read adjustments", query, receive).await
    }
}
