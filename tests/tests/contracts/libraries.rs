//! Other people's own client libraries, and the one for browsers, send events that arrive once and settle.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use reckon_schemas::event::Event;
use reckon_tests::lake::until_conserved;
use reckon_tests::log::read_topic;
use reckon_tests::stack::repository;
use reckon_tests::{Stack, World, python, until};
use serde_json::Value;

const TUNING: &str = "[collect]\ncors_origins = [\"*\"]\n[archive]\ncommit_interval = \"500ms\"\n";

/// What a page loads, as it is sent.
const SDK_BYTES_MAX: usize = 5_000;

/// Each sends three purchases, of $10.01, $0.02 and $5.00, by two users.
const DEPARTMENTS: [&str; 5] = ["browser", "cloudevents-node", "cloudevents-python", "segment-node", "segment-python"];

#[tokio::test(flavor = "multi_thread")]
async fn what_client_libraries_send_arrives_once_and_settles() -> Result<()> {
    let world = World::with_tuning(&Stack::shared()?, TUNING)?;
    let (mut collector, mut archiver) = (world.start_collector().await?, world.start("archive")?);
    let _serving = world.start_serving().await?;
    the_one_for_browsers_is_small(&world).await?;
    let javascript = |file: &str| repository().join("tests/javascript").join(file);
    let python_script = |file: &str| repository().join("tests/python").join(file);
    send(&world, "node".into(), javascript("segment.mjs"), "segment-node")?;
    send(&world, "node".into(), javascript("cloud_events.mjs"), "cloudevents-node")?;
    send(&world, python()?, python_script("segment_library.py"), "segment-python")?;
    send(&world, python()?, python_script("cloud_events.py"), "cloudevents-python")?;
    let forgetful = Forgetful::before(&world).await?;
    let browser = Browser::open(&world, &forgetful.url, "browser")?;
    let has_all = || async { Ok(ids_of(&world, "browser").await?.len() == 3) };
    until("the browser's events", Duration::from_secs(60), has_all).await?;
    drop(browser);
    forgetful.was_sent_the_same_again()?;
    ensure!(read_topic(&world.kafka.brokers, &world.kafka.topics.rejected).await?.is_empty());
    until_conserved(&world).await?;
    ensure!(collector.stop()?.success() && archiver.stop()?.success());

    let nightly = world.run(&["nightly"])?;
    // No speed layer runs here, so all of it is new to the comparison, and explained.
    ensure!(nightly.code == 0, "exit {}: {}\n{}", nightly.code, nightly.stdout, nightly.log);
    for department in DEPARTMENTS {
        let of = |metric: &str| {
            format!("/v1/query?metric={metric}&from=2026-03-07&to=2026-03-08&grain=1d&filter=department:{department}")
        };
        let revenue = world.query(&of("revenue")).await?;
        ensure!(revenue["total"]["value"] == "15.03" && revenue["total"]["state"] == "settled", "{revenue}");
        ensure!(world.query(&of("purchases")).await?["total"]["value"] == 3, "{department}");
        ensure!(world.query(&of("households")).await?["total"]["value"] == 2, "{department}");
    }
    Ok(())
}

fn send(world: &World, interpreter: PathBuf, script: PathBuf, department: &str) -> Result<()> {
    let collector = format!("http://127.0.0.1:{}", world.collect_port);
    let output = Command::new(&interpreter).arg(&script).args([&collector, &world.write_key, department]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}\n{said}", script.display(), output.status);
    Ok(())
}

/// The ids of what the log has of a department.
async fn ids_of(world: &World, department: &str) -> Result<BTreeSet<String>> {
    let logged = read_topic(&world.kafka.brokers, &world.kafka.topics.events).await?;
    let mut ids = BTreeSet::new();
    for record in &logged {
        let event = Event::decode(&record.payload)?;
        if event.properties.get("department") == Some(department) {
            ids.insert(event.id.into_owned());
        }
    }
    Ok(ids)
}

async fn the_one_for_browsers_is_small(world: &World) -> Result<()> {
    let url = format!("http://127.0.0.1:{}/sdk/reckon.js", world.serve_port);
    let text = world.http.get(&url).send().await?.error_for_status()?.text().await?;
    ensure!(text.contains("sendBeacon"), "{text}");
    let packed = world.http.get(&url).header(header::ACCEPT_ENCODING, "gzip").send().await?;
    ensure!(packed.headers().get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip"));
    let bytes = packed.bytes().await?.len();
    ensure!((200..SDK_BYTES_MAX).contains(&bytes), "{bytes} bytes");
    Ok(())
}

/// In front of the collector: what is sent through it arrives, but the first answer about events is lost on the way back.
#[derive(Clone)]
struct Forgetful {
    url: String,
    collector: String,
    http: reqwest::Client,
    sent: Arc<Mutex<Vec<Bytes>>>,
}

impl Forgetful {
    async fn before(world: &World) -> Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let forgetful = Self {
            url: format!("http://{}", listener.local_addr()?),
            collector: format!("http://127.0.0.1:{}", world.collect_port),
            http: world.http.clone(),
            sent: Arc::default(),
        };
        let router = Router::new().fallback(Self::pass).with_state(forgetful.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(forgetful)
    }

    async fn pass(State(forgetful): State<Self>, request: Request) -> Response {
        forgetful.forward(request).await.unwrap_or_else(|_| StatusCode::BAD_GATEWAY.into_response())
    }

    async fn forward(&self, request: Request) -> Result<Response> {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await?;
        let mut headers = parts.headers;
        headers.remove(header::HOST);
        let sent = self.http.request(parts.method.clone(), format!("{}{}", self.collector, parts.uri));
        let answer = sent.headers(headers).body(body.clone()).send().await?;
        let (mut status, mut headers) = (answer.status(), answer.headers().clone());
        let mut text = answer.bytes().await?;
        if parts.method == Method::POST {
            let mut sent = self.sent.lock().expect("not poisoned");
            sent.push(body);
            if sent.len() == 1 {
                ensure!(status == StatusCode::ACCEPTED, "{status}");
                (status, text) = (StatusCode::BAD_GATEWAY, Bytes::new());
            }
        }
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::TRANSFER_ENCODING);
        Ok((status, headers, text).into_response())
    }

    /// The collector had taken the events, and the browser could not know: it sent them once more, under the ids that they had.
    fn was_sent_the_same_again(&self) -> Result<()> {
        let sent = self.sent.lock().expect("not poisoned");
        let ids = |body: &Bytes| -> Result<Vec<String>> {
            let events: Vec<Value> = serde_json::from_slice(body)?;
            events.iter().map(|event| Ok(event["event_id"].as_str().context("an id")?.to_owned())).collect()
        };
        let (first, second) = (ids(sent.first().context("nothing")?)?, ids(sent.get(1).context("nothing again")?)?);
        ensure!(!first.is_empty() && second.starts_with(&first), "{first:?}, then {second:?}");
        Ok(())
    }
}

/// A real one, without a window. Gone when dropped.
struct Browser {
    child: Child,
    _profile: tempfile::TempDir,
}

impl Browser {
    fn open(world: &World, collector: &str, department: &str) -> Result<Self> {
        let profile = tempfile::tempdir()?;
        let page = repository().join("tests/fixtures/sdk.html");
        let mut url = reqwest::Url::from_file_path(&page).ok().context("the page's address")?;
        url.query_pairs_mut()
            .append_pair("serving", &format!("http://127.0.0.1:{}", world.serve_port))
            .append_pair("collector", collector)
            .append_pair("key", &world.write_key)
            .append_pair("department", department);
        let child = Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            // Keeps it open after the page is loaded.
            .arg("--remote-debugging-port=0")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg(url.as_str())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("chromium: run deploy/local/install --with-tests")?;
        Ok(Self { child, _profile: profile })
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its own children end with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
