//! The ClickHouse sink: cells, then exceptions and overflows, then how far that goes. The progress row is written last, so whoever
//! reads it finds everything below it in the other tables.

use std::time::Duration;

use ::clickhouse::insert::Insert;
use ::clickhouse::{Client, Row};
use bytes::Bytes;
use reckon_schemas::stores::ClickHouse;
use reckon_schemas::top::TopSketch;
use serde::Serialize;

use super::cell_columns::CellColumns;
use super::{Flush, Flushed, Outcome, PartitionFlush, SinkError};

const SEND_TIMEOUT: Duration = Duration::from_secs(10);
const END_TIMEOUT: Duration = Duration::from_secs(60);

/// Writes batches to ClickHouse.
pub(crate) struct ClickHouseSink {
    client: Client,
    topic: String,
}

/// A row of `speed_exceptions`.
#[derive(Serialize, Row)]
struct ExceptionRow<'a> {
    topic: &'a str,
    partition: i32,
    offset: u64,
    tenant: &'a str,
    event_id: &'a str,
    event: &'a str,
    occurred_at: i64,
    reason: &'a str,
    missed: &'a str,
}

/// A row of `speed_tops_raw`.
#[derive(Serialize, Row)]
struct TopRow<'a> {
    tenant: &'a str,
    property: &'a str,
    grain: &'a str,
    window_start: i64,
    window_end: i64,
    event: &'a str,
    partition: i32,
    version: u64,
    sketch: &'a TopSketch,
}

/// A row of `speed_overflows`.
#[derive(Serialize, Row)]
struct OverflowRow<'a> {
    topic: &'a str,
    partition: i32,
    offset: u64,
    tenant: &'a str,
    occurred_at: i64,
    dimensions: &'a [String],
}

/// A row of `speed_plans`.
#[derive(Serialize, Row)]
struct PlanRow<'a> {
    topic: &'a str,
    partition: i32,
    tenant: &'a str,
    item: &'a str,
    offset: u64,
    counted: u8,
    watermark: Option<i64>,
    noted_at: Option<i64>,
}

/// A row of `speed_progress`.
#[derive(Serialize, Row)]
struct ProgressRow<'a> {
    topic: &'a str,
    partition: i32,
    next_offset: u64,
    watermark: Option<i64>,
    written_at: i64,
    log_time: Option<i64>,
    caught_up_at: Option<i64>,
}

/// A client with the settings that every write of this layer relies on.
pub(crate) fn connect(store: &ClickHouse) -> Client {
    let mut client = Client::default()
        .with_url(&store.url)
        .with_database(&store.database)
        // An acknowledgement must mean that the rows are in the table.
        .with_setting("async_insert", "0")
        // A batch names each cell once, so looking for older versions within it, which takes longer than everything else
        // about an insert, finds nothing.
        .with_setting("optimize_on_insert", "0")
        // Tables are partitioned by the month of event time, and one block may hold events of any month.
        .with_setting("max_partitions_per_insert_block", "0");
    if let Some(user) = &store.user {
        client = client.with_user(user);
    }
    if let Some(password) = &store.password {
        client = client.with_password(password);
    }
    client
}

impl ClickHouseSink {
    pub(crate) fn new(client: Client, topic: String) -> Self {
        Self { client, topic }
    }

    /// Writes a batch. Rows are versioned absolute totals, so writing one again changes nothing.
    pub(crate) async fn write(&mut self, batch: &Flush) -> Result<Vec<Flushed>, SinkError> {
        let parts = &batch.parts;
        self.write_cells(&batch.blocks).await?;
        self.write_tops(parts).await?;
        self.write_exceptions(parts).await?;
        self.write_overflows(parts).await?;
        self.write_plans(parts).await?;
        self.write_progress(parts).await?;
        Ok(parts.iter().map(|part| part.done(Outcome::Acknowledged(part.next_offset))).collect())
    }

    async fn write_cells(&self, blocks: &[Bytes]) -> Result<(), SinkError> {
        if blocks.is_empty() {
            return Ok(());
        }
        let insert = self.client.insert_formatted_with(CellColumns::statement());
        let mut insert = insert.with_timeouts(Some(SEND_TIMEOUT), Some(END_TIMEOUT));
        for piece in blocks {
            insert.send(piece.clone()).await?;
        }
        Ok(insert.end().await?)
    }

    async fn write_tops(&self, batch: &[PartitionFlush]) -> Result<(), SinkError> {
        if batch.iter().all(|part| part.tops.is_empty()) {
            return Ok(());
        }
        let mut insert = self.insert::<TopRow<'_>>("speed_tops_raw").await?;
        for part in batch {
            for top in &part.tops {
                let row = TopRow {
                    tenant: top.tenant(),
                    property: top.property(),
                    grain: top.window.grain.name(),
                    window_start: top.window.start.0,
                    window_end: top.window.end.0,
                    event: top.event(),
                    partition: part.partition,
                    version: unsigned(part.next_offset),
                    sketch: &top.sketch,
                };
                insert.write(&row).await?;
            }
        }
        Ok(insert.end().await?)
    }

    async fn write_exceptions(&self, batch: &[PartitionFlush]) -> Result<(), SinkError> {
        if batch.iter().all(|part| part.exceptions.is_empty()) {
            return Ok(());
        }
        let mut insert = self.insert::<ExceptionRow<'_>>("speed_exceptions").await?;
        for part in batch {
            for exception in &part.exceptions {
                let row = ExceptionRow {
                    topic: &self.topic,
                    partition: part.partition,
                    offset: unsigned(exception.offset),
                    tenant: &exception.tenant,
                    event_id: &exception.event_id,
                    event: &exception.event,
                    occurred_at: exception.occurred_at.0,
                    reason: exception.reason.name(),
                    missed: exception.missed.name(),
                };
                insert.write(&row).await?;
            }
        }
        Ok(insert.end().await?)
    }

    async fn write_overflows(&self, batch: &[PartitionFlush]) -> Result<(), SinkError> {
        if batch.iter().all(|part| part.overflows.is_empty()) {
            return Ok(());
        }
        let mut insert = self.insert::<OverflowRow<'_>>("speed_overflows").await?;
        for part in batch {
            for overflow in &part.overflows {
                let row = OverflowRow {
                    topic: &self.topic,
                    partition: part.partition,
                    offset: unsigned(overflow.offset),
                    tenant: &overflow.tenant,
                    occurred_at: overflow.occurred_at.0,
                    dimensions: &overflow.dimensions,
                };
                insert.write(&row).await?;
            }
        }
        Ok(insert.end().await?)
    }

    async fn write_plans(&self, batch: &[PartitionFlush]) -> Result<(), SinkError> {
        if batch.iter().all(|part| part.plans.is_empty()) {
            return Ok(());
        }
        let noted_at = Some(jiff::Timestamp::now().as_microsecond());
        let mut insert = self.insert::<PlanRow<'_>>("speed_plans").await?;
        for part in batch {
            for change in &part.plans {
                let row = PlanRow {
                    topic: &self.topic,
                    partition: part.partition,
                    tenant: &change.tenant,
                    item: &change.item,
                    offset: unsigned(change.offset),
                    counted: u8::from(change.counted),
                    watermark: change.watermark.map(|at| at.0),
                    noted_at,
                };
                insert.write(&row).await?;
            }
        }
        Ok(insert.end().await?)
    }

    async fn write_progress(&self, batch: &[PartitionFlush]) -> Result<(), SinkError> {
        let written_at = jiff::Timestamp::now().as_millisecond();
        let mut insert = self.insert::<ProgressRow<'_>>("speed_progress").await?;
        for part in batch {
            let row = ProgressRow {
                topic: &self.topic,
                partition: part.partition,
                next_offset: unsigned(part.next_offset),
                watermark: part.watermark.map(|at| at.0),
                written_at,
                log_time: Some(part.log_time_ms),
                caught_up_at: Some(part.caught_up_at_ms),
            };
            insert.write(&row).await?;
        }
        Ok(insert.end().await?)
    }

    async fn insert<R: Row>(&self, table: &str) -> Result<Insert<R>, SinkError> {
        Ok(self.client.insert(table).await?.with_timeouts(Some(SEND_TIMEOUT), Some(END_TIMEOUT)))
    }
}

/// Offsets as ClickHouse has them.
pub(super) fn unsigned(offset: i64) -> u64 {
    u64::try_from(offset).expect("offsets of the log begin at 0")
}
