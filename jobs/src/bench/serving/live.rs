//! Many clients watch a number that changes once a second: when each of them has the change, and what a client costs.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use reckon_schemas::redis_keys;
use reckon_schemas::time::{EventTime, Zone};
use reckon_schemas::window::Grain;
use serde_json::{Value, json};

use super::super::events::tenant;
use super::super::scene::Scene;
use super::clients::{Deliveries, Watchers};
use super::fill;
use super::node::Node;
use crate::config::Settings;
use crate::usage::{Usage, rounded};

/// What all of them watch.
pub(super) const QUESTION: &str = "metric=events&grain=1h";
/// For the clients to come to rest before and after.
const PAUSE: Duration = Duration::from_secs(2);

/// How clients watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    /// Server-sent events.
    Sse,
    /// A WebSocket each.
    Ws,
}

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How many clients watch.
    #[arg(long, default_value_t = 10_000)]
    clients: u32,
    /// How they do.
    #[arg(long, value_enum, default_value = "sse")]
    transport: Transport,
    /// For how many seconds the number changes.
    #[arg(long, default_value_t = 20)]
    seconds: u32,
}

pub(crate) async fn run(settings: &Settings, dir: &Path, arguments: &Arguments) -> Result<Value> {
    let mut settings = settings.clone();
    settings.kafka.topics.events = format!("{}.live", settings.kafka.topics.events);
    let scene = Scene::set(settings, dir, "live", &[]).await?;
    fill::progress(&scene).await?;
    let node = Node::start(&scene, "live", |_| {}).await?;
    // What the first one costs, all have in common.
    let first = Watchers::connect(node.address, &scene.write_keys[0], arguments.transport, 1).await?;
    tokio::time::sleep(PAUSE).await;
    let before = node.process.usage()?;
    let began = Instant::now();
    let watchers =
        Watchers::connect(node.address, &scene.write_keys[0], arguments.transport, arguments.clients).await?;
    let connected = began.elapsed();
    let load_before = Usage::of(std::process::id())?;
    let busy_before = node.process.usage()?;
    let changing = Instant::now();
    change(&scene, arguments.seconds, watchers.deliveries()).await?;
    let seconds = changing.elapsed().as_secs_f64();
    let (after, load) = (node.process.usage()?, Usage::of(std::process::id())?);
    tokio::time::sleep(PAUSE).await;
    let deliveries = watchers.deliveries().clone();
    watchers.stop().await?;
    first.stop().await?;
    node.process.stop().await?;
    scene.clear().await?;
    let expected = u64::from(arguments.clients) * u64::from(arguments.seconds);
    let cores = |after: &Usage, before: &Usage| rounded((after.cpu_seconds() - before.cpu_seconds()) / seconds);
    Ok(json!({
        "line": "live",
        "transport": format!("{:?}", arguments.transport).to_lowercase(),
        "clients": arguments.clients,
        "changes": arguments.seconds,
        "connected_seconds": rounded(connected.as_secs_f64()),
        "deliveries": deliveries.count(),
        "deliveries_missed": expected.saturating_sub(deliveries.count()),
        "delivery_p50_ms": deliveries.quantile_ms(0.5),
        "delivery_p99_ms": deliveries.quantile_ms(0.99),
        "delivery_max_ms": deliveries.quantile_ms(1.0),
        "bytes_per_client": after.rss_bytes.saturating_sub(before.rss_bytes) / u64::from(arguments.clients.max(1)),
        "cores": cores(&after, &busy_before),
        "cores_of_the_load": cores(&load, &load_before),
        "usage": after.json(),
    }))
}

/// Changes the number once a second, as the speed layer would: the cell, then the announcement.
async fn change(scene: &Scene, seconds: u32, deliveries: &Deliveries) -> Result<()> {
    let tenant = tenant(0);
    let mut redis = scene.redis().await?;
    let mut pace = tokio::time::interval(Duration::from_secs(1));
    let window = Grain::Hour.window_at(EventTime::from_timestamp(Timestamp::now()), &Zone::UTC);
    for number in 1..=seconds {
        pace.tick().await;
        ensure!(fill::EVENT == "click", "the catalog's metric is about another event");
        let mut write = redis::pipe();
        fill::put(&mut write, &tenant, &window, i64::from(number), u64::from(number))?;
        write.publish(redis_keys::changes_channel(&tenant), "{}").ignore();
        deliveries.published(number);
        write.query_async::<()>(&mut redis).await?;
    }
    pace.tick().await;
    Ok(())
}
