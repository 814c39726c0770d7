use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::date;
use proptest::prelude::*;
use reckon_schemas::sketch::Sketch;
use reckon_schemas::sums::Unit;
use reckon_schemas::time::EventTime;

use super::super::User;
use super::super::partitions::Budget;
use super::*;

fn wanted(zone: &Zone) -> Wanted {
    Wanted { grains: Grain::KEPT.to_vec(), zone: zone.clone(), users: true, threads: 2 }
}

#[test]
fn coarser_cells_count_every_event_and_each_user_once() {
    let zone = Zone::parse("Europe/Berlin").expect("known");
    let mut tally = Tally::new(Grain::Minute, &zone, &Budget::new(0));
    let [eur, quantity] = ["EUR", "#quantity"].map(|unit| unit.parse::<Unit>().expect("known"));
    let start = zone.day_start(date(2026, 10, 25));
    // 25 hours, an event every ten minutes, three users in turn.
    for step in 0..150_i64 {
        let at = start.plus_micros(step * 600_000_000);
        let user = User::of("t", &format!("user-{}", step % 3));
        let amounts = [(eur.clone(), step), (quantity.clone(), 2)];
        tally.count(at, date(2026, 10, 25), &[0], &amounts, user).expect("small");
    }
    let cells = Cells::of(vec![tally], &wanted(&zone)).expect("small");
    let of = |grain| cells.all().iter().filter(move |cell| cell.window.grain == grain);
    assert_eq!(Grain::ALL.map(|grain| of(grain).count()), [0, 150, 150, 25, 1]);
    let day = of(Grain::Day).next().expect("one");
    assert_eq!((day.exact.count, day.exact.users_exact, day.exact.users.estimate()), (150, 3, 3));
    assert_eq!((day.exact.sums.get(eur), day.exact.sums.get(quantity)), ((0..150).sum::<i128>(), 300));
    assert_eq!(of(Grain::Hour).map(|cell| cell.exact.users_exact).sum::<u64>(), 75);
    assert_eq!(cells.users_of_days().count(), 3);
    assert_eq!(cells.of_day(0, date(2026, 10, 25)), Some(day));
}

#[test]
fn an_hour_in_two_days_has_a_cell_for_each() {
    let zone = Zone::parse("Asia/Kolkata").expect("known");
    let mut tally = Tally::new(Grain::Minute, &zone, &Budget::new(0));
    let midnight = zone.day_start(date(2026, 5, 2));
    let user = User::of("t", "u");
    tally.count(midnight.plus_micros(-1), date(2026, 5, 1), &[0], &[], user).expect("no money");
    tally.count(midnight, date(2026, 5, 2), &[0], &[], user).expect("no money");
    let cells = Cells::of(vec![tally], &wanted(&zone)).expect("no money");
    let hours: Vec<_> = cells.all().iter().filter(|cell| cell.window.grain == Grain::Hour).collect();
    assert_eq!(hours.len(), 2);
    assert_eq!(hours[0].window, hours[1].window);
    assert!(hours.iter().all(|cell| cell.exact.count == 1 && cell.exact.users_exact == 1));
}

#[test]
fn a_sum_that_leaves_128_bits_is_an_error() {
    let eur: Unit = "EUR".parse().expect("known");
    let mut cells = Adding {
        timeline: &Timeline::new(vec![(EventTime(0), date(1970, 1, 1))], &[Grain::Day], &Zone::UTC),
        cells: Cells::default(),
        numbers: HashMap::new(),
    };
    let tally = || {
        let mut tally = Tally::new(Grain::Day, &Zone::UTC, &Budget::new(0));
        tally.count(EventTime(0), date(1970, 1, 1), &[0], &[(eur.clone(), 0)], None).expect("nothing");
        let mut tallied = tally.finish();
        tallied.sums.iter_mut().flatten().for_each(|sum| *sum = Some(i128::MAX));
        tallied
    };
    let translation = Translation { combinations: vec![0], slots: vec![0] };
    cells.add(&tally(), &translation).expect("fits");
    assert_eq!(cells.add(&tally(), &translation), Err(SumOverflow));
}

/// An event as the property test makes it: minute, user, group of the second rollup, amount.
type Made = (i64, u8, u32, i64);

/// Group, grain, start, day: count, sum, users.
type Naive = BTreeMap<(u32, Grain, EventTime, Date), (u64, i128, BTreeSet<u8>)>;

fn naive(zone: &Zone, events: &[Made]) -> Naive {
    let mut cells = Naive::new();
    for (minute, user, group, amount) in events {
        let at = EventTime(minute * 60_000_000 + 7);
        let day = zone.day_of(at);
        for group in [0, *group] {
            for grain in Grain::KEPT {
                let cell = cells.entry((group, grain, grain.window_at(at, zone).start, day)).or_default();
                cell.0 += 1;
                cell.1 += i128::from(*amount);
                if *user > 0 {
                    cell.2.insert(*user);
                }
            }
        }
    }
    cells
}

proptest! {
    /// However the events are divided among threads, whatever numbers they gave to groups, and whether memory is short.
    #[test]
    fn cells_are_those_of_a_naive_count(
        events in prop::collection::vec((0..4000_i64, 0..30_u8, 1..4_u32, any::<i64>()), 0..400),
        threads in 1..4_usize,
        zone in prop::sample::select(vec!["Asia/Kolkata", "Europe/Berlin", "America/St_Johns"]),
    ) {
        let (zone, eur) = (Zone::parse(zone).expect("known"), "EUR".parse::<Unit>().expect("known"));
        let budget = Budget::new(0);
        // Every thread knows the groups by other numbers: turned around by an odd one.
        let turn = |thread: usize, group: u32| if thread % 2 == 1 { 3 - group } else { group };
        let mut tallies: Vec<Tally> = (0..threads).map(|_| Tally::new(Grain::Minute, &zone, &budget)).collect();
        for (index, (minute, user, group, amount)) in events.iter().enumerate() {
            let (thread, at) = (index % threads, EventTime(minute * 60_000_000 + 7));
            let groups = [0, *group].map(|group| turn(thread, group));
            let user = if *user > 0 { User::of("t", &user.to_string()) } else { None };
            tallies[thread].count(at, zone.day_of(at), &groups, &[(eur.clone(), *amount)], user).expect("small");
        }
        for (thread, tally) in tallies.iter_mut().enumerate() {
            tally.renumber(&[0, 1, 2, 3].map(|group| turn(thread, group)));
        }
        let cells = Cells::of(tallies, &wanted(&zone)).expect("small");
        let expected = naive(&zone, &events);
        prop_assert_eq!(cells.all().len(), expected.len());
        for cell in cells.all() {
            let (count, sum, users) = &expected[&(cell.group, cell.window.grain, cell.window.start, cell.day)];
            let mut sketch = Sketch::new();
            users.iter().for_each(|user| sketch.insert(user.to_string().as_bytes()));
            prop_assert_eq!(cell.exact.count, *count);
            prop_assert_eq!(cell.exact.sums.get(&eur), *sum);
            prop_assert_eq!(cell.exact.users_exact, users.len() as u64);
            prop_assert_eq!(&cell.exact.users, &sketch);
        }
        let listed: BTreeSet<(u32, Date, u128)> =
            cells.users_of_days().map(|(cell, user)| (cell.group, cell.day, user)).collect();
        prop_assert_eq!(listed.len(), cells.users_of_days().count(), "each once");
        let users_of_days = expected.iter().filter(|((_, grain, ..), _)| *grain == Grain::Day);
        let of_days: BTreeSet<(u32, Date, u128)> = users_of_days
            .flat_map(|((group, _, _, day), (_, _, users))| users.iter().map(|user| (*group, *day, *user)))
            .map(|(group, day, user)| (group, day, User::of("t", &user.to_string()).expect("a name").key))
            .collect();
        prop_assert_eq!(listed, of_days);
    }
}
