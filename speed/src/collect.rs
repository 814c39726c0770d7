//! The collector: events come in over HTTP, are checked one by one and written to the log; the client is answered
//! after the log has them.

mod body;
mod cloud_events;
mod credentials;
mod enrich;
mod intake;
mod native;
mod nested;
mod problem;
mod producer;
mod quota;
mod replay;
mod routes;
mod segment;
mod server;
mod trace;
mod tuning;
mod unread;

use std::sync::Arc;
use std::time::Duration;

use reckon_schemas::access::{EventRates, KeyBook};
use reckon_schemas::catalog::Catalog;
use reckon_schemas::stores::Kafka;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::replay::{Corrected, ReplayError, replay};
pub use self::tuning::Tuning;

use self::credentials::Doors;
use self::enrich::Enricher;
use self::intake::Intake;
use self::producer::EventLog;
use self::quota::Quotas;

/// How long requests that are under way at shutdown may take to end; with [`FLUSH_TIME_MAX`] the whole bound.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(6);
const FLUSH_TIME_MAX: Duration = Duration::from_secs(2);

/// What the collector needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The log that events are written to.
    pub kafka: Kafka,
    /// The tenants, their write keys and their bounds; followed while the collector runs.
    pub catalog: watch::Receiver<Arc<Catalog>>,
    /// Keys that are made and revoked while the collector runs; who sends them knows where they are kept.
    pub keys: watch::Receiver<Arc<KeyBook>>,
    /// What single tenants may send, if it is not what the catalog says; likewise.
    pub event_rates: watch::Receiver<Arc<EventRates>>,
    /// The section `collect` of the configuration.
    pub tuning: Tuning,
}

/// Why the collector cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value of the configuration cannot be used: change it.
    #[error("`{key}`: {reason}")]
    Configuration {
        /// The key, with its section.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

/// Accepts connections until shutdown, then lets requests end and the log's client flush, in 10 seconds at the most.
///
/// That the log is away is no error: clients are told to come back, until it is there again.
///
/// # Errors
/// [`Error::Configuration`] if a value cannot be used; it is returned before the first connection.
pub async fn run(config: Config, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Error> {
    let Config { kafka, catalog, keys, event_rates, tuning } = config;
    let enricher = Enricher::open(&tuning)?;
    let origins = routes::allowed_origins(&tuning.cors_origins)?;
    let log = Arc::new(EventLog::open(&kafka, &tuning)?);
    let watch = tokio::spawn(log.clone().watch(tuning.probe_interval, shutdown.clone()));
    let quotas =
        Quotas::new(catalog.clone(), event_rates, tuning.events_per_request_max.max(segment::BATCH_EVENTS_MAX));
    let doors = Doors { catalog, book: keys };
    let intake = Arc::new(Intake::new(doors, quotas, log.clone(), enricher, tuning.clone()));
    server::serve(listener, routes::router(intake, origins), &tuning, shutdown).await;
    watch.abort();
    log.flush(FLUSH_TIME_MAX).await;
    Ok(())
}

/// The OpenAPI description of the collector's routes, to be merged with those of other parts.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    routes::openapi()
}
