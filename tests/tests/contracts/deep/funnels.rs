//! Random funnels: ClickHouse, DataFusion and plain loops say the same.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reckon_tests::shop::Shopping;
use serde_json::{Value, json};

use super::scene::{ALL_LAKE, ALL_RAW, BOTH, Scene, tuning};

const FUNNELS: usize = 40;

#[tokio::test(flavor = "multi_thread")]
async fn both_engines_count_a_funnel_as_the_oracle_does() -> Result<()> {
    let scene = Scene::new(0x5eed_0504, 6_000).await?;
    let raw = scene.serve(ALL_RAW, tuning()).await?;
    let lake = scene.serve(ALL_LAKE, tuning()).await?;
    let both = scene.serve(BOTH, tuning()).await?;
    let mut random = StdRng::seed_from_u64(0x5eed_0505);
    let mut longest = 0;
    for _ in 0..FUNNELS {
        let question = random_funnel(&mut random, &scene)?;
        let expected = expected(&scene, &question)?;
        longest = longest.max(expected.0.iter().filter(|users| **users > 0).count());
        for (node, layer) in [(&raw, "raw"), (&lake, "lake")] {
            let (status, answer) = node.funnel(&question).await?;
            ensure!(status == 200, "{question} {answer}");
            ensure!(answer["coverage"][0]["layer"] == layer, "{answer}");
            let found = said(&answer)?;
            ensure!(found == expected, "{layer}: {question}\n{found:?}\ninstead of\n{expected:?}");
        }
    }
    ensure!(longest >= 4, "the funnels are too easy to say anything: {longest} steps at most");
    // A user's steps may lie on both sides of the border: the lake alone has them all.
    let question = json!({ "steps": [{ "event": "view" }, { "event": "purchase" }], "within_s": 86_400,
                           "from": scene.day(3)?.0, "to": scene.day(-1)?.0 });
    let (_, answer) = both.funnel(&question).await?;
    ensure!(answer["coverage"][0]["layer"] == "lake" && answer["notes"].to_string().contains("archived"), "{answer}");
    ensure!(said(&answer)? == expected(&scene, &question)?);
    let settled = json!({ "steps": question["steps"], "within_s": 60, "from": scene.day(3)?.0, "to": scene.day(0)?.0 });
    let (_, answer) = lake.funnel(&settled).await?;
    ensure!(
        answer["steps"][1]["users"]["state"] == "settled" && answer["coverage"][0]["lake_version"].is_u64(),
        "{answer}"
    );

    let refused = raw.funnel(&json!({ "steps": [{ "event": "view" }], "within_s": 60 })).await?;
    ensure!(refused.0 == 422 && refused.1["parameter"] == "steps", "{refused:?}");
    let unreadable = raw.funnel(&json!({ "steps": 7 })).await?;
    ensure!(unreadable.0 == 422 && unreadable.1["type"] == "invalid-body", "{unreadable:?}");
    Ok(())
}

fn random_funnel(random: &mut StdRng, scene: &Scene) -> Result<Value> {
    let steps: Vec<Value> = (0..random.random_range(2..=6))
        .map(|_| {
            let event = ["view", "cart", "purchase"][random.random_range(0..3)];
            let mut step = json!({ "event": event });
            if random.random_bool(0.3) {
                step["filters"] = json!({ "country": ["DE", "US"], "it's \"odd\\": ["' OR 1=1 --", "\\", "ä✓"] });
            }
            step
        })
        .collect();
    let within_s = [60, 3_600, 6 * 3_600, 86_400, 4 * 86_400][random.random_range(0..5)];
    let mut funnel = json!({ "steps": steps, "within_s": within_s, "from": scene.day(random.random_range(1..=3))?.0 });
    funnel["to"] = scene.day(random.random_range(-1..=0))?.0.into();
    if random.random_bool(0.6) {
        funnel["by"] = ["country", "basket", "department", "user_id"][random.random_range(0..4)].into();
    }
    Ok(funnel)
}

/// Users by step, over all and by segment.
type Users = (Vec<usize>, BTreeMap<String, Vec<usize>>);

fn expected(scene: &Scene, question: &Value) -> Result<Users> {
    let at = |name: &str| -> Result<i64> {
        Ok(question[name].as_str().context("an instant")?.parse::<jiff::Timestamp>()?.as_microsecond())
    };
    let (from, to) = (at("from")?, at("to")?);
    let steps = question["steps"].as_array().context("steps")?;
    let within_us = question["within_s"].as_i64().context("within_s")? * 1_000_000;
    let mut users: BTreeMap<&str, Vec<&Shopping>> = BTreeMap::new();
    for event in scene.events.iter().filter(|event| !event.user.is_empty() && (from..to).contains(&event.at_us)) {
        users.entry(&event.user).or_default().push(event);
    }
    let mut whole = vec![0; steps.len()];
    let mut segments: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for events in users.values() {
        let firsts = events.iter().filter(|event| is_step(event, &steps[0]));
        let Some(first) = firsts.min_by_key(|event| (event.at_us, event.log_ms, event.partition)) else { continue };
        let reached = events.iter().map(|start| from_start(start, events, steps, within_us)).max().unwrap_or(0);
        let counts = match question["by"].as_str() {
            Some(by) => segments.entry(first.value(by)).or_insert_with(|| vec![0; steps.len()]),
            None => &mut vec![0; steps.len()],
        };
        (0..reached).for_each(|step| counts[step] += 1);
        (0..reached).for_each(|step| whole[step] += 1);
    }
    Ok((whole, segments))
}

fn is_step(event: &Shopping, step: &Value) -> bool {
    let allows = |(name, values): (&String, &Value)| {
        values.as_array().is_some_and(|values| values.iter().any(|value| *value == event.value(name).as_str()))
    };
    step["event"] == event.name && step["filters"].as_object().is_none_or(|filters| filters.iter().all(allows))
}

/// Always to the next event that will do.
fn from_start(start: &Shopping, events: &[&Shopping], steps: &[Value], within_us: i64) -> usize {
    if !is_step(start, &steps[0]) {
        return 0;
    }
    let mut at_us = start.at_us;
    for (reached, step) in steps.iter().enumerate().skip(1) {
        let later = events.iter().filter(|event| event.at_us > at_us && is_step(event, step));
        match later.map(|event| event.at_us).min() {
            Some(next) if next - start.at_us <= within_us => at_us = next,
            _ => return reached,
        }
    }
    steps.len()
}

fn said(answer: &Value) -> Result<Users> {
    let steps = |steps: &Value| -> Result<Vec<usize>> {
        let steps = steps.as_array().context("steps")?;
        let mut before: Option<u64> = None;
        for step in steps {
            let users = step["users"]["value"].as_u64().context("users")?;
            ensure!(step["drop_off"].as_u64() == Some(before.map_or(0, |before| before - users)), "{step}");
            ensure!(step["users"]["method"] == "exact" && step["users"]["as_of"].is_string(), "{step}");
            before = Some(users);
        }
        steps.iter().map(|step| Ok(usize::try_from(step["users"]["value"].as_u64().context("users")?)?)).collect()
    };
    let mut segments = BTreeMap::new();
    for segment in answer["segments"].as_array().context("segments")? {
        let value = segment["dimensions"].as_object().context("dimensions")?.values().next().context("a value")?;
        segments.insert(value.as_str().context("text")?.to_owned(), steps(&segment["steps"])?);
    }
    Ok((steps(&answer["steps"])?, segments))
}
