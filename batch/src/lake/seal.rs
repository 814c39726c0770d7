//! What the bytes of every file are, written into the table's log with the file, and checked before anything is counted.
//!
//! Parquet has checksums of pages, which the library does not write; and one flipped bit in a column of plain numbers is
//! another number. So the writer of a file reads it back once, and the commit that adds the file carries the checksum as
//! a tag. Files that a compaction writes are sealed right after it, those of older builds at the next compaction; a
//! compaction checks what it unites, so that it seals nothing that was damaged before.

use deltalake::DeltaTable;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake::kernel::{Action, Add};
use deltalake::protocol::DeltaOperation;
use futures::{StreamExt, TryStreamExt};
use jiff::civil::Date;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use reckon_schemas::ids::TenantId;
use xxhash_rust::xxh3::Xxh3;

use super::LakeError;

/// The tag of a file: XXH3 of 128 bits over its bytes, in hexadecimal.
const TAG: &str = "reckon.xxh3_128";
/// So many files are read at once.
const READS_MAX: usize = 4;
const COMMIT_RETRIES: usize = 3;

/// Writes into the entries of files that were just written, and are not part of the table yet, what their bytes are.
///
/// # Errors
/// [`LakeError::Unavailable`] if a file cannot be read back.
pub(crate) async fn seal(table: &DeltaTable, files: &mut [Add]) -> Result<(), LakeError> {
    for file in files {
        let sum = checksum(table, &location(table, &file.path)?).await?;
        file.tags.get_or_insert_default().insert(TAG.to_owned(), Some(sum));
    }
    Ok(())
}

/// Seals every file of the table that is not: a commit that says that no data changed. The table is loaded at the newest
/// version afterwards.
///
/// # Errors
/// [`LakeError`].
pub(super) async fn seal_all(table: &mut DeltaTable) -> Result<(), LakeError> {
    let mut open: Vec<Add> = files(table).await?.into_iter().filter(|file| seal_of(file).is_none()).collect();
    if open.is_empty() {
        return Ok(());
    }
    seal(table, &mut open).await?;
    let of = |error| LakeError::of(table.table_url().path(), error);
    let sealed = open.into_iter().map(|file| Action::Add(Add { data_change: false, ..file })).collect();
    let operation = DeltaOperation::Optimize { predicate: None, target_size: 0 };
    let committed = CommitBuilder::from(CommitProperties::default().with_max_retries(COMMIT_RETRIES))
        .with_actions(sealed)
        .build(Some(table.snapshot().map_err(of)?), table.log_store(), operation)
        .await
        .map_err(of)?;
    table.state = Some(committed.snapshot());
    Ok(())
}

/// Reads the files of a tenant, or of all, and compares them with what was written; returns how many were compared. Those
/// without a seal are taken as they are, and those filed under other dates than are `wanted` are left alone.
///
/// # Errors
/// [`LakeError::DamagedFile`] names the first file that is not as it was written.
pub(crate) async fn check(
    table: &DeltaTable,
    tenant: Option<&TenantId>,
    wanted: impl Fn(Date) -> bool,
) -> Result<u64, LakeError> {
    let is_asked = |file: &Add| {
        let of = file.partition_values.get("tenant").and_then(Option::as_deref);
        let date = file.partition_values.get("event_date").and_then(|date| date.as_deref()?.parse::<Date>().ok());
        date.is_none_or(&wanted) && tenant.is_none_or(|tenant| of == Some(tenant.as_str()))
    };
    let files: Vec<Add> = files(table).await?.into_iter().filter(is_asked).collect();
    let checks = files.into_iter().map(|file| async move { check_one(table, &file).await });
    let checked = futures::stream::iter(checks).buffer_unordered(READS_MAX);
    checked.try_fold(0, |sum, is_sealed| async move { Ok(sum + u64::from(is_sealed)) }).await
}

/// The same for one file; false if it has no seal.
///
/// # Errors
/// [`LakeError::DamagedFile`], also if it is gone: that does not pass, as a store does that is away.
pub(crate) async fn check_one(table: &DeltaTable, file: &Add) -> Result<bool, LakeError> {
    let Some(expected) = seal_of(file) else { return Ok(false) };
    let found = checksum(table, &location(table, &file.path)?).await?;
    if found == expected {
        return Ok(true);
    }
    let reason = format!("its checksum is {found} and was {expected}");
    Err(LakeError::DamagedFile { table: table.table_url().to_string(), file: file.path.clone(), reason })
}

fn seal_of(file: &Add) -> Option<String> {
    file.tags.as_ref()?.get(TAG).cloned().flatten()
}

/// The files of the table's loaded version, as its log describes them.
pub(crate) async fn files(table: &DeltaTable) -> Result<Vec<Add>, LakeError> {
    let of = |error| LakeError::of(table.table_url().path(), error);
    let views = table.get_active_add_actions_by_partitions(&[]);
    #[expect(deprecated, reason = "nothing else hands out the tags of a file")]
    let files = views.map_ok(|view| view.add_action()).try_collect().await;
    files.map_err(of)
}

fn location(table: &DeltaTable, path: &str) -> Result<Path, LakeError> {
    Path::parse(path)
        .map_err(|error| LakeError::Damaged { table: table.table_url().to_string(), reason: error.to_string() })
}

async fn checksum(table: &DeltaTable, location: &Path) -> Result<String, LakeError> {
    let failed = |error: object_store::Error| match error {
        object_store::Error::NotFound { .. } => LakeError::DamagedFile {
            table: table.table_url().to_string(),
            file: location.to_string(),
            reason: "it is gone".to_owned(),
        },
        error => LakeError::Unavailable { table: table.table_url().to_string(), reason: error.to_string() },
    };
    let store = table.log_store().object_store(None);
    let mut stream = store.get(location).await.map_err(failed)?.into_stream();
    let mut hash = Xxh3::new();
    while let Some(bytes) = stream.next().await {
        hash.update(&bytes.map_err(failed)?);
    }
    Ok(format!("{:032x}", hash.digest128()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use arrow::util::pretty::pretty_format_batches;
    use datafusion::prelude::SessionContext;
    use reckon_schemas::event::{EVENT_VERSION, Event, Properties, Source};
    use reckon_schemas::money::Money;
    use reckon_schemas::stores;
    use reckon_schemas::time::EventTime;

    use super::*;
    use crate::archive::tests::archive_messages;
    use crate::lake::Lake;

    fn message(number: i64) -> Vec<u8> {
        let event = Event {
            version: EVENT_VERSION,
            tenant: "acme".into(),
            id: format!("e{number}").into(),
            name: "sale".into(),
            occurred_at: EventTime(number * 1_000_000),
            received_at: EventTime(number * 1_000_000),
            user: format!("u{}", number % 50).into(),
            money: Some(Money { currency: "EUR".parse().expect("known"), minor: number }),
            properties: Properties::new(),
            source: Source::Native,
        };
        event.encode()
    }

    struct Scene {
        dir: tempfile::TempDir,
        lake: Lake,
    }

    impl Scene {
        async fn new(commits: i64) -> Self {
            let dir = tempfile::tempdir().expect("a folder");
            let store = stores::Lake::at(format!("file://{}", dir.path().display()));
            for commit in 0..commits {
                let messages: Vec<_> =
                    (commit * 300..(commit + 1) * 300).map(|number| (0, number, message(number))).collect();
                archive_messages(&store, "events", &messages).await;
            }
            let lake = Lake::open(&store).await.expect("the lake");
            Self { dir, lake }
        }

        async fn table(&self) -> DeltaTable {
            self.lake.events().await.expect("the table")
        }

        fn path(&self, file: &Add) -> PathBuf {
            self.dir.path().join("lake/events").join(&file.path)
        }

        /// What a recount reads, as text; none if it cannot be read.
        async fn read(&self, table: &DeltaTable) -> Option<String> {
            let provider = table.table_provider().await.ok()?;
            let rows = SessionContext::new().read_table(provider).ok()?;
            let columns = ["offset", "occurred_at", "amount_minor", "event_key_high", "event_key_low", "user_key_low"];
            let rows = rows.select_columns(&columns).ok()?;
            let read = tokio::spawn(async move { rows.collect().await.ok() });
            Some(pretty_format_batches(&read.await.ok()??).ok()?.to_string())
        }
    }

    /// And that somebody looks matters: without it many of the flips would be other numbers.
    #[tokio::test]
    async fn every_flipped_bit_is_noticed() {
        const FLIPS: usize = 300;
        let scene = Scene::new(1).await;
        let table = scene.table().await;
        assert_eq!(check(&table, None, |_| true).await.expect("as written"), 1);
        let as_written = scene.read(&table).await;
        let file = files(&table).await.expect("readable").remove(0);
        let bytes = std::fs::read(scene.path(&file)).expect("there");
        let (mut silent, last) = (0, bytes.len() - 1);
        for flip in 0..FLIPS {
            let place = if flip == 0 { last } else { flip * 7919 % bytes.len() };
            let mut flipped = bytes.clone();
            flipped[place] ^= 1 << (flip % 8);
            std::fs::write(scene.path(&file), flipped).expect("written");
            let found = check(&table, None, |_| true).await;
            let is_named = matches!(&found, Err(LakeError::DamagedFile { file: named, .. }) if *named == file.path);
            assert!(is_named, "byte {place}: {found:?}");
            if flip % 5 == 0 {
                let read = scene.read(&table).await;
                silent += usize::from(read.is_some() && read != as_written);
            }
        }
        assert!(silent > FLIPS / 5 / 10, "{silent} flips became other numbers");
        std::fs::write(scene.path(&file), &bytes[..last]).expect("written");
        assert!(matches!(check(&table, None, |_| true).await, Err(LakeError::DamagedFile { .. })), "a byte less");
        std::fs::remove_file(scene.path(&file)).expect("there");
        let gone = check(&table, None, |_| true).await.expect_err("it is gone");
        assert!(matches!(&gone, LakeError::DamagedFile { .. }) && gone.to_string().contains("it is gone"), "{gone}");
    }

    #[tokio::test]
    async fn what_a_compaction_writes_is_sealed_and_damage_is_not_united() {
        let scene = Scene::new(3).await;
        let file = files(&scene.table().await).await.expect("readable").remove(0);
        let bytes = std::fs::read(scene.path(&file)).expect("there");
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 1;
        std::fs::write(scene.path(&file), flipped).expect("written");
        assert!(matches!(scene.lake.compact().await, Err(LakeError::DamagedFile { .. })));
        std::fs::write(scene.path(&file), bytes).expect("written");
        assert_eq!(scene.lake.compact().await.expect("united")[0].files_added, 1);
        let table = scene.table().await;
        assert_eq!(check(&table, None, |_| true).await.expect("as written"), 1);
        let of = |tenant: &str| tenant.parse::<TenantId>().expect("valid");
        assert_eq!(check(&table, Some(&of("acme")), |_| true).await.expect("as written"), 1);
        assert_eq!(check(&table, Some(&of("other")), |_| true).await.expect("nothing"), 0);
        // Every row is still there, once.
        assert_eq!(scene.read(&table).await.map(|text| text.lines().count()), Some(900 + 4));
    }
}
