//! What a nightly tells of itself: OpenLineage run events of version 2-0-2, to a file and to a server.

use anyhow::{Context, Result, ensure};
use reckon_tests::books::{Books, TUNING, purchases};
use reckon_tests::{Stack, World};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// What the specification asks of a run event: RunEvent and BaseEvent of OpenLineage 2-0-2, in this test's own words.
fn schema() -> Value {
    let facets = json!({
        "type": "object",
        "additionalProperties": {
            "type": "object", "required": ["_producer", "_schemaURL"],
            "properties": { "_producer": { "format": "uri" }, "_schemaURL": { "format": "uri" } },
        },
    });
    let datasets = json!({
        "type": "array",
        "items": {
            "type": "object", "required": ["namespace", "name"],
            "properties": { "namespace": { "type": "string" }, "name": { "type": "string" }, "facets": facets },
        },
    });
    json!({
        "type": "object",
        "required": ["eventTime", "producer", "schemaURL", "run", "job"],
        "properties": {
            "eventType": { "enum": ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"] },
            "eventTime": { "type": "string", "format": "date-time" },
            "producer": { "type": "string", "format": "uri" },
            "schemaURL": { "type": "string", "format": "uri" },
            "run": {
                "type": "object", "required": ["runId"],
                "properties": { "runId": { "type": "string", "format": "uuid" }, "facets": facets },
            },
            "job": {
                "type": "object", "required": ["namespace", "name"],
                "properties": { "namespace": { "type": "string" }, "name": { "type": "string" }, "facets": facets },
            },
            "inputs": datasets,
            "outputs": datasets,
        },
    })
}

fn check(event: &Value) -> Result<()> {
    let validator = jsonschema::options().should_validate_formats(true).build(&schema())?;
    let problems: Vec<String> = validator.iter_errors(event).map(|error| error.to_string()).collect();
    ensure!(problems.is_empty(), "{problems:?} in {event}");
    ensure!(event["schemaURL"] == "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nightly_tells_how_it_began_and_ended() -> Result<()> {
    let stack = Stack::shared()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("lineage.ndjson");
    let tuning = format!("{TUNING}\n[lineage]\nurl = \"file://{}\"\nnamespace = \"books\"\n", file.display());
    let mut books = Books::open(World::with_tuning(&stack, &tuning)?)?;
    books.send(&purchases(0x5eed_4201, 50, "2026-03-02T15:00:00Z", 60)).await?;
    let report = books.nightly()?;
    let events = || -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(&file)?;
        text.lines().map(|line| serde_json::from_str(line).context(line.to_owned())).collect()
    };
    let told = events()?;
    told.iter().try_for_each(check)?;
    let types: Vec<_> = told.iter().map(|event| event["eventType"].as_str().unwrap_or_default()).collect();
    ensure!(types == ["START", "COMPLETE"], "{types:?}");
    ensure!(told[0]["run"]["runId"] == told[1]["run"]["runId"] && told[1]["job"]["namespace"] == "books");
    let settled = &told[1]["run"]["facets"]["reckon_settlement"]["settlements"][0];
    let reported = &report["reports"][0];
    ensure!(settled["runId"] == reported["run_id"] && settled["events"] == 50, "{settled}");
    let version = &told[1]["inputs"][0]["facets"]["version"]["datasetVersion"];
    ensure!(version.as_str() == Some(&reported["lake_version"].to_string()), "{version}");

    // A day that is not over: the job fails, and says so.
    let tomorrow = jiff::Zoned::now().date().tomorrow()?.to_string();
    ensure!(books.world.run(&["nightly", "--date", &tomorrow])?.code == 11);
    let told = events()?;
    told.iter().try_for_each(check)?;
    let last = told.last().context("events")?;
    let message = last["run"]["facets"]["errorMessage"]["message"].as_str().unwrap_or_default();
    ensure!(last["eventType"] == "FAIL" && message.contains("can be settled from"), "{last}");
    Ok(())
}

/// Every job that ends, in an order in which each has something to do; with its exit code.
const JOBS: [(&str, &[&str], i32); 14] = [
    ("reconcile", &[], 0),
    ("changes", &[], 0),
    ("adjustments", &[], 0),
    ("final", &["--date", "2026-03-02"], 0),
    ("forecast", &["--date", "2026-03-03"], 0),
    ("explain", &["--date", "2026-03-02"], 0),
    ("conservation", &[], 0),
    ("verify", &["--chain"], 0),
    ("close", &["--period", "2026-03", "--sign-off", "Ada Lovelace"], 0),
    ("reopen", &["--period", "2026-03", "--sign-off", "Ada Lovelace", "--reason", "a test"], 0),
    ("tie-out", &["--ledger", "/nowhere", "--mapping", "/nowhere"], 78),
    ("compact", &[], 0),
    ("vacuum", &[], 99),
    ("expire", &["--dry-run"], 0),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_job_tells_how_it_began_and_ended() -> Result<()> {
    let stack = Stack::shared()?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("lineage.ndjson");
    let tuning = format!("{TUNING}\n[lineage]\nurl = \"file://{}\"\n", file.display());
    let mut books = Books::open(World::with_tuning(&stack, &tuning)?)?;
    books.send(&purchases(0x5eed_4202, 25, "2026-03-02T15:00:00Z", 60)).await?;
    books.nightly()?;
    books.send(&purchases(0x5eed_4203, 25, "2026-03-02T15:30:00Z", 60)).await?;
    books.nightly()?;
    for (job, arguments, code) in JOBS {
        std::fs::write(&file, "")?;
        let for_all = ["conservation", "compact", "vacuum", "expire"].contains(&job);
        let tenant = if for_all { Vec::new() } else { vec!["--tenant", books.world.tenant.as_str()] };
        let finished = books.world.run(&[&[job], arguments, tenant.as_slice()].concat())?;
        ensure!(finished.code == code, "{job}: exit {}\n{}\n{}", finished.code, finished.stdout, finished.log);
        let told: Vec<Value> =
            std::fs::read_to_string(&file)?.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        told.iter().try_for_each(check)?;
        let ended = if matches!(code, 0 | 99) { "COMPLETE" } else { "FAIL" };
        let types: Vec<_> = told.iter().map(|event| event["eventType"].as_str().unwrap_or_default()).collect();
        ensure!(types == ["START", ended], "{job}: {types:?}");
        ensure!(told.iter().all(|event| event["job"]["name"] == job), "{told:?}");
        ensure!(told[0]["run"]["runId"] == told[1]["run"]["runId"]);
        ensure!(told[1]["inputs"].as_array().is_some_and(|inputs| !inputs.is_empty()), "{told:?}");
    }
    // What is no job tells nothing.
    std::fs::write(&file, "")?;
    ensure!(books.world.run(&["prepare"])?.code == 0 && std::fs::read_to_string(&file)?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_gets_a_post_with_each_event() -> Result<()> {
    let stack = Stack::shared()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/api/v1/lineage", listener.local_addr()?);
    let received = tokio::spawn(receive(listener, 2));
    let world = World::with_tuning(&stack, &format!("{TUNING}\n[lineage]\nurl = \"{url}\"\n"))?;
    // Nothing was ever sent: there is nothing to do, which is no failure.
    let ended = tokio::task::spawn_blocking(move || world.run(&["nightly"])).await??;
    ensure!(ended.code == 99, "{}", ended.log);
    let events = received.await??;
    events.iter().try_for_each(check)?;
    ensure!(events[0]["eventType"] == "START" && events[1]["eventType"] == "COMPLETE", "{events:?}");
    Ok(())
}

/// The smallest server that takes a few requests with a body of JSON, one on each connection.
async fn receive(listener: TcpListener, requests: usize) -> Result<Vec<Value>> {
    let mut events = Vec::new();
    while events.len() < requests {
        let (mut stream, _) = listener.accept().await?;
        let (mut text, mut buffer) = (String::new(), [0; 4096]);
        let body = loop {
            let read = stream.read(&mut buffer).await?;
            ensure!(read > 0, "the request ended early: {text}");
            text.push_str(std::str::from_utf8(&buffer[..read])?);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let head = head.to_ascii_lowercase();
            ensure!(
                head.starts_with("post /api/v1/lineage ") && head.contains("content-type: application/json"),
                "{head}"
            );
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).context("a length")?;
            if body.len() >= length.parse()? {
                break serde_json::from_str(body)?;
            }
        };
        events.push(body);
        stream.write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await?;
    }
    Ok(events)
}
