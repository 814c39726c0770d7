//! One node looks at all alerts; another one takes over, and what the first one was about to say is void.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use reckon_tests::postgres::Postgres;
use reckon_tests::proxy::{Direction, Proxy, Way};
use reckon_tests::{Process, until};
use serde_json::json;

use super::{PATIENCE, Scene, accounts_at, receiver};

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_paused_in_the_middle_of_a_look_tells_nothing_twice() -> Result<()> {
    let server = Postgres::shared().await?;
    let scene = Scene::on(&accounts_at(&server.database().await?))?;
    let (clickhouse, address) = Proxy::before(&scene.world.clickhouse.url).await?;
    let (first, port) = start_first(&scene, &address)?;
    // It is alone, and leads.
    until("the first node", PATIENCE, || scene.world.is_ready(port)).await?;
    let ask_first = async || {
        let url = format!("http://127.0.0.1:{port}/v1/alerts");
        Ok(scene.world.http.get(url).bearer_auth(&scene.world.read_key).send().await?.status().is_success())
    };
    until("its store", PATIENCE, ask_first).await?;
    let _speed = scene.world.start("speed")?;
    let (url, inbox) = receiver(0).await?;
    let many = json!({
        "name": "many purchases", "metric": "purchases", "over_minutes": 10, "side": "above", "threshold": "50",
        "for_seconds": 3, "no_data_seconds": 86_400, "webhook": format!("{url}/hook"),
    });
    let id = {
        let url = format!("http://127.0.0.1:{port}/v1/alerts");
        let made = scene.world.http.post(url).bearer_auth(&scene.admin_key).json(&many).send().await?;
        let made: serde_json::Value = made.json().await?;
        made["id"].as_str().with_context(|| made.to_string())?.to_owned()
    };
    let _second = scene.serve().await?;
    scene.buy(0x5eed_5301, 30).await?;
    let path = format!("/v1/alerts/{id}");
    let seen_at = async || -> Result<Timestamp> {
        let alert = scene.world.query(&path).await?;
        Ok(alert["seen_at"].as_str().context("not looked at yet")?.parse()?)
    };
    until("a number", PATIENCE, async || Ok(scene.world.query(&path).await?["number"].is_string())).await?;

    // A store does not answer it in the middle of a look, and then it is paused for longer than it leads.
    clickhouse.set(Direction::Answers, Way::Held);
    let hangs = async || Ok(Timestamp::now().duration_since(seen_at().await?).as_secs() >= 4);
    until("a look that hangs", PATIENCE, hangs).await?;
    first.pause()?;
    scene.buy(0x5eed_5303, 40).await?;
    scene.until_phase(&id, "firing").await?;
    until("the message", PATIENCE, async || Ok(!inbox.all().is_empty())).await?;

    clickhouse.set(Direction::Answers, Way::Open);
    first.resume()?;
    let resumed = Timestamp::now();
    until("the first node again", PATIENCE, ask_first).await?;
    // Long enough for an alert that had been set back to fire again.
    let looked = async || Ok(seen_at().await?.duration_since(resumed) > jiff::SignedDuration::from_secs(12));
    until("more looks", PATIENCE, looked).await?;
    ensure!(scene.told(&id).await? == ["alert.firing"], "{:?}", scene.told(&id).await?);
    ensure!(scene.phase(&id).await? == "firing");
    tokio::time::sleep(Duration::from_secs(2)).await;
    ensure!(inbox.all().len() == 1, "{:?}", inbox.all());
    Ok(())
}

/// A node beside the one of the world, which asks ClickHouse by another way; its port.
fn start_first(scene: &Scene, clickhouse: &str) -> Result<(Process, u16)> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let world = &scene.world;
    let config = std::fs::read_to_string(world.config())?;
    let config = config.replace(&world.clickhouse.url, clickhouse);
    let config = config.replace(&format!("127.0.0.1:{}", world.serve_port), &format!("127.0.0.1:{port}"));
    let file = world.config().with_file_name("first.toml");
    std::fs::write(&file, config)?;
    Ok((Process::start(&file, &["serve"], file.with_extension("log"))?, port))
}
