//! Deliveries by name: with their ids and texts in full, for whoever looks for single events.

use std::ops::Range;

use arrow::array::Array;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::money::Money;
use reckon_schemas::time::EventTime;

use super::deliveries::{Deliveries, SIGHTING_COLUMNS, SightingRows, counted_columns, never_null, texts};
use super::firsts::Sighting;
use super::scan::Dates;
use super::{PinnedLake, RecountError};

/// When and where the log took a delivery. Of two deliveries of an event, the one with the lower position counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// When the broker took it.
    pub(crate) log_time: EventTime,
    /// Its partition.
    pub(crate) partition: i32,
    /// Its offset.
    pub(crate) offset: i64,
}

/// One delivery of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    /// Where it is in the log.
    pub(crate) position: Position,
    /// Where the first delivery of the same event is, on whatever day.
    pub(crate) first: Position,
    /// Whether the event was delivered with different contents, on whatever day.
    pub(crate) conflicting: bool,
    /// The key of its event.
    pub(crate) key: u128,
    /// The event's id.
    pub(crate) event_id: String,
    /// The event's name.
    pub(crate) name: String,
    /// When it happened.
    pub(crate) occurred_at: EventTime,
    /// Who did it, or empty.
    pub(crate) user: String,
    /// The money it moved.
    pub(crate) money: Option<Money>,
    /// Those of its properties that were asked for.
    pub(crate) properties: Vec<(String, String)>,
}

impl Named {
    /// Whether this is the delivery that counts.
    pub(crate) fn is_first(&self) -> bool {
        self.first == self.position
    }

    /// A sale in a department, for tests of what is made of it.
    #[cfg(test)]
    pub(crate) fn for_tests(position: Position, first: Position, id: &str, department: &str, minor: i64) -> Self {
        let currency = "EUR".parse().expect("known");
        Self {
            position,
            first,
            conflicting: false,
            key: reckon_schemas::ids::event_key("acme", id),
            event_id: id.to_owned(),
            name: "sale".to_owned(),
            occurred_at: EventTime(0),
            user: "u".to_owned(),
            money: Some(Money { currency, minor }),
            properties: vec![("department".to_owned(), department.to_owned())],
        }
    }

    /// The value of a property, the first one of its name.
    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What all deliveries of an event together say of it.
struct Event {
    first: Position,
    content: [u64; 2],
    differs: bool,
}

impl PinnedLake {
    /// Every delivery of a tenant whose event happened in a span, in the order of the log; of its properties those in
    /// `wanted`. Keeps them all, and reads the keys of all others of the tenant: they may be of the same events.
    ///
    /// # Errors
    /// [`RecountError`].
    pub(crate) async fn named(
        &self,
        tenant: &Tenant,
        span: Range<EventTime>,
        wanted: &[&str],
    ) -> Result<Vec<Named>, RecountError> {
        let mut found = Vec::new();
        let mut events: HashMap<u128, Option<Event>> = HashMap::new();
        let keep = |delivery: Named| {
            events.insert(delivery.key, None);
            found.push(delivery);
            Ok::<(), RecountError>(())
        };
        self.each_named(tenant, span, wanted, keep).await?;
        self.scan::<RecountError>(tenant, Dates::All, &SIGHTING_COLUMNS, |batch| {
            let rows = SightingRows::new(batch)?;
            for row in 0..batch.num_rows() {
                let sighting = rows.get(row)?;
                if let Entry::Occupied(mut event) = events.entry(key_of(&sighting)) {
                    enter(event.get_mut(), &sighting);
                }
            }
            Ok(())
        })
        .await?;
        for delivery in &mut found {
            if let Some(Some(event)) = events.get(&delivery.key) {
                (delivery.first, delivery.conflicting) = (event.first, event.differs);
            }
        }
        found.sort_unstable_by_key(|delivery| delivery.position);
        Ok(found)
    }

    /// Hands over every delivery of a tenant whose event happened in a span, one at a time, in no order. Whether there are
    /// others of its event is not looked at.
    ///
    /// # Errors
    /// [`RecountError`], or what the receiver returns.
    pub(crate) async fn each_named<E: From<RecountError>>(
        &self,
        tenant: &Tenant,
        span: Range<EventTime>,
        wanted: &[&str],
        mut receive: impl FnMut(Named) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut columns = counted_columns(wanted.iter().copied());
        columns.extend(SIGHTING_COLUMNS.iter().filter(|name| !["partition", "offset"].contains(*name)));
        columns.extend(["event_id", "user_id"]);
        self.scan(tenant, Dates::Of(span.clone()), &columns, |batch| {
            let (sightings, deliveries) = (SightingRows::new(batch)?, Deliveries::new(batch)?);
            let (ids, users) = (never_null(texts(batch, "event_id")?, "event_id")?, texts(batch, "user_id")?);
            for row in 0..batch.num_rows() {
                let (sighting, delivery) = (sightings.get(row)?, deliveries.get(row)?);
                if !span.contains(&delivery.occurred_at) {
                    continue;
                }
                let position = position_of(&sighting);
                let property = |name: &&str| Some(((*name).to_owned(), delivery.property(name)?.to_owned()));
                receive(Named {
                    position,
                    first: position,
                    conflicting: false,
                    key: key_of(&sighting),
                    event_id: ids.value(row).to_owned(),
                    name: delivery.name.to_owned(),
                    occurred_at: delivery.occurred_at,
                    user: if users.is_valid(row) { users.value(row).to_owned() } else { String::new() },
                    money: delivery.money,
                    properties: wanted.iter().filter_map(property).collect(),
                })?;
            }
            Ok(())
        })
        .await
    }
}

fn enter(event: &mut Option<Event>, sighting: &Sighting) {
    let position = position_of(sighting);
    match event {
        None => *event = Some(Event { first: position, content: sighting.content, differs: false }),
        Some(event) => {
            event.first = event.first.min(position);
            event.differs |= event.content != sighting.content;
        }
    }
}

pub(super) fn position_of(sighting: &Sighting) -> Position {
    let Sighting { log_time_us, place, .. } = *sighting;
    Position { log_time: EventTime(log_time_us), partition: place.partition(), offset: place.offset() }
}

pub(super) fn key_of(sighting: &Sighting) -> u128 {
    let [high, low] = sighting.key.map(u128::from);
    high << 64 | low
}
