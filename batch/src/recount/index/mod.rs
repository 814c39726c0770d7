//! The index of first deliveries: what a count has to know of a tenant's other days, without reading them.
//!
//! An event may be delivered again at any time, under another date, and even with a log time before that of the delivery
//! that was counted. So a count of one day depends on all others. The index keeps, for each date that the lake files
//! deliveries under: which of the lake's files it was read from, how many deliveries each calendar day has, every delivery
//! of the events that were delivered more than once ([`repeats`]), and a mark of each event's key ([`marks`]).
//!
//! It is derived from the lake and from nothing else. Bringing it to a version of the lake reads the files that it does
//! not know yet, asks the marks in which dates their events were delivered before, and reads those dates; what decides are
//! the 128-bit keys in the lake. It says of every day how many events it has, so that a day is due as soon as one of its
//! events was delivered earlier elsewhere. Every file has a checksum, and one file, written last, names all others: what a
//! crash leaves behind is not named. An index that is missing, damaged, of another build, table or zone is made anew; where
//! it cannot be made, whoever needs it reads the whole lake instead.

mod extend;
mod files;
mod marks;
mod repeats;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use jiff::civil::Date;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::time::{EventTime, Zone};

use self::extend::Extension;
use self::files::Files;
pub(crate) use self::repeats::Delivered;
use self::repeats::first_deliveries;
use self::state::{DayCounts, State};
use super::firsts::FirstDeliveries;
use super::partitions::Budget;
use super::reading::Reading;
use super::{PinnedLake, RecountError};
use crate::objects::Objects;

/// Why the index does not help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    /// Of no use now; the lake still is.
    #[error("the index of first deliveries cannot be used: {0}")]
    Unusable(String),
    /// The lake is not, either.
    #[error(transparent)]
    Lake(#[from] RecountError),
}

/// The index of a tenant at a version of the lake.
#[derive(Debug)]
pub(crate) struct Index {
    files: Files,
    state: State,
}

impl Index {
    /// Brings the tenant's index to the pinned version. Takes about `deliveries_at_once` in at once: some 70 bytes each,
    /// of which what the budget has no room for waits on disk.
    ///
    /// # Errors
    /// [`IndexError`].
    pub(crate) async fn at(
        pinned: &PinnedLake,
        tenant: &Tenant,
        objects: &Objects,
        budget: &Arc<Budget>,
        deliveries_at_once: u64,
    ) -> Result<Self, IndexError> {
        let files = Files::new(objects, &tenant.id, pinned.reading());
        let snapshot = pinned.table().snapshot().map_err(RecountError::from)?;
        let (table, zone) = (snapshot.metadata().id(), tenant.time_zone.name());
        let known = State::load(&files, table, zone).await?;
        let extension = Extension { pinned, tenant, files: &files, budget, deliveries_at_once };
        let mut state = known.clone();
        let extended = match extension.extend(&mut state).await {
            Ok(extended) => extended,
            Err(IndexError::Unusable(reason)) => {
                tracing::warn!(tenant = %tenant.id, reason, "the index of first deliveries is made anew");
                false
            }
            Err(lake) => return Err(lake),
        };
        if !extended {
            state = State::new(table, zone);
            extension.extend(&mut state).await?;
        }
        if state.dates != known.dates {
            state.save(&files).await?;
        }
        Ok(Self { files, state })
    }

    /// How many deliveries the lake holds for each calendar day.
    pub(crate) fn deliveries_by_day(&self) -> BTreeMap<Date, u64> {
        self.by_day(|day| day.deliveries)
    }

    /// How many events each calendar day has: those of its deliveries that are the first ones.
    pub(crate) fn events_by_day(&self) -> BTreeMap<Date, u64> {
        self.by_day(|day| day.deliveries - day.later)
    }

    fn by_day(&self, count: impl Fn(&DayCounts) -> u64) -> BTreeMap<Date, u64> {
        let mut days = BTreeMap::new();
        for (day, counts) in self.state.dates.values().flat_map(|shelf| &shelf.days) {
            *days.entry(*day).or_default() += count(counts);
        }
        days
    }

    /// The first delivery of every event of which one lies in a span.
    ///
    /// # Errors
    /// [`IndexError::Unusable`].
    pub(crate) async fn first_deliveries(&self, span: Range<EventTime>) -> Result<FirstDeliveries, IndexError> {
        Ok(first_deliveries(&self.repeats(span).await?))
    }

    /// All deliveries of the events that were delivered more than once and at least once in a span, event by event, the
    /// first one first.
    ///
    /// # Errors
    /// [`IndexError::Unusable`].
    pub(crate) async fn repeats(&self, span: Range<EventTime>) -> Result<Vec<Delivered>, IndexError> {
        let (first, last) = (Zone::UTC.day_of(span.start), Zone::UTC.day_of(span.end.plus_micros(-1)));
        let mut repeats = Vec::new();
        for (_, shelf) in self.state.dates.range(first..=last) {
            if let Some(file) = &shelf.repeats {
                repeats.extend(file.read(&self.files).await?);
            }
        }
        // An event of two dates is named by both.
        repeats.sort_unstable_by_key(Delivered::order);
        repeats.dedup();
        Ok(repeats)
    }

    /// Removes a tenant's index; the next one is made from the lake alone.
    ///
    /// # Errors
    /// [`IndexError::Unusable`].
    pub(crate) async fn forget(objects: &Objects, tenant: &Tenant, reading: &Arc<Reading>) -> Result<(), IndexError> {
        Files::new(objects, &tenant.id, reading).keep_only(|_| false).await
    }
}
