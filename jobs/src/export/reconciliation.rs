//! A reconciliation in every format.

use std::collections::BTreeMap;

use jiff::civil::Date;
use reckon_batch::explain::Hour;
use reckon_batch::reconcile::{Report, ReportRow};
use reckon_schemas::catalog::Measure;
use reckon_schemas::cell::Rollup;
use reckon_schemas::settlement::Reason;
use reckon_schemas::sums::Unit;
use reckon_schemas::time::{EventTime, Zone};
use serde::Serialize;
use serde_json::json;

use super::page::{grouped, render};
use super::picture::{Column, Picture, draw};
use super::{CellRow, Format, cells};
use crate::report::measure_name;

/// What no reason explains, as a kind of its own in pictures and tables.
const RESIDUAL: &str = "residual";
/// The most units that get a picture of their own.
const PICTURES_MAX: usize = 4;

/// One tenant's reconciliation with everything behind it.
pub(crate) struct Reconciliation {
    pub(crate) report: Report,
    pub(crate) cells: Vec<CellRow>,
    pub(crate) zone: Zone,
    /// For a single day: events by hour and reason.
    pub(crate) hours: Option<Vec<Hour>>,
}

/// The document.
pub(crate) fn write(format: Format, mut reconciliations: Vec<Reconciliation>) -> anyhow::Result<Vec<u8>> {
    for one in &mut reconciliations {
        one.cells.sort_by(|a, b| (&a.cell, &a.drift.unit).cmp(&(&b.cell, &b.drift.unit)));
    }
    let rows = || reconciliations.iter().flat_map(|one| one.cells.iter().cloned()).collect::<Vec<CellRow>>();
    match format {
        Format::Csv => cells::csv(&rows()),
        Format::Parquet => cells::parquet(&rows()),
        Format::Text | Format::Json => {
            let reports: Vec<&Report> = reconciliations.iter().map(|one| &one.report).collect();
            let cells: Vec<serde_json::Value> = rows().iter().map(CellRow::json).collect();
            let mut document = serde_json::to_vec_pretty(&json!({ "reports": reports, "cells": cells }))?;
            document.push(b'\n');
            Ok(document)
        }
        Format::Html => {
            let pages: Vec<Page> = reconciliations.iter().map(Page::of).collect();
            render("reconciliation.html", &json!({ "pages": pages }))
        }
    }
}

/// What the template shows of one tenant.
#[derive(Serialize)]
struct Page {
    tenant: String,
    span: String,
    run_id: String,
    lake_version: u64,
    settled_at: String,
    zone: String,
    horizon: Option<String>,
    explained: bool,
    tiles: Vec<(String, String)>,
    reasons: Vec<&'static str>,
    rows: Vec<Line>,
    pictures: Vec<Picture>,
    days: Vec<Line>,
    worst: Vec<Line>,
}

/// A line of a table: names, then numbers, then the same numbers by reason.
#[derive(Serialize)]
struct Line {
    names: Vec<String>,
    numbers: Vec<String>,
    reasons: Vec<String>,
    residual: String,
    wrong: bool,
}

impl Page {
    fn of(one: &Reconciliation) -> Self {
        let report = &one.report;
        let occurs =
            |reason: &Reason| report.rows.iter().any(|row| row.reasons.get(reason).is_some_and(|share| *share != 0));
        let reasons: Vec<Reason> = Reason::ALL.into_iter().filter(occurs).collect();
        let local = |at: jiff::Timestamp| format!("{} UTC", at.strftime("%Y-%m-%d %H:%M:%S"));
        let is_day = report.first_day == report.last_day;
        Self {
            tenant: report.tenant.to_string(),
            span: if is_day {
                report.first_day.to_string()
            } else {
                format!("{} to {}", report.first_day, report.last_day)
            },
            run_id: report.run_id.to_string(),
            lake_version: report.lake_version,
            settled_at: local(report.settled_at),
            zone: one.zone.name().to_owned(),
            horizon: report.horizon.map(local),
            explained: report.explained,
            tiles: tiles(report),
            rows: report.rows.iter().map(|row| total_line(row, &reasons)).collect(),
            pictures: match &one.hours {
                Some(hours) => vec![hours_picture(hours, report.first_day, &one.zone)],
                None => pictures(one),
            },
            days: if is_day { Vec::new() } else { day_lines(one, &reasons) },
            worst: report.worst.iter().map(worst_line).collect(),
            reasons: reasons.into_iter().map(Reason::name).collect(),
        }
    }
}

fn tiles(report: &Report) -> Vec<(String, String)> {
    let drift = report.rows.iter().find(|row| row.rollup == Rollup::TOTAL && row.measure == Measure::Count);
    let residual_cells = report.rows.iter().map(|row| row.cells_with_residual).sum::<u64>();
    let tile = |name: &str, number: String| (name.to_owned(), grouped(&number));
    let mut tiles = vec![
        tile("days", report.days.to_string()),
        tile("deliveries", report.deliveries.to_string()),
        tile("events, each once", report.events.to_string()),
        tile("distinct users", report.users_exact.to_string()),
    ];
    tiles.extend(drift.map(|row| tile(&format!("drift, {}", row.event), row.drift.to_string())));
    tiles.push(tile("unexplained", residual_cells.to_string()));
    tiles
}

fn total_line(row: &ReportRow, reasons: &[Reason]) -> Line {
    let text = |number: i128| number_text(row.unit.as_ref(), number);
    let measure = row.unit.as_ref().map_or_else(|| measure_name(row.measure).to_owned(), Unit::to_string);
    Line {
        names: vec![row.rollup.clone(), row.event.clone(), measure],
        numbers: [row.speed, row.batch, row.drift].map(text).to_vec(),
        reasons: reasons.iter().map(|reason| share_text(row.reasons.get(reason).copied(), text)).collect(),
        residual: text(row.residual),
        wrong: row.cells_with_residual > 0,
    }
}

fn number_text(unit: Option<&Unit>, number: i128) -> String {
    grouped(&unit.map_or_else(|| number.to_string(), |unit| unit.format(number)))
}

/// Nothing is not worth ink.
fn share_text(share: Option<i128>, text: impl Fn(i128) -> String) -> String {
    share.filter(|share| *share != 0).map_or_else(String::new, text)
}

/// Amounts of one day in one unit, summed over the cells without dimensions.
#[derive(Default)]
struct DaySum {
    speed: i128,
    batch: i128,
    reasons: BTreeMap<Reason, i128>,
    residual: i128,
}

/// By measure's unit (`None`: events), then by day.
fn by_day(one: &Reconciliation) -> BTreeMap<Option<Unit>, BTreeMap<Date, DaySum>> {
    let mut days: BTreeMap<Option<Unit>, BTreeMap<Date, DaySum>> = BTreeMap::new();
    let counted = |row: &&CellRow| row.cell.rollup == Rollup::TOTAL && row.drift.measure != Measure::Users;
    for row in one.cells.iter().filter(counted) {
        let day = days.entry(row.drift.unit.clone()).or_default().entry(row.cell.day).or_default();
        day.speed = day.speed.saturating_add(row.drift.speed);
        day.batch = day.batch.saturating_add(row.drift.batch);
        day.residual = day.residual.saturating_add(row.drift.residual);
        for (reason, share) in &row.drift.reasons {
            let sum = day.reasons.entry(*reason).or_insert(0);
            *sum = sum.saturating_add(*share);
        }
    }
    days
}

/// From the first day with events to the last one: years of nothing would squeeze the rest.
fn days_with_events(one: &Reconciliation) -> impl Iterator<Item = Date> + use<> {
    let days = one.cells.iter().map(|row| row.cell.day);
    let (first, last) = (days.clone().min(), days.max());
    std::iter::successors(first, |day| day.tomorrow().ok()).take_while(move |day| Some(*day) <= last)
}

fn kinds() -> Vec<&'static str> {
    Reason::ALL.map(Reason::name).into_iter().chain([RESIDUAL]).collect()
}

fn pictures(one: &Reconciliation) -> Vec<Picture> {
    let days = by_day(one);
    let picture = |(unit, days): (&Option<Unit>, &BTreeMap<Date, DaySum>)| {
        let columns: Vec<Column> = days_with_events(one)
            .map(|day| {
                let sums = days.get(&day);
                let mut amounts: BTreeMap<&'static str, i128> = BTreeMap::new();
                if let Some(sums) = sums {
                    amounts.extend(sums.reasons.iter().map(|(reason, share)| (reason.name(), *share)));
                    amounts.insert(RESIDUAL, sums.residual);
                }
                Column { label: day.to_string(), amounts }
            })
            .collect();
        let title = unit.as_ref().map_or_else(|| "events".to_owned(), Unit::to_string);
        draw(&format!("Drift by reason and day, {title}"), &columns, &kinds(), |number| {
            number_text(unit.as_ref(), number)
        })
    };
    days.iter().take(PICTURES_MAX).map(picture).collect()
}

/// The hours of a calendar day, 23 to 25 of them.
fn hours_picture(hours: &[Hour], day: Date, zone: &Zone) -> Picture {
    let (start, end) = (zone.day_start(day), zone.day_end(day));
    let windows = reckon_schemas::window::Grain::Hour.windows_over(start, end, zone);
    let columns: Vec<Column> = windows
        .map(|window| {
            let inside = hours.iter().filter(|hour| window.start == EventTime::from_timestamp(hour.start));
            let label = zone.time_of_day(window.start.max(start));
            Column { label, amounts: inside.map(|hour| (hour.reason.name(), i128::from(hour.events))).collect() }
        })
        .collect();
    let title = format!("Drift by reason and hour of {day} ({}), events", zone.name());
    draw(&title, &columns, &kinds(), |number| grouped(&number.to_string()))
}

/// Days that differ; the others would be pages of zeros.
fn day_lines(one: &Reconciliation, reasons: &[Reason]) -> Vec<Line> {
    let mut lines = Vec::new();
    for (unit, days) in by_day(one) {
        let text = |number: i128| number_text(unit.as_ref(), number);
        for (day, sums) in days {
            if sums.speed == sums.batch && sums.residual == 0 && sums.reasons.values().all(|share| *share == 0) {
                continue;
            }
            let measure = unit.as_ref().map_or_else(|| "events".to_owned(), Unit::to_string);
            let numbers = [sums.speed, sums.batch, sums.speed.saturating_sub(sums.batch)];
            let line = Line {
                names: vec![day.to_string(), measure],
                numbers: numbers.map(text).to_vec(),
                reasons: reasons.iter().map(|reason| share_text(sums.reasons.get(reason).copied(), text)).collect(),
                residual: text(sums.residual),
                wrong: sums.residual != 0,
            };
            lines.push((day, line));
        }
    }
    lines.sort_by_key(|(day, _)| *day);
    lines.into_iter().map(|(_, line)| line).collect()
}

fn worst_line(worst: &reckon_batch::reconcile::WorstCell) -> Line {
    let text = |number: i128| number_text(worst.unit.as_ref(), number);
    let cell = &worst.cell;
    let measure = worst.unit.as_ref().map_or_else(|| measure_name(worst.measure).to_owned(), Unit::to_string);
    Line {
        names: vec![
            cell.day.to_string(),
            cell.rollup.clone(),
            cell.event.clone(),
            cell.dimensions.join(" · "),
            measure,
        ],
        numbers: [worst.speed, worst.batch].map(text).to_vec(),
        reasons: Vec::new(),
        residual: text(worst.residual),
        wrong: true,
    }
}
