//! What is added to the catalog while days are counted is missing from the speed layer's part of them: for a reason of
//! its own, and that reason hides nothing else. Whoever asks meanwhile is told, or answered by what was counted all along.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reckon_schemas::catalog::Metric;
use reckon_tests::counted::{produce, until_counted};
use reckon_tests::lake::until_conserved;
use reckon_tests::purchases::{Purchase, generate};
use reckon_tests::{Process, Stack, World, until};
use serde_json::Value;

const ROLLUP: &str = "department,store";
const HOUR_US: i64 = 3_600_000_000;

struct Scene {
    world: World,
    day: String,
    /// Counted before the rollup and the property were there, since, and since another worker took over.
    parts: [Vec<Purchase>; 3],
}

/// A day in three parts; the catalog changes while the worker runs, and again while none does.
async fn counted() -> Result<Scene> {
    let mut world = World::new(&Stack::shared()?)?;
    let noon_us = (jiff::Timestamp::now().as_microsecond() / (24 * HOUR_US) - 2) * 24 * HOUR_US + 12 * HOUR_US;
    let day = jiff::Timestamp::from_microsecond(noon_us)?.in_tz("America/New_York")?.date().to_string();
    let parts = [0, 1, 2].map(|part| generate(0x5eed_4200 + part, 300, noon_us + HOUR_US, 20_000_000));
    let mut worker = world.start("speed")?;
    let mut archive = world.start("archive")?;
    produce(&world, &parts[0]).await?;
    until_counted(&world).await?;
    world.change_catalog(|tenant| {
        tenant.rollups.push(ROLLUP.parse().expect("a rollup"));
        tenant.metrics.push(Metric::sum("store_numbers", "purchase", "store"));
    })?;
    until_noticed(&worker).await?;
    produce(&world, &parts[1]).await?;
    until_counted(&world).await?;
    ensure!(worker.stop()?.success(), "{}", worker.log_tail());
    // While nobody counts, one rollup goes and another one comes.
    world.change_catalog(|tenant| {
        tenant.rollups.retain(|rollup| rollup.name() != "store");
        tenant.rollups.push("store,department".parse().expect("a rollup"));
    })?;
    let mut worker = world.start("speed")?;
    produce(&world, &parts[2]).await?;
    until_counted(&world).await?;
    until_conserved(&world).await?;
    ensure!(worker.stop()?.success() && archive.stop()?.success());
    Ok(Scene { world, day, parts })
}

async fn until_noticed(worker: &Process) -> Result<()> {
    let noticed = || async { Ok(worker.log().contains("the catalog changed")) };
    until("the worker to notice", Duration::from_secs(30), noticed).await.with_context(|| worker.log_tail())
}

fn nightly(scene: &Scene, code: i32) -> Result<Value> {
    let finished = scene.world.run(&["nightly", "--full"])?;
    ensure!(finished.code == code, "exit {}:\n{}\n{}", finished.code, finished.stdout, finished.log);
    Ok(serde_json::from_str(finished.stdout.lines().last().context("a line")?)?)
}

/// A number of a row of the report.
fn of(report: &Value, rollup: &str, measure: &str, field: &str) -> Result<Value> {
    let rows = report["reports"][0]["rows"].as_array().context("rows")?;
    let row = rows.iter().find(|row| row["rollup"] == rollup && row["measure"] == measure);
    let row = row.with_context(|| format!("no {measure} of {rollup}: {rows:?}"))?;
    Ok(match field {
        "then" => row["reasons"]["not_counted_then"].clone(),
        field => row[field].clone(),
    })
}

fn ids(purchases: &[Purchase]) -> BTreeSet<String> {
    purchases.iter().map(|purchase| purchase.id.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_added_later_is_missing_for_a_reason_and_explained() -> Result<()> {
    let scene = counted().await?;
    let report = nightly(&scene, 0)?;
    let dollars = |parts: &[Vec<Purchase>]| {
        let cents: i64 = parts.iter().flatten().map(|purchase| purchase.cents).sum();
        format!("-{}.{:02}", cents / 100, cents % 100)
    };
    for (rollup, missing) in [(ROLLUP, 1), ("store,department", 2)] {
        let events = format!("-{}", scene.parts[..missing].concat().len());
        ensure!(of(&report, rollup, "count", "then")? == events, "{report}");
        ensure!(of(&report, rollup, "money", "then")? == dollars(&scene.parts[..missing]), "{report}");
        ensure!(of(&report, rollup, "users", "residual")? == "0", "{report}");
    }
    // The total was always counted; only the property was not summed.
    let drifts = (of(&report, "total", "count", "drift")?, of(&report, "total", "money", "drift")?);
    ensure!(drifts.0 == "0" && drifts.1 == "0.00", "{drifts:?}: {report}");
    let stores: i64 = scene.parts[0].iter().map(|purchase| purchase.store.parse::<i64>()).sum::<Result<_, _>>()?;
    ensure!(of(&report, "total", "sum", "then")? == format!("-{stores}"), "{report}");

    let explained = explain(&scene, 0, &["--rollup", ROLLUP, "--reason", "not_counted_then", "--limit", "1000"])?;
    let listed = explained["deliveries"].as_array().into_iter().flatten();
    let listed: BTreeSet<String> = listed.filter_map(|one| one["event_id"].as_str().map(str::to_owned)).collect();
    ensure!(explained["adds_up"] == true && listed == ids(&scene.parts[0]), "{explained}");
    ensure!(explain(&scene, 0, &["--rollup", "total"])?["adds_up"] == true);
    Ok(())
}

/// The reason is evidence of what was in the catalog, and no excuse: an event that speed lost is found all the same, before
/// the change and after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_event_of_such_a_day_is_still_found() -> Result<()> {
    let scene = counted().await?;
    nightly(&scene, 0)?;
    let client = scene.world.clickhouse_client();
    for (rollup, times) in [("total", 1), (ROLLUP, 2)] {
        let lose = format!(
            "INSERT INTO speed_cells_raw SELECT tenant, rollup, grain, window_start, window_end, event, dimensions, \
             partition, version, count - 1, money, users FROM speed_cells_raw FINAL \
             WHERE rollup = '{rollup}' AND grain = '1d' ORDER BY count DESC LIMIT 1"
        );
        client.query(&lose).execute().await?;
        let report = nightly(&scene, 10)?;
        ensure!(of(&report, rollup, "count", "residual")? == "-1", "{report}");
        ensure!(report["reports"][0]["worst"].as_array().is_some_and(|cells| cells.len() == times), "{report}");
    }
    // And without the evidence it is a residual, as it should be.
    client.query("TRUNCATE TABLE speed_plans").execute().await?;
    let report = nightly(&scene, 10)?;
    let lost = i64::try_from(scene.parts[0].len())? + 1;
    ensure!(of(&report, ROLLUP, "count", "residual")? == format!("-{lost}"), "{report}");
    Ok(())
}

fn explain(scene: &Scene, code: i32, more: &[&str]) -> Result<Value> {
    let fixed = ["explain", "--tenant", &scene.world.tenant, "--date", &scene.day];
    let finished = scene.world.run(&[&fixed[..], more].concat())?;
    ensure!(finished.code == code, "exit {}:\n{}\n{}", finished.code, finished.stdout, finished.log);
    Ok(serde_json::from_str(finished.stdout.lines().last().context("a line")?)?)
}

/// A day that is over, and what happened on it before and after `store` and the sum of its numbers were added.
struct Growing {
    world: World,
    from_us: i64,
    parts: [Vec<Purchase>; 2],
}

impl Growing {
    async fn begin() -> Result<Self> {
        let mut world = World::new(&Stack::shared()?)?;
        world.change_catalog(|tenant| tenant.rollups = vec![ROLLUP.parse().expect("a rollup")])?;
        let day_us = 24 * HOUR_US;
        let from_us = (jiff::Timestamp::now().as_microsecond() / day_us - 2) * day_us + 12 * HOUR_US;
        let part =
            |part: i64| generate(0x5eed_4300 + part.unsigned_abs(), 300, from_us + part * 4 * HOUR_US, 20_000_000);
        let growing = Self { from_us, parts: [part(0), part(1)], world };
        produce(&growing.world, &growing.parts[0]).await?;
        Ok(growing)
    }

    fn add(&mut self) -> Result<()> {
        self.world.change_catalog(|tenant| {
            tenant.rollups.push("store".parse().expect("a rollup"));
            tenant.metrics.push(Metric::sum("store_numbers", "purchase", "store"));
        })
    }

    /// An answer about the time from so many hours after the beginning on.
    async fn ask(&self, question: &str, after_hours: i64) -> Result<Value> {
        let at = |us| anyhow::Ok(jiff::Timestamp::from_microsecond(us)?);
        let (from, to) = (at(self.from_us + after_hours * HOUR_US)?, at(self.from_us + 8 * HOUR_US)?);
        self.world.query(&format!("/v1/query?{question}&grain=1h&from={from}&to={to}")).await
    }

    async fn until_answered(&self, question: &str, good: impl Fn(&Value) -> bool) -> Result<Value> {
        // Before the node has the new catalog, it does not know the metric.
        let answered = || async { Ok(self.ask(question, 0).await.is_ok_and(|answer| good(&answer))) };
        let done = until(question, Duration::from_secs(40), answered).await;
        let last = self.ask(question, 0).await?;
        done.with_context(|| format!("{last:#}"))?;
        Ok(last)
    }
}

fn store_numbers(parts: &[Vec<Purchase>]) -> Result<String> {
    let sum: i64 = parts.iter().flatten().map(|purchase| purchase.store.parse::<i64>()).sum::<Result<_, _>>()?;
    Ok(sum.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_added_later_is_no_zero_while_nothing_is_settled() -> Result<()> {
    let mut growing = Growing::begin().await?;
    let mut worker = growing.world.start("speed")?;
    until_counted(&growing.world).await?;
    let _node = growing.world.start_serving().await?;
    let by_store =
        growing.until_answered("metric=purchases&by=store", |answer| answer["total"]["value"] == 300).await?;
    ensure!(by_store["rollup"] == ROLLUP && by_store["gaps"] == serde_json::json!([]), "{by_store:#}");

    growing.add()?;
    let is_unknown = |answer: &Value| answer["gaps"][0]["reason"].as_str().is_some_and(|why| why.contains("catalog"));
    growing.until_answered("metric=store_numbers", is_unknown).await?;
    // A question that was answered rightly still is.
    let after = growing.ask("metric=purchases&by=store", 0).await?;
    for same in ["/rollup", "/total/value", "/gaps"] {
        ensure!(after.pointer(same) == by_store.pointer(same), "{same}: {after:#}");
    }
    until_noticed(&worker).await?;
    produce(&growing.world, &growing.parts[1]).await?;
    until_counted(&growing.world).await?;

    let end_us = growing.parts[0].iter().map(|purchase| purchase.at_us).max().context("purchases")? + 1;
    let end = jiff::Timestamp::from_microsecond(end_us)?.to_string();
    let ends = |answer: &Value| answer["gaps"][0]["to"] == end.as_str();
    let sum = growing.until_answered("metric=store_numbers", ends).await?;
    ensure!(sum["total"]["value"] == store_numbers(&growing.parts[1..])?, "{sum:#}");
    ensure!(sum["gaps"][0]["from"] == sum["from"] && sum["gaps"].as_array().is_some_and(|gaps| gaps.len() == 1));
    let both = growing.until_answered("metric=purchases&by=store", |answer| answer["total"]["value"] == 600).await?;
    ensure!(both["rollup"] == ROLLUP && both["gaps"] == serde_json::json!([]), "{both:#}");
    // Of the time since then the smaller one has everything.
    let since = growing.ask("metric=purchases&by=store", 4).await?;
    ensure!(since["rollup"] == "store" && since["gaps"] == serde_json::json!([]), "{since:#}");
    ensure!(since["total"]["value"] == 300, "{since:#}");
    ensure!(worker.stop()?.success(), "{}", worker.log_tail());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_added_later_is_no_zero_of_a_settled_day() -> Result<()> {
    let mut growing = Growing::begin().await?;
    let worker = growing.world.start("speed")?;
    let _archive = growing.world.start("archive")?;
    until_counted(&growing.world).await?;
    until_conserved(&growing.world).await?;
    settle(&growing.world)?;
    let _node = growing.world.start_serving().await?;
    growing.add()?;
    until_noticed(&worker).await?;
    let is_unsummed = |answer: &Value| answer["gaps"][0]["reason"].as_str().is_some_and(|why| why.contains("summed"));
    let unsummed = growing.until_answered("metric=store_numbers", is_unsummed).await?;
    ensure!(unsummed["total"]["state"] == "settled", "{unsummed:#}");
    let by_store =
        growing.until_answered("metric=purchases&by=store", |answer| answer["gaps"] == serde_json::json!([])).await?;
    ensure!(by_store["rollup"] == ROLLUP && by_store["total"]["value"] == 300, "{by_store:#}");
    settle(&growing.world)?;
    let is_known = |answer: &Value| answer["gaps"] == serde_json::json!([]);
    let summed = growing.until_answered("metric=store_numbers", is_known).await?;
    ensure!(summed["total"]["value"] == store_numbers(&growing.parts[..1])?, "{summed:#}");
    let by_store = growing.until_answered("metric=purchases&by=store", |answer| answer["rollup"] == "store").await?;
    ensure!(by_store["total"]["value"] == 300 && by_store["gaps"] == serde_json::json!([]), "{by_store:#}");
    Ok(())
}

fn settle(world: &World) -> Result<()> {
    let finished = world.run(&["nightly", "--full"])?;
    ensure!(finished.code == 0, "exit {}:\n{}\n{}", finished.code, finished.stdout, finished.log);
    Ok(())
}
