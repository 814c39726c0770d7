//! Single events are those of the tenant who asks, wherever they are read. The other tests of this folder compare whole
//! answers with an oracle that knows our events only; here the neighbour asks, too, who really has what nobody else sees.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use reckon_tests::shop::Shopping;
use serde_json::json;

use super::scene::{ALL_LAKE, ALL_RAW, CANARY, Node, Scene, tuning};

#[tokio::test(flavor = "multi_thread")]
async fn each_of_two_tenants_has_single_events_of_its_own() -> Result<()> {
    let scene = Scene::new(0x5eed_0506, 1_000).await?;
    let (from, to) = (scene.day(3)?, scene.day(-1)?);
    ensure!(
        scene.theirs.iter().any(|event| event.user == CANARY) && scene.events.iter().all(|event| event.user != CANARY)
    );
    for (retention, layer) in [(ALL_RAW, "raw"), (ALL_LAKE, "lake")] {
        let node = scene.serve(retention, tuning()).await?;
        let neighbour = node.as_neighbour();
        for (node, events) in [(&node, &scene.events), (&neighbour, &scene.theirs)] {
            let events: Vec<&Shopping> = events.iter().filter(|event| (from.1..to.1).contains(&event.at_us)).collect();
            let asked = Asked { node, from: &from.0, to: &to.0, layer };
            asked.users_by_purchases(&events).await.with_context(|| layer)?;
            asked.users_who_viewed(&events).await.with_context(|| layer)?;
            asked.exact_users(&events).await?;
        }
    }
    Ok(())
}

struct Asked<'a> {
    node: &'a Node,
    from: &'a str,
    to: &'a str,
    layer: &'a str,
}

impl Asked<'_> {
    async fn users_by_purchases(&self, events: &[&Shopping]) -> Result<()> {
        let question = [("metric", "purchases"), ("by", "user_id"), ("grain", "1d")];
        let answer = self.node.answer(&[&question[..], &[("from", self.from), ("to", self.to)]].concat()).await?;
        ensure!(answer["coverage"][0]["layer"] == self.layer, "{}", answer["coverage"]);
        let groups = answer["groups"].as_array().context("groups")?;
        let found = groups.iter().filter_map(|group| group["dimensions"]["user_id"].as_str());
        ensure!(found.collect::<BTreeSet<_>>() == users(events, "purchase"), "{answer:.1000}");
        let purchases = events.iter().filter(|event| event.name == "purchase").count();
        ensure!(answer["total"]["value"] == purchases, "{} instead of {purchases}", answer["total"]);
        Ok(())
    }

    async fn users_who_viewed(&self, events: &[&Shopping]) -> Result<()> {
        let question = json!({ "steps": [{ "event": "view" }, { "event": "cart" }], "within_s": 3_600, "by": "user_id",
                               "from": self.from, "to": self.to });
        let (status, answer) = self.node.funnel(&question).await?;
        ensure!(status == 200 && answer["coverage"][0]["layer"] == self.layer, "{answer}");
        let viewed: BTreeSet<&str> = users(events, "view").into_iter().filter(|user| !user.is_empty()).collect();
        let segments = answer["segments"].as_array().context("segments")?;
        let found = segments.iter().filter_map(|segment| segment["dimensions"]["user_id"].as_str());
        ensure!(found.collect::<BTreeSet<_>>() == viewed, "{answer:.1000}");
        ensure!(answer["steps"][0]["users"]["value"] == viewed.len(), "{answer:.1000}");
        Ok(())
    }

    async fn exact_users(&self, events: &[&Shopping]) -> Result<()> {
        let question = [("metric", "households"), ("grain", "1h"), ("exact", "true")];
        let answer = self.node.answer(&[&question[..], &[("from", self.from), ("to", self.to)]].concat()).await?;
        let bought = users(events, "purchase").into_iter().filter(|user| !user.is_empty()).count();
        ensure!(answer["total"]["method"] == "exact" && answer["total"]["value"] == bought, "{bought}: {answer:.1000}");
        Ok(())
    }
}

fn users<'a>(events: &[&'a Shopping], name: &str) -> BTreeSet<&'a str> {
    events.iter().filter(|event| event.name == name).map(|event| event.user.as_str()).collect()
}
