//! Answers that are pushed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reckon_schemas::access::{NewKey, Scope};
use reckon_schemas::{redis_keys, stores};
use reckon_serving::Tuning;
use reckon_tests::proxy::{Direction, Proxy};
use reckon_tests::until;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use super::catalog::change;
use super::scene::{Node, Scene};

const PATH: &str = "/v1/live?metric=revenue&from=2026-03-07&to=2026-03-10&grain=1d&by=department";

/// Looks at everything anew, and only when a change is announced.
pub(super) fn announced_only() -> Tuning {
    Tuning {
        live_interval: Duration::from_millis(20),
        live_refresh: Duration::from_secs(600),
        standing_interval: Duration::ZERO,
        live_clients_max: 1_000,
        queries_per_second_max: 100_000,
        ..Tuning::default()
    }
}

/// The events of a stream, one after the other.
pub(crate) struct Events {
    response: reqwest::Response,
    text: String,
}

impl Events {
    async fn open(scene: &Scene, node: &Node, path: &str, last: Option<&str>) -> Result<Self> {
        let endless = reqwest::Client::new();
        let mut request = endless.get(format!("{}{path}", node.url)).bearer_auth(&scene.read_key);
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        Self::of(request).await
    }

    /// Opens a stream that may last.
    pub(crate) async fn of(request: reqwest::RequestBuilder) -> Result<Self> {
        let response = request.send().await?;
        ensure!(response.status() == 200, "{}", response.status());
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Ok(Self { response, text: String::new() })
    }

    /// The next event's id, name and data; comments are passed over, and are no reason to wait longer.
    pub(crate) async fn next(&mut self) -> Result<(String, String, Value)> {
        tokio::time::timeout(Duration::from_secs(20), self.next_of_all()).await.context("only comments came")?
    }

    async fn next_of_all(&mut self) -> Result<(String, String, Value)> {
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
            self.hear().await?;
        }
    }

    async fn hear(&mut self) -> Result<()> {
        let chunk = tokio::time::timeout(Duration::from_secs(20), self.response.chunk()).await??;
        self.text.push_str(std::str::from_utf8(&chunk.context("the stream ended")?)?);
        Ok(())
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

/// Changes the number, and says what it is then; `step` grows.
async fn step(scene: &Scene, step: u16) -> Result<String> {
    scene.flush_to_redis(6 + i64::from(step), 600 + 100 * i128::from(step)).await?;
    Ok(format!("{}.00", 3_536 + u32::from(step)))
}

/// Something of the tenant changed.
async fn announce(scene: &Scene) -> Result<()> {
    let client = redis::Client::open(scene.redis.url.as_str())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let channel = redis_keys::changes_channel(&scene.tenant);
    redis::cmd("PUBLISH").arg(channel).arg("{}").query_async::<()>(&mut connection).await?;
    Ok(())
}

/// A node that reaches ClickHouse through a proxy, which counts what it reads.
async fn counted(scene: &Scene, tuning: Tuning) -> Result<(Proxy, Node)> {
    let (proxy, url) = Proxy::before(&scene.clickhouse.url).await?;
    let clickhouse = stores::ClickHouse { url, ..scene.clickhouse.clone() };
    let node = scene.serve_with(&clickhouse, &scene.redis, tuning).await?;
    Ok((proxy, node))
}

#[tokio::test]
async fn changes_follow_a_snapshot_and_can_be_resumed() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let mut events = Events::open(&scene, &node, PATH, None).await?;
    let (first, name, message) = events.next().await?;
    assert_eq!((name.as_str(), &message["kind"]), ("snapshot", &json!("snapshot")));
    assert_eq!(message["position"], json!(first));
    assert_eq!(message["answer"]["total"]["value"], "3534.00");
    let (_, query) = node.ask(&scene.read_key, &PATH.replace("live", "query")).await?;
    assert_eq!(message["answer"]["groups"], query["groups"]);

    scene.flush_to_redis(6, 550).await?;
    let (_, name, message) = events.until_total("3535.50").await?;
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
    Ok(())
}

#[tokio::test]
async fn who_comes_back_gets_the_changes_from_the_same_node_and_a_snapshot_from_another() -> Result<()> {
    let scene = Scene::new().await?;
    let nodes = [
        scene.serve_with(&scene.clickhouse, &scene.redis, announced_only()).await?,
        scene.serve_with(&scene.clickhouse, &scene.redis, announced_only()).await?,
    ];
    // At the same moment; they stay, so both feeds do.
    let [one, other] = &nodes;
    let open = |node| Events::open(&scene, node, PATH, None);
    let (mut here_events, mut there_events) = tokio::try_join!(open(one), open(other))?;
    let mut met = (here_events.next().await?, there_events.next().await?);
    for number in 1..=3 {
        let total = step(&scene, number).await?;
        met = (here_events.until_total(&total).await?, there_events.until_total(&total).await?);
    }
    let ((here, _, message), (there, _, _)) = met;
    for (node, elsewhere) in [(one, &there), (other, &here)] {
        let (position, name, _) = Events::open(&scene, node, PATH, Some(elsewhere)).await?.next().await?;
        assert_eq!(name, "snapshot", "{position} for who has seen {elsewhere}");
    }
    // Nothing before there is something to say.
    let mut resumed = Events::open(&scene, one, PATH, Some(&here)).await?;
    let total = step(&scene, 4).await?;
    let (_, name, change) = resumed.next().await?;
    assert_eq!((name.as_str(), &change["answer"]["total"]["value"]), ("change", &json!(total)));
    assert_eq!(change["seq"].as_u64(), message["seq"].as_u64().map(|seq| seq + 1));
    for strange in ["12345", "0123456789abcdef-1", "x"] {
        assert_eq!(Events::open(&scene, one, PATH, Some(strange)).await?.next().await?.1, "snapshot", "{strange}");
    }
    Ok(())
}

#[tokio::test]
async fn what_happens_to_other_events_is_no_message() -> Result<()> {
    let scene = Scene::new().await?;
    let (proxy, node) = counted(&scene, announced_only()).await?;
    let mut events = Events::open(&scene, &node, PATH, None).await?;
    let (_, _, snapshot) = events.next().await?;
    for partition in 0..10 {
        let before = proxy.forwarded(Direction::Requests);
        scene.count_in_redis("view", 2, partition, 0..3).await?;
        until("a look", Duration::from_secs(20), async || {
            announce(&scene).await?;
            Ok(proxy.forwarded(Direction::Requests) > before)
        })
        .await?;
    }
    let total = step(&scene, 1).await?;
    let (_, name, message) = events.next().await?;
    assert_eq!((name.as_str(), &message["answer"]["total"]["value"]), ("change", &json!(total)));
    assert_eq!(message["seq"].as_u64(), snapshot["seq"].as_u64().map(|seq| seq + 1), "none in between");
    Ok(())
}

#[tokio::test]
async fn that_numbers_are_fresh_is_told_no_more_often_than_they_are_refreshed() -> Result<()> {
    const REFRESH: Duration = Duration::from_millis(500);
    let scene = Scene::new().await?;
    let tuning = Tuning { live_refresh: REFRESH, ..announced_only() };
    let node = scene.serve_with(&scene.clickhouse, &scene.redis, tuning).await?;
    let mut events = Events::open(&scene, &node, PATH, None).await?;
    let (_, _, mut before) = events.next().await?;
    let began = Instant::now();
    let told = async {
        for _ in 0..4 {
            let (_, name, message) = events.next().await?;
            assert_eq!((name.as_str(), &message["answer"]["groups"]), ("change", &json!([])));
            let computed_at = |message: &Value| message["answer"]["computed_at"].as_str().map(str::to_owned);
            assert!(computed_at(&message) > computed_at(&before), "{message:#}");
            before = message;
        }
        anyhow::Ok(())
    };
    let announced = async || -> Result<()> {
        loop {
            announce(&scene).await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        told = told => told?,
        announced = announced() => announced?,
    }
    // The first of them may have been under way.
    assert!(began.elapsed() >= REFRESH * 3, "{:?}", began.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_stream_that_has_nothing_to_say_lives() -> Result<()> {
    let scene = Scene::new().await?;
    let tuning = Tuning { heartbeat: Duration::from_millis(100), ..announced_only() };
    let node = scene.serve_with(&scene.clickhouse, &scene.redis, tuning).await?;
    let mut events = Events::open(&scene, &node, PATH, None).await?;
    while events.text.matches(": heartbeat\n\n").count() < 3 {
        events.hear().await?;
    }
    assert_eq!(events.text.matches("data:").count(), 1, "{}", events.text);
    Ok(())
}

#[tokio::test]
async fn the_lake_is_not_read_again_and_again_whatever_names_it() -> Result<()> {
    let scene = Scene::new().await?;
    scene.accounts()?.prepare().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let admin = NewKey::from_random(rand::random(), vec![Scope::Read, Scope::Admin]);
    change(&node, |tenant| tenant.keys.push(admin.entry));
    // The node looks for the store from time to time.
    until("the configuration store", Duration::from_secs(20), async || {
        Ok(node.ask(&admin.key, "/v1/metrics").await?.0 == 200)
    })
    .await?;
    let metric = json!({ "name": "saved", "text": "sum(money.USD)" });
    let (status, made) = node.post_to(&admin.key, "/v1/metrics", &metric).await?;
    assert_eq!(status, 201, "{made}");
    let users = json!({ "name": "saved_users", "text": "uniq(user)" });
    assert_eq!(node.post_to(&admin.key, "/v1/metrics", &users).await?.0, 201);
    let long_ago = "from=1901-01-01&to=1901-01-02";
    for (refused, parameter) in [
        (format!("metric=saved&grain=1d&by=store&{long_ago}"), "from"),
        (format!("metric=saved&grain=1d&by=user_id&{long_ago}"), "from"),
        (format!("metric=saved&grain=1d&filter=store:A&{long_ago}"), "from"),
        (format!("metric=revenue&grain=1d&by=user_id&{long_ago}"), "from"),
        ("metric=saved_users&grain=1d&exact=true".to_owned(), "exact"),
        ("metric=households&grain=1d&exact=true".to_owned(), "exact"),
    ] {
        let (status, problem) = node.ask(&scene.read_key, &format!("/v1/live?{refused}")).await?;
        assert_eq!((status, &problem["parameter"]), (422, &json!(parameter)), "{refused}: {problem}");
    }
    // What a rollup has is told from it, until there is no such rollup any more.
    let path = PATH.replace("revenue", "saved");
    let mut events = Events::open(&scene, &node, &path, None).await?;
    assert_eq!(events.next().await?.2["answer"]["total"]["value"], "3534.00");
    change(&node, |tenant| tenant.rollups.clear());
    loop {
        announce(&scene).await?;
        let (_, _, message) = events.next().await?;
        if message["answer"]["notes"].to_string().contains("single events") {
            // Nobody has brought any: that is no zero without a word.
            assert!(message["answer"]["gaps"].as_array().is_some_and(|gaps| !gaps.is_empty()), "{message}");
            return Ok(());
        }
    }
}

#[tokio::test]
async fn a_question_is_evaluated_once_however_many_watch_it() -> Result<()> {
    const TICKS: u16 = 5;
    let scene = Scene::new().await?;
    let (proxy, node) = counted(&scene, announced_only()).await?;
    let mut watching = vec![Events::open(&scene, &node, PATH, None).await?];
    let mut ticks = 1..;
    let mut tick = async |watching: &mut Vec<Events>| {
        for number in ticks.by_ref().take(usize::from(TICKS)) {
            let total = step(&scene, number).await?;
            futures::future::try_join_all(watching.iter_mut().map(|events| events.until_total(&total))).await?;
        }
        anyhow::Ok(())
    };
    // The first one also finds out that the node listens.
    tick(&mut watching).await?;
    let before = proxy.forwarded(Direction::Requests);
    tick(&mut watching).await?;
    let alone = proxy.forwarded(Direction::Requests) - before;
    assert!(alone >= u64::from(TICKS), "{alone} requests: the proxy sees the statements");
    let before = proxy.forwarded(Direction::Requests);
    let more = (1..200).map(|_| Events::open(&scene, &node, PATH, None));
    watching.extend(futures::future::try_join_all(more).await?);
    tick(&mut watching).await?;
    let together = proxy.forwarded(Direction::Requests) - before;
    // A statement may come in two pieces.
    assert!(together <= 2 * alone, "{together} requests for {} clients, {alone} for one", watching.len());
    Ok(())
}

#[tokio::test]
async fn who_reads_slowly_gets_the_newest_state_and_no_backlog() -> Result<()> {
    const TICKS: u16 = 160;
    let scene = Scene::new().await?;
    // It is not thrown out while it does not read.
    let tuning = Tuning { write_stall_max: Duration::from_secs(600), ..announced_only() };
    let node = scene.serve_with(&scene.clickhouse, &scene.redis, tuning).await?;
    // Long messages: fewer of them are under way in the system's buffers.
    let text = format!("sum(money.USD){}where+event+=+'purchase'", "+".repeat(900));
    let path = format!("/v1/live?metric_text={text}&from=2026-03-07&to=2026-03-10&grain=1d&by=department");
    let mut quick = Events::open(&scene, &node, &path, None).await?;
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    let mut slow = socket.connect(node.url.trim_start_matches("http://").parse()?).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", scene.read_key);
    slow.write_all(request.as_bytes()).await?;
    let mut total = String::new();
    for number in 1..=TICKS {
        total = step(&scene, number).await?;
        quick.until_total(&total).await?;
    }
    let mut read = Vec::new();
    let newest = format!("\"total\":{{\"value\":\"{total}\"");
    while !String::from_utf8_lossy(&read).contains(&newest) {
        let length = tokio::time::timeout(Duration::from_secs(20), slow.read_buf(&mut read)).await??;
        ensure!(length > 0, "disconnected");
    }
    let messages = String::from_utf8_lossy(&read).matches("\nevent: ").count();
    assert!(messages < usize::from(TICKS) * 3 / 4, "{messages} messages of {TICKS} changes");
    Ok(())
}
