//! What a backfill says: what it did, or what it would do and at what cost.

use std::collections::BTreeMap;

use jiff::civil::Date;
use reckon_schemas::ids::TenantId;
use reckon_schemas::period::Period;
use serde::Serialize;
use uuid::Uuid;

use super::Request;
use super::count::{Filling, Part};
use super::survey::{Survey, sizes};
use crate::Error;
use crate::count::{pieces, span};
use crate::lake::Lake;

/// A dry run counts so many days to know how many cells there will be; with no more days than that it is exact.
const SAMPLE_DAYS: usize = 3;

/// What was done, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Whose days.
    pub tenant: TenantId,
    /// The rollup's name.
    pub rollup: String,
    /// The first day asked for.
    pub from: Date,
    /// The last day asked for.
    pub to: Date,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// The run that the cells are written under.
    pub run_id: Option<Uuid>,
    /// How many days were filled, or would be.
    pub days: u64,
    /// How many of the days asked for have the rollup already, or no event.
    pub days_complete: u64,
    /// How many are not settled yet: their settlement counts the rollup.
    pub days_unsettled: u64,
    /// How many have left the lake, and cannot be filled.
    pub days_expired: u64,
    /// How many cells, at all grains.
    pub cells: u64,
    /// `exact`, or `estimated` from a few days.
    pub cells_method: &'static str,
    /// What has to be read; of a dry run only.
    pub cost: Option<Cost>,
    /// The closed periods that days to be filled are in.
    pub closed_periods: Vec<Period>,
    /// The versions of the lake that are counted.
    pub lake_versions: Vec<u64>,
    /// What was looked at.
    pub checklist: Vec<Check>,
}

/// What has to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Rows, those that are read twice twice.
    pub rows: u64,
    /// The sizes of the files that they are in; of a file only some columns are read.
    pub bytes_at_most: u64,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name: `settled`, `closed`, `held`, `lake`, `fits`.
    pub name: &'static str,
    /// Whether nothing stands against filling the days.
    pub good: bool,
    /// What was found.
    pub finding: String,
}

impl Outcome {
    pub(super) fn of(request: &Request, survey: &Survey) -> Self {
        let good = |name, finding| Check { name, good: true, finding };
        let days = survey.days.len() as u64;
        let closed: Vec<String> = survey.closed.iter().map(ToString::to_string).collect();
        let closed = if closed.is_empty() {
            "no day is in a closed period".to_owned()
        } else {
            format!(
                "{}: the rows, runs, content hashes, manifests and signatures stay as they are; the new cells stand \
                 beside them and must add up to them",
                closed.join(", ")
            )
        };
        let from_newest = survey.sources.get(&survey.newest).map_or(0, Vec::len) as u64;
        let mut checklist = vec![
            good(
                "settled",
                format!(
                    "{days} days lack the rollup, {} have it or no event, {} are not settled yet",
                    survey.complete, survey.unsettled
                ),
            ),
            good("closed", closed),
        ];
        if survey.expired > 0 {
            let finding = format!("{} days have left the lake: there is nothing to count them from", survey.expired);
            checklist.push(Check { name: "held", good: false, finding });
        }
        if days > 0 {
            checklist.push(good(
                "lake",
                format!(
                    "{from_newest} days have the deliveries that were settled, {} got more since and are counted from \
                     the version that they were settled from",
                    days - from_newest
                ),
            ));
        }
        Self {
            tenant: request.tenant.clone(),
            rollup: request.rollup.name().to_owned(),
            from: request.from,
            to: request.to,
            dry_run: request.dry_run,
            run_id: None,
            days,
            days_complete: survey.complete,
            days_unsettled: survey.unsettled,
            days_expired: survey.expired,
            cells: 0,
            cells_method: "exact",
            cost: None,
            closed_periods: survey.closed.iter().copied().collect(),
            lake_versions: survey.sources.keys().copied().collect(),
            checklist,
        }
    }

    pub(super) fn filled(mut self, run_id: Uuid, parts: &[Part]) -> Self {
        self.run_id = Some(run_id);
        self.cells = parts.iter().map(|part| part.cells).sum();
        self.lake_versions = parts.iter().map(|part| part.lake_version).collect();
        self.checklist.push(Check {
            name: "fits",
            good: true,
            finding: format!("{} days add up to what was published, in every window", self.days),
        });
        self
    }

    /// Counts a few days to know how many cells there will be and whether they fit, and adds up what has to be read.
    pub(super) async fn estimate(&mut self, filling: &Filling<'_>, survey: &Survey, lake: &Lake) -> Result<(), Error> {
        self.cost = Some(cost(filling, survey, lake).await?);
        let last = survey.days.len() - 1;
        let mut sample: Vec<usize> = (0..SAMPLE_DAYS).map(|part| last * part / (SAMPLE_DAYS - 1)).collect();
        sample.dedup();
        let mut misfits = Vec::new();
        let (mut counted, mut cells) = (0_u64, 0_u64);
        for place in &sample {
            let day = &survey.days[*place];
            let part = filling.count(survey, lake, day.lake_version, &[day.day]).await?;
            counted += part.days.len() as u64;
            cells += part.cells;
            misfits.extend(part.misfits);
        }
        let days = survey.days.len() as u64;
        let is_exact = counted == days;
        self.cells = if is_exact { cells } else { (cells * days).checked_div(counted).unwrap_or(0) };
        self.cells_method = if is_exact { "exact" } else { "estimated" };
        self.checklist.push(Check {
            name: "fits",
            good: misfits.is_empty(),
            finding: match misfits.first() {
                None => format!("{counted} of {days} days were counted: they add up to what was published"),
                Some(misfit) => format!("what was counted does not add up to what was published: {}", misfit.text),
            },
        });
        Ok(())
    }
}

/// All files of the tenant are read for every group of days whose first deliveries are found together, and those of the
/// days once more.
async fn cost(filling: &Filling<'_>, survey: &Survey, lake: &Lake) -> Result<Cost, Error> {
    let known: BTreeMap<Date, u64> = survey.settled_deliveries();
    let utc = reckon_schemas::time::Zone::UTC;
    let mut cost = Cost::default();
    for (version, days) in &survey.sources {
        let files = sizes(&lake.events_at(*version).await?, filling.tenant).await?;
        let mut read = |is_read: &dyn Fn(Date) -> bool| {
            for file in files.iter().filter(|file| is_read(file.date)) {
                cost.rows += file.rows;
                cost.bytes_at_most += file.bytes;
            }
        };
        for days in pieces(days, &known, filling.tuning.group_deliveries) {
            read(&|_| true);
            for days in pieces(days, &known, filling.tuning.chunk_deliveries) {
                let span = span(days, &filling.tenant.time_zone);
                let (first, last) = (utc.day_of(span.start), utc.day_of(span.end.plus_micros(-1)));
                read(&|date| (first..=last).contains(&date));
            }
        }
    }
    Ok(cost)
}
