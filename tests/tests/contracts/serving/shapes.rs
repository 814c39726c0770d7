//! Whatever a client writes: the statements that reach ClickHouse are the same few texts. Values are parameters.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, TestRng, TestRunner};
use reckon_schemas::stores;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::scene::{CANARY, Scene};

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
    let mut node = scene.serve(&clickhouse, &scene.redis).await?;
    let ask = async |node: &super::scene::Node, questions: Vec<Value>| -> Result<()> {
        for question in questions {
            let (status, answer) = loop {
                match node.post(&scene.read_key, &question).await? {
                    (429, _) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
                    other => break other,
                }
            };
            anyhow::ensure!(matches!(status, 200 | 400 | 404 | 422), "{status} for {question}: {answer}");
            anyhow::ensure!(!answer.to_string().contains(CANARY), "{question}");
        }
        Ok(())
    };
    ask(&node, questions(|| "DRUG".to_owned())).await?;
    let shapes = recorder.statements()?;
    assert!(shapes.len() >= 7, "{} shapes", shapes.len());
    assert!(shapes.iter().all(|shape| !shape.contains("DRUG")), "{shapes:#?}");

    let seed: [u8; 32] = rand::random();
    let config = Config::default();
    let rng = TestRng::from_seed(config.rng_algorithm, &seed);
    let mut runner = TestRunner::new_with_rng(config, rng);
    for _ in 0..5 {
        let mut values = Vec::new();
        for _ in 0..40 {
            let tree = hostile().new_tree(&mut runner).map_err(|error| anyhow::anyhow!("{error}"))?;
            values.push(tree.current());
        }
        let mut values = values.into_iter().cycle();
        let asked = ask(&node, questions(|| values.next().unwrap_or_default())).await;
        asked.with_context(|| format!("seed {seed:?}"))?;
        // Connections are kept: a new node reads what the old one may have kept, too.
        node = scene.serve(&clickhouse, &scene.redis).await?;
    }
    let found = recorder.statements()?;
    let news: Vec<&String> = found.difference(&shapes).collect();
    assert!(news.is_empty(), "seed {seed:?}: {} new shapes: {news:#?}", news.len());
    Ok(())
}
