//! Windows tile event time: no gap, no overlap, whatever the zone does to its clocks.

use proptest::prelude::*;
use reckon_schemas::time::{EventTime, Zone};
use reckon_schemas::window::{Grain, WindowCursor};

const ZONES: [&str; 8] = [
    "UTC",
    "America/New_York",
    "Europe/Berlin",
    "America/Sao_Paulo",   // skipped midnight
    "Australia/Lord_Howe", // shifts by 30 minutes
    "Asia/Kolkata",        // +05:30
    "Pacific/Apia",        // skipped the whole of 2011-12-30
    "Africa/Casablanca",
];

fn any_grain() -> impl Strategy<Value = Grain> {
    proptest::sample::select(Grain::ALL.to_vec())
}

fn any_zone() -> impl Strategy<Value = Zone> {
    proptest::sample::select(ZONES.to_vec()).prop_map(|name| Zone::parse(name).expect("known"))
}

/// 1950 to 2100, so that negative instants and every rule of every zone occur.
fn any_instant() -> impl Strategy<Value = EventTime> {
    (-631_152_000_000_000_i64..4_102_444_800_000_000).prop_map(EventTime)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_instant_is_in_exactly_one_window(grain in any_grain(), zone in any_zone(), at in any_instant()) {
        let window = grain.window_at(at, &zone);
        prop_assert!(window.contains(at));
        prop_assert!(!window.contains(window.end));
        // Its neighbours touch it and are others.
        let next = grain.window_at(window.end, &zone);
        let previous = grain.window_at(EventTime(window.start.0 - 1), &zone);
        prop_assert_eq!(next.start, window.end);
        prop_assert_eq!(previous.end, window.start);
        // Every instant of a window finds the same window.
        prop_assert_eq!(grain.window_at(window.start, &zone), window);
        prop_assert_eq!(grain.window_at(EventTime(window.end.0 - 1), &zone), window);
    }

    #[test]
    fn days_have_23_to_25_hours(zone in any_zone(), at in any_instant()) {
        let day = Grain::Day.window_at(at, &zone);
        let hours = (day.end.0 - day.start.0) as f64 / 3.6e9;
        prop_assert!((22.5..=25.5).contains(&hours), "{} hours in {}", hours, zone.name());
    }

    #[test]
    fn a_range_is_covered_without_gap_and_overlap(
        grain in any_grain(), zone in any_zone(), from in any_instant(), length_us in 0_i64..200_000_000_000,
    ) {
        let to = from.plus_micros(length_us);
        let windows: Vec<_> = grain.windows_over(from, to, &zone).collect();
        if length_us == 0 {
            prop_assert!(windows.is_empty());
        } else {
            prop_assert!(windows[0].contains(from));
            prop_assert!(windows[windows.len() - 1].contains(EventTime(to.0 - 1)));
        }
        for pair in windows.windows(2) {
            prop_assert_eq!(pair[0].end, pair[1].start);
        }
    }

    #[test]
    fn each_window_lies_in_one_of_the_next_grain(zone in any_zone(), at in any_instant()) {
        // Older offsets with seconds (before 1972) do not nest; events are accepted from 1970 on, and no zone here had
        // such an offset then.
        prop_assume!(at.0 > 0);
        let windows = Grain::ALL.map(|grain| grain.window_at(at, &zone));
        for (fine, coarse) in windows.iter().zip(&windows[1..]) {
            // An hour of universal time lies in two days where a zone is half an hour off; its minutes do not.
            if (fine.grain, coarse.grain) != (Grain::Hour, Grain::Day) {
                prop_assert!(coarse.start <= fine.start && fine.end <= coarse.end);
            }
        }
        let (five_minutes, day) = (windows[Grain::FiveMinutes.index()], windows[Grain::Day.index()]);
        prop_assert!(day.start <= five_minutes.start && five_minutes.end <= day.end);
    }

    #[test]
    fn a_cursor_agrees_with_the_calendar(
        grain in any_grain(), zone in any_zone(), instants in proptest::collection::vec(any_instant(), 1..40),
    ) {
        let mut cursor = WindowCursor::new(grain, zone.clone());
        for at in instants {
            prop_assert_eq!(cursor.window_at(at), grain.window_at(at, &zone));
        }
    }
}
