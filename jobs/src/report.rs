//! The reconciliation as a table for people, and as one line of JSON for programs.

use comfy_table::presets;
use comfy_table::{Cell, CellAlignment, Table};
use reckon_batch::nightly::{Posted, Report, ReportRow};
use reckon_schemas::catalog::Measure;
use reckon_schemas::cell::Rollup;
use reckon_schemas::settlement::Reason;
use reckon_schemas::sums::Unit;

/// Writes one line to standard output: what a command is asked for goes there, everything else is a log line.
#[expect(clippy::print_stdout, reason = "the only place that writes results")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// Prints every report as a table, then all of them as one line of JSON.
pub(crate) fn print(reports: &[Report], posted: &[Posted]) -> anyhow::Result<()> {
    for report in reports {
        say(&format!(
            "\nReconciliation of {} · {} to {} ({} days) · run {} · lake version {}",
            report.tenant, report.first_day, report.last_day, report.days, report.run_id, report.lake_version
        ));
        say(&table(report).to_string());
        say(&format!(
            "{} deliveries, {} events, {} distinct users over all days (exact); {}",
            report.deliveries,
            report.events,
            report.users_exact,
            if report.explained {
                "every difference is explained: residual 0"
            } else {
                "NOT every difference is explained"
            },
        ));
        for cell in &report.worst {
            say(&format!(
                "  unexplained: {} {} {} {:?} {}: speed {}, batch {}, residual {}",
                cell.cell.day,
                cell.cell.rollup,
                cell.cell.event,
                cell.cell.dimensions,
                measure_name(cell.measure),
                cell.speed,
                cell.batch,
                cell.residual
            ));
        }
    }
    say(&serde_json::to_string(&serde_json::json!({
        "settled": reports.iter().map(|report| report.days).sum::<u64>(),
        "explained": reports.iter().all(|report| report.explained),
        "reports": reports,
        "adjusted": posted,
    }))?);
    Ok(())
}

fn table(report: &Report) -> Table {
    // Only the reasons that occur get a column.
    let reasons: Vec<Reason> = Reason::ALL
        .into_iter()
        .filter(|reason| report.rows.iter().any(|row| row.reasons.get(reason).is_some_and(|share| *share != 0)))
        .collect();
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    let mut header = vec!["rollup", "event", "measure", "speed", "batch", "drift"];
    header.extend(reasons.iter().map(|reason| reason.name()));
    header.extend(["residual", "cells"]);
    table.set_header(header);
    for row in &report.rows {
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

fn right(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

fn amount(row: &ReportRow, number: i128) -> String {
    row.unit.as_ref().map_or_else(|| number.to_string(), |unit| unit.format(number))
}

const fn measure_name(measure: Measure) -> &'static str {
    match measure {
        Measure::Count => "events",
        Measure::Money => "money",
        Measure::Sum => "sum",
        Measure::Users => "users/day",
        Measure::ActiveUsers => "active users",
        Measure::Top => "top",
    }
}

/// The exact totals of purchases in a set of reports.
pub(crate) struct PurchaseTotals {
    pub(crate) count: i128,
    pub(crate) usd_minor: i128,
    pub(crate) users_exact: u64,
}

/// The exact totals of purchases, from the rows without dimensions. `None` if nothing was settled.
pub(crate) fn purchase_totals(reports: &[Report]) -> Option<PurchaseTotals> {
    let report = reports.first()?;
    let total = |measure: Measure| {
        let rows = report
            .rows
            .iter()
            .filter(move |row| row.rollup == Rollup::TOTAL && row.event == "purchase" && row.measure == measure);
        rows.map(|row| row.batch).sum::<i128>()
    };
    Some(PurchaseTotals {
        count: total(Measure::Count),
        usd_minor: total(Measure::Money),
        users_exact: report.users_exact,
    })
}
