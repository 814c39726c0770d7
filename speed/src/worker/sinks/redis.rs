//! The Redis sink: cells, then how far that goes, then the push. What is in Redis can be rebuilt: each batch begins by
//! looking whether Redis still has what it acknowledged, and is only acknowledged itself if Redis was not emptied
//! while it was written.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use reckon_schemas::cell::{DimensionValues, Measures, Rollup};
use reckon_schemas::redis_keys::{self, Change, Progress};
use reckon_schemas::time::{EventTime, MICROS_PER_SECOND};
use reckon_schemas::window::{Grain, PerGrain, Window};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Script};
use uuid::Uuid;

use super::history::History;
use super::redis_cells::{CellWriter, Group};
use super::{Flushed, Outcome, PartitionFlush, SinkError};
use crate::worker::windows::FlushedCell;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// A push that names more windows than this is split.
const WINDOWS_MAX: usize = 500;

type ChangedWindow = (Grain, EventTime, String, String);

/// What orders the cells of a part into groups: tenant, window, rollup, event name.
type GroupKey<'a> = (&'a str, Window, &'a str, &'a str);

/// Which windows of which tenant changed.
type Changes = BTreeMap<String, Vec<ChangedWindow>>;

/// Writes batches to Redis.
pub(crate) struct RedisSink {
    client: Client,
    connection: Option<MultiplexedConnection>,
    history: History,
    topic: String,
    retention: PerGrain,
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
    pub(crate) fn new(client: Client, history: History, topic: String, retention: PerGrain) -> Self {
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
        self.note_events(&mut connection, &changes).await?;
        let same_epoch = self.write_progress(&mut connection, &found.epoch, &kept).await?;
        let outcome = |part: &PartitionFlush| match same_epoch {
            true => Outcome::Acknowledged(part.next_offset),
            false => Outcome::Lost,
        };
        flushed.extend(kept.iter().map(|part| part.done(outcome(part))));
        self.push(&mut connection, &kept, &changes).await?;
        Ok(flushed)
    }

    async fn connect(&mut self) -> Result<MultiplexedConnection, SinkError> {
        if let Some(connection) = &self.connection {
            return Ok(connection.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT));
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        // Pipelines name scripts by their hash only, so a server that is new has to know them first.
        for script in [&self.cells, &self.progress, &self.push] {
            script.load_async(&mut connection).await?;
        }
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

    /// Writes the cells, and those of the past where the partition is rebuilt. The result: which windows changed, per
    /// part of the batch.
    async fn write_cells(
        &self,
        connection: &MultiplexedConnection,
        parts: &[&PartitionFlush],
    ) -> Result<Vec<Changes>, SinkError> {
        let now = EventTime::from_timestamp(jiff::Timestamp::now());
        let mut writer = CellWriter::new(&self.cells, connection.clone(), &self.retention, now);
        let mut changes = Vec::with_capacity(parts.len());
        for part in parts {
            let mut changed = Changes::new();
            for ((tenant, window, rollup, event), cells) in groups(&part.cells, |window| writer.keeps(window)) {
                let (partition, version) = (part.partition, part.next_offset);
                writer.add(&Group { tenant, rollup, event, window, partition, version }, &cells).await?;
                let windows = changed.entry(tenant.to_owned()).or_default();
                windows.push((window.grain, window.start, rollup.to_owned(), event.to_owned()));
            }
            for top in &part.tops {
                writer.add_top(top, part.partition, part.next_offset).await?;
            }
            if part.rebuild.is_some_and(|rebuild| rebuild.from_history) {
                let restored = self.restore_past(&mut writer, part.partition, now).await?;
                tracing::info!(partition = part.partition, restored, "rebuilt Redis from memory and ClickHouse");
            }
            changes.push(changed);
        }
        writer.finish().await?;
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
            if writer.keeps(&cell.window) {
                let (tenant, rollup, event) = (cell.tenant.as_str(), cell.rollup.as_str(), cell.event.as_str());
                let group = Group { tenant, rollup, event, window: cell.window, partition, version: cell.version };
                writer.add(&group, &[(&cell.values, &cell.measures)]).await?;
                restored += 1;
            }
        }
        Ok(restored)
    }

    /// Notes the names of the events that were counted, for questions about events of any name.
    async fn note_events(&self, connection: &mut MultiplexedConnection, changes: &[Changes]) -> Result<(), SinkError> {
        let mut names: BTreeMap<(&str, &str), i64> = BTreeMap::new();
        for (tenant, windows) in changes.iter().flatten() {
            for (_, start, rollup, event) in windows {
                if rollup == Rollup::TOTAL {
                    let newest = names.entry((tenant, event)).or_insert(0);
                    *newest = start.0.div_euclid(MICROS_PER_SECOND).max(*newest);
                }
            }
        }
        let mut notes = redis::pipe();
        for ((tenant, event), newest_s) in names {
            notes.cmd("ZADD").arg(redis_keys::event_names(tenant)).arg("GT").arg(newest_s).arg(event).ignore();
        }
        if notes.is_empty() { Ok(()) } else { Ok(notes.query_async(connection).await?) }
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
                log_time_ms: part.log_time_ms,
            };
            let json = serde_json::to_string(&progress).expect("numbers only");
            invocation.arg(part.partition).arg(part.next_offset).arg(json);
        }
        Ok(invocation.invoke_async::<i64>(connection).await? == 1)
    }

    async fn push(
        &self,
        connection: &mut MultiplexedConnection,
        parts: &[&PartitionFlush],
        changes: &[Changes],
    ) -> Result<(), SinkError> {
        let mut pushes = redis::pipe();
        for (part, changed) in parts.iter().zip(changes) {
            for (tenant, windows) in changed {
                for windows in windows.chunks(WINDOWS_MAX) {
                    let (partition, log_time_ms) = (part.partition, part.log_time_ms);
                    let change = Change { seq: 0, partition, log_time_ms, windows: windows.to_vec() };
                    let json = serde_json::to_string(&change).expect("plain data");
                    let rest = json.strip_prefix(r#"{"seq":0"#).expect("fields are written in the order declared");
                    let mut invocation = self.push.prepare_invoke();
                    invocation.key(redis_keys::sequence(tenant)).arg(redis_keys::changes_channel(tenant)).arg(rest);
                    pushes.invoke_script(&invocation).ignore();
                }
            }
        }
        if pushes.is_empty() { Ok(()) } else { Ok(pushes.query_async(connection).await?) }
    }
}

/// The cells by what they have in common, those that are kept, tenant by tenant.
fn groups<'a>(
    cells: &'a [FlushedCell],
    keeps: impl Fn(&Window) -> bool,
) -> BTreeMap<GroupKey<'a>, Vec<(&'a DimensionValues, &'a Measures)>> {
    let mut groups: BTreeMap<GroupKey<'a>, Vec<_>> = BTreeMap::new();
    for FlushedCell { series, window, measures } in cells {
        if keeps(window) {
            let key = (series.tenant.as_str(), *window, series.rollup.as_str(), series.event.as_str());
            groups.entry(key).or_default().push((&series.values, measures));
        }
    }
    groups
}

impl Found {
    /// Whether Redis has less of the partition than it acknowledged, and this batch does not bring it all back.
    fn lacks(&self, part: &PartitionFlush) -> bool {
        let found = self.next_offsets.get(&part.partition).copied();
        part.rebuild.is_none() && found < part.acknowledged
    }
}
