//! A scheduler and an executor: Ballista's own, in the versions that fit, with the lake's object store at hand.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use ballista_core::config::TaskSchedulingPolicy;
use ballista_core::error::BallistaError;
use ballista_core::utils::default_session_builder;
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::SchedulerConfig;
use ballista_scheduler::scheduler_process::start_server;
use datafusion::common::DataFusionError;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::SessionConfig;
use object_store::ObjectStore;
use reckon_schemas::stores;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::MESSAGE_BYTES_MAX;

/// After so long without a sign of life an executor is taken for dead, and others do its work. A busy one gives such a
/// sign every 5 seconds.
const EXECUTOR_TIMEOUT_S: u64 = 20;
const EXECUTOR_CHECK_S: u64 = 5;
/// A job that finds no executor for so long fails, and can be tried again.
const NO_EXECUTORS_S: u64 = 60;
/// An executor waits so long for its scheduler to come up.
const CONNECT_S: u16 = 60;
/// What an executor keeps for other tasks to fetch is removed after so long.
const KEPT_S: u64 = 6 * 3600;
const CLEANED_EVERY_S: u64 = 600;

/// Why a part of a cluster ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// `lake.url` names no store that this build can use: correct the configuration.
    #[error("lake.url {url:?} cannot be used: {reason}")]
    Location {
        /// The URL as configured.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Ballista stopped; the text says why.
    #[error("Ballista: {0}")]
    Ballista(#[from] BallistaError),
}

/// What an executor needs to know.
#[derive(Clone, Debug)]
pub struct Executor {
    /// Its scheduler.
    pub scheduler: (String, u16),
    /// Where others fetch what it computed.
    pub listen: SocketAddr,
    /// The name that others reach it by; its address if absent.
    pub host: Option<String>,
    /// The folder for what it computed, and for what does not fit into memory.
    pub work_dir: PathBuf,
    /// How many tasks it does at once; as many as there are processors if 0.
    pub cores: usize,
    /// How much memory its tasks have together, in bytes; most of the machine's if absent.
    pub memory_bytes: Option<u64>,
}

/// Runs a scheduler until shutdown.
///
/// # Errors
/// [`ServeError`].
pub async fn run_scheduler(
    listen: SocketAddr,
    lake: &stores::Lake,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let store = Store::of(lake)?;
    let config = SchedulerConfig {
        bind_host: listen.ip().to_string(),
        bind_port: listen.port(),
        external_host: listen.ip().to_string(),
        scheduling_policy: TaskSchedulingPolicy::PullStaged,
        grpc_server_max_decoding_message_size: MESSAGE_BYTES_MAX,
        grpc_server_max_encoding_message_size: MESSAGE_BYTES_MAX,
        grpc_client_max_message_size: MESSAGE_BYTES_MAX,
        executor_timeout_seconds: EXECUTOR_TIMEOUT_S,
        expire_dead_executor_interval_seconds: EXECUTOR_CHECK_S,
        no_executors_grace_period_seconds: NO_EXECUTORS_S,
        override_session_builder: Some(Arc::new(move |config: SessionConfig| {
            let state = default_session_builder(config)?;
            store.register(state.runtime_env());
            Ok(state)
        })),
        ..SchedulerConfig::default()
    };
    let cluster = BallistaCluster::new_from_config(&config).await?;
    tokio::select! {
        ended = Box::pin(start_server(cluster, listen, Arc::new(config))) => Ok(ended?),
        () = shutdown.cancelled() => Ok(()),
    }
}

/// Runs an executor until the process is told to end: it then finishes the tasks that it has.
///
/// # Errors
/// [`ServeError`].
pub async fn run_executor(executor: Executor, lake: &stores::Lake) -> Result<(), ServeError> {
    let store = Store::of(lake)?;
    std::fs::create_dir_all(&executor.work_dir).map_err(BallistaError::from)?;
    let spill = executor.work_dir.clone();
    let config = ExecutorProcessConfig {
        bind_host: executor.listen.ip().to_string(),
        external_host: Some(executor.host.unwrap_or_else(|| executor.listen.ip().to_string())),
        port: executor.listen.port(),
        scheduler_host: executor.scheduler.0,
        scheduler_port: executor.scheduler.1,
        scheduler_connect_timeout_seconds: CONNECT_S,
        vcores: executor.cores,
        task_scheduling_policy: TaskSchedulingPolicy::PullStaged,
        work_dir: Some(executor.work_dir.display().to_string()),
        job_data_ttl_seconds: KEPT_S,
        job_data_clean_up_interval_seconds: CLEANED_EVERY_S,
        grpc_max_decoding_message_size: MESSAGE_BYTES_MAX,
        grpc_max_encoding_message_size: MESSAGE_BYTES_MAX,
        memory_pool_size: executor.memory_bytes,
        override_runtime_producer: Some(Arc::new(move |_| -> Result<Arc<RuntimeEnv>, DataFusionError> {
            let runtime = RuntimeEnvBuilder::new().with_temp_file_path(spill.clone()).build_arc()?;
            store.register(&runtime);
            Ok(runtime)
        })),
        ..ExecutorProcessConfig::default()
    };
    Ok(Box::pin(start_executor_process(Arc::new(config))).await?)
}

/// The lake's object store, where it is not the file system, which every executor has.
#[derive(Clone)]
struct Store(Option<(Url, Arc<dyn ObjectStore>)>);

impl Store {
    fn of(lake: &stores::Lake) -> Result<Self, ServeError> {
        let wrong = |reason: String| ServeError::Location { url: lake.url.clone(), reason };
        let url: Url = lake.url.parse().map_err(|error| wrong(format!("{error}")))?;
        if url.scheme() == "file" {
            return Ok(Self(None));
        }
        let (store, _) =
            object_store::parse_url_opts(&url, lake.options()).map_err(|error| wrong(error.to_string()))?;
        Ok(Self(Some((url, store.into()))))
    }

    fn register(&self, runtime: &RuntimeEnv) {
        if let Self(Some((url, store))) = self {
            runtime.register_object_store(url, Arc::clone(store));
        }
    }
}
