//! Which days are due.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::civil::Date;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::settlement::State;
use reckon_schemas::time::{EventTime, Zone};

use super::Request;
use crate::Error;
use crate::retention::Held;
use crate::settle::Previous;

/// Refuses a request for a day that cannot be final.
pub(super) fn check_date_is_over(tenant: &Tenant, request: &Request, settle_after: Duration) -> Result<(), Error> {
    let Some(day) = request.date else { return Ok(()) };
    if is_over(day, &tenant.time_zone, request.now, settle_after) {
        return Ok(());
    }
    let zone = &tenant.time_zone;
    let over_at = plus(zone.day_end(day), settle_after);
    Err(Error::NotYetFinal(format!("{day} of tenant {} ({}) can be settled from {over_at}", tenant.id, zone.name())))
}

/// The days from the first one with deliveries to the last one that is over, as far as they were never settled or have
/// other deliveries or fewer events than when they were, or all are asked for; closed days never change. Days without
/// deliveries are settled as well, so that the horizon can pass them.
///
/// The lake only grows. So what a day has changed if it has more deliveries, or if it has fewer events than those that it
/// was settled with, because one of them was delivered earlier elsewhere: two numbers tell, whoever settled what before.
/// (More of them there are if the first delivery has expired, and then it has been counted.)
pub(super) fn due_days(
    deliveries: &BTreeMap<Date, u64>,
    events: &BTreeMap<Date, u64>,
    settled: &BTreeMap<Date, Previous>,
    zone: &Zone,
    request: &Request,
    settle_after: Duration,
) -> Vec<Date> {
    let Some(first) = deliveries.keys().chain(settled.keys()).min().copied() else { return Vec::new() };
    let days = std::iter::successors(Some(first), |day| day.tomorrow().ok());
    days.take_while(|day| is_over(*day, zone, request.now, settle_after))
        .filter(|day| request.date.is_none_or(|asked| asked == *day))
        .filter(|day| match settled.get(day) {
            None => true,
            Some(previous) if previous.state == State::Closed => false,
            Some(previous) => {
                let of = |counts: &BTreeMap<Date, u64>| counts.get(day).copied().unwrap_or(0);
                let has_fewer_events = !events.is_empty() && of(events) < previous.events;
                request.full || previous.deliveries != of(deliveries) || has_fewer_events
            }
        })
        .collect()
}

/// What of some days is still in the lake, and what has expired: that is never counted again.
pub(super) fn held_days(days: Vec<Date>, held: Held, zone: &Zone) -> (Vec<Date>, Vec<Date>) {
    days.into_iter().partition(|day| held.holds(*day, zone))
}

fn is_over(day: Date, zone: &Zone, now: jiff::Timestamp, settle_after: Duration) -> bool {
    plus(zone.day_end(day), settle_after) <= EventTime::from_timestamp(now)
}

fn plus(at: EventTime, by: Duration) -> EventTime {
    at.plus_micros(i64::try_from(by.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    fn request(now: &str, date: Option<Date>) -> Request {
        Request { tenant: None, date, full: false, now: now.parse().expect("a timestamp") }
    }

    fn previous(deliveries: u64, state: State) -> Previous {
        let at = EventTime(0);
        let events = deliveries / 2;
        Previous {
            deliveries,
            events,
            state,
            content_hash: String::new(),
            settled_at: at,
            window_end: at,
            generation: 0,
        }
    }

    fn days(list: &[(i8, u64)]) -> BTreeMap<Date, u64> {
        list.iter().map(|(day, count)| (date(2026, 3, *day), *count)).collect()
    }

    #[test]
    fn days_are_due_when_they_are_over_in_their_zone_and_changed() {
        let zone = Zone::parse("America/New_York").expect("known");
        let deliveries = days(&[(5, 10), (8, 3), (9, 4), (10, 5)]);
        let due = |now, settle_after_s, settled: &BTreeMap<_, _>, date| {
            due_days(
                &deliveries,
                &BTreeMap::new(),
                settled,
                &zone,
                &request(now, date),
                Duration::from_secs(settle_after_s),
            )
            .iter()
            .map(|day| day.day())
            .collect::<Vec<_>>()
        };
        let none = BTreeMap::new();
        // The 8th has 23 hours and ends at 04:00 universal time.
        assert_eq!(due("2026-03-09T04:00:00Z", 0, &none, None), [5, 6, 7, 8]);
        assert_eq!(due("2026-03-09T03:59:59Z", 0, &none, None), [5, 6, 7]);
        assert_eq!(due("2026-03-09T04:00:00Z", 1, &none, None), [5, 6, 7]);
        assert_eq!(due("2026-03-10T05:00:00Z", 0, &none, Some(date(2026, 3, 8))), [8]);
        assert_eq!(due("2026-03-10T05:00:00Z", 0, &none, Some(date(2026, 3, 4))), [] as [i8; 0]);
        let mut settled: BTreeMap<_, _> =
            [(5, 10), (6, 0), (7, 0), (8, 2)].map(|(d, n)| (date(2026, 3, d), previous(n, State::Settled))).into();
        assert_eq!(due("2026-03-09T04:00:00Z", 0, &settled, None), [8]);
        let full = Request { full: true, ..request("2026-03-09T04:00:00Z", None) };
        let all = due_days(&deliveries, &BTreeMap::new(), &settled, &zone, &full, Duration::ZERO);
        assert_eq!(all.iter().map(|day| day.day()).collect::<Vec<_>>(), [5, 6, 7, 8]);
        settled.insert(date(2026, 3, 8), previous(2, State::Closed));
        assert_eq!(
            due_days(&deliveries, &BTreeMap::new(), &settled, &zone, &full, Duration::ZERO).len(),
            3,
            "what is closed stays"
        );
        assert_eq!(due("2026-03-09T04:00:00Z", 0, &settled, None), [] as [i8; 0]);
        assert_eq!(due("2026-03-10T04:00:00Z", 0, &settled, None), [9]);
    }

    #[test]
    fn a_day_that_lost_an_event_to_another_is_due() {
        let (zone, request) = (Zone::UTC, request("2026-03-09T00:00:00Z", None));
        let deliveries = days(&[(6, 10), (7, 20), (8, 30)]);
        let settled: BTreeMap<_, _> = [(6, 10), (7, 20), (8, 30)]
            .map(|(day, deliveries)| (date(2026, 3, day), previous(deliveries, State::Settled)))
            .into();
        let due = |events: &[(i8, u64)]| {
            let due = due_days(&deliveries, &days(events), &settled, &zone, &request, Duration::ZERO);
            due.iter().map(|day| day.day()).collect::<Vec<_>>()
        };
        assert_eq!(due(&[(6, 5), (7, 10), (8, 15)]), [] as [i8; 0]);
        assert_eq!(due(&[(6, 5), (7, 9), (8, 15)]), [7]);
        assert_eq!(due(&[(6, 5), (7, 10)]), [8]);
        assert_eq!(due(&[(6, 5), (7, 11), (8, 15)]), [] as [i8; 0], "what came before has expired");
        assert_eq!(due(&[]), [] as [i8; 0], "nobody knows how many events there are");
    }

    #[test]
    fn a_day_that_is_not_over_is_refused_with_the_instant_it_will_be() {
        let tenant = Tenant::new("acme".parse().expect("valid"), Zone::parse("Asia/Tokyo").expect("known"));
        let asked = request("2026-03-09T14:00:00Z", Some(date(2026, 3, 9)));
        let error = check_date_is_over(&tenant, &asked, Duration::ZERO).expect_err("an hour is left");
        assert!(matches!(&error, Error::NotYetFinal(text) if text.contains("2026-03-09T15:00:00Z")), "{error}");
        let asked = request("2026-03-09T15:00:00Z", Some(date(2026, 3, 9)));
        check_date_is_over(&tenant, &asked, Duration::ZERO).expect("over");
    }
}
