//! Days that are counted together: which, how many deliveries they have, what of the lake they lie in.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};

use jiff::civil::Date;
use reckon_schemas::time::{EventTime, Zone};

/// Days further apart than this are counted in different chunks, because the days between them would be read too.
const GAP_DAYS_MAX: i32 = 7;

/// How many deliveries there are of some days.
pub(crate) fn total(deliveries: &BTreeMap<Date, u64>, days: &[Date]) -> u64 {
    days.iter().filter_map(|day| deliveries.get(day)).sum()
}

/// Consecutive pieces of `days` with at most so many deliveries each (a single day may have more), none of them across
/// a large gap.
pub(crate) fn pieces<'a>(days: &'a [Date], deliveries: &BTreeMap<Date, u64>, most: u64) -> Vec<&'a [Date]> {
    let mut pieces = Vec::new();
    let (mut from, mut sum) = (0, 0_u64);
    for (index, day) in days.iter().enumerate() {
        let own = deliveries.get(day).copied().unwrap_or(0);
        let gap = index > from && (*day - days[index - 1]).get_days() > GAP_DAYS_MAX;
        if index > from && (gap || sum.saturating_add(own) > most) {
            pieces.push(&days[from..index]);
            (from, sum) = (index, 0);
        }
        sum = sum.saturating_add(own);
    }
    if from < days.len() {
        pieces.push(&days[from..]);
    }
    pieces
}

/// The dates of universal time that some days lie in: what their files are filed under.
pub(crate) fn dates(days: &[Date], zone: &Zone) -> RangeInclusive<Date> {
    let span = span(days, zone);
    Zone::UTC.day_of(span.start)..=Zone::UTC.day_of(span.end.plus_micros(-1))
}

/// The span of event time from the first to the last of some days.
pub(crate) fn span(days: &[Date], zone: &Zone) -> Range<EventTime> {
    match (days.first(), days.last()) {
        (Some(first), Some(last)) => zone.day_start(*first)..zone.day_end(*last),
        _ => EventTime(0)..EventTime(0),
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn pieces_cover_all_days_once_and_are_bounded() {
        let deliveries =
            [(1, 4), (2, 4), (3, 9), (4, 1), (20, 1)].map(|(day, count)| (date(2026, 3, day), count)).into();
        let due: Vec<Date> = [1, 2, 3, 4, 5, 20].map(|day| date(2026, 3, day)).to_vec();
        let pieces = pieces(&due, &deliveries, 8);
        let lengths: Vec<usize> = pieces.iter().map(|piece| piece.len()).collect();
        assert_eq!(lengths, [2, 1, 2, 1]);
        assert_eq!(pieces.concat(), due);
        assert!(super::pieces(&[], &deliveries, 8).is_empty());
    }
}
