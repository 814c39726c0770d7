//! Laws of the merge, against an oracle that looks at every window by itself.

use std::sync::Arc;

use jiff::civil::{Date, date};
use jiff::{Timestamp, ToSpan};
use proptest::prelude::*;
use reckon_schemas::settlement::State;
use reckon_schemas::sketch::Sketch;
use reckon_schemas::time::Zone;
use reckon_schemas::window::{Grain, Window};

use super::plan::{Events, LakeState, SettledDay, Settlements};
use super::*;

const ZONES: [&str; 4] = ["UTC", "America/New_York", "Asia/Kolkata", "America/Sao_Paulo"];
/// A clock change of New York lies in the second week of these days.
const FIRST_DAY: Date = date(2026, 3, 1);

fn day(offset: i64) -> Date {
    FIRST_DAY.saturating_add(offset.days())
}

fn settled(offset: i64, state: State, zone: &Zone) -> SettledDay {
    let day = day(offset);
    SettledDay {
        day,
        start: zone.day_start(day),
        end: zone.day_end(day),
        run_id: Arc::from(format!("run {offset}")),
        state,
        settled_at: Timestamp::UNIX_EPOCH,
        deliveries: 0,
        lake_version: 0,
    }
}

/// What one layer counted, for every window and two groups; no two numbers are alike.
fn cells(windows: &[Window], factor: i128) -> Vec<Cell> {
    let numbered = windows.iter().zip(1_i128..);
    numbered
        .flat_map(|(window, number)| {
            ["a", "b"].into_iter().zip([1, 1_000_000]).map(move |(key, group)| Cell {
                window_start: window.start,
                key: vec![key.to_owned()],
                tally: Tally::Sum(number * factor * group),
            })
        })
        .collect()
}

fn counted(batch: Vec<Cell>, speed: Vec<Cell>) -> Counted {
    Counted { layers: vec![(Layer::Batch, batch), (Layer::Speed, speed)], unions: HashMap::new(), zero: Tally::Sum(0) }
}

proptest! {
    /// Law 6: at every horizon each window is answered by exactly one layer, the sums are the windows' sums, and the
    /// pieces cover the range without gap and overlap.
    #[test]
    fn merge_equals_an_oracle_at_every_horizon(
        zone in 0..ZONES.len(),
        grain in 0..Grain::ALL.len(),
        states in prop::collection::vec(prop::option::weighted(0.9, 1_usize..4), 0..12),
        from_hour in -30_i64..200,
        length_minutes in 1_i64..6_000,
    ) {
        let zone = Zone::parse(ZONES[zone]).expect("known");
        let grain = Grain::ALL[grain];
        let from = zone.day_start(FIRST_DAY).plus_micros(from_hour * 3_600_000_000);
        // Windows of one second in a range of seconds, so that they are no more than others.
        let unit_us = if grain == Grain::Second { 1_000_000 } else { 60_000_000 };
        let to = from.plus_micros(length_minutes * unit_us);
        let windows: Vec<Window> = grain.windows_over(from, to, &zone).collect();
        let states = states.iter().enumerate().filter_map(|(offset, state)| {
            let state = [State::Settled, State::Restated, State::Closed][(*state)? - 1];
            Some(settled(i64::try_from(offset).expect("small"), state, &zone))
        });
        let settlements = Settlements::new(states.collect());
        let horizon = settlements.horizon();
        let plan = Plan::new(&windows, settlements, None);
        let merged = merge(&plan, counted(cells(&windows, 1), cells(&windows, -1_000)))?;

        let can_settle = grain != Grain::Second;
        let is_settled = |window: &Window| can_settle && horizon.is_some_and(|horizon| window.end <= horizon);
        let mut total = 0;
        for (position, window) in windows.iter().enumerate() {
            let number = i128::try_from(position).expect("small") + 1;
            let expected = if is_settled(window) { number } else { number * -1_000 };
            for (group, factor) in [("a", 1), ("b", 1_000_000)] {
                let group = merged.groups.iter().find(|found| found.key == [group]).expect("it has cells");
                prop_assert_eq!(&group.points[&position], &Tally::Sum(expected * factor));
            }
            total += expected * 1_000_001;
        }
        prop_assert_eq!(&merged.total, &Tally::Sum(total));
        prop_assert_eq!(merged.parts.iter().map(Tally::size).sum::<i128>(), total);
        for group in &merged.groups {
            prop_assert_eq!(group.parts.iter().map(Tally::size).sum::<i128>(), group.total.size());
        }
        // Coverage, checked here once more without the plan's own assertion.
        let mut at = windows[0].start;
        for piece in plan.pieces() {
            prop_assert_eq!(piece.from, at);
            prop_assert!(piece.from < piece.to);
            prop_assert_eq!(piece.layer == Layer::Speed, piece.state == State::Provisional);
            for window in &windows[piece.windows.clone()] {
                prop_assert_eq!(is_settled(window), piece.layer == Layer::Batch);
            }
            at = piece.to;
        }
        prop_assert_eq!(at, windows[windows.len() - 1].end);
    }
}

fn plan_of_days(count: i64, settled_days: i64) -> (Plan, Vec<Window>) {
    let zone = Zone::UTC;
    let windows: Vec<Window> =
        Grain::Day.windows_over(zone.day_start(FIRST_DAY), zone.day_start(day(count)), &zone).collect();
    let days = (0..settled_days).map(|offset| settled(offset, State::Settled, &zone)).collect();
    (Plan::new(&windows, Settlements::new(days), None), windows)
}

#[test]
fn the_provenance_of_a_sum_is_that_of_its_least_certain_part() {
    let zone = Zone::UTC;
    let windows: Vec<Window> =
        Grain::Day.windows_over(zone.day_start(FIRST_DAY), zone.day_start(day(4)), &zone).collect();
    let states = [State::Closed, State::Restated, State::Settled];
    let days = states.into_iter().zip(0..).map(|(state, offset)| settled(offset, state, &zone)).collect();
    let plan = Plan::new(&windows, Settlements::new(days), None);
    assert_eq!(plan.provenance(0..1).state, State::Closed);
    assert_eq!(plan.provenance(0..3).state, State::Restated);
    assert_eq!(plan.provenance(0..3).layer, Some(Layer::Batch));
    assert_eq!(plan.provenance(0..3).run_ids.len(), 3);
    assert_eq!((plan.provenance(0..4).state, plan.provenance(0..4).layer), (State::Provisional, None));
    assert_eq!(plan.provenance(3..4).layer, Some(Layer::Speed));
    assert!(plan.provenance(3..4).run_ids.is_empty());
}

#[test]
fn the_lake_is_as_certain_as_its_days_and_raw_events_never() {
    let zone = Zone::UTC;
    let windows: Vec<Window> =
        Grain::Day.windows_over(zone.day_start(FIRST_DAY), zone.day_start(day(5)), &zone).collect();
    let days = (0..4).map(|offset| settled(offset, State::Settled, &zone)).collect();
    let differing = vec![(zone.day_start(day(1)), zone.day_end(day(1)))];
    let events = Events {
        raw_from: Some(zone.day_start(day(3))),
        raw_at: Some(Timestamp::UNIX_EPOCH),
        raw_to: None,
        lake: Some(LakeState { version: 7, committed_at: Timestamp::from_second(9).ok(), differing }),
    };
    let plan = Plan::of_events(&windows, Settlements::new(days), events);
    let said = plan.pieces().iter().map(|piece| (piece.layer, piece.state, piece.windows.clone()));
    let expected = [
        (Layer::Lake, State::Settled, 0..1),
        (Layer::Lake, State::Provisional, 1..2),
        (Layer::Lake, State::Settled, 2..3),
        (Layer::Raw, State::Provisional, 3..5),
    ];
    assert_eq!(said.collect::<Vec<_>>(), expected);
    assert_eq!((plan.windows_of(Layer::Lake), plan.windows_of(Layer::Raw)), (0..3, 3..5));
    assert!(plan.windows_of(Layer::Batch).is_empty() && plan.windows_of(Layer::Speed).is_empty());
    let (settled, all) = (plan.provenance(0..1), plan.provenance(0..5));
    assert_eq!(
        (settled.layer, settled.state, settled.as_of),
        (Some(Layer::Lake), State::Settled, Timestamp::from_second(9).ok())
    );
    assert_eq!((all.layer, all.state, all.as_of), (None, State::Provisional, settled.as_of));
    assert_eq!(plan.place(windows[3].start, Layer::Raw), Place::Window(3));
    assert_eq!(plan.place(windows[3].start, Layer::Lake), Place::LeftOut);
}

#[test]
fn what_raw_events_have_not_come_to_is_missing() {
    let zone = Zone::UTC;
    let (start, end) = (zone.day_start(FIRST_DAY), zone.day_start(day(2)));
    let windows: Vec<Window> = Grain::Day.windows_over(start, end, &zone).collect();
    let missing = |raw_at, raw_to| {
        let events = Events { raw_from: Some(start), raw_at, raw_to, lake: None };
        Plan::of_events(&windows, Settlements::default(), events).raw_events_missing()
    };
    let (there, noon) = (Some(Timestamp::UNIX_EPOCH), start.plus_micros(12 * 3_600_000_000));
    assert_eq!(missing(there, None), None);
    assert_eq!(missing(there, Some(noon)), Some((noon, end)));
    assert_eq!(missing(there, Some(end)), None, "they are behind, but not here");
    assert_eq!(missing(None, None), Some((start, end)));
    assert_eq!(missing(there, Some(EventTime(0))), Some((start, end)), "nobody ever read any");
}

fn sketch(users: std::ops::Range<u32>) -> Sketch {
    let mut sketch = Sketch::new();
    users.for_each(|user| sketch.insert(&user.to_le_bytes()));
    sketch
}

fn users_cell(window: &Window, tally: Tally) -> Cell {
    Cell { window_start: window.start, key: Vec::new(), tally }
}

#[test]
fn users_of_both_layers_are_united_and_not_added() {
    let (plan, windows) = plan_of_days(3, 2);
    let batch = windows[..2].iter().map(|window| users_cell(window, Tally::exact_users(60))).collect();
    let speed = vec![users_cell(&windows[2], Tally::sketched_users(sketch(50..120)))];
    let whole = Tally::Users(tally::Users { exact: Some(90), sketch: Some(sketch(0..90)) });
    let keys = [Some(Vec::new()), None];
    let unions = keys.into_iter().map(|key| ((Some(0), key), whole.clone())).collect();
    let zero = Tally::sketched_users(Sketch::new());
    let merged = merge(&plan, Counted { unions, zero, ..counted(batch, speed) }).expect("complete");
    assert_eq!(merged.parts.iter().map(Tally::size).collect::<Vec<_>>(), [90, 70]);
    assert_eq!(merged.total, Tally::sketched_users(sketch(0..120)));
    assert_eq!(merged.groups[0].points[&1], Tally::exact_users(60));
}

#[test]
fn users_without_a_union_are_an_error_and_not_a_wrong_number() {
    let (plan, windows) = plan_of_days(2, 2);
    let batch = windows.iter().map(|window| users_cell(window, Tally::exact_users(60))).collect();
    let zero = Tally::sketched_users(Sketch::new());
    let counted = Counted { zero, ..counted(batch, Vec::new()) };
    assert_eq!(merge(&plan, counted).err(), Some(MergeError::Incomplete));
}

#[test]
fn overflow_is_an_error() {
    let (plan, windows) = plan_of_days(2, 0);
    let cell = |window: &Window| Cell { window_start: window.start, key: vec![], tally: Tally::Sum(i128::MAX) };
    let merged = merge(&plan, counted(vec![], windows.iter().map(cell).collect()));
    assert_eq!(merged.err(), Some(MergeError::Overflow));
}

#[test]
fn what_is_cut_off_is_added_up() {
    let (plan, windows) = plan_of_days(2, 1);
    let mut merged = merge(&plan, counted(cells(&windows, 1), cells(&windows, 1))).expect("fits");
    assert_eq!(merged.groups[0].key, ["b"]);
    let mut named = merged.clone();
    let other = add_up(merged.keep(&Kept::Largest(1))).expect("sums add up");
    assert_eq!((merged.groups.len(), other.total.size(), other.points.len()), (1, 3, 2));
    assert_eq!(merged.total, Tally::Sum(3_000_003));
    assert!(add_up(merged.keep(&Kept::Largest(1))).is_none());
    assert!(named.clone().keep(&Kept::All).is_empty());
    let left_out = named.keep(&Kept::These(vec![vec!["a".to_owned()], vec!["not there".to_owned()]]));
    assert_eq!((named.groups.len(), left_out.len(), left_out[0].key[0].as_str()), (1, 1, "b"));
}

/// Days as they were settled in one zone, asked for in another one.
fn days_of(zone: &str, offsets: std::ops::Range<i64>) -> Vec<SettledDay> {
    let zone = Zone::parse(zone).expect("known");
    offsets.map(|offset| settled(offset, State::Closed, &zone)).collect()
}

fn windows_of(grain: Grain, zone: &str, offsets: std::ops::Range<i64>) -> Vec<Window> {
    let zone = Zone::parse(zone).expect("known");
    grain.windows_over(zone.day_start(day(offsets.start)), zone.day_start(day(offsets.end)), &zone).collect()
}

fn spans(plan: &Plan) -> Vec<String> {
    plan.unknown().map(|(from, to)| format!("{from}/{to}")).collect()
}

#[test]
fn days_that_were_settled_in_another_zone_are_a_gap_and_not_zero() {
    let settlements = Settlements::new(days_of("America/New_York", 0..4));
    assert_eq!(settlements.horizon().map(|at| at.to_string()).as_deref(), Some("2026-03-05T05:00:00Z"));
    let windows = windows_of(Grain::Day, "Europe/Berlin", -2..4);
    let plan = Plan::new(&windows, settlements, None);
    // The first window was over before anything was settled; New York's first day began in the second one.
    assert_eq!(plan.pieces().iter().map(|piece| piece.windows.clone()).collect::<Vec<_>>(), [0..2, 2..6]);
    let all: Vec<String> = windows[2..].iter().map(|window| format!("{}/{}", window.start, window.end)).collect();
    assert_eq!(spans(&plan), all);
    assert_eq!((plan.provenance(2..3).state, plan.provenance(0..6).state), (State::Provisional, State::Provisional));
    assert!(plan.settled_days(0..6).is_empty(), "their users are those of other hours");
}

#[test]
fn hours_are_answered_whatever_zone_their_days_were_of_except_where_two_zones_meet() {
    // Settled in New York, then the last two days in Berlin: five or six hours are in two days.
    let both = [days_of("America/New_York", 0..3), days_of("Europe/Berlin", 3..5)].concat();
    let windows = windows_of(Grain::Hour, "Europe/Berlin", 1..5);
    let plan = Plan::new(&windows, Settlements::new(both.clone()), None);
    let twice = ["2026-03-03T23", "2026-03-04T00", "2026-03-04T01", "2026-03-04T02", "2026-03-04T03", "2026-03-04T04"];
    let starts: Vec<String> = spans(&plan).iter().map(|span| span[..13].to_owned()).collect();
    assert_eq!(starts, twice);
    let merged = merge(&plan, counted(cells(&windows, 1), Vec::new())).expect("fits");
    let expected: i128 = (1..)
        .zip(&windows)
        .filter(|(_, window)| !twice.contains(&&window.start.to_string()[..13]))
        .map(|(number, _)| number * 1_000_001)
        .sum();
    assert_eq!((merged.total, merged.unplaced.len()), (Tally::Sum(expected), 0));
    // The other way round nobody has counted the hours between them.
    let both = [days_of("Europe/Berlin", 0..3), days_of("America/New_York", 3..5)].concat();
    let plan = Plan::new(&windows_of(Grain::Hour, "America/New_York", 1..5), Settlements::new(both.clone()), None);
    assert_eq!((spans(&plan).len(), spans(&plan)[0].as_str()), (6, "2026-03-03T23:00:00Z/2026-03-04T00:00:00Z"));
    // Days are answered where they are days of this zone.
    let plan = Plan::new(&windows_of(Grain::Day, "America/New_York", 1..5), Settlements::new(both), None);
    assert_eq!(
        spans(&plan),
        ["2026-03-02T05:00:00Z/2026-03-03T05:00:00Z", "2026-03-03T05:00:00Z/2026-03-04T05:00:00Z"]
    );
    assert_eq!((plan.settled_days(0..4).len(), plan.provenance(2..4).state), (2, State::Closed));
}

#[test]
fn a_cell_without_a_window_is_named_and_not_dropped() {
    let (plan, windows) = plan_of_days(3, 0);
    let mut speed = cells(&windows, 1);
    let start = windows[1].start.plus_micros(4 * 3_600_000_000);
    speed.push(Cell { window_start: start, key: vec!["a".to_owned()], tally: Tally::Sum(7) });
    let merged = merge(&plan, counted(cells(&windows, 9), speed)).expect("fits");
    assert_eq!((merged.total, merged.unplaced), (Tally::Sum(6_000_006), [start].into()));
    assert_eq!(plan.around(start), Some((windows[1].start, windows[2].end)));
    assert_eq!(plan.around(windows[2].start), Some((windows[2].start, windows[2].end)));
}
