//! `reckon ballista-scheduler` and `reckon ballista-executor`: a cluster for `nightly --engine`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use reckon_batch::cluster::{self, ServeError};
use tokio_util::sync::CancellationToken;

use crate::config::{ConfigError, Settings};
use crate::exit::Exit;

#[derive(Debug, Args)]
pub(crate) struct SchedulerArguments {
    /// The address that executors and nightlies come to.
    #[arg(long, default_value = "127.0.0.1:50050", value_name = "ADDRESS")]
    listen: SocketAddr,
}

#[derive(Debug, Args)]
pub(crate) struct ExecutorArguments {
    /// The scheduler, as `host:port`.
    #[arg(long, value_name = "HOST:PORT")]
    scheduler: String,
    /// The address at which other executors and nightlies fetch what this one computed.
    #[arg(long, default_value = "127.0.0.1:50051", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// The name that they reach it by; its address if absent.
    #[arg(long)]
    host: Option<String>,
    /// The folder for what it computed, and for what memory has no room for; a temporary one if absent.
    #[arg(long, value_name = "FOLDER")]
    work_dir: Option<PathBuf>,
    /// How many tasks it does at once; as many as there are processors if 0.
    #[arg(long, default_value_t = 0)]
    cores: usize,
    /// How much memory its tasks have together; 70 % of the machine's, or of its control group's, if absent.
    #[arg(long, value_name = "BYTES")]
    memory_bytes: Option<u64>,
}

/// Runs a scheduler until it is told to end.
pub(crate) async fn scheduler(
    settings: &Settings,
    arguments: SchedulerArguments,
    shutdown: CancellationToken,
) -> Result<(), Exit> {
    Ok(cluster::run_scheduler(arguments.listen, &settings.lake, shutdown).await?)
}

/// Runs an executor until it is told to end.
pub(crate) async fn executor(settings: &Settings, arguments: ExecutorArguments) -> Result<(), Exit> {
    let wrong = || ConfigError::Rejected(format!("--scheduler {:?} is not host:port", arguments.scheduler));
    let (host, port) = arguments.scheduler.rsplit_once(':').ok_or_else(wrong)?;
    let scheduler = (host.to_owned(), port.parse().map_err(|_| wrong())?);
    // Removed with this value, after the executor has ended.
    let temporary = tempfile::tempdir().map_err(anyhow::Error::from)?;
    let executor = cluster::Executor {
        scheduler,
        listen: arguments.listen,
        host: arguments.host,
        work_dir: arguments.work_dir.unwrap_or_else(|| temporary.path().to_owned()),
        cores: arguments.cores,
        memory_bytes: arguments.memory_bytes,
    };
    Ok(cluster::run_executor(executor, &settings.lake).await?)
}

impl From<ServeError> for Exit {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::Location { .. } => Exit::Config(ConfigError::Rejected(error.to_string())),
            ServeError::Ballista(_) => Exit::Retryable(error.into()),
        }
    }
}
