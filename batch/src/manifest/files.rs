//! The lake's files that a run read, with their checksums.

use std::collections::HashMap;

use deltalake::DeltaTable;
use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use reckon_schemas::ids::TenantId;
use sha2::{Digest, Sha256};

use super::LakeFile;
use crate::lake::LakeError;
use crate::objects::ObjectError;

/// A tenant's files at the table's loaded version, by path. Files never change, so what an earlier manifest lists
/// is not read again: the cost follows what is new.
///
/// # Errors
/// [`LakeError::Unavailable`] if the table or a file cannot be read.
pub(crate) async fn files_of(
    table: &DeltaTable,
    tenant: &TenantId,
    earlier: &[LakeFile],
) -> Result<Vec<LakeFile>, LakeError> {
    let known: HashMap<(&str, u64), &str> =
        earlier.iter().map(|file| ((file.path.as_str(), file.bytes), file.sha256.as_str())).collect();
    let unreadable = |error: &dyn std::fmt::Display| LakeError::Unavailable {
        table: table.table_url().to_string(),
        reason: error.to_string(),
    };
    let mut views = table.get_active_add_actions_by_partitions(&[]);
    let mut files = Vec::new();
    while let Some(view) = views.try_next().await.map_err(|error| unreadable(&error))? {
        let of = view.partition_values_map().remove("tenant").flatten();
        if of.as_deref() != Some(tenant.as_str()) {
            continue;
        }
        let path = view.object_store_path();
        let bytes = view.size().unsigned_abs();
        let sha256 = match known.get(&(path.as_ref(), bytes)) {
            Some(known) => (*known).to_owned(),
            None => checksum(table, path.as_ref()).await.map_err(|error| unreadable(&error))?.1,
        };
        files.push(LakeFile { path: path.to_string(), bytes, sha256 });
    }
    files.sort_unstable_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}

/// The length of a file of the table, and its SHA-256.
///
/// # Errors
/// [`ObjectError::Unavailable`] if it cannot be read.
pub(crate) async fn checksum(table: &DeltaTable, path: &str) -> Result<(u64, String), ObjectError> {
    let failed = |error: &dyn std::fmt::Display| ObjectError::Unavailable {
        doing: "read",
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let store = table.log_store().object_store(None);
    let location = Path::parse(path).map_err(|error| failed(&error))?;
    let mut stream = store.get(&location).await.map_err(|error| failed(&error))?.into_stream();
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    while let Some(part) = stream.next().await {
        let part = part.map_err(|error| failed(&error))?;
        bytes += part.len() as u64;
        hash.update(&part);
    }
    Ok((bytes, hex::encode(hash.finalize())))
}
