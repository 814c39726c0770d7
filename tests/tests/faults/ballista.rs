//! The recount on a cluster: a scheduler and two executors as processes of their own give what one process gives, digit by
//! digit, also when one of them is killed in the middle of it.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reckon_schemas::lake::EVENTS_TABLE;
use reckon_tests::counted::message;
use reckon_tests::lake::archived_offsets;
use reckon_tests::log::{Raw, producer, send};
use reckon_tests::purchases::{Purchase, deliveries, generate};
use reckon_tests::s3::S3;
use reckon_tests::{Process, Stack, World, process, until};
use serde_json::Value;

const TUNING: &str = r#"
[speed]
flush_interval = "100ms"
clickhouse_interval = "300ms"

[archive]
commit_interval = "200ms"

[nightly]
archive_wait = "60s"
lock_expiry = "3s"
chunk_deliveries = 1500
"#;

const PATIENCE: Duration = Duration::from_secs(120);
/// What a nightly may take on a cluster that lost an executor: it is given up after 20 s without a sign of life.
const SLOW: Duration = Duration::from_secs(240);
/// The morning of 2026-03-06 in New York; the clocks change two days later.
const FROM_US: i64 = 1_772_802_000_000_000;

struct Cluster {
    address: String,
    folder: PathBuf,
    _scheduler: Process,
    executors: Vec<Process>,
}

fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

impl Cluster {
    async fn start(world: &World) -> Result<Self> {
        let address = free_address()?;
        let folder = world.config().with_file_name("cluster");
        std::fs::create_dir_all(&folder)?;
        let arguments = ["ballista-scheduler", "--listen", &address];
        let scheduler = Process::start(&world.config(), &arguments, folder.join("scheduler.log"))?;
        let mut cluster = Self { address, folder, _scheduler: scheduler, executors: Vec::new() };
        for _ in 0..2 {
            cluster.add(world)?;
        }
        until("the scheduler", PATIENCE, || async { Ok(TcpStream::connect(&cluster.address).is_ok()) }).await?;
        Ok(cluster)
    }

    /// One more executor, with a folder of its own.
    fn add(&mut self, world: &World) -> Result<()> {
        let number = self.executors.len();
        let (listen, folder) = (free_address()?, self.work_dir(number).display().to_string());
        let arguments = [
            "ballista-executor",
            "--scheduler",
            &self.address,
            "--listen",
            &listen,
            "--cores",
            "1",
            "--memory-bytes",
            "500000000",
            "--work-dir",
            &folder,
        ];
        let log = self.folder.join(format!("executor-{number}.log"));
        self.executors.push(Process::start(&world.config(), &arguments, log)?);
        Ok(())
    }

    fn work_dir(&self, number: usize) -> PathBuf {
        self.folder.join(format!("work-{number}"))
    }

    fn engine(&self) -> String {
        format!("ballista://{}", self.address)
    }

    /// How many results of tasks an executor holds.
    fn results(&self, executor: usize) -> usize {
        files(&self.work_dir(executor))
    }
}

fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
}

/// Two tenants' purchases of five days: some twice, some again with other contents or on another day, in two currencies,
/// by nobody, in several partitions.
async fn fill(world: &World, seed: u64, count: usize) -> Result<()> {
    let spacing_us = 5 * 86_400_000_000 / i64::try_from(count)?;
    let purchases = generate(seed, count, FROM_US, spacing_us);
    let mut records = Vec::new();
    for tenant in world.catalog.tenants.iter().map(|tenant| tenant.id.as_str()) {
        for (number, purchase) in deliveries(&purchases, seed, 0.05, 50).into_iter().enumerate() {
            let record = |purchase: &Purchase| -> Result<Raw> {
                let (key, payload) = message(tenant, purchase);
                let mut payload: Value = serde_json::from_str(&payload)?;
                if number % 7 == 0 {
                    payload["money"]["currency"] = "EUR".into();
                }
                if number % 31 == 0 {
                    payload["user"] = "".into();
                }
                Ok(Raw { key: key.into_bytes(), payload: Some(payload.to_string().into_bytes()), ..Raw::default() })
            };
            records.push(record(&purchase)?);
            if number % 40 == 0 {
                records.push(record(&Purchase { cents: purchase.cents + 1, ..purchase.clone() })?);
            }
            if number % 90 == 0 {
                records.push(record(&Purchase { at_us: purchase.at_us + 86_400_000_000, ..purchase.clone() })?);
            }
        }
    }
    for records in records.chunks(2000) {
        send(&producer(&world.kafka.brokers)?, &world.kafka.topics.events, records).await?;
    }
    until("the purchases in the lake", PATIENCE, || async {
        let archived = archived_offsets(world, EVENTS_TABLE).await?;
        Ok(archived.values().map(Vec::len).sum::<usize>() == records.len())
    })
    .await
}

/// Tenant, day, deliveries, events and content of everything that is settled.
type Content = (String, String, u64, u64, String);

async fn contents(world: &World, database: &str) -> Result<Vec<Content>> {
    let client = world.clickhouse_client().with_database(database);
    let sql = "SELECT tenant, toString(day), deliveries, events, content_hash FROM settlements_current \
               ORDER BY tenant, day";
    Ok(client.query(sql).fetch_all().await?)
}

/// The drift of a run, as text, in order.
async fn drift(world: &World, run: &str) -> Result<Vec<String>> {
    let sql = "SELECT concat(toString(day), ' ', rollup, ' ', event, ' ', toString(dimensions), ' ', measure, ' ', \
               currency, ' ', toString(speed), ' ', toString(batch), ' ', toString(mapSort(reasons)), ' ', \
               toString(residual)) AS line FROM drift WHERE run_id = {run:String} ORDER BY line";
    Ok(world.clickhouse_client().query(sql).param("run", run).fetch_all().await?)
}

fn settle(world: &World, arguments: &[&str]) -> Result<Vec<String>> {
    let finished = world.run(&[&["nightly"], arguments].concat())?;
    ensure!(finished.code == 0, "exit {}:\n{}\n{}", finished.code, finished.stdout, finished.log);
    let report: Value = serde_json::from_str(finished.stdout.lines().last().context("a line")?)?;
    let reports = report["reports"].as_array().context("reports")?;
    Ok(reports.iter().filter_map(|report| Some(report["run_id"].as_str()?.to_owned())).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_settles_what_one_process_settles() -> Result<()> {
    let world = World::with_neighbours(&Stack::shared()?, TUNING, &["b"])?;
    let _parts = [world.start("speed")?, world.start("archive")?];
    fill(&world, 0x5eed_4501, 3_000).await?;
    let cluster = Cluster::start(&world).await?;
    let engine = cluster.engine();
    let elsewhere = settle(&world, &["--engine", &engine])?;
    let found = contents(&world, &world.clickhouse.database).await?;
    ensure!(found.len() >= 12 && elsewhere.len() == 2, "{found:?}");
    for executor in 0..2 {
        ensure!(
            cluster.results(executor) > 0,
            "executor {executor} did nothing:\n{}",
            cluster.executors[executor].log()
        );
    }
    let here = settle(&world, &["--full"])?;
    ensure!(contents(&world, &world.clickhouse.database).await? == found);
    let restated: u64 = world
        .clickhouse_client()
        .query("SELECT count() FROM settlements_current WHERE state = 'restated'")
        .fetch_one()
        .await?;
    ensure!(restated == 0, "the same content is no restatement");
    for (elsewhere, here) in elsewhere.iter().zip(&here) {
        let (one, other) = (drift(&world, elsewhere).await?, drift(&world, here).await?);
        ensure!(!one.is_empty() && one == other, "{one:#?}\n{other:#?}");
        let conflicts = "SELECT count() FROM conflicts WHERE run_id = {run:String}";
        let count = |run| world.clickhouse_client().query(conflicts).param("run", run).fetch_one::<u64>();
        let (one, other) = (count(elsewhere).await?, count(here).await?);
        ensure!(one > 0 && one == other, "{one} conflicts and {other}");
        // What one counted, the other verifies.
        for (run, engine) in [(elsewhere, "local"), (here, engine.as_str())] {
            let verified = world.run(&["verify", "--run", run, "--engine", engine])?;
            ensure!(verified.code == 0, "{engine}: {}\n{}", verified.stdout, verified.log);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_executor_that_is_killed_changes_no_number() -> Result<()> {
    let seed = 0x5eed_4502;
    let mut random = StdRng::seed_from_u64(seed);
    let world = World::with_tuning(&Stack::shared()?, TUNING)?;
    let _archive = world.start("archive")?;
    fill(&world, seed, 4_000).await?;
    // The same lake, settled by one process, in a database of its own.
    let calm_database = format!("{}_calm", world.clickhouse.database);
    let calm = world.config().with_file_name("calm.toml");
    let text = std::fs::read_to_string(world.config())?;
    std::fs::write(&calm, text.replace(&world.clickhouse.database, &calm_database))?;
    let mut cluster = Cluster::start(&world).await?;
    let engine = cluster.engine();
    let started = Instant::now();
    settle(&world, &["--engine", &engine])?;
    let whole_ms = u64::try_from(started.elapsed().as_millis())?;
    for life in 0..2 {
        let log = world.config().with_file_name(format!("life-{life}.log"));
        let mut nightly = Process::start(&world.config(), &["nightly", "--full", "--engine", &engine], log)?;
        let before = cluster.results(life);
        let began = Instant::now();
        let moment = Duration::from_millis(random.random_range(whole_ms / 5..whole_ms * 3 / 5));
        until("the executor to work", PATIENCE, || async {
            Ok(began.elapsed() > moment && cluster.results(life) > before)
        })
        .await?;
        ensure!(!nightly.has_ended()?, "seed {seed:#x}: it was over before the executor was killed: not a test");
        cluster.executors[life].kill()?;
        let ended = loop {
            ensure!(began.elapsed() < SLOW, "it hangs:\n{}", nightly.log_tail());
            match nightly.ended()? {
                Some(status) => break status.code(),
                None => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        };
        ensure!(matches!(ended, Some(0 | 75)), "exit {ended:?}:\n{}", nightly.log_tail());
        cluster.add(&world)?;
    }
    settle(&world, &["--full", "--engine", &engine])?;
    let undisturbed = process::run(&calm, &["nightly"])?;
    ensure!(undisturbed.code == 0, "{}", undisturbed.log);
    let (found, expected) =
        (contents(&world, &world.clickhouse.database).await?, contents(&world, &calm_database).await?);
    ensure!(found == expected && found.len() > 5, "seed {seed:#x}: {found:?} {expected:?}");
    let wrong: i64 = world
        .clickhouse_client()
        .query("SELECT uniqExact(day, content_hash) - uniqExact(day) FROM settlements")
        .fetch_one()
        .await?;
    ensure!(wrong == 0, "seed {seed:#x}: some run settled another number");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn executors_read_a_lake_on_s3_and_without_them_it_can_be_tried_again() -> Result<()> {
    let s3 = S3::start()?;
    let world = World::with_lake(&Stack::shared()?, TUNING, s3.lake(s3.endpoint()))?;
    let _archive = world.start("archive")?;
    let purchases = generate(0x5eed_4503, 300, FROM_US, 600_000_000);
    reckon_tests::counted::produce(&world, &purchases).await?;
    let nobody = format!("ballista://{}", free_address()?);
    let away = world.run(&["nightly", "--engine", &nobody])?;
    ensure!(away.code == 75, "exit {}: {}", away.code, away.log);
    let cluster = Cluster::start(&world).await?;
    settle(&world, &["--engine", &cluster.engine()])?;
    let found = contents(&world, &world.clickhouse.database).await?;
    settle(&world, &["--full"])?;
    ensure!(!found.is_empty() && contents(&world, &world.clickhouse.database).await? == found);
    Ok(())
}
