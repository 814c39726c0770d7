//! What alerts tell, where the store and who asks matter: in order, to everybody who may know it, whatever else is broken.

use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use futures::StreamExt;
use reckon_serving::accounts::Tuning;
use reckon_tests::proxy::{Direction, Proxy, Way};
use reckon_tests::until;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::AnyPool;

use super::on_both_stores;
use super::people::{PASSWORD, Person, sign_in};
use super::scene::{Database, Node, Scene, quick};

on_both_stores!(
    events_are_read_from_both_ends,
    who_comes_back_late_misses_nothing,
    alerts_are_listed_page_by_page,
    who_only_reads_sees_no_secrets,
    what_cannot_be_read_stops_nobody_else,
    receivers_that_do_not_answer_delay_nobody_else,
);

const PATIENCE: Duration = Duration::from_secs(30);

/// The identifier of the event of that number. Identifiers begin with their time, and old events are removed.
fn id(number: u128) -> String {
    static FIRST: LazyLock<u128> = LazyLock::new(|| uuid::Uuid::now_v7().as_u128());
    uuid::Uuid::from_u128(*FIRST + number).simple().to_string()
}

async fn told(pool: &AnyPool, tenant: &str, alert: &str, id: &str) -> Result<()> {
    sqlx::query("INSERT INTO alert_events (id, tenant, alert, at, body) VALUES ($1, $2, $3, 1, '{}')")
        .bind(id)
        .bind(tenant)
        .bind(alert)
        .execute(pool)
        .await?;
    Ok(())
}

/// An event of an alert, and a message about it that waits.
async fn due(pool: &AnyPool, tenant: &str, alert: &str, id: &str, next_at: i64) -> Result<()> {
    told(pool, tenant, alert, id).await?;
    sqlx::query(
        "INSERT INTO alert_messages (event, tenant, alert, state, attempts, next_at) VALUES ($1, $2, $3, 'due', 0, $4)",
    )
    .bind(id)
    .bind(tenant)
    .bind(alert)
    .bind(next_at)
    .execute(pool)
    .await?;
    Ok(())
}

/// An alert that is kept by these words.
async fn kept(pool: &AnyPool, tenant: &str, id: &str, definition: &str) -> Result<()> {
    sqlx::query(
        "INSERT INTO alerts (tenant, id, definition, secret, revision, standing, created_by, updated_at) \
         VALUES ($1, $2, $3, 'whsec_c29tZWJvZHkgZWxzZSdzIHNlY3JldA==', 1, '{\"phase\":\"ok\"}', 'operator', 1)",
    )
    .bind(tenant)
    .bind(id)
    .bind(definition)
    .execute(pool)
    .await?;
    Ok(())
}

/// An alert that tells nothing by itself.
fn quiet(webhook: Option<&str>) -> Value {
    json!({ "name": "quiet", "metric": "purchases", "side": "above", "threshold": "1000000", "no_data_seconds": 86_400,
            "webhook": webhook })
}

/// A node that may send messages to receivers of this test.
async fn node(scene: &Scene, database: &Database) -> Result<Node> {
    let serve = reckon_serving::Tuning { webhook_networks: vec!["127.0.0.1/32".parse()?], ..Default::default() };
    scene.node(&database.url, quick(), serve).await
}

/// A receiver, and the identifiers of the messages that it got.
async fn receiver() -> Result<(String, Arc<Mutex<Vec<String>>>)> {
    type Inbox = Arc<Mutex<Vec<String>>>;
    async fn hook(State(inbox): State<Inbox>, headers: HeaderMap) -> StatusCode {
        let id = headers["webhook-id"].to_str().unwrap_or_default().to_owned();
        inbox.lock().expect("not poisoned").push(id);
        StatusCode::NO_CONTENT
    }
    let inbox = Inbox::default();
    let router = Router::new().route("/hook", post(hook)).with_state(inbox.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/hook", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok((url, inbox))
}

/// One that takes connections and says nothing.
async fn silent_receiver() -> Result<String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/hook", listener.local_addr()?);
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            open.push(connection);
        }
    });
    Ok(url)
}

/// The identifiers of so many events that a stream brings.
async fn ids(stream: reqwest::Response, count: usize) -> Result<Vec<String>> {
    let (mut text, mut chunks) = (String::new(), stream.bytes_stream());
    let ids = |text: &str| text.lines().filter_map(|line| line.strip_prefix("id: ")).map(str::to_owned).collect();
    while let Some(chunk) = chunks.next().await {
        text.push_str(std::str::from_utf8(&chunk?)?);
        let whole = text.rfind("\n\n").map_or(0, |end| end + 2);
        let found: Vec<String> = ids(&text[..whole]);
        if found.len() >= count {
            return Ok(found);
        }
    }
    anyhow::bail!("the stream ended: {text}")
}

async fn events_are_read_from_both_ends(database: Database) -> Result<()> {
    let scene = Scene::new()?;
    let (node, pool) = (scene.plain_node(&database.url).await?, database.pool().await?);
    for number in 1..=5 {
        told(&pool, &scene.acme.tenant, "a", &id(number)).await?;
    }
    told(&pool, &scene.other.tenant, "b", &id(9)).await?;
    let page = async |query: &str| -> Result<(Vec<String>, Value)> {
        let page = node.ask(Method::GET, &format!("/v1/alert-events?{query}"), &scene.acme.read, None).await?.json()?;
        let events = page["events"].as_array().with_context(|| page.to_string())?;
        let ids = events.iter().map(|event| event["id"].as_str().unwrap_or_default().to_owned());
        Ok((ids.collect(), page["next"].clone()))
    };
    let numbers = |numbers: &[u128]| numbers.iter().map(|number| id(*number)).collect::<Vec<_>>();
    assert_eq!(page("").await?, (numbers(&[5, 4, 3, 2, 1]), Value::Null));
    assert_eq!(page("limit=2").await?, (numbers(&[5, 4]), json!(id(4))));
    assert_eq!(page(&format!("limit=2&before={}", id(4))).await?, (numbers(&[3, 2]), json!(id(2))));
    assert_eq!(page(&format!("limit=2&before={}", id(2))).await?, (numbers(&[1]), Value::Null));
    assert_eq!(page(&format!("limit=2&after={}", id(2))).await?, (numbers(&[3, 4]), json!(id(4))));
    assert_eq!(page(&format!("limit=2&after={}", id(4))).await?, (numbers(&[5]), Value::Null));
    let both = format!("before={}&after={}", id(4), id(1));
    for wrong in ["limit=0", "limit=501", "before=1", "after=", "after=%00", "other=1", both.as_str()] {
        let answer = node.ask(Method::GET, &format!("/v1/alert-events?{wrong}"), &scene.acme.read, None).await?;
        assert_eq!(answer.status, 400, "{wrong}: {}", answer.text);
    }
    Ok(())
}

async fn who_comes_back_late_misses_nothing(database: Database) -> Result<()> {
    let scene = Scene::new()?;
    let (node, pool) = (scene.plain_node(&database.url).await?, database.pool().await?);
    let mut all = pool.begin().await?;
    for number in 1..=1_201 {
        sqlx::query("INSERT INTO alert_events (id, tenant, alert, at, body) VALUES ($1, $2, 'a', 1, '{}')")
            .bind(id(number))
            .bind(&scene.acme.tenant)
            .execute(&mut *all)
            .await?;
    }
    all.commit().await?;
    let stream = scene.http.get(format!("{}/v1/alert-events/live", node.url)).bearer_auth(&scene.acme.read);
    let stream = stream.header("last-event-id", id(1)).send().await?.error_for_status()?;
    let missed = tokio::time::timeout(PATIENCE, ids(stream, 1_200)).await.context("the stream stops")??;
    ensure!(missed == (2..=1_201).map(id).collect::<Vec<_>>(), "{} events", missed.len());
    Ok(())
}

async fn alerts_are_listed_page_by_page(database: Database) -> Result<()> {
    let scene = Scene::new()?;
    let node = scene.plain_node(&database.url).await?;
    let mut made = Vec::new();
    for _ in 0..5 {
        let alert = node.ask(Method::POST, "/v1/alerts", &scene.acme.admin, Some(&quiet(None))).await?.json()?;
        made.push(alert["id"].clone());
        node.ask(Method::POST, "/v1/alerts", &scene.other.admin, Some(&quiet(None))).await?;
    }
    let (listed, pages) = node.pages("/v1/alerts", "alerts", &scene.acme.admin, 2).await?;
    assert_eq!(listed.iter().map(|alert| alert["id"].clone()).collect::<Vec<_>>(), made);
    assert_eq!(pages.len(), 3);
    Ok(())
}

async fn who_only_reads_sees_no_secrets(database: Database) -> Result<()> {
    let scene = Scene::new()?;
    let node = scene.plain_node(&database.url).await?;
    let alert = quiet(Some("https://hooks.example.com:8443/T012/B345?token=secret"));
    let made = node.ask(Method::POST, "/v1/alerts", &scene.acme.admin, Some(&alert)).await?;
    assert_eq!(made.status, 201, "{}", made.text);
    let path = format!("/v1/alerts/{}", made.json()?["id"].as_str().context("an id")?);
    for path in ["/v1/alerts", &path] {
        let seen = node.ask(Method::GET, path, &scene.acme.read, None).await?;
        let is_silent = !["T012", "token", "created_by", "key:"].iter().any(|secret| seen.text.contains(secret));
        assert!(is_silent && seen.text.contains("\"https://hooks.example.com:8443\""), "{}", seen.text);
        let whole = node.ask(Method::GET, path, &scene.acme.admin, None).await?;
        assert!(whole.text.contains("T012/B345?token=secret") && whole.text.contains("key:"), "{}", whole.text);
    }
    // A person who may read may change it, too.
    let read = [reckon_schemas::access::Scope::Read];
    node.accounts.set_user(&scene.acme.tenant.parse()?, "ada@example.com", PASSWORD.to_owned(), &read).await?;
    let ada = Person::new(&node, &sign_in(&node, "ada@example.com", PASSWORD).await?)?;
    assert!(ada.ask(Method::GET, &path, None).await?.text.contains("token=secret"));
    Ok(())
}

async fn what_cannot_be_read_stops_nobody_else(database: Database) -> Result<()> {
    let scene = Scene::new()?;
    let (node, pool) = (node(&scene, &database).await?, database.pool().await?);
    let (url, inbox) = receiver().await?;
    kept(&pool, &scene.other.tenant, "unreadable", "{\"color\":\"red\"}").await?;
    let made = node.ask(Method::POST, "/v1/alerts", &scene.acme.admin, Some(&quiet(Some(&url)))).await?.json()?;
    let alert = made["id"].as_str().with_context(|| made.to_string())?;
    let theirs = node.ask(Method::POST, "/v1/alerts", &scene.other.admin, Some(&quiet(None))).await?.json()?;
    let list = node.ask(Method::GET, "/v1/alerts", &scene.other.read, None).await?.json()?;
    assert_eq!((&list["alerts"][0]["id"], &list["alerts"][1]), (&theirs["id"], &Value::Null));
    assert_eq!(list["unreadable"], json!(["unreadable"]));
    due(&pool, &scene.other.tenant, "unreadable", &id(1), 1).await?;
    due(&pool, &scene.acme.tenant, alert, &id(2), 2).await?;
    until("the message", PATIENCE, async || Ok(*inbox.lock().expect("not poisoned") == [format!("msg_{}", id(2))]))
        .await?;
    until("the unreadable message's end", PATIENCE, async || {
        let (state, problem): (String, Option<String>) =
            sqlx::query_as("SELECT state, problem FROM alert_messages WHERE event = $1")
                .bind(id(1))
                .fetch_one(&pool)
                .await?;
        Ok(state == "given_up" && problem.is_some_and(|problem| problem.contains("cannot be read")))
    })
    .await?;
    until("a look", PATIENCE, async || {
        let path = format!("/v1/alerts/{alert}");
        Ok(node.ask(Method::GET, &path, &scene.acme.read, None).await?.json()?["seen_at"].is_string())
    })
    .await?;
    let gone = node.ask(Method::DELETE, "/v1/alerts/unreadable", &scene.other.admin, None).await?;
    assert_eq!(gone.status, 204, "it can be removed: {}", gone.text);
    Ok(())
}

async fn receivers_that_do_not_answer_delay_nobody_else(database: Database) -> Result<()> {
    let scene = Scene::new()?;
    let (node, pool) = (node(&scene, &database).await?, database.pool().await?);
    let ((url, inbox), silent) = (receiver().await?, silent_receiver().await?);
    let other = node.ask(Method::POST, "/v1/alerts", &scene.other.admin, Some(&quiet(Some(&silent)))).await?.json()?;
    let ours = node.ask(Method::POST, "/v1/alerts", &scene.acme.admin, Some(&quiet(Some(&url)))).await?.json()?;
    let (other, ours) = (other["id"].as_str().context("an id")?, ours["id"].as_str().context("an id")?);
    for number in 1..=50 {
        due(&pool, &scene.other.tenant, other, &id(number), 1).await?;
    }
    let attempts = async || -> Result<i64> {
        let (attempts,): (i64,) =
            sqlx::query_as("SELECT COUNT(*) FROM alert_messages WHERE attempts > 0").fetch_one(&pool).await?;
        Ok(attempts)
    };
    until("their first messages", PATIENCE, async || Ok(attempts().await? > 0)).await?;
    due(&pool, &scene.acme.tenant, ours, &id(100), 2).await?;
    until("our message", PATIENCE, async || Ok(!inbox.lock().expect("not poisoned").is_empty())).await?;
    let begun = attempts().await?;
    ensure!(begun < 30, "one tenant has had {begun} messages on their way before ours");
    Ok(())
}

/// On PostgreSQL two can be written at the same time. What is told later has a greater identifier and appears later.
#[tokio::test]
async fn events_appear_in_the_order_of_their_identifiers() -> Result<()> {
    let (scene, database) = (Scene::new()?, Database::postgres().await?);
    let (node, pool) = (scene.plain_node(&database.url).await?, database.pool().await?);
    let stream = scene.http.get(format!("{}/v1/alert-events/live", node.url)).bearer_auth(&scene.acme.read);
    let stream = stream.header("last-event-id", id(0)).send().await?.error_for_status()?;
    // Another node has told something, which has not been committed yet.
    let mut first = pool.begin().await?;
    sqlx::query(
        "INSERT INTO revisions (name, revision) VALUES ('alert_events', 1) \
         ON CONFLICT (name) DO UPDATE SET revision = revisions.revision + 1",
    )
    .execute(&mut *first)
    .await?;
    // Its clock is ahead.
    let ahead = uuid::Uuid::from_u128(uuid::Uuid::now_v7().as_u128() + (1 << 100)).simple().to_string();
    sqlx::query("INSERT INTO alert_events (id, tenant, alert, at, body) VALUES ($1, $2, 'a', 1, '{}')")
        .bind(&ahead)
        .bind(&scene.acme.tenant)
        .execute(&mut *first)
        .await?;
    let alert =
        json!({ "name": "no data", "metric": "purchases", "side": "above", "threshold": "1", "no_data_seconds": 0 });
    assert_eq!(node.ask(Method::POST, "/v1/alerts", &scene.acme.admin, Some(&alert)).await?.status, 201);
    until("this node waits for it", PATIENCE, async || {
        let (waiting,): (i64,) = sqlx::query_as(
            "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
        )
        .fetch_one(&pool)
        .await?;
        Ok(waiting > 0)
    })
    .await?;
    first.commit().await?;
    let seen = tokio::time::timeout(PATIENCE, ids(stream, 2)).await.context("the stream misses one")??;
    ensure!(seen[0] == ahead && seen[1] > ahead, "{seen:?}, the first one is {ahead}");
    Ok(())
}

/// As with thousands of them, each is looked at only every so often: that is no pause, or nothing would ever be told.
#[tokio::test]
async fn alerts_are_told_however_long_a_round_of_looks_takes() -> Result<()> {
    const ALERTS: usize = 30;
    let (scene, database) = (Scene::new()?, Database::postgres().await?);
    let (credentials, rest) = database.url.split_once('@').context("credentials")?;
    let (server, name) = rest.split_once('/').context("a database")?;
    let proxy = Proxy::open(server).await?;
    let slow = format!("{credentials}@{}/{name}", proxy.address());
    let tuning = Tuning { timeout: Duration::from_secs(15), ..quick() };
    let _node = scene.node(&slow, tuning, reckon_serving::Tuning::default()).await?;
    // A look is written down in three statements at the least, and two are under way at the same time.
    proxy.set(Direction::Answers, Way::Slow(Duration::from_millis(300)));
    let pool = database.pool().await?;
    let alert =
        json!({ "name": "no data", "metric": "purchases", "side": "above", "threshold": "1", "no_data_seconds": 4 });
    for number in 0..ALERTS {
        kept(&pool, &scene.acme.tenant, &format!("{number:02}"), &alert.to_string()).await?;
    }
    until("all of them", Duration::from_secs(240), async || {
        let (told,): (i64,) = sqlx::query_as("SELECT COUNT(DISTINCT alert) FROM alert_events").fetch_one(&pool).await?;
        Ok(usize::try_from(told)? == ALERTS)
    })
    .await
}
