//! Where a tenant's days are counted: in this process or on a cluster. The numbers are the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use deltalake::DeltaTable;
use jiff::civil::Date;
use reckon_schemas::catalog::Tenant;

use super::chunk::{Chunk, Counted};
use super::days::{span, total};
use crate::Error;
use crate::cluster::{Cluster, Engine};
use crate::recount::{Budget, Delivery, FirstDeliveries, Groups, PinnedLake, Place, Reading};
use crate::settle::{Previous, SpeedCut};

/// One tenant's deliveries in one version of the lake, and who counts them.
pub(crate) struct Counter<'a> {
    tenant: &'a Tenant,
    /// The version, for whatever is looked up here.
    pub(crate) pinned: PinnedLake,
    cluster: Option<Cluster>,
}

/// Which deliveries of a few days count.
#[derive(Default)]
pub(crate) struct Firsts {
    /// For whoever has a delivery.
    pub(crate) firsts: FirstDeliveries,
    /// For whoever has none: those that do not count, if a cluster found them.
    repeated: Vec<Place>,
}

impl From<FirstDeliveries> for Firsts {
    fn from(firsts: FirstDeliveries) -> Self {
        Self { firsts, repeated: Vec::new() }
    }
}

/// Days to be counted, and what is known of them.
pub(crate) struct Days<'a> {
    /// The days, close together.
    pub(crate) days: &'a [Date],
    /// How many deliveries the version holds for each of the tenant's days.
    pub(crate) deliveries: &'a BTreeMap<Date, u64>,
    /// Which of them count.
    pub(crate) firsts: &'a Firsts,
    /// What the speed layer did with them; nothing is compared without.
    pub(crate) cut: Option<&'a SpeedCut>,
    /// What was settled before.
    pub(crate) settled: &'a BTreeMap<Date, Previous>,
}

impl<'a> Counter<'a> {
    /// Pins the version that the table was loaded at.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) async fn new(engine: &Engine, table: &DeltaTable, tenant: &'a Tenant) -> Result<Self, Error> {
        Self::since(engine, table, tenant, None).await
    }

    /// The same of what is filed under a date and later ones only: of what came before, files may be gone.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) async fn since(
        engine: &Engine,
        table: &DeltaTable,
        tenant: &'a Tenant,
        since: Option<Date>,
    ) -> Result<Self, Error> {
        let cluster = match engine {
            Engine::Local => None,
            Engine::Ballista(scheduler) => Some(Cluster::new(scheduler, table, tenant, since).await?),
        };
        Ok(Self { tenant, pinned: PinnedLake::new(table).await?.since(since), cluster })
    }

    /// The same; what is read here is added to `reading`.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) async fn measured(
        engine: &Engine,
        table: &DeltaTable,
        tenant: &'a Tenant,
        reading: &Arc<Reading>,
    ) -> Result<Self, Error> {
        let counter = Self::new(engine, table, tenant).await?;
        Ok(Self { pinned: PinnedLake::measured(table, reading).await?, ..counter })
    }

    /// How many deliveries there are of each calendar day.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) async fn deliveries_by_day(&self) -> Result<BTreeMap<Date, u64>, Error> {
        Ok(match &self.cluster {
            None => self.pinned.deliveries_by_day(self.tenant).await?,
            Some(cluster) => cluster.deliveries_by_day(&self.tenant.time_zone).await?,
        })
    }

    /// Finds the first delivery of every event that has one on these days.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) async fn first_deliveries(
        &self,
        days: &[Date],
        deliveries: &BTreeMap<Date, u64>,
        budget: &Arc<Budget>,
    ) -> Result<Firsts, Error> {
        let (here, everywhere) = (total(deliveries, days), deliveries.values().sum::<u64>());
        let span = span(days, &self.tenant.time_zone);
        let Some(cluster) = &self.cluster else {
            let firsts = self.pinned.first_deliveries(self.tenant, span, here, everywhere > here, budget).await?;
            return Ok(firsts.into());
        };
        let repeats = cluster.repeats(span).await?;
        let repeated = repeats.iter().filter(|repeat| repeat.here).map(|repeat| repeat.place).collect();
        Ok(Firsts { firsts: FirstDeliveries::of_repeats(&repeats), repeated })
    }

    /// Counts days and, with a cut, compares them.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) async fn count(
        &self,
        days: &Days<'_>,
        groups: &mut Groups,
        budget: &Arc<Budget>,
    ) -> Result<Counted, Error> {
        let nothing = SpeedCut::default();
        let cut = days.cut.unwrap_or(&nothing);
        let mut chunk = Chunk::new(self.tenant, days.days, cut, &days.firsts.firsts, self.pinned.threads(), budget);
        let span = span(days.days, &self.tenant.time_zone);
        let is_empty = total(days.deliveries, days.days) == 0;
        let Some(cluster) = self.cluster.as_ref().filter(|_| !is_empty) else {
            if !is_empty {
                let take = |delivery: Delivery<'_>| chunk.take(&delivery, groups);
                self.pinned.deliveries(self.tenant, span, take).await?;
            }
            return chunk.finish(groups, days.settled).await;
        };
        let repeated = || days.firsts.repeated.iter().copied();
        let elsewhere = cluster.count(self.tenant, days.days, repeated(), groups).await?;
        if days.cut.is_some() {
            let take = |delivery: &Delivery<'_>| chunk.take_odd(delivery, groups);
            cluster.odd(self.tenant, &span, repeated(), &cut.fates, take).await?;
        }
        if !self.tenant.tops().is_empty() {
            // A cluster does not count values.
            let take = |delivery: Delivery<'_>| {
                chunk.take_top(&delivery);
                Ok::<(), Error>(())
            };
            self.pinned.deliveries(self.tenant, span, take).await?;
        }
        let counted = chunk.finish_elsewhere(elsewhere, groups, days.settled)?;
        if days.cut.is_some() {
            for day in &counted.settlements {
                let expected = days.deliveries.get(&day.day).copied().unwrap_or(0);
                if day.deliveries != expected {
                    return Err(Error::Retryable(format!(
                        "the cluster found {} of the {expected} deliveries of {}: a part of an answer is missing",
                        day.deliveries, day.day
                    )));
                }
            }
        }
        Ok(counted)
    }
}
