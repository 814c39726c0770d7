//! One test's own tenant, topics, database, lake and configuration, on servers that others use too.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reckon_schemas::access::{NewKey, Scope};
use reckon_schemas::catalog::{Catalog, Metric, Tenant};
use reckon_schemas::kafka::Topics;
use reckon_schemas::stores;
use reckon_schemas::time::Zone;
use reckon_serving::accounts::{self, Accounts};
use serde_json::{Value, json};

use crate::process::{self, Finished, Process};
use crate::stack::Stack;
use crate::until;

/// See the module.
pub struct World {
    pub kafka: stores::Kafka,
    pub redis: stores::Redis,
    pub clickhouse: stores::ClickHouse,
    pub lake: stores::Lake,
    pub catalog: Arc<Catalog>,
    pub tenant: String,
    pub write_key: String,
    pub read_key: String,
    pub collect_port: u16,
    pub serve_port: u16,
    pub http: reqwest::Client,
    folder: tempfile::TempDir,
    tuning: String,
}

/// One of several workers: its name, and what is different for it.
#[derive(Clone, Debug, Default)]
pub struct Member {
    pub name: String,
    /// Another way to Redis.
    pub redis: Option<String>,
    /// Another way to ClickHouse.
    pub clickhouse: Option<String>,
    /// More variables in its environment.
    pub variables: Vec<(String, String)>,
}

impl Member {
    /// A worker like every other.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

/// The parts' sections for tests: everything happens sooner.
const TUNING: &str = r#"
[speed]
flush_interval = "100ms"
clickhouse_interval = "300ms"
snapshot_interval = "1s"

[archive]
commit_interval = "500ms"

[nightly]
archive_wait = "60s"
"#;

/// The same sections, and ClickHouse keeps cells of any age unless they say otherwise: the purchases of a test may be of
/// any year, and the oracles want to see all of them.
fn keeping_all(tuning: &str) -> String {
    const KEPT: &str = "clickhouse_retention = \"36500d\"\n";
    match tuning.split_once("[speed]\n") {
        _ if tuning.contains("clickhouse_retention") => tuning.to_owned(),
        Some((before, after)) => format!("{before}[speed]\n{KEPT}{after}"),
        None => format!("{tuning}\n[speed]\n{KEPT}"),
    }
}

impl World {
    /// A new world with one tenant in New York, its topics and tables made.
    pub fn new(stack: &Stack) -> Result<Self> {
        Self::with_tuning(stack, TUNING)
    }

    /// The same with other sections for the parts.
    pub fn with_tuning(stack: &Stack, tuning: &str) -> Result<Self> {
        Self::with_neighbours(stack, tuning, &[])
    }

    /// The same with more tenants, who are named after this one.
    pub fn with_neighbours(stack: &Stack, tuning: &str, neighbours: &[&str]) -> Result<Self> {
        Self::build(stack, tuning, neighbours, None)
    }

    /// The same with its lake and snapshots elsewhere.
    pub fn with_lake(stack: &Stack, tuning: &str, lake: stores::Lake) -> Result<Self> {
        Self::build(stack, tuning, &[], Some(lake))
    }

    fn build(stack: &Stack, tuning: &str, neighbours: &[&str], lake: Option<stores::Lake>) -> Result<Self> {
        let id = uuid::Uuid::new_v4().simple().to_string()[..10].to_owned();
        let folder = tempfile::tempdir()?;
        let tenant = format!("t{id}");
        let write = NewKey::from_random(rand::random(), vec![Scope::Write]);
        let read = NewKey::from_random(rand::random(), vec![Scope::Read, Scope::Finance]);
        let keys = vec![write.entry, read.entry];
        let mut tenants = vec![test_tenant(&tenant, keys)?];
        for neighbour in neighbours {
            tenants.push(test_tenant(&format!("{tenant}{neighbour}"), vec![])?);
        }
        let catalog = Catalog { tenants };
        let world = Self {
            kafka: stores::Kafka {
                brokers: stack.kafka.clone(),
                topics: Topics { events: format!("events-{id}"), rejected: format!("rejected-{id}"), partitions: 3 },
            },
            redis: stores::Redis { url: stack.redis.clone() },
            clickhouse: stores::ClickHouse {
                url: stack.clickhouse.clone(),
                database: format!("test_{id}"),
                user: None,
                password: None,
            },
            lake: lake.unwrap_or_else(|| stores::Lake::at(format!("file://{}", folder.path().join("store").display()))),
            catalog: Arc::new(catalog),
            tenant,
            write_key: write.key,
            read_key: read.key,
            collect_port: free_port()?,
            serve_port: free_port()?,
            http: reqwest::Client::builder().timeout(Duration::from_secs(60)).build()?,
            folder,
            tuning: tuning.to_owned(),
        };
        std::fs::create_dir_all(world.store())?;
        std::fs::write(world.folder.path().join("catalog.toml"), toml::to_string(&*world.catalog)?)?;
        world.write_config(&world.config(), &Member::default())?;
        let prepared = world.run(&["prepare"])?;
        ensure!(prepared.code == 0, "reckon prepare failed:\n{}", prepared.log);
        Ok(world)
    }

    /// Changes the tenant's entry in the catalog, for whoever reads it from now on, and for who follows it.
    pub fn change_catalog(&mut self, change: impl FnOnce(&mut Tenant)) -> Result<()> {
        self.change_catalog_of(0, change)
    }

    /// The same for one of the neighbours, who come after the tenant.
    pub fn change_catalog_of(&mut self, number: usize, change: impl FnOnce(&mut Tenant)) -> Result<()> {
        let mut catalog = (*self.catalog).clone();
        change(&mut catalog.tenants[number]);
        let new = self.folder.path().join("catalog.toml.new");
        std::fs::write(&new, toml::to_string(&catalog)?)?;
        std::fs::rename(new, self.folder.path().join("catalog.toml"))?;
        self.catalog = Arc::new(catalog);
        Ok(())
    }

    fn write_config(&self, path: &Path, member: &Member) -> Result<()> {
        let redis = member.redis.as_ref().unwrap_or(&self.redis.url);
        let clickhouse = member.clickhouse.as_ref().unwrap_or(&self.clickhouse.url);
        let settings = json!({
            "kafka": self.kafka, "redis": { "url": redis }, "lake": self.lake,
            "clickhouse": { "url": clickhouse, "database": self.clickhouse.database },
            "listen": {
                "collect": format!("127.0.0.1:{}", self.collect_port),
                "serve": format!("127.0.0.1:{}", self.serve_port),
            },
        });
        Ok(std::fs::write(path, format!("{}\n{}", toml::to_string(&settings)?, keeping_all(&self.tuning)))?)
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("reckon.toml")
    }

    /// The folder of the lake and the snapshots.
    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// The configuration store, for a node of the test's own process.
    pub fn accounts(&self) -> Result<Accounts> {
        let url = format!("sqlite://{}/accounts.db", self.store().display());
        Ok(Accounts::open(accounts::Tuning { url: Some(url), ..accounts::Tuning::default() })?)
    }

    /// Runs `reckon` to its end.
    pub fn run(&self, arguments: &[&str]) -> Result<Finished> {
        process::run(&self.config(), arguments)
    }

    /// The same with something on standard input.
    pub fn run_with_input(&self, arguments: &[&str], input: &str) -> Result<Finished> {
        process::run_with_input(&self.config(), arguments, input)
    }

    /// Starts a part (`collect`, `speed`, `archive`, `serve`, `all`).
    pub fn start(&self, part: &str) -> Result<Process> {
        Process::start(&self.config(), &[part], self.folder.path().join(format!("{part}.log")))
    }

    /// Starts one of several workers, with a configuration and a log of its own.
    pub fn start_worker(&self, member: &Member) -> Result<Process> {
        let file = |extension| self.folder.path().join(format!("{}.{extension}", member.name));
        self.write_config(&file("toml"), member)?;
        Process::start_in(&file("toml"), &["speed"], file("log"), &member.variables)
    }

    /// Starts the collector and waits until it takes events.
    pub async fn start_collector(&self) -> Result<Process> {
        let process = self.start("collect")?;
        until("the collector", Duration::from_secs(30), || self.is_ready(self.collect_port)).await?;
        Ok(process)
    }

    /// Starts the serving node and waits until it answers.
    pub async fn start_serving(&self) -> Result<Process> {
        let process = self.start("serve")?;
        until("the serving node", Duration::from_secs(30), || self.is_ready(self.serve_port)).await?;
        Ok(process)
    }

    /// Whether a part answers on its port.
    pub async fn is_ready(&self, port: u16) -> Result<bool> {
        let answer = self.http.get(format!("http://127.0.0.1:{port}/readyz")).send().await?;
        Ok(answer.status().is_success())
    }

    /// Sends items through the collector; the answer must be 202.
    pub async fn send(&self, items: &[Value]) -> Result<Value> {
        let url = format!("http://127.0.0.1:{}/v1/events", self.collect_port);
        let answer = self.http.post(url).bearer_auth(&self.write_key).json(&items).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.as_u16() == 202, "{status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// Asks the serving node.
    pub async fn query(&self, path_and_query: &str) -> Result<Value> {
        let url = format!("http://127.0.0.1:{}{path_and_query}", self.serve_port);
        let answer = self.http.get(url).bearer_auth(&self.read_key).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "{status}: {text}");
        serde_json::from_str(&text).context(text)
    }

    /// A ClickHouse client on this world's database.
    pub fn clickhouse_client(&self) -> clickhouse::Client {
        clickhouse::Client::default().with_url(&self.clickhouse.url).with_database(&self.clickhouse.database)
    }

    /// A Redis connection.
    pub async fn redis_connection(&self) -> Result<redis::aio::MultiplexedConnection> {
        Ok(redis::Client::open(self.redis.url.as_str())?.get_multiplexed_async_connection().await?)
    }
}

fn test_tenant(id: &str, keys: Vec<reckon_schemas::access::AccessKey>) -> Result<Tenant> {
    Ok(Tenant {
        rollups: vec!["department".parse()?, "store".parse()?],
        metrics: vec![
            Metric::money("revenue", "purchase", "USD".parse()?),
            Metric::count("purchases", "purchase"),
            Metric::users("households", "purchase"),
            Metric { limit: Some(3), ..Metric::top("stores", "purchase", "store") },
        ],
        keys,
        ..Tenant::new(id.parse()?, Zone::parse("America/New_York")?)
    })
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
