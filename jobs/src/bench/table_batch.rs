//! The rows of the batch layer's benchmark: a recount beside other engines on the same files.

use serde_json::Value;

use super::table::{Row, Run, grouped, megabytes};

/// A row for a line that an engine printed.
pub(super) fn recount_row(line: &Value, run: &Run<'_>) -> Row {
    let engine = line["engine"].as_str().unwrap_or("?");
    let name = match engine {
        "reckon" => "reckon",
        "duckdb" => "DuckDB",
        "duckdb-keys" => "DuckDB, by 128-bit keys",
        "clickhouse" => "ClickHouse",
        "polars" => "Polars",
        other => other,
    };
    let work = if line["work"] == "single" { "one grouping" } else { "4 rollups, 4 grains" };
    let limit = line["process_mb"].as_u64().map_or(String::new(), |limit| format!(", in a process of {limit} MB"));
    let what = format!("{name}: {work}{limit}");
    if let Some(why) = line["failed"].as_str() {
        return Row { what, rate: "–".to_owned(), details: why.to_owned(), wanted: String::new() };
    }
    let mut details =
        format!("{} events, {} cells in {} s, {} MB", line["events"], line["groups"], line["seconds"], megabytes(line));
    if line["spilled_mb"].as_u64().is_some_and(|spilled| spilled > 0) {
        details.push_str(&format!(" and {} MB on disk", line["spilled_mb"]));
    }
    let same_work = |other: &&Value| {
        other["line"] == "recount" && other["work"] == line["work"] && other["events"] == line["events"]
    };
    let differs = |other: &Value| {
        ["digest", "groups", "amount_minor", "users_summed", "product"].iter().any(|name| other[*name] != line[*name])
    };
    let comparable: Vec<&Value> = run.lines().iter().filter(same_work).collect();
    if comparable.iter().any(|other| differs(other)) {
        details.push_str("; ANOTHER ANSWER THAN OTHERS");
    } else if comparable.len() > 1 {
        details.push_str("; same answer");
    }
    let duckdb = comparable.iter().find(|other| other["engine"] == "duckdb");
    let ratio = |of: &Value, to: &Value| of.as_f64().zip(to.as_f64()).map(|(of, to)| of / to.max(f64::MIN_POSITIVE));
    let mut wanted = String::new();
    if let Some(duckdb) = duckdb.filter(|_| engine == "reckon") {
        let speed = ratio(&duckdb["seconds"], &line["seconds"]).unwrap_or(f64::NAN);
        let memory = ratio(&line["usage"]["rss_bytes_max"], &duckdb["usage"]["rss_bytes_max"]).unwrap_or(f64::NAN);
        details.push_str(&format!("; {speed:.1} times DuckDB's speed with {memory:.2} of its memory"));
        "3 times DuckDB's speed, 0.25 of its memory".clone_into(&mut wanted);
    }
    Row { what, rate: grouped(line["events_per_second"].as_f64().unwrap_or(0.0)), details, wanted }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(engine: &str, seconds: f64, megabytes: u64, digest: &str) -> Value {
        json!({
            "line": "recount", "engine": engine, "work": "single", "events": 99, "groups": 5, "digest": digest,
            "seconds": seconds, "events_per_second": 9, "usage": {"rss_bytes_max": megabytes * 1_000_000},
        })
    }

    #[test]
    fn an_answer_that_differs_is_not_hidden() {
        let lines = [line("reckon", 2.0, 100, "a"), line("duckdb", 8.0, 1000, "a"), line("polars", 9.0, 9, "b")];
        let row = recount_row(&lines[0], &Run(&lines));
        assert!(row.details.contains("ANOTHER ANSWER"), "{}", row.details);
        assert!(row.details.contains("4.0 times DuckDB's speed with 0.10 of its memory"), "{}", row.details);
        let row = recount_row(&lines[0], &Run(&lines[..2]));
        assert!(row.details.contains("same answer") && !row.details.contains("ANOTHER"), "{}", row.details);
    }
}
