//! The way into ClickHouse: one block at a time, repeated until it is acknowledged, and after it how far that is. Whoever
//! reads the progress finds the rows of everything below it.

use std::sync::mpsc::Sender;
use std::time::Duration;

use clickhouse::{Client, Row};
use reckon_schemas::stores::ClickHouse;
use serde::Serialize;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use super::block::Block;
use super::columns::Columns;
use crate::patience::Patience;

const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a block may take to be sorted and written, before it is asked again whether it is there.
const END_TIMEOUT: Duration = Duration::from_secs(120);
const PIECE_BYTES: usize = 1024 * 1024;

/// What is written one after the other.
#[derive(Debug)]
pub(crate) struct Batch {
    /// `None` if nothing happened, which is worth telling.
    pub(crate) block: Option<Block>,
    pub(crate) reached: Vec<Reached>,
}

/// How far a partition is with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    pub(crate) partition: i32,
    /// Everything below it is in the table.
    pub(crate) next_offset: i64,
    /// Up to when everything that the log has received is below `next_offset`.
    pub(crate) caught_up_at_ms: i64,
}

/// A row of `raw_progress`.
#[derive(Serialize, Row)]
struct ProgressRow<'a> {
    topic: &'a str,
    partition: i32,
    next_offset: u64,
    caught_up_at: i64,
    written_at: i64,
}

/// Writes batches.
pub(crate) struct Writer {
    client: Client,
    topic: String,
    statement: String,
    deduplicate: bool,
}

impl Writer {
    pub(crate) fn new(store: &ClickHouse, topic: String, deduplicate: bool) -> Self {
        // One request must be one block of the table: a token names the n-th block of a request, so that cutting the
        // same rows elsewhere would make it name other ones.
        let whole = [("max_insert_block_size", "1000000000"), ("min_insert_block_size_rows", "1000000000")];
        let mut client = Client::default()
            .with_url(&store.url)
            .with_database(&store.database)
            .with_setting("min_insert_block_size_bytes", "0")
            // An acknowledgement must mean that the rows are in the table.
            .with_setting("async_insert", "0")
            // A log that is read from long ago has records of many days.
            .with_setting("max_partitions_per_insert_block", "0")
            // Looking for second rows of a key within the block would take three times as long as everything else; the
            // table's merges and its view do it anyway.
            .with_setting("optimize_on_insert", "0")
            .with_setting("insert_deduplicate", if deduplicate { "1" } else { "0" })
            .with_setting("deduplicate_insert", if deduplicate { "enable" } else { "disable" });
        for (name, value) in whole {
            client = client.with_setting(name, value);
        }
        if let Some(user) = &store.user {
            client = client.with_user(user);
        }
        if let Some(password) = &store.password {
            client = client.with_password(password);
        }
        Self { client, topic, statement: Columns::statement(), deduplicate }
    }

    /// Takes batches until there are no more, or until `stop`, which abandons the one under way.
    pub(crate) async fn run(self, mut batches: Receiver<Batch>, acknowledged: Sender<()>, stop: CancellationToken) {
        let mut patience = Patience::with("clickhouse, raw events");
        let mut is_silent = false;
        while let Some(Batch { block, reached }) = batches.recv().await {
            let work = async {
                if let Some(block) = block.filter(|block| block.rows > 0) {
                    self.persist(&block, &mut patience).await;
                }
                self.tell(&reached, &mut is_silent).await;
            };
            if stop.run_until_cancelled(work).await.is_none() || acknowledged.send(()).is_err() {
                return;
            }
        }
    }

    async fn persist(&self, block: &Block, patience: &mut Patience) {
        loop {
            match self.write(block).await {
                Ok(()) => return patience.answered(),
                // Whether it was taken or not: the same bytes under the same token are taken once.
                Err(error) => patience.wait_after(&error).await,
            }
        }
    }

    async fn write(&self, block: &Block) -> Result<(), clickhouse::error::Error> {
        let mut insert =
            self.client.insert_formatted_with(&*self.statement).with_timeouts(Some(SEND_TIMEOUT), Some(END_TIMEOUT));
        if self.deduplicate {
            insert = insert.with_setting("insert_deduplication_token", &*block.token);
        }
        for piece in &block.pieces {
            for start in (0..piece.len()).step_by(PIECE_BYTES) {
                insert.send(piece.slice(start..piece.len().min(start + PIECE_BYTES))).await?;
            }
        }
        insert.end().await
    }

    /// Writes how far partitions are. It is not repeated, because newer progress follows: until then readers take what is
    /// there for missing, never what is missing for there.
    async fn tell(&self, reached: &[Reached], is_silent: &mut bool) {
        match self.write_progress(reached).await {
            Ok(()) => *is_silent = false,
            Err(error) if !std::mem::replace(is_silent, true) => {
                tracing::warn!(%error, "how far raw events are could not be written; answers take them for missing until it can");
            }
            Err(_) => {}
        }
    }

    async fn write_progress(&self, reached: &[Reached]) -> Result<(), clickhouse::error::Error> {
        let written_at = jiff::Timestamp::now().as_millisecond();
        let insert = self.client.insert::<ProgressRow<'_>>("raw_progress").await?;
        let mut insert = insert.with_timeouts(Some(SEND_TIMEOUT), Some(SEND_TIMEOUT));
        for Reached { partition, next_offset, caught_up_at_ms } in reached {
            let row = ProgressRow {
                topic: &self.topic,
                partition: *partition,
                next_offset: u64::try_from(*next_offset).expect("offsets of the log begin at 0"),
                caught_up_at: *caught_up_at_ms,
                written_at,
            };
            insert.write(&row).await?;
        }
        insert.end().await
    }
}
