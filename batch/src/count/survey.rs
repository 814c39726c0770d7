//! What the lake holds of a tenant, before anything is counted: by the index of first deliveries, or, if everything is to
//! be counted anew or the index is of no use, by reading the whole lake.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use deltalake::DeltaTable;
use jiff::civil::Date;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::time::EventTime;

use super::counter::{Counter, Firsts};
use super::days::span;
use crate::Error;
use crate::cluster::Engine;
use crate::objects::Objects;
use crate::recount::{Budget, Delivered, Index, IndexError, PinnedLake, Reading};

/// See the module.
pub(crate) struct Survey<'a> {
    /// The lake, and who counts it.
    pub(crate) counter: Counter<'a>,
    surveyor: &'a Surveyor<'a>,
    budget: Arc<Budget>,
    index: Option<Index>,
    deliveries: BTreeMap<Date, u64>,
    events: BTreeMap<Date, u64>,
}

/// What surveys are made with.
pub(crate) struct Surveyor<'a> {
    pub(crate) tenant: &'a Tenant,
    pub(crate) engine: &'a Engine,
    pub(crate) objects: &'a Objects,
    /// How many bytes of keys are kept in memory while events are told apart.
    pub(crate) memory_bytes: usize,
    /// For how many deliveries an index is made at once.
    pub(crate) group_deliveries: u64,
    /// The whole lake is read: no index is trusted, and none is kept.
    pub(crate) full: bool,
    pub(crate) reading: Arc<Reading>,
}

impl Surveyor<'_> {
    /// Surveys a version of the lake.
    ///
    /// # Errors
    /// As the lake; an index that cannot be used is none.
    pub(crate) async fn survey(&self, table: &DeltaTable) -> Result<Survey<'_>, Error> {
        let counter = Counter::measured(self.engine, table, self.tenant, &self.reading).await?;
        let budget = Budget::new(self.memory_bytes);
        let index = self.index(&counter.pinned, &budget).await?;
        let (deliveries, events) = match &index {
            Some(index) => (index.deliveries_by_day(), index.events_by_day()),
            None => (counter.deliveries_by_day().await?, BTreeMap::new()),
        };
        Ok(Survey { counter, surveyor: self, budget, index, deliveries, events })
    }

    async fn index(&self, pinned: &PinnedLake, budget: &Arc<Budget>) -> Result<Option<Index>, Error> {
        if self.full {
            self.forget_index().await;
        }
        // A cluster reads the whole lake in the time of a part.
        if self.full || *self.engine != Engine::Local {
            return Ok(None);
        }
        match Index::at(pinned, self.tenant, self.objects, budget, self.group_deliveries).await {
            Ok(index) => Ok(Some(index)),
            Err(IndexError::Lake(error)) => Err(error.into()),
            Err(IndexError::Unusable(reason)) => {
                tracing::warn!(tenant = %self.tenant.id, reason, "without an index the whole lake is read");
                Ok(None)
            }
        }
    }

    /// The next index is made from the lake alone.
    async fn forget_index(&self) {
        if let Err(error) = Index::forget(self.objects, self.tenant, &self.reading).await {
            tracing::warn!(tenant = %self.tenant.id, %error, "the index stays, although it was to be made anew");
        }
    }
}

impl Survey<'_> {
    /// How many deliveries there are for each day.
    pub(crate) fn deliveries(&self) -> &BTreeMap<Date, u64> {
        &self.deliveries
    }

    /// How many events each day has; nothing where only a count could tell.
    pub(crate) fn events(&self) -> &BTreeMap<Date, u64> {
        &self.events
    }

    /// The memory for the keys of this survey's counts.
    pub(crate) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// The table at the version that was surveyed.
    pub(crate) fn table(&self) -> &DeltaTable {
        self.counter.pinned.table()
    }

    /// That version.
    pub(crate) fn version(&self) -> u64 {
        self.counter.pinned.version()
    }

    /// Finds the first delivery of every event that has one on these days.
    ///
    /// # Errors
    /// As the lake.
    pub(crate) async fn first_deliveries(&self, days: &[Date]) -> Result<Firsts, Error> {
        if let Some(index) = &self.index {
            match index.first_deliveries(span(days, &self.surveyor.tenant.time_zone)).await {
                Ok(firsts) => return Ok(firsts.into()),
                Err(error) => self.is_of_no_use(&error).await,
            }
        }
        self.counter.first_deliveries(days, &self.deliveries, &self.budget).await
    }

    /// All deliveries of the events that were delivered more than once and at least once in a span; nothing where only the
    /// whole lake could tell.
    pub(crate) async fn repeats(&self, span: Range<EventTime>) -> Option<Vec<Delivered>> {
        match self.index.as_ref()?.repeats(span).await {
            Ok(repeats) => Some(repeats),
            Err(error) => {
                self.is_of_no_use(&error).await;
                None
            }
        }
    }

    async fn is_of_no_use(&self, error: &IndexError) {
        tracing::warn!(tenant = %self.surveyor.tenant.id, %error, "the whole lake is read instead");
        self.surveyor.forget_index().await;
    }
}
