//! What the collector refused is listed, corrected and sent again, and counts once, however often it is sent.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reckon_tests::counted::until_counted;
use reckon_tests::lake::until_conserved;
use reckon_tests::{Stack, World, until};
use serde_json::{Value, json};

const DAY: &str = "2026-03-10";

fn item(id: &str, amount: &str) -> Value {
    json!({
        "event_id": id, "name": "purchase", "occurred_at": format!("{DAY}T16:00:00Z"), "user_id": format!("u-{id}"),
        "money": { "amount": amount, "currency": "USD" }, "properties": { "department": "DELI", "store": "1" },
    })
}

/// Two good items and three that are refused: an amount that is none, no time, an amount with three decimals.
fn items() -> [Value; 5] {
    let mut no_time = item("no-time", "2.00");
    no_time.as_object_mut().expect("an object").remove("occurred_at");
    [item("good-1", "1.00"), item("amount", "1,50"), no_time, item("decimals", "3.001"), item("good-2", "4.00")]
}

fn listed(world: &World) -> Result<Vec<Value>> {
    let finished = world.run(&["rejected", "--tenant", &world.tenant, "--format", "ndjson"])?;
    ensure!(finished.code == 0 || finished.code == 99, "exit {}: {}", finished.code, finished.log);
    finished.stdout.lines().filter(|line| !line.is_empty()).map(|line| Ok(serde_json::from_str(line)?)).collect()
}

fn replay(world: &World, code: i32, lines: &[Value]) -> Result<Value> {
    let file = world.config().with_file_name("correction.ndjson");
    let text: Vec<String> = lines.iter().map(ToString::to_string).collect();
    std::fs::write(&file, text.join("\n"))?;
    let file = file.to_str().context("UTF-8")?;
    let finished = world.run(&["replay-rejected", "--tenant", &world.tenant, "--correction", file])?;
    ensure!(finished.code == code, "exit {}:\n{}\n{}", finished.code, finished.stdout, finished.log);
    Ok(serde_json::from_str(finished.stdout.lines().last().unwrap_or("null"))?)
}

async fn settled(world: &World) -> Result<(u64, i128, u64)> {
    until_counted(world).await?;
    until_conserved(world).await?;
    let nightly = world.run(&["nightly", "--full", "--date", DAY])?;
    ensure!(nightly.code == 0, "exit {}:\n{}\n{}", nightly.code, nightly.stdout, nightly.log);
    let sql = "SELECT count, money['USD'], users_exact FROM settled_cells WHERE rollup = 'total' AND grain = '1d'";
    Ok(world.clickhouse_client().query(sql).fetch_one().await?)
}

/// The same over HTTP, page by page, and of nobody else.
async fn asked_for(world: &World, lines: &[Value]) -> Result<()> {
    let mut serving = world.start_serving().await?;
    let first = world.query("/v1/rejected?limit=2").await?;
    let next = first["next"].as_str().context("there is more")?;
    let last = world.query(&format!("/v1/rejected?limit=2&after={next}")).await?;
    ensure!(last["next"].is_null(), "{last:#}");
    let items: Vec<&Value> = [&first, &last].iter().flat_map(|page| page["items"].as_array()).flatten().collect();
    ensure!(items.len() == lines.len(), "{items:?}");
    for (item, line) in items.iter().zip(lines) {
        let id = item["id"].as_str().context("an id")?;
        ensure!(line["id"].as_str().is_some_and(|line| line.ends_with(&format!("/{id}"))), "{item} {line}");
        ensure!(item["field"] == line["field"] && item["reason"] == line["reason"], "{item} {line}");
        let raw: Value = serde_json::from_str(item["raw"].as_str().context("the item")?)?;
        ensure!(raw == line["item"], "{item} {line}");
    }
    ensure!(world.query("/v1/rejected?since=2199-01-01T00:00:00Z").await?["items"] == json!([]));
    serving.stop()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_rejected_is_corrected_and_counted_once() -> Result<()> {
    let world = World::new(&Stack::shared()?)?;
    let _collector = world.start_collector().await?;
    let _parts = [world.start("speed")?, world.start("archive")?];
    let receipt = world.send(&items()).await?;
    ensure!(receipt["accepted"] == 2 && receipt["rejected"].as_array().is_some_and(|all| all.len() == 3), "{receipt}");
    let three = || async { Ok(listed(&world)?.len() == 3) };
    until("the rejects in the lake", Duration::from_secs(30), three).await?;

    // Listed with their places in the log, fields and reasons; as a table for people, too.
    let mut lines = listed(&world)?;
    let fields: Vec<&Value> = lines.iter().map(|line| &line["field"]).collect();
    ensure!(fields == ["money.amount", "occurred_at", "money.amount"], "{fields:?}");
    ensure!(
        lines[1]["item"] == items()[2] && lines[0]["id"].as_str().is_some_and(|id| id.ends_with("/0/0")),
        "{lines:?}"
    );
    let table = world.run(&["rejected", "--tenant", &world.tenant])?;
    ensure!(table.stdout.contains("occurred_at") && table.stdout.contains("\"rejected\":3"), "{}", table.stdout);
    let future = ["rejected", "--tenant", &world.tenant, "--since", "2199-01-01T00:00:00Z"];
    ensure!(world.run(&future)?.code == 99);
    ensure!(settled(&world).await? == (2, 500, 2));
    asked_for(&world, &lines).await?;

    // One correction is none: it is told, and refused again; the others are in.
    lines[0]["item"]["money"]["amount"] = "1.50".into();
    lines[1]["item"]["occurred_at"] = format!("{DAY}T17:00:00Z").into();
    lines[2]["item"]["money"]["amount"] = "3.0O".into();
    let told = replay(&world, 23, &lines)?;
    ensure!(told["accepted"] == 2 && told["rejected"][0]["id"] == lines[2]["id"], "{told}");
    ensure!(settled(&world).await? == (4, 850, 4));
    let four = || async { Ok(listed(&world)?.len() == 4) };
    until("the new reject in the lake", Duration::from_secs(30), four).await?;

    // Again, with all of them right, and again: each counts once, in both layers.
    lines[2]["item"]["money"]["amount"] = "3.00".into();
    for _ in 0..2 {
        let told = replay(&world, 0, &lines)?;
        ensure!(told["accepted"] == 3 && told["rejected"] == json!([]), "{told}");
        ensure!(settled(&world).await? == (5, 1150, 5));
    }
    let speed: (u64, i128) = world
        .clickhouse_client()
        .query(
            "SELECT sum(speed_cells.count), sum(money['USD']) FROM speed_cells WHERE rollup = 'total' AND grain = '1d'",
        )
        .fetch_one()
        .await?;
    ensure!(speed == (5, 1150), "{speed:?}");

    // A file that cannot be read sends nothing.
    ensure!(replay(&world, 78, &[lines[0].clone(), json!({ "id": "x" })]).is_ok_and(|told| told.is_null()));
    ensure!(replay(&world, 99, &[])?["sent"] == 0);
    Ok(())
}

/// A name that is written wrong is told from one that has nothing: every command that takes a tenant says so.
#[test]
fn a_tenant_that_is_in_no_catalog_is_refused() -> Result<()> {
    let world = World::new(&Stack::shared()?)?;
    for arguments in [
        ["rejected", "--tenant", "nobody"].as_slice(),
        &["changes", "--tenant", "nobody"],
        &["adjustments", "--tenant", "nobody"],
        &["reconcile", "--tenant", "nobody"],
        &["verify", "--chain", "--tenant", "nobody"],
        &["forecast", "--tenant", "nobody", "--date", DAY],
        &["explain", "--tenant", "nobody", "--date", DAY],
        &["final", "--tenant", "nobody", "--date", DAY],
        &["quota", "--tenant", "nobody"],
    ] {
        let finished = world.run(arguments)?;
        ensure!(finished.code == 78, "{arguments:?}: exit {}: {}", finished.code, finished.log);
        ensure!(finished.log.contains("tenant nobody is not in the catalog"), "{arguments:?}: {}", finished.log);
        ensure!(finished.stdout.is_empty(), "{arguments:?}: {}", finished.stdout);
    }
    Ok(())
}
