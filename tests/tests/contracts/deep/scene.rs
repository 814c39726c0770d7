//! A shop whose events are in ClickHouse, in the lake, and settled as far as days are over; and a neighbour, another tenant,
//! whose events look like them. Every number that a test compares is one without the neighbour's events.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reckon_schemas::access::{NewKey, Scope};
use reckon_schemas::catalog::{Catalog, Metric, Tenant};
use reckon_serving::{Config, Tuning};
use reckon_tests::lake::until_conserved;
use reckon_tests::shop::{Shopping, deliveries, events, of_a_neighbour, produce, produce_for};
use reckon_tests::{Stack, World};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

const TUNING: &str = "[archive]\ncommit_interval = \"200ms\"\n[nightly]\narchive_wait = \"60s\"\nspeed_wait = \"1s\"\n";

/// So long that everything is among the raw events.
pub(super) const ALL_RAW: Duration = Duration::from_secs(30 * 86_400);
/// So short that nothing is.
pub(super) const ALL_LAKE: Duration = Duration::ZERO;
/// Whole days are raw from this time yesterday on: an event may be dated a day ahead.
pub(super) const BOTH: Duration = Duration::from_secs(2 * 86_400);

/// A user of the neighbour alone.
pub(super) const CANARY: &str = "CANARY-OF-THE-NEIGHBOUR";

pub(super) struct Scene {
    pub(super) world: World,
    pub(super) events: Vec<Shopping>,
    /// The neighbour's.
    pub(super) theirs: Vec<Shopping>,
    pub(super) now_us: i64,
    their_key: NewKey,
}

/// A serving node of this process.
pub(super) struct Node {
    pub(super) url: String,
    key: String,
    their_key: String,
    http: reqwest::Client,
    _stop: Arc<DropGuard>,
}

impl Scene {
    pub(super) async fn new(seed: u64, count: usize) -> Result<Self> {
        let world = World::with_neighbours(&Stack::shared()?, TUNING, &["b"])?;
        let now_us = jiff::Timestamp::now().as_microsecond();
        let deliveries = deliveries(seed, count, now_us);
        let theirs = of_a_neighbour(&deliveries, CANARY);
        produce_for(&world, world.catalog.tenants[1].id.as_str(), &theirs).await?;
        produce(&world, &deliveries).await?;
        let raw = world.run(&["raw", "--until-end"])?;
        ensure!(raw.code == 0, "{}", raw.log);
        let their_key = NewKey::from_random(rand::random(), vec![Scope::Read]);
        let (events, theirs) = (events(&deliveries), events(&theirs));
        let scene = Self { world, events, theirs, now_us, their_key };
        scene.archive().await?;
        let nightly = scene.world.run(&["nightly"])?;
        ensure!(nightly.code == 0, "exit {}:\n{}\n{}", nightly.code, nightly.stdout, nightly.log);
        Ok(scene)
    }

    /// Brings what the log has into the lake.
    pub(super) async fn archive(&self) -> Result<()> {
        let mut archiver = self.world.start("archive")?;
        until_conserved(&self.world).await?;
        ensure!(archiver.stop()?.success());
        Ok(())
    }

    /// A node that takes raw events for as old as this.
    pub(super) async fn serve(&self, raw_retention: Duration, tuning: Tuning) -> Result<Node> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let shutdown = CancellationToken::new();
        let config = Config {
            redis: self.world.redis.clone(),
            clickhouse: self.world.clickhouse.clone(),
            lake: self.world.lake.clone(),
            raw_retention,
            seconds_retention: Duration::from_secs(600),
            kafka: self.world.kafka.clone(),
            catalog: watch::channel(Arc::new(Catalog { tenants: vec![self.tenant()?, self.neighbour()] })).1,
            accounts: self.world.accounts()?,
            // Nothing comes any more, and nobody has to look for it.
            tuning: Tuning { raw_lag_max: Duration::MAX, ..tuning },
            extra_openapi: Vec::new(),
        };
        tokio::spawn(reckon_serving::run(config, listener, shutdown.clone()));
        let (key, their_key, http) = (self.world.read_key.clone(), self.their_key.key.clone(), self.world.http.clone());
        Ok(Node { url, key, their_key, http, _stop: Arc::new(shutdown.drop_guard()) })
    }

    fn neighbour(&self) -> Tenant {
        let mut neighbour = self.world.catalog.tenants[1].clone();
        neighbour.keys.push(self.their_key.entry.clone());
        neighbour
    }

    /// The tenant, with one more metric.
    fn tenant(&self) -> Result<Tenant> {
        let mut tenant = self.world.catalog.tenant(&self.world.tenant).context("the tenant")?.clone();
        tenant.metrics.push(Metric::sum("items", "purchase", "quantity"));
        Ok(tenant)
    }

    /// The first instant of the day in New York so many days ago, as an answer writes it, and in microseconds.
    pub(super) fn day(&self, ago: i64) -> Result<(String, i64)> {
        let now = jiff::Timestamp::from_microsecond(self.now_us)?.in_tz("America/New_York")?;
        let start = now.date().checked_sub(jiff::ToSpan::days(ago))?.to_zoned(now.time_zone().clone())?.timestamp();
        Ok((start.to_string(), start.as_microsecond()))
    }
}

impl Node {
    /// The same node as the neighbour asks it.
    pub(super) fn as_neighbour(&self) -> Self {
        Self {
            url: self.url.clone(),
            key: self.their_key.clone(),
            their_key: self.key.clone(),
            http: self.http.clone(),
            _stop: self._stop.clone(),
        }
    }

    /// Asks; the status, and the body as JSON.
    pub(super) async fn ask(&self, parameters: &[(&str, &str)]) -> Result<(u16, Value)> {
        let request = self.http.get(format!("{}/v1/query", self.url)).query(parameters);
        read(request.bearer_auth(&self.key).send().await?).await
    }

    /// Asks to be told of changes.
    pub(super) fn live(&self, parameters: &[(&str, &str)]) -> reqwest::RequestBuilder {
        reqwest::Client::new().get(format!("{}/v1/live", self.url)).query(parameters).bearer_auth(&self.key)
    }

    /// How many rows its questions have made the stores read in the last minute.
    pub(super) async fn rows_used(&self) -> Result<u64> {
        let request = self.http.get(format!("{}/v1/quotas", self.url)).bearer_auth(&self.key);
        let (_, quotas) = read(request.send().await?).await?;
        quotas["rows_per_minute"]["used"].as_u64().with_context(|| quotas.to_string())
    }

    /// Asks what has an answer.
    pub(super) async fn answer(&self, parameters: &[(&str, &str)]) -> Result<Value> {
        let (status, answer) = self.ask(parameters).await?;
        ensure!(status == 200, "{parameters:?}: {status} {answer}");
        Ok(answer)
    }

    /// Asks for a funnel.
    pub(super) async fn funnel(&self, question: &Value) -> Result<(u16, Value)> {
        let request = self.http.post(format!("{}/v1/funnels", self.url)).json(question);
        read(request.bearer_auth(&self.key).send().await?).await
    }
}

async fn read(answer: reqwest::Response) -> Result<(u16, Value)> {
    let (status, text) = (answer.status().as_u16(), answer.text().await?);
    Ok((status, serde_json::from_str(&text).with_context(|| text.clone())?))
}

/// Many groups, questions one after the other as fast as a test can ask, and every answer a new one.
pub(super) fn tuning() -> Tuning {
    Tuning {
        groups_max: 10_000,
        queries_per_second_max: 10_000,
        cache_settled: Duration::ZERO,
        cache_history: Duration::ZERO,
        cache_recent: Duration::ZERO,
        cache_moving: Duration::ZERO,
        ..Tuning::default()
    }
}
