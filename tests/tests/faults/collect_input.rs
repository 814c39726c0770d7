//! Faults 21 and 22: whatever comes in, it is rejected or exact, and nothing is lost between the two.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use reckon_schemas::event::{Event, Rejected};
use reckon_tests::log::read_topic;
use reckon_tests::{Stack, World};
use serde_json::Value;

fn item(id: usize, rest: &str) -> Vec<u8> {
    format!(r#"{{"event_id":"e{id}","name":"n","occurred_at":"2026-01-01T00:00:00Z"{rest}}}"#).into_bytes()
}

fn money(id: usize, amount: &str) -> Vec<u8> {
    item(id, &format!(r#","money":{{"amount":{amount},"currency":"EUR"}}"#))
}

/// Sends lines and checks that every one of them is in the log, as an event or as a reject. Gives the cents by id.
async fn send_lines(lines: &[Vec<u8>], accepted: usize) -> Result<BTreeMap<String, Option<i64>>> {
    let world = World::new(&Stack::shared()?)?;
    let _collector = world.start_collector().await?;
    let response = world
        .http
        .post(format!("http://127.0.0.1:{}/v1/events", world.collect_port))
        .bearer_auth(&world.write_key)
        .header("content-type", "application/x-ndjson")
        .body(lines.join(&b'\n'))
        .send()
        .await?;
    assert_eq!(response.status().as_u16(), 202);
    let receipt: Value = response.json().await?;
    let rejected = receipt["rejected"].as_array().context("rejected")?;
    assert_eq!(receipt["accepted"], accepted, "{receipt}");
    assert_eq!(accepted + rejected.len(), lines.len(), "accepted + rejected = sent");

    let rejects = read_topic(&world.kafka.brokers, &world.kafka.topics.rejected).await?;
    assert_eq!(rejects.len(), rejected.len());
    for (logged, answered) in rejects.iter().zip(rejected) {
        let reject = Rejected::decode(&logged.payload)?;
        assert_eq!(
            (&reject.rejection.field, &reject.rejection.reason),
            (
                &answered["field"].as_str().context("field")?.to_owned(),
                &answered["reason"].as_str().context("reason")?.to_owned(),
            )
        );
        assert_eq!(answered["index"], reject.index);
        assert_eq!(reject.raw, Rejected::keep_raw(&lines[reject.index]));
    }
    let events = read_topic(&world.kafka.brokers, &world.kafka.topics.events).await?;
    assert_eq!(events.len(), accepted);
    let cents = events.iter().map(|logged| {
        let event = Event::decode(&logged.payload)?;
        Ok((event.id.clone().into_owned(), event.money.map(|money| money.minor)))
    });
    cents.collect()
}

#[tokio::test]
async fn broken_items_are_rejected_one_by_one() -> Result<()> {
    let deep = "[".repeat(10_000);
    let closed = format!("{deep}{}", "]".repeat(10_000));
    let lines = [
        item(0, ""),
        b"{\"event_id\":\"e1\",\"name\"".to_vec(),
        [b"{\"event_id\":\"\xff\xfe\"".to_vec(), b"}".to_vec()].concat(),
        deep.clone().into_bytes(),
        closed.clone().into_bytes(),
        item(5, &format!(r#","properties":{{"a":{closed}}}"#)),
        item(6, &format!(r#","properties":{{"a":{deep}"#)),
        item(7, ",\"user_id\":\"a\0b\""),
        item(8, r#","user_id":"a\u0000b""#),
        item(9, r#","properties":{"a":"\u0000"}"#),
        item(10, r#","user_id":"\ud800""#),
        item(11, &format!(r#","properties":{{"a":"{}"}}"#, "x".repeat(300_000))),
        b"null".to_vec(),
        item(13, ""),
    ];
    let found = send_lines(&lines, 2).await?;
    assert_eq!(found.into_keys().collect::<Vec<_>>(), ["e0", "e13"]);
    Ok(())
}

#[tokio::test]
async fn money_is_exact_or_rejected() -> Result<()> {
    let largest = "92233720368547758.07";
    let mut lines: Vec<Vec<u8>> = [
        "NaN",
        "Infinity",
        "-Infinity",
        r#""NaN""#,
        r#""Infinity""#,
        "92233720368547758.08",
        "1e300",
        "0.001",
        r#""1,5""#,
        "null",
    ]
    .iter()
    .enumerate()
    .map(|(id, amount)| money(id, amount))
    .collect();
    lines.push(money(100, "-0.05"));
    lines.push(money(101, r#""-92233720368547758.08""#));
    lines.extend((200..300).map(|id| money(id, largest)));
    let found = send_lines(&lines, 102).await?;
    assert_eq!(found["e100"], Some(-5));
    assert_eq!(found["e101"], Some(i64::MIN));
    assert!((200..300).all(|id| found[&format!("e{id}")] == Some(i64::MAX)));
    Ok(())
}
