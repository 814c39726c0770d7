//! The log goes away under the collector: nobody is told a lie, and the same request lands when it is back.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use reckon_schemas::event::Event;
use reckon_tests::log::read_topic;
use reckon_tests::{Service, Stack, World, until};
use serde_json::{Value, json};

fn batch(number: usize) -> Vec<Value> {
    let event = |n: usize| json!({"event_id": format!("{number}-{n}"), "name": "n", "occurred_at": "2026-01-01T00:00:00Z", "user_id": format!("u{n}")});
    (0..50).map(event).collect()
}

async fn send(world: &World, number: usize) -> Result<(u16, Option<String>)> {
    let url = format!("http://127.0.0.1:{}/v1/events", world.collect_port);
    let response = world.http.post(url).bearer_auth(&world.write_key).json(&batch(number)).send().await?;
    let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
    Ok((response.status().as_u16(), retry_after.map(str::to_owned)))
}

#[tokio::test]
async fn what_was_acknowledged_is_in_the_log() -> Result<()> {
    let stack = Stack::own("collect-log-away")?;
    let world = World::new(&stack)?;
    let mut collector = world.start_collector().await?;
    assert_eq!(send(&world, 0).await?.0, 202);
    stack.kill(Service::Kafka)?;
    // The first one is in the way of the failure: it waits for its delivery and is told that there was none. Once the
    // collector knows, it answers at once.
    for number in 1..4 {
        let (status, retry_after) = send(&world, number).await?;
        assert_eq!(status, 503);
        assert!(retry_after.is_some_and(|seconds| seconds.parse::<u64>().is_ok_and(|seconds| seconds > 0)));
    }
    let ready = world.http.get(format!("http://127.0.0.1:{}/readyz", world.collect_port)).send().await?;
    assert_eq!(ready.status().as_u16(), 503);
    let alive = world.http.get(format!("http://127.0.0.1:{}/healthz", world.collect_port)).send().await?;
    assert_eq!(alive.status().as_u16(), 204);

    stack.start(Service::Kafka)?;
    for number in 1..4 {
        until("the retry to land", Duration::from_secs(60), || async { Ok(send(&world, number).await?.0 == 202) })
            .await?;
    }
    let mut times_by_id: BTreeMap<String, usize> = BTreeMap::new();
    for logged in read_topic(&world.kafka.brokers, &world.kafka.topics.events).await? {
        *times_by_id.entry(Event::decode(&logged.payload)?.id.into_owned()).or_default() += 1;
    }
    assert_eq!(times_by_id.len(), 200, "every acknowledged event, and no other");
    assert!(collector.stop()?.success());
    Ok(())
}
