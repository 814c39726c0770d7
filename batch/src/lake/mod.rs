//! The lake's two Delta tables: opened, made where they are missing, read at a version, and asked how far the log is
//! in them. What their columns are is said in [`reckon_schemas::lake`]; who writes them is [`crate::archive`] alone.

mod blame;
mod error;
mod progress;
mod s3;
mod schema;
mod seal;
mod upkeep;

use deltalake::DeltaTable;
use deltalake::kernel::transaction::CommitProperties;
use deltalake::protocol::SaveMode;
use reckon_schemas::lake::{Column, EVENTS_COLUMNS, EVENTS_TABLE, PARTITION_COLUMNS, REJECTED_COLUMNS, REJECTED_TABLE};
use reckon_schemas::stores;

pub(crate) use self::blame::blame;
pub use self::error::LakeError;
pub use self::progress::progress;
pub(crate) use self::progress::{progress_transactions, transaction_version};
pub use self::schema::arrow_schema;
pub(crate) use self::seal::{check as check_files, check_one as check_file, files, seal};
pub use self::upkeep::{Compacted, KEEP_MIN, Vacuumed};

/// The two tables, as they were when the lake was opened.
#[derive(Clone, Debug)]
pub struct Lake {
    events: DeltaTable,
    rejected: DeltaTable,
}

impl Lake {
    /// Opens both tables and makes those that do not exist yet. Several processes may do so at once: one of them makes
    /// a table, the others find it.
    ///
    /// # Errors
    /// [`LakeError::Location`] if the URL is of no use, [`LakeError::Unavailable`] if the store cannot be reached,
    /// [`LakeError::Incompatible`] if a table is there but has other columns.
    pub async fn open(store: &stores::Lake) -> Result<Self, LakeError> {
        Ok(Self {
            events: open_table(store, EVENTS_TABLE, EVENTS_COLUMNS).await?,
            rejected: open_table(store, REJECTED_TABLE, REJECTED_COLUMNS).await?,
        })
    }

    /// The table of events at its newest version.
    ///
    /// # Errors
    /// [`LakeError::Unavailable`] if the store cannot be reached.
    pub async fn events(&self) -> Result<DeltaTable, LakeError> {
        newest(&self.events).await
    }

    /// The table of events at a version that it had before: what a settlement was counted from.
    ///
    /// # Errors
    /// [`LakeError::Unavailable`] if the store cannot be reached or the version is no longer kept.
    pub async fn events_at(&self, version: u64) -> Result<DeltaTable, LakeError> {
        let mut table = self.events.clone();
        table.load_version(version).await.map_err(|error| LakeError::of(EVENTS_TABLE, error))?;
        Ok(table)
    }

    /// The table of rejected items at its newest version.
    ///
    /// # Errors
    /// [`LakeError::Unavailable`] if the store cannot be reached.
    pub async fn rejected(&self) -> Result<DeltaTable, LakeError> {
        newest(&self.rejected).await
    }
}

/// The version that a table was loaded at.
#[must_use]
pub fn version(table: &DeltaTable) -> u64 {
    table.version().expect("tables are handed out only after they were loaded")
}

async fn newest(table: &DeltaTable) -> Result<DeltaTable, LakeError> {
    let mut table = table.clone();
    table.update_state().await.map_err(|error| LakeError::of(table.table_url().path(), error))?;
    Ok(table)
}

async fn open_table(store: &stores::Lake, name: &'static str, columns: &[Column]) -> Result<DeltaTable, LakeError> {
    let location = format!("{}/{name}", store.url.trim_end_matches('/'));
    let not_usable =
        |error: deltalake::DeltaTableError| LakeError::Location { url: store.url.clone(), reason: error.to_string() };
    s3::register();
    let url = deltalake::ensure_table_uri(&location).map_err(not_usable)?;
    let options = store.options().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let builder = deltalake::DeltaTableBuilder::from_url(url).map(|builder| builder.with_storage_options(options));
    let mut table = builder.and_then(deltalake::DeltaTableBuilder::build).map_err(not_usable)?;
    if !table.verify_deltatable_existence().await.map_err(|error| LakeError::of(name, error))? {
        create(&table, name, columns).await?;
    }
    table.load().await.map_err(|error| LakeError::of(name, error))?;
    schema::check(&table, name, columns)?;
    Ok(table)
}

async fn create(table: &DeltaTable, name: &'static str, columns: &[Column]) -> Result<(), LakeError> {
    let created = table
        .create()
        .with_columns(schema::delta_fields(columns))
        .with_partition_columns(PARTITION_COLUMNS)
        .with_save_mode(SaveMode::Ignore)
        .with_configuration(schema::configuration(columns))
        // Without this, the loser of a race would write a second set of metadata over the winner's.
        .with_commit_properties(CommitProperties::default().with_max_retries(0))
        .await;
    match created.map_err(|error| LakeError::of(name, error)) {
        Ok(_) | Err(LakeError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(dir: &tempfile::TempDir) -> stores::Lake {
        stores::Lake::at(format!("file://{}", dir.path().display()))
    }

    #[tokio::test]
    async fn opening_makes_the_tables_once_even_in_a_race() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = store(&dir);
        let opened = futures::future::join_all((0..8).map(|_| Lake::open(&store))).await;
        let ids: std::collections::BTreeSet<String> = opened
            .into_iter()
            .map(|lake| lake.expect("opened").events)
            .map(|table| {
                assert_eq!(version(&table), 0);
                table.snapshot().expect("loaded").metadata().id().to_owned()
            })
            .collect();
        assert_eq!(ids.len(), 1, "one table, made once");
        let again = Lake::open(&store).await.expect("opened again");
        assert_eq!(version(&again.events().await.expect("events")), 0);
        assert_eq!(version(&again.rejected().await.expect("rejected")), 0);
    }

    #[tokio::test]
    async fn a_table_with_other_columns_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = store(&dir);
        open_table(&store, EVENTS_TABLE, REJECTED_COLUMNS).await.expect("made with other columns");
        let error = Lake::open(&store).await.expect_err("not the table of events");
        assert!(matches!(error, LakeError::Incompatible { table: EVENTS_TABLE, .. }), "{error}");
    }

    #[tokio::test]
    async fn an_unknown_scheme_is_named() {
        let error = Lake::open(&stores::Lake::at("gopher://x/y")).await.expect_err("no such store");
        assert!(error.to_string().contains("gopher://x/y"), "{error}");
        assert!(matches!(error, LakeError::Location { .. }), "{error}");
    }
}
