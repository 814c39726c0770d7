//! The rows of the serving layer's benchmark.

use serde_json::Value;

use super::super::table::{Row, grouped, number};

/// A row for a line about queries.
pub(crate) fn serving_row(line: &Value) -> Row {
    let (how, what) = (line["how"].as_str().unwrap_or("?"), line["what"].as_str().unwrap_or("?"));
    if how == "at once" {
        return Row {
            what: format!("{} ask at once: {what}", line["queries"]),
            rate: String::new(),
            details: format!(
                "{} computation, {} SELECTs (one request alone: {}), all answered in {} ms",
                line["computations"],
                line["selects"],
                line["selects_of_one"],
                number(&line["all_answered_ms"])
            ),
            wanted: "1 computation".to_owned(),
        };
    }
    let wanted = match (how, what) {
        ("kept", _) => "p99 under 5 ms",
        ("computed", "24 hours by minutes") => "p99 under 100 ms",
        ("computed", _) => "p99 under 300 ms",
        _ => "",
    };
    Row {
        what: format!("{how}: {what}"),
        rate: String::new(),
        details: format!(
            "{} queries of {} clients over {} rows: {} ms p50, {} ms p99, {} ms at the most",
            line["queries"],
            line["clients"],
            grouped(line["rows"].as_f64().unwrap_or(0.0)),
            number(&line["p50_ms"]),
            number(&line["p99_ms"]),
            number(&line["max_ms"])
        ),
        wanted: wanted.to_owned(),
    }
}

/// A row for a line about live clients.
pub(crate) fn live_row(line: &Value) -> Row {
    let missed = match line["deliveries_missed"].as_u64() {
        Some(0) => String::new(),
        _ => format!("; {} MISSED", line["deliveries_missed"]),
    };
    let seconds = line["changes"].as_f64().unwrap_or(f64::NAN);
    Row {
        what: format!(
            "{} live clients, {}",
            grouped(line["clients"].as_f64().unwrap_or(0.0)),
            line["transport"].as_str().unwrap_or("?").to_uppercase()
        ),
        rate: grouped(line["deliveries"].as_f64().unwrap_or(0.0) / seconds),
        details: format!(
            "delivered after {} ms p50, {} ms p99, {} ms at the most; {:.1} KB a client; cores: node {}, load {}{missed}",
            line["delivery_p50_ms"],
            line["delivery_p99_ms"],
            line["delivery_max_ms"],
            line["bytes_per_client"].as_f64().unwrap_or(f64::NAN) / 1e3,
            number(&line["cores"]),
            number(&line["cores_of_the_load"]),
        ),
        wanted: "p99 under 1000 ms, 20 KB a client".to_owned(),
    }
}
