//! What a line stands on: a configuration file and a catalog of its own, a ClickHouse database of its own, an empty
//! Redis, a folder for snapshots; and all of it is removed afterwards.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reckon_schemas::access::Scope;
use reckon_schemas::catalog::{Catalog, Metric, Tenant};
use reckon_schemas::time::Zone;
use tokio_util::sync::CancellationToken;

use super::events::{TENANTS, tenant};
use crate::config::Settings;
use crate::{keys, prepare};

/// Forgetting millions of cells takes its time.
const REDIS_ANSWER_MAX: Duration = Duration::from_secs(120);

/// A line's surroundings.
pub(crate) struct Scene {
    pub(crate) settings: Settings,
    /// The configuration file for children.
    pub(crate) config: PathBuf,
    /// Where children's logs go.
    pub(crate) folder: PathBuf,
    /// The tenants' keys, which read, too.
    pub(crate) write_keys: Vec<String>,
}

impl Scene {
    /// Makes topics and tables under a name; every tenant has these rollups.
    pub(crate) async fn set(mut settings: Settings, dir: &Path, name: &str, rollups: &[String]) -> Result<Self> {
        let folder = dir.join(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        settings.clickhouse.database = format!("reckon_bench_{}", name.replace(|c: char| !c.is_alphanumeric(), "_"));
        settings.lake.url = format!("file://{}/lake", folder.display());
        settings.speed.group = format!("reckon-bench-{name}");
        let write_keys =
            (0..TENANTS).map(|_| keys::generate(vec![Scope::Write, Scope::Read])).collect::<Result<Vec<_>>>()?;
        let tenants = write_keys.iter().enumerate().map(|(index, key)| {
            Ok(Tenant {
                rollups: rollups.iter().map(|rollup| rollup.parse()).collect::<Result<_, _>>()?,
                metrics: metrics()?,
                keys: vec![key.entry.clone()],
                // As many as there are cells to hold: what goes to `__other__` is not what is measured.
                dimension_values_max: 10_000_000,
                ..Tenant::new(tenant(index).parse()?, Zone::UTC)
            })
        });
        let catalog = Catalog { tenants: tenants.collect::<Result<_>>()? };
        settings.catalog = folder.join("catalog.toml");
        write(&settings.catalog, &toml::to_string(&catalog)?)?;
        let config = folder.join("reckon.toml");
        write(&config, &toml::to_string(&settings)?)?;
        let scene = Self { settings, config, folder, write_keys: write_keys.into_iter().map(|new| new.key).collect() };
        scene.refuse_foreign_redis().await?;
        // A line that was interrupted may have left these.
        scene.drop_database().await?;
        scene.remove_snapshots()?;
        prepare::everything(&scene.settings, &CancellationToken::new()).await?;
        Ok(scene)
    }

    /// A connection to Redis.
    pub(crate) async fn redis(&self) -> Result<redis::aio::MultiplexedConnection> {
        let client = redis::Client::open(self.settings.redis.url.as_str())?;
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(REDIS_ANSWER_MAX));
        client.get_multiplexed_async_connection_with_config(&config).await.context("connecting to Redis")
    }

    /// A client of the line's own database.
    pub(crate) fn clickhouse(&self) -> clickhouse::Client {
        prepare::clickhouse_client(&self.settings.clickhouse)
    }

    /// Empties what the line has filled. Logs and configuration stay, for a look at them.
    pub(crate) async fn clear(self) -> Result<()> {
        redis::cmd("FLUSHDB").query_async::<()>(&mut self.redis().await?).await?;
        self.drop_database().await?;
        self.remove_snapshots()
    }

    fn remove_snapshots(&self) -> Result<()> {
        let lake = self.folder.join("lake");
        match std::fs::remove_dir_all(&lake) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", lake.display()))
            }
            _ => Ok(()),
        }
    }

    /// At the end Redis is emptied, so what is in it must not be somebody's.
    async fn refuse_foreign_redis(&self) -> Result<()> {
        let keys: u64 = redis::cmd("DBSIZE").query_async(&mut self.redis().await?).await?;
        ensure!(
            keys == 0,
            "{} has {keys} keys, and the benchmark empties it: give it a Redis of its own",
            self.settings.redis.url
        );
        Ok(())
    }

    async fn drop_database(&self) -> Result<()> {
        let statement = format!("DROP DATABASE IF EXISTS `{}`", self.settings.clickhouse.database);
        Ok(self.clickhouse().with_database("default").query(&statement).execute().await?)
    }
}

/// What the serving layer is asked for.
fn metrics() -> Result<Vec<Metric>> {
    Ok(vec![Metric::count("events", "click"), Metric::money("revenue", "click", "USD".parse()?)])
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
