//! Single events that are pushed: those of the last days, less often than what rollups have, on the tenant's account.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reckon_serving::Tuning;
use reckon_tests::shop::{Shopping, produce};
use serde_json::Value;

use super::scene::{ALL_LAKE, ALL_RAW, CANARY, Node, Scene, tuning};
use crate::serving::live::Events;

type Parameters<'a> = [(&'a str, &'a str)];

impl Node {
    async fn watch(&self, parameters: &Parameters<'_>) -> Result<Events> {
        Events::of(self.live(parameters)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn single_events_of_the_last_days_are_pushed() -> Result<()> {
    const INTERVAL: Duration = Duration::from_secs(1);
    let scene = Scene::new(0x5eed_0507, 500).await?;
    let (from, to) = (scene.day(3)?.0, scene.day(-1)?.0);
    let by = |dimension| [("metric", "purchases"), ("by", dimension), ("grain", "1d"), ("from", &from), ("to", &to)];
    let tuning = Tuning {
        live_events_interval: INTERVAL,
        live_refresh: Duration::from_millis(100),
        live_events_queries_max: 2,
        ..tuning()
    };
    let node = scene.serve(ALL_RAW, tuning.clone()).await?;
    let asked = node.answer(&by("user_id")).await?;
    let mut events = node.watch(&by("user_id")).await?;
    let (_, name, snapshot) = events.next().await?;
    ensure!(name == "snapshot" && snapshot["answer"]["coverage"][0]["layer"] == "raw", "{snapshot:.1000}");
    ensure!(snapshot["answer"]["total"] == asked["total"] && snapshot["answer"]["groups"] == asked["groups"]);
    ensure!(!snapshot.to_string().contains(CANARY));

    // One more purchase, of somebody new.
    let known = scene.events.iter().find(|event| event.name == "purchase").context("a purchase")?;
    let (id, user) = (uuid::Uuid::new_v4().to_string(), "newcomer".to_owned());
    let new = Shopping { id, user, at_us: scene.now_us, log_ms: scene.now_us / 1_000, ..known.clone() };
    produce(&scene.world, &[new]).await?;
    let raw = scene.world.run(&["raw", "--until-end"])?;
    ensure!(raw.code == 0, "{}", raw.log);
    let expected = asked["total"]["value"].as_u64().context("a count")? + 1;
    let is_new = |group: &Value| group["dimensions"]["user_id"] == "newcomer" && group["total"]["value"] == 1;
    loop {
        let (_, _, message) = events.next().await?;
        if message["answer"]["total"]["value"] == expected {
            ensure!(message["answer"]["groups"].as_array().context("groups")?.iter().any(is_new), "{message:.1000}");
            break;
        }
    }

    // However often there is something to look at, it is looked at once an interval.
    let began = tokio::time::Instant::now();
    for _ in 0..3 {
        events.next().await?;
    }
    ensure!(began.elapsed() > INTERVAL * 2);

    // Questions that are asked already cost nothing more, the third one of its kind is refused.
    let _same = node.watch(&by("user_id")).await?;
    let _other = node.watch(&by("basket")).await?;
    let refused = node.live(&by("color")).send().await?;
    ensure!(refused.status() == 429 && refused.headers().contains_key("retry-after"), "{refused:?}");
    let _of_rollups = node.watch(&[("metric", "purchases"), ("grain", "1d")]).await?;

    // They are paid for: who has read too much is told so.
    let node = scene.serve(ALL_RAW, Tuning { rows_per_minute_max: 100, ..tuning.clone() }).await?;
    let mut events = node.watch(&by("user_id")).await?;
    ensure!(events.next().await?.1 == "snapshot");
    let (_, name, problem) = events.next().await?;
    ensure!(name == "problem" && problem["status"] == 429, "{problem}");

    // Where the lake would be read they are refused.
    let node = scene.serve(ALL_LAKE, tuning).await?;
    let refused = node.live(&by("user_id")).send().await?;
    ensure!(refused.status() == 422 && refused.text().await?.contains("shorter range"));
    Ok(())
}
