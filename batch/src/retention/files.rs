//! Removing the files of what has expired: those that a vacuum keeps for versions that were counted, too.

use std::time::Duration;

use deltalake::DeltaTable;
use futures::TryStreamExt;
use hashbrown::HashSet;
use jiff::Timestamp;
use jiff::civil::Date;
use object_store::{ObjectStore, ObjectStoreExt};
use reckon_schemas::lake::{EVENTS_TABLE, REJECTED_TABLE};
use reckon_schemas::stores;

use super::record;
use crate::Error;
use crate::lake::{KEEP_MIN, Lake, LakeError};
use crate::objects::Objects;

/// The date that a file of a table is filed under, by its path.
pub(crate) fn date_of(path: &str) -> Option<Date> {
    path.split('/').find_map(|part| part.strip_prefix("event_date=")?.parse().ok())
}

/// Removes the files of dates that expired at least `keep` ago, and no less than [`KEEP_MIN`]; says how many, table by
/// table. Versions of before then miss them.
///
/// # Errors
/// [`Error::Retryable`] if the store is away, [`Error::Broken`] if a record of what expired cannot be read.
pub async fn remove_files(
    store: &stores::Lake,
    keep: Duration,
    now: Timestamp,
    dry_run: bool,
) -> Result<Vec<usize>, Error> {
    let (lake, objects) = (Lake::open(store).await?, Objects::open(store)?);
    let keep_us = i64::try_from(keep.max(KEEP_MIN).as_micros()).unwrap_or(i64::MAX);
    let until = now.as_microsecond().saturating_sub(keep_us);
    let mut removed = Vec::new();
    for (name, table) in [(EVENTS_TABLE, lake.events().await?), (REJECTED_TABLE, lake.rejected().await?)] {
        let records = record::records(&objects, name, &table).await?;
        let old = records.iter().filter(|record| record.at.as_microsecond() <= until);
        removed.push(match old.map(|record| record.before).max() {
            None => 0,
            Some(before) => remove(name, &table, before, until, dry_run).await?,
        });
    }
    Ok(removed)
}

/// Removes the files of dates before a border, but those that the table has again, for records that came after it.
async fn remove(name: &str, table: &DeltaTable, before: Date, until_us: i64, dry_run: bool) -> Result<usize, Error> {
    let mut views = table.get_active_add_actions_by_partitions(&[]);
    let mut current = HashSet::new();
    while let Some(view) = views.try_next().await.map_err(|error| LakeError::of(name, error))? {
        current.insert(view.object_store_path());
    }
    let failed = |error: object_store::Error| LakeError::Unavailable {
        table: name.to_owned(),
        reason: format!("what has expired cannot be removed: {error}"),
    };
    let store = table.log_store().object_store(None);
    let mut listed = store.list(None);
    let mut files = 0;
    while let Some(file) = listed.try_next().await.map_err(failed)? {
        let expired = date_of(file.location.as_ref()).is_some_and(|date| date < before);
        // A younger one may belong to an archiver that has written and not committed it.
        if !expired || current.contains(&file.location) || file.last_modified.timestamp_micros() > until_us {
            continue;
        }
        files += 1;
        if !dry_run {
            store.delete(&file.location).await.map_err(failed)?;
        }
    }
    Ok(files)
}
