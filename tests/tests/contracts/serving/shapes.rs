//! Whatever a client writes: the statements that reach ClickHouse are the same few texts. Values are parameters.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, TestRng, TestRunner};
use reckon_schemas::access::{NewKey, Scope};
use reckon_schemas::stores;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::scene::{CANARY, Node, Scene};

/// Everything that is sent to a server, connection by connection.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Vec<u8>>>>);

impl Recorder {
    /// Listens in front of a server; its address.
    async fn in_front_of(&self, server: String) -> Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let recorder = self.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(recorder.clone().relay(client, server.clone()));
            }
        });
        Ok(address)
    }

    async fn relay(self, client: TcpStream, server: String) -> Result<()> {
        let place = {
            let mut recorded = self.0.lock().expect("not poisoned");
            recorded.push(Vec::new());
            recorded.len() - 1
        };
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = TcpStream::connect(server).await?.into_split();
        let answers = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from_client.read(&mut buffer).await?;
            if read == 0 {
                break;
            }
            self.0.lock().expect("not poisoned")[place].extend(&buffer[..read]);
            to_server.write_all(&buffer[..read]).await?;
        }
        answers.abort();
        Ok(())
    }

    /// The statements, without the parameters that are sent beside them.
    fn statements(&self) -> Result<BTreeSet<String>> {
        let mut statements = BTreeSet::new();
        for connection in self.0.lock().expect("not poisoned").iter() {
            let mut rest = &connection[..];
            while let Some(end) = rest.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head = std::str::from_utf8(&rest[..end])?.to_ascii_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
                let length: usize = length.with_context(|| format!("no length: {head}"))?.trim().parse()?;
                let body = std::str::from_utf8(&rest[end + 4..][..length])?;
                statements.insert(statement(body).with_context(|| format!("no statement in {body:?}"))?.to_owned());
                rest = &rest[end + 4 + length..];
            }
        }
        Ok(statements)
    }
}

/// The statement in a body: all of it, or the part of a form that is called `query`.
fn statement(body: &str) -> Option<&str> {
    let Some((boundary, parts)) = body.split_once("\r\n").filter(|(first, _)| first.starts_with("--")) else {
        return Some(body);
    };
    let (_, query) = parts.split_once("name=\"query\"\r\n\r\n")?;
    query.split_once(&format!("\r\n{boundary}")).map(|(statement, _)| statement)
}

/// Texts that would hurt if they were ever read as SQL.
fn hostile() -> impl Strategy<Value = String> {
    let parts = [
        "'",
        "\"",
        "`",
        "\\",
        "\\'",
        "--",
        "/*",
        "*/",
        ";",
        "#",
        "\0",
        "\n",
        "\t",
        "%",
        "_",
        "{tenant:String}",
        "$1",
        "?",
        "@x",
        " OR 1=1 ",
        " UNION ALL SELECT * FROM speed_cells_raw ",
        "), (",
        "')",
        "]",
        "[",
        "\u{2019}",
        "\u{1f4a9}",
        "DRUG",
        "GROCERY",
        "0x27",
        "char(39)",
        "\u{1f}",
        "\r",
    ];
    proptest::collection::vec(proptest::sample::select(parts.to_vec()), 0..6).prop_map(|parts| parts.concat())
}

const RANGE: [(&str, &str); 3] = [("from", "2026-03-07"), ("to", "2026-03-10"), ("metric", "purchases")];

/// The range and more parameters.
fn in_range<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    RANGE.iter().chain(more).copied().collect()
}

/// Something to be asked for.
#[derive(Debug)]
enum Request {
    Get(String),
    Post(&'static str, Value),
}

/// Everything but [`questions`] that brings a text of a client into a statement.
fn requests(mut text: impl FnMut() -> String) -> Result<Vec<Request>> {
    let get = |segments: &[&str], parameters: &[(&str, &str)]| -> Result<Request> {
        let mut url = reqwest::Url::parse("http://x/v1")?;
        url.path_segments_mut().ok().context("a path")?.extend(segments);
        url.query_pairs_mut().extend_pairs(parameters);
        Ok(Request::Get(url.as_str().trim_start_matches("http://x").to_owned()))
    };
    let post = |path, body| Ok(Request::Post(path, body));
    let cursor = |tie: &str| URL_SAFE_NO_PAD.encode(format!("1772000000000000 {tie}"));
    let named = |value: &str| format!("department:{value}");
    let (from, to) = (RANGE[0].1, RANGE[1].1);
    vec![
        post(
            "/v1/funnels",
            json!({ "steps": [
                { "event": text(), "filters": { text(): [text(), text()], "department": [text()] } },
                { "event": text(), "filters": { text(): [text()] } }, { "event": "purchase" }],
                "within_s": 60, "by": text(), "from": from, "to": to }),
        ),
        post(
            "/v1/funnels",
            json!({ "steps": [{ "event": "view", "filters": { "department": [text()] } }, { "event": text() }],
                    "within_s": 60, "from": from, "to": to }),
        ),
        get(&["reconciliations"], &[("after", &cursor(&text()))]),
        get(&["periods"], &[("after", &cursor(&text()))]),
        get(&["changes"], &[("after", &cursor(&text()))]),
        get(&["changes"], &[("after", &text())]),
        get(&["changes"], &[("since", &text())]),
        get(&["audit"], &[("before", &text())]),
        get(&["alert-events"], &[("after", &text())]),
        get(&["query"], &in_range(&[("filter", &named(&text())), ("not", &named(&text())), ("grain", "1d")])),
        get(&["query"], &in_range(&[("by", &text()), ("prefix", &named(&text())), ("grain", "1d")])),
        get(&["query"], &[("metric", "purchases"), ("cursor", &text())]),
        get(&["metrics", &text(), "history"], &RANGE[..2]),
        get(&["metrics", "revenue", "history"], &[RANGE[0], RANGE[1], ("filter", &named(&text()))]),
        get(&["heatmap"], &in_range(&[("filter", &named(&text()))])),
        get(&["anomalies"], &[("metric", "purchases"), ("weeks", "3"), ("to", "2026-03-10T00:00:00Z"), ("by", &text())]),
        post(
            "/v1/grafana/query",
            json!({ "range": { "from": from, "to": to },
                    "targets": [{ "target": "revenue", "payload": { "by": text(), "filter": named(&text()), "grain": "1d" } }],
                    "adhocFilters": [{ "key": text(), "operator": "=", "value": text() }] }),
        ),
        post(
            "/v1/grafana/query",
            json!({ "range": { "from": from, "to": text() }, "targets": [{ "target": text(), "refId": text() }] }),
        ),
        post("/v1/grafana/variable", json!({ "payload": { "target": text() } })),
        post("/v1/grafana/tag-values", json!({ "key": text() })),
        post("/v1/metrics", json!({ "name": text(), "text": "count(*)" })),
        post("/v1/metrics", json!({ "name": "saved", "text": format!("count(*) filter (where department = {})", text()) })),
        get(&["metrics", &text()], &[]),
        post("/v1/dashboards", json!({ "name": text(), "charts": [{ "title": text(), "shape": "line",
             "question": { "metric": "purchases", "filter": named(&text()) } }] })),
        get(&["dashboards", &text()], &[]),
    ]
    .into_iter()
    .collect()
}

/// The questions that can be asked, with texts of the client wherever there can be any.
fn questions(mut text: impl FnMut() -> String) -> Vec<Value> {
    let whole = json!({"grain": "1d", "from": "2026-03-07", "to": "2026-03-10"});
    let parts = [
        json!({"metric": "revenue"}),
        json!({"metric": "revenue", "by": ["department"], "limit": 1, "filters": [{"dimension": "department", "not": [text()]}]}),
        json!({"metric": "households", "filters": [{"dimension": "department", "in": [text(), text()]}]}),
        json!({"metric": "households", "by": ["department"], "limit": 1, "filters": [{"dimension": "department", "not": [text()]}]}),
        json!({"metric": "purchases", "filters": [{"dimension": "department", "prefix": [text()]}]}),
        json!({"metric": "purchases", "by": [text()]}),
        json!({"metric": "purchases", "filters": [{"dimension": text(), "in": [text()]}]}),
        json!({"metric": text()}),
        json!({"metric": "revenue", "compare": "previous", "segments": []}),
        json!({"metric": "revenue", "segments": [
            {"name": text(), "filters": [{"dimension": "department", "in": [text()]}]},
            {"name": text(), "filters": [{"dimension": "department", "not": [text()]}]}]}),
        json!({"metric_text": format!("sum(money.USD) / count(*) filter (where department = '{}')", text().replace('\'', "''"))}),
        json!({"metric_text": format!("uniq(user) filter (where event = '{}')", text().replace('\'', "''"))}),
        json!({"metric_text": format!("count(*) filter (where department = '{}')", text())}),
        json!({"metric_text": format!("count(*) {}", text())}),
        json!({"metric_text": format!("sum(\"{}\")", text())}),
        json!({"metric_text": text()}),
    ];
    let question = |part: &Value| {
        let mut question = whole.clone();
        if let Some((question, part)) = question.as_object_mut().zip(part.as_object()) {
            question.extend(part.clone());
        }
        question
    };
    parts.iter().map(question).collect()
}

#[tokio::test]
async fn no_text_of_a_client_changes_a_statement() -> Result<()> {
    let scene = Scene::new().await?;
    let recorder = Recorder::default();
    let server = scene.clickhouse.url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let url = format!("http://{}", recorder.in_front_of(server).await?);
    let clickhouse = stores::ClickHouse { url, ..scene.clickhouse.clone() };
    let scopes = vec![Scope::Read, Scope::Finance, Scope::Admin];
    let admin = NewKey::from_random(rand::random(), scopes);
    let serve = async || -> Result<Node> {
        let node = scene.serve(&clickhouse, &scene.redis).await?;
        node.catalog.send_modify(|catalog| Arc::make_mut(catalog).tenants[0].keys.push(admin.entry.clone()));
        Ok(node)
    };
    let mut node = serve().await?;
    let ask = async |node: &Node, mut text: Box<dyn FnMut() -> String>| -> Result<()> {
        let questions = questions(&mut text).into_iter().map(|question| Request::Post("/v1/query", question));
        for request in questions.collect::<Vec<_>>().into_iter().chain(requests(&mut text)?) {
            let (status, answer) = loop {
                let answer = match &request {
                    Request::Get(path) => node.ask(&admin.key, path).await?,
                    Request::Post(path, body) => node.post_to(&admin.key, path, body).await?,
                };
                match answer {
                    (429, _) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
                    other => break other,
                }
            };
            ensure!(matches!(status, 200 | 201 | 400 | 404 | 409 | 422), "{status} for {request:?}: {answer}");
            ensure!(!answer.to_string().contains(CANARY), "{request:?}");
        }
        Ok(())
    };
    until_saved_things_are_there(&node, &admin.key).await?;
    ask(&node, Box::new(|| "DRUG".to_owned())).await?;
    let shapes = recorder.statements()?;
    ensure!(shapes.len() >= 12, "{} shapes", shapes.len());
    for asked in ["windowFunnel", "FROM periods", "FROM changes", "FROM settlements", "FROM raw_events"] {
        ensure!(shapes.iter().any(|shape| shape.contains(asked)), "nobody asked {asked}: {shapes:#?}");
    }
    ensure!(shapes.iter().all(|shape| !shape.contains("DRUG")), "{shapes:#?}");

    let seed: [u8; 32] = rand::random();
    let config = Config::default();
    let rng = TestRng::from_seed(config.rng_algorithm, &seed);
    let mut runner = TestRunner::new_with_rng(config, rng);
    for _ in 0..5 {
        let mut values = Vec::new();
        for _ in 0..80 {
            let tree = hostile().new_tree(&mut runner).map_err(|error| anyhow::anyhow!("{error}"))?;
            values.push(tree.current());
        }
        let mut values = values.into_iter().cycle();
        let asked = ask(&node, Box::new(move || values.next().unwrap_or_default())).await;
        asked.with_context(|| format!("seed {seed:?}"))?;
        // Connections are kept: a new node reads what the old one may have kept, too.
        node = serve().await?;
    }
    let found = recorder.statements()?;
    let news: Vec<&String> = found.difference(&shapes).collect();
    ensure!(news.is_empty(), "seed {seed:?}: {} new shapes: {news:#?}", news.len());
    Ok(())
}

async fn until_saved_things_are_there(node: &Node, key: &str) -> Result<()> {
    let limit = std::time::Duration::from_secs(20);
    reckon_tests::until("the configuration store", limit, async || Ok(node.ask(key, "/v1/metrics").await?.0 == 200))
        .await
}
