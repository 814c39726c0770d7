//! The lines of a run as one table, with the ratios that are asked for.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use comfy_table::{Cell, CellAlignment, ContentArrangement};
use serde_json::Value;

use super::serving::{live_row, serving_row};
use super::table_batch::recount_row;
use crate::report::{self, say};

const WIDTH: u16 = 120;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The file with one line of JSON for each measurement.
    file: PathBuf,
}

/// One row: what was measured, how fast it was, what it took, what is wanted.
pub(super) struct Row {
    pub(super) what: String,
    pub(super) rate: String,
    pub(super) details: String,
    pub(super) wanted: String,
}

/// Prints the table of a file.
pub(crate) fn print(arguments: &Arguments) -> Result<()> {
    let path = &arguments.file;
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines: Vec<Value> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| serde_json::from_str(line).with_context(|| format!("no JSON in {}: {line}", path.display())))
        .collect::<Result<_>>()?;
    let mut table = report::table(["line", "per second", "what it took", "wanted"]);
    // As wide as a document shows it; what it took wraps.
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    for line in &lines {
        let Row { what, rate, details, wanted } = row(line, &Run(&lines));
        table.add_row([
            Cell::new(what),
            Cell::new(rate).set_alignment(CellAlignment::Right),
            Cell::new(details),
            Cell::new(wanted),
        ]);
    }
    say(&table.to_string());
    Ok(())
}

/// All lines of a run: what ratios are made of.
pub(super) struct Run<'a>(pub(super) &'a [Value]);

impl Run<'_> {
    pub(super) fn lines(&self) -> &[Value] {
        self.0
    }

    fn rate(&self, matches: impl Fn(&Value) -> bool) -> Option<f64> {
        self.0.iter().find(|line| matches(line))?["events_per_second"].as_f64()
    }

    fn counting(&self) -> Option<f64> {
        self.rate(|line| line["line"] == "count")
    }

    fn flink(&self) -> Option<f64> {
        self.rate(|line| line["line"] == "flink")
    }

    fn worker(&self, rollups: u64, workers: u64) -> Option<f64> {
        self.rate(|line| line["line"] == "worker" && line["rollups"] == rollups && line["workers"] == workers)
    }

    /// Bytes for each cell: the difference between the lines with the fewest and with the most cells.
    fn bytes_per_cell(&self) -> Option<f64> {
        let mut lines: Vec<(f64, f64)> = self
            .0
            .iter()
            .filter(|line| line["line"] == "cells")
            .filter_map(|line| Some((line["cells"].as_f64()?, line["usage"]["rss_bytes_max"].as_f64()?)))
            .collect();
        lines.sort_by(|a, b| a.0.total_cmp(&b.0));
        let ((few, small), (many, large)) = (lines.first()?, lines.last()?);
        (many > few).then(|| (large - small) / (many - few))
    }
}

fn row(line: &Value, run: &Run<'_>) -> Row {
    let what = line["line"].as_str().unwrap_or("?");
    let own = line["events_per_second"].as_f64().unwrap_or(0.0);
    let ratio = |other: Option<f64>| other.map_or("?".to_owned(), |other| format!("{:.2}", own / other));
    let basics = format!("{} events in {} s, {} cores", line["events"], line["seconds"], number(&line["cores"]));
    let plain = |what: String, details: String, wanted: &str| Row {
        what,
        rate: grouped(own),
        details,
        wanted: wanted.to_owned(),
    };
    let doubtful = if line["plausible"] == false { "; ITS COUNT IS WRONG" } else { "" };
    match what {
        "fill" => plain(
            "fill the topic".to_owned(),
            format!("{} events of {} bytes in {} s", line["events"], line["bytes_per_event"], line["seconds"]),
            "",
        ),
        "lake" => plain("fill the lake".to_owned(), format!("{} events in {} s", line["events"], line["seconds"]), ""),
        "recount" => recount_row(line, run),
        "count" => plain("consumer that only counts messages".to_owned(), basics, "the limit here"),
        "worker" => worker_row(line, run, own, &basics, &ratio),
        "flink" => plain(
            "Flink, 1 rollup, 1-minute windows".to_owned(),
            format!(
                "{basics}, {} MB{doubtful}; with the start of its JVM {} s",
                megabytes(line),
                line["seconds_with_start"]
            ),
            "",
        ),
        "cells" => {
            let bytes = run.bytes_per_cell().map_or("?".to_owned(), |bytes| format!("{bytes:.0}"));
            plain(
                format!("worker, {} active cells", line["cells"]),
                format!("{basics}, {} MB; {bytes} bytes a cell by difference", megabytes(line)),
                "",
            )
        }
        "collect" => plain(
            format!("collector, {} connections, batches of {}", line["connections"], line["batch"]),
            format!(
                "{basics} (load: {}); answered in {} ms p50, {} ms p99",
                number(&line["cores_of_the_load"]),
                number(&line["answer_p50_ms"]),
                number(&line["answer_p99_ms"])
            ),
            "",
        ),
        "freshness" => freshness_row(line, own),
        "serving" => serving_row(line),
        "live" => live_row(line),
        "raw" => plain(
            "raw events into ClickHouse".to_owned(),
            format!(
                "{} rows in {} s, {} cores; with all it needs beside it {}",
                line["rows"],
                line["seconds"],
                number(&line["cores"]),
                number(&line["cores_of_the_machine"])
            ),
            "",
        ),
        other => plain(other.to_owned(), line.to_string(), ""),
    }
}

fn worker_row(line: &Value, run: &Run<'_>, own: f64, basics: &str, ratio: &dyn Fn(Option<f64>) -> String) -> Row {
    let (rollups, workers) = (line["rollups"].as_u64().unwrap_or(0), line["workers"].as_u64().unwrap_or(0));
    let exact = if line["exact"] == true { "exact" } else { "NOT EXACT" };
    let mut details = format!("{basics}, {} MB; {exact}; {} of counting", megabytes(line), ratio(run.counting()));
    if rollups == 1 && run.flink().is_some() {
        details.push_str(&format!(", {} times Flink", ratio(run.flink())));
    }
    if workers > 1 {
        details.push_str(&format!(", {} of 1 worker", ratio(run.worker(rollups, 1))));
    }
    let wanted = match (rollups, workers) {
        (1, 1) => "700,000; 0.6 of counting; 5 times Flink",
        (4, 1) => "400,000",
        _ => "",
    };
    Row {
        what: format!("worker, {rollups} rollup{}, {workers} process{}", s(rollups, "s"), s(workers, "es")),
        rate: grouped(own),
        details,
        wanted: wanted.to_owned(),
    }
}

fn freshness_row(line: &Value, own: f64) -> Row {
    let fresh = |name: &str| format!("{} / {}", number(&line[name]["p50_ms"]), number(&line[name]["p99_ms"]));
    let mut details = format!("readable and pushed after {} ms (p50 / p99)", fresh("fresh"));
    if !line["hot_share"].is_null() {
        details.push_str(&format!("; tenants beside the hot one: {}", fresh("fresh_other_tenants")));
    }
    details.push_str(&format!(
        "; cores: collector {}, worker {}, load {}; unseen {}",
        number(&line["cores_of_the_collector"]),
        number(&line["cores_of_the_worker"]),
        number(&line["cores_of_the_load"]),
        line["probes_unseen"]
    ));
    let hot = line["hot_share"].as_f64().map_or(String::new(), |share| format!(", one tenant {:.0} %", share * 100.0));
    Row {
        what: format!("freshness at {} events/s{hot}", line["rate"]),
        rate: grouped(own),
        details,
        wanted: "p99 under 1000 ms".to_owned(),
    }
}

fn s(number: u64, plural: &'static str) -> &'static str {
    if number == 1 { "" } else { plural }
}

pub(super) fn megabytes(line: &Value) -> String {
    line["usage"]["rss_bytes_max"].as_f64().map_or("?".to_owned(), |bytes| format!("{:.0}", bytes / 1e6))
}

pub(super) fn number(value: &Value) -> String {
    value.as_f64().map_or("?".to_owned(), |number| format!("{number:.2}"))
}

/// A whole number with its thousands apart.
pub(super) fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn thousands_are_apart() {
        assert_eq!([1.0, 999.6, 1234.0, 1_234_567.0].map(grouped), ["1", "1,000", "1,234", "1,234,567"]);
    }

    #[test]
    fn ratios_are_made_of_the_other_lines() {
        let cells =
            |cells: u64, bytes: u64| json!({"line": "cells", "cells": cells, "usage": {"rss_bytes_max": bytes}});
        let lines = [
            json!({"line": "count", "events_per_second": 1000}),
            json!({"line": "flink", "events_per_second": 100}),
            json!({"line": "worker", "rollups": 1, "workers": 1, "events_per_second": 600, "exact": false}),
            cells(1000, 5_000_000),
            cells(11_000, 9_000_000),
        ];
        let run = Run(&lines);
        let row = row(&lines[2], &run);
        assert!(row.details.contains("0.60 of counting, 6.00 times Flink"), "{}", row.details);
        assert!(row.details.contains("NOT EXACT"));
        assert_eq!(run.bytes_per_cell(), Some(400.0));
    }
}
