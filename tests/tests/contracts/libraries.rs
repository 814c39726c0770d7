//! Other people's own client libraries, and the one for browsers, send events that arrive once and settle.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reckon_schemas::event::Event;
use reckon_tests::lake::until_conserved;
use reckon_tests::log::read_topic;
use reckon_tests::stack::repository;
use reckon_tests::{Stack, World, python, until};

const TUNING: &str = "[collect]\ncors_origins = [\"*\"]\n[archive]\ncommit_interval = \"500ms\"\n";

/// Each sends the purchases 1, 2 and 3, of $10.01, $0.02 and $5.00, by two users.
const DEPARTMENTS: [&str; 5] = ["browser", "cloudevents-node", "cloudevents-python", "segment-node", "segment-python"];

#[tokio::test(flavor = "multi_thread")]
async fn what_client_libraries_send_arrives_once_and_settles() -> Result<()> {
    let world = World::with_tuning(&Stack::shared()?, TUNING)?;
    let (mut collector, mut archiver) = (world.start_collector().await?, world.start("archive")?);
    let _serving = world.start_serving().await?;
    let javascript = |file: &str| repository().join("tests/javascript").join(file);
    let python_script = |file: &str| repository().join("tests/python").join(file);
    send(&world, "node".into(), javascript("segment.mjs"), "segment-node")?;
    send(&world, "node".into(), javascript("cloud_events.mjs"), "cloudevents-node")?;
    send(&world, python()?, python_script("segment_library.py"), "segment-python")?;
    send(&world, python()?, python_script("cloud_events.py"), "cloudevents-python")?;
    let browser = Browser::open(&world, "browser")?;
    let ids = ["browser-1", "browser-2", "browser-3"];
    until("the browser's events", Duration::from_secs(60), || async { has_all(&world, &ids).await }).await?;
    drop(browser);
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

async fn has_all(world: &World, ids: &[&str]) -> Result<bool> {
    let logged = read_topic(&world.kafka.brokers, &world.kafka.topics.events).await?;
    let known = logged.iter().map(|logged| Ok(Event::decode(&logged.payload)?.id.into_owned()));
    let known = known.collect::<Result<Vec<String>>>()?;
    Ok(ids.iter().all(|id| known.iter().any(|known| known == id)))
}

/// A real one, without a window. Gone when dropped.
struct Browser {
    child: Child,
    _profile: tempfile::TempDir,
}

impl Browser {
    fn open(world: &World, department: &str) -> Result<Self> {
        let profile = tempfile::tempdir()?;
        let page = repository().join("tests/fixtures/sdk.html");
        let mut url = reqwest::Url::from_file_path(&page).ok().context("the page's address")?;
        url.query_pairs_mut()
            .append_pair("serving", &format!("http://127.0.0.1:{}", world.serve_port))
            .append_pair("collector", &format!("http://127.0.0.1:{}", world.collect_port))
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
