//! The serving layer over millions of rollup rows: kept answers, computed ones, and many who ask for the same when it
//! ends; and (in [`live`]) many clients who watch.

mod clients;
mod fill;
pub(super) mod live;
mod node;
mod rows;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use self::node::Node;
pub(super) use self::rows::{live_row, serving_row};
use super::collect::{milliseconds, new_histogram, record};
use super::events::TENANTS;
use super::http::Connection;
use super::scene::Scene;
use crate::config::Settings;
use crate::report::say;
use crate::usage::rounded;

/// How many ask for the same in the moment in which it ends.
const AT_ONCE: usize = 500;
/// Longer than an answer about what still moves is kept.
const ENDED: Duration = Duration::from_millis(1_500);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// For how many tenants there are rows, a million each.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=20))]
    tenants: u16,
    /// How many computed answers are measured of each kind, and a tenth of how many kept ones.
    #[arg(long, default_value_t = 400)]
    queries: usize,
}

/// A kind of question.
struct Kind {
    what: &'static str,
    path: String,
}

/// The last day by minutes, none of it settled; the last 30 days by hours, settled but for the last two; and what is
/// settled of these.
fn kinds(now: Timestamp) -> Result<[Kind; 3]> {
    let days_ago = |days: i64| now.checked_sub(SignedDuration::from_hours(24 * days));
    Ok([
        Kind { what: "24 hours by minutes", path: "grain=1m".to_owned() },
        Kind { what: "30 days by hours", path: format!("grain=1h&from={}", days_ago(30)?) },
        Kind { what: "28 settled days by hours", path: format!("grain=1h&from={}&to={}", days_ago(31)?, days_ago(3)?) },
    ])
}

pub(crate) async fn run(settings: &Settings, dir: &Path, arguments: &Arguments) -> Result<Value> {
    let tenants = usize::from(arguments.tenants).min(TENANTS);
    let mut settings = settings.clone();
    settings.kafka.topics.events = format!("{}.serving", settings.kafka.topics.events);
    let scene = Scene::set(settings, dir, "serving", &["country".to_owned()]).await?;
    let rows = fill::cells(&scene, tenants).await?;
    let [day, month, settled] = kinds(Timestamp::now())?;
    let keys = &scene.write_keys[..tenants];

    let anew = Node::start(&scene, "computed", |serve| {
        for life in
            [&mut serve.cache_moving, &mut serve.cache_recent, &mut serve.cache_history, &mut serve.cache_settled]
        {
            *life = Duration::ZERO;
        }
    })
    .await?;
    for kind in [&day, &month] {
        // The first ones wait for files and for code.
        ask(anew.address, keys, &kind.path, 2, 40).await?;
        let times = ask(anew.address, keys, &kind.path, 2, arguments.queries).await?;
        say(&line("computed", kind, rows, 2, &times).to_string());
    }
    anew.process.stop().await?;

    let keeping = Node::start(&scene, "kept", |_| {}).await?;
    for kind in [&settled, &day] {
        ask(keeping.address, keys, &kind.path, 4, 200).await?;
        let times = ask(keeping.address, keys, &kind.path, 4, arguments.queries * 10).await?;
        say(&line("kept", kind, rows, 4, &times).to_string());
    }
    let at_once = at_once(&scene, &keeping, &month).await?;
    keeping.process.stop().await?;
    scene.clear().await?;
    Ok(at_once)
}

fn line(how: &str, kind: &Kind, rows: u64, clients: usize, times: &Histogram<u64>) -> Value {
    json!({
        "line": "serving", "how": how, "what": kind.what, "rows": rows, "queries": times.len(), "clients": clients,
        "p50_ms": milliseconds(times, 0.5), "p99_ms": milliseconds(times, 0.99), "max_ms": milliseconds(times, 1.0),
    })
}

/// So many clients ask, each as soon as it has its answer: every tenant, counts and revenue in turn.
async fn ask(
    address: SocketAddr,
    keys: &[String],
    path: &str,
    clients: usize,
    queries: usize,
) -> Result<Histogram<u64>> {
    let client = async |client: usize| {
        let mut connection = Connection::open(address).await?;
        let mut times = new_histogram()?;
        for number in (client..queries).step_by(clients) {
            let metric = if (number / keys.len()).is_multiple_of(2) { "events" } else { "revenue" };
            let asked = Instant::now();
            let answer =
                connection.get(&keys[number % keys.len()], &format!("/v1/query?metric={metric}&{path}")).await?;
            record(&mut times, asked.elapsed());
            ensure!(answer.starts_with(b"{\"tenant\""), "no answer: {}", String::from_utf8_lossy(&answer));
        }
        anyhow::Ok(times)
    };
    let mut all = new_histogram()?;
    for times in futures::future::try_join_all((0..clients).map(client)).await? {
        all.add(times)?;
    }
    Ok(all)
}

/// An answer that many want has just ended.
async fn at_once(scene: &Scene, node: &Node, kind: &Kind) -> Result<Value> {
    let (key, path) = (&scene.write_keys[0], format!("/v1/query?metric=revenue&{}", kind.path));
    let mut connections = futures::future::try_join_all((0..AT_ONCE).map(|_| Connection::open(node.address))).await?;
    let first = connections.first_mut().context("there are some")?;
    first.get(key, &path).await?;
    tokio::time::sleep(ENDED).await;
    let before = fill::selects(scene).await?;
    first.get(key, &path).await?;
    let alone = fill::selects(scene).await? - before;
    tokio::time::sleep(ENDED).await;
    let (selects, misses) = (fill::selects(scene).await?, node.answers("miss").await?);
    let began = Instant::now();
    futures::future::try_join_all(connections.iter_mut().map(|connection| connection.get(key, &path))).await?;
    let took = began.elapsed();
    Ok(json!({
        "line": "serving", "how": "at once", "what": kind.what, "queries": AT_ONCE,
        "computations": node.answers("miss").await? - misses,
        "selects": fill::selects(scene).await? - selects, "selects_of_one": alone,
        "coalesced": node.answers("coalesced").await?, "all_answered_ms": rounded(took.as_secs_f64() * 1000.0),
    }))
}
