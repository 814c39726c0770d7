//! A few days, counted and compared delivery by delivery.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use jiff::civil::Date;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::cell::{Measures, OTHER_VALUE, read_amounts};
use reckon_schemas::settlement::State;
use reckon_schemas::sums::Unit;
use reckon_schemas::time::EventTime;
use reckon_schemas::window::{Grain, Window, WindowCursor};

use crate::Error;
use crate::cluster::{Elsewhere, Visits};
use crate::reconcile::{self, Entry, Evidence, Fate, Item};
use crate::recount::{
    Budget, Cell, Cells, Delivery, Exact, FirstDeliveries, Groups, Tally, Top, TopTally, Wanted, in_background,
};
use crate::settle::{DayCell, Previous, Settlement, SpeedCut, content_hash};

/// What of a day is counted beside its cells.
#[derive(Clone, Copy, Debug, Default)]
struct DayTotals {
    deliveries: u64,
    events: u64,
}

/// By the first instant of each day.
type Days = BTreeMap<EventTime, (Date, Window, DayTotals)>;
/// By group and the first instant of the day.
type EvidenceByCell = HashMap<(u32, EventTime), Evidence>;

/// The count of a few days.
pub(crate) struct Chunk<'a> {
    tenant: &'a Tenant,
    summed: Vec<Unit>,
    /// Those of them that speed did not always sum.
    sometimes_summed: Vec<(Unit, Item<'a>)>,
    /// Rollup by rollup: when speed counted it, if not always. Of the groups that are counted, so known with the first.
    sometimes_counted: Option<Vec<Option<Item<'a>>>>,
    cut: &'a SpeedCut,
    firsts: &'a FirstDeliveries,
    windows: WindowCursor,
    days: Days,
    tally: Tally,
    tops: TopTally,
    threads: usize,
    evidence: EvidenceByCell,
    /// How often a user is among the deliveries that were taken one by one, of those that count: by group, day, user.
    odd: HashMap<(u32, EventTime, u128), u64>,
    scratch: Scratch,
}

/// Places that are reused for every delivery.
#[derive(Default)]
struct Scratch {
    groups: Vec<u32>,
    /// The groups that the speed layer counted it in, where that is under `__other__`.
    others: Vec<u32>,
    amounts: Vec<(Unit, i64)>,
    unsummed: Vec<Unit>,
}

/// A chunk when all of its deliveries were taken.
pub(crate) struct Counted {
    /// The cells, with their users.
    pub(crate) cells: Cells,
    /// The most frequent values.
    pub(crate) tops: Vec<Top>,
    /// The drift of all cells of grain `1d`.
    pub(crate) drift: Vec<DayCell>,
    /// One for each day.
    pub(crate) settlements: Vec<Settlement>,
}

impl<'a> Chunk<'a> {
    /// Nothing taken yet, of these days.
    pub(crate) fn new(
        tenant: &'a Tenant,
        days: &[Date],
        cut: &'a SpeedCut,
        firsts: &'a FirstDeliveries,
        threads: usize,
        budget: &Arc<Budget>,
    ) -> Self {
        let zone = &tenant.time_zone;
        let window = |day: Date| Window { grain: Grain::Day, start: zone.day_start(day), end: zone.day_end(day) };
        let totals = |day: &Date| (window(*day).start, (*day, window(*day), DayTotals::default()));
        let (summed, plans) = (tenant.summed_properties(), &cut.fates.plans);
        let sometimes = |unit: &Unit| Some((unit.clone(), plans.item(&unit.to_string())?));
        Self {
            tenant,
            sometimes_summed: summed.iter().filter_map(sometimes).collect(),
            sometimes_counted: None,
            summed,
            cut,
            firsts,
            windows: WindowCursor::new(Grain::Day, zone.clone()),
            days: days.iter().map(totals).collect(),
            tally: Tally::new(Grain::KEPT[0], zone, budget),
            tops: TopTally::new(tenant),
            threads,
            evidence: HashMap::new(),
            odd: HashMap::new(),
            scratch: Scratch::default(),
        }
    }

    /// Counts and compares a delivery, if it lies on one of the days.
    ///
    /// # Errors
    /// [`Error::Broken`] if a sum leaves 128 bits.
    pub(crate) fn take(&mut self, delivery: &Delivery<'_>, groups: &mut Groups) -> Result<(), Error> {
        let Some((start, day)) = self.look(delivery, groups) else { return Ok(()) };
        let counted = self.firsts.is_first(delivery.place);
        if let Some((_, _, totals)) = self.days.get_mut(&start) {
            totals.deliveries += 1;
            totals.events += u64::from(counted);
        }
        if counted {
            let Scratch { groups, amounts, .. } = &self.scratch;
            self.tally.count(delivery.occurred_at, day, groups, amounts, delivery.user)?;
            self.tops.count(delivery.occurred_at, day, delivery.name, |name| delivery.property(name));
        }
        self.compare(delivery, groups, start)
    }

    /// Compares a delivery that is not ordinary and was counted elsewhere. To be handed over are all that are not the first
    /// of their event, and all that the speed layer did not count, or not under their own values.
    ///
    /// # Errors
    /// [`Error::Broken`] if a sum leaves 128 bits.
    pub(crate) fn take_odd(&mut self, delivery: &Delivery<'_>, groups: &mut Groups) -> Result<(), Error> {
        let Some((start, _)) = self.look(delivery, groups) else { return Ok(()) };
        if !self.firsts.is_first(delivery.place) {
            if let Some((_, _, totals)) = self.days.get_mut(&start) {
                totals.deliveries += 1;
            }
        } else if let Some(user) = delivery.user {
            for group in &self.scratch.groups {
                *self.odd.entry((*group, start, user.key)).or_default() += 1;
            }
        }
        self.compare(delivery, groups, start)
    }

    /// Counts the values of a delivery whose event was counted elsewhere.
    pub(crate) fn take_top(&mut self, delivery: &Delivery<'_>) {
        let start = self.windows.window_at(delivery.occurred_at).start;
        if let Some((day, ..)) = self.days.get(&start)
            && self.firsts.is_first(delivery.place)
        {
            self.tops.count(delivery.occurred_at, *day, delivery.name, |name| delivery.property(name));
        }
    }

    /// Reads a delivery's groups and amounts; its day, if that is one of the days.
    fn look(&mut self, delivery: &Delivery<'_>, groups: &mut Groups) -> Option<(EventTime, Date)> {
        let start = self.windows.window_at(delivery.occurred_at).start;
        let (day, ..) = self.days.get(&start)?;
        let property = |name: &str| delivery.property(name);
        groups.of_event(delivery.name, property, &mut self.scratch.groups);
        read_amounts(delivery.money, property, &self.summed, &mut self.scratch.amounts);
        Some((start, *day))
    }

    /// Enters a delivery that was looked at into the evidence.
    fn compare(&mut self, delivery: &Delivery<'_>, groups: &mut Groups, start: EventTime) -> Result<(), Error> {
        let (counted, user) = (self.firsts.is_first(delivery.place), delivery.user);
        let mut scratch = std::mem::take(&mut self.scratch);
        let (partition, offset) = (delivery.place.partition(), delivery.place.offset());
        let fate = self.cut.fates.of(partition, offset);
        let overflowed = if fate == Fate::Accepted { self.cut.fates.overflowed(partition, offset) } else { &[] };
        let is_other = |name: &str| overflowed.iter().any(|dimension| dimension == name);
        let value = |name: &str| if is_other(name) { Some(OTHER_VALUE) } else { delivery.property(name) };
        if overflowed.is_empty() {
            scratch.others.clone_from(&scratch.groups);
        } else {
            groups.of_event(delivery.name, value, &mut scratch.others);
        }
        let counted = if counted { reconcile::Counted::Here } else { reconcile::Counted::Not };
        let conflicting = self.firsts.is_conflicting(delivery.place);
        let unsummed = self.sometimes_summed.iter().filter(|(_, item)| !item.was_counted(partition, offset));
        scratch.unsummed.clear();
        scratch.unsummed.extend(unsummed.map(|(unit, _)| unit.clone()));
        let entry = Entry { fate, counted, conflicting, amounts: &scratch.amounts, unsummed: &scratch.unsummed, user };
        let plans = &self.cut.fates.plans;
        let rollups = || groups.rollups().iter().map(|rollup| plans.item(rollup.name())).collect();
        let rollups = self.sometimes_counted.get_or_insert_with(rollups);
        for ((group, other), item) in scratch.groups.iter().zip(&scratch.others).zip(rollups) {
            let was_counted = item.is_none_or(|item| item.was_counted(partition, offset));
            if group == other || !was_counted {
                let fate = if was_counted { fate } else { fate.without() };
                self.evidence.entry((*group, start)).or_default().enter(&Entry { fate, ..entry })?;
                continue;
            }
            let here = Entry { fate: Fate::Elsewhere, ..entry };
            self.evidence.entry((*group, start)).or_default().enter(&here)?;
            let counted = if counted == reconcile::Counted::Here { reconcile::Counted::Elsewhere } else { counted };
            self.evidence.entry((*other, start)).or_default().enter(&Entry { counted, ..entry })?;
        }
        self.scratch = scratch;
        Ok(())
    }

    /// Adds up what was counted, compares every cell of grain `1d` that either layer has and draws up the days'
    /// settlements.
    ///
    /// # Errors
    /// [`Error::Broken`] if a sum or a difference leaves 128 bits, [`Error::Retryable`] if a disk was needed and failed.
    pub(crate) async fn finish(
        mut self,
        groups: &Groups,
        settled: &BTreeMap<Date, Previous>,
    ) -> Result<Counted, Error> {
        let zone = self.tenant.time_zone.clone();
        let tally = std::mem::replace(&mut self.tally, Tally::new(Grain::KEPT[0], &zone, &Budget::new(0)));
        let wanted = Wanted { grains: Grain::KEPT.to_vec(), zone, users: true, threads: self.threads };
        let cells = in_background(move || Cells::of(vec![tally], &wanted)).await?;
        self.conclude(cells, groups, settled)
    }

    /// The same for days that were counted elsewhere, after [`Self::take_odd`].
    ///
    /// # Errors
    /// As [`Self::finish`].
    pub(crate) fn finish_elsewhere(
        mut self,
        elsewhere: Elsewhere,
        groups: &Groups,
        settled: &BTreeMap<Date, Previous>,
    ) -> Result<Counted, Error> {
        let Elsewhere { cells, visits } = elsewhere;
        for cell in cells.all().iter().filter(|cell| cell.window.grain == Grain::Day) {
            self.evidence.entry((cell.group, cell.window.start)).or_default();
            if let Some((_, _, totals)) = self.days.get_mut(&cell.window.start)
                && groups.rollup_of(cell.group).dimensions().is_empty()
            {
                totals.events += cell.exact.count;
                totals.deliveries += cell.exact.count;
            }
        }
        for Visits { group, day, user, events } in visits {
            let start = self.tenant.time_zone.day_start(day);
            // Both layers counted whatever was not taken one by one.
            if events > self.odd.get(&(group, start, user.key)).copied().unwrap_or(0) {
                let (fate, counted) = (Fate::Accepted, reconcile::Counted::Here);
                let (amounts, unsummed, user) = (&[], &[], Some(user));
                let entry = Entry { fate, counted, conflicting: false, amounts, unsummed, user };
                self.evidence.entry((group, start)).or_default().enter(&entry)?;
            }
        }
        self.conclude(cells, groups, settled)
    }

    fn conclude(self, cells: Cells, groups: &Groups, settled: &BTreeMap<Date, Previous>) -> Result<Counted, Error> {
        let Self { tenant, cut, days, tops, evidence, .. } = self;
        let tops = tops.finish(&days.values().map(|(day, ..)| *day).collect::<Vec<_>>(), &tenant.time_zone);
        let drift = compare(cut, &days, &cells, &evidence)?;
        let mut residual_cells: HashMap<Date, u64> = HashMap::new();
        for cell in drift.iter().filter(|cell| cell.drifts.iter().any(|drift| drift.residual != 0)) {
            *residual_cells.entry(cell.day).or_default() += 1;
        }
        let sorted = sorted(&cells, groups);
        let settlements = days.values().map(|(day, window, totals)| {
            let from = sorted.partition_point(|cell| cell.day < *day);
            let to = sorted.partition_point(|cell| cell.day <= *day);
            let tops = tops.iter().filter(|top| top.day == *day);
            let content_hash = content_hash(&tenant.id, groups, sorted[from..to].iter().copied(), tops);
            let state = match settled.get(day) {
                None => State::Settled,
                Some(previous) if previous.content_hash == content_hash => previous.state,
                Some(_) => State::Restated,
            };
            Settlement {
                day: *day,
                window: *window,
                state,
                deliveries: totals.deliveries,
                events: totals.events,
                content_hash,
                residual_cells: residual_cells.get(day).copied().unwrap_or(0),
                generation: settled.get(day).map_or(0, |previous| previous.generation),
            }
        });
        let settlements = settlements.collect();
        drop(sorted);
        Ok(Counted { cells, tops, drift, settlements })
    }
}

fn compare(cut: &SpeedCut, days: &Days, cells: &Cells, evidence: &EvidenceByCell) -> Result<Vec<DayCell>, Error> {
    let (no_evidence, no_speed, no_batch) = (Evidence::default(), Measures::default(), Exact::default());
    let of_speed = cut.cells.keys().filter(|(_, start)| days.contains_key(start));
    let only_speed = of_speed.filter(|cell| !evidence.contains_key(*cell));
    let mut drift = Vec::with_capacity(evidence.len());
    for (group, start) in evidence.keys().chain(only_speed) {
        let Some((day, _, _)) = days.get(start) else { continue };
        let entered = evidence.get(&(*group, *start)).unwrap_or(&no_evidence);
        let speed = cut.cells.get(&(*group, *start)).unwrap_or(&no_speed);
        let batch = cells.of_day(*group, *day).map_or(&no_batch, |cell| &cell.exact);
        let drifts = entered.explain(speed, batch)?;
        if !drifts.is_empty() {
            drift.push(DayCell { group: *group, day: *day, drifts });
        }
    }
    Ok(drift)
}

/// The cells in the order of day, rollup, event, values, grain, window, whatever order they were counted in.
pub(crate) fn sorted<'a>(cells: &'a Cells, groups: &Groups) -> Vec<&'a Cell> {
    let ranks = groups.ranks();
    let mut sorted: Vec<&Cell> = cells.all().iter().collect();
    sorted.sort_unstable_by_key(|cell| (cell.day, ranks[cell.group as usize], cell.window));
    sorted
}
