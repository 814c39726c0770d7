//! Exact users of any range, from one version of the lake, counted once.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use reckon_serving::Tuning;

use super::scene::{ALL_RAW, Scene, tuning};

#[tokio::test(flavor = "multi_thread")]
async fn users_are_counted_exactly_on_request_and_only_once() -> Result<()> {
    let scene = Scene::new(0x5eed_0502, 3_000).await?;
    // The lake, however many raw events there are.
    // What is used of the quota comes back by a thousand rows a second.
    let node = scene.serve(ALL_RAW, Tuning { rows_per_minute_max: 60_000, ..tuning() }).await?;
    // From an hour of one day to an hour of another: no union of whole days.
    let (from_us, to_us) = (scene.day(3)?.1 + 5 * 3_600_000_000, scene.day(1)?.1 + 7 * 3_600_000_000);
    let instant = |us| jiff::Timestamp::from_microsecond(us).map(|at| at.to_string());
    let (from, to) = (instant(from_us)?, instant(to_us)?);
    let users = |department: Option<&str>| {
        let asked =
            scene.events.iter().filter(|event| event.name == "purchase" && (from_us..to_us).contains(&event.at_us));
        let asked = asked.filter(|event| department.is_none_or(|department| event.value("department") == department));
        asked.map(|event| event.user.as_str()).filter(|user| !user.is_empty()).collect::<BTreeSet<_>>().len()
    };
    let question = [("metric", "households"), ("grain", "1h"), ("from", &from), ("to", &to), ("by", "department")];
    let exact: Vec<_> = question.into_iter().chain([("exact", "true")]).collect();
    let before = node.rows_used().await?;
    let answer = node.answer(&exact).await?;
    // On the account of who asked: every delivery of the files that were read, not only those that count.
    let (read, counted) = (node.rows_used().await? - before, users(None) as u64);
    ensure!(read > counted, "{read} rows for {counted} users");
    ensure!(answer["total"]["value"] == users(None) && answer["total"]["method"] == "exact", "{}", answer["total"]);
    ensure!(answer["total"]["state"] == "settled", "{}", answer["total"]);
    for group in answer["groups"].as_array().context("groups")? {
        let department = group["dimensions"]["department"].as_str();
        ensure!(group["total"]["value"] == users(department), "{}", group["total"]);
    }
    let [covered] = &answer["coverage"].as_array().context("coverage")?[..] else { anyhow::bail!("{answer:.1000}") };
    ensure!(covered["layer"] == "lake" && covered["lake_version"].as_u64() > Some(0), "{covered}");
    // Without the word it is the rollup's answer.
    let estimate = node.answer(&question).await?;
    ensure!(
        estimate["coverage"][0]["layer"] == "batch" && estimate["total"]["method"] == "hll",
        "{}",
        estimate["total"]
    );
    // For other numbers it changes nothing.
    let revenue = node.answer(&[("metric", "revenue"), ("exact", "true"), ("from", &from), ("to", &to)]).await?;
    ensure!(revenue["coverage"][0]["layer"] == "batch");

    // Now only the memory of the node has it: the lake's files are gone.
    for tenant in std::fs::read_dir(scene.world.store().join("lake/events"))? {
        let path = tenant?.path();
        if !path.ends_with("_delta_log") {
            std::fs::rename(&path, scene.world.store().join(path.file_name().context("a name")?))?;
        }
    }
    let again = node.answer(&exact).await?;
    ensure!(again["groups"] == answer["groups"] && again["total"] == answer["total"]);
    let mut other = exact.clone();
    other[4] = ("by", "store");
    ensure!(node.ask(&other).await?.0 == 503, "nobody has asked that yet");
    Ok(())
}
