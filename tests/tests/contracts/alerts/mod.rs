//! Numbers that are watched for people: told once, live and by webhook, also across a restart.

mod leader;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Redirect;
use axum::routing::{any, post};
use futures::StreamExt;
use reckon_schemas::access::{NewKey, Scope};
use reckon_tests::books::{Books, TUNING, purchases};
use reckon_tests::counted::produce;
use reckon_tests::postgres::Postgres;
use reckon_tests::purchases::{Purchase, generate};
use reckon_tests::{Process, Stack, World, until};
use serde_json::{Value, json};
use standardwebhooks::Webhook;

const PATIENCE: Duration = Duration::from_secs(90);
const MINUTE_US: i64 = 60_000_000;

/// What a receiver got.
#[derive(Clone, Debug)]
struct Received {
    headers: HeaderMap,
    body: Bytes,
}

#[derive(Clone, Default)]
struct Inbox(Arc<Mutex<Vec<Received>>>);

impl Inbox {
    fn all(&self) -> Vec<Received> {
        self.0.lock().expect("not poisoned").clone()
    }
}

/// A receiver that refuses so many messages at first, and sends whoever asks at `/moved` on to itself.
async fn receiver(refusals: usize) -> Result<(String, Inbox)> {
    let hook = async move |State(inbox): State<Inbox>, headers: HeaderMap, body: Bytes| {
        let mut all = inbox.0.lock().expect("not poisoned");
        all.push(Received { headers, body });
        if all.len() <= refusals { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::NO_CONTENT }
    };
    let inbox = Inbox::default();
    let router = Router::new()
        .route("/hook", post(hook))
        .route("/moved", any(async || Redirect::temporary("/hook")))
        .with_state(inbox.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok((url, inbox))
}

struct Scene {
    world: World,
    admin_key: String,
}

impl Scene {
    fn new() -> Result<Self> {
        Self::on("")
    }

    /// With this configuration store.
    fn on(accounts: &str) -> Result<Self> {
        let tuning = format!("{TUNING}\n[serve]\nwebhook_networks = [\"127.0.0.1/32\"]\n{accounts}");
        let mut world = World::with_tuning(&Stack::shared()?, &tuning)?;
        let admin = NewKey::from_random(rand::random(), vec![Scope::Admin, Scope::Read]);
        world.change_catalog(|tenant| tenant.keys.push(admin.entry))?;
        Ok(Self { world, admin_key: admin.key })
    }

    /// A node whose store of alerts is there.
    async fn serve(&self) -> Result<Process> {
        let process = self.world.start_serving().await?;
        until("the configuration store", PATIENCE, || async { Ok(self.world.query("/v1/alerts").await.is_ok()) })
            .await?;
        Ok(process)
    }

    async fn post(&self, key: &str, body: &Value) -> Result<(u16, Value)> {
        let url = format!("http://127.0.0.1:{}/v1/alerts", self.world.serve_port);
        let answer = self.world.http.post(url).bearer_auth(key).json(body).send().await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    }

    async fn phase(&self, id: &str) -> Result<String> {
        let alert = self.world.query(&format!("/v1/alerts/{id}")).await?;
        Ok(alert["phase"].as_str().context("a phase")?.to_owned())
    }

    async fn until_phase(&self, id: &str, phase: &str) -> Result<()> {
        until(phase, PATIENCE, || async { Ok(self.phase(id).await? == phase) }).await
    }

    /// The kinds of what was told about an alert, the oldest first.
    async fn told(&self, id: &str) -> Result<Vec<String>> {
        let events = self.world.query("/v1/alert-events?limit=500").await?;
        let events = events["events"].as_array().context("events")?.clone();
        let of_alert = events.iter().rev().filter(|event| event["alert"] == id);
        Ok(of_alert.map(|event| event["body"]["type"].as_str().unwrap_or_default().to_owned()).collect())
    }

    /// Purchases of minutes that are over, and one of now so that the watermark goes on.
    async fn buy(&self, seed: u64, count: usize) -> Result<()> {
        let now_us = jiff::Timestamp::now().as_microsecond();
        let mut bought = generate(seed, count, now_us - 2 * MINUTE_US, 1_000);
        bought.extend(generate(seed + 1, 3, now_us, 0));
        produce(&self.world, &bought).await
    }
}

fn few_purchases(webhook: Option<&str>) -> Value {
    json!({
        "name": "few purchases", "metric": "purchases", "over_minutes": 10, "side": "below", "threshold": "5",
        "for_seconds": 3, "no_data_seconds": 4, "webhook": webhook,
    })
}

/// The section of the configuration that names a database.
fn accounts_at(url: &str) -> String {
    format!("\n[accounts]\nurl = \"{url}\"\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_is_told_once_live_and_by_webhook_also_across_a_restart() -> Result<()> {
    is_told_once(Scene::new()?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_is_told_once_on_postgresql_too() -> Result<()> {
    let server = Postgres::shared().await?;
    is_told_once(Scene::on(&accounts_at(&server.database().await?))?).await
}

async fn is_told_once(scene: Scene) -> Result<()> {
    let mut serving = scene.serve().await?;
    let (receiver, inbox) = receiver(1).await?;
    let (status, alert) = scene.post(&scene.admin_key, &few_purchases(Some(&format!("{receiver}/hook")))).await?;
    ensure!(status == 201, "{status} {alert:#}");
    let id = alert["id"].as_str().context("an id")?.to_owned();
    let secret = alert["secret"].as_str().context("a secret")?.to_owned();
    let (status, moved) = scene.post(&scene.admin_key, &few_purchases(Some(&format!("{receiver}/moved")))).await?;
    ensure!(status == 201, "{status} {moved:#}");

    // Nobody counts.
    scene.until_phase(&id, "no_data").await?;
    let url = format!("http://127.0.0.1:{}/v1/alert-events/live", scene.world.serve_port);
    let live = scene.world.http.get(&url).bearer_auth(&scene.world.read_key).send().await?.error_for_status()?;
    let live = tokio::spawn(first_of(live, id.clone()));
    // Somebody counts, and it is too few.
    let _speed = scene.world.start("speed")?;
    scene.buy(0x5eed_5101, 1).await?;
    scene.until_phase(&id, "firing").await?;
    let event = tokio::time::timeout(PATIENCE, live).await???;
    ensure!(event["body"]["type"] == "alert.firing" && event["body"]["data"]["number"] == "1", "{event:#}");

    // It goes on firing, and nobody is told again.
    serving.kill()?;
    serving = scene.serve().await?;
    ensure!(scene.phase(&id).await? == "firing", "kept");
    tokio::time::sleep(Duration::from_secs(8)).await;
    ensure!(scene.told(&id).await? == ["alert.no_data", "alert.firing"], "{:?}", scene.told(&id).await?);
    // Who comes back with the last event that was seen has what was told since, on the new node too.
    scene.buy(0x5eed_5103, 30).await?;
    scene.until_phase(&id, "ok").await?;
    let seen = event["id"].as_str().context("an id")?;
    let back = scene.world.http.get(&url).bearer_auth(&scene.world.read_key).header("Last-Event-ID", seen);
    let resolved = tokio::time::timeout(PATIENCE, first_of(back.send().await?, id.clone())).await??;
    ensure!(resolved["body"]["type"] == "alert.resolved", "{resolved:#}");
    ensure!(scene.told(&id).await? == ["alert.no_data", "alert.firing", "alert.resolved"]);

    // The webhook has each of them; the one that was refused came again under the same id, signed.
    until("the messages", PATIENCE, || async { Ok(inbox.all().len() >= 4) }).await?;
    let webhook = Webhook::new(&secret)?;
    let mut kinds = Vec::new();
    for received in inbox.all() {
        webhook.verify(&received.body, &received.headers).context("the signature")?;
        let body: Value = serde_json::from_slice(&received.body)?;
        ensure!(body["data"]["alert"] == *id, "a redirect was followed: {body:#}");
        kinds.push((received.headers["webhook-id"].clone(), body["type"].as_str().context("a type")?.to_owned()));
    }
    kinds.sort_by_key(|(id, _)| id.as_bytes().to_vec());
    ensure!(kinds[0] == kinds[1], "sent again: {kinds:?}");
    let kinds: Vec<&str> = kinds[1..].iter().map(|(_, kind)| kind.as_str()).collect();
    ensure!(kinds == ["alert.no_data", "alert.firing", "alert.resolved"], "{kinds:?}");
    let stranger = Webhook::new("whsec_c29tZWJvZHkgZWxzZSdzIHNlY3JldA==")?;
    ensure!(stranger.verify(&inbox.all()[0].body, &inbox.all()[0].headers).is_err(), "not a signature");
    serving.stop()?;
    Ok(())
}

/// The first event about an alert that a stream brings.
async fn first_of(stream: reqwest::Response, id: String) -> Result<Value> {
    let (mut text, mut chunks) = (String::new(), stream.bytes_stream());
    while let Some(chunk) = chunks.next().await {
        text.push_str(std::str::from_utf8(&chunk?)?);
        let whole = text.rfind("\n\n").map_or(0, |end| end + 2);
        for line in text[..whole].lines().filter_map(|line| line.strip_prefix("data: ")) {
            let event: Value = serde_json::from_str(line)?;
            if event["alert"] == *id {
                return Ok(event);
            }
        }
    }
    anyhow::bail!("the stream ended: {text}")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_watched_is_refused_with_a_reason() -> Result<()> {
    let scene = Scene::new()?;
    let _serving = scene.serve().await?;
    let with = |field: &str, value: Value| {
        let mut body = few_purchases(None);
        body[field] = value;
        body
    };
    for (field, value, said) in [
        ("metric", json!("nothing"), "catalog"),
        ("metric", json!("stores"), "list"),
        ("threshold", json!("many"), "decimal"),
        ("clear", json!("4"), "wrong side"),
        ("over_minutes", json!(0), "1440"),
        ("for_seconds", json!(86_401), "86400"),
        ("name", json!(""), "100 characters"),
        ("webhook", json!("https://10.0.0.1/hook"), "inside"),
        ("webhook", json!("https://[::ffff:169.254.169.254]/"), "inside"),
        ("webhook", json!("http://example.com/hook"), "https"),
        ("filter", json!(["nothing:x"]), "rollup"),
    ] {
        let (status, problem) = scene.post(&scene.admin_key, &with(field, value.clone())).await?;
        let told = problem.to_string();
        ensure!((400..=422).contains(&status) && told.contains(said), "{field} {value}: {status} {problem:#}");
    }
    // A key that only reads changes nothing, and a name that leads inside is found when it is looked up.
    let (status, _) = scene.post(&scene.world.read_key, &few_purchases(None)).await?;
    ensure!(status == 403, "{status}");
    let alerts = scene.world.query("/v1/alerts").await?;
    ensure!(alerts["alerts"] == json!([]), "{alerts:#}");
    Ok(())
}

/// Its question could be answered from single events, and is not, again and again.
#[tokio::test(flavor = "multi_thread")]
async fn an_alert_whose_rollup_is_gone_knows_nothing() -> Result<()> {
    let mut scene = Scene::new()?;
    let _serving = scene.serve().await?;
    let (_speed, _raw) = (scene.world.start("speed")?, scene.world.start("raw")?);
    scene.buy(0x5eed_5105, 30).await?;
    let mut nobody = few_purchases(None);
    nobody["filter"] = json!(["department:nobody buys there"]);
    let (status, alert) = scene.post(&scene.admin_key, &nobody).await?;
    ensure!(status == 201, "{status} {alert:#}");
    let id = alert["id"].as_str().context("an id")?.to_owned();
    scene.until_phase(&id, "firing").await?;
    let path = "/v1/query?metric=purchases&by=user_id";
    until("single events", PATIENCE, || async { Ok(scene.world.query(path).await?["gaps"] == json!([])) }).await?;
    scene.world.change_catalog(|tenant| tenant.rollups.clear())?;
    scene.until_phase(&id, "no_data").await?;
    // It stays so, and the next one is not even taken.
    tokio::time::sleep(Duration::from_secs(5)).await;
    ensure!(scene.phase(&id).await? == "no_data");
    let (status, problem) = scene.post(&scene.admin_key, &nobody).await?;
    ensure!(status == 422, "{status} {problem:#}");
    Ok(())
}

/// One purchase an hour for five weeks that are over, some minutes apart; thirty in one hour of the last one, none in
/// another.
fn weeks() -> (Vec<Purchase>, jiff::Timestamp, [i64; 2]) {
    const HOURS: i64 = 5 * 7 * 24;
    let start_s = (jiff::Timestamp::now().as_second() / 86_400 - 40) * 86_400;
    let start = jiff::Timestamp::from_second(start_s).expect("in range");
    let mut all = purchases(0x5eed_5201, usize::try_from(HOURS).expect("small"), &start.to_string(), 60);
    let (many, none) = (HOURS - 100, HOURS - 50);
    let at = all[usize::try_from(many).expect("small")].clone();
    all.remove(usize::try_from(none).expect("small"));
    all.extend((0..29).map(|number| Purchase { id: format!("many-{number}"), at_us: at.at_us + number, ..at.clone() }));
    (all, start, [many, none])
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_that_is_unusual_for_its_hour_of_the_week_is_found_with_its_band() -> Result<()> {
    let mut books = Books::open(World::with_tuning(&Stack::shared()?, TUNING)?)?;
    let (weeks, start, unusual) = weeks();
    books.send(&weeks).await?;
    books.nightly()?;
    let _serving = books.world.start_serving().await?;
    let hour = |hour: i64| start.checked_add(jiff::SignedDuration::from_hours(hour)).map(|at| at.to_string());
    let range = format!("from={}&to={}", hour(4 * 7 * 24)?, hour(5 * 7 * 24)?);
    let judged = books.world.query(&format!("/v1/anomalies?metric=purchases&{range}")).await?;
    let hours = judged["groups"][0]["hours"].as_array().context("hours")?;
    ensure!(hours.len() == 7 * 24, "{} hours", hours.len());
    let found: Vec<&Value> = hours.iter().filter(|hour| hour["unusual"] == true).collect();
    let starts: Vec<&str> = found.iter().filter_map(|hour| hour["start"].as_str()).collect();
    ensure!(starts == [hour(unusual[0])?, hour(unusual[1])?], "{judged:#}");
    ensure!(found[0]["number"]["value"] == 30 && found[0]["number"]["state"] == "settled", "{:#}", found[0]);
    ensure!(found[0]["usual"]["mean"] == 1.0 && found[0]["usual"]["weeks"] == 4, "{:#}", found[0]);
    // The band is what was asked for: with one that is wide enough nothing is unusual, and too few weeks say nothing.
    let wide = books.world.query(&format!("/v1/anomalies?metric=revenue&{range}&deviations=100")).await?;
    ensure!(!wide.to_string().contains("\"unusual\":true") && wide["unit"] == "USD", "{wide:#}");
    let early = format!("from={}&to={}", hour(7 * 24)?, hour(2 * 7 * 24)?);
    let early = books.world.query(&format!("/v1/anomalies?metric=purchases&{early}")).await?;
    ensure!(early["groups"][0]["hours"].as_array().context("hours")?.iter().all(|hour| hour["usual"].is_null()));
    Ok(())
}
