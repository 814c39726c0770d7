//! The catalog's file, followed while parts run.

use std::sync::Arc;
use std::time::Duration;

use reckon_schemas::catalog::Catalog;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;

/// How often the file is looked at. Reading it is cheap, and works on every file system, mounted ones included.
const INTERVAL: Duration = Duration::from_secs(1);

/// The catalog, and every valid one that the file has after it. One that is wrong is logged, once, and passed over.
pub(crate) fn follow(
    settings: &Settings,
    first: Arc<Catalog>,
    shutdown: CancellationToken,
) -> watch::Receiver<Arc<Catalog>> {
    let (sender, receiver) = watch::channel(first);
    let settings = settings.clone();
    tokio::spawn(async move {
        let mut complained = String::new();
        while tokio::time::timeout(INTERVAL, shutdown.cancelled()).await.is_err() && !sender.is_closed() {
            match settings.read_catalog() {
                Ok(catalog) => {
                    complained.clear();
                    sender.send_if_modified(|known| {
                        let is_new = *known != catalog;
                        *known = catalog;
                        is_new
                    });
                }
                Err(error) => {
                    let error = error.to_string();
                    if complained != error {
                        tracing::error!("the catalog was changed and is not valid; the one before stays: {error}");
                        complained = error;
                    }
                }
            }
        }
    });
    receiver
}
