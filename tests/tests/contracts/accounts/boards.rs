//! Dashboards.

use anyhow::{Context, Result};
use reqwest::Method;
use serde_json::{Value, json};

use super::on_both_stores;
use super::scene::{Answer, Database, Scene};

on_both_stores!(
    dashboards_are_saved_changed_and_removed,
    what_is_saved_is_listed_page_by_page,
    what_is_no_question_is_not_saved,
    a_saved_metric_is_asked_for_like_any_other,
);

fn board(name: &str) -> Value {
    json!({ "name": name, "charts": [
        { "title": "Purchases", "shape": "line", "last": "24h", "width": 12,
          "question": { "metric": "purchases", "grain": "1h", "by": "department", "filter": ["department:DELI", "department:DRUG"] } },
        { "title": "All", "shape": "figure", "question": { "metric": "purchases", "from": "2026-01-01", "to": "2026-02-01" } },
    ] })
}

async fn dashboards_are_saved_changed_and_removed(database: Database) -> Result<()> {
    let scene = Scene::new()?;
    let node = scene.plain_node(&database.url).await?;
    let admin = scene.acme.admin.as_str();
    let made = node.ask(Method::POST, "/v1/dashboards", admin, Some(&board("Sales"))).await?;
    assert_eq!((made.status, made.header("etag")), (201, Some("\"1\"")), "{}", made.text);
    let path = made.header("location").context("where")?.to_owned();
    let read = node.ask(Method::GET, &path, &scene.acme.read, None).await?;
    assert_eq!((read.status, read.text.as_str()), (200, made.text.as_str()));
    assert_eq!(read.json()?["charts"][0]["question"], board("")["charts"][0]["question"]);

    let change =
        async |method: Method, path: &str, key: &str, tag: Option<&str>, body: Option<&Value>| -> Result<Answer> {
            let authorization = format!("Bearer {key}");
            let mut headers = vec![("authorization", authorization.as_str())];
            headers.extend(tag.map(|tag| ("if-match", tag)));
            node.send(method, path, &headers, body).await
        };
    let renamed = board("Turnover");
    let body = Some(&renamed);
    assert_eq!(change(Method::PUT, &path, &scene.acme.read, Some("\"1\""), body).await?.status, 403, "it only reads");
    assert_eq!(change(Method::PUT, &path, admin, None, body).await?.status, 428);
    assert_eq!(change(Method::PUT, &path, admin, Some("\"7\""), body).await?.status, 412);
    let changed = change(Method::PUT, &path, admin, Some("\"1\""), body).await?;
    assert_eq!((changed.status, changed.header("etag")), (200, Some("\"2\"")), "{}", changed.text);
    assert_eq!(change(Method::PUT, &path, admin, Some("\"1\""), body).await?.status, 412, "somebody was faster");

    // Two at the same time: one wins, the other is told.
    let (one, two) = tokio::join!(
        change(Method::PUT, &path, admin, Some("\"2\""), body),
        change(Method::PUT, &path, admin, Some("\"2\""), body)
    );
    let mut statuses = [one?.status, two?.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412]);

    // Somebody else's is like none: in a list, and when it is named.
    let list = node.ask(Method::GET, "/v1/dashboards", &scene.other.admin, None).await?.json()?;
    assert_eq!(list, json!({ "dashboards": [], "next": null }));
    let nowhere = "/v1/dashboards/00000000000000000000000000000000";
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let body = (method == Method::PUT).then_some(&renamed);
        let theirs = change(method.clone(), &path, &scene.other.admin, Some("*"), body).await?;
        let nobodys = change(method.clone(), nowhere, &scene.other.admin, Some("*"), body).await?;
        assert_eq!((theirs.status, &theirs.text), (404, &nobodys.text), "{method}");
    }
    assert_eq!(node.ask(Method::GET, "/v1/dashboards/%00", admin, None).await?.status, 404);
    let list = node.ask(Method::GET, "/v1/dashboards", &scene.acme.read, None).await?.json()?;
    assert_eq!((&list["dashboards"][0]["name"], &list["dashboards"][0]["revision"]), (&json!("Turnover"), &json!(3)));

    assert_eq!(change(Method::DELETE, &path, admin, Some("\"2\""), None).await?.status, 412);
    assert_eq!(change(Method::DELETE, &path, admin, Some("\"3\""), None).await?.status, 204);
    assert_eq!(node.ask(Method::GET, &path, admin, None).await?.status, 404);
    let log = node.ask(Method::GET, "/v1/audit", admin, None).await?.json()?;
    let actions: Vec<&Value> =
        log["entries"].as_array().context("entries")?.iter().map(|entry| &entry["action"]).collect();
    assert_eq!(actions, ["dashboard.remove", "dashboard.change", "dashboard.change", "dashboard.create"]);
    Ok(())
}

async fn what_is_saved_is_listed_page_by_page(database: Database) -> Result<()> {
    let scene = Scene::new()?;
    let node = scene.plain_node(&database.url).await?;
    let admin = scene.acme.admin.as_str();
    // Names may repeat, and have spaces.
    let names = ["a b", "a", "b", "b", "b", "z"];
    for name in names {
        assert_eq!(node.ask(Method::POST, "/v1/dashboards", admin, Some(&board(name))).await?.status, 201);
    }
    for name in ["m1", "m3", "m2"] {
        let metric = json!({ "name": name, "text": "count(*)" });
        assert_eq!(node.ask(Method::POST, "/v1/metrics", admin, Some(&metric)).await?.status, 201);
    }
    for (kind, length) in [("dashboards", 6), ("metrics", 3)] {
        let (listed, _) = node.pages(&format!("/v1/{kind}"), kind, &scene.acme.read, 2).await?;
        assert_eq!(listed.len(), length);
        assert!(listed.iter().filter_map(|item| item["name"].as_str()).is_sorted(), "{listed:?}");
    }
    Ok(())
}

async fn what_is_no_question_is_not_saved(database: Database) -> Result<()> {
    let scene = Scene::new()?;
    let node = scene.plain_node(&database.url).await?;
    let save = async |body: Value| node.ask(Method::POST, "/v1/dashboards", &scene.acme.admin, Some(&body)).await;
    let with = |change: fn(&mut Value)| {
        let mut body = board("Sales");
        change(&mut body["charts"][0]);
        body
    };
    for (what, body) in [
        ("an unknown metric", with(|chart| chart["question"]["metric"] = json!("profit"))),
        ("two metrics", with(|chart| chart["question"]["metric_text"] = json!("count(*)"))),
        ("an unknown parameter", with(|chart| chart["question"]["tenant"] = json!("other"))),
        ("a number", with(|chart| chart["question"]["grain"] = json!(1))),
        ("two ranges", with(|chart| chart["question"]["from"] = json!("2026-01-01"))),
        ("no span", with(|chart| chart["last"] = json!("soon"))),
        ("no shape", with(|chart| chart["shape"] = json!("pie"))),
        ("too wide", with(|chart| chart["width"] = json!(13))),
        ("a field too many", with(|chart| chart["sql"] = json!("SELECT 1"))),
        ("no name", json!({ "name": " ", "charts": [] })),
        ("too many charts", json!({ "name": "many", "charts": vec![board("")["charts"][1].clone(); 51] })),
    ] {
        let answer = save(body).await?;
        assert_eq!(answer.status, 422, "{what}: {}", answer.text);
    }
    let long = json!({ "name": "long", "charts": vec![with(|chart| {
        chart["question"]["filter"] = json!(vec![format!("department:{}", "x".repeat(900)); 3]);
    })["charts"][0].clone(); 50] });
    assert_eq!(save(long).await?.status, 422, "more than 64 KiB");
    let huge = save(json!({ "name": "x".repeat(300_000), "charts": [] })).await?;
    assert_eq!(huge.status, 413, "{}", huge.text);
    let list = node.ask(Method::GET, "/v1/dashboards", &scene.acme.read, None).await?.json()?;
    assert_eq!(list, json!({ "dashboards": [], "next": null }));
    Ok(())
}

async fn a_saved_metric_is_asked_for_like_any_other(database: Database) -> Result<()> {
    let scene = Scene::new()?;
    let (node, far) = (scene.plain_node(&database.url).await?, scene.plain_node(&database.url).await?);
    let admin = scene.acme.admin.as_str();
    let metric = json!({ "name": "deli_share", "text": "count(*) filter (where department = 'DELI') / count(*)" });
    let made = node.ask(Method::POST, "/v1/metrics", admin, Some(&metric)).await?;
    assert_eq!((made.status, made.header("location")), (201, Some("/v1/metrics/deli_share")), "{}", made.text);
    assert_eq!(node.ask(Method::POST, "/v1/metrics", admin, Some(&metric)).await?.status, 409);
    for (name, text, status) in [
        ("purchases", "count(*)", 409),
        ("Deli", "count(*)", 422),
        ("wrong", "sleep(10)", 422),
        ("wrong", "count(*); DROP TABLE audit", 422),
    ] {
        let body = json!({ "name": name, "text": text });
        let answer = node.ask(Method::POST, "/v1/metrics", admin, Some(&body)).await?;
        assert_eq!(answer.status, status, "{text}: {}", answer.text);
    }
    // There are no numbers here, so what is known gets another answer than what is not.
    let ask = async |node: &super::scene::Node, key: &str| -> Result<u16> {
        Ok(node.ask(Method::GET, "/v1/query?metric=deli_share&by=department", key, None).await?.status)
    };
    assert_ne!(ask(&node, &scene.acme.read).await?, 404);
    assert_eq!(ask(&node, &scene.other.read).await?, 404, "it is not theirs");
    reckon_tests::until("the other node", std::time::Duration::from_secs(5), async || {
        Ok(ask(&far, &scene.acme.read).await? != 404)
    })
    .await?;
    // Grafana lists it beside those of the catalog, to nobody else.
    for (key, is_there) in [(&scene.acme.read, true), (&scene.other.read, false)] {
        let listed = node.ask(Method::POST, "/v1/grafana/metrics", key, Some(&json!({}))).await?.json()?;
        let names: Vec<_> = listed.as_array().into_iter().flatten().map(|metric| metric["value"].clone()).collect();
        assert_eq!(names.contains(&json!("deli_share")), is_there, "{listed}");
        assert!(names.contains(&json!("purchases")), "{listed}");
    }
    let mut board = board("Shares");
    board["charts"][1]["question"]["metric"] = json!("deli_share");
    assert_eq!(node.ask(Method::POST, "/v1/dashboards", admin, Some(&board)).await?.status, 201);
    assert_eq!(node.ask(Method::POST, "/v1/dashboards", &scene.other.admin, Some(&board)).await?.status, 422);

    let authorization = format!("Bearer {admin}");
    let headers = [("authorization", authorization.as_str()), ("if-match", "\"1\"")];
    let path = "/v1/metrics/deli_share";
    let changed = json!({ "name": "deli_share", "text": "count(*)", "description": "all of them" });
    assert_eq!(node.send(Method::PUT, path, &headers, Some(&changed)).await?.status, 200);
    assert_eq!(node.ask(Method::GET, path, &scene.acme.read, None).await?.json()?["description"], "all of them");
    let headers = [headers[0], ("if-match", "\"2\"")];
    assert_eq!(node.send(Method::DELETE, path, &headers, None).await?.status, 204);
    assert_eq!(ask(&node, &scene.acme.read).await?, 404);
    Ok(())
}
