//! A property-based client reads the OpenAPI document and asks everything that it describes, and what it forbids, as everybody
//! who can ask; every answer has to be one that the document has.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reckon_schemas::access::{NewKey, Scope};
use reckon_tests::lake::until_conserved;
use reckon_tests::{Stack, World, python, until};
use serde_json::{Value, json};

/// Nobody is refused for asking too often: that is not what is to be judged.
const TUNING: &str = "[archive]\ncommit_interval = \"500ms\"\n[serve]\nqueries_per_second_max = 100000\n";
/// Streams do not end, so a client that waits for their end cannot judge them.
const STREAMS: &str = "/live|/ws";
const SESSION: &str = "^/v1/session";
const OF_THE_COLLECTOR: [(&str, &str); 3] = [("-tag", "collect"), ("-tag", "segment"), ("-tag", "cloudevents")];
const PASSWORD: &str = "correct horse battery";

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_one_that_the_document_has() -> Result<()> {
    let mut world = World::with_tuning(&Stack::shared()?, TUNING)?;
    let admin = NewKey::from_random(rand::random(), vec![Scope::Read, Scope::Write, Scope::Finance, Scope::Admin]);
    world.change_catalog(|tenant| tenant.keys.push(admin.entry))?;
    let _collector = world.start_collector().await?;
    let _serving = world.start_serving().await?;
    // Questions that no rollup answers are asked, too: there has to be a lake.
    let _archiver = world.start("archive")?;
    let item = json!({ "event_id": "1", "name": "purchase", "occurred_at": jiff::Timestamp::now() });
    world.send(&[item]).await?;
    until_conserved(&world).await?;
    let bearer = |key: &str| vec![format!("Authorization: Bearer {key}")];
    let only = OF_THE_COLLECTOR.map(|(of, tag)| (format!("--include{of}"), tag)).to_vec();
    judge(&world, world.collect_port, &bearer(&world.write_key), &only, 0)?;

    let but = |more: &[&'static str]| {
        let collector = OF_THE_COLLECTOR.map(|(of, tag)| (format!("--exclude{of}"), tag)).to_vec();
        let more = more.iter().map(|path| ("--exclude-path-regex".to_owned(), *path));
        collector.into_iter().chain(more).collect::<Vec<_>>()
    };
    let port = world.serve_port;
    judge(&world, port, &bearer(&world.read_key), &but(&[STREAMS]), 5)?;
    judge(&world, port, &bearer(&admin.key), &but(&[STREAMS]), 5)?;
    // Somebody who is signed in; signing out is tried by somebody else, as nothing could be tried after it.
    let (person, other) = (sign_in(&world, "ada@example.com").await?, sign_in(&world, "bob@example.com").await?);
    judge(&world, port, &person, &but(&["/live|/ws|^/v1/session"]), 5)?;
    judge(&world, port, &other, &[("--include-path-regex".to_owned(), SESSION)], 1)
}

/// The headers of a session.
async fn sign_in(world: &World, email: &str) -> Result<Vec<String>> {
    let scopes = ["--scope", "read", "--scope", "finance", "--scope", "admin"];
    let add = [&["user", "add", "--tenant", &world.tenant, "--email", email][..], &scopes].concat();
    let made = world.run_with_input(&add, PASSWORD)?;
    ensure!(made.code == 0, "{}", made.log);
    let url = format!("http://127.0.0.1:{}/v1/session", world.serve_port);
    let credentials = json!({ "email": email, "password": PASSWORD });
    let sign_in = || async { anyhow::Ok(world.http.post(&url).json(&credentials).send().await?) };
    until("the configuration store", Duration::from_secs(30), || async { Ok(sign_in().await?.status() == 200) })
        .await?;
    let answer: reqwest::Response = sign_in().await?;
    let cookies = answer.headers().get_all("set-cookie").iter().filter_map(|cookie| cookie.to_str().ok());
    let pairs: Vec<String> = cookies.filter_map(|cookie| Some(cookie.split(';').next()?.to_owned())).collect();
    let answer: Value = answer.json().await?;
    let token = answer["csrf_token"].as_str().context("a token")?;
    Ok(vec![format!("Cookie: {}", pairs.join("; ")), format!("X-CSRF-Token: {token}")])
}

/// Runs the client against one listener; what it found is in the error. So many addresses have to be answered with what was
/// asked for, or it would have judged refusals only.
fn judge(world: &World, port: u16, headers: &[String], filters: &[(String, &str)], answered_min: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let client = python()?.with_file_name("schemathesis");
    let output = Command::new(client)
        .current_dir(folder.path())
        .arg("run")
        .arg(format!("http://127.0.0.1:{}/openapi.json", world.serve_port))
        .args(["--url", &format!("http://127.0.0.1:{port}")])
        .args(headers.iter().flat_map(|header| ["--header", header]))
        .args([
            "--checks",
            "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        ])
        .args(["--phases", "examples,fuzzing", "--max-examples", "10", "--seed", "20260307"])
        // Who asks is known: a made-up key beside it would be refused.
        .args(["--generation-with-security-parameters", "false"])
        .args(["--report", "har", "--report-har-path", "asked.har"])
        .args(["--workers", "2", "--continue-on-failure", "--no-color"])
        .args(filters.iter().flat_map(|(option, value)| [option.as_str(), value]))
        .output()
        .context("schemathesis: run deploy/local/install --with-tests")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}\n{said}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    ensure!(!said.contains("Empty test suite") && said.contains("passed"), "nothing was asked:\n{said}");
    let asked: Value = serde_json::from_str(&std::fs::read_to_string(folder.path().join("asked.har"))?)?;
    let entries = asked["log"]["entries"].as_array().context("entries")?;
    let answered = entries.iter().filter(|entry| entry["response"]["status"].as_u64().is_some_and(|it| it < 300));
    let urls = answered.filter_map(|entry| entry["request"]["url"].as_str()?.split('?').next());
    let urls: BTreeSet<&str> = urls.collect();
    ensure!(urls.len() >= answered_min, "only these were answered: {urls:?}");
    Ok(())
}
