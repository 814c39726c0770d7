//! Which rollups, summed properties and most frequent values a partition is counted by, and from which record on: what
//! reconciliation needs to know of records that were counted before something was added to the catalog, and whoever reads of
//! windows that were.

use std::collections::BTreeSet;

use reckon_schemas::time::EventTime;

use super::partition::PartitionState;
use super::plan::Plan;

/// A tenant's id, and a rollup's name, the unit of a summed property, or [`reckon_schemas::top::plan_item`].
pub(super) type Item = (String, String);

/// Something begins or ceases to be counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlanChange {
    pub(crate) tenant: String,
    pub(crate) item: String,
    /// The first record that the change is about.
    pub(crate) offset: i64,
    pub(crate) counted: bool,
    /// No record before it was about an event that happened later.
    pub(crate) watermark: Option<EventTime>,
}

/// What a partition is counted by. A new one is counted by nothing yet.
#[derive(Debug, Default)]
pub(super) struct Items {
    counted: BTreeSet<Item>,
    /// The state comes from a build that did not write down what it counted by. It is taken to be what is counted now, and
    /// from the log's first record on.
    pub(super) is_unknown: bool,
    changes: Vec<PlanChange>,
}

impl Items {
    pub(super) fn of(counted: BTreeSet<Item>) -> Self {
        Self { counted, ..Self::default() }
    }

    pub(super) fn counted(&self) -> &BTreeSet<Item> {
        &self.counted
    }

    pub(super) fn changes_len(&self) -> usize {
        self.changes.len()
    }
}

impl PartitionState {
    /// From the next record on, this plan counts; what that changes is to be written down.
    pub(crate) fn adopt(&mut self, plan: &Plan) {
        let counted: BTreeSet<Item> = plan.items().collect();
        let before = std::mem::replace(&mut self.items.counted, counted);
        let is_unknown = std::mem::take(&mut self.items.is_unknown);
        let (offset, watermark) = if is_unknown { (0, None) } else { (self.next_offset, self.watermark) };
        let change = |(tenant, item): &Item, counted| PlanChange {
            tenant: tenant.clone(),
            item: item.clone(),
            offset,
            counted,
            watermark,
        };
        let ended = before.difference(&self.items.counted).map(|item| change(item, false));
        let begun = self.items.counted.difference(&before).map(|item| change(item, true));
        let changes: Vec<PlanChange> = ended.chain(begun).collect();
        // Of two changes between the same two records the later one holds.
        let is_replaced = |old: &PlanChange| {
            let same = |new: &PlanChange| (&new.tenant, &new.item) == (&old.tenant, &old.item);
            old.offset == offset && changes.iter().any(same)
        };
        self.items.changes.retain(|old| !is_replaced(old));
        self.items.changes.extend(changes);
    }

    /// The changes since the last call.
    pub(crate) fn take_plan_changes(&mut self) -> Vec<PlanChange> {
        std::mem::take(&mut self.items.changes)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reckon_schemas::catalog::{Catalog, Metric, Tenant};
    use reckon_schemas::time::Zone;
    use reckon_schemas::window::PerGrain;

    use super::super::plan::Rules;
    use super::*;

    fn plan(rollups: &[&str], summed: &[&str]) -> Plan {
        let tenant = Tenant {
            rollups: rollups.iter().map(|name| name.parse().expect("a rollup")).collect(),
            metrics: summed.iter().map(|property| Metric::sum(property, "sale", property)).collect(),
            ..Tenant::new("acme".parse().expect("valid"), Zone::UTC)
        };
        let rules = Rules {
            allowed_lateness: PerGrain::all(Duration::ZERO),
            redis_retention: PerGrain::all(Duration::ZERO),
            future_skew_us: 0,
            dedup_horizon_records: 1,
        };
        Plan::new(&Catalog { tenants: vec![tenant] }, rules)
    }

    fn taken(state: &mut PartitionState) -> Vec<(String, i64, bool)> {
        state.take_plan_changes().into_iter().map(|change| (change.item, change.offset, change.counted)).collect()
    }

    fn expected(changes: &[(&str, i64, bool)]) -> Vec<(String, i64, bool)> {
        changes.iter().map(|(item, offset, counted)| ((*item).to_owned(), *offset, *counted)).collect()
    }

    #[test]
    fn what_begins_and_ceases_is_written_down_with_its_first_record() {
        let mut state = PartitionState::starting_at(7);
        state.adopt(&plan(&["store"], &[]));
        assert_eq!(taken(&mut state), expected(&[("store", 7, true), ("total", 7, true)]));
        state.adopt(&plan(&["store"], &[]));
        assert_eq!(taken(&mut state), []);
        state.next_offset = 20;
        state.watermark = Some(EventTime(5));
        state.adopt(&plan(&[], &["quantity"]));
        assert!(state.items.changes.iter().all(|change| change.watermark == Some(EventTime(5))));
        assert_eq!(taken(&mut state), expected(&[("store", 20, false), ("#quantity", 20, true)]));
        // Back again before the next record, and before anybody took the change.
        state.next_offset = 30;
        state.adopt(&plan(&["store"], &["quantity"]));
        state.adopt(&plan(&[], &["quantity"]));
        assert_eq!(taken(&mut state), expected(&[("store", 30, false)]));
    }

    #[test]
    fn a_snapshot_knows_what_it_was_counted_by_and_one_of_an_older_build_does_not() {
        let mut state = PartitionState::starting_at(7);
        state.adopt(&plan(&["store"], &[]));
        let bytes = state.to_bytes();
        let mut restored = PartitionState::from_bytes(&bytes).expect("as written");
        restored.adopt(&plan(&["store", "department"], &[]));
        assert_eq!(taken(&mut restored), expected(&[("department", 7, true)]));
        let items = postcard::to_stdvec(state.items.counted()).expect("plain data");
        let older = &bytes[..bytes.len() - items.len()];
        let mut restored = PartitionState::from_bytes(older).expect("what an older build writes");
        restored.adopt(&plan(&["store", "department"], &[]));
        let always = expected(&[("department", 0, true), ("store", 0, true), ("total", 0, true)]);
        assert_eq!(taken(&mut restored), always);
        restored.adopt(&plan(&["store"], &[]));
        assert_eq!(taken(&mut restored), expected(&[("department", 7, false)]));
    }
}
