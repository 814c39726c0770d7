//! The same messages over a WebSocket.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::{SinkExt, StreamExt};
use reckon_serving::Tuning;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

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
        loop {
            let heard = self.hear().await?;
            if matches(&heard) {
                return Ok(heard);
            }
        }
    }
}

fn total(message: &Value) -> &Value {
    &message["message"]["answer"]["total"]["value"]
}

#[tokio::test]
async fn several_questions_on_one_connection_begin_change_end_and_resume() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
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
    let seq = change["seq"].as_u64().context("a number")?;
    scene.flush_to_redis(7, 650).await?;
    socket.say(json!({ "type": "subscribe", "id": "again", "query": QUESTION, "seq": seq })).await?;
    let resumed = socket.until(|heard| heard["id"] == "again").await?;
    assert!(resumed["message"]["seq"].as_u64().context("a number")? > seq, "{resumed:#}");
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
    let tuning = Tuning { live_subscriptions_max: 3, live_clients_max: 5, ..Tuning::default() };
    let node = scene.serve_with(&scene.clickhouse, &scene.redis, tuning).await?;
    let subscribe = |id: &str, query: &str| json!({ "type": "subscribe", "id": id, "query": query });
    let mut socket = Socket::open(&node, Some(&scene.read_key)).await?;
    socket.say(subscribe("no metric", "metric=nothing&grain=1d")).await?;
    let refused = socket.until(|heard| heard["type"] == "problem").await?;
    assert_eq!((&refused["id"], &refused["problem"]["status"]), (&json!("no metric"), &json!(404)));
    socket.say(subscribe("no grain", "metric=revenue&grain=1w")).await?;
    assert_eq!(socket.until(|heard| heard["id"] == "no grain").await?["problem"]["parameter"], "grain");
    for id in ["a", "b", "c"] {
        socket.say(subscribe(id, QUESTION)).await?;
        assert_eq!(socket.until(|heard| heard["id"] == id).await?["type"], "message");
    }
    socket.say(subscribe("d", QUESTION)).await?;
    assert_eq!(socket.until(|heard| heard["id"] == "d").await?["problem"]["status"], 429);
    let mut second = Socket::open(&node, Some(&scene.read_key)).await?;
    for (id, status) in [("a", Value::Null), ("b", Value::Null), ("c", json!(429))] {
        second.say(subscribe(id, QUESTION)).await?;
        assert_eq!(second.until(|heard| heard["id"] == id).await?["problem"]["status"], status, "{id}");
    }
    // Who leaves makes room.
    drop(socket);
    tokio::time::sleep(Duration::from_millis(300)).await;
    second.say(subscribe("d", QUESTION)).await?;
    assert_eq!(second.until(|heard| heard["id"] == "d").await?["type"], "message");
    for _ in 0..100 {
        if second.say(json!({ "type": "unsubscribe", "id": "x" })).await.is_err() {
            break;
        }
    }
    second.until(|heard| *heard == json!({ "type": "close", "code": 1008 })).await?;
    Ok(())
}
