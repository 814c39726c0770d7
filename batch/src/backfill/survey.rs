//! Which days lack the rollup, and which version of the lake holds each of them as it was settled.

use std::collections::{BTreeMap, BTreeSet};

use deltalake::DeltaTable;
use futures::TryStreamExt;
use jiff::civil::Date;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::period::Period;
use reckon_schemas::settlement::State;

use super::Request;
use crate::Error;
use crate::lake::{self, Lake, LakeError, blame};
use crate::recount::PinnedLake;
use crate::retention::Held;
use crate::settle::{PeriodDay, Store};

/// What is known of the days that are asked for.
pub(super) struct Survey {
    /// Those that are to be filled, in order.
    pub(super) days: Vec<PeriodDay>,
    /// How many have the rollup already, or no event at all.
    pub(super) complete: u64,
    /// How many are not settled: the settlement will count the rollup.
    pub(super) unsettled: u64,
    /// The closed periods that days to be filled are in.
    pub(super) closed: BTreeSet<Period>,
    /// The days by the version of the lake that is to be counted.
    pub(super) sources: BTreeMap<u64, Vec<Date>>,
    /// Deliveries by day in the newest version.
    pub(super) deliveries: BTreeMap<Date, u64>,
    /// That version.
    pub(super) newest: u64,
    /// What the lake still holds.
    pub(super) held: Held,
    /// How many days lack the rollup and have expired.
    pub(super) expired: u64,
}

impl Survey {
    pub(super) async fn take(request: &Request, tenant: &Tenant, store: &Store, lake: &Lake) -> Result<Self, Error> {
        let (from, to) = (request.from, request.to);
        let settled = store.settled_between(&tenant.id, from, to).await?;
        let rollup = request.rollup.name();
        let counted = store.runs_with_rollup(&tenant.id, rollup, (from, to)).await?;
        let filled = store.backfilled_days(&tenant.id, rollup).await?;
        let asked = from.until(to).map_or(0, |span| span.get_days()) + 1;
        let asked = u64::try_from(asked).unwrap_or(0);
        let (known, unsettled) = (settled.len() as u64, asked.saturating_sub(settled.len() as u64));
        let lacks = |day: &PeriodDay| {
            day.events > 0 && !filled.contains(&day.day) && !counted.contains(&(day.day, day.run_id.clone()))
        };
        let table = lake.events().await?;
        let held = Held::of(&table).await?;
        let lacking = settled.into_iter().filter(lacks);
        let (days, expired): (Vec<PeriodDay>, Vec<PeriodDay>) =
            lacking.partition(|day| held.holds(day.day, &tenant.time_zone));
        let expired = expired.len() as u64;
        let mut survey = Self {
            complete: known - days.len() as u64 - expired,
            unsettled,
            closed: days.iter().filter(|day| day.state == State::Closed).map(|day| Period::of(day.day)).collect(),
            sources: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            newest: 0,
            held,
            expired,
            days,
        };
        survey.check_zone(tenant)?;
        if !survey.days.is_empty() {
            survey.find_sources(tenant, &table).await?;
        }
        Ok(survey)
    }

    /// A day whose borders were others when it was settled cannot be filled by those of today.
    fn check_zone(&self, tenant: &Tenant) -> Result<(), Error> {
        let zone = &tenant.time_zone;
        let moved =
            |day: &&PeriodDay| (day.window.start, day.window.end) != (zone.day_start(day.day), zone.day_end(day.day));
        match self.days.iter().find(moved) {
            None => Ok(()),
            Some(day) => Err(Error::Config(format!(
                "{} was settled as the day from {} to {}, and is another one in the zone {} of today's catalog: it can \
                 only be filled in the zone that it was settled in",
                day.day,
                day.window.start,
                day.window.end,
                zone.name()
            ))),
        }
    }

    /// A day that the lake has got nothing for since is counted from the newest version, with all others like it, in one
    /// pass; any other day from the version that it was settled from.
    async fn find_sources(&mut self, tenant: &Tenant, table: &DeltaTable) -> Result<(), Error> {
        self.newest = lake::version(table);
        let count = async { Ok(PinnedLake::new(table).await?.deliveries_by_day(tenant).await?) };
        self.deliveries = blame(count, table, &tenant.id).await?;
        for day in &self.days {
            let is_unchanged = self.deliveries.get(&day.day) == Some(&day.deliveries);
            let version = if is_unchanged { self.newest } else { day.lake_version };
            self.sources.entry(version).or_default().push(day.day);
        }
        Ok(())
    }

    /// The settlement of a day.
    pub(super) fn settlement(&self, day: Date) -> &PeriodDay {
        let place = self.days.binary_search_by_key(&day, |known| known.day);
        &self.days[place.expect("only days of the survey are counted")]
    }

    /// Deliveries of the days to be filled, in the version that is counted: as many as their settlements knew.
    pub(super) fn settled_deliveries(&self) -> BTreeMap<Date, u64> {
        self.days.iter().map(|day| (day.day, day.deliveries)).collect()
    }
}

/// A file of a tenant in the lake.
pub(super) struct FileSize {
    /// The date that its rows are filed under.
    pub(super) date: Date,
    pub(super) bytes: u64,
    pub(super) rows: u64,
}

/// A tenant's files at the table's loaded version, as the table's log describes them.
pub(super) async fn sizes(table: &DeltaTable, tenant: &Tenant) -> Result<Vec<FileSize>, Error> {
    let unreadable = |reason: String| LakeError::Unavailable { table: table.table_url().to_string(), reason };
    let mut views = table.get_active_add_actions_by_partitions(&[]);
    let mut files = Vec::new();
    while let Some(view) = views.try_next().await.map_err(|error| unreadable(error.to_string()))? {
        let mut values = view.partition_values_map();
        if values.remove("tenant").flatten().as_deref() != Some(tenant.id.as_str()) {
            continue;
        }
        let date = values.remove("event_date").flatten().and_then(|date| date.parse().ok());
        files.push(FileSize {
            date: date.ok_or_else(|| unreadable(format!("{} is filed under no date", view.path())))?,
            bytes: view.size().unsigned_abs(),
            rows: view.num_records().unwrap_or(0) as u64,
        });
    }
    Ok(files)
}
