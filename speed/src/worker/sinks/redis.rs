//! The Redis sink: cells, then how far that goes, then the push. What is in Redis can be rebuilt: each batch begins by
//! looking whether Redis still has what it acknowledged, and is only acknowledged itself if Redis was not emptied
//! while it was written.

use std::collections::BTreeMap;
use std::time::Duration;

use hashbrown::HashMap;
use reckon_schemas::cell::Rollup;
use reckon_schemas::redis_keys::{self, Change, Progress};
use reckon_schemas::time::{EventTime, MICROS_PER_SECOND};
use reckon_schemas::window::{Grain, PerGrain, Window};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Script};
use uuid::Uuid;

use super::history::History;
use super::redis_cells::{CellContent, CellWriter, Group, Lost};
use super::{Flushed, Outcome, PartitionFlush, SinkError};
use crate::worker::windows::{FreshCell, FreshUsers};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// A push that names more windows than this is split.
const WINDOWS_MAX: usize = 500;

type ChangedWindow = (Grain, EventTime, String, String);

/// Which windows of which tenant changed.
type Changes<'a> = BTreeMap<&'a str, Vec<ChangedWindow>>;

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

    /// Writes a batch. Everything but the push is a versioned absolute value, or a piece of one on top of what Redis is known
    /// to have, so writing it again changes nothing.
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
        let Ok(changes) = self.write_cells(&connection, &found.epoch, &kept).await? else {
            flushed.extend(kept.iter().map(|part| part.done(Outcome::Lost)));
            return Ok(flushed);
        };
        self.note_events(&mut connection, &changes).await?;
        let same_epoch = self.write_progress(&mut connection, &found.epoch, &kept).await?;
        let outcome = |part: &PartitionFlush| match same_epoch {
            true => Outcome::Acknowledged(part.next_offset),
            false => Outcome::Lost,
        };
        flushed.extend(kept.iter().map(|part| part.done(outcome(part))));
        self.push(&mut connection, &kept, changes).await?;
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

    /// Writes the cells, and those of the past where a partition is rebuilt. The result: which windows changed.
    async fn write_cells<'p>(
        &self,
        connection: &MultiplexedConnection,
        epoch: &str,
        parts: &[&'p PartitionFlush],
    ) -> Result<Result<Changes<'p>, Lost>, SinkError> {
        let now = EventTime::from_timestamp(jiff::Timestamp::now());
        let epoch = (redis_keys::epoch(&self.topic), epoch);
        let mut writer = CellWriter::new(&self.cells, connection.clone(), &self.retention, now, epoch);
        let mut changes = Changes::new();
        for (group, cells) in groups(parts, |window| writer.keeps(window)) {
            writer.add(&group, &cells).await?;
            let Group { tenant, rollup, event, window } = group;
            let changed = (window.grain, window.start, rollup.to_owned(), event.to_owned());
            changes.entry(tenant).or_default().push(changed);
        }
        for part in parts {
            for top in &part.tops {
                writer.add_top(top, part.partition, part.next_offset).await?;
            }
            if part.rebuild.is_some_and(|rebuild| rebuild.from_history) {
                let restored = self.restore_past(&mut writer, part.partition, now).await?;
                tracing::info!(partition = part.partition, restored, "rebuilt Redis from memory and ClickHouse");
            }
        }
        Ok(writer.finish().await?.map(|()| changes))
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
                let group = Group { tenant, rollup, event, window: cell.window };
                let (version, values, measures) = (cell.version, &cell.values, &cell.measures);
                let users = FreshUsers::whole(&measures.users);
                let (count, sums) = (measures.count, &measures.sums);
                let content = CellContent { partition, version, values, count, sums, users: &users };
                writer.add(&group, &[content]).await?;
                restored += 1;
            }
        }
        Ok(restored)
    }

    /// Notes the names of the events that were counted, for questions about events of any name.
    async fn note_events(
        &self,
        connection: &mut MultiplexedConnection,
        changes: &Changes<'_>,
    ) -> Result<(), SinkError> {
        let mut names: BTreeMap<(&str, &str), i64> = BTreeMap::new();
        for (tenant, windows) in changes {
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
                caught_up_at_ms: Some(part.caught_up_at_ms),
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
        changes: Changes<'_>,
    ) -> Result<(), SinkError> {
        let log_time_ms = parts.iter().map(|part| part.log_time_ms).max().unwrap_or(0);
        let mut pushes = redis::pipe();
        for (tenant, windows) in changes {
            for windows in windows.chunks(WINDOWS_MAX) {
                let change = Change { seq: 0, log_time_ms, windows: windows.to_vec() };
                let json = serde_json::to_string(&change).expect("plain data");
                let rest = json.strip_prefix(r#"{"seq":0"#).expect("fields are written in the order declared");
                let mut invocation = self.push.prepare_invoke();
                invocation.key(redis_keys::sequence(tenant)).arg(redis_keys::changes_channel(tenant)).arg(rest);
                pushes.invoke_script(&invocation).ignore();
            }
        }
        if pushes.is_empty() { Ok(()) } else { Ok(pushes.query_async(connection).await?) }
    }
}

/// The cells by the hash that they are in, whichever partitions they are of; those that are kept, tenant by tenant.
fn groups<'p>(parts: &[&'p PartitionFlush], keeps: impl Fn(&Window) -> bool) -> Vec<(Group<'p>, Vec<CellContent<'p>>)> {
    let mut groups: HashMap<Group<'p>, Vec<CellContent<'p>>> = HashMap::new();
    for part in parts {
        let (partition, version) = (part.partition, part.next_offset);
        for FreshCell { series, window, count, sums, users } in part.cells.iter().filter(|cell| keeps(&cell.window)) {
            let (tenant, rollup, event) = (series.tenant.as_str(), series.rollup.as_str(), series.event.as_str());
            let content = CellContent { partition, version, values: &series.values, count: *count, sums, users };
            groups.entry(Group { tenant, rollup, event, window: *window }).or_default().push(content);
        }
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_unstable_by_key(|(group, _)| *group);
    groups
}

impl Found {
    /// Whether Redis has less of the partition than it acknowledged, and this batch does not bring it all back.
    fn lacks(&self, part: &PartitionFlush) -> bool {
        let found = self.next_offsets.get(&part.partition).copied();
        part.rebuild.is_none() && found < part.acknowledged
    }
}
