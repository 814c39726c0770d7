//! The core against an oracle: any order, any cuts, crashes anywhere, sinks that lose everything.

mod rules;

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use reckon_schemas::catalog::{Catalog, Tenant};
use reckon_schemas::cell::{Contribution, Measures};
use reckon_schemas::event::{EVENT_VERSION, Event, Properties, Source};
use reckon_schemas::money::Money;
use reckon_schemas::time::{EventTime, Zone};
use reckon_schemas::window::{Grain, PerGrain, Window};

use super::plan::{Plan, Rules, micros};
use super::{Exception, FreshUsers, PartitionState, Record, Series, Sink};

const MINUTE_MS: i64 = 60_000;
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
/// 2026-10-24T21:30:00Z, half an hour before midnight and a day of 25 hours in Berlin.
const BASE_MS: i64 = 1_792_877_400_000;

/// One record of the simulated log.
#[derive(Clone, Debug)]
struct Entry {
    log_time_ms: i64,
    payload: Vec<u8>,
}

/// What an event of the log is made from.
#[derive(Clone, Debug)]
struct Draft {
    id: u16,
    at_ms: i64,
    user: u8,
    department: u8,
    minor: i64,
}

fn record(offset: i64, entry: &Entry) -> Record<'_> {
    Record { offset, log_time_ms: entry.log_time_ms, payload: &entry.payload }
}

fn entry(draft: &Draft, log_time_ms: i64) -> Entry {
    let mut properties = Properties::new();
    properties.insert("department", format!("d{}", draft.department));
    let event = Event {
        version: EVENT_VERSION,
        tenant: "acme".into(),
        id: draft.id.to_string().into(),
        name: "purchase".into(),
        occurred_at: EventTime::from_millis(draft.at_ms),
        received_at: EventTime::from_millis(draft.at_ms),
        user: if draft.user == 0 { String::new() } else { format!("u{}", draft.user) }.into(),
        money: Some(Money { currency: "EUR".parse().expect("known"), minor: draft.minor }),
        properties,
        source: Source::Native,
    };
    Entry { log_time_ms, payload: event.encode() }
}

fn tenant() -> Tenant {
    Tenant {
        rollups: vec!["department".parse().expect("valid")],
        ..Tenant::new("acme".parse().expect("valid"), Zone::parse("Europe/Berlin").expect("known"))
    }
}

fn plan(lateness_minutes: u64, dedup_horizon_records: usize) -> Plan {
    let rules = Rules {
        allowed_lateness: PerGrain::all(Duration::from_secs(60 * lateness_minutes)),
        redis_retention: PerGrain::new([Duration::from_secs(600), YEAR, YEAR, YEAR, YEAR]).expect("ascending"),
        future_skew_us: micros(Duration::from_secs(600)),
        dedup_horizon_records,
    };
    Plan::new(&Catalog { tenants: vec![tenant()] }, rules)
}

type CellName = (String, String, Window);

/// What a sink is given.
type Given = Vec<(CellName, Measures)>;

/// A store of versioned absolute totals, as both sinks are.
#[derive(Clone, Debug, Default)]
struct Store {
    cells: BTreeMap<CellName, (i64, Measures)>,
    /// The negative control: a store that takes whatever comes last.
    ignores_versions: bool,
}

impl Store {
    fn write(&mut self, name: CellName, version: i64, measures: Measures) {
        let slot = self.cells.entry(name).or_insert((version, Measures::default()));
        if slot.0 <= version || self.ignores_versions {
            *slot = (version, measures);
        }
    }

    fn totals(&self) -> BTreeMap<&CellName, &Measures> {
        self.cells.iter().map(|(name, (_, measures))| (name, measures)).collect()
    }
}

/// A worker with its stores, one partition of a log, and a life that may end at any time.
struct World<'a> {
    plan: &'a Plan,
    log: &'a [Entry],
    state: PartitionState,
    redis: Store,
    clickhouse: Store,
    exceptions: BTreeMap<i64, Exception>,
    snapshots: Vec<Vec<u8>>,
    /// Per sink: the version of a flush that is in the store and not acknowledged yet.
    under_way: [Option<i64>; 2],
    /// What workers that lost the partition still hold in their hands: the sink, the version, the cells.
    stalled: Vec<(Sink, i64, Given)>,
}

impl<'a> World<'a> {
    fn new(plan: &'a Plan, log: &'a [Entry]) -> Self {
        Self {
            plan,
            log,
            state: PartitionState::default(),
            redis: Store::default(),
            clickhouse: Store::default(),
            exceptions: BTreeMap::new(),
            snapshots: vec![],
            under_way: [None; 2],
            stalled: vec![],
        }
    }

    fn read(&mut self, records: usize) {
        for _ in 0..records {
            let offset = self.state.next_offset();
            let Some(entry) = self.log.get(usize::try_from(offset).expect("small")) else { return };
            self.state.apply(self.plan, &record(offset, entry)).expect("no overflow");
        }
    }

    /// Begins a flush, unless one is under way; records may be read before its answer comes.
    fn send(&mut self, sink: Sink) {
        if self.under_way[sink.index()].is_some() {
            return;
        }
        self.state.fold(self.plan).expect("no overflow");
        let version = self.state.next_offset();
        let cells = self.take(sink);
        self.write(sink, version, cells);
        if sink == Sink::ClickHouse {
            for exception in self.state.take_exceptions() {
                self.exceptions.insert(exception.offset, exception);
            }
        }
        self.under_way[sink.index()] = Some(version);
    }

    fn take(&mut self, sink: Sink) -> Given {
        let name = |series: &Series, window| (series.rollup.clone(), series.values.as_str().to_owned(), window);
        if sink == Sink::ClickHouse {
            let changed = self.state.changed(sink);
            return changed.iter().map(|cell| (name(cell.series, cell.window), cell.measures.clone())).collect();
        }
        let fresh = self.state.take_fresh().into_iter().map(|cell| {
            let FreshUsers::Beside(users) = cell.users else { panic!("there are only a few users") };
            (name(&cell.series, cell.window), Measures { count: cell.count, sums: cell.sums, users })
        });
        fresh.collect()
    }

    fn write(&mut self, sink: Sink, version: i64, cells: Given) {
        let store = match sink {
            Sink::Redis => &mut self.redis,
            Sink::ClickHouse => &mut self.clickhouse,
        };
        cells.into_iter().for_each(|(name, measures)| store.write(name, version, measures));
    }

    /// The worker stops with a flush in its hands; another one takes the partition over from the newest snapshot.
    fn stall(&mut self, sink: Sink) {
        self.state.fold(self.plan).expect("no overflow");
        let version = self.state.next_offset();
        let cells = self.take(sink);
        self.stalled.push((sink, version, cells));
        self.crash(0);
    }

    /// Workers that had stopped go on, and write what they had in their hands.
    fn wake(&mut self) {
        for (sink, version, cells) in std::mem::take(&mut self.stalled) {
            self.write(sink, version, cells);
        }
    }

    fn answer(&mut self, sink: Sink) {
        if let Some(version) = self.under_way[sink.index()].take() {
            self.state.acknowledge(sink, version);
            self.state.evict(self.plan);
        }
    }

    fn flush(&mut self, sink: Sink) {
        self.answer(sink);
        self.send(sink);
        self.answer(sink);
    }

    fn snapshot(&mut self) {
        self.flush(Sink::Redis);
        self.flush(Sink::ClickHouse);
        self.snapshots.push(self.state.to_bytes());
    }

    /// The newest `damaged` snapshots cannot be read.
    fn crash(&mut self, damaged: usize) {
        let readable = self.snapshots.len().saturating_sub(damaged);
        self.snapshots.truncate(readable);
        self.under_way = [None; 2];
        self.state = match self.snapshots.last() {
            Some(bytes) => PartitionState::from_bytes(bytes).expect("as written"),
            None => PartitionState::default(),
        };
    }

    fn lose_redis(&mut self) {
        self.redis = Store::default();
        self.state.fold(self.plan).expect("no overflow");
        self.state.mark_all_changed(Sink::Redis);
        self.flush(Sink::Redis);
        for (name, (version, measures)) in self.clickhouse.cells.clone() {
            self.redis.write(name, version, measures);
        }
    }

    /// The cells of Redis without the seconds that have expired there.
    fn asked_for(&self) -> BTreeMap<&CellName, &Measures> {
        let mut totals = self.redis.totals();
        let log_time = EventTime::from_millis(self.state.log_time_ms());
        totals.retain(|(_, _, window), _| !self.plan.rules.is_forgotten(window, log_time));
        totals
    }

    fn live(&mut self, op: Op) {
        match op {
            Op::Read(records) => self.read(records),
            Op::Send(sink) => self.send(sink),
            Op::Answer(sink) => self.answer(sink),
            Op::Snapshot => self.snapshot(),
            Op::Crash(damaged) => self.crash(damaged),
            Op::Stall(sink) => self.stall(sink),
            Op::Wake => self.wake(),
            Op::LoseRedis => self.lose_redis(),
        }
    }

    fn finish(&mut self) {
        self.read(self.log.len());
        self.flush(Sink::Redis);
        self.flush(Sink::ClickHouse);
    }
}

#[derive(Clone, Debug)]
enum Op {
    Read(usize),
    Send(Sink),
    Answer(Sink),
    Snapshot,
    Crash(usize),
    Stall(Sink),
    Wake,
    LoseRedis,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        4 => (1_usize..25).prop_map(Op::Read),
        3 => prop::sample::select(Sink::ALL.to_vec()).prop_map(Op::Send),
        3 => prop::sample::select(Sink::ALL.to_vec()).prop_map(Op::Answer),
        2 => Just(Op::Snapshot),
        1 => (0_usize..3).prop_map(Op::Crash),
        1 => prop::sample::select(Sink::ALL.to_vec()).prop_map(Op::Stall),
        1 => Just(Op::Wake),
        1 => Just(Op::LoseRedis),
    ];
    prop::collection::vec(op, 0..40)
}

fn drafts(minutes: i64, ids: u16) -> impl Strategy<Value = Vec<Draft>> {
    let draft = (0..ids, 0..minutes * MINUTE_MS, 0_u8..6, 0_u8..4, -500_i64..5000)
        .prop_map(|(id, at_ms, user, department, minor)| Draft { id, at_ms: BASE_MS + at_ms, user, department, minor });
    prop::collection::vec(draft, 0..200)
}

/// Sums the drafts in the plainest way: no deltas, no folds, no grains made from grains.
fn recount(drafts: &[Draft]) -> BTreeMap<CellName, Measures> {
    let zone = Zone::parse("Europe/Berlin").expect("known");
    let mut cells: BTreeMap<CellName, Measures> = BTreeMap::new();
    for draft in drafts {
        let payload = entry(draft, 0).payload;
        let event = Event::decode(&payload).expect("valid");
        for (rollup, values) in [("total", String::new()), ("department", format!("d{}", draft.department))] {
            for grain in Grain::KEPT {
                let window = grain.window_at(event.occurred_at, &zone);
                let cell = cells.entry((rollup.to_owned(), values.clone(), window)).or_default();
                cell.add(&Contribution::of(&event, &[])).expect("no overflow");
            }
        }
    }
    cells
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn on_time_events_equal_a_recount_in_any_order(
        drafts in drafts(50, u16::MAX), pace in 1_usize..60, seed in any::<u64>(),
    ) {
        let mut drafts = drafts;
        for (index, draft) in drafts.iter_mut().enumerate() {
            draft.id = u16::try_from(index).expect("few");
        }
        let expected = recount(&drafts);
        drafts.sort_by_key(|draft| seed.rotate_left(u32::from(draft.id) % 64) ^ u64::from(draft.id));
        let log: Vec<Entry> = drafts.iter().map(|draft| entry(draft, BASE_MS + 60 * MINUTE_MS)).collect();
        let plan = plan(60, 1000);
        let mut world = World::new(&plan, &log);
        for _ in 0..log.len().div_ceil(pace) {
            world.read(pace);
            world.flush(Sink::Redis);
        }
        world.finish();
        prop_assert!(world.exceptions.is_empty());
        // An hour after it happened, nobody asks for single seconds any more.
        prop_assert_eq!(world.redis.totals(), expected.iter().collect());
        prop_assert_eq!(world.clickhouse.totals(), expected.iter().collect());
    }

    #[test]
    fn crashes_and_losses_change_nothing(drafts in drafts(600, 150), ops in ops(), jitter in 0_i64..120) {
        let mut drafts = drafts;
        // Roughly in time order, so that windows close on the way; some are late, some twice.
        drafts.sort_by_key(|draft| draft.at_ms + i64::from(draft.id) % 7 * jitter * MINUTE_MS / 6);
        let log: Vec<Entry> = drafts.iter().map(|draft| entry(draft, draft.at_ms)).collect();
        let plan = plan(20, 40);
        let mut calm = World::new(&plan, &log);
        calm.finish();
        let mut world = World::new(&plan, &log);
        ops.into_iter().for_each(|op| world.live(op));
        world.finish();
        world.wake();
        prop_assert_eq!(world.asked_for(), calm.asked_for());
        prop_assert_eq!(world.clickhouse.totals(), calm.clickhouse.totals());
        prop_assert_eq!(&world.exceptions, &calm.exceptions);
        // Each record is counted in a day, or is an exception that says that it is not.
        let counted: u64 = calm.redis.cells.iter()
            .filter(|((rollup, _, window), _)| rollup == "total" && window.grain == Grain::Day)
            .map(|(_, (_, measures))| measures.count)
            .sum();
        let refused = calm.exceptions.values().filter(|exception| exception.missed == Grain::Day).count();
        prop_assert_eq!(counted + refused as u64, log.len() as u64, "every record is one or the other");
    }
}
