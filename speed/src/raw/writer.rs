//! The way into ClickHouse: one block at a time, repeated until it is acknowledged.

use std::sync::mpsc::Sender;
use std::time::Duration;

use clickhouse::Client;
use reckon_schemas::stores::ClickHouse;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use super::block::Block;
use super::columns::Columns;
use crate::patience::Patience;

const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a block may take to be sorted and written, before it is asked again whether it is there.
const END_TIMEOUT: Duration = Duration::from_secs(120);
const PIECE_BYTES: usize = 1024 * 1024;

/// Writes blocks.
pub(crate) struct Writer {
    client: Client,
    statement: String,
    deduplicate: bool,
}

impl Writer {
    pub(crate) fn new(store: &ClickHouse, deduplicate: bool) -> Self {
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
        Self { client, statement: Columns::statement(), deduplicate }
    }

    /// Takes blocks until there are no more, or until `stop`, which abandons the one under way.
    pub(crate) async fn run(self, mut blocks: Receiver<Block>, acknowledged: Sender<()>, stop: CancellationToken) {
        let mut patience = Patience::with("clickhouse, raw events");
        while let Some(block) = blocks.recv().await {
            let written = stop.run_until_cancelled(self.persist(&block, &mut patience)).await;
            if written.is_none() || acknowledged.send(()).is_err() {
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
}
