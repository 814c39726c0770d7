//! A noisy tenant slows only itself.

use std::time::Duration;

use anyhow::Result;
use reckon_serving::accounts::{Actor, Quota};
use reckon_tests::until;
use reqwest::Method;

use super::on_both_stores;
use super::scene::{Database, Scene};

on_both_stores!(a_tenant_has_bounds_of_its_own);

async fn a_tenant_has_bounds_of_its_own(database: Database) -> Result<()> {
    let scene = Scene::new()?;
    let (node, far) = (scene.plain_node(&database.url).await?, scene.plain_node(&database.url).await?);
    let bounds = async |key: &str| node.ask(Method::GET, "/v1/quotas", key, None).await?.json();
    let ours = bounds(&scene.acme.read).await?;
    assert_eq!((&ours["queries_per_second_max"], &ours["live_clients"]["max"]), (&50.into(), &100.into()));
    let quota = Quota {
        queries_per_second_max: Some(2),
        live_clients_max: Some(1),
        rows_per_minute_max: Some(7),
        events_per_second_max: Some(9),
    };
    node.accounts.set_quota(&scene.acme.tenant.parse()?, quota, &Actor::Operator).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let ours = bounds(&scene.acme.read).await?;
    assert_eq!((&ours["queries_per_second_max"], &ours["live_clients"]["max"]), (&2.into(), &1.into()));
    assert_eq!((&ours["rows_per_minute"]["max"], &ours["events_per_second_max"]), (&7.into(), &9.into()));
    assert_eq!(bounds(&scene.other.read).await?["queries_per_second_max"], 50);

    // Over it: told when to come back, on every node; the others do not notice.
    let mut refused = 0;
    for _ in 0..20 {
        let answer = node.ask(Method::GET, "/v1/catalog", &scene.acme.read, None).await?;
        if answer.status == 429 {
            refused += 1;
            assert_eq!(answer.header("retry-after"), Some("1"), "{}", answer.text);
        }
        assert_eq!(node.ask(Method::GET, "/v1/catalog", &scene.other.read, None).await?.status, 200);
    }
    assert!(refused >= 10, "{refused} of 20");
    until("the other node", Duration::from_secs(5), async || {
        let statuses = [(); 4].map(|()| far.ask(Method::GET, "/v1/catalog", &scene.acme.read, None));
        let answers = futures::future::try_join_all(statuses).await?;
        Ok(answers.iter().any(|answer| answer.status == 429))
    })
    .await
}
