//! The same numbers from raw events, from the lake, from both, and from an oracle; and what is said about them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use reckon_tests::shop::{Amounts, Shopping};
use serde_json::{Value, json};

use super::scene::{ALL_LAKE, ALL_RAW, BOTH, Node, Scene, tuning};

type Filters<'a> = &'a [(&'a str, &'a str)];

struct Question<'a> {
    metric: &'a str,
    grain: &'a str,
    by: &'a [&'a str],
    filters: Filters<'a>,
}

/// By group: the whole, and by the start of the window.
type Groups = BTreeMap<Vec<String>, (Value, BTreeMap<String, Value>)>;

const METRICS: [&str; 4] = ["purchases", "revenue", "items", "households"];
const SHAPES: &[(&[&str], Filters<'_>)] = &[
    (&["basket"], &[]),
    (&["country", "device"], &[]),
    (&["user_id"], &[("department", "GROCERY"), ("department", "PRODUCE")]),
    (&[], &[("user_id", "u-7")]),
    (&[], &[("country", "NZ"), ("device", "phone")]),
    (&["department"], &[("basket", "b-1"), ("basket", "b-2"), ("basket", "b-3")]),
    (&["it's \"odd\\"], &[("it's \"odd\\", "' OR 1=1 --"), ("it's \"odd\\", "\u{1f}")]),
    (&["nobody has it"], &[("country", "DE")]),
    (&[], &[("department", ""), ("every", "one")]),
];

#[tokio::test(flavor = "multi_thread")]
async fn single_events_are_counted_alike_wherever_they_are() -> Result<()> {
    let scene = Scene::new(0x5eed_0501, 4_000).await?;
    let raw = scene.serve(ALL_RAW, tuning()).await?;
    let lake = scene.serve(ALL_LAKE, tuning()).await?;
    let both = scene.serve(BOTH, tuning()).await?;
    let (from, to) = (scene.day(3)?, scene.day(-1)?);
    for (by, filters) in SHAPES {
        for (metric, grain) in METRICS.into_iter().zip(["1h", "1d", "5m", "1h"]) {
            let question = Question { metric, grain, by, filters };
            let expected = expected(&scene, &question, from.1, to.1)?;
            for (node, layers) in [(&raw, &["raw"][..]), (&lake, &["lake"]), (&both, &["lake", "raw"])] {
                let answer = ask(node, &question, &from.0, &to.0).await?;
                compare(&answer, &question, &expected).with_context(|| format!("{layers:?} {answer:.2000}"))?;
                // Sets of users are not united across stores.
                let layers = if metric == "households" && layers.len() == 2 { &["lake"] } else { layers };
                said(&answer, layers, &scene)?;
            }
        }
    }
    let unknown =
        ask(&raw, &Question { metric: "revenue", grain: "1d", by: &["nobody has it"], filters: &[] }, &from.0, &to.0);
    ensure!(unknown.await?["notes"].to_string().contains("nobody has it"));
    settled_numbers_are_those_of_the_lake(&lake, &scene).await?;
    late_events_do_not_change_what_is_settled(&lake, &scene).await
}

async fn ask(node: &Node, question: &Question<'_>, from: &str, to: &str) -> Result<Value> {
    let Question { metric, grain, by, filters } = question;
    let by = by.join(",");
    let filters: Vec<String> = filters.iter().map(|(name, value)| format!("{name}:{value}")).collect();
    let mut parameters = vec![("metric", *metric), ("grain", grain), ("from", from), ("to", to), ("by", &by)];
    parameters.extend(filters.iter().map(|filter| ("filter", filter.as_str())));
    node.answer(&parameters).await
}

/// The oracle.
fn expected(scene: &Scene, question: &Question<'_>, from_us: i64, to_us: i64) -> Result<(Value, Groups)> {
    let mut groups: BTreeMap<Vec<String>, (Amounts, BTreeMap<String, Amounts>)> = BTreeMap::new();
    let mut total = Amounts::default();
    let allows = |event: &Shopping| {
        let mut names: Vec<&str> = question.filters.iter().map(|(name, _)| *name).collect();
        names.dedup();
        names.into_iter().all(|name| question.filters.contains(&(name, &event.value(name))))
    };
    for event in scene.events.iter().filter(|event| event.name == "purchase" && allows(event)) {
        if !(from_us..to_us).contains(&event.at_us) {
            continue;
        }
        let at = jiff::Timestamp::from_microsecond(event.at_us)?;
        let start = match question.grain {
            "1d" => at.in_tz("America/New_York")?.start_of_day()?.timestamp(),
            grain => {
                let length_us = if grain == "1h" { 3_600_000_000 } else { 300_000_000 };
                jiff::Timestamp::from_microsecond(event.at_us - event.at_us.rem_euclid(length_us))?
            }
        };
        let key = question.by.iter().map(|name| event.value(name)).collect();
        let (whole, points) = groups.entry(key).or_default();
        [&mut total, whole, points.entry(start.to_string()).or_default()].into_iter().for_each(|sums| sums.add(event));
    }
    let said = |amounts: &Amounts| amounts.said(question.metric);
    let groups = groups.iter().map(|(key, (whole, points))| {
        (key.clone(), (said(whole), points.iter().map(|(start, sums)| (start.clone(), said(sums))).collect()))
    });
    Ok((said(&total), groups.collect()))
}

fn compare(answer: &Value, question: &Question<'_>, (total, groups): &(Value, Groups)) -> Result<()> {
    ensure!(answer["total"]["value"] == *total, "{} instead of {total}", answer["total"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut found = Groups::new();
    for group in answer["groups"].as_array().context("groups")? {
        let key = question.by.iter().map(|name| text(&group["dimensions"][name])).collect();
        let points = group["points"].as_array().context("points")?;
        let points = points.iter().map(|point| (text(&point["start"]), point["number"]["value"].clone()));
        found.insert(key, (group["total"]["value"].clone(), points.collect()));
        ensure!(group["total"]["method"] == "exact" && group["total"]["error_bound"].to_string().contains('0'));
    }
    ensure!(found == *groups, "{question:.0?}\n{found:?}\ninstead of\n{groups:?}", question = question.by);
    Ok(())
}

/// Layers, without gap and overlap; the lake's days that are over are settled, everything else can change.
fn said(answer: &Value, layers: &[&str], scene: &Scene) -> Result<()> {
    let coverage = answer["coverage"].as_array().context("coverage")?;
    let mut found: Vec<&Value> = coverage.iter().map(|part| &part["layer"]).collect();
    found.dedup();
    ensure!(
        found == layers.iter().map(|layer| json!(layer)).collect::<Vec<_>>().iter().collect::<Vec<_>>(),
        "{coverage:?}"
    );
    let today = scene.day(0)?.0;
    for part in coverage {
        let settled = part["layer"] == "lake" && part["to"].as_str() <= Some(today.as_str());
        ensure!(part["state"] == if settled { "settled" } else { "provisional" }, "{part}");
        ensure!(part["lake_version"].is_u64() == (part["layer"] == "lake"), "{part}");
        ensure!(part["as_of"].is_string(), "{part}");
    }
    ensure!(answer["gaps"] == json!([]) && answer["notes"].to_string().contains("single events"), "{answer:.1000}");
    Ok(())
}

/// A filter that holds for every event makes a question of a rollup one that only the lake answers.
async fn settled_numbers_are_those_of_the_lake(lake: &Node, scene: &Scene) -> Result<()> {
    let (from, to) = (scene.day(3)?.0, scene.day(0)?.0);
    for metric in ["purchases", "revenue", "households"] {
        for (by, grain) in [(&["department"][..], "1d"), (&[], "1h"), (&["store"], "1d")] {
            let question = |filters| Question { metric, grain, by, filters };
            let of_rollup = ask(lake, &question(&[]), &from, &to).await?;
            let of_events = ask(lake, &question(&[("every", "one")]), &from, &to).await?;
            ensure!(of_rollup["coverage"][0]["layer"] == "batch" && of_events["coverage"][0]["layer"] == "lake");
            ensure!(of_events["coverage"].as_array().is_some_and(|parts| parts.len() == 1), "{of_events:.1000}");
            ensure!(of_events["total"]["state"] == "settled", "{of_events:.1000}");
            let numbers = |answer: &Value| {
                let groups = answer["groups"].as_array().cloned().unwrap_or_default();
                let points = groups.iter().flat_map(|group| {
                    let points = group["points"].as_array().cloned().unwrap_or_default();
                    points
                        .into_iter()
                        .map(|point| json!([group["dimensions"], point["start"], point["number"]["value"]]))
                });
                (answer["total"]["value"].clone(), points.collect::<Vec<_>>())
            };
            ensure!(numbers(&of_rollup) == numbers(&of_events), "{metric} {by:?}");
            ensure!(!numbers(&of_events).1.is_empty());
        }
    }
    Ok(())
}

/// An event that comes after the settlement: what was settled is still answered as it was settled. Where the newest lake
/// has to be read, its day is not called settled any more.
async fn late_events_do_not_change_what_is_settled(lake: &Node, scene: &Scene) -> Result<()> {
    let (from, today, to) = (scene.day(3)?.0, scene.day(0)?.0, scene.day(-1)?.0);
    let question = Question { metric: "purchases", grain: "1d", by: &["country"], filters: &[] };
    let before = ask(lake, &question, &from, &today).await?;
    let late =
        scene.events.iter().find(|event| event.name == "purchase" && event.at_us > scene.day(2).map_or(0, |day| day.1));
    let mut late = late.context("a purchase")?.clone();
    late.id = "late".to_owned();
    late.log_ms = scene.now_us / 1000;
    reckon_tests::shop::produce(&scene.world, &[late]).await?;
    scene.archive().await?;
    let after = ask(lake, &question, &from, &today).await?;
    ensure!(after["groups"] == before["groups"] && after["total"]["state"] == "settled", "{after:.1000}");
    let count = |answer: &Value| answer["total"]["value"].as_u64().context("a count");
    let newest = ask(lake, &question, &from, &to).await?;
    let of_today = ask(lake, &question, &today, &to).await?;
    ensure!(count(&newest)? == count(&before)? + count(&of_today)? + 1, "{newest:.1000}");
    let states: Vec<&Value> =
        newest["coverage"].as_array().context("coverage")?.iter().map(|part| &part["state"]).collect();
    ensure!(
        states.iter().any(|state| **state == "settled") && states.iter().any(|state| **state == "provisional"),
        "{states:?}"
    );
    ensure!(states.len() >= 2 && newest["notes"].to_string().contains("reckon nightly"), "{newest:.1000}");
    Ok(())
}
