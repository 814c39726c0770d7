//! Questions as a body, answers in every form, pages, groups beyond the limit, filters.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use arrow::array::{Array, Decimal128Array, StringArray, TimestampMicrosecondArray};
use arrow::ipc::reader::StreamReader;
use futures::future::join_all;
use serde_json::{Value, json};

use super::scene::{FIRST, Node, Scene, sketch};

const THREE_DAYS: &str = "from=2026-03-07&to=2026-03-10&grain=1d";

impl Node {
    /// Asks with a body; the status, and the body as JSON.
    pub(super) async fn post(&self, key: &str, body: &Value) -> Result<(u16, Value)> {
        let request = self.http.post(format!("{}/v1/query", self.url)).bearer_auth(key).json(body);
        let answer = request.send().await?;
        Ok((answer.status().as_u16(), answer.json().await?))
    }

    /// Asks for a form; the status, the content type, the next page and the body.
    pub(super) async fn form(
        &self,
        key: &str,
        path: &str,
        accept: &str,
    ) -> Result<(u16, String, Option<String>, Vec<u8>)> {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(key).header("accept", accept);
        let answer = request.send().await?;
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (content_type, next) = (header("content-type").unwrap_or_default(), header("reckon-next"));
        Ok((answer.status().as_u16(), content_type, next, answer.bytes().await?.to_vec()))
    }
}

pub(super) fn values(items: &Value, path: &str) -> Vec<Value> {
    let items = items.as_array().cloned().unwrap_or_default();
    items.iter().map(|item| item.pointer(path).cloned().unwrap_or(Value::Null)).collect()
}

#[tokio::test]
async fn a_body_asks_what_a_query_string_asks() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let question =
        json!({"metric": "revenue", "from": "2026-03-07", "to": "2026-03-10", "grain": "1d", "by": ["department"]});
    let (status, mut posted) = node.post(&scene.read_key, &question).await?;
    assert_eq!((status, &posted["total"]["value"]), (200, &json!("3534.00")), "{posted:#}");
    let (_, mut got) =
        node.ask(&scene.read_key, &format!("/v1/query?metric=revenue&{THREE_DAYS}&by=department")).await?;
    let history = "/v1/metrics/revenue/history?from=2026-03-07&to=2026-03-10&granularity=1d&by=department";
    let (_, mut history) = node.ask(&scene.read_key, history).await?;
    for answer in [&mut posted, &mut got, &mut history] {
        for moving in ["computed_at", "speed_lag_ms", "age_ms"] {
            answer.as_object_mut().context("an answer")?.remove(moving);
        }
    }
    assert_eq!(posted, got);
    assert_eq!(posted, history);

    let (status, several) = node
        .post(&scene.read_key, &json!([question, {"metric": "unknown"}, {"metric": "revenue", "grain": "1w"}]))
        .await?;
    assert_eq!(status, 200, "{several}");
    assert_eq!(several[0]["answer"]["total"]["value"], "3534.00");
    assert_eq!((&several[1]["problem"]["status"], &several[2]["problem"]["parameter"]), (&json!(404), &json!("grain")));
    Ok(())
}

#[tokio::test]
async fn a_body_that_is_no_question_is_refused_with_a_reason() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    for (body, status, word) in [
        (json!({"metric": "revenue", "tenant": "other"}), 400, "tenant"),
        (json!({"metric": "revenue", "filters": [{"dimension": "department", "like": ["D"]}]}), 400, "like"),
        (json!("revenue"), 400, ""),
        (json!({}), 400, "metric"),
        (Value::Array(vec![json!({"metric": "revenue"}); 17]), 400, "16"),
        (json!({"metric": "revenue", "by": ["total"]}), 422, "total"),
        (json!({"metric_text": "sum(quantity) / count(*)", "by": ["a,b"]}), 422, "a,b"),
        (json!({"metric": "x".repeat(300_000)}), 413, "less"),
    ] {
        let (found, problem) = node.post(&scene.read_key, &body).await?;
        assert_eq!(found, status, "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(word)), "{problem}");
    }
    let request = node.http.post(format!("{}/v1/query", node.url)).bearer_auth(&scene.read_key);
    let answer = request.header("content-type", "text/plain").body("{\"metric\":\"revenue\"}").send().await?;
    assert_eq!(answer.status(), 415);
    assert_eq!(node.post("", &json!({"metric": "revenue"})).await?.0, 401);
    assert_eq!(node.post(&scene.write_key, &json!({"metric": "revenue"})).await?.0, 403);
    // A list costs a query for each question.
    let (status, problem) = node.post(&scene.read_key, &Value::Array(vec![json!({"metric": "revenue"}); 16])).await?;
    assert_eq!(status, 200, "{problem}");
    let list = Value::Array(vec![json!({"metric": "x"}); 16]);
    let answers = join_all((0..12).map(|_| node.post(&scene.read_key, &list))).await;
    let statuses = answers.into_iter().map(|answer| Ok(answer?.0)).collect::<Result<Vec<_>>>()?;
    assert!(statuses.contains(&429) && statuses.contains(&200), "{statuses:?}");
    Ok(())
}

#[tokio::test]
async fn every_form_has_the_same_digits_and_their_provenance() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let path = format!("/v1/query?metric=revenue&{THREE_DAYS}&by=department");
    let (status, content_type, _, csv) = node.form(&scene.read_key, &path, "text/csv").await?;
    assert_eq!((status, content_type.as_str()), (200, "text/csv; charset=utf-8; header=present"));
    let csv = String::from_utf8(csv)?;
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "kind,department,start,end,value,unit,method,error_bound,state,as_of,run_id");
    assert_eq!(
        lines[1],
        "point,GROCERY,2026-03-07T05:00:00Z,2026-03-08T05:00:00Z,1000.00,USD,exact,0.00,settled,2026-03-09T06:00:00Z,run-1"
    );
    let kinds: Vec<&str> = lines[1..].iter().filter_map(|line| line.split(',').next()).collect();
    assert_eq!(kinds, ["point", "point", "point", "total", "point", "point", "total", "grand_total"]);
    assert!(
        lines[8]
            .starts_with("grand_total,,2026-03-07T05:00:00Z,2026-03-10T04:00:00Z,3534.00,USD,exact,0.00,provisional,")
    );

    let arrow = "application/vnd.apache.arrow.stream";
    let (status, content_type, _, bytes) = node.form(&scene.read_key, &path, arrow).await?;
    assert_eq!((status, content_type.as_str()), (200, arrow));
    let batches = StreamReader::try_new(&bytes[..], None)?.collect::<Result<Vec<_>, _>>()?;
    let [batch] = &batches[..] else { anyhow::bail!("{} batches", batches.len()) };
    let names: Vec<&str> = batch.schema_ref().fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names.join(","), lines[0]);
    let column = |name: &str| batch.column_by_name(name).context("a column");
    let decimals = column("value")?.as_any().downcast_ref::<Decimal128Array>().context("decimals")?;
    let starts = column("start")?.as_any().downcast_ref::<TimestampMicrosecondArray>().context("times")?;
    let runs = column("run_id")?.as_any().downcast_ref::<StringArray>().context("texts")?;
    assert_eq!((decimals.scale(), decimals.value(0), decimals.value(7)), (2, 100_000, 353_400));
    assert_eq!((starts.value(0), runs.value(0), runs.is_null(7)), (1_772_859_600_000_000, "run-1", true));
    for row in 0..batch.num_rows() {
        let fields: Vec<&str> = lines[row + 1].split(',').collect();
        assert_eq!(decimals.value_as_string(row), fields[4], "row {row}");
    }

    for (accept, status) in [("application/xml", 406), ("text/html, */*;q=0.1", 200)] {
        let (found, content_type, _, body) = node.form(&scene.read_key, &path, accept).await?;
        assert_eq!(found, status, "{}", String::from_utf8_lossy(&body));
        assert!(status == 200 || content_type == "application/problem+json", "{content_type}");
    }
    // A dimension may be called like a column.
    let (_, _, _, csv) =
        node.form(&scene.read_key, &format!("/v1/query?metric=households&{THREE_DAYS}"), "text/csv").await?;
    let csv = String::from_utf8(csv)?;
    assert!(csv.contains("\ntotal,2026-03-07T05:00:00Z,2026-03-10T04:00:00Z,155,users,hll,0,provisional,"), "{csv}");
    Ok(())
}

#[tokio::test]
async fn pages_follow_each_other_while_new_events_arrive() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let path = "/v1/metrics/revenue/history?granularity=1d&by=department";
    let (status, first) = node.ask(&scene.read_key, &format!("{path}&from=2026-03-07&to=2026-03-10&page=1")).await?;
    assert_eq!((status, &first["total"]["value"]), (200, &json!("1500.00")), "{first}");
    // In the order of names, so that it does not change with the numbers.
    assert_eq!(values(&first["groups"], "/dimensions/department"), ["DRUG", "GROCERY"]);
    let mut next = first["next"].as_str().context("a next page")?.to_owned();
    assert_eq!(next, "2026-03-08T05:00:00Z/2026-03-10T04:00:00Z");
    let mut totals = Vec::new();
    for page in 0..2 {
        if page == 1 {
            scene.flush_to_redis(6, 550).await?;
        }
        let path = format!("{path}&page=1&cursor={next}");
        let (status, answer) = node.ask(&scene.read_key, &path).await?;
        assert_eq!(status, 200, "{answer}");
        totals.push(answer["total"]["value"].clone());
        let (_, _, header, _) = node.form(&scene.read_key, &path, "text/csv").await?;
        assert_eq!(header.as_deref(), answer["next"].as_str());
        next = answer["next"].as_str().unwrap_or_default().to_owned();
    }
    assert_eq!((totals, next.as_str()), (vec![json!("2000.00"), json!("35.50")], ""));
    // More windows than one answer may have, in pages.
    let long = "/v1/metrics/revenue/history?granularity=1m&from=2020-01-01&to=2026-03-10";
    assert_eq!(node.ask(&scene.read_key, long).await?.0, 422);
    let (status, page) = node.ask(&scene.read_key, &format!("{long}&page=500")).await?;
    assert_eq!((status, &page["next"]), (200, &json!("2020-01-01T13:20:00Z/2026-03-10T04:00:00Z")), "{page}");
    for refused in [
        "&page=0",
        "&cursor=soon",
        "&page=1&limit=1",
        "&from=2026-03-07&cursor=2026-03-08T05:00:00Z/2026-03-10T04:00:00Z",
    ] {
        assert_eq!(node.ask(&scene.read_key, &format!("{path}{refused}")).await?.0, 400, "{refused}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_beyond_the_limit_is_added_up_or_counted_anew() -> Result<()> {
    let scene = Scene::new().await?;
    // Of the users 30 to 49 some are in DRUG, too: 40 to 49.
    scene.settled_cell(("2026-03-07", FIRST), "run-1", Some("DELI"), 2_000, 30..50).await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let ask = async |metric: &str, rest: &str| -> Result<Value> {
        let (status, answer) =
            node.ask(&scene.read_key, &format!("/v1/query?metric={metric}&by=department&grain=1d&{rest}")).await?;
        anyhow::ensure!(status == 200, "{answer}");
        Ok(answer)
    };
    let revenue = ask("revenue", "from=2026-03-07&to=2026-03-10&limit=1").await?;
    assert_eq!(values(&revenue["groups"], "/dimensions/department"), ["GROCERY"], "{revenue:#}");
    assert_eq!((&revenue["truncated"], &revenue["groups_count"]), (&json!(true), &json!(3)));
    assert_eq!(revenue["other"]["total"]["value"], "524.00");
    assert_eq!(values(&revenue["other"]["points"], "/number/value"), ["520.00", "4.00"]);
    assert_eq!(revenue["total"]["value"], "3554.00");

    // 40 to 99 and 30 to 49: 70, and not 80. Over settled days exactly, beyond them as a union of sketches.
    let settled = ask("households", "from=2026-03-07&to=2026-03-09&limit=1").await?;
    assert_eq!(
        (&settled["groups"][0]["total"]["value"], &settled["groups_count"]),
        (&json!(150), &json!(3)),
        "{settled:#}"
    );
    let other = &settled["other"]["total"];
    assert_eq!((&other["value"], &other["method"]), (&json!(70), &json!("exact")), "{settled:#}");
    assert_eq!(values(&settled["other"]["points"], "/number/value"), [70]);
    let all = ask("households", "from=2026-03-07&to=2026-03-10&limit=1").await?;
    let mut union = sketch(30..100);
    union.merge(&sketch(200..205));
    assert_eq!(
        (&all["other"]["total"]["value"], &all["other"]["total"]["method"]),
        (&json!(union.estimate()), &json!("hll"))
    );
    assert_eq!(values(&all["other"]["parts"], "/number/value"), [70, 0, 5]);
    // Fresher in Redis, and only what is beyond the limit.
    scene.flush_to_redis(6, 550).await?;
    let fresher = ask("households", "from=2026-03-09&to=2026-03-10&limit=1").await?;
    assert_eq!(fresher["groups"][0]["dimensions"], json!({"department": "GROCERY"}));
    assert_eq!(fresher["other"]["total"]["value"], 6, "{fresher:#}");
    let nothing_left = ask("revenue", "from=2026-03-07&to=2026-03-10&limit=3").await?;
    assert_eq!((&nothing_left["truncated"], &nothing_left["other"]), (&json!(false), &Value::Null));
    Ok(())
}

#[tokio::test]
async fn filters_take_in_leave_out_and_compare_beginnings() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let totals = async |filters: &str| -> Result<(Value, Value)> {
        let ask = async |metric: &str| -> Result<Value> {
            let (status, answer) =
                node.ask(&scene.read_key, &format!("/v1/query?metric={metric}&{THREE_DAYS}&{filters}")).await?;
            anyhow::ensure!(status == 200, "{answer}");
            Ok(answer["total"]["value"].clone())
        };
        Ok((ask("purchases").await?, ask("households").await?))
    };
    let expected: BTreeMap<&str, (i64, i64)> = BTreeMap::from([
        ("not=department:DRUG", (170, 150)),
        ("not=department:DRUG&not=department:GROCERY", (0, 0)),
        ("prefix=department:GR", (170, 150)),
        ("prefix=department:GR&prefix=department:D", (235, 155)),
        ("prefix=department:D&not=department:GROCERY", (65, 65)),
        ("prefix=department:%25", (0, 0)),
        ("filter=department:DRUG&not=department:DRUG", (0, 0)),
    ]);
    for (filters, (purchases, households)) in &expected {
        assert_eq!(totals(filters).await?, (json!(purchases), json!(households)), "{filters}");
    }
    // The fresher store is held against the same conditions.
    scene.flush_to_redis(6, 550).await?;
    assert_eq!(totals("not=department:GROCERY").await?, (json!(66), json!(66)));
    assert_eq!(totals("prefix=department:GRO").await?, (json!(170), json!(150)));
    Ok(())
}
