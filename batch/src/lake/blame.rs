//! Whether a file is to blame for what could not be read.

use std::panic::AssertUnwindSafe;

use deltalake::DeltaTable;
use futures::FutureExt;
use reckon_schemas::ids::TenantId;

use super::check_files;
use crate::Error;

/// Why work that reads a tenant's rows failed: if it was because a file is damaged, that. A reader that is given bytes that
/// nobody wrote may also panic.
pub(crate) async fn blame<T>(
    work: impl Future<Output = Result<T, Error>>,
    table: &DeltaTable,
    tenant: &TenantId,
) -> Result<T, Error> {
    let done = AssertUnwindSafe(work).catch_unwind().await;
    let done =
        done.unwrap_or_else(|_| Err(Error::Unreadable("the lake cannot be read: its reader panicked".to_owned())));
    match done {
        Err(Error::Unreadable(reason)) => {
            check_files(table, Some(tenant), |_| true).await?;
            Err(Error::Unreadable(reason))
        }
        done => done,
    }
}
