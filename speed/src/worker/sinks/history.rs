//! The cells that left the worker's memory, read back from ClickHouse: nobody else remembers them.

use ::clickhouse::query::RowCursor;
use ::clickhouse::{Client, Row};
use reckon_schemas::cell::{DimensionValues, Measures};
use reckon_schemas::sketch::Sketch;
use reckon_schemas::sums::Unit;
use reckon_schemas::time::EventTime;
use reckon_schemas::window::{Grain, PerGrain, Window};
use serde::Deserialize;

use super::SinkError;

/// Reads cells of the past.
#[derive(Clone)]
pub(crate) struct History {
    client: Client,
}

/// A row of `speed_cells_raw`, without the partition, which was asked for.
#[derive(Deserialize, Row)]
struct PastRow {
    tenant: String,
    rollup: String,
    grain: String,
    window_start: i64,
    window_end: i64,
    event: String,
    dimensions: Vec<String>,
    version: u64,
    count: u64,
    money: Vec<(String, i128)>,
    users: Sketch,
}

/// A cell of the past.
pub(crate) struct PastCell {
    pub(crate) tenant: String,
    pub(crate) rollup: String,
    pub(crate) event: String,
    pub(crate) values: DimensionValues,
    pub(crate) window: Window,
    pub(crate) version: i64,
    pub(crate) measures: Measures,
}

/// The cells of one partition, one after another.
pub(crate) struct PastCells(RowCursor<PastRow>);

impl History {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Up to which offset a partition was ever counted, if it was.
    pub(crate) async fn counted_up_to(&self, topic: &str, partition: i32) -> Result<Option<i64>, SinkError> {
        let sql = "SELECT toInt64(next_offset) FROM speed_progress FINAL WHERE topic = ? AND partition = ?";
        Ok(self.client.query(sql).bind(topic).bind(partition).fetch_optional().await?)
    }

    /// The newest totals of every cell of a partition that is still within its retention at this time.
    pub(crate) fn cells(&self, partition: i32, retention: &PerGrain, now: EventTime) -> Result<PastCells, SinkError> {
        let oldest_end = |grain| now.0.saturating_sub(retention.micros_of(grain));
        let sql = "SELECT ?fields FROM speed_cells_raw FINAL WHERE partition = ? AND toUnixTimestamp64Micro(window_end) \
                   > multiIf(grain = '1m', ?, grain = '5m', ?, grain = '1h', ?, ?) ORDER BY tenant";
        let query = self
            .client
            .query(sql)
            .bind(partition)
            .bind(oldest_end(Grain::Minute))
            .bind(oldest_end(Grain::FiveMinutes))
            .bind(oldest_end(Grain::Hour))
            .bind(oldest_end(Grain::Day));
        Ok(PastCells(query.fetch()?))
    }
}

impl PastCells {
    /// The next cell. Rows that no build of this layer writes are left out.
    pub(crate) async fn next(&mut self) -> Result<Option<PastCell>, SinkError> {
        while let Some(row) = self.0.next().await? {
            if let Some(cell) = row.into_cell() {
                return Ok(Some(cell));
            }
            tracing::error!("a row of speed_cells_raw has an unknown grain, unit or version; it is left out");
        }
        Ok(None)
    }
}

impl PastRow {
    fn into_cell(self) -> Option<PastCell> {
        let sums = self.money.iter().map(|(unit, sum)| Some((unit.parse::<Unit>().ok()?, *sum)));
        let measures = Measures { count: self.count, sums: sums.collect::<Option<_>>()?, users: self.users };
        let window = Window {
            grain: self.grain.parse().ok()?,
            start: EventTime(self.window_start),
            end: EventTime(self.window_end),
        };
        Some(PastCell {
            tenant: self.tenant,
            rollup: self.rollup,
            event: self.event,
            values: DimensionValues::new(&self.dimensions),
            window,
            version: i64::try_from(self.version).ok()?,
            measures,
        })
    }
}
