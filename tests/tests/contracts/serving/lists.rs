//! What finance reads page by page, as JSON and for spreadsheets; and what has no such form.

use anyhow::{Context, Result};
use reqwest::Response;
use serde_json::{Value, json};

use super::scene::{Node, Scene};

const CSV: &str = "text/csv";
const ARROW: &str = "application/vnd.apache.arrow.stream";

/// What would be run by a spreadsheet that takes it for a formula.
const FORMULA: &str = "=HYPERLINK(\"https://evil.example\")";

impl Node {
    async fn take(&self, key: &str, path: &str, accept: &str) -> Result<Response> {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(key).header("accept", accept);
        Ok(request.send().await?)
    }
}

fn header<'a>(answer: &'a Response, name: &str) -> Option<&'a str> {
    answer.headers().get(name)?.to_str().ok()
}

/// Three restated numbers, of which the first has a dimension that begins a formula, and one closed month.
async fn fill(scene: &Scene) -> Result<()> {
    let tenant = &scene.tenant;
    for (second, dimension, before, after) in [(1, FORMULA, 100, -250), (2, "-", 0, 1), (3, "DELI", 7, 8)] {
        scene
            .sql(&format!(
                "INSERT INTO changes_stored VALUES ('{tenant}', '2026-03-08', 'run-2', 'run-1', 'department', 'purchase', \
                 ['{dimension}'], 'money', 'USD', {before}, {after}, 'late', '2026-03-09 07:00:0{second}')"
            ))
            .await?;
    }
    scene
        .sql(&format!(
            "INSERT INTO periods (tenant, period, generation, action, at, signed_by, reason, first_day, last_day, \
             content_hash, manifest) VALUES ('{tenant}', '2026-02', 1, 'closed', '2026-03-09 08:00:00', '@ada', '', \
             '2026-02-01', '2026-02-28', 'hash', 'manifest')"
        ))
        .await
}

#[tokio::test]
async fn lists_are_lines_for_spreadsheets_page_by_page() -> Result<()> {
    let scene = Scene::new().await?;
    fill(&scene).await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let (mut lines, mut path) = (Vec::new(), "/v1/changes?limit=2".to_owned());
    loop {
        let answer = node.take(&scene.finance_key, &path, CSV).await?;
        let kind = header(&answer, "content-type").context("a content type")?.to_owned();
        let next = header(&answer, "reckon-next").map(str::to_owned);
        let text = answer.text().await?;
        assert_eq!(kind, "text/csv; charset=utf-8; header=present", "{text}");
        assert!(text.ends_with("\r\n"), "{text:?}");
        let header = "day,run_id,run_before,rollup,event,dimensions,measure,unit,before,after,reason,changed_at";
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows[0], header);
        lines.extend(rows[1..].iter().map(|row| (*row).to_owned()));
        let Some(next) = next else { break };
        path = format!("/v1/changes?limit=2&after={next}");
    }
    let formula = FORMULA.replace('"', "\"\"");
    assert_eq!(
        lines,
        [
            format!(
                "2026-03-08,run-2,run-1,department,purchase,\"'{formula}\",money,USD,1.00,-2.50,late,2026-03-09T07:00:01Z"
            ),
            "2026-03-08,run-2,run-1,department,purchase,'-,money,USD,0.00,0.01,late,2026-03-09T07:00:02Z".to_owned(),
            "2026-03-08,run-2,run-1,department,purchase,DELI,money,USD,0.07,0.08,late,2026-03-09T07:00:03Z".to_owned(),
        ]
    );
    let answer = node.take(&scene.finance_key, "/v1/periods", CSV).await?.text().await?;
    assert!(
        answer.lines().nth(1).is_some_and(|line| line.starts_with("2026-02,closed,1,2026-03-09T08:00:00Z,'@ada,,")),
        "{answer}"
    );
    let answer = node.take(&scene.finance_key, "/v1/reconciliations?limit=1", CSV).await?.text().await?;
    assert!(
        answer.lines().nth(1).is_some_and(|line| line.starts_with("run-2,2026-03-09T07:00:00Z,2026-03-08,")),
        "{answer}"
    );
    assert_eq!(answer.lines().count(), 2, "{answer}");
    // JSON is what it was, for who takes anything.
    let answer = node.take(&scene.finance_key, "/v1/changes?limit=2", "*/*").await?;
    let answer: Value = answer.json().await?;
    assert_eq!((&answer["items"][0]["dimensions"], &answer["items"][0]["after"]), (&json!([FORMULA]), &json!("-2.50")));
    assert!(answer["next"].is_string());
    Ok(())
}

#[tokio::test]
async fn a_form_that_there_is_not_is_refused() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    for (path, accept, status) in [
        ("/v1/changes", ARROW, 406),
        ("/v1/rejected", "image/png", 406),
        ("/v1/reconciliations/latest", CSV, 406),
        ("/v1/catalog", CSV, 406),
        ("/v1/catalog", "text/csv, application/vnd.apache.arrow.stream;q=0.5", 406),
        ("/v1/heatmap?metric=revenue", ARROW, 406),
        ("/v1/live?metric=revenue", CSV, 406),
        ("/v1/catalog", "text/csv, application/json;q=0.1", 200),
        ("/v1/catalog", "text/html, */*;q=0.8", 200),
    ] {
        let key =
            if path.contains("heatmap") || path.contains("catalog") { &scene.read_key } else { &scene.finance_key };
        let answer = node.take(key, path, accept).await?;
        assert_eq!(answer.status(), status, "{path} {accept}");
        let kind = if status == 200 { "application/json" } else { "application/problem+json" };
        assert_eq!(header(&answer, "content-type"), Some(kind), "{path} {accept}");
    }
    Ok(())
}

#[tokio::test]
async fn values_of_dimensions_are_no_formulas_either() -> Result<()> {
    let scene = Scene::new().await?;
    scene.settled_cell(("2026-03-07", super::scene::FIRST), "run-1", Some("=1+1"), 300, 0..1).await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let path = "/v1/query?metric=revenue&from=2026-03-07&to=2026-03-08&grain=1d&by=department";
    let text = node.take(&scene.read_key, path, CSV).await?.text().await?;
    assert!(text.contains("\r\npoint,'=1+1,2026-03-07T05:00:00Z,"), "{text}");
    let answer: Value = node.take(&scene.read_key, path, "application/json").await?.json().await?;
    assert!(answer.to_string().contains("\"=1+1\""), "{answer}");
    Ok(())
}
