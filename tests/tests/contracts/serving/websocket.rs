//! The same messages over a WebSocket.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::{SinkExt, StreamExt};
use reckon_serving::Tuning;
use reckon_tests::until;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::live::announced_only;
use super::scene::{CANARY, Node, Scene};

const QUESTION: &str = "metric=revenue&from=2026-03-07&to=2026-03-10&grain=1d&by=department";

struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    async fn open(node: &Node, key: Option<&str>) -> Result<Self> {
        let mut request = format!("{}/v1/live/ws", node.url.replace("http", "ws")).into_client_request()?;
        if let Some(key) = key {
            request.headers_mut().insert("authorization", format!("Bearer {key}").parse()?);
        }
        Ok(Self(tokio_tungstenite::connect_async(request).await?.0))
    }

    async fn say(&mut self, said: Value) -> Result<()> {
        Ok(self.0.send(Message::text(said.to_string())).await?)
    }

    /// The next message but heartbeats; a close frame is one with its code.
    async fn hear(&mut self) -> Result<Value> {
        loop {
            let heard = tokio::time::timeout(Duration::from_secs(20), self.0.next()).await?;
            match heard.context("the connection ended")?? {
                Message::Text(text) => {
                    let message: Value = serde_json::from_str(&text)?;
                    if message["type"] != "heartbeat" {
                        return Ok(message);
                    }
                }
                Message::Close(frame) => {
                    let code = frame.map(|frame| u16::from(frame.code));
                    return Ok(json!({ "type": "close", "code": code }));
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => bail!("{other:?}"),
            }
        }
    }

    async fn until(&mut self, matches: impl Fn(&Value) -> bool) -> Result<Value> {
        let until = async {
            loop {
                let heard = self.hear().await?;
                if matches(&heard) {
                    return Ok(heard);
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), until).await.context("only other messages came")?
    }
}

fn subscribe(id: &str, query: &str) -> Value {
    json!({ "type": "subscribe", "id": id, "query": query })
}

fn total(message: &Value) -> &Value {
    &message["message"]["answer"]["total"]["value"]
}

#[tokio::test]
async fn several_questions_on_one_connection_begin_change_end_and_resume() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve_with(&scene.clickhouse, &scene.redis, announced_only()).await?;
    let mut socket = Socket::open(&node, Some(&scene.read_key)).await?;
    assert_eq!(socket.hear().await?, json!({ "type": "ready", "tenant": scene.tenant }));
    socket.say(json!({ "type": "subscribe", "id": "by department", "query": QUESTION })).await?;
    let snapshot = socket.hear().await?;
    assert_eq!((&snapshot["id"], &snapshot["message"]["kind"]), (&json!("by department"), &json!("snapshot")));
    assert_eq!(total(&snapshot), "3534.00");
    // The message is the one of the other protocol.
    let mut stream = node.open(&scene.read_key, &format!("/v1/live?{QUESTION}"), None).await?;
    let event = String::from_utf8(stream.chunk().await?.context("a snapshot")?.to_vec())?;
    let data: Value =
        serde_json::from_str(event.lines().find_map(|line| line.strip_prefix("data: ")).context("data")?)?;
    assert_eq!(data["answer"]["groups"], snapshot["message"]["answer"]["groups"]);

    socket.say(json!({ "type": "subscribe", "id": "count", "query": "metric=purchases&from=2026-03-09&to=2026-03-10&grain=1d" })).await?;
    socket.until(|heard| heard["id"] == "count" && total(heard) == 15).await?;
    scene.flush_to_redis(6, 550).await?;
    let mut changed = std::collections::BTreeMap::new();
    while changed.len() < 2 {
        let heard = socket.until(|heard| heard["type"] == "message").await?;
        if *total(&heard) == json!("3535.50") || *total(&heard) == json!(16) {
            changed.insert(heard["id"].to_string(), heard);
        }
    }
    let change = &changed["\"by department\""]["message"];
    assert_eq!(change["kind"], "change");
    assert_eq!(change["answer"]["groups"].as_array().map(Vec::len), Some(1), "{change:#}");

    socket.say(json!({ "type": "unsubscribe", "id": "by department" })).await?;
    socket.until(|heard| heard["type"] == "unsubscribed").await?;
    // The stream still watches, so what comes now is known as a change.
    scene.flush_to_redis(7, 650).await?;
    let position = &change["position"];
    socket.say(json!({ "type": "subscribe", "id": "again", "query": QUESTION, "resume": position })).await?;
    let resumed = socket.until(|heard| heard["id"] == "again").await?;
    assert_eq!((&resumed["message"]["kind"], total(&resumed)), (&json!("change"), &json!("3536.50")), "{resumed:#}");
    assert_eq!(resumed["message"]["seq"].as_u64(), change["seq"].as_u64().map(|seq| seq + 1));
    let elsewhere = "0123456789abcdef-1";
    socket.say(json!({ "type": "subscribe", "id": "moved", "query": QUESTION, "resume": elsewhere })).await?;
    let moved = socket.until(|heard| heard["id"] == "moved").await?;
    assert_eq!(moved["message"]["kind"], "snapshot");
    Ok(())
}

#[tokio::test]
async fn two_nodes_push_the_same_change() -> Result<()> {
    let scene = Scene::new().await?;
    let (one, other) =
        (scene.serve(&scene.clickhouse, &scene.redis).await?, scene.serve(&scene.clickhouse, &scene.redis).await?);
    let mut sockets = Vec::new();
    for node in [&one, &other] {
        let mut socket = Socket::open(node, Some(&scene.read_key)).await?;
        socket.say(json!({ "type": "subscribe", "id": "a", "query": QUESTION })).await?;
        socket.until(|heard| total(heard) == "3534.00").await?;
        sockets.push(socket);
    }
    scene.flush_to_redis(6, 550).await?;
    for mut socket in sockets {
        socket.until(|heard| total(heard) == "3535.50").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_key_comes_in_a_header_or_in_the_first_message_and_opens_its_tenant_only() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let mut socket = Socket::open(&node, None).await?;
    socket.say(json!({ "type": "auth", "key": scene.read_key })).await?;
    assert_eq!(socket.hear().await?["tenant"], json!(scene.tenant));
    socket.say(json!({ "type": "subscribe", "id": "a", "query": QUESTION })).await?;
    assert!(!socket.hear().await?.to_string().contains(CANARY));
    assert!(Socket::open(&node, Some("rk_no_key")).await.is_err(), "refused before the conversation");
    for said in [
        json!({ "type": "auth", "key": scene.write_key }),
        json!({ "type": "auth", "key": "rk_00000000_x" }),
        json!({ "type": "subscribe", "id": "a", "query": QUESTION }),
        json!("auth"),
    ] {
        let mut socket = Socket::open(&node, None).await?;
        socket.say(said.clone()).await?;
        assert_eq!(socket.hear().await?["type"], "problem", "{said}");
        assert_eq!(socket.hear().await?, json!({ "type": "close", "code": 1008 }), "{said}");
    }
    // A key in the address is not looked at.
    let url = format!("{}/v1/live/ws?key={}", node.url.replace("http", "ws"), scene.read_key);
    let mut socket = Socket(tokio_tungstenite::connect_async(url).await?.0);
    socket.say(json!({ "type": "subscribe", "id": "a", "query": QUESTION })).await?;
    assert_eq!(socket.hear().await?["problem"]["status"], 401);
    Ok(())
}

#[tokio::test]
async fn subscriptions_and_messages_are_bounded_and_a_refusal_ends_nothing_else() -> Result<()> {
    let scene = Scene::new().await?;
    let tuning = Tuning { live_subscriptions_max: 3, ..Tuning::default() };
    let node = scene.serve_with(&scene.clickhouse, &scene.redis, tuning).await?;
    let mut socket = Socket::open(&node, Some(&scene.read_key)).await?;
    for (id, query, status, parameter) in [
        ("no metric", "metric=nothing&grain=1d", 404, Value::Null),
        ("no grain", "metric=revenue&grain=1w", 400, json!("grain")),
        // The lake is not read again and again.
        ("no rollup", "metric=revenue&grain=1d&by=store&from=1901-01-01&to=1901-01-02", 422, json!("from")),
        ("users", "metric=revenue&grain=1d&by=user_id&from=1901-01-01&to=1901-01-02", 422, json!("from")),
        ("exact", "metric=households&grain=1d&exact=true", 422, json!("exact")),
    ] {
        socket.say(subscribe(id, query)).await?;
        let refused = socket.until(|heard| heard["type"] == "problem").await?;
        assert_eq!((&refused["id"], &refused["problem"]["status"]), (&json!(id), &json!(status)), "{refused}");
        assert_eq!(refused["problem"]["parameter"], parameter);
    }
    for id in ["a", "b", "c"] {
        socket.say(subscribe(id, QUESTION)).await?;
        assert_eq!(socket.until(|heard| heard["id"] == id).await?["type"], "message");
    }
    socket.say(subscribe("d", QUESTION)).await?;
    assert_eq!(socket.until(|heard| heard["id"] == "d").await?["problem"]["status"], 429);
    for _ in 0..100 {
        if socket.say(json!({ "type": "unsubscribe", "id": "x" })).await.is_err() {
            break;
        }
    }
    socket.until(|heard| *heard == json!({ "type": "close", "code": 1008 })).await?;
    Ok(())
}

#[tokio::test]
async fn a_connection_takes_a_place_of_its_tenant_also_without_a_question() -> Result<()> {
    let scene = Scene::new().await?;
    let tuning = Tuning { live_clients_max: 2, ..Tuning::default() };
    let node = scene.serve_with(&scene.clickhouse, &scene.redis, tuning).await?;
    let mut sockets = Vec::new();
    for key in [None, Some(scene.read_key.as_str())] {
        let mut socket = Socket::open(&node, key).await?;
        if key.is_none() {
            socket.say(json!({ "type": "auth", "key": scene.read_key })).await?;
        }
        assert_eq!(socket.hear().await?["type"], "ready");
        sockets.push(socket);
    }
    let mut third = Socket::open(&node, Some(&scene.read_key)).await?;
    assert_eq!(third.hear().await?["problem"]["status"], 429);
    assert_eq!(third.hear().await?, json!({ "type": "close", "code": 1013 }));
    assert_eq!(node.ask(&scene.read_key, &format!("/v1/live?{QUESTION}")).await?.0, 429);
    let mut theirs = Socket::open(&node, Some(&scene.other_key)).await?;
    assert_eq!(theirs.hear().await?["type"], "ready", "the others have as many as before");
    // One place, however many questions.
    for id in ["a", "b", "c"] {
        sockets[0].say(subscribe(id, QUESTION)).await?;
        assert_eq!(sockets[0].until(|heard| heard["id"] == id).await?["type"], "message");
    }
    // Who leaves makes room.
    sockets.pop();
    until("the place", Duration::from_secs(20), async || {
        let mut again = Socket::open(&node, Some(&scene.read_key)).await?;
        Ok(again.hear().await?["type"] == "ready")
    })
    .await
}

#[tokio::test]
async fn a_question_costs_a_query_of_the_quota() -> Result<()> {
    let scene = Scene::new().await?;
    let tuning = Tuning { queries_per_second_max: 2, ..Tuning::default() };
    let node = scene.serve_with(&scene.clickhouse, &scene.redis, tuning).await?;
    let mut socket = Socket::open(&node, Some(&scene.read_key)).await?;
    for id in 0..10 {
        socket.say(subscribe(&id.to_string(), QUESTION)).await?;
    }
    let refused = socket.until(|heard| heard["type"] == "problem").await?;
    assert_eq!(refused["problem"]["status"], 429, "{refused}");
    assert!(refused["problem"]["detail"].as_str().is_some_and(|detail| detail.contains("per second")), "{refused}");
    Ok(())
}

#[tokio::test]
async fn a_connection_that_has_nothing_to_say_lives() -> Result<()> {
    let scene = Scene::new().await?;
    let tuning = Tuning { heartbeat: Duration::from_millis(100), ..announced_only() };
    let node = scene.serve_with(&scene.clickhouse, &scene.redis, tuning).await?;
    let mut socket = Socket::open(&node, Some(&scene.read_key)).await?;
    let mut heard = Vec::new();
    while heard.len() < 4 {
        let next = tokio::time::timeout(Duration::from_secs(20), socket.0.next()).await?;
        if let Message::Text(text) = next.context("the connection ended")?? {
            heard.push(serde_json::from_str::<Value>(&text)?["type"].clone());
        }
    }
    assert_eq!(heard, [json!("ready"), json!("heartbeat"), json!("heartbeat"), json!("heartbeat")]);
    Ok(())
}
