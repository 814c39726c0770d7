//! A property-based client reads the OpenAPI document and asks everything that it describes, and what it forbids.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use reckon_tests::lake::until_conserved;
use reckon_tests::{Stack, World, python};

/// Streams do not end, so a client that waits for their end cannot judge them.
const STREAMS: &str = "/live|/ws";

#[tokio::test(flavor = "multi_thread")]
async fn no_request_that_the_document_allows_breaks_a_server() -> Result<()> {
    let world = World::new(&Stack::shared()?)?;
    let _collector = world.start_collector().await?;
    let _serving = world.start_serving().await?;
    // Questions that no rollup answers are asked, too: there has to be a lake.
    let _archiver = world.start("archive")?;
    let item = serde_json::json!({ "event_id": "1", "name": "purchase", "occurred_at": jiff::Timestamp::now() });
    world.send(&[item]).await?;
    until_conserved(&world).await?;
    let sent = [("--include-tag", "collect"), ("--include-tag", "segment"), ("--include-tag", "cloudevents")];
    let all = "not_a_server_error,content_type_conformance,response_schema_conformance";
    judge(&world, world.collect_port, &world.write_key, all, &sent)?;
    let asked = [
        ("--exclude-tag", "collect"),
        ("--exclude-tag", "segment"),
        ("--exclude-tag", "cloudevents"),
        ("--exclude-path-regex", STREAMS),
    ];
    judge(&world, world.serve_port, &world.read_key, "not_a_server_error", &asked)
}

/// Runs the client against one listener; what it found is in the error.
fn judge(world: &World, port: u16, key: &str, checks: &str, filters: &[(&str, &str)]) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let client = python()?.with_file_name("schemathesis");
    let output = Command::new(client)
        .current_dir(folder.path())
        .arg("run")
        .arg(format!("http://127.0.0.1:{}/openapi.json", world.serve_port))
        .args(["--url", &format!("http://127.0.0.1:{port}")])
        .args(["--header", &format!("Authorization: Bearer {key}")])
        .args(["--checks", checks])
        // What comes over the quota is answered 429, which is an answer, too; but it is not what is to be judged.
        .args(["--phases", "examples,fuzzing", "--max-examples", "10", "--seed", "20260307"])
        .args(["--workers", "2", "--rate-limit", "45/s", "--continue-on-failure", "--no-color"])
        .args(filters.iter().flat_map(|(option, value)| [option, value]))
        .output()
        .context("schemathesis: run deploy/local/install --with-tests")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}\n{said}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    ensure!(!said.contains("Empty test suite") && said.contains("passed"), "nothing was asked:\n{said}");
    Ok(())
}
