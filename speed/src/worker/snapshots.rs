//! Snapshots in the object store: `snapshots/<topic>/<partition>/<next offset, 20 digits>`, the newest two of each
//! partition. One is written only after both sinks have acknowledged everything below its offset.

mod format;

use std::sync::Arc;
use std::time::Instant;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use reckon_schemas::stores::Lake;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use super::lane::Reporter;
use super::sinks::Report;
use super::telemetry;
use super::windows::PartitionState;

/// How many snapshots of a partition are kept: the newest, and one to fall back to.
const KEPT: usize = 2;
/// What a snapshot that cannot be read is renamed to, so that it is neither used nor counted again.
const DAMAGED: &str = ".damaged";

/// The snapshots of one topic.
#[derive(Clone, Debug)]
pub(crate) struct Snapshots {
    store: Arc<dyn ObjectStore>,
    folder: Path,
}

/// A state to be written.
#[derive(Debug)]
pub(crate) struct Capture {
    pub(crate) partition: i32,
    pub(crate) claim: u64,
    pub(crate) next_offset: i64,
    /// [`PartitionState::to_bytes`].
    pub(crate) state: Vec<u8>,
}

/// What was found of a partition.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The newest state that can be read.
    pub(crate) state: Option<PartitionState>,
    /// How many newer ones could not.
    pub(crate) damaged: usize,
}

impl Snapshots {
    /// The snapshots below the lake's address.
    ///
    /// # Errors
    /// What is wrong with the address.
    pub(crate) fn open(lake: &Lake, topic: &str) -> Result<Self, String> {
        let url = lake.url.parse().map_err(|error| format!("{error}"))?;
        let (store, root) = object_store::parse_url_opts(&url, lake.options()).map_err(|error| error.to_string())?;
        Ok(Self { store: store.into(), folder: root.join("snapshots").join(topic) })
    }

    /// The newest readable state of a partition. Damaged ones are logged and set aside.
    pub(crate) async fn load(&self, partition: i32) -> Result<Found, object_store::Error> {
        let mut damaged = 0;
        for offset in self.offsets(partition).await?.into_iter().rev() {
            let path = self.path(partition, offset);
            let bytes = self.store.get(&path).await?.bytes().await?;
            match format::decode(&bytes) {
                Ok(state) => return Ok(Found { state: Some(state), damaged }),
                Err(problem) => {
                    tracing::error!(%path, %problem, "snapshot is damaged; using the one before");
                    self.store.rename(&path, &Path::from(format!("{path}{DAMAGED}"))).await?;
                    damaged += 1;
                }
            }
        }
        Ok(Found { state: None, damaged })
    }

    /// Writes captures as they come, and reports each. A store that is away costs nothing but a longer replay, so a
    /// failure is logged and left to the next capture.
    pub(crate) async fn run(self, mut captures: Receiver<Capture>, reporter: Reporter, stop: CancellationToken) {
        let mut failing = false;
        while let Some(capture) = captures.recv().await {
            let Capture { partition, claim, next_offset, .. } = capture;
            let (bytes, started) = (capture.state.len(), Instant::now());
            let Some(result) = stop.run_until_cancelled(self.save(capture)).await else { return };
            match &result {
                Err(error) if !failing => {
                    tracing::warn!(partition, next_offset, %error, "snapshot was not written; the one before stays valid");
                }
                Ok(()) if failing => tracing::info!(partition, next_offset, "snapshots are written again"),
                Ok(()) | Err(_) => {}
            }
            failing = result.is_err();
            if !failing {
                telemetry::report_snapshot(bytes, started.elapsed());
            }
            if !reporter.tell(Report::Saved { partition, claim, next_offset, stored: result.is_ok() }) {
                return;
            }
        }
    }

    async fn save(&self, capture: Capture) -> Result<(), object_store::Error> {
        let Capture { partition, next_offset, state, .. } = capture;
        let bytes = tokio::task::spawn_blocking(move || format::encode(&state)).await?;
        self.store.put(&self.path(partition, next_offset), bytes.into()).await?;
        // Only what is older: a newer one was written by whoever took the partition over.
        let mut older = self.offsets(partition).await?;
        older.retain(|offset| *offset <= next_offset);
        for offset in older.iter().rev().skip(KEPT) {
            self.store.delete(&self.path(partition, *offset)).await?;
        }
        Ok(())
    }

    /// The offsets of the snapshots that are there, ascending.
    async fn offsets(&self, partition: i32) -> Result<Vec<i64>, object_store::Error> {
        let folder = self.folder.clone().join(partition.to_string());
        let found: Vec<_> = self.store.list(Some(&folder)).try_collect().await?;
        let mut offsets: Vec<i64> =
            found.iter().filter_map(|object| object.location.filename()?.parse().ok()).collect();
        offsets.sort_unstable();
        Ok(offsets)
    }

    fn path(&self, partition: i32, next_offset: i64) -> Path {
        self.folder.clone().join(partition.to_string()).join(format!("{next_offset:020}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(next_offset: i64) -> Capture {
        let state = PartitionState::starting_at(next_offset).to_bytes();
        Capture { partition: 3, claim: 0, next_offset, state }
    }

    fn snapshots(folder: &std::path::Path) -> Snapshots {
        Snapshots::open(&Lake::at(format!("file://{}", folder.display())), "events").expect("a folder")
    }

    #[tokio::test]
    async fn the_newest_two_are_kept_and_a_damaged_one_is_passed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let snapshots = snapshots(folder.path());
        assert!(snapshots.load(3).await.expect("no error").state.is_none());
        for offset in [5, 70, 600] {
            snapshots.save(capture(offset)).await.expect("written");
        }
        assert_eq!(snapshots.offsets(3).await.expect("listed"), [70, 600]);

        let newest = folder.path().join("snapshots/events/3/00000000000000000600");
        let mut bytes = std::fs::read(&newest).expect("there");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&newest, bytes).expect("writable");
        let found = snapshots.load(3).await.expect("no error");
        assert_eq!((found.state.map(|state| state.next_offset()), found.damaged), (Some(70), 1));

        // The damaged one does not push out good ones that are older than it.
        snapshots.save(capture(90)).await.expect("written");
        assert_eq!(snapshots.offsets(3).await.expect("listed"), [70, 90]);
    }

    #[test]
    fn an_address_that_is_none_is_refused() {
        assert!(Snapshots::open(&Lake::at("nowhere"), "events").is_err());
        assert!(Snapshots::open(&Lake::at("ftp://x"), "events").is_err());
    }
}
