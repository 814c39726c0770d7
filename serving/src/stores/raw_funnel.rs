//! A funnel over raw events, with ClickHouse's `windowFunnel`.
//!
//! It compares time stamps, and where two are equal its answer depends on the order of rows. So it is given time stamps
//! that are never equal where it matters: microseconds in steps of sixteen, later steps first, which makes a later step of
//! the same instant earlier than the step it would follow. That is exactly "each later than the one before".

use clickhouse::Row;
use serde::Deserialize;

use super::StoreError;
use super::clickhouse::{ClickHouse, Limits};
use super::raw::{happened, in_range, value};
use crate::funnel::question::Funnel;
use crate::funnel::{Reached, add};

/// Between two microseconds there is room for every step.
const SLOTS: i64 = 16;

/// Time stamps have to be positive: 2^57 microseconds are added, some 4,600 years.
const FUNNEL: &str = concat!(
    "SELECT level, segment, count() AS users FROM (
       SELECT windowFunnel({within:UInt64})(at, step = 1, step = 2, step = 3, step = 4, step = 5, step = 6, step = 7,
                                            step = 8, step = 9, step = 10) AS level,
              argMinIf(value, place, step = 1) AS segment
       FROM (
         SELECT user_id, (occurred_at, log_time, partition, offset) AS place,
                if({by:String} = '', '', arrayMap(p -> ",
    value!(),
    ", [{by:String}])[1]) AS value,
                arrayJoin(arrayFilter(
                    i -> name = ({names:Array(String)})[i]
                         AND arrayAll((filtered, p, allowed) -> filtered != i OR has(allowed, ",
    value!(),
    "), {filter_steps:Array(UInt8)}, {filter_dimensions:Array(String)}, {filter_values:Array(Array(String))}),
                    range(1, length({names:Array(String)}) + 1))) AS step,
                toUInt64(toUnixTimestamp64Micro(occurred_at) + 144115188075855872) * 16 + toUInt64(16 - step) AS at",
    happened!(),
    " AND user_id != '' AND has({names:Array(String)}, name))
       GROUP BY user_id)
     WHERE level > 0 GROUP BY level, segment"
);

#[derive(Row, Deserialize)]
struct LevelRow {
    level: u8,
    segment: String,
    users: u64,
}

impl ClickHouse {
    /// How many users of a tenant came how far.
    pub(crate) async fn raw_funnel(
        &self,
        tenant: &str,
        funnel: &Funnel,
        limits: Limits,
    ) -> Result<Reached, StoreError> {
        let names: Vec<&str> = funnel.steps.iter().map(|step| step.event.as_str()).collect();
        // One list for all steps, which are counted from 1: nested lists that are all empty have no type for ClickHouse.
        let (mut filter_steps, mut dimensions, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (step, asked) in (1_u8..).zip(&funnel.steps) {
            for (dimension, allowed) in &asked.filters {
                filter_steps.push(step);
                dimensions.push(dimension);
                values.push(allowed);
            }
        }
        let statement = in_range(self.statement(FUNNEL).within(limits), tenant, funnel.from, funnel.to)
            .bind("within", funnel.within_us.saturating_mul(SLOTS))
            .bind("by", funnel.by.as_deref().unwrap_or_default())
            .bind("names", names)
            .bind("filter_steps", filter_steps)
            .bind("filter_dimensions", dimensions)
            .bind("filter_values", values);
        let mut reached = Reached::new();
        for LevelRow { level, segment, users } in statement.rows::<LevelRow>().await? {
            add(&mut reached, segment, funnel.steps.len(), level.into(), users);
        }
        Ok(reached)
    }
}
