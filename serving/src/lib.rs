//! The read path: merge settled and provisional cells into one answer, with its provenance, and push it live.
//!
//! A query is planned over windows: each is answered by exactly one layer, batch before the horizon, speed after it.
//! `merge` is pure and knows neither stores nor clients; `query` turns a question into a plan, reads what it needs
//! from the `stores` and words the `answer`; `cache` keeps answers for as long as they are good; `live`
//! answers again whenever something changed, once for everybody who asks the same. The tenant comes from
//! the credential alone (`access`); who may do what is kept in `accounts`.

mod access;
pub mod accounts;
mod alerts;
mod anomaly;
mod answer;
mod boards;
mod cache;
mod exact;
mod funnel;
mod heat;
mod lake;
mod live;
mod merge;
mod problem;
mod query;
mod reconciliation;
mod records;
mod routes;
mod server;
mod stores;
mod table;
mod telemetry;
mod tuning;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reckon_schemas::catalog::Catalog;
use reckon_schemas::stores::{ClickHouse, Kafka, Redis};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::{Access, Limits};
use crate::accounts::Accounts;
use crate::alerts::watch::Watch;
use crate::alerts::webhook::Webhooks;
use crate::cache::Answers;
use crate::lake::Lake;
use crate::live::Hub;
use crate::query::{Evaluator, Retention};
use crate::routes::App;
use crate::stores::{Bounds, Stores};
pub use crate::tuning::Tuning;

/// How long open requests may take to finish at shutdown.
const DRAIN_MAX: Duration = Duration::from_secs(8);

/// What serving needs.
#[derive(Clone)]
pub struct Config {
    /// The store of fresh cells; read only.
    pub redis: Redis,
    /// The store of cells, drift and settlements; read only.
    pub clickhouse: ClickHouse,
    /// The store of every event there ever was; read only.
    pub lake: reckon_schemas::stores::Lake,
    /// For how long ClickHouse keeps raw events, by the log's time.
    pub raw_retention: Duration,
    /// For how long Redis keeps windows of one second after their end.
    pub seconds_retention: Duration,
    /// For the name of the topic whose progress is told; the log itself is not read.
    pub kafka: Kafka,
    /// Tenants, their metrics and their keys; followed while it runs.
    pub catalog: watch::Receiver<Arc<Catalog>>,
    /// Who may do what, and what people saved.
    pub accounts: Accounts,
    /// Bounds and intervals.
    pub tuning: Tuning,
    /// The documents of other parts' HTTP interfaces, so that one page shows all.
    pub extra_openapi: Vec<utoipa::openapi::OpenApi>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the addresses, which may hold passwords, nor the keys' hashes.
        f.debug_struct("Config").field("tuning", &self.tuning).finish_non_exhaustive()
    }
}

/// Why serving stopped or did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address in the configuration cannot be used as one; correct it.
    #[error("redis.url: {0}")]
    RedisUrl(String),
    /// The engine that reads the lake cannot be set up, for instance because there is no place for temporary files.
    #[error("the lake's engine: {0}")]
    Lake(String),
    /// The listener broke; start again.
    #[error("the listener: {0}")]
    Listener(#[from] std::io::Error),
}

/// Answers on the listener until shutdown; then streams end, open requests finish, at most for a few seconds. Neither
/// store has to be there at the start.
///
/// # Errors
/// [`Error`].
pub async fn run(config: Config, listener: TcpListener, shutdown: CancellationToken) -> Result<(), Error> {
    let tuning = Arc::new(config.tuning);
    let bounds = Bounds {
        rows_max: tuning.rows_max,
        result_bytes_max: tuning.result_bytes_max,
        query_timeout: tuning.query_timeout,
        redis_timeout: tuning.redis_timeout,
    };
    let stores = Stores::new(&config.clickhouse, &config.redis, config.kafka.topics.events, bounds)
        .map_err(|error| Error::RedisUrl(error.to_string()))?;
    let limits = lake::Limits {
        rows_max: tuning.lake_rows_max,
        memory_bytes: tuning.lake_memory_bytes,
        numbers_max: tuning.rows_max,
        cache_numbers: tuning.lake_cache_numbers,
    };
    let lake = Lake::new(config.lake, limits).map_err(|error| Error::Lake(error.to_string()))?;
    let announcements = stores.redis.client().clone();
    let limits = Limits {
        queries_per_second_max: tuning.queries_per_second_max,
        live_clients_max: tuning.live_clients_max,
        rows_per_minute_max: tuning.rows_per_minute_max,
        // However much one tenant asks for, there is room for another.
        evaluations_max: (tuning.evaluations_max / 2).max(1),
        event_evaluations_max: (tuning.events_evaluations_max / 2).max(1),
        waiting_max: tuning.waiting_max,
    };
    let access = Arc::new(Access::new(config.catalog, config.accounts.clone(), limits));
    let retention = Retention { raw: config.raw_retention, seconds: config.seconds_retention };
    let evaluator = Evaluator::new(stores.clone(), lake, retention, config.accounts.metrics(), tuning.clone());
    let answers = Answers::new(evaluator.clone(), tuning.clone());
    // Ends with this function.
    let stop = shutdown.child_token();
    let _stop_on_return = stop.clone().drop_guard();
    let hub = Hub::new(answers.clone(), access.clone(), tuning.clone(), stop.clone());
    telemetry::describe();
    let helpers = TaskTracker::new();
    helpers.spawn({
        let (ears, stop) = (hub.clone(), stop.clone());
        async move { ears.listen(announcements, stop).await }
    });
    helpers.spawn({
        let stop = stop.clone();
        async move { stores.watch(stop).await }
    });
    helpers.spawn({
        let stop = stop.clone();
        async move { config.accounts.tend(stop).await }
    });
    let webhooks = Arc::new(Webhooks::new(&tuning.webhook_networks));
    let watch = Watch { access: access.clone(), evaluator: evaluator.clone(), webhooks: webhooks.clone() };
    helpers.spawn(watch.run(stop.clone()));
    let (newest, newest_alert_event) = watch::channel(String::new());
    helpers.spawn({
        let (accounts, stop) = (access.accounts().clone(), stop.clone());
        async move { accounts.follow_alert_events(newest, stop).await }
    });
    let app = App {
        access,
        evaluator,
        answers,
        hub,
        tuning: tuning.clone(),
        webhooks,
        newest_alert_event,
        shutdown: stop.clone(),
    };
    let router = routes::router(app, config.extra_openapi);
    tracing::info!(address = %listener.local_addr()?, "serving");
    server::serve(listener, router, &tuning, DRAIN_MAX, stop.clone()).await;
    stop.cancel();
    helpers.close();
    // Only sleeps and reads, all of which end with the token.
    let _ = tokio::time::timeout(Duration::from_secs(1), helpers.wait()).await;
    Ok(())
}
