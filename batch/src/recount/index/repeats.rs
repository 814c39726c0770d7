//! Events that were delivered more than once: all of their deliveries. Few of many, and all that a count has to know of
//! other days: whichever event is not among them was delivered once.

use std::collections::BTreeMap;

use hashbrown::HashSet;
use jiff::civil::Date;
use reckon_schemas::time::{EventTime, MICROS_PER_DAY, Zone};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

use super::super::firsts::{Contradiction, FirstDeliveries, Sighting};
use super::super::named::{Position, key_of, position_of};
use super::super::places::Place;
use super::IndexError;
use super::files::Files;

/// A delivery as a record.
pub(super) const WORDS: usize = 7;

/// A delivery of an event, and when it says that the event happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delivered {
    pub(super) sighting: Sighting,
    pub(super) occurred_us: i64,
}

impl Delivered {
    /// The key of its event.
    pub(crate) fn key(&self) -> u128 {
        key_of(&self.sighting)
    }

    /// Where it is in the log.
    pub(crate) fn position(&self) -> Position {
        position_of(&self.sighting)
    }

    /// When it says that the event happened.
    pub(crate) fn occurred_at(&self) -> EventTime {
        EventTime(self.occurred_us)
    }

    pub(super) fn record(&self) -> [u64; WORDS] {
        let Sighting { key, log_time_us, place, content } = self.sighting;
        let occurred = self.occurred_us.cast_unsigned();
        [key[0], key[1], log_time_us.cast_unsigned(), place.0, content[0], content[1], occurred]
    }

    pub(super) fn of_record(record: [u64; WORDS]) -> Self {
        let [high, low, log_time, place, content_high, content_low, occurred] = record;
        Self {
            sighting: Sighting {
                key: [high, low],
                log_time_us: log_time.cast_signed(),
                place: Place(place),
                content: [content_high, content_low],
            },
            occurred_us: occurred.cast_signed(),
        }
    }

    /// The order in which an event's deliveries count.
    pub(super) fn order(&self) -> ([u64; 2], i64, Place) {
        (self.sighting.key, self.sighting.log_time_us, self.sighting.place)
    }

    /// The date that it is filed under.
    pub(super) fn date(&self) -> Date {
        Zone::UTC.day_of(EventTime(self.occurred_us))
    }
}

/// The number of the date that an instant is filed under.
pub(super) const fn date_number(occurred_us: i64) -> i64 {
    occurred_us.div_euclid(MICROS_PER_DAY)
}

/// The deliveries of each event, which come in [`Delivered::order`].
pub(super) fn events(sorted: &[Delivered]) -> impl Iterator<Item = &[Delivered]> {
    sorted.chunk_by(|one, next| one.sighting.key == next.sighting.key)
}

/// How many deliveries that are filed under a date are not the first ones of their events, by the calendar day they are
/// for.
pub(super) fn later_by_day(sorted: &[Delivered], date: Date, zone: &Zone) -> BTreeMap<Date, u64> {
    let mut later = BTreeMap::new();
    let repeated = events(sorted).flat_map(|deliveries| &deliveries[1..]);
    for delivery in repeated.filter(|delivery| delivery.date() == date) {
        *later.entry(zone.day_of(EventTime(delivery.occurred_us))).or_default() += 1;
    }
    later
}

/// What a count has to know of events, by all of their deliveries.
pub(super) fn first_deliveries(sorted: &[Delivered]) -> FirstDeliveries {
    let mut firsts = FirstDeliveries::default();
    for deliveries in events(sorted) {
        let first = deliveries[0].sighting;
        let differs = |delivery: &&Delivered| delivery.sighting.content != first.content;
        let contradictions = deliveries.iter().filter(differs);
        firsts.add_contradictions(
            contradictions.map(|other| Contradiction { first: first.place, other: other.sighting.place }),
        );
        let conflicting = deliveries.iter().any(|delivery| differs(&delivery));
        for delivery in deliveries {
            firsts.enter(delivery.sighting.place, delivery.sighting.place != first.place, conflicting);
        }
    }
    firsts.sort();
    firsts
}

/// A file of deliveries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RepeatsFile {
    pub(super) name: String,
    checksum: u64,
}

impl RepeatsFile {
    /// # Errors
    /// [`IndexError::Unusable`].
    pub(super) async fn write(files: &Files, sorted: &[Delivered]) -> Result<Self, IndexError> {
        let bytes: Vec<u8> = sorted.iter().flat_map(Delivered::record).flat_map(u64::to_le_bytes).collect();
        let (name, checksum) = (format!("{}.repeats", Uuid::new_v4().simple()), xxh3_64(&bytes));
        files.write(&name, bytes).await?;
        Ok(Self { name, checksum })
    }

    /// All of them, in [`Delivered::order`].
    ///
    /// # Errors
    /// [`IndexError::Unusable`].
    pub(super) async fn read(&self, files: &Files) -> Result<Vec<Delivered>, IndexError> {
        let bytes = files.read(&self.name).await?.ok_or_else(|| files.unusable(&self.name, "it is missing"))?;
        if xxh3_64(&bytes) != self.checksum {
            return Err(files.unusable(&self.name, "it is damaged"));
        }
        let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("8 bytes"));
        let record = |bytes: &[u8]| std::array::from_fn(|at| word(&bytes[at * 8..at * 8 + 8]));
        Ok(bytes.chunks_exact(WORDS * 8).map(|bytes| Delivered::of_record(record(bytes))).collect())
    }
}

/// What is known, with all deliveries of the `changed` events in place of those that were known of them.
pub(super) fn replaced(known: Vec<Delivered>, changed: &[Delivered]) -> Vec<Delivered> {
    let keys: HashSet<[u64; 2]> = changed.iter().map(|delivery| delivery.sighting.key).collect();
    let kept = known.into_iter().filter(|delivery| !keys.contains(&delivery.sighting.key));
    let mut all: Vec<Delivered> = kept.chain(changed.iter().copied()).collect();
    all.sort_unstable_by_key(Delivered::order);
    all
}
