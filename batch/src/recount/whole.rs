//! The count of everything that the lake holds of a tenant: no settlement, no speed layer, only exact cells.

use hashbrown::HashMap;
use jiff::civil::Date;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::cell::{Rollup, read_amounts};
use reckon_schemas::lake::COLUMN_PROPERTIES;
use reckon_schemas::sums::Unit;
use reckon_schemas::time::EventTime;
use reckon_schemas::window::{Grain, WindowCursor};

use super::{Budget, Cells, Delivery, Groups, PinnedLake, RecountError, Tally, Wanted, in_background};

/// What is to be counted.
#[derive(Clone, Debug)]
pub struct Plan {
    /// By what to group.
    pub rollups: Vec<Rollup>,
    /// In which windows, finest first.
    pub grains: Vec<Grain>,
    /// How many bytes of keys may be in memory; what is more waits on disk.
    pub memory_bytes: usize,
}

/// What was counted.
#[derive(Debug)]
pub struct Counted {
    /// What the numbers of groups stand for.
    pub groups: Groups,
    /// Without sketches.
    pub cells: Cells,
    /// How many bytes went to disk.
    pub spilled_bytes: usize,
}

/// Counts all events of a tenant, each once, by its first delivery.
///
/// # Errors
/// [`RecountError`].
pub async fn count_whole(table: &deltalake::DeltaTable, tenant: &Tenant, plan: &Plan) -> Result<Counted, RecountError> {
    let pinned = PinnedLake::new(table).await?;
    let budget = Budget::new(plan.memory_bytes);
    let always = EventTime(i64::MIN)..EventTime(i64::MAX);
    let firsts = pinned.first_deliveries(tenant, always, 0, false, &budget).await?;
    let finest = plan.grains.first().copied().unwrap_or(Grain::Day);
    let begin = || Counting {
        tally: Tally::new(finest, &tenant.time_zone, &budget),
        groups: Groups::new(plan.rollups.clone()),
        days: WindowCursor::new(Grain::Day, tenant.time_zone.clone()),
        day: None,
        known: HashMap::new(),
        has_other_properties: plan.rollups.iter().flat_map(Rollup::dimensions).any(|name| !is_column(name)),
        found: Vec::new(),
        amounts: Vec::new(),
    };
    let zone = tenant.time_zone.clone();
    let take = move |counting: &mut Counting, delivery: &Delivery<'_>| {
        if !firsts.is_first(delivery.place) {
            return Ok(());
        }
        counting.take(delivery, |start| zone.day_of(start))
    };
    let counted = pinned.deliveries_on_threads(tenant, &plan.rollups, begin, take).await?;
    let wanted =
        Wanted { grains: plan.grains.clone(), zone: tenant.time_zone.clone(), users: false, threads: pinned.threads() };
    let rollups = plan.rollups.clone();
    let (groups, cells) = in_background(move || {
        let mut groups = Groups::new(rollups);
        let tallies = counted.into_iter().map(|counting| counting.renumbered(&mut groups)).collect();
        Ok((groups, Cells::of(tallies, &wanted)?))
    })
    .await?;
    Ok(Counted { groups, cells, spilled_bytes: budget.spilled_bytes() })
}

/// What one thread counts.
struct Counting {
    tally: Tally,
    groups: Groups,
    days: WindowCursor,
    /// The day of the last event, by its first instant.
    day: Option<(EventTime, Date)>,
    /// The combinations of short texts.
    known: HashMap<[u128; COLUMN_PROPERTIES.len() + 1], u32>,
    /// Whether these texts do not decide the combination.
    has_other_properties: bool,
    found: Vec<u32>,
    amounts: Vec<(Unit, i64)>,
}

fn is_column(property: &str) -> bool {
    COLUMN_PROPERTIES.contains(&property)
}

impl Counting {
    fn take(&mut self, delivery: &Delivery<'_>, day_of: impl Fn(EventTime) -> Date) -> Result<(), RecountError> {
        let start = self.days.window_at(delivery.occurred_at).start;
        let (_, day) = *match &mut self.day {
            Some(day) if day.0 == start => day,
            day => day.insert((start, day_of(start))),
        };
        let combination = self.combination(delivery);
        read_amounts(delivery.money, |_| None, &[], &mut self.amounts);
        self.tally.count_in(combination, delivery.occurred_at, day, &self.amounts, delivery.user)
    }

    #[inline]
    fn combination(&mut self, delivery: &Delivery<'_>) -> u32 {
        let texts = if self.has_other_properties { None } else { delivery.short_texts() };
        if let Some(known) = texts.and_then(|texts| self.known.get(&texts)) {
            return *known;
        }
        self.groups.of_event(delivery.name, |name| delivery.property(name), &mut self.found);
        let combination = self.tally.combination(&self.found);
        if let Some(texts) = texts {
            self.known.insert(texts, combination);
        }
        combination
    }

    /// Its tally, with the numbers that its groups have in a table of all threads' groups.
    fn renumbered(mut self, groups: &mut Groups) -> Tally {
        let number = |group: u32| {
            let group = self.groups.get(group);
            groups.of_cell(group.rollup, &group.event, &group.values)
        };
        let numbers: Vec<u32> = (0..self.groups.count()).map(number).collect();
        self.tally.renumber(&numbers);
        self.tally
    }
}
