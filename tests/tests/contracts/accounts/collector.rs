//! The collector learns of keys that are made and revoked while it runs, and knows nothing of where they are kept.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reckon_tests::{Stack, World, until};
use serde_json::{Value, json};

const EMAIL: &str = "ada@example.com";
const PASSWORD: &str = "correct horse battery";

#[tokio::test]
async fn a_new_key_sends_events_within_seconds_and_a_revoked_one_does_not() -> Result<()> {
    let world = World::new(&Stack::shared()?)?;
    let _collector = world.start_collector().await?;
    let _node = world.start_serving().await?;
    // The first admin comes from the command line.
    let arguments = ["user", "add", "--tenant", &world.tenant, "--email", EMAIL, "--scope", "read", "--scope", "admin"];
    let made = world.run_with_input(&arguments, &format!("{PASSWORD}\n"))?;
    ensure!(made.code == 0, "{}", made.log);
    assert!(!made.log.contains(PASSWORD) && made.stdout.is_empty());
    let stranger =
        world.run_with_input(&["user", "add", "--tenant", "nobody", "--email", EMAIL, "--scope", "read"], "")?;
    assert_eq!(stranger.code, 78, "{}", stranger.log);

    let serve = format!("http://127.0.0.1:{}", world.serve_port);
    let credentials = json!({ "email": EMAIL, "password": PASSWORD });
    let signed_in = world.http.post(format!("{serve}/v1/session")).json(&credentials).send().await?;
    let cookie = signed_in.headers().get("set-cookie").context("a cookie")?.to_str()?.to_owned();
    ensure!(cookie.starts_with("__Host-reckon=") && cookie.contains("Secure"), "{cookie}");
    let cookie = cookie.split(';').next().context("a cookie")?.to_owned();
    let csrf = signed_in.json::<Value>().await?["csrf_token"].as_str().context("a token")?.to_owned();
    let as_admin = |request: reqwest::RequestBuilder| request.header("cookie", &cookie).header("x-csrf-token", &csrf);

    let wish = json!({ "name": "shop", "scopes": ["write"] });
    let made: Value = as_admin(world.http.post(format!("{serve}/v1/keys"))).json(&wish).send().await?.json().await?;
    let key = made["key"].as_str().with_context(|| made.to_string())?;
    let send = async || -> Result<u16> {
        let event = json!([{ "event_id": "1", "name": "purchase", "occurred_at": "2026-01-01T00:00:00Z" }]);
        let url = format!("http://127.0.0.1:{}/v1/events", world.collect_port);
        Ok(world.http.post(url).bearer_auth(key).json(&event).send().await?.status().as_u16())
    };
    until("the key at the collector", Duration::from_secs(5), async || Ok(send().await? == 202)).await?;
    let url = format!("{serve}/v1/keys/{}", made["prefix"].as_str().context("a prefix")?);
    assert_eq!(as_admin(world.http.delete(url)).send().await?.status().as_u16(), 204);
    until("the end of the key", Duration::from_secs(5), async || Ok(send().await? == 401)).await?;
    for log in [_collector.log(), _node.log()] {
        assert!(!log.contains(PASSWORD) && !log.contains(key) && !log.contains(&csrf));
    }
    Ok(())
}
