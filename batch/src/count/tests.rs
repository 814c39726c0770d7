//! The count of a small lake, without the servers around it.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashSet;
use jiff::civil::{Date, date};
use reckon_schemas::catalog::{Measure, Metric, Tenant};
use reckon_schemas::cell::{Contribution, Measures, OTHER_VALUE, Rollup};
use reckon_schemas::event::{EVENT_VERSION, Event, Properties, Source};
use reckon_schemas::money::Money;
use reckon_schemas::settlement::{Reason, State};
use reckon_schemas::stores;
use reckon_schemas::sums::Unit;
use reckon_schemas::time::{EventTime, Zone};
use reckon_schemas::window::Grain;

use super::chunk::{Chunk, Counted};
use super::days::span;
use crate::archive::tests::archive_messages;
use crate::lake::Lake;
use crate::recount::{Budget, Groups, PinnedLake};
use crate::settle::{Previous, SpeedCut};

pub(crate) const TOPIC: &str = "events";
const FIRST: Date = date(2026, 10, 24);

pub(crate) fn tenant() -> Tenant {
    Tenant {
        rollups: vec!["department".parse().expect("valid")],
        metrics: vec![Metric::sum("items", "sale", "quantity")],
        ..Tenant::new("acme".parse().expect("valid"), Zone::parse("Europe/Berlin").expect("known"))
    }
}

pub(crate) fn event(tenant: &str, id: u32, at: EventTime) -> Event<'static> {
    let mut properties = Properties::new();
    if !id.is_multiple_of(5) {
        properties.insert("department", format!("dep\u{1f}{}", id % 3));
    }
    if !id.is_multiple_of(9) {
        // Some of them are no numbers.
        properties.insert("quantity", if id.is_multiple_of(17) { "some".to_owned() } else { format!("{id}.25") });
    }
    Event {
        version: EVENT_VERSION,
        tenant: tenant.to_owned().into(),
        id: format!("e{id}").into(),
        name: if id.is_multiple_of(7) { "refund" } else { "sale" }.into(),
        occurred_at: at,
        received_at: at,
        user: if id.is_multiple_of(11) { String::new() } else { format!("u{}", id % 40) }.into(),
        money: (!id.is_multiple_of(13))
            .then(|| Money { currency: "EUR".parse().expect("known"), minor: i64::from(id) - 100 }),
        properties,
        source: Source::Native,
    }
}

/// Three days with a 25-hour one in the middle, two tenants, every seventh event twice and once on another day.
fn log() -> Vec<(i32, i64, Event<'static>)> {
    let start = tenant().time_zone.day_start(FIRST).0;
    let mut log = Vec::new();
    let mut push = |event: Event<'static>| {
        let offset = i64::try_from(log.len()).expect("small");
        log.push((i32::try_from(offset % 3).expect("small"), offset / 3, event));
    };
    for id in 0..600_u32 {
        let at = EventTime(start + i64::from(id) * 437_000_000);
        push(event("acme", id, at));
        push(event("other", id, at));
        if id.is_multiple_of(7) {
            push(event("acme", id, at));
            push(event("acme", id, at.plus_micros(86_400_000_000)));
        }
    }
    log
}

pub(crate) struct Counting {
    pub(crate) tenant: Tenant,
    pub(crate) groups: Groups,
    users: HashSet<u128>,
    pinned: PinnedLake,
    pub(crate) days: Vec<Date>,
    pub(crate) by_day: BTreeMap<Date, u64>,
}

pub(crate) async fn counting(dir: &tempfile::TempDir) -> Counting {
    let store = stores::Lake::at(format!("file://{}", dir.path().display()));
    if std::fs::read_dir(dir.path()).expect("a folder").next().is_none() {
        let messages: Vec<_> =
            log().iter().map(|(partition, offset, event)| (*partition, *offset, event.encode())).collect();
        for messages in messages.chunks(500) {
            archive_messages(&store, TOPIC, messages).await;
        }
    }
    let table = Lake::open(&store).await.expect("a lake").events().await.expect("its events");
    let (tenant, pinned) = (tenant(), PinnedLake::new(&table).await.expect("readable"));
    let by_day = pinned.deliveries_by_day(&tenant).await.expect("readable");
    let days = by_day.keys().copied().collect();
    Counting { groups: Groups::new(tenant.counted_rollups()), users: HashSet::new(), tenant, pinned, days, by_day }
}

impl Counting {
    pub(crate) async fn count(&mut self, days: &[Date], cut: &SpeedCut) -> Counted {
        self.count_again(days, cut, &BTreeMap::new()).await
    }

    async fn count_again(&mut self, days: &[Date], cut: &SpeedCut, settled: &BTreeMap<Date, Previous>) -> Counted {
        let (all, span) = (self.by_day.values().sum::<u64>(), span(days, &self.tenant.time_zone));
        let here: u64 = days.iter().map(|day| self.by_day[day]).sum();
        let budget = Budget::new(1 << 20);
        let firsts = self
            .pinned
            .first_deliveries(&self.tenant, span.clone(), here, all > here, &budget)
            .await
            .expect("readable");
        let mut chunk = Chunk::new(&self.tenant, days, cut, &firsts, 2, &budget);
        let take = |delivery: crate::recount::Delivery<'_>| chunk.take(&delivery, &mut self.groups);
        self.pinned.deliveries::<crate::Error>(&self.tenant, span, take).await.expect("counted");
        let counted = chunk.finish(&self.groups, settled).await.expect("no overflow");
        self.users.extend(counted.cells.users_of_days().map(|(_, user)| user));
        counted
    }

    /// What a speed layer says that read everything below `next` in each partition and drops duplicates whose event it
    /// accepted before, but refuses some as late, and some departments are too many for it.
    pub(crate) fn speed(&mut self, next: i64) -> SpeedCut {
        let mut cut = SpeedCut::default();
        let (mut known, mut found) = (BTreeSet::new(), Vec::new());
        cut.fates.next_offsets = BTreeMap::from([(0, next), (1, next), (2, next)]);
        for (partition, offset, event) in log() {
            if offset >= next || event.tenant != "acme" {
                continue;
            }
            if offset % 10 == 3 {
                cut.fates.refused.insert((partition, offset), Reason::Late);
            } else if offset % 4 != 0 && !known.insert(event.id.clone()) {
                cut.fates.refused.insert((partition, offset), Reason::Duplicate);
            } else {
                let is_other = offset % 5 == 1;
                if is_other {
                    cut.fates.overflowed.insert((partition, offset), ["department".to_owned()].into());
                }
                let property = |name: &str| if is_other { Some(OTHER_VALUE) } else { event.properties.get(name) };
                self.groups.of_event(&event.name, property, &mut found);
                let contribution = Contribution::of(&event, &self.tenant.summed_properties());
                let day = Grain::Day.window_at(event.occurred_at, &self.tenant.time_zone);
                for group in &found {
                    let cell: &mut Measures = cut.cells.entry((*group, day.start)).or_default();
                    cell.add(&contribution).expect("small");
                }
            }
        }
        cut
    }
}

/// Count, cents, hundredths of items and users of the first deliveries, by day and rollup's values;
/// without any of the code above.
fn oracle() -> BTreeMap<(Date, String), (u64, i128, i128, usize)> {
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeMap::<_, (u64, i128, i128, BTreeSet<String>)>::new());
    let mut deliveries = log();
    deliveries.sort_by_key(|(partition, offset, _)| (*offset, *partition));
    for (_, _, event) in deliveries.iter().filter(|(_, _, event)| event.tenant == "acme") {
        if !ids.insert(event.id.clone()) {
            continue;
        }
        let day =
            event.occurred_at.to_timestamp().to_zoned(jiff::tz::TimeZone::get("Europe/Berlin").expect("known")).date();
        let department = event.properties.get("department").unwrap_or_default();
        for place in [format!("total/{}", event.name), format!("department/{}/{department}", event.name)] {
            let cell = cells.entry((day, place)).or_default();
            cell.0 += 1;
            cell.1 += event.money.map_or(0, |money| i128::from(money.minor));
            let quantity = event.properties.get("quantity").and_then(|quantity| quantity.strip_suffix(".25"));
            cell.2 += quantity.map_or(0, |whole| whole.parse::<i128>().expect("as written") * 100 + 25);
            if !event.user.is_empty() {
                cell.3.insert(event.user.to_string());
            }
        }
    }
    cells.into_iter().map(|(place, (count, cents, items, users))| (place, (count, cents, items, users.len()))).collect()
}

#[tokio::test]
async fn every_day_cell_equals_an_independent_count() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut counting = counting(&dir).await;
    let days = counting.days.clone();
    assert_eq!(days.len(), 4, "three days and what was delivered again a day later");
    let counted = counting.count(&days, &SpeedCut::default()).await;
    let [euro, items] = ["EUR", "#quantity"].map(|unit| unit.parse::<Unit>().expect("known"));
    let of_days = counted.cells.all().iter().filter(|cell| cell.window.grain == Grain::Day);
    let found: BTreeMap<_, _> = of_days
        .map(|cell| {
            let group = counting.groups.get(cell.group);
            let rollup = counting.groups.rollup_of(cell.group).name();
            let place = match counting.groups.values_of(cell.group).as_slice() {
                [value] => format!("{rollup}/{}/{value}", group.event),
                _ => format!("{rollup}/{}", group.event),
            };
            let users = usize::try_from(cell.exact.users_exact).expect("small");
            let sums = &cell.exact.sums;
            ((cell.day, place), (cell.exact.count, sums.get(&euro), sums.get(&items) / 10_000, users))
        })
        .collect();
    assert_eq!(found, oracle());
    assert_eq!(counting.users.len(), 40);
    assert_eq!(counted.settlements.iter().map(|day| day.events).sum::<u64>(), 600);
    let deliveries: u64 = counted.settlements.iter().map(|day| day.deliveries).sum();
    assert_eq!(deliveries, counting.by_day.values().sum::<u64>());
}

#[tokio::test]
async fn drift_is_explained_wherever_the_speed_layer_stood() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut counting = counting(&dir).await;
    let days = counting.days.clone();
    for next in [0, 1, 100, 333, 10_000] {
        let cut = counting.speed(next);
        let counted = counting.count(&days, &cut).await;
        assert!(counted.settlements.iter().all(|day| day.residual_cells == 0), "speed had read up to {next}");
        let overflow = |cell: &crate::settle::DayCell| {
            cell.drifts.iter().any(|drift| drift.reasons.get(&Reason::Overflow).is_some_and(|amount| *amount != 0))
        };
        assert_eq!(counted.drift.iter().any(overflow), next > 1, "the first records are told apart");
        let mut missing: i128 = 0;
        for drift in counted.drift.iter().filter(|cell| counting.groups.rollup_of(cell.group).name() == Rollup::TOTAL) {
            for drift in drift.drifts.iter().filter(|drift| drift.measure == Measure::Count) {
                missing += drift.reasons.get(&Reason::NotYetSeen).copied().unwrap_or(0);
            }
        }
        assert_eq!(missing == 0, next == 10_000, "{missing} events were not yet seen at {next}");
    }
}

#[tokio::test]
async fn a_number_that_speed_got_wrong_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut counting = counting(&dir).await;
    let days = counting.days.clone();
    let mut cut = counting.speed(10_000);
    let (place, cell) = cut.cells.iter_mut().min_by_key(|(place, _)| **place).expect("there are cells");
    cell.sums.add("#quantity".parse::<Unit>().expect("known"), 1).expect("small");
    let place = *place;
    let counted = counting.count(&days, &cut).await;
    let wrong: Vec<_> =
        counted.drift.iter().filter(|cell| cell.drifts.iter().any(|drift| drift.residual != 0)).collect();
    assert_eq!(wrong.len(), 1);
    assert_eq!((wrong[0].group, counting.tenant.time_zone.day_start(wrong[0].day)), place);
    assert_eq!(counted.settlements.iter().map(|day| day.residual_cells).sum::<u64>(), 1);
}

#[tokio::test]
async fn an_overflow_that_speed_does_not_own_up_to_is_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut counting = counting(&dir).await;
    let days = counting.days.clone();
    let mut cut = counting.speed(10_000);
    // Only one that was accepted makes a difference.
    let at = *cut.fates.overflowed.keys().min().expect("there are overflows");
    cut.fates.overflowed.remove(&at);
    let counted = counting.count(&days, &cut).await;
    let residual = |cell: &&crate::settle::DayCell| cell.drifts.iter().any(|drift| drift.residual != 0);
    let wrong: Vec<_> = counted.drift.iter().filter(residual).collect();
    assert_eq!(wrong.len(), 2, "the cell of its values and the one of __other__");
    assert!(wrong.iter().any(|cell| counting.groups.values_of(cell.group) == [OTHER_VALUE]));
}

#[tokio::test]
async fn how_days_are_cut_into_chunks_changes_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut at_once = counting(&dir).await;
    let days = at_once.days.clone();
    let expected = at_once.count(&days, &SpeedCut::default()).await.settlements;
    let mut one_by_one = counting(&dir).await;
    for (index, day) in days.iter().enumerate().rev() {
        let counted = one_by_one.count(&[*day], &SpeedCut::default()).await;
        assert_eq!(counted.settlements.len(), 1);
        let (found, expected) = (&counted.settlements[0], &expected[index]);
        assert_eq!(
            (found.day, found.events, &found.content_hash),
            (expected.day, expected.events, &expected.content_hash)
        );
    }
}

#[tokio::test]
async fn a_day_is_restated_only_if_its_content_changed() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut counting = counting(&dir).await;
    let days = counting.days.clone();
    let counted = counting.count(&days, &SpeedCut::default()).await;
    let at = EventTime(0);
    let previous = |state, content_hash: &str| Previous {
        deliveries: 0,
        events: 0,
        state,
        content_hash: content_hash.to_owned(),
        settled_at: at,
        window_end: at,
        generation: 0,
    };
    let settled = BTreeMap::from([
        (days[0], previous(State::Settled, &counted.settlements[0].content_hash)),
        (days[1], previous(State::Restated, &counted.settlements[1].content_hash)),
        (days[2], previous(State::Settled, "other")),
    ]);
    let settlements = counting.count_again(&days, &SpeedCut::default(), &settled).await.settlements;
    let states: Vec<_> = settlements[..4].iter().map(|day| day.state).collect();
    assert_eq!(states, [State::Settled, State::Restated, State::Restated, State::Settled]);
}
