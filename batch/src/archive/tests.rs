//! What the archive promises of its one step, tried on a lake in a folder, without a log.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type};
use datafusion::prelude::SessionContext;
use deltalake::DeltaTable;
use reckon_schemas::stores;
use reckon_schemas::time::EventTime;

use super::append::{AppendError, Appender, Block};
use super::event_rows::EventRows;
use super::pending::Pending;
use super::record::Record;
use super::tuning::Tuning;
use crate::lake::{self, Lake};

const TOPIC: &str = "events";

/// Writes event messages, given with their partition and offset, into the table of events, as the archive would.
pub(crate) async fn archive_messages(store: &stores::Lake, topic: &str, messages: &[(i32, i64, Vec<u8>)]) {
    let lake = Lake::open(store).await.expect("the lake");
    let mut appender = Appender::open(lake.events().await.expect("the table"), topic).await.expect("its progress");
    let block = block_of(appender.progress(), messages);
    appender.append(&block).await.expect("appended");
}

fn block_of(progress: &BTreeMap<i32, i64>, messages: &[(i32, i64, Vec<u8>)]) -> Block {
    let mut pending = Pending::<EventRows>::new(progress, &Tuning::default());
    for (partition, offset, payload) in messages {
        let (partition, offset) = (*partition, *offset);
        let log_time = EventTime(1_700_000_000_000_000 + offset);
        pending.push(&Record { partition, offset, log_time, traceparent: None, payload: Some(payload) });
    }
    pending.take().expect("at least one message")
}

struct Folder {
    dir: tempfile::TempDir,
    store: stores::Lake,
}

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let store = stores::Lake::at(format!("file://{}", dir.path().display()));
        Self { dir, store }
    }

    async fn table(&self) -> DeltaTable {
        Lake::open(&self.store).await.expect("the lake").events().await.expect("the table")
    }

    async fn appender(&self) -> Appender {
        Appender::open(self.table().await, TOPIC).await.expect("the progress")
    }

    /// Every (partition, offset) in the table, sorted, as often as it is there.
    async fn offsets(&self) -> Vec<(i32, i64)> {
        let provider = self.table().await.table_provider().await.expect("a provider");
        let rows = SessionContext::new().read_table(provider).expect("a table");
        let rows = rows.select_columns(&["partition", "offset"]).expect("both columns");
        let mut offsets = Vec::new();
        for batch in rows.collect().await.expect("the rows") {
            let partitions = batch.column(0).as_primitive::<Int32Type>().values().to_vec();
            offsets.extend(partitions.into_iter().zip(batch.column(1).as_primitive::<Int64Type>().values().to_vec()));
        }
        offsets.sort_unstable();
        offsets
    }
}

/// Messages that are no events: which offset they have is all that matters here.
fn block(appender: &Appender, partition: i32, offsets: std::ops::Range<i64>) -> Block {
    let messages: Vec<_> = offsets.map(|offset| (partition, offset, b"{}".to_vec())).collect();
    block_of(appender.progress(), &messages)
}

fn all(partition: i32, offsets: std::ops::Range<i64>) -> Vec<(i32, i64)> {
    offsets.map(|offset| (partition, offset)).collect()
}

#[tokio::test]
async fn rows_and_progress_enter_together_and_survive_a_reload() {
    let folder = Folder::new();
    let mut appender = folder.appender().await;
    assert!(appender.progress().is_empty());
    appender.append(&block(&appender, 2, 5..9)).await.expect("appended");
    appender.append(&block(&appender, 0, 0..3)).await.expect("appended");
    appender.append(&block(&appender, 2, 9..12)).await.expect("appended");
    let table = folder.table().await;
    assert_eq!(lake::version(&table), 3, "one version a block");
    let progress = lake::progress(&table, TOPIC).await.expect("progress");
    assert_eq!(progress, BTreeMap::from([(0, 3), (2, 12)]));
    assert_eq!(lake::progress(&table, "another").await.expect("progress"), BTreeMap::new());
    assert_eq!(folder.offsets().await, [all(0, 0..3), all(2, 5..12)].concat());
}

#[tokio::test]
async fn a_block_that_is_there_already_is_not_written_again() {
    let folder = Folder::new();
    let (mut first, mut second) = (folder.appender().await, folder.appender().await);
    let block = block(&first, 0, 0..4);
    first.append(&block).await.expect("appended");
    // As after a commit whose answer was lost: the writer does not know that the block landed.
    second.append(&block).await.expect("found there");
    assert_eq!(second.progress(), first.progress());
    assert_eq!(folder.offsets().await, all(0, 0..4));
    assert_eq!(lake::version(&folder.table().await), 1);
}

#[tokio::test]
async fn a_second_archiver_gets_the_conflict() {
    let folder = Folder::new();
    let (mut first, mut second) = (folder.appender().await, folder.appender().await);
    first.append(&block(&first, 0, 0..4)).await.expect("appended");
    let longer = second.append(&block(&second, 0, 0..7)).await.expect_err("the table moved");
    assert!(matches!(longer, AppendError::Conflict { partition: 0, expected: None, found: Some(4) }), "{longer}");
    let elsewhere = second.append(&block(&second, 1, 0..7)).await.expect_err("the table moved");
    assert!(matches!(elsewhere, AppendError::Conflict { partition: 0, .. }), "{elsewhere}");
    assert_eq!(folder.offsets().await, all(0, 0..4), "nothing of the second one's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_racing_archivers_exactly_one_wins_each_round() {
    let folder = Folder::new();
    let mut winners = BTreeSet::new();
    for round in 0..5 {
        let mut appenders = Vec::new();
        for _ in 0..6 {
            appenders.push(folder.appender().await);
        }
        let mut race = tokio::task::JoinSet::new();
        for (racer, mut appender) in (0_i64..).zip(appenders) {
            // Some share a partition, some do not; no two blocks end at the same offset.
            let partition = i32::try_from(racer % 3).expect("small");
            let start = appender.progress().get(&partition).copied().unwrap_or(0);
            let block = block(&appender, partition, start..start + 1 + racer);
            race.spawn(async move { (racer, appender.append(&block).await) });
        }
        let results = race.join_all().await;
        let won: Vec<i64> = results.iter().filter(|(_, result)| result.is_ok()).map(|(racer, _)| *racer).collect();
        assert_eq!(won.len(), 1, "round {round}: {results:?}");
        assert!(results.iter().all(|(_, result)| matches!(result, Ok(()) | Err(AppendError::Conflict { .. }))));
        winners.extend(won);
    }
    let progress = lake::progress(&folder.table().await, TOPIC).await.expect("progress");
    let expected: Vec<_> = progress.into_iter().flat_map(|(partition, next)| all(partition, 0..next)).collect();
    assert_eq!(folder.offsets().await, expected, "winners: {winners:?}");
}

#[tokio::test]
async fn progress_survives_checkpoints_and_compaction() {
    let folder = Folder::new();
    let mut appender = folder.appender().await;
    appender.append(&block(&appender, 1, 0..2)).await.expect("appended");
    for offset in 0..25 {
        appender.append(&block(&appender, 0, offset..offset + 1)).await.expect("appended");
    }
    let log = folder.dir.path().join("lake/events/_delta_log");
    let checkpoints = std::fs::read_dir(log)
        .expect("the log")
        .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().contains("checkpoint.")))
        .count();
    assert_eq!(checkpoints, 1, "after 20 versions");
    let (_, compacted) = folder.table().await.optimize().await.expect("compacted");
    assert!(compacted.num_files_removed > 20, "{compacted:?}");
    // Compaction is another writer, but none of records: the archiver goes on without a conflict.
    appender.append(&block(&appender, 0, 25..27)).await.expect("appended");
    let progress = lake::progress(&folder.table().await, TOPIC).await.expect("progress");
    assert_eq!(progress, BTreeMap::from([(0, 27), (1, 2)]));
    assert_eq!(folder.offsets().await, [all(0, 0..27), all(1, 0..2)].concat());
}

#[tokio::test]
async fn a_lake_that_is_away_is_waited_for() {
    let folder = Folder::new();
    let mut appender = folder.appender().await;
    let (here, away) = (folder.dir.path().join("lake"), folder.dir.path().join("away"));
    std::fs::rename(&here, &away).expect("taken away");
    let block = block(&appender, 0, 0..4);
    let append = appender.append(&block);
    tokio::pin!(append);
    let waited = tokio::time::timeout(Duration::from_millis(500), &mut append).await;
    assert!(waited.is_err(), "neither an error nor done: {waited:?}");
    std::fs::rename(&away, &here).expect("brought back");
    append.await.expect("appended after all");
    assert_eq!(folder.offsets().await, all(0, 0..4));
}

#[tokio::test]
async fn events_are_read_back_as_they_were_and_filed_by_tenant_and_date() {
    let folder = Folder::new();
    let good = include_bytes!("../../../schemas/fixtures/event.v2.json").to_vec();
    archive_messages(&folder.store, TOPIC, &[(0, 0, good), (0, 1, b"\xff\xfe".to_vec())]).await;
    let provider = folder.table().await.table_provider().await.expect("a provider");
    let context = SessionContext::new();
    context.register_table("events", provider).expect("registered");
    let sql = "select tenant, event_date = cast(coalesce(occurred_at, log_time) as date) as dated, \
               properties['department'] as department, raw is not null as has_raw, problem is not null as has_problem \
               from events order by \"offset\"";
    let rows = context.sql(sql).await.expect("planned").collect().await.expect("rows");
    let text = arrow::util::pretty::pretty_format_batches(&rows).expect("printed").to_string();
    assert!(text.contains("| GROCERY"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("| __unreadable") && line.matches("true").count() == 3), "{text}");
    assert!(!text.contains("| false | GROCERY"), "{text}");
}
