//! The deliveries that are not ordinary: those that do not count, and those that the speed layer did not simply count.

use std::collections::BTreeSet;
use std::ops::Range;

use arrow::array::RecordBatch;
use datafusion::logical_expr::{Expr, ident, lit};
use reckon_schemas::catalog::Tenant;
use reckon_schemas::time::EventTime;

use super::Cluster;
use super::plan::{is_one_of, typed};
use super::read::{as_scanned, each};
use crate::reconcile::Fates;
use crate::recount::{Deliveries, Delivery, Place, RecountError, counted_columns, counted_properties};

/// So many deliveries are looked for at once.
const PLACES_AT_ONCE: usize = 50_000;

impl Cluster {
    /// Hands over those deliveries of a span of event time, and some around it, that are `repeated` or that the speed layer
    /// did something else with than counting them under their own values. Each is handed over once, in no order.
    ///
    /// # Errors
    /// [`RecountError`], or what the receiver returns.
    pub(crate) async fn odd<E: From<RecountError>>(
        &self,
        tenant: &Tenant,
        span: &Range<EventTime>,
        repeated: impl IntoIterator<Item = Place>,
        fates: &Fates,
        mut receive: impl FnMut(&Delivery<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (here, _) = self.files.divided(span);
        if here.is_empty() {
            return Ok(());
        }
        let (rollups, summed) = (tenant.counted_rollups(), tenant.summed_properties());
        let columns = counted_columns(counted_properties(&rollups, &summed));
        let mut read = |batch: &RecordBatch| -> Result<(), E> {
            let batch = as_scanned(batch)?;
            let deliveries = Deliveries::new(&batch)?;
            (0..batch.num_rows()).try_for_each(|row| receive(&deliveries.get(row)?))
        };
        let mut places: BTreeSet<Place> = repeated.into_iter().collect();
        for (partition, offset) in fates.refused.keys().chain(fates.overflowed.keys()) {
            places.insert(Place::new(*partition, *offset)?);
        }
        // Below, something that is counted now was not, so every delivery is looked at.
        let units = summed.iter().map(ToString::to_string);
        let names: Vec<String> = rollups.iter().map(|rollup| rollup.name().to_owned()).chain(units).collect();
        let plain_from = fates.plans.plain_from(&names);
        let is_seen = |place: &Place| {
            let plain_from = plain_from.get(&place.partition()).copied().unwrap_or(0);
            let next = fates.next_offsets.get(&place.partition());
            next.is_some_and(|next| (plain_from..*next).contains(&place.offset()))
        };
        let places: Vec<Place> = places.into_iter().filter(is_seen).collect();
        let listed = places.chunks(PLACES_AT_ONCE).map(|places| is_one_of(places.iter().copied()));
        let before = plain_from.iter().map(|(partition, plain_from)| {
            let next = fates.next_offsets.get(partition).copied().unwrap_or(0);
            ident("partition").eq(lit(*partition)).and(ident("offset").lt(lit(next.min(*plain_from))))
        });
        for condition in listed.chain([is_unseen(fates)]).chain(before) {
            let rows = self.rows(&here)?.filter(condition).map_err(RecountError::from)?;
            let columns = columns.iter().map(|name| typed(name)).collect::<Vec<_>>();
            each(rows.select(columns).map_err(RecountError::from)?, &mut read).await?;
        }
        Ok(())
    }
}

/// Whether the speed layer has not read a delivery.
fn is_unseen(fates: &Fates) -> Expr {
    if fates.next_offsets.is_empty() {
        return lit(true);
    }
    let known = fates.next_offsets.keys().map(|partition| lit(*partition)).collect();
    let beyond = fates
        .next_offsets
        .iter()
        .map(|(partition, next)| ident("partition").eq(lit(*partition)).and(ident("offset").gt_eq(lit(*next))));
    beyond.fold(ident("partition").in_list(known, true), Expr::or)
}
