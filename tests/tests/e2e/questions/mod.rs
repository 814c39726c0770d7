//! Random questions about what is settled: the merged answer is what DuckDB finds in the source files.

mod judge;
mod oracle;
mod question;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;
use reckon_schemas::access::{NewKey, Scope};
use reckon_schemas::catalog::Catalog;
use reckon_tests::World;
use serde_json::Value;

use self::judge::Judge;
use self::oracle::Oracle;
use self::question::Asked;

const SEED: u64 = 0x5eed_0200;
/// A lot may be asked for, and a loaded machine may take its time.
const SERVE: &str = r#"
[serve]
queries_per_second_max = 10000
groups_max = 200000
points_max = 1000000
rows_per_minute_max = 100000000000
query_timeout = "60s"
events_timeout = "120s"
"#;

/// Source files, and what they hold.
pub(super) struct Source {
    pub(super) folder: PathBuf,
    /// The first instant of the data's days, and the first one after them.
    pub(super) first: &'static str,
    pub(super) end: &'static str,
    /// How many questions there are of each kind; ten times as many of the plain one.
    pub(super) rounds: usize,
}

/// Asks a serving node of the world, whose catalog is the demo's.
pub(super) async fn answers_equal_the_source(world: &mut World, source: &Source) -> Result<()> {
    let read = NewKey::from_random(rand::random(), vec![Scope::Read]);
    let path = world.config().with_file_name("catalog.toml");
    let mut catalog: Catalog = toml::from_str(&std::fs::read_to_string(&path)?)?;
    catalog.tenants[0].keys.push(read.entry);
    std::fs::write(&path, toml::to_string(&catalog)?)?;
    world.read_key = read.key;
    let config = std::fs::read_to_string(world.config())?;
    std::fs::write(world.config(), format!("{config}\n{SERVE}"))?;
    let mut serving = world.start_serving().await?;

    let mut random = StdRng::seed_from_u64(SEED);
    let mut judge = Judge::new(Oracle::start(&source.folder)?);
    for number in 0..source.rounds * Asked::A_ROUND {
        let asked = Asked::random(&mut random, source, number % Asked::A_ROUND)?;
        let answer = ask(world, &asked).await;
        let answer = answer.with_context(|| format!("seed {SEED:#x}, question {number}: {asked:?}"))?;
        let judged = judge.judge(&asked, &answer);
        judged.with_context(|| format!("seed {SEED:#x}, question {number}: {asked:?}\n{answer:.1500}"))?;
    }
    ensure!(serving.stop()?.success());
    let Judge { layers, methods, .. } = judge;
    let often = 2 * source.rounds;
    ensure!(layers.values().all(|count| *count >= often) && layers.len() == 2, "too much of one kind: {layers:?}");
    ensure!(methods.len() == 2, "no estimates, or nothing exact: {methods:?}");
    Ok(())
}

async fn ask(world: &World, asked: &Asked) -> Result<Value> {
    let (path, body) = asked.request()?;
    let Some(body) = body else { return world.query(&path).await };
    let url = format!("http://127.0.0.1:{}{path}", world.serve_port);
    let answer = world.http.post(url).bearer_auth(&world.read_key).json(&body).send().await?;
    let (status, text) = (answer.status(), answer.text().await?);
    ensure!(status.is_success(), "{status}: {text}");
    serde_json::from_str(&text).context(text)
}

/// How often something occurred.
type Counts = BTreeMap<String, usize>;
