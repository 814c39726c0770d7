//! Compares what the worker left in ClickHouse with the exact count: events and money to the unit, users within the
//! sketch's bound, and every delivery that was not counted with its reason.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;
use clickhouse::Row;
use reckon_schemas::cell::Rollup;
use reckon_schemas::sketch::STANDARD_ERROR;
use reckon_schemas::time::EventTime;
use serde::Deserialize;
use serde_json::{Value, json};

use super::events::{NAMES, tenant};
use super::expected::{CellKey, Expected, Recount};
use super::rounded;
use super::scene::Scene;

/// A worst case over hundreds of estimates lies further out than the three standard errors of a single one.
const USERS_SIGMAS_MAX: f64 = 4.5;

const CELLS: &str = "
    SELECT CAST(tenant AS String) AS tenant, CAST(event AS String) AS event, dimensions,
        toUnixTimestamp64Micro(window_start) AS start_us, count, CAST(money['USD'] AS Int128) AS minor
    FROM speed_cells WHERE rollup = ? AND grain = ?";
const USERS: &str = "
    SELECT CAST(tenant AS String) AS tenant, CAST(event AS String) AS event, uniqCombined64Merge(14)(users) AS users
    FROM speed_cells WHERE rollup = 'total' AND grain = '1d' GROUP BY tenant, event";
const EXCEPTIONS: &str =
    "SELECT CAST(reason AS String) AS reason, count() AS deliveries FROM speed_exceptions FINAL GROUP BY reason";
const ROWS: &str =
    "SELECT count() AS written, uniqExact(tenant, rollup, grain, window_start, event, dimensions) AS cells
    FROM speed_cells_raw";

#[derive(Row, Deserialize)]
struct CellRow {
    tenant: String,
    event: String,
    dimensions: Vec<String>,
    start_us: i64,
    count: u64,
    minor: i128,
}

#[derive(Row, Deserialize)]
struct UsersRow {
    tenant: String,
    event: String,
    users: u64,
}

#[derive(Row, Deserialize)]
struct ExceptionRow {
    reason: String,
    deliveries: u64,
}

#[derive(Row, Deserialize)]
struct RowsRow {
    written: u64,
    cells: u64,
}

/// The outcome.
pub(crate) struct Compared {
    /// Whether every cell is exact, every estimate within its bound, and nothing was left out but repetitions.
    pub(crate) exact: bool,
    pub(crate) json: Value,
}

#[derive(Default)]
struct Differences {
    compared: usize,
    missing: usize,
    unexpected: usize,
    different: usize,
    first: Option<String>,
}

/// Compares the hours and the day of every rollup.
pub(crate) async fn compare(scene: &Scene, recount: &Recount, rollups: &[String]) -> Result<Compared> {
    let client = scene.clickhouse();
    let mut differences = Differences::default();
    for rollup in std::iter::once(Rollup::TOTAL.to_owned()).chain(rollups.iter().cloned()) {
        let parsed: Rollup = rollup.parse()?;
        for (grain, whole_day) in [("1h", false), ("1d", true)] {
            let expected = recount.expected(parsed.dimensions(), whole_day)?;
            let rows: Vec<CellRow> = client.query(CELLS).bind(&rollup).bind(grain).fetch_all().await?;
            differences.add(expected, rows, &format!("{rollup} {grain}"));
        }
    }
    let users: Vec<UsersRow> = client.query(USERS).fetch_all().await?;
    let (users_compared, sigmas) = worst_estimate(recount, &users);
    let exceptions: Vec<ExceptionRow> = client.query(EXCEPTIONS).fetch_all().await?;
    let exceptions: BTreeMap<String, u64> = exceptions.into_iter().map(|row| (row.reason, row.deliveries)).collect();
    let rows: RowsRow = client.query(ROWS).fetch_one().await?;
    let not_counted: u64 = exceptions.values().sum();
    let exact = differences.none()
        && users_compared == recount.users.len()
        && sigmas <= USERS_SIGMAS_MAX
        && not_counted == recount.repeated;
    Ok(Compared {
        exact,
        json: json!({
            "cells": differences.compared,
            "missing": differences.missing,
            "unexpected": differences.unexpected,
            "different": differences.different,
            "first_difference": differences.first,
            "users_cells": users_compared,
            "users_standard_errors_max": rounded(sigmas),
            "repeated": recount.repeated,
            "not_counted": exceptions,
            "cells_in_clickhouse": rows.cells,
            "rows_written": rows.written,
        }),
    })
}

impl Differences {
    fn add(&mut self, mut expected: Expected, rows: Vec<CellRow>, place: &str) {
        self.compared += expected.len();
        for row in rows {
            let key = CellKey {
                tenant: row.tenant,
                event: row.event,
                dimensions: row.dimensions,
                start: EventTime(row.start_us),
            };
            let found = (row.count, row.minor);
            match expected.remove(&key) {
                Some(exact) if exact == found => {}
                Some(exact) => {
                    self.different += 1;
                    self.remember(|| format!("{place} {key:?}: {found:?} instead of {exact:?}"));
                }
                None => {
                    self.unexpected += 1;
                    self.remember(|| format!("{place} {key:?}: {found:?}, and there is no such cell"));
                }
            }
        }
        self.missing += expected.len();
        if let Some((key, exact)) = expected.iter().next() {
            self.remember(|| format!("{place} {key:?}: missing instead of {exact:?}"));
        }
    }

    fn remember(&mut self, text: impl FnOnce() -> String) {
        if self.first.is_none() {
            self.first = Some(text());
        }
    }

    fn none(&self) -> bool {
        self.missing + self.unexpected + self.different == 0
    }
}

/// How many estimates were compared, and how many standard errors the worst one is off.
fn worst_estimate(recount: &Recount, rows: &[UsersRow]) -> (usize, f64) {
    let estimates: HashMap<(&str, &str), u64> =
        rows.iter().map(|row| ((row.tenant.as_str(), row.event.as_str()), row.users)).collect();
    let mut compared = 0;
    let mut worst = 0.0_f64;
    for (tenant_index, name, exact) in &recount.users {
        let tenant = tenant(usize::from(*tenant_index));
        let Some(estimate) = estimates.get(&(tenant.as_str(), NAMES[usize::from(*name)])) else { continue };
        compared += 1;
        // Below a hundred users one user is more than a standard error.
        let bound = (*exact as f64 * STANDARD_ERROR).max(1.0);
        worst = worst.max(estimate.abs_diff(*exact) as f64 / bound);
    }
    (compared, worst)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(hour: i64, count: u64) -> CellRow {
        let start_us = hour * 3_600_000_000;
        CellRow { tenant: "t00".into(), event: "click".into(), dimensions: vec![], start_us, count, minor: 0 }
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        let key = |hour: i64| CellKey {
            tenant: "t00".into(),
            event: "click".into(),
            dimensions: vec![],
            start: EventTime(hour * 3_600_000_000),
        };
        let expected: Expected = (0..3).map(|hour| (key(hour), (7, 0))).collect();
        let mut same = Differences::default();
        same.add(expected.clone(), vec![row(0, 7), row(1, 7), row(2, 7)], "");
        assert!(same.none() && same.compared == 3);
        let mut differs = Differences::default();
        differs.add(expected, vec![row(0, 7), row(1, 8), row(9, 7)], "");
        assert_eq!((differs.missing, differs.different, differs.unexpected), (1, 1, 1));
        assert!(!differs.none() && differs.first.is_some());
    }
}
