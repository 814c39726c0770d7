//! The Redis sink: cells, then how far that goes, then the push. What is in Redis can be rebuilt: each batch begins by
//! looking whether Redis still has what it acknowledged, and is only acknowledged itself if Redis was not emptied
//! while it was written.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use reckon_schemas::redis_keys::{self, Change, Progress};
use reckon_schemas::time::EventTime;
use reckon_schemas::window::Grain;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Script};
use uuid::Uuid;

use super::history::History;
use super::redis_cells::{CellWriter, VersionedCell};
use super::{Flushed, Outcome, PartitionFlush, SinkError};
use crate::worker::tuning::Retention;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// A push that names more windows than this is split.
const WINDOWS_MAX: usize = 500;

type ChangedWindow = (Grain, EventTime, String, String);

/// Writes batches to Redis.
pub(crate) struct RedisSink {
    client: Client,
    connection: Option<MultiplexedConnection>,
    history: History,
    topic: String,
    retention: Retention,
    cells: Script,
    progress: Script,
    push: Script,
}

/// What Redis says of itself before a batch.
struct Found {
    epoch: String,
    next_offsets: HashMap<i32, i64>,
}

impl RedisSink {
    pub(crate) fn new(client: Client, history: History, topic: String, retention: Retention) -> Self {
        Self {
            client,
            connection: None,
            history,
            topic,
            retention,
            cells: Script::new(include_str!("write_cells.lua")),
            progress: Script::new(include_str!("write_progress.lua")),
            push: Script::new(include_str!("push_change.lua")),
        }
    }

    /// Writes a batch. Everything but the push is a versioned absolute value, so writing it again changes nothing.
    pub(crate) async fn write(&mut self, batch: &[PartitionFlush]) -> Result<Vec<Flushed>, SinkError> {
        let result = self.write_connected(batch).await;
        if result.is_err() {
            // Whatever went wrong, the next attempt begins with a new connection.
            self.connection = None;
        }
        result
    }

    async fn write_connected(&mut self, batch: &[PartitionFlush]) -> Result<Vec<Flushed>, SinkError> {
        let mut connection = self.connect().await?;
        let found = self.look(&mut connection, batch).await?;
        let (lost, kept): (Vec<&PartitionFlush>, Vec<&PartitionFlush>) =
            batch.iter().partition(|part| found.lacks(part));
        let mut flushed: Vec<Flushed> = lost.iter().map(|part| part.done(Outcome::Lost)).collect();
        if kept.is_empty() {
            return Ok(flushed);
        }
        let changes = self.write_cells(&connection, &kept).await?;
        let same_epoch = self.write_progress(&mut connection, &found.epoch, &kept).await?;
        let outcome = |part: &PartitionFlush| match same_epoch {
            true => Outcome::Acknowledged(part.next_offset),
            false => Outcome::Lost,
        };
        flushed.extend(kept.iter().map(|part| part.done(outcome(part))));
        for (part, windows) in kept.iter().zip(changes) {
            self.push(&mut connection, part, windows).await?;
        }
        Ok(flushed)
    }

    async fn connect(&mut self) -> Result<MultiplexedConnection, SinkError> {
        if let Some(connection) = &self.connection {
            return Ok(connection.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT));
        let connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(self.connection.insert(connection).clone())
    }

    async fn look(&self, connection: &mut MultiplexedConnection, batch: &[PartitionFlush]) -> Result<Found, SinkError> {
        let epoch_key = redis_keys::epoch(&self.topic);
        let partitions: Vec<i32> = batch.iter().map(|part| part.partition).collect();
        let (epoch, progress): (String, Vec<Option<String>>) = redis::pipe()
            .cmd("SET")
            .arg(&epoch_key)
            .arg(Uuid::new_v4().to_string())
            .arg("NX")
            .ignore()
            .cmd("GET")
            .arg(&epoch_key)
            .cmd("HMGET")
            .arg(redis_keys::progress(&self.topic))
            .arg(&partitions)
            .query_async(connection)
            .await?;
        let next_offsets = partitions.into_iter().zip(progress).filter_map(|(partition, json)| {
            let progress: Progress = serde_json::from_str(&json?).ok()?;
            Some((partition, progress.next_offset))
        });
        Ok(Found { epoch, next_offsets: next_offsets.collect() })
    }

    /// Writes the cells, and those of the past where the partition is rebuilt. The result: per part of the batch and
    /// tenant, which windows changed.
    async fn write_cells(
        &self,
        connection: &MultiplexedConnection,
        parts: &[&PartitionFlush],
    ) -> Result<Vec<BTreeMap<String, BTreeSet<ChangedWindow>>>, SinkError> {
        let now = EventTime::from_timestamp(jiff::Timestamp::now());
        let mut writer = CellWriter::new(&self.cells, connection.clone(), &self.retention, now);
        let mut changes = Vec::new();
        for part in parts {
            let mut changed: BTreeMap<String, BTreeSet<ChangedWindow>> = BTreeMap::new();
            for cell in &part.cells {
                let series = &cell.series;
                let versioned = VersionedCell {
                    tenant: series.tenant.as_str(),
                    rollup: &series.rollup,
                    event: &series.event,
                    values: &series.values,
                    window: cell.window,
                    partition: part.partition,
                    version: part.next_offset,
                    measures: &cell.measures,
                };
                if writer.add(&versioned).await? {
                    let window = (cell.window.grain, cell.window.start, series.rollup.clone(), series.event.clone());
                    changed.entry(series.tenant.as_str().to_owned()).or_default().insert(window);
                }
            }
            if part.rebuild.is_some_and(|rebuild| rebuild.from_history) {
                let restored = self.restore_past(&mut writer, part.partition, now).await?;
                tracing::info!(partition = part.partition, restored, "rebuilt Redis from memory and ClickHouse");
            }
            changes.push(changed);
        }
        writer.write().await?;
        Ok(changes)
    }

    async fn restore_past(
        &self,
        writer: &mut CellWriter<'_>,
        partition: i32,
        now: EventTime,
    ) -> Result<usize, SinkError> {
        let mut past = self.history.cells(partition, &self.retention, now)?;
        let mut restored = 0;
        while let Some(cell) = past.next().await? {
            let versioned = VersionedCell {
                tenant: &cell.tenant,
                rollup: &cell.rollup,
                event: &cell.event,
                values: &cell.values,
                window: cell.window,
                partition,
                version: cell.version,
                measures: &cell.measures,
            };
            restored += usize::from(writer.add(&versioned).await?);
        }
        Ok(restored)
    }

    /// False if Redis was emptied since [`Self::look`].
    async fn write_progress(
        &self,
        connection: &mut MultiplexedConnection,
        epoch: &str,
        parts: &[&PartitionFlush],
    ) -> Result<bool, SinkError> {
        let mut invocation = self.progress.prepare_invoke();
        invocation.key(redis_keys::progress(&self.topic)).key(redis_keys::epoch(&self.topic)).arg(epoch);
        for part in parts {
            let progress = Progress {
                next_offset: part.next_offset,
                watermark: part.watermark,
                written_at_ms: jiff::Timestamp::now().as_millisecond(),
            };
            let json = serde_json::to_string(&progress).expect("numbers only");
            invocation.arg(part.partition).arg(part.next_offset).arg(json);
        }
        Ok(invocation.invoke_async::<i64>(connection).await? == 1)
    }

    async fn push(
        &self,
        connection: &mut MultiplexedConnection,
        part: &PartitionFlush,
        changed: BTreeMap<String, BTreeSet<ChangedWindow>>,
    ) -> Result<(), SinkError> {
        for (tenant, windows) in changed {
            let windows: Vec<ChangedWindow> = windows.into_iter().collect();
            for windows in windows.chunks(WINDOWS_MAX) {
                let (partition, log_time_ms) = (part.partition, part.log_time_ms);
                let change = Change { seq: 0, partition, log_time_ms, windows: windows.to_vec() };
                let json = serde_json::to_string(&change).expect("plain data");
                let rest = json.strip_prefix(r#"{"seq":0"#).expect("fields are written in the order declared");
                let mut invocation = self.push.prepare_invoke();
                invocation.key(redis_keys::sequence(&tenant)).arg(redis_keys::changes_channel(&tenant)).arg(rest);
                invocation.invoke_async::<()>(connection).await?;
            }
        }
        Ok(())
    }
}

impl Found {
    /// Whether Redis has less of the partition than it acknowledged, and this batch does not bring it all back.
    fn lacks(&self, part: &PartitionFlush) -> bool {
        let found = self.next_offsets.get(&part.partition).copied();
        part.rebuild.is_none() && found < part.acknowledged
    }
}
