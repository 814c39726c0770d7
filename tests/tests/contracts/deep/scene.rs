//! A shop whose events are in ClickHouse, in the lake, and settled as far as days are over.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reckon_schemas::catalog::{Catalog, Metric, Tenant};
use reckon_serving::{Config, Tuning};
use reckon_tests::lake::until_conserved;
use reckon_tests::shop::{Shopping, deliveries, events, produce};
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

pub(super) struct Scene {
    pub(super) world: World,
    pub(super) events: Vec<Shopping>,
    pub(super) now_us: i64,
}

/// A serving node of this process.
pub(super) struct Node {
    pub(super) url: String,
    key: String,
    http: reqwest::Client,
    _stop: DropGuard,
}

impl Scene {
    pub(super) async fn new(seed: u64, count: usize) -> Result<Self> {
        let world = World::with_tuning(&Stack::shared()?, TUNING)?;
        let now_us = jiff::Timestamp::now().as_microsecond();
        let deliveries = deliveries(seed, count, now_us);
        produce(&world, &deliveries).await?;
        let raw = world.run(&["raw", "--until-end"])?;
        ensure!(raw.code == 0, "{}", raw.log);
        let scene = Self { world, events: events(&deliveries), now_us };
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
            catalog: watch::channel(Arc::new(Catalog { tenants: vec![self.tenant()?] })).1,
            accounts: self.world.accounts()?,
            tuning,
            extra_openapi: Vec::new(),
        };
        tokio::spawn(reckon_serving::run(config, listener, shutdown.clone()));
        let (key, http) = (self.world.read_key.clone(), self.world.http.clone());
        Ok(Node { url, key, http, _stop: shutdown.drop_guard() })
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
    /// Asks; the status, and the body as JSON.
    pub(super) async fn ask(&self, parameters: &[(&str, &str)]) -> Result<(u16, Value)> {
        let request = self.http.get(format!("{}/v1/query", self.url)).query(parameters);
        read(request.bearer_auth(&self.key).send().await?).await
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
