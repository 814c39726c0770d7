//! The five long-running parts: all of one shape, alone or together in one process.

use std::net::SocketAddr;

use anyhow::Context;
use reckon_batch::archive;
use reckon_schemas::window::Grain;
use reckon_speed::{collect, raw, worker};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::accounts;
use crate::catalog_watch;
use crate::config::{ConfigError, Settings};
use crate::exit::Exit;
use crate::metrics;
use crate::prepare;

/// A long-running part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Collect,
    Speed,
    Raw,
    Archive,
    Serve,
}

impl Part {
    pub(crate) const ALL: [Part; 5] = [Part::Collect, Part::Speed, Part::Raw, Part::Archive, Part::Serve];

    const fn name(self) -> &'static str {
        match self {
            Part::Collect => "collect",
            Part::Speed => "speed",
            Part::Raw => "raw",
            Part::Archive => "archive",
            Part::Serve => "serve",
        }
    }
}

/// Parts that have been started, and where they listen.
pub(crate) struct Running {
    tasks: JoinSet<(Part, anyhow::Result<()>)>,
    pub(crate) collect: Option<SocketAddr>,
    pub(crate) serve: Option<SocketAddr>,
}

/// Prepares the stores, runs the parts until shutdown or until the first one fails, and waits for all of them.
pub(crate) async fn run(settings: &Settings, parts: &[Part], shutdown: CancellationToken) -> Result<(), Exit> {
    prepare::everything(settings, &shutdown).await?;
    if shutdown.is_cancelled() {
        return Ok(());
    }
    if let Some(address) = settings.listen.metrics {
        metrics::serve(address, shutdown.clone()).await?;
    }
    start(settings, parts, &shutdown).await?.wait(shutdown).await
}

/// Starts parts; their listeners are bound when this returns.
pub(crate) async fn start(settings: &Settings, parts: &[Part], shutdown: &CancellationToken) -> Result<Running, Exit> {
    let catalog = settings.read_catalog()?;
    let mut running = Running { tasks: JoinSet::new(), collect: None, serve: None };
    for part in parts {
        let shutdown = shutdown.clone();
        match part {
            Part::Collect => {
                let accounts = accounts::open(settings).map_err(ConfigError::from)?;
                let config = collect::Config {
                    kafka: settings.kafka.clone(),
                    catalog: catalog_watch::follow(settings, catalog.clone(), shutdown.clone()),
                    keys: accounts.keys(),
                    event_rates: accounts.event_rates(),
                    tuning: settings.collect.clone(),
                };
                let listener = bind(settings.listen.collect, "listen.collect")?;
                running.collect = listener.local_addr().ok();
                // The collector knows keys and rates, not where they come from.
                let stop = shutdown.clone();
                tokio::spawn(async move { accounts.follow(stop).await });
                running.spawn(*part, async move { Ok(collect::run(config, listener, shutdown).await?) });
            }
            Part::Speed => {
                let config = worker::Config {
                    kafka: settings.kafka.clone(),
                    redis: settings.redis.clone(),
                    clickhouse: settings.clickhouse.clone(),
                    lake: settings.lake.clone(),
                    catalog: catalog_watch::follow(settings, catalog.clone(), shutdown.clone()),
                    tuning: settings.speed.clone(),
                };
                running.spawn(*part, async move { Ok(worker::run(config, shutdown).await?) });
            }
            Part::Raw => {
                let config = raw_config(settings);
                running.spawn(*part, async move { Ok(raw::run(config, shutdown).await?) });
            }
            Part::Archive => {
                let config = archive::Config {
                    kafka: settings.kafka.clone(),
                    lake: settings.lake.clone(),
                    tuning: settings.archive.clone(),
                };
                running.spawn(*part, async move { Ok(archive::run(config, shutdown).await?) });
            }
            Part::Serve => {
                let config = reckon_serving::Config {
                    redis: settings.redis.clone(),
                    clickhouse: settings.clickhouse.clone(),
                    lake: settings.lake.clone(),
                    raw_retention: settings.raw.retention,
                    seconds_retention: settings.speed.redis_retention.of(Grain::Second),
                    kafka: settings.kafka.clone(),
                    catalog: catalog_watch::follow(settings, catalog.clone(), shutdown.clone()),
                    accounts: accounts::open(settings).map_err(ConfigError::from)?,
                    tuning: settings.serve.clone(),
                    extra_openapi: vec![collect::openapi()],
                };
                let listener = bind(settings.listen.serve, "listen.serve")?;
                running.serve = listener.local_addr().ok();
                running.spawn(*part, async move { Ok(reckon_serving::run(config, listener, shutdown).await?) });
            }
        }
    }
    Ok(running)
}

/// What the raw events' part needs to know.
pub(crate) fn raw_config(settings: &Settings) -> raw::Config {
    raw::Config { kafka: settings.kafka.clone(), clickhouse: settings.clickhouse.clone(), tuning: settings.raw.clone() }
}

impl Running {
    fn spawn(&mut self, part: Part, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        tracing::info!(
            part = part.name(),
            listen = match part {
                Part::Collect => self.collect.map(|address| address.to_string()),
                Part::Serve => self.serve.map(|address| address.to_string()),
                Part::Speed | Part::Raw | Part::Archive => None,
            },
            "started"
        );
        self.tasks.spawn(async move { (part, task.await) });
    }

    /// Waits for every part. The first one that ends without being asked to stops the others.
    pub(crate) async fn wait(mut self, shutdown: CancellationToken) -> Result<(), Exit> {
        let mut first_failure = None;
        while let Some(ended) = self.tasks.join_next().await {
            let (part, result) = ended.context("a part panicked")?;
            let asked = shutdown.is_cancelled();
            let result = match result {
                Ok(()) if !asked => Err(anyhow::anyhow!("ended without being asked to")),
                result => result,
            };
            match result {
                Ok(()) => tracing::info!(part = part.name(), "stopped"),
                Err(error) => {
                    tracing::error!(part = part.name(), "{error:#}");
                    first_failure.get_or_insert(error.context(part.name()));
                    shutdown.cancel();
                }
            }
        }
        first_failure.map_or(Ok(()), |error| Err(Exit::Failed(error)))
    }
}

/// Connections that may wait to be accepted: many clients come back in the same moment. The system bounds it, too.
const BACKLOG: u32 = 4_096;

fn bind(address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // As the standard library does it: a restart takes the address over from connections that are ending.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().with_context(|| format!("cannot listen on {address}: set `{key}` to a free address (port 0 takes any)"))
}
