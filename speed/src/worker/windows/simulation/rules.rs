//! The rules, one by one: what becomes of single records.

use std::collections::BTreeMap;
use std::time::Duration;

use reckon_schemas::catalog::Metric;
use reckon_schemas::settlement::Reason;
use reckon_schemas::sums::Unit;
use reckon_schemas::time::{EventTime, Zone};
use reckon_schemas::window::{Grain, PerGrain};

use super::*;

/// What becomes of single records, in order.
fn reasons(plan: &Plan, entries: &[Entry]) -> (Vec<(i64, Reason)>, PartitionState) {
    let mut state = PartitionState::default();
    for (offset, entry) in (0..).zip(entries) {
        state.apply(plan, &record(offset, entry)).expect("no overflow");
    }
    let exceptions = state.take_exceptions();
    (exceptions.into_iter().map(|exception| (exception.offset, exception.reason)).collect(), state)
}

fn at(id: u16, at_ms: i64) -> Entry {
    entry(&Draft { id, at_ms, user: 1, department: 1, minor: 1 }, BASE_MS)
}

#[test]
fn without_versions_a_worker_that_comes_back_is_noticed() {
    let plan = plan(20, 100);
    let log: Vec<Entry> = (0..20).map(|id| at(id, BASE_MS + i64::from(id))).collect();
    let drifts = [false, true].map(|ignores_versions| {
        let mut world = World::new(&plan, &log);
        world.redis.ignores_versions = ignores_versions;
        world.read(10);
        world.stall(Sink::Redis);
        world.finish();
        let before: BTreeMap<_, _> = world.redis.totals().into_iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        world.wake();
        before.iter().collect::<BTreeMap<_, _>>() != world.redis.totals()
    });
    assert_eq!(drifts, [false, true]);
}

#[test]
fn each_grain_has_a_lateness_of_its_own() {
    let mut plan = plan(20, 100);
    let [second, minute, hour] = [1_u64, 60, 3600].map(Duration::from_secs);
    plan.rules.allowed_lateness = PerGrain::new([second, minute, minute, hour, 6 * hour]).expect("ascending");
    // BASE is 21:30 UTC: then come 90 s, 10 minutes, 2 hours and, in Berlin, a day later.
    let mut entries: Vec<Entry> = [0, 90, 600, 2 * 3600 + 1800, 30 * 3600]
        .into_iter()
        .enumerate()
        .flat_map(|(index, seconds)| {
            let id = u16::try_from(index).expect("few");
            [at(10 + id, BASE_MS + seconds * 1000), at(20 + id, BASE_MS)]
        })
        .collect();
    entries.iter_mut().for_each(|entry| entry.log_time_ms = BASE_MS + 30 * 3_600_000);
    plan.rules.redis_retention = PerGrain::all(YEAR);
    let mut state = PartitionState::default();
    for (offset, entry) in (0..).zip(&entries) {
        state.apply(&plan, &record(offset, entry)).expect("no overflow");
    }
    state.fold(&plan).expect("no overflow");
    let missed: Vec<_> = state.take_exceptions().into_iter().map(|it| (it.offset, it.missed)).collect();
    assert_eq!(missed, [(5, Grain::FiveMinutes), (7, Grain::Hour), (9, Grain::Day)]);
    assert_eq!(state.tallies().late_for, [3, 2, 2, 1, 0]);
    let count_at = |grain: Grain| {
        let window = grain.window_at(EventTime::from_millis(BASE_MS), &Zone::parse("Europe/Berlin").expect("known"));
        let cells = state.totals.iter().find(|(found, _)| *found == window).map(|(_, cells)| cells);
        cells.map(|cells| cells.cells.values().map(|cell| cell.measures.count).max().unwrap_or(0))
    };
    // First and its twin of the same second; then one less for each grain that had closed.
    let counts = Grain::ALL.map(|grain| count_at(grain).unwrap_or(0));
    assert_eq!(counts[Grain::Second.index()], 2);
    assert!(counts.is_sorted(), "coarser windows are open for longer: {counts:?}");
}

#[test]
fn what_redis_keeps_no_more_is_only_for_clickhouse() {
    let mut plan = plan(20, 100);
    let [hour, day] = [1_u64, 24].map(|hours| Duration::from_secs(hours * 3600));
    plan.rules.redis_retention = PerGrain::new([hour, hour, hour, hour, day]).expect("ascending");
    let mut state = PartitionState::default();
    // BASE is half an hour before an hour's and a day's end.
    state.set_wall_time(EventTime::from_millis(BASE_MS + 91 * MINUTE_MS));
    state.apply(&plan, &record(0, &at(1, BASE_MS))).expect("no overflow");
    state.fold(&plan).expect("no overflow");
    let mut grains = |sink| -> Vec<Grain> {
        state
            .changed(sink)
            .into_iter()
            .filter(|cell| cell.series.rollup == "total")
            .map(|cell| cell.window.grain)
            .collect()
    };
    assert_eq!(grains(Sink::Redis), [Grain::Day]);
    assert_eq!(grains(Sink::ClickHouse), Grain::KEPT);
}

#[test]
fn values_beyond_the_cap_are_counted_together_and_named() {
    let mut catalog_plan = plan(20, 100);
    catalog_plan.limit_values(2);
    let log: Vec<Entry> = (0..8_u8)
        .map(|department| {
            entry(&Draft { id: department.into(), at_ms: BASE_MS, user: 1, department, minor: 1 }, BASE_MS)
        })
        .collect();
    let mut world = World::new(&catalog_plan, &log);
    world.read(8);
    let overflows = world.state.take_overflows();
    assert_eq!(overflows.iter().map(|overflow| overflow.offset).collect::<Vec<_>>(), [2, 3, 4, 5, 6, 7]);
    assert!(overflows.iter().all(|overflow| overflow.dimensions == ["department"]));
    world.finish();
    let days = world
        .redis
        .cells
        .iter()
        .filter(|((rollup, _, window), _)| rollup == "department" && window.grain == Grain::Day);
    let counts: Vec<_> = days.map(|((_, values, _), (_, measures))| (values.as_str(), measures.count)).collect();
    assert_eq!(counts, [("__other__", 6), ("d0", 1), ("d1", 1)]);
}

#[test]
fn a_window_takes_events_until_its_end_plus_the_allowed_lateness() {
    let minute = Grain::Minute.window_at(EventTime::from_millis(BASE_MS), &Zone::UTC);
    let closes_ms = minute.end.0 / 1000 + 20 * MINUTE_MS;
    let mut on_time = vec![at(1, closes_ms - 1), at(2, BASE_MS)];
    let mut late = vec![at(1, closes_ms), at(2, BASE_MS), at(2, BASE_MS)];
    for entry in on_time.iter_mut().chain(&mut late) {
        entry.log_time_ms = closes_ms;
    }
    assert_eq!(reasons(&plan(20, 100), &on_time).0, []);
    let expected = [(1, Reason::Late), (2, Reason::Duplicate)];
    assert_eq!(reasons(&plan(20, 100), &late).0, expected, "what was late once is a duplicate the second time");
}

#[test]
fn one_event_dated_2099_moves_no_watermark() {
    let (found, state) = reasons(&plan(20, 100), &[at(1, BASE_MS), at(2, 4_070_908_800_000), at(3, BASE_MS)]);
    assert_eq!(found, [(1, Reason::Future)]);
    assert_eq!(state.watermark(), Some(EventTime::from_millis(BASE_MS)));
}

#[test]
fn an_event_of_1970_is_late_or_the_first() {
    assert_eq!(reasons(&plan(20, 100), &[at(1, BASE_MS), at(2, 0)]).0, [(1, Reason::Late)]);
    assert_eq!(reasons(&plan(20, 100), &[at(2, 0), at(1, BASE_MS)]).0, []);
}

#[test]
fn what_cannot_be_read_or_has_no_tenant_is_kept_as_an_exception() {
    let stranger = String::from_utf8(at(1, BASE_MS).payload).expect("text").replace("acme", "nobody");
    let entries = [
        Entry { log_time_ms: BASE_MS, payload: b"{".to_vec() },
        Entry { log_time_ms: BASE_MS, payload: stranger.into_bytes() },
    ];
    let (found, state) = reasons(&plan(20, 100), &entries);
    assert_eq!(found, [(0, Reason::Unreadable), (1, Reason::UnknownTenant)]);
    assert_eq!((state.next_offset(), state.watermark()), (2, None));
}

#[test]
fn an_idle_partition_keeps_its_windows_and_resumes() {
    let plan = plan(20, 100);
    let mut late_resume = at(2, BASE_MS + 26 * 60 * MINUTE_MS);
    late_resume.log_time_ms = BASE_MS + 26 * 60 * MINUTE_MS;
    let log = [at(1, BASE_MS), late_resume];
    let mut world = World::new(&plan, &log);
    world.read(1);
    for _ in 0..3 {
        world.snapshot();
    }
    assert!(!world.state.has_evicted());
    world.finish();
    assert!(world.state.has_evicted(), "the next event closes the windows of the first");
    assert_eq!(world.redis.cells.len(), 20);
}

#[test]
fn money_that_leaves_128_bits_is_an_error() {
    let plan = plan(20, 100);
    let mut state = PartitionState::default();
    let eur: Unit = "EUR".parse().expect("known");
    let first = at(1, BASE_MS);
    state.apply(&plan, &record(0, &first)).expect("fits");
    state.fold(&plan).expect("fits");
    for measures in state.totals.measures_mut() {
        measures.sums.add(&eur, i128::MAX - 1).expect("fits");
    }
    state.apply(&plan, &record(1, &at(2, BASE_MS))).expect("the delta fits");
    assert!(state.fold(&plan).is_err());
}

#[test]
fn the_most_frequent_values_are_kept_per_window_and_in_snapshots() {
    let metric = Metric::top("top_departments", "purchase", "department");
    let tenant = Tenant { metrics: vec![metric], ..tenant() };
    let plan = Plan::new(&Catalog { tenants: vec![tenant] }, plan(20, 100).rules);
    let log: Vec<Entry> = (0..10_u8)
        .map(|index| {
            let department = if index < 6 { 1 } else { index };
            entry(&Draft { id: index.into(), at_ms: BASE_MS, user: 1, department, minor: 1 }, BASE_MS)
        })
        .collect();
    let mut state = PartitionState::default();
    for (offset, entry) in (0..).zip(&log) {
        state.apply(&plan, &record(offset, entry)).expect("no overflow");
    }
    state.fold(&plan).expect("no overflow");
    let mut restored = PartitionState::from_bytes(&state.to_bytes()).expect("as written");
    assert!(restored.take_tops(Sink::Redis).is_empty(), "a snapshot is written when the sinks have everything");
    restored.mark_all_changed(Sink::Redis);
    let tops = state.take_tops(Sink::Redis);
    let grains: Vec<Grain> = tops.iter().map(|top| top.window.grain).collect();
    assert_eq!(grains, [Grain::FiveMinutes, Grain::Hour, Grain::Day]);
    for top in &tops {
        assert_eq!((top.tenant(), top.property(), top.event()), ("acme", "department", "purchase"));
        let first = &top.sketch.top(1)[0];
        assert_eq!((first.value.as_str(), first.at_least, first.at_most), ("d1", 6, 6));
    }
    assert_eq!(restored.take_tops(Sink::Redis), tops);
    assert!(state.take_tops(Sink::Redis).is_empty());
    assert_eq!(state.take_tops(Sink::ClickHouse).len(), 3);
}
