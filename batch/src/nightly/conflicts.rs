//! Deliveries that contradict the first delivery of their event: found by the recount, listed with both contents.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use reckon_schemas::catalog::Tenant;

use crate::Error;
use crate::recount::{Contradiction, PinnedLake};
use crate::settle::Conflict;

/// Every conflict of which at least one delivery says that it happened on one of the days, in the order of the log; it
/// belongs to the day of the delivery that counts, or to the other one's if that is the only one here.
///
/// # Errors
/// As the lake.
pub(super) async fn read(
    pinned: &PinnedLake,
    tenant: &Tenant,
    days: &[Date],
    contradictions: &[Contradiction],
) -> Result<BTreeMap<Contradiction, Conflict>, Error> {
    let places: BTreeSet<_> = contradictions.iter().flat_map(|found| [found.first, found.other]).collect();
    let contents = pinned.contents(tenant, &places.into_iter().collect::<Vec<_>>()).await?;
    let conflicts = contradictions.iter().filter_map(|found| {
        let (first, other) = (&contents[&found.first], &contents[&found.other]);
        let day_of = |content: &crate::recount::Content| tenant.time_zone.day_of(content.occurred_at);
        let day = [day_of(first), day_of(other)].into_iter().find(|day| days.contains(day))?;
        let conflict = Conflict {
            event_id: first.event_id.clone(),
            day,
            first: (found.first.partition(), found.first.offset()),
            first_content: first.text.clone(),
            other: (found.other.partition(), found.other.offset()),
            other_content: other.text.clone(),
        };
        Some((*found, conflict))
    });
    Ok(conflicts.collect())
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use reckon_schemas::event::{EVENT_VERSION, Event, Properties, Source};
    use reckon_schemas::money::Money;
    use reckon_schemas::stores;
    use reckon_schemas::time::{EventTime, Zone};

    use super::*;
    use crate::archive::tests::archive_messages;
    use crate::lake::Lake;
    use crate::recount::Budget;

    const DAY: i64 = 86_400_000_000;

    fn message(id: &str, at: i64, minor: i64) -> Vec<u8> {
        let mut properties = Properties::new();
        properties.insert("store", "7");
        let money = Some(Money { currency: "EUR".parse().expect("known"), minor });
        let event = Event {
            version: EVENT_VERSION,
            tenant: "acme".into(),
            id: id.into(),
            name: "sale".into(),
            occurred_at: EventTime(at),
            received_at: EventTime(at),
            user: "u".into(),
            money,
            properties,
            source: Source::Native,
        };
        event.encode()
    }

    /// Offset 0 counts. 1 repeats it, 2 says another amount, 3 another day; 4 and 5 are beside the point.
    async fn pinned(dir: &tempfile::TempDir) -> PinnedLake {
        let store = stores::Lake::at(format!("file://{}", dir.path().display()));
        let messages = [("a", 5, 10), ("a", 5, 10), ("a", 5, 13), ("a", 5 + DAY, 10), ("b", 5, 1), ("b", 5, 1)];
        let messages: Vec<_> =
            (0..).zip(messages).map(|(offset, (id, at, minor))| (0, offset, message(id, at, minor))).collect();
        archive_messages(&store, "events", &messages).await;
        let table = Lake::open(&store).await.expect("a lake").events().await.expect("its events");
        PinnedLake::new(&table).await.expect("readable")
    }

    #[tokio::test]
    async fn other_contents_are_listed_with_both_and_repetitions_are_not() {
        let dir = tempfile::tempdir().expect("a folder");
        let pinned = pinned(&dir).await;
        let mut tenant = crate::count::tests::tenant();
        tenant.time_zone = Zone::UTC;
        for (day, offsets) in [(date(1970, 1, 1), vec![2, 3]), (date(1970, 1, 2), vec![3])] {
            let span = tenant.time_zone.day_start(day)..tenant.time_zone.day_end(day);
            let firsts = pinned.first_deliveries(&tenant, span, 6, true, &Budget::new(0)).await.expect("readable");
            let found = read(&pinned, &tenant, &[day], firsts.contradictions()).await.expect("readable");
            assert_eq!(found.values().map(|conflict| conflict.other.1).collect::<Vec<_>>(), offsets);
            for conflict in found.values() {
                assert_eq!((conflict.event_id.as_str(), conflict.day, conflict.first), ("a", day, (0, 0)));
                assert!(conflict.first_content.contains(r#""amount_minor":10,"currency":"EUR""#), "{conflict:?}");
                assert!(conflict.first_content.contains(r#""properties":{"store":"7"}"#), "{conflict:?}");
                assert_ne!(conflict.first_content, conflict.other_content);
            }
            let place = |offset| crate::recount::Place::new(0, offset).expect("possible");
            let doubtful: Vec<i64> = (0..6).filter(|offset| firsts.is_conflicting(place(*offset))).collect();
            assert_eq!(doubtful, if day == date(1970, 1, 1) { vec![0, 1, 2] } else { vec![3] });
        }
    }
}
