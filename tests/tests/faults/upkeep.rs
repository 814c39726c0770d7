//! Compaction, vacuum and expiry while the archive writes, queries read and runs are verified (15): every version that a
//! settlement was counted from adds up to the same, as long as anybody asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::functions_aggregate::expr_fn::{count, sum};
use datafusion::prelude::{SessionContext, cast, ident};
use deltalake::DeltaTable;
use jiff::ToSpan;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reckon_batch::lake::Lake;
use reckon_schemas::lake::EVENTS_TABLE;
use reckon_tests::counted::produce;
use reckon_tests::lake::archived_offsets;
use reckon_tests::process;
use reckon_tests::purchases::{Purchase, generate};
use reckon_tests::{Stack, World, until};
use serde_json::Value;

const TUNING: &str = r#"
[archive]
commit_interval = "100ms"

[nightly]
archive_wait = "60s"
speed_wait = "0s"
lock_expiry = "2s"
"#;

const PATIENCE: Duration = Duration::from_secs(60);
const ROUNDS: usize = 5;
const PURCHASES: usize = 400;
const DAY_US: i64 = 86_400_000_000;

/// Records and cents of a version.
type Sum = (i64, i64);

/// What is in a version, read row by row from its files.
async fn sum_of(table: &DeltaTable) -> Result<Sum> {
    let context = SessionContext::new();
    table.update_datafusion_session(&context.state())?;
    let rows = context.read_table(table.table_provider().await?)?;
    let amount = cast(ident("amount_minor"), arrow::datatypes::DataType::Int64);
    let found = rows.aggregate(Vec::new(), vec![count(ident("offset")), sum(amount)])?.collect().await?;
    let number = |column: usize| -> Result<i64> {
        let batch = found.first().context("a row")?;
        Ok(batch.column(column).as_primitive::<Int64Type>().iter().next().flatten().unwrap_or(0))
    };
    Ok((number(0)?, number(1)?))
}

/// Purchases of one round: from 100 days ago until yesterday, so that some of them expire.
fn purchases(seed: u64) -> Vec<Purchase> {
    let from_us = (jiff::Timestamp::now().as_microsecond() / DAY_US - 100) * DAY_US;
    generate(seed, PURCHASES, from_us, 99 * DAY_US / i64::try_from(PURCHASES).expect("small"))
}

struct Scene {
    world: World,
    lake: Lake,
    /// Versions that settlements were counted from: run, version, sum.
    pinned: Vec<(String, u64, Sum)>,
    sent: Vec<Purchase>,
}

impl Scene {
    async fn archive_more(&mut self, seed: u64) -> Result<()> {
        let more = purchases(seed);
        produce(&self.world, &more).await?;
        self.sent.extend(more);
        Ok(())
    }

    async fn until_archived(&self, expired: u64) -> Result<()> {
        until("the purchases in the lake", PATIENCE, || async {
            let archived = archived_offsets(&self.world, EVENTS_TABLE).await?;
            Ok(archived.values().map(|offsets| offsets.len() as u64).sum::<u64>() + expired == self.sent.len() as u64)
        })
        .await
    }

    /// Settles, and remembers what the version that was counted adds up to.
    async fn settle(&mut self) -> Result<()> {
        let finished = self.world.run(&["nightly"])?;
        ensure!(finished.code == 0, "exit {}:\n{}\n{}", finished.code, finished.stdout, finished.log);
        let report: Value = serde_json::from_str(finished.stdout.lines().last().context("a line")?)?;
        let report = &report["reports"][0];
        let run = report["run_id"].as_str().context("a run")?.to_owned();
        let version = report["lake_version"].as_u64().context("a version")?;
        self.pinned.push((run, version, sum_of(&self.lake.events_at(version).await?).await?));
        Ok(())
    }
}

/// Reads the pinned versions again and again until told to stop; every sum must be what it was.
async fn read_on(lake: Lake, pinned: Vec<(String, u64, Sum)>, seed: u64, stop: Arc<AtomicBool>) -> Result<u64> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut reads = 0;
    while !stop.load(Ordering::Relaxed) {
        let (_, version, expected) = &pinned[random.random_range(0..pinned.len())];
        let found = sum_of(&lake.events_at(*version).await?).await.with_context(|| format!("version {version}"))?;
        ensure!(found == *expected, "seed {seed:#x}: version {version} adds up to {found:?} instead of {expected:?}");
        reads += 1;
    }
    Ok(reads)
}

/// Unites and removes files until told to stop, a vacuum being a week ahead of its time.
async fn keep_up(lake: Lake, pinned: Vec<u64>, stop: Arc<AtomicBool>, united: Arc<AtomicU64>) -> Result<u64> {
    let mut removed = 0;
    while !stop.load(Ordering::Relaxed) {
        match lake.compact().await {
            Ok(tables) => {
                united.fetch_add(tables[0].files_removed, Ordering::Relaxed);
            }
            Err(error) if error.is_transient() => {}
            Err(error) => return Err(error.into()),
        }
        // What was written and is not committed yet is younger than that.
        let now = jiff::Timestamp::now().checked_add((7 * 24).hours())?.checked_sub(5.seconds())?;
        // What a vacuum notes in the history counts as read, and an expiry may take some of it at this moment.
        match lake.vacuum(Duration::ZERO, &pinned, now, false).await {
            Ok(tables) => removed += tables[0].files,
            Err(error) if error.is_transient() => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(u64::try_from(removed)?)
}

/// Runs a command again and again until told to stop; each must end with one of these codes.
async fn run_on(
    config: std::path::PathBuf,
    arguments: Vec<Vec<String>>,
    codes: &'static [i32],
    stop: Arc<AtomicBool>,
) -> Result<u64> {
    let mut runs = 0;
    let mut next = arguments.iter().cycle();
    while let Some(arguments) = next.next().filter(|_| !stop.load(Ordering::Relaxed)) {
        let (config, arguments) = (config.clone(), arguments.clone());
        let ended = tokio::task::spawn_blocking(move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            process::run(&config, &arguments).map(|ended| (arguments.join(" "), ended))
        });
        let (arguments, ended) = ended.await??;
        ensure!(codes.contains(&ended.code), "{arguments}: exit {}\n{}\n{}", ended.code, ended.stdout, ended.log);
        runs += 1;
    }
    Ok(runs)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pinned_version_adds_up_to_the_same() -> Result<()> {
    let seed = 0x5eed_4701;
    let world = World::with_tuning(&Stack::shared()?, TUNING)?;
    let _archive = world.start("archive")?;
    let lake = Lake::open(&world.lake).await?;
    let mut scene = Scene { world, lake, pinned: Vec::new(), sent: Vec::new() };
    let (united, mut totals) = (Arc::new(AtomicU64::new(0)), [0_u64; 3]);
    for round in 0..ROUNDS {
        let seed = seed + round as u64;
        scene.archive_more(seed).await?;
        scene.settle().await?;
        // All at once: readers of every version so far, upkeep, an expiry that goes further, verification, more events.
        let stop = Arc::new(AtomicBool::new(false));
        let versions = scene.pinned.iter().map(|(_, version, _)| *version).collect();
        let reader = tokio::spawn(read_on(scene.lake.clone(), scene.pinned.clone(), seed, Arc::clone(&stop)));
        let upkeep = tokio::spawn(keep_up(scene.lake.clone(), versions, Arc::clone(&stop), Arc::clone(&united)));
        let keep = (95 - round).to_string();
        let expire = vec![["expire", "--keep-days", &keep].map(str::to_owned).to_vec()];
        // Refused (11) while events have come that no settlement has counted.
        let expire = tokio::spawn(run_on(scene.world.config(), expire, &[0, 11, 75, 99], Arc::clone(&stop)));
        let verify = scene.pinned.iter().map(|(run, ..)| ["verify", "--run", run].map(str::to_owned).to_vec());
        let verify = tokio::spawn(run_on(scene.world.config(), verify.collect(), &[0], Arc::clone(&stop)));
        tokio::time::sleep(Duration::from_secs(4)).await;
        scene.archive_more(seed + 0x100).await?;
        tokio::time::sleep(Duration::from_secs(4)).await;
        stop.store(true, Ordering::Relaxed);
        let tell = || format!("seed {seed:#x}, round {round}");
        totals[0] += reader.await?.with_context(tell)?;
        totals[1] += upkeep.await?.with_context(tell)?;
        ensure!(expire.await?.with_context(tell)? > 0, "no expiry ran");
        totals[2] += verify.await?.with_context(tell)?;
    }
    let [reads, removed, verified] = totals;
    let united = united.load(Ordering::Relaxed);
    ensure!(
        reads > 20 && verified >= 5 && united > 5 && removed > 0,
        "too little happened: {totals:?}, {united} united"
    );

    // The newest version and what has expired are everything that was sent; the settled numbers know all of it.
    scene.settle().await?;
    let proof = scene.world.run(&["conservation"])?;
    ensure!(proof.code == 0, "{}\n{}", proof.stdout, proof.log);
    let proof: Value = serde_json::from_str(proof.stdout.lines().last().context("a line")?)?;
    let expired: u64 = proof["partitions"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|one| one["holes"].as_array().cloned().unwrap_or_default())
        .filter(|hole| hole["why"] == "expired")
        .map(|hole| hole["to"].as_u64().unwrap_or(0) - hole["from"].as_u64().unwrap_or(0))
        .sum();
    ensure!(expired > 0, "nothing expired: not a test");
    scene.until_archived(expired).await?;
    without_pins_it_would_be_noticed(&scene).await
}

/// The negative control: a vacuum that keeps nothing takes files that a pinned version is made of, and a reader sees it.
async fn without_pins_it_would_be_noticed(scene: &Scene) -> Result<()> {
    let (_, version, expected) = &scene.pinned[0];
    ensure!(sum_of(&scene.lake.events_at(*version).await?).await? == *expected);
    let vacuum = scene.lake.events().await?.vacuum();
    vacuum.with_retention_period(chrono::Duration::zero()).with_enforce_retention_duration(false).await?;
    let found = sum_of(&scene.lake.events_at(*version).await?).await;
    ensure!(!matches!(found, Ok(sum) if sum == *expected), "the files that were pinned are still there: not a test");
    Ok(())
}
