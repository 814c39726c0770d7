//! What the collector answers is what is in the log.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use reckon_schemas::access::{NewKey, Scope};
use reckon_schemas::event::{Event, Rejected, Source};
use reckon_tests::log::read_topic;
use reckon_tests::{Stack, World};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn item(id: &str) -> Value {
    json!({
        "event_id": id, "name": "purchase", "occurred_at": "2026-01-31T23:59:59.5Z", "user_id": "u-7",
        "money": {"amount": "12.34", "currency": "USD"}, "properties": {"store": "330"}
    })
}

fn url(world: &World, path: &str) -> String {
    format!("http://127.0.0.1:{}{path}", world.collect_port)
}

fn gzip(text: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text)?;
    Ok(encoder.finish()?)
}

async fn problem(response: Response) -> Result<(StatusCode, Value)> {
    let status = response.status();
    assert_eq!(response.headers()["content-type"], "application/problem+json", "{status}");
    let body: Value = response.json().await?;
    assert_eq!(body["status"], status.as_u16());
    Ok((status, body))
}

#[tokio::test]
async fn a_batch_is_in_the_log_when_it_is_answered() -> Result<()> {
    let world = World::new(&Stack::shared()?)?;
    let mut collector = world.start_collector().await?;
    let body = serde_json::to_vec(&json!([item("a"), {"event_id": "b"}, item("c")]))?;
    let response = world
        .http
        .post(url(&world, "/v1/events"))
        .bearer_auth(&world.write_key)
        .header("traceparent", TRACEPARENT)
        .header("content-encoding", "gzip")
        .header("user-agent", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1")
        .body(gzip(&body)?)
        .send()
        .await?;
    assert_eq!(response.status(), StatusCode::ACCEPTED);
    let traceparent = response.headers()["traceparent"].to_str()?.to_owned();
    assert!(traceparent.contains(TRACE_ID), "{traceparent}");
    let receipt: Value = response.json().await?;
    assert_eq!(receipt["accepted"], 2);
    assert_eq!(receipt["rejected"][0]["index"], 1);
    assert_eq!(receipt["rejected"][0]["field"], "name");

    let events = read_topic(&world.kafka.brokers, &world.kafka.topics.events).await?;
    assert_eq!(events.len(), 2);
    for logged in &events {
        let event = Event::decode(&logged.payload)?;
        assert_eq!((event.tenant.as_ref(), event.source), (world.tenant.as_str(), Source::Native));
        assert_eq!(event.money.context("money")?.to_string(), "12.34 USD");
        assert_eq!(event.properties.get("device"), Some("mobile"));
        assert_eq!(logged.key, format!("{}\u{1f}u-7", world.tenant).as_bytes());
        assert_eq!(logged.traceparent.as_deref(), Some(traceparent.as_str()));
        assert_eq!(logged.timestamp_ms, Some(event.received_at.0 / 1000));
    }
    let rejects = read_topic(&world.kafka.brokers, &world.kafka.topics.rejected).await?;
    assert_eq!(rejects.len(), 1);
    let reject = Rejected::decode(&rejects[0].payload)?;
    assert_eq!((reject.index, reject.rejection.field.as_str()), (1, "name"));
    assert_eq!((reject.raw.as_str(), reject.traceparent), (r#"{"event_id":"b"}"#, traceparent));
    assert_eq!(rejects[0].key, world.tenant.as_bytes());
    assert!(collector.stop()?.success());
    Ok(())
}

#[tokio::test]
async fn refused_requests_are_problems_and_leave_nothing() -> Result<()> {
    let world = World::new(&Stack::shared()?)?;
    let _collector = world.start_collector().await?;
    let post = |path: &str| world.http.post(url(&world, path));
    let events = || post("/v1/events").bearer_auth(&world.write_key);
    let (rest, last) = world.write_key.split_at(world.write_key.len() - 1);
    let wrong_key = format!("{rest}{}", if last == "0" { "1" } else { "0" });
    let one = item("a").to_string();
    let bomb = gzip(&vec![b' '; 20 << 20])?;
    let many = format!("[{}]", vec!["1"; 5001].join(","));
    for (request, status) in [
        (post("/v1/events").body(one.clone()), 401),
        (post("/v1/events").bearer_auth(wrong_key).body(one.clone()), 401),
        (post("/v1/events").bearer_auth(&world.read_key).body(one.clone()), 403),
        (events().body("{"), 400),
        (events().body(""), 400),
        (events().header("content-encoding", "gzip").body("no gzip"), 400),
        (events().header("content-encoding", "br").body(one.clone()), 415),
        (events().body(vec![b' '; (4 << 20) + 1]), 413),
        (events().header("content-encoding", "gzip").body(bomb), 413),
        (events().body(many), 413),
        (post("/v1/track").body(one.clone()), 401),
        (post("/v1/track").basic_auth(&world.write_key, Some("")).body(vec![b' '; 501 * 1024]), 400),
        (post("/v1/nothing").body(one.clone()), 404),
        (world.http.get(url(&world, "/v1/events")), 405),
    ] {
        let (found, body) = problem(request.send().await?).await?;
        assert_eq!(found.as_u16(), status, "{body}");
    }
    for topic in [&world.kafka.topics.events, &world.kafka.topics.rejected] {
        assert!(read_topic(&world.kafka.brokers, topic).await?.is_empty());
    }
    Ok(())
}

#[tokio::test]
async fn segments_libraries_are_understood() -> Result<()> {
    let world = World::new(&Stack::shared()?)?;
    let _collector = world.start_collector().await?;
    let track = json!({
        "event": "Order Completed", "userId": "u", "messageId": "m-1", "timestamp": "2026-01-31T23:59:59.5Z",
        "properties": {"revenue": 12.10, "currency": "EUR", "cart": {"size": 3}}
    });
    let batch = json!({
        "writeKey": world.write_key, "context": {"locale": "de-DE"},
        "batch": [
            {"type": "page", "anonymousId": "a", "messageId": "m-2", "timestamp": "2026-01-31T23:59:59.5Z"},
            {"type": "track", "event": "Refund", "messageId": "m-3", "properties": {"revenue": "much"}},
            {"type": "nonsense", "messageId": "m-4"},
        ]
    });
    let unknown_tenant = json!({"writeKey": "rk_00000000_0", "batch": []});
    let track = world.http.post(url(&world, "/v1/track")).basic_auth(&world.write_key, Some("")).json(&track);
    let batch = world.http.post(url(&world, "/v1/batch")).json(&batch);
    for request in [track, batch] {
        let response = request.send().await?;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.json::<Value>().await?, json!({"success": true}));
    }
    let refused = world.http.post(url(&world, "/v1/batch")).json(&unknown_tenant).send().await?;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);

    let logged = read_topic(&world.kafka.brokers, &world.kafka.topics.events).await?;
    let mut events = logged.iter().map(|logged| Event::decode(&logged.payload)).collect::<Result<Vec<_>, _>>()?;
    events.sort_by(|a, b| a.id.cmp(&b.id));
    let names: Vec<_> =
        events.iter().map(|event| (event.id.as_ref(), event.name.as_ref(), event.user.as_ref())).collect();
    assert_eq!(names, [("m-1", "Order Completed", "u"), ("m-2", "page", "a")]);
    assert_eq!(events[0].money.context("money")?.to_string(), "12.10 EUR");
    assert_eq!(events[0].properties.get("cart.size"), Some("3"));
    assert_eq!(events[1].properties.get("context.locale"), Some("de-DE"));
    let rejects = read_topic(&world.kafka.brokers, &world.kafka.topics.rejected).await?;
    let fields = rejects.iter().map(|reject| Ok(Rejected::decode(&reject.payload)?.rejection.field));
    assert_eq!(fields.collect::<Result<Vec<_>>>()?, ["properties.revenue", "type"]);
    assert!(rejects.iter().all(|reject| !String::from_utf8_lossy(&reject.payload).contains(&world.write_key)));
    Ok(())
}

/// What a collector's buckets hold at least: the largest request of any door.
const BUCKET: usize = 2_500;

/// Items for a door, in the words of the door, and their ids.
fn batch(world: &World, door: &str, key: &str, name: &str, count: usize) -> (reqwest::RequestBuilder, Vec<String>) {
    let ids: Vec<String> = (0..count).map(|number| format!("{name}-{number}")).collect();
    let at = "2026-01-31T23:59:59Z";
    let all = |item: &dyn Fn(&String) -> Value| ids.iter().map(item).collect::<Vec<_>>();
    let post = |path: &str| world.http.post(url(world, path));
    let request = match door {
        "native" => post("/v1/events").bearer_auth(key).json(&all(&|id| item(id))),
        "segment" => {
            let items = all(
                &|id| json!({ "type": "track", "event": "purchase", "messageId": id, "userId": "u", "timestamp": at }),
            );
            post("/v1/batch").basic_auth(key, Some("")).json(&json!({ "batch": items }))
        }
        _ => {
            let items = all(
                &|id| json!({ "specversion": "1.0", "id": id, "source": "/meter", "type": "purchase", "subject": "u", "time": at, "data": {} }),
            );
            let body = Value::from(items).to_string();
            post("/v1/cloudevents")
                .bearer_auth(key)
                .header("content-type", "application/cloudevents-batch+json")
                .body(body)
        }
    };
    (request, ids)
}

#[tokio::test]
async fn a_tenant_that_sends_too_much_is_told_to_come_back_at_every_door() -> Result<()> {
    let tuning = "[collect]\nevents_per_request_max = 2500\n";
    let world = World::with_neighbours(&Stack::shared()?, tuning, &["b"])?;
    let neighbour = NewKey::from_random(rand::random(), vec![Scope::Write]);
    let mut catalog = (*world.catalog).clone();
    // A bucket holds one request of the largest size; the next twenty events have to wait for 20 s.
    catalog.tenants[0].events_per_second_max = Some(1);
    catalog.tenants[1].keys.push(neighbour.entry.clone());
    std::fs::write(world.config().with_file_name("catalog.toml"), toml::to_string(&catalog)?)?;
    let _collector = world.start_collector().await?;
    let mut answered = BTreeSet::new();
    let (full, ids) = batch(&world, "native", &world.write_key, "first", BUCKET);
    assert_eq!(full.send().await?.status(), StatusCode::ACCEPTED);
    answered.extend(ids);
    for door in ["native", "segment", "cloudevents"] {
        let (request, _) = batch(&world, door, &world.write_key, door, 20);
        let refused = request.send().await?;
        let wait = refused.headers().get("retry-after").context("Retry-After")?.to_str()?.parse::<u64>()?;
        assert!((1..=20).contains(&wait), "{door}: {wait} s");
        assert_eq!(problem(refused).await?.0, StatusCode::TOO_MANY_REQUESTS, "{door}");
        // Nobody else notices, however much they send.
        for round in 0..3 {
            let (request, ids) = batch(&world, door, &neighbour.key, &format!("theirs-{door}-{round}"), 20);
            let taken = request.send().await?;
            assert!(taken.status().is_success(), "{door}: {} {}", taken.status(), taken.text().await?);
            answered.extend(ids);
        }
    }
    // Until they get a bound, too, while everything runs; no catalog knows of it.
    let tenant = catalog.tenants[1].id.as_str();
    let set = world.run(&["quota", "--tenant", tenant, "--events-per-second", "1"])?;
    assert_eq!(set.code, 0, "{}", set.log);
    let (mut round, deadline) = (0, Instant::now() + Duration::from_secs(30));
    loop {
        let (request, ids) = batch(&world, "native", &neighbour.key, &format!("more-{round}"), 1_000);
        let answer = request.send().await?;
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            break;
        }
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        assert!(Instant::now() < deadline, "the bound of the configuration store does not hold");
        answered.extend(ids);
        round += 1;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // What was answered is there, and nothing else.
    let logged = read_topic(&world.kafka.brokers, &world.kafka.topics.events).await?;
    let ids = logged.iter().map(|logged| Ok(Event::decode(&logged.payload)?.id.to_string()));
    let ids: Vec<String> = ids.collect::<Result<_>>()?;
    assert_eq!(ids.len(), answered.len());
    // A CloudEvent is known by its source, too.
    let known = |id: &String| answered.contains(id) || id.rsplit(' ').next().is_some_and(|id| answered.contains(id));
    let unknown: Vec<_> = ids.iter().filter(|id| !known(id)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    Ok(())
}
