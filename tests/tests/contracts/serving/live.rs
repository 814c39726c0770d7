//! Answers that are pushed.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::scene::Scene;

/// The events of a stream, one after the other.
struct Events {
    response: reqwest::Response,
    text: String,
}

impl Events {
    /// The next event's id, name and data; comments are passed over.
    async fn next(&mut self) -> Result<(String, String, Value)> {
        loop {
            while let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| {
                    event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
                };
                if event.contains("data:") {
                    return Ok((field("id:"), field("event:"), serde_json::from_str(&field("data:"))?));
                }
            }
            let chunk = tokio::time::timeout(Duration::from_secs(20), self.response.chunk()).await??;
            self.text.push_str(std::str::from_utf8(&chunk.context("the stream ended")?)?);
        }
    }

    /// The next event that says something new about the total.
    async fn until_total(&mut self, value: &str) -> Result<(String, String, Value)> {
        loop {
            let event = self.next().await?;
            if event.2["answer"]["total"]["value"] == value {
                return Ok(event);
            }
        }
    }
}

#[tokio::test]
async fn changes_follow_a_snapshot_and_can_be_resumed() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let path = "/v1/live?metric=revenue&from=2026-03-07&to=2026-03-10&grain=1d&by=department";
    let open = async |last: Option<&str>| -> Result<Events> {
        let response = node.open(&scene.read_key, path, last).await?;
        anyhow::ensure!(response.status() == 200, "{}", response.status());
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Ok(Events { response, text: String::new() })
    };
    let mut events = open(None).await?;
    let (first, name, message) = events.next().await?;
    assert_eq!((name.as_str(), &message["kind"]), ("snapshot", &json!("snapshot")));
    assert_eq!(message["seq"].to_string(), first);
    assert_eq!(message["answer"]["total"]["value"], "3534.00");
    let (_, query) = node.ask(&scene.read_key, &path.replace("live", "query")).await?;
    assert_eq!(message["answer"]["groups"], query["groups"]);

    scene.flush_to_redis(6, 550).await?;
    let (second, name, message) = events.until_total("3535.50").await?;
    assert_eq!(name, "change");
    // Only what changed: one group, one point.
    let groups = &message["answer"]["groups"];
    assert_eq!(groups.as_array().map(Vec::len), Some(1), "{groups:#}");
    assert_eq!(groups[0]["dimensions"]["department"], "DRUG");
    assert_eq!(groups[0]["points"].as_array().map(Vec::len), Some(1));

    // A settlement is noticed without an announcement.
    let tenant = &scene.tenant;
    scene
        .sql(&format!(
            "INSERT INTO settlements (tenant, day, run_id, state, window_start, window_end, deliveries, events, \
             lake_version, content_hash, residual_cells, settled_at) VALUES ('{tenant}', '2026-03-09', 'run-4', 'settled', '2026-03-09 04:00:00', \
             '2026-03-10 04:00:00', 0, 0, 8, 'hash', 0, '2026-03-10 06:00:00')"
        ))
        .await?;
    let (_, name, message) = events.until_total("3500.00").await?;
    assert_eq!((name.as_str(), &message["answer"]["total"]["state"]), ("snapshot", &json!("restated")));
    drop(events);

    // Who comes back hears what came after, from the same numbers on; an unknown number gets a snapshot.
    let next = (second.parse::<u64>()? + 1).to_string();
    let mut resumed = open(Some(&second)).await?;
    let (id, _, _) = resumed.next().await?;
    assert!(id.parse::<u64>()? >= next.parse::<u64>()?);
    let mut strange = open(Some("12345")).await?;
    assert_eq!(strange.next().await?.1, "snapshot");
    Ok(())
}
