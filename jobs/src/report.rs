//! The reconciliation as a table for people, and as one line of JSON for programs.

use std::fmt::Write;

use comfy_table::presets;
use comfy_table::{Cell, CellAlignment, Row, Table};
use indicatif::BinaryBytes;
use reckon_batch::nightly::{Outcome, Read, Report, ReportRow};
use reckon_schemas::catalog::Measure;
use reckon_schemas::settlement::Reason;
use reckon_schemas::sums::Unit;

/// Writes one line to standard output: what a command is asked for goes there, everything else is a log line.
#[expect(clippy::print_stdout, reason = "the only place that writes results")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Prints every report as a table, what was read for them if anything was, then all of it as one line of JSON.
pub(crate) fn print(outcome: &Outcome) -> anyhow::Result<()> {
    let Outcome { reports, posted, expired, read } = outcome;
    if !reports.is_empty() {
        say(text(reports)?.trim_end());
    }
    if *read != Read::default() {
        let (lake, index) = (BinaryBytes(read.lake_bytes), BinaryBytes(read.index_bytes));
        let rows = read.lake_rows;
        say(&format!("read: {rows} rows of the lake, {lake}; {index} of the index of first deliveries"));
    }
    say(&serde_json::to_string(&serde_json::json!({
        "settled": reports.iter().map(|report| report.days).sum::<u64>(),
        "explained": reports.iter().all(|report| report.explained),
        "reports": reports,
        "adjusted": posted,
        "expired": expired,
        "read": read,
    }))?);
    Ok(())
}

/// The tables for people.
pub(crate) fn text(reports: &[Report]) -> anyhow::Result<String> {
    let mut text = String::new();
    for report in reports {
        writeln!(
            text,
            "\nReconciliation of {} · {} to {} ({} days) · run {} · lake version {}\n{}",
            report.tenant,
            report.first_day,
            report.last_day,
            report.days,
            report.run_id,
            report.lake_version,
            rows_table(&report.rows)
        )?;
        writeln!(
            text,
            "{} deliveries, {} events, {} distinct users over all days (exact); {}",
            report.deliveries,
            report.events,
            report.users_exact,
            if report.explained {
                "every difference is explained: residual 0"
            } else {
                "NOT every difference is explained"
            },
        )?;
        if report.conflicts > 0 {
            writeln!(
                text,
                "  {} deliveries contradict the first delivery of their event, which counts: see the table `conflicts`",
                report.conflicts
            )?;
        }
        for cell in &report.worst {
            writeln!(
                text,
                "  unexplained: {} {} {} {:?} {}: speed {}, batch {}, residual {}",
                cell.cell.day,
                cell.cell.rollup,
                cell.cell.event,
                cell.cell.dimensions,
                measure_name(cell.measure),
                cell.speed,
                cell.batch,
                cell.residual
            )?;
        }
    }
    Ok(text)
}

/// Sums of drift, with a column for every reason that occurs.
pub(crate) fn rows_table(rows: &[ReportRow]) -> Table {
    // Only the reasons that occur get a column.
    let reasons: Vec<Reason> = Reason::ALL
        .into_iter()
        .filter(|reason| rows.iter().any(|row| row.reasons.get(reason).is_some_and(|share| *share != 0)))
        .collect();
    let mut header = vec!["rollup", "event", "measure", "speed", "batch", "drift"];
    header.extend(reasons.iter().map(|reason| reason.name()));
    header.extend(["residual", "cells"]);
    let mut table = table(header);
    for row in rows {
        let mut cells = vec![
            Cell::new(&row.rollup),
            Cell::new(&row.event),
            Cell::new(row.unit.as_ref().map_or_else(|| measure_name(row.measure).to_owned(), Unit::to_string)),
        ];
        let shares = reasons.iter().map(|reason| row.reasons.get(reason).copied().unwrap_or(0));
        let numbers = [row.speed, row.batch, row.drift].into_iter().chain(shares).chain([row.residual]);
        cells.extend(numbers.map(|number| right(amount(row, number))));
        cells.push(right(row.cells.to_string()));
        table.add_row(cells);
    }
    table
}

/// An empty table, as every command prints them.
pub(crate) fn table<T: Into<Row>>(header: T) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(header);
    table
}

/// A cell of a table of numbers.
pub(crate) fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn amount(row: &ReportRow, number: i128) -> String {
    row.unit.as_ref().map_or_else(|| number.to_string(), |unit| unit.format(number))
}

/// What people call a measure.
pub(crate) const fn measure_name(measure: Measure) -> &'static str {
    match measure {
        Measure::Count => "events",
        Measure::Money => "money",
        Measure::Sum => "sum",
        Measure::Users => "users/day",
        Measure::ActiveUsers => "active users",
        Measure::Top => "top",
    }
}
