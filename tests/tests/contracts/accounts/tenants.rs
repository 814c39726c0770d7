//! An organisation that is added while everything runs, and what becomes of one that is taken away.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reckon_tests::process::Finished;
use reckon_tests::{Process, Stack, World, until};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::AnyPool;

use super::on_both_stores;
use super::scene::Database;

on_both_stores!(a_tenant_is_added_while_everything_runs);

const EMAIL: &str = "ada@example.com";
const PASSWORD: &str = "correct horse battery";
const METRIC: &str = r#"name = "orders", event = "order", measure = "count""#;

/// The new organisation.
struct Added<'a> {
    world: &'a World,
    name: String,
}

impl Added<'_> {
    fn add(&self, more: &[&str]) -> Result<Finished> {
        let plain =
            ["tenant", "add", &self.name, "--time-zone", "Asia/Tokyo", "--rollup", "country", "--metric", METRIC];
        self.world.run(&[&plain[..], more].concat())
    }

    async fn collected(&self, key: &str) -> Result<u16> {
        let event = json!([{ "event_id": "1", "name": "order", "occurred_at": jiff::Timestamp::now() }]);
        let url = format!("http://127.0.0.1:{}/v1/events", self.world.collect_port);
        Ok(self.world.http.post(url).bearer_auth(key).json(&event).send().await?.status().as_u16())
    }

    /// How many events a key sees of the last hours; every tenant has metrics that are written as a text.
    async fn seen(&self, key: &str) -> Result<(u16, Option<u64>)> {
        let hours = jiff::SignedDuration::from_hours(2);
        let (from, to) = (jiff::Timestamp::now() - hours, jiff::Timestamp::now() + hours);
        let question = json!({ "metric_text": "count(*)", "grain": "1h", "from": from, "to": to });
        let url = format!("http://127.0.0.1:{}/v1/query", self.world.serve_port);
        let answer = self.world.http.post(url).json(&question).bearer_auth(key).send().await?;
        let (status, answer) = (answer.status().as_u16(), answer.json::<Value>().await?);
        let value = &answer["total"]["value"];
        Ok((status, value.as_u64().or_else(|| value.as_str()?.parse().ok())))
    }
}

/// Somebody who is signed in.
struct Admin<'a> {
    world: &'a World,
    cookie: String,
    csrf: String,
}

impl<'a> Admin<'a> {
    async fn sign_in(world: &'a World) -> Result<Self> {
        let url = format!("http://127.0.0.1:{}/v1/session", world.serve_port);
        let credentials = json!({ "email": EMAIL, "password": PASSWORD });
        let signed_in = world.http.post(url).json(&credentials).send().await?.error_for_status()?;
        let cookie = signed_in.headers().get("set-cookie").context("a cookie")?.to_str()?;
        let cookie = cookie.split(';').next().context("a cookie")?.to_owned();
        let csrf = signed_in.json::<Value>().await?["csrf_token"].as_str().context("a token")?.to_owned();
        Ok(Self { world, cookie, csrf })
    }

    async fn ask(&self, method: Method, path: &str, body: &Value) -> Result<(u16, Value)> {
        let url = format!("http://127.0.0.1:{}{path}", self.world.serve_port);
        let request = self.world.http.request(method, url).json(body);
        let answer = request.header("cookie", &self.cookie).header("x-csrf-token", &self.csrf).send().await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    }

    async fn key(&self, scope: &str) -> Result<String> {
        let wish = json!({ "name": scope, "scopes": [scope] });
        let (_, made) = self.ask(Method::POST, "/v1/keys", &wish).await?;
        Ok(made["key"].as_str().with_context(|| made.to_string())?.to_owned())
    }

    async fn additions(&self) -> Result<Vec<Value>> {
        let (_, log) = self.ask(Method::GET, "/v1/audit", &Value::Null).await?;
        let entries = log["entries"].as_array().with_context(|| log.to_string())?;
        Ok(entries.iter().filter(|entry| entry["action"] == "tenant.add").cloned().collect())
    }
}

fn catalog_of(world: &World) -> PathBuf {
    world.config().with_file_name("catalog.toml")
}

async fn until_followed(worker: &Process, times: usize) -> Result<()> {
    until("the worker to notice", Duration::from_secs(30), async || {
        Ok(worker.log().matches("the catalog changed").count() >= times)
    })
    .await
    .with_context(|| worker.log_tail())
}

async fn a_tenant_is_added_while_everything_runs(database: Database) -> Result<()> {
    let tuning = format!("[speed]\nflush_interval = \"100ms\"\n\n[accounts]\nurl = \"{}\"\n", database.url);
    let world = World::with_tuning(&Stack::shared()?, &tuning)?;
    let (file, before) = (catalog_of(&world), std::fs::read_to_string(catalog_of(&world))?);
    let commented = format!("# Written by hand.\n{before}# The end.\n");
    std::fs::write(&file, &commented)?;
    let (_collector, _node, worker) =
        (world.start_collector().await?, world.start_serving().await?, world.start("speed")?);
    until("the worker", Duration::from_secs(30), async || Ok(worker.log().contains("started"))).await?;

    let added = Added { world: &world, name: format!("{}-new", world.tenant) };
    let done = added.add(&[])?;
    ensure!(done.code == 0 && done.stdout.contains("reckon user add"), "exit {}: {}", done.code, done.log);
    let text = std::fs::read_to_string(&file)?;
    ensure!(text.starts_with(&commented), "{text}");
    // What a scheduler does every night.
    let again = added.add(&[])?;
    ensure!(again.code == 0 && again.log.contains("nothing is changed"), "exit {}: {}", again.code, again.log);
    let otherwise = added.add(&["--events-per-second-max", "5"])?;
    ensure!(otherwise.code == 78 && otherwise.log.contains("defined otherwise"), "exit {}", otherwise.code);
    ensure!(std::fs::read_to_string(&file)? == text);

    // Its first admin and keys, with the commands and routes that everybody has.
    let user = ["user", "add", "--tenant", &added.name, "--email", EMAIL, "--scope", "read", "--scope", "admin"];
    let made = world.run_with_input(&user, &format!("{PASSWORD}\n"))?;
    ensure!(made.code == 0, "{}", made.log);
    until_followed(&worker, 1).await?;
    until("the node to notice", Duration::from_secs(10), async || Ok(Admin::sign_in(&world).await.is_ok())).await?;
    let admin = Admin::sign_in(&world).await?;
    let (write, read) = (admin.key("write").await?, admin.key("read").await?);
    until("the collector", Duration::from_secs(10), async || Ok(added.collected(&write).await? == 202)).await?;
    until("the order", Duration::from_secs(30), async || Ok(added.seen(&read).await? == (200, Some(1)))).await?;
    let neighbour = added.seen(&world.read_key).await?;
    ensure!(neighbour == (200, Some(0)), "{neighbour:?}");
    let additions = admin.additions().await?;
    ensure!(additions.len() == 1 && additions[0]["actor"] == "operator", "{additions:#?}");
    ensure!(additions[0]["detail"]["definition"]["time_zone"] == "Asia/Tokyo", "{additions:#?}");

    // Taken out of the file: nothing opens any more, and the name is not given to somebody else by mistake.
    std::fs::write(&file, &commented)?;
    until("the end of its keys", Duration::from_secs(10), async || {
        Ok(added.collected(&write).await? == 401 && added.seen(&read).await?.0 == 401)
    })
    .await?;
    ensure!(admin.ask(Method::GET, "/v1/audit", &Value::Null).await?.0 == 401);
    ensure!(added.seen(&world.read_key).await?.0 == 200);
    let refused = added.add(&[])?;
    ensure!(refused.code == 78 && refused.log.contains("--reuse-name"), "exit {}: {}", refused.code, refused.log);
    ensure!(std::fs::read_to_string(&file)? == commented);
    ensure!(added.add(&["--reuse-name"])?.code == 0);
    until("its keys", Duration::from_secs(10), async || Ok(added.seen(&read).await?.0 == 200)).await?;
    ensure!(admin.additions().await?.len() == 2);
    Ok(())
}

#[tokio::test]
async fn a_catalog_from_elsewhere_is_not_touched() -> Result<()> {
    let world = World::new(&Stack::shared()?)?;
    let added = Added { world: &world, name: format!("{}-new", world.tenant) };
    let (file, before) = (catalog_of(&world), std::fs::read_to_string(catalog_of(&world))?);
    let mut read_only = std::fs::metadata(&file)?.permissions();
    read_only.set_readonly(true);
    std::fs::set_permissions(&file, read_only)?;
    let refused = added.add(&[])?;
    ensure!(refused.code == 78 && refused.log.contains("read-only"), "exit {}: {}", refused.code, refused.log);
    ensure!(refused.log.contains("--print") && refused.stdout.is_empty(), "{}", refused.log);

    // What is printed is what is to be added; where it was, the audit log is told of it.
    let printed = added.add(&["--print"])?;
    ensure!(printed.code == 0 && std::fs::read_to_string(&file)? == before, "{}", printed.log);
    let new = file.with_extension("new");
    std::fs::write(&new, format!("{before}\n{}", printed.stdout))?;
    std::fs::rename(new, &file)?;
    ensure!(added.add(&["--print"])?.stdout.is_empty());
    for _ in 0..2 {
        let done = added.add(&[])?;
        ensure!(done.code == 0 && done.log.contains("nothing is changed"), "exit {}: {}", done.code, done.log);
    }
    sqlx::any::install_default_drivers();
    let pool = AnyPool::connect(&format!("sqlite://{}/accounts.db", world.store().display())).await?;
    let entries: Vec<(String, String)> =
        sqlx::query_as("SELECT action, detail FROM audit WHERE tenant = $1").bind(&added.name).fetch_all(&pool).await?;
    ensure!(entries.len() == 1 && entries[0].0 == "tenant.add", "{entries:?}");
    ensure!(entries[0].1.contains("\"was_there\":true"), "{entries:?}");

    // The lists.
    let listed = world.run(&["tenant", "list", "--format", "json"])?;
    let listed: Vec<Value> = listed.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(listed.len() == 2 && listed[1]["id"] == added.name.as_str(), "{listed:#?}");
    ensure!(listed[0]["catalog_keys"] == 2 && listed[1]["catalog_keys"] == 0, "{listed:#?}");
    let table = world.run(&["tenant", "list"])?.stdout;
    ensure!(table.contains(&added.name) && table.contains("Asia/Tokyo") && table.contains("orders"), "{table}");
    ensure!(world.run(&["tenant", "show", &added.name])?.stdout == printed.stdout);
    ensure!(world.run(&["tenant", "show", "nobody"])?.code == 78);
    let nameless = world.run(&["tenant", "add", "No Name", "--time-zone", "UTC"])?;
    ensure!(nameless.code == 2 && nameless.log.contains("cannot name a tenant"), "{}", nameless.log);
    Ok(())
}
