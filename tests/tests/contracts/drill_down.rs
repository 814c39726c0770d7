//! From a number to its reasons, to event ids, to partitions and offsets; and what somebody did to a number is named.

use std::collections::BTreeSet;
use std::fs::File;

use anyhow::{Context, Result, ensure};
use arrow::array::AsArray;
use arrow::datatypes::Decimal128Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use reckon_tests::counted::{produce, until_counted};
use reckon_tests::lake::until_conserved;
use reckon_tests::log::{Logged, read_topic};
use reckon_tests::purchases::{Purchase, generate};
use reckon_tests::{Stack, World};
use serde_json::Value;

/// A short memory, so that some duplicates are counted twice; and nobody is waited for.
const TUNING: &str = r#"
[speed]
allowed_lateness = "20m"
dedup_horizon_records = 40
flush_interval = "100ms"
clickhouse_interval = "300ms"

[archive]
commit_interval = "200ms"

[nightly]
archive_wait = "60s"
speed_wait = "1s"
"#;

const HOUR_US: i64 = 3_600_000_000;
const SPACING_US: i64 = 20_000_000;

struct Scene {
    world: World,
    day: String,
    purchases: Vec<Purchase>,
    late: BTreeSet<String>,
    twice: BTreeSet<String>,
    /// Counted twice as well, and its third delivery says that it happened on the next day.
    contradicted: BTreeSet<String>,
    log: Vec<Logged>,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_is_traced_to_the_deliveries_behind_its_drift() -> Result<()> {
    let scene = settled().await?;
    let late = explain(&scene, 0, &["--reason", "late", "--limit", "1000"])?;
    ensure!(late["adds_up"] == true, "{late}");
    ensure!(ids(&late) == scene.late, "{:?} instead of {:?}", ids(&late), scene.late);
    let twice = explain(&scene, 0, &["--reason", "duplicate", "--limit", "1000"])?;
    ensure!(ids(&twice) == scene.twice, "{:?} instead of {:?}", ids(&twice), scene.twice);
    // What was found out on another day is true of this one, for whoever counts and for whoever explains.
    let contradicted = explain(&scene, 0, &["--reason", "conflicting"])?;
    ensure!(ids(&contradicted) == scene.contradicted && contradicted["found"] == 1, "{contradicted}");
    for listed in [&late, &twice].into_iter().flat_map(|found| found["deliveries"].as_array()).flatten() {
        let logged = scene.log.iter().find(|logged| {
            Some(i64::from(logged.partition)) == listed["partition"].as_i64()
                && Some(logged.offset) == listed["offset"].as_i64()
        });
        let payload: Value = serde_json::from_slice(&logged.context("an offset of the log")?.payload)?;
        ensure!(payload["id"] == listed["event_id"], "{payload} is not {listed}");
        ensure!(listed["first"].is_object() == (listed["reason"] == "duplicate"), "{listed}");
    }
    // In one cell of a rollup, and no more than asked for.
    let one = explain(&scene, 0, &["--rollup", "department", "--value", "department=GROCERY", "--limit", "1"])?;
    let of_grocery = |id: &&String| scene.purchases.iter().any(|p| p.id == **id && p.department == "GROCERY");
    let expected = [&scene.late, &scene.twice, &scene.contradicted].into_iter().flatten().filter(of_grocery).count();
    ensure!(one["found"] == expected && one["deliveries"].as_array().is_some_and(|all| all.len() == 1), "{one}");
    let hours: i64 = late["hours"].as_array().into_iter().flatten().filter_map(|hour| hour["events"].as_i64()).sum();
    ensure!(hours == i64::try_from(scene.twice.len() + 1)? - i64::try_from(scene.late.len())?, "{late}");
    let unknown = scene.world.run(&["explain", "--tenant", &scene.world.tenant, "--date", "2001-01-01"])?;
    ensure!(unknown.code == 11 && unknown.log.contains("not settled"), "{}", unknown.log);

    exports(&scene)
}

fn exports(scene: &Scene) -> Result<()> {
    let count = |document: &str| document.lines().filter(|line| line.contains(",total,")).count();
    let csv = export(scene, "csv", &[])?;
    let csv = String::from_utf8(csv)?;
    ensure!(csv.starts_with("tenant,run_id,day,rollup,event,dimensions,measure,unit,speed,batch,drift,late,"), "{csv}");
    ensure!(count(&csv) == 6, "two days of three measures:\n{csv}");
    export(scene, "parquet", &[])?;
    let file = scene.world.config().with_file_name("export.parquet");
    let mut late = 0;
    for batch in ParquetRecordBatchReaderBuilder::try_new(File::open(file)?)?.build()? {
        let batch = batch?;
        let column = |name: &str| batch.column_by_name(name).with_context(|| name.to_owned());
        let (rollups, measures) = (column("rollup")?.as_string::<i32>(), column("measure")?.as_string::<i32>());
        for row in 0..batch.num_rows() {
            if rollups.value(row) == "total" && measures.value(row) == "events" {
                late += column("late")?.as_primitive::<Decimal128Type>().value(row);
            }
        }
    }
    ensure!(late == -1_000_000 * i128::try_from(scene.late.len())?, "{late} millionths of events are late");
    let json: Value = serde_json::from_slice(&export(scene, "json", &["--date", &scene.day])?)?;
    let days = json["cells"].as_array().context("cells")?.iter().map(|cell| &cell["day"]).collect::<Vec<_>>();
    ensure!(!days.is_empty() && days.iter().all(|day| *day == &scene.day), "{days:?}");
    for (arguments, title) in [(&[][..], "by reason and day"), (&["--date", &scene.day], "by reason and hour")] {
        let page = String::from_utf8(export(scene, "html", arguments)?)?;
        ensure!(page.contains(title) && page.contains("<svg") && page.contains("class=\"late\""), "{page}");
        ensure!(!page.contains("http") && !page.contains("<script"), "it is self-contained");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_event_a_doubled_one_and_a_changed_cent_are_named() -> Result<()> {
    let scene = settled().await?;
    let chosen = |department: &str, nth: usize| {
        let accepted = |p: &&Purchase| {
            let troubled = [&scene.late, &scene.twice, &scene.contradicted].into_iter().any(|ids| ids.contains(&p.id));
            p.department == department && !troubled && p.cents != 0
        };
        scene.purchases.iter().filter(accepted).nth(nth).context("a purchase")
    };
    let (lost, doubled, changed) = (chosen("GROCERY", 40)?, chosen("DRUG GM", 50)?, chosen("PRODUCE", 60)?);
    tamper(&scene, lost, -1, -lost.cents).await?;
    tamper(&scene, doubled, 1, doubled.cents).await?;
    tamper(&scene, changed, 0, 1).await?;
    // One more delivery of something that is there already makes the day due again, and changes no number.
    produce(&scene.world, &scene.purchases[..1]).await?;
    let mut archiver = scene.world.start("archive")?;
    until_conserved(&scene.world).await?;
    let nightly = scene.world.run(&["nightly", "--date", &scene.day])?;
    ensure!(archiver.stop()?.success());
    ensure!(nightly.code == 10, "exit {}:\n{}", nightly.code, nightly.log);
    for purchase in [lost, doubled, changed] {
        ensure!(nightly.stdout.contains(&format!("[\"{}\"]", purchase.department)), "{}", nightly.stdout);
    }
    let told = explain(&scene, 10, &["--rollup", "department", "--limit", "50"])?;
    let parts = told["unexplained"].as_array().context("parts")?;
    ensure!(parts.len() == 3, "{parts:?}");
    for (purchase, verdict) in [(lost, "lost"), (doubled, "doubled"), (changed, "changed")] {
        let part = parts.iter().find(|part| part["dimensions"][0] == purchase.department.as_str());
        let part = part.with_context(|| purchase.department.clone())?;
        ensure!(part["verdict"] == verdict, "{part}");
        let suspects = part["suspects"].as_array().context("suspects")?;
        let logged = scene.log.iter().find(|logged| is(logged, &purchase.id)).context("it is in the log")?;
        let named = suspects.iter().find(|suspect| suspect["event_id"] == purchase.id.as_str());
        let named = named.with_context(|| format!("{} is not among {suspects:?}", purchase.id))?;
        ensure!(named["partition"] == logged.partition && named["offset"] == logged.offset, "{named}");
        ensure!(verdict == "changed" || suspects.len() == 1, "{suspects:?}");
    }
    Ok(())
}

/// Two days of purchases, the first one with trouble, counted by both layers and settled; nothing runs any more.
async fn settled() -> Result<Scene> {
    let world = World::with_tuning(&Stack::shared()?, TUNING)?;
    // Three days ago, at noon in universal time, is in the morning in New York.
    let noon_us = (jiff::Timestamp::now().as_microsecond() / (24 * HOUR_US) - 3) * 24 * HOUR_US + 12 * HOUR_US;
    let day = jiff::Timestamp::from_microsecond(noon_us)?.in_tz("America/New_York")?.date().to_string();
    let purchases = generate(0x5eed_0410, 1_500, noon_us, SPACING_US);
    let is_late = |n: usize| n % 97 == 5;
    let late: Vec<Purchase> =
        purchases.iter().enumerate().filter(|(n, _)| is_late(*n)).map(|(_, p)| p.clone()).collect();
    let on_time: Vec<Purchase> =
        purchases.iter().enumerate().filter(|(n, _)| !is_late(*n)).map(|(_, p)| p.clone()).collect();
    // Again, so long after the first time that it is forgotten.
    let again: Vec<Purchase> = on_time.iter().step_by(111).take(9).cloned().collect();
    // A day later the watermark of every partition has left the first day behind.
    let next_day = generate(0x5eed_0411, 300, noon_us + 30 * HOUR_US, SPACING_US);
    let (twice, contradicted) = again.split_at(8);
    let contradicting = [Purchase { at_us: noon_us + 31 * HOUR_US, ..contradicted[0].clone() }];
    let mut worker = world.start("speed")?;
    let mut archiver = world.start("archive")?;
    for part in [&on_time[..], &again, &next_day, &contradicting, &late] {
        produce(&world, part).await?;
    }
    until_counted(&world).await?;
    until_conserved(&world).await?;
    let nightly = world.run(&["nightly"])?;
    ensure!(nightly.code == 0, "exit {}:\n{}\n{}", nightly.code, nightly.stdout, nightly.log);
    ensure!(worker.stop()?.success() && archiver.stop()?.success());
    let log = read_topic(&world.kafka.brokers, &world.kafka.topics.events).await?;
    let names = |purchases: &[Purchase]| purchases.iter().map(|purchase| purchase.id.clone()).collect();
    let (late, twice, contradicted) = (names(&late), names(twice), names(contradicted));
    Ok(Scene { late, twice, contradicted, world, day, purchases, log })
}

fn is(logged: &Logged, id: &str) -> bool {
    serde_json::from_slice::<Value>(&logged.payload).is_ok_and(|payload| payload["id"] == id)
}

/// Changes what the speed layer says of a purchase's department, in every grain, as if it had counted wrongly.
async fn tamper(scene: &Scene, purchase: &Purchase, count: i64, cents: i64) -> Result<()> {
    let logged = scene.log.iter().find(|logged| is(logged, &purchase.id)).context("it is in the log")?;
    let sql = format!(
        "INSERT INTO speed_cells_raw SELECT tenant, rollup, grain, window_start, window_end, event, dimensions, \
         partition, version, toUInt64(toInt64(count) + ({count})), mapApply((k, v) -> (k, toInt128(v + ({cents}))), \
         money), users FROM speed_cells_raw FINAL WHERE tenant = ? AND rollup = 'department' AND dimensions = [?] \
         AND partition = ? AND window_start <= fromUnixTimestamp64Micro(?) AND window_end > fromUnixTimestamp64Micro(?)"
    );
    let query = scene.world.clickhouse_client().query(&sql).bind(&scene.world.tenant).bind(&purchase.department);
    Ok(query.bind(logged.partition).bind(purchase.at_us).bind(purchase.at_us).execute().await?)
}

fn explain(scene: &Scene, code: i32, more: &[&str]) -> Result<Value> {
    let fixed = ["explain", "--tenant", &scene.world.tenant, "--date", &scene.day];
    let arguments: Vec<&str> = fixed.into_iter().chain(more.iter().copied()).collect();
    let finished = scene.world.run(&arguments)?;
    ensure!(finished.code == code, "exit {}:\n{}\n{}", finished.code, finished.stdout, finished.log);
    Ok(serde_json::from_str(finished.stdout.lines().last().context("a line")?)?)
}

fn ids(explanation: &Value) -> BTreeSet<String> {
    let listed = explanation["deliveries"].as_array().into_iter().flatten();
    listed.filter_map(|delivery| delivery["event_id"].as_str().map(str::to_owned)).collect()
}

fn export(scene: &Scene, format: &str, more: &[&str]) -> Result<Vec<u8>> {
    let file = scene.world.config().with_file_name(format!("export.{format}"));
    let name = file.to_string_lossy().into_owned();
    let fixed = ["reconcile", "--format", format, "--output", &name];
    let arguments: Vec<&str> = fixed.into_iter().chain(more.iter().copied()).collect();
    let finished = scene.world.run(&arguments)?;
    ensure!(finished.code == 0, "exit {}:\n{}", finished.code, finished.log);
    Ok(std::fs::read(file)?)
}
