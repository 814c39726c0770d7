//! Two periods, two segments.

use std::time::Duration;

use anyhow::{Context, Result};
use arrow::array::{Array, ArrayRef, Decimal128Array, StringArray, TimestampMicrosecondArray};
use arrow::ipc::reader::StreamReader;
use reckon_serving::Tuning;
use serde_json::{Value, json};

use super::asking::values;
use super::scene::{Node, SECOND, Scene};

async fn ask(scene: &Scene, node: &Node, rest: &str) -> Result<Value> {
    let (status, answer) = node.ask(&scene.read_key, &format!("/v1/query?grain=1d&{rest}")).await?;
    anyhow::ensure!(status == 200, "{answer}");
    Ok(answer)
}

#[tokio::test]
async fn a_period_is_compared_with_the_one_before() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    // A day of 23 hours with the usual one before it.
    let answer = ask(&scene, &node, "metric=revenue&from=2026-03-08&to=2026-03-09&compare=previous").await?;
    let comparison = &answer["comparison"];
    assert_eq!(
        (&answer["total"]["value"], &comparison["base"]["total"]["value"]),
        (&json!("2000.00"), &json!("1500.00"))
    );
    assert_eq!(
        (&comparison["base"]["from"], &comparison["base"]["to"]),
        (&json!("2026-03-07T05:00:00Z"), &json!("2026-03-08T05:00:00Z"))
    );
    let (difference, ratio) = (&comparison["total"]["difference"], &comparison["total"]["ratio"]);
    assert_eq!(
        (&difference["value"], &difference["method"], &difference["error_bound"]),
        (&json!("500.00"), &json!("exact"), &json!("0.00"))
    );
    assert_eq!((&ratio["value"], &ratio["error_bound"]), (&json!("1.333333"), &json!("0.000001")));
    // As certain as the less certain side; of two runs.
    assert_eq!((&difference["state"], &difference["run_id"]), (&json!("restated"), &Value::Null));
    assert_eq!((&comparison["kind"], &comparison["same_state"]), (&json!("period"), &json!(false)));
    let point = &comparison["groups"][0]["points"][0];
    assert_eq!(
        (&point["start"], &point["base_start"]),
        (&json!("2026-03-08T05:00:00Z"), &json!("2026-03-07T05:00:00Z"))
    );
    assert_eq!(point["difference"]["value"], "500.00");
    assert_eq!(answer["notes"], json!([]));

    // Provisional with restated; estimates with their bounds.
    let answer = ask(&scene, &node, "metric=revenue&from=2026-03-09&to=2026-03-10&compare=1d").await?;
    assert_eq!(answer["comparison"]["total"]["difference"]["value"], "-1966.00");
    assert_eq!(answer["comparison"]["total"]["difference"]["state"], "provisional");
    let answer = ask(&scene, &node, "metric=households&from=2026-03-09&to=2026-03-10&compare=1d").await?;
    let difference = &answer["comparison"]["total"]["difference"];
    assert_eq!((&difference["value"], &difference["method"]), (&json!(-85), &json!("hll")));
    // Nothing before: a difference, and no ratio.
    let answer = ask(&scene, &node, "metric=revenue&from=2026-03-08&to=2026-03-09&compare=1mo").await?;
    assert_eq!(answer["comparison"]["base"]["from"], "2026-02-08T05:00:00Z");
    assert_eq!(
        (&answer["comparison"]["total"]["difference"]["value"], &answer["comparison"]["total"]["ratio"]),
        (&json!("2000.00"), &Value::Null)
    );
    for (rest, status) in
        [("metric=revenue&compare=soon", 400), ("metric=revenue&from=2026-03-30&to=2026-03-31&compare=1mo", 422)]
    {
        assert_eq!(node.ask(&scene.read_key, &format!("/v1/query?{rest}")).await?.0, status, "{rest}");
    }
    assert_eq!(node.ask(&scene.read_key, "/v1/live?metric=revenue&compare=previous").await?.0, 400);
    Ok(())
}

/// The speed layer is behind all the time.
#[tokio::test]
async fn each_side_says_that_it_is_stale() -> Result<()> {
    let scene = Scene::new().await?;
    let strict = Tuning { speed_lag_max: Duration::ZERO, cache_moving: Duration::from_secs(600), ..Tuning::default() };
    let node = scene.serve_with(&scene.clickhouse, &scene.redis, strict).await?;
    let behind = json!("speed_behind");
    for (day, sides) in [
        ("from=2026-03-08&to=2026-03-09", [&Value::Null, &Value::Null]),
        ("from=2026-03-09&to=2026-03-10", [&behind, &Value::Null]),
        ("from=2026-03-10&to=2026-03-11", [&behind, &behind]),
    ] {
        // Once as it is computed, once as it is kept.
        for _ in 0..2 {
            let answer = ask(&scene, &node, &format!("metric=revenue&{day}&compare=previous")).await?;
            let base = &answer["comparison"]["base"];
            assert_eq!([&answer["stale"]["reason"], &base["stale"]["reason"]], sides, "{answer:#}");
            let moment = |side: &Value| (side["speed_lag_ms"].clone(), side["age_ms"].clone());
            assert_eq!(moment(&answer), moment(base), "both are of one moment: {answer:#}");
        }
    }
    let segment = |value: &str| json!({"name": value, "filters": [{"dimension": "department", "in": [value]}]});
    let segments = json!({"metric": "revenue", "grain": "1d", "from": "2026-03-09", "to": "2026-03-10",
        "segments": [segment("GROCERY"), segment("DRUG")]});
    let (_, answer) = node.post(&scene.read_key, &segments).await?;
    assert_eq!(answer["comparison"]["base"]["stale"]["reason"], "speed_behind", "{answer:#}");
    Ok(())
}

#[tokio::test]
async fn groups_are_compared_with_themselves() -> Result<()> {
    let scene = Scene::new().await?;
    scene.settled_cell(("2026-03-08", SECOND), "run-2", Some("DELI"), 300, 0..3).await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let delta = |answer: &Value, department: &str| -> Result<Value> {
        let groups = answer["comparison"]["groups"].as_array().context("groups")?;
        let group = groups.iter().find(|group| group["dimensions"]["department"] == department);
        Ok(group.with_context(|| format!("{department} in {answer:#}"))?["total"].clone())
    };
    let path = "metric=revenue&by=department&from=2026-03-08&to=2026-03-09&compare=previous";
    let answer = ask(&scene, &node, path).await?;
    assert_eq!(delta(&answer, "GROCERY")?["difference"]["value"], "1000.00");
    // New on the one side, gone from the other.
    assert_eq!(
        (&delta(&answer, "DELI")?["difference"]["value"], &delta(&answer, "DELI")?["ratio"]),
        (&json!("3.00"), &Value::Null)
    );
    assert_eq!(
        (&delta(&answer, "DRUG")?["difference"]["value"], &delta(&answer, "DRUG")?["ratio"]["value"]),
        (&json!("-500.00"), &json!("0"))
    );
    // The base names the groups that are named, whatever is largest there, and the rest is compared with the rest.
    let answer = ask(&scene, &node, &format!("{path}&limit=1")).await?;
    assert_eq!(values(&answer["comparison"]["base"]["groups"], "/dimensions/department"), ["GROCERY"]);
    assert_eq!(answer["comparison"]["other"]["total"]["difference"]["value"], "-497.00", "{answer:#}");
    Ok(())
}

/// A table as texts: CSV as it is, and Arrow as CSV would have it.
#[derive(Debug, PartialEq)]
struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn of_csv(bytes: Vec<u8>) -> Result<Self> {
        let text = String::from_utf8(bytes)?;
        let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned).collect());
        Ok(Self { columns: lines.next().context("a header")?, rows: lines.collect() })
    }

    fn of_arrow(bytes: &[u8]) -> Result<Self> {
        let batch = StreamReader::try_new(bytes, None)?.next().context("a batch")??;
        let text = |column: &ArrayRef, row: usize| -> Result<String> {
            if column.is_null(row) {
                return Ok(String::new());
            }
            let column = column.as_any();
            if let Some(texts) = column.downcast_ref::<StringArray>() {
                return Ok(texts.value(row).to_owned());
            }
            if let Some(times) = column.downcast_ref::<TimestampMicrosecondArray>() {
                return Ok(jiff::Timestamp::from_microsecond(times.value(row))?.to_string());
            }
            Ok(column.downcast_ref::<Decimal128Array>().context("decimals")?.value_as_string(row))
        };
        let row = |row| batch.columns().iter().map(|column| text(column, row)).collect::<Result<Vec<_>>>();
        let columns = batch.schema_ref().fields().iter().map(|field| field.name().clone()).collect();
        Ok(Self { columns, rows: (0..batch.num_rows()).map(row).collect::<Result<_>>()? })
    }

    /// These columns of the rows of a kind.
    fn of_kind(&self, kind: &str, columns: &[&str]) -> Vec<Vec<&str>> {
        let index = |name: &&str| self.columns.iter().position(|column| column == name).expect("a column");
        let columns: Vec<usize> = columns.iter().map(index).collect();
        let rows = self.rows.iter().filter(|row| row[0] == kind);
        rows.map(|row| columns.iter().map(|column| row[*column].as_str()).collect()).collect()
    }
}

/// The ratios of a column have as many decimals as the longest of them in Arrow, and only their own in CSV.
fn without_zeros(mut table: Table) -> Table {
    for cell in table.rows.iter_mut().flatten() {
        if cell.parse::<f64>().is_ok() && cell.contains('.') {
            *cell = cell.trim_end_matches('0').trim_end_matches('.').to_owned();
        }
    }
    table
}

#[tokio::test]
async fn a_comparison_has_the_same_digits_in_every_form() -> Result<()> {
    let scene = Scene::new().await?;
    scene.settled_cell(("2026-03-08", SECOND), "run-2", Some("DELI"), 300, 0..3).await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let path = "/v1/query?grain=1d&metric=revenue&by=department&from=2026-03-08&to=2026-03-09&compare=previous";
    let table = async |path: &str| -> Result<Table> {
        let (status, _, _, csv) = node.form(&scene.read_key, path, "text/csv").await?;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&csv));
        let (_, _, _, arrow) = node.form(&scene.read_key, path, "application/vnd.apache.arrow.stream").await?;
        let arrow = without_zeros(Table::of_arrow(&arrow)?);
        assert_eq!(without_zeros(Table::of_csv(csv.clone())?), arrow);
        Table::of_csv(csv)
    };
    let compared = table(path).await?;
    assert_eq!(
        compared.columns.join(","),
        "kind,department,start,end,value,unit,method,error_bound,state,as_of,run_id,base_start,base_end,base_value,\
         base_unit,base_method,base_error_bound,base_state,base_as_of,base_run_id,difference,difference_error_bound,ratio,\
         ratio_error_bound"
    );
    let digits = ["department", "value", "base_value", "difference", "ratio"];
    let of_groups = [
        vec!["DELI", "3.00", "0.00", "3.00", ""],
        vec!["DRUG", "0.00", "500.00", "-500.00", "0"],
        vec!["GROCERY", "2000.00", "1000.00", "1000.00", "2"],
    ];
    assert_eq!(compared.of_kind("point", &digits), of_groups);
    assert_eq!(compared.of_kind("total", &digits), of_groups);
    assert_eq!(compared.of_kind("grand_total", &digits), [["", "2003.00", "1500.00", "503.00", "1.335333"]]);
    let provenance = [
        "start",
        "end",
        "method",
        "state",
        "run_id",
        "base_start",
        "base_end",
        "base_method",
        "base_state",
        "base_run_id",
    ];
    let of_day = ["2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z", "exact", "restated", "run-2"];
    let of_base = ["2026-03-07T05:00:00Z", "2026-03-08T05:00:00Z", "exact", "settled", "run-1"];
    for kind in ["point", "total", "grand_total"] {
        for row in compared.of_kind(kind, &provenance) {
            assert_eq!(row, [of_day, of_base].concat(), "{kind}");
        }
    }
    // As JSON has them.
    let (_, answer) = node.ask(&scene.read_key, path).await?;
    for (row, group) in of_groups.iter().zip(answer["comparison"]["groups"].as_array().context("groups")?) {
        let named = [&group["dimensions"]["department"], &group["points"][0]["difference"]["value"]];
        assert_eq!(named, [&json!(row[0]), &json!(row[3])], "{answer:#}");
    }
    // What is beyond the limit on either side.
    let limited = table(&format!("{path}&limit=1")).await?;
    let other = ["", "3.00", "500.00", "-497.00", "0.006"];
    assert_eq!([limited.of_kind("other_point", &digits), limited.of_kind("other_total", &digits)], [[other], [other]]);
    // Estimates, and hours that only one of both days has.
    let users = table("/v1/query?grain=1h&metric=households&from=2026-03-08&to=2026-03-09&compare=previous").await?;
    assert!(users.rows.len() > 1, "{users:?}");
    let path = "/v1/query?grain=1d&metric=households&from=2026-03-09&to=2026-03-10&compare=1d";
    let users = table(path).await?;
    let (_, answer) = node.ask(&scene.read_key, path).await?;
    let numbers =
        ["error_bound", "base_error_bound", "difference", "difference_error_bound", "ratio", "ratio_error_bound"];
    let places = [
        "/total/error_bound",
        "/comparison/base/total/error_bound",
        "/comparison/total/difference/value",
        "/comparison/total/difference/error_bound",
        "/comparison/total/ratio/value",
        "/comparison/total/ratio/error_bound",
    ];
    let said = places.map(|place| match answer.pointer(place) {
        Some(Value::String(text)) => text.clone(),
        Some(number) => number.to_string(),
        None => String::new(),
    });
    assert_eq!(users.of_kind("grand_total", &numbers), [said], "{answer:#}");
    let distinct: std::collections::BTreeSet<&str> =
        users.of_kind("grand_total", &numbers)[0].iter().copied().collect();
    assert!(distinct.len() > 2, "numbers that are alike show nothing: {distinct:?}");
    Ok(())
}

#[tokio::test]
async fn two_segments_stand_side_by_side() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let segment =
        |name: &str, value: &str| json!({"name": name, "filters": [{"dimension": "department", "in": [value]}]});
    let question = |metric: &str| {
        json!({"metric": metric, "grain": "1d", "from": "2026-03-07", "to": "2026-03-10",
        "segments": [segment("food", "GROCERY"), segment("pharmacy", "DRUG")]})
    };
    let (status, answer) = node.post(&scene.read_key, &question("revenue")).await?;
    assert_eq!(status, 200, "{answer}");
    let base = &answer["comparison"]["base"];
    assert_eq!((&answer["segment"], &base["segment"]), (&json!("food"), &json!("pharmacy")));
    assert_eq!((&answer["total"]["value"], &base["total"]["value"]), (&json!("3030.00"), &json!("504.00")));
    assert_eq!(answer["comparison"]["total"]["difference"]["value"], "2526.00");
    // The second day had no DRUG: a difference to zero, seen by the run that counted the day, and no ratio.
    let points = &answer["comparison"]["groups"][0]["points"];
    assert_eq!(values(points, "/difference/value"), ["500.00", "2000.00", "26.00"]);
    assert_eq!(values(points, "/difference/state"), ["settled", "restated", "provisional"]);
    assert_eq!(values(points, "/ratio/value"), [json!("2"), Value::Null, json!("7.5")]);
    let request = node.http.post(format!("{}/v1/query", node.url)).bearer_auth(&scene.read_key);
    let csv = request.header("accept", "text/csv").json(&question("revenue")).send().await?.bytes().await?;
    let side_by_side = Table::of_csv(csv.to_vec())?;
    assert_eq!(
        side_by_side.of_kind("point", &["value", "base_value", "difference", "ratio"]),
        [["1000.00", "500.00", "500.00", "2"], ["2000.00", "0.00", "2000.00", ""], ["30.00", "4.00", "26.00", "7.5"],]
    );
    let (_, users) = node.post(&scene.read_key, &question("households")).await?;
    assert_eq!((&users["total"]["value"], &users["comparison"]["base"]["total"]["value"]), (&json!(150), &json!(65)));
    Ok(())
}

#[tokio::test]
async fn a_base_of_cut_windows_is_refused() -> Result<()> {
    let scene = Scene::new().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    for (grain, back, status) in [
        ("1d", "36h", 422),
        ("1d", "23h", 422),
        ("1d", "24h", 200),
        ("1h", "30m", 422),
        ("1h", "36h", 200),
        ("1h", "previous", 200),
    ] {
        let path = format!("/v1/query?metric=revenue&grain={grain}&compare={back}&from=2026-03-07&to=2026-03-08");
        let (found, answer) = node.ask(&scene.read_key, &path).await?;
        assert_eq!(found, status, "{grain} {back}: {answer}");
        if status == 422 {
            assert_eq!(answer["parameter"], "compare");
            assert!(answer["detail"].as_str().is_some_and(|detail| detail.contains("whole windows")), "{answer}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn there_is_no_difference_to_what_nobody_has_counted() -> Result<()> {
    let scene = Scene::new().await?;
    scene.settle_without_departments().await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    let path = "metric=revenue&by=department&from=2026-03-07&to=2026-03-08&compare=previous";
    let answer = ask(&scene, &node, path).await?;
    let comparison = &answer["comparison"];
    assert_eq!(comparison["base"]["gaps"].as_array().map(Vec::len), Some(1), "{answer:#}");
    assert_eq!(values(&comparison["groups"], "/dimensions/department"), ["DRUG", "GROCERY"]);
    assert_eq!(values(&comparison["groups"], "/total/difference"), [Value::Null, Value::Null], "{answer:#}");
    assert_eq!(values(&comparison["groups"], "/points/0/difference"), [Value::Null, Value::Null]);
    assert_eq!(comparison["total"], json!({"difference": null, "ratio": null}));
    let (_, _, _, csv) = node.form(&scene.read_key, &format!("/v1/query?grain=1d&{path}"), "text/csv").await?;
    let digits = ["department", "value", "base_value", "difference", "ratio"];
    let unknown = [["DRUG", "500.00", "", "", ""], ["GROCERY", "1000.00", "", "", ""]];
    assert_eq!(Table::of_csv(csv)?.of_kind("point", &digits), unknown);
    // The total was counted.
    let answer = ask(&scene, &node, &path.replace("by=department&", "")).await?;
    assert_eq!(answer["comparison"]["total"]["difference"]["value"], "800.00", "{answer:#}");
    Ok(())
}

#[tokio::test]
async fn a_gap_of_the_base_is_seen_no_longer_once_it_is_filled() -> Result<()> {
    let scene = Scene::new().await?;
    scene.settle_without_departments().await?;
    let tuning =
        Tuning { standing_interval: Duration::ZERO, cache_moving: Duration::from_secs(600), ..Tuning::default() };
    let node = scene.serve_with(&scene.clickhouse, &scene.redis, tuning).await?;
    let path = "metric=revenue&by=department&from=2026-03-07&to=2026-03-08&compare=previous";
    let first = ask(&scene, &node, path).await?;
    assert_eq!(ask(&scene, &node, path).await?["computed_at"], first["computed_at"], "it is kept");
    let day = ("2026-03-06", ("2026-03-06 05:00:00", "2026-03-07 05:00:00"));
    scene.settled_cell(day, "run-f", Some("GROCERY"), 70_000, 0..70).await?;
    let tenant = &scene.tenant;
    scene
        .sql(&format!(
            "INSERT INTO backfills VALUES ('{tenant}', 'department', '2026-03-06', 'run-f', 'run-0', 7, 100, 'hash', \
             '2026-03-10 06:00:00', '')"
        ))
        .await?;
    let filled = ask(&scene, &node, path).await?;
    assert_eq!(filled["comparison"]["base"]["gaps"], json!([]), "{filled:#}");
    assert_eq!(filled["comparison"]["total"]["difference"]["value"], "800.00");
    Ok(())
}

#[tokio::test]
async fn the_most_frequent_values_are_compared_with_themselves() -> Result<()> {
    let scene = Scene::new().await?;
    let pages = |counts: &[(&str, usize)]| {
        counts.iter().flat_map(|(page, count)| vec![(*page).to_owned(); *count]).collect::<Vec<String>>()
    };
    let before = pages(&[("/", 10), ("/cart", 5), ("/sale", 3), ("/old", 2)]);
    scene.top_in_clickhouse(&scene.tenant, "2026-03-08", 0, 3, &before).await?;
    let after = pages(&[("/", 20), ("/cart", 9), ("/sale", 4), ("/new", 1)]);
    scene.top_in_clickhouse(&scene.tenant, "2026-03-09", 0, 5, &after).await?;
    let node = scene.serve(&scene.clickhouse, &scene.redis).await?;
    // Three are listed, and there are more.
    let answer = ask(&scene, &node, "metric=pages&from=2026-03-09&to=2026-03-10&compare=previous").await?;
    assert_eq!(answer["truncated"], true, "{answer:#}");
    let groups = &answer["comparison"]["groups"];
    assert_eq!(values(groups, "/dimensions/page"), ["/", "/cart", "/sale"], "{answer:#}");
    assert_eq!(values(groups, "/total/difference/value"), [10, 4, 1], "{answer:#}");
    Ok(())
}
