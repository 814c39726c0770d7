//! Rows of the table `events`.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Int64Builder, MapBuilder, MapFieldNames, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field};
use reckon_schemas::event::{Event, Properties};
use reckon_schemas::ids::{event_key, key_halves, user_key};
use reckon_schemas::lake::{COLUMN_PROPERTIES, Column, EVENTS_COLUMNS, UNREADABLE_TENANT};
use reckon_schemas::sketch::hash_user;

use super::record::{Record, unreadable};
use super::rows::{Place, Rows, timestamps};

/// Rows of the table `events`.
#[derive(Debug)]
pub(crate) struct EventRows {
    place: Place,
    event_id: StringBuilder,
    name: StringBuilder,
    occurred_at: TimestampMicrosecondBuilder,
    received_at: TimestampMicrosecondBuilder,
    user_id: StringBuilder,
    currency: StringBuilder,
    amount_minor: Int64Builder,
    properties: MapBuilder<StringBuilder, StringBuilder>,
    source: StringBuilder,
    traceparent: StringBuilder,
    problem: StringBuilder,
    raw: BinaryBuilder,
    keys: KeyColumns,
    column_properties: [StringBuilder; COLUMN_PROPERTIES.len()],
}

/// The keys that a recount goes by.
#[derive(Debug, Default)]
struct KeyColumns {
    event: KeyBuilder,
    content: KeyBuilder,
    user: KeyBuilder,
    user_hash: Int64Builder,
}

/// A 128-bit key in two columns.
#[derive(Debug, Default)]
struct KeyBuilder {
    high: Int64Builder,
    low: Int64Builder,
}

impl KeyBuilder {
    fn push(&mut self, key: Option<u128>) {
        let (high, low) = key.map(key_halves).unzip();
        self.high.append_option(high);
        self.low.append_option(low);
    }

    fn take(&mut self) -> [ArrayRef; 2] {
        [Arc::new(self.high.finish()), Arc::new(self.low.finish())]
    }
}

impl KeyColumns {
    fn push(&mut self, event: &Event<'_>) {
        self.event.push(Some(event_key(&event.tenant, &event.id)));
        self.content.push(Some(event.content_key()));
        let user = Some(&event.user).filter(|user| !user.is_empty());
        self.user.push(user.map(|user| user_key(&event.tenant, user)));
        self.user_hash.append_option(user.map(|user| hash_user(user.as_bytes()).cast_signed()));
    }

    fn push_none(&mut self) {
        self.event.push(None);
        self.content.push(None);
        self.user.push(None);
        self.user_hash.append_null();
    }

    fn take(&mut self) -> impl Iterator<Item = ArrayRef> {
        let user_hash: ArrayRef = Arc::new(self.user_hash.finish());
        [self.event.take(), self.content.take(), self.user.take()].into_iter().flatten().chain([user_hash])
    }
}

impl Default for EventRows {
    fn default() -> Self {
        let names = MapFieldNames { entry: "key_value".to_owned(), key: "key".to_owned(), value: "value".to_owned() };
        Self {
            place: Place::default(),
            event_id: StringBuilder::new(),
            name: StringBuilder::new(),
            occurred_at: timestamps(),
            received_at: timestamps(),
            user_id: StringBuilder::new(),
            currency: StringBuilder::new(),
            amount_minor: Int64Builder::new(),
            properties: MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
                .with_values_field(Field::new("value", DataType::Utf8, false)),
            source: StringBuilder::new(),
            traceparent: StringBuilder::new(),
            problem: StringBuilder::new(),
            raw: BinaryBuilder::new(),
            keys: KeyColumns::default(),
            column_properties: Default::default(),
        }
    }
}

impl Rows for EventRows {
    const COLUMNS: &'static [Column] = EVENTS_COLUMNS;

    fn push(&mut self, record: &Record<'_>) {
        let decoded = match record.payload {
            Some(payload) => Event::decode(payload).map_err(|error| error.to_string()),
            None => Err("the record has no value".to_owned()),
        };
        self.traceparent.append_option(record.traceparent);
        match decoded {
            Ok(event) => self.push_event(record, &event),
            Err(problem) => self.push_unreadable(record, &problem),
        }
    }

    fn take_columns(&mut self) -> Vec<ArrayRef> {
        let mut columns = self.place.take_columns();
        let own: [ArrayRef; 12] = [
            Arc::new(self.event_id.finish()),
            Arc::new(self.name.finish()),
            Arc::new(self.occurred_at.finish()),
            Arc::new(self.received_at.finish()),
            Arc::new(self.user_id.finish()),
            Arc::new(self.currency.finish()),
            Arc::new(self.amount_minor.finish()),
            Arc::new(self.properties.finish()),
            Arc::new(self.source.finish()),
            Arc::new(self.traceparent.finish()),
            Arc::new(self.problem.finish()),
            Arc::new(self.raw.finish()),
        ];
        columns.extend(own);
        columns.extend(self.keys.take());
        columns.extend(self.column_properties.each_mut().map(|column| Arc::new(column.finish()) as ArrayRef));
        columns
    }
}

impl EventRows {
    fn push_event(&mut self, record: &Record<'_>, event: &Event<'_>) {
        self.place.push(&event.tenant, event.occurred_at, record);
        self.event_id.append_value(&event.id);
        self.name.append_value(&event.name);
        self.occurred_at.append_value(event.occurred_at.0);
        self.received_at.append_value(event.received_at.0);
        self.user_id.append_option((!event.user.is_empty()).then_some(&event.user));
        self.currency.append_option(event.money.map(|money| money.currency.code()));
        self.amount_minor.append_option(event.money.map(|money| money.minor));
        self.push_properties(&event.properties);
        self.source.append_value(event.source.name());
        self.problem.append_null();
        self.raw.append_null();
        self.keys.push(event);
        for (column, name) in self.column_properties.iter_mut().zip(COLUMN_PROPERTIES) {
            column.append_option(event.properties.get(name));
        }
    }

    fn push_properties(&mut self, properties: &Properties<'_>) {
        for (at, (name, value)) in properties.iter().enumerate() {
            // Readers take the first value of a name, and a map column may hold each name only once.
            if properties.iter().take(at).all(|(earlier, _)| earlier != name) {
                self.properties.keys().append_value(name);
                self.properties.values().append_value(value);
            }
        }
        self.properties.append(true).expect("as many keys as values");
    }

    fn push_unreadable(&mut self, record: &Record<'_>, problem: &str) {
        let (raw, problem) = unreadable(record.payload, problem);
        self.place.push(UNREADABLE_TENANT, record.log_time, record);
        self.event_id.append_null();
        self.name.append_null();
        self.occurred_at.append_null();
        self.received_at.append_null();
        self.user_id.append_null();
        self.currency.append_null();
        self.amount_minor.append_null();
        self.properties.append(false).expect("as many keys as values");
        self.source.append_null();
        self.problem.append_value(problem);
        self.raw.append_value(raw);
        self.keys.push_none();
        self.column_properties.iter_mut().for_each(StringBuilder::append_null);
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Date32Type, Int64Type, TimestampMicrosecondType};
    use reckon_schemas::event::Source;
    use reckon_schemas::money::Money;
    use reckon_schemas::time::EventTime;

    use super::*;

    fn record(offset: i64, payload: Option<&[u8]>) -> Record<'_> {
        Record { partition: 3, offset, log_time: EventTime(86_400_000_000), traceparent: Some("00-1-2-01"), payload }
    }

    fn event() -> Event<'static> {
        let mut properties = Properties::new();
        properties.insert("store", "7");
        properties.insert("country", "DE");
        Event {
            version: 2,
            tenant: "acme".into(),
            id: "e1".into(),
            name: "purchase".into(),
            occurred_at: EventTime(5 * 86_400_000_000 + 1),
            received_at: EventTime(5 * 86_400_000_000 + 2),
            user: "".into(),
            money: Some(Money { currency: "EUR".parse().expect("a currency"), minor: i64::MAX }),
            properties,
            source: Source::Native,
        }
    }

    #[test]
    fn every_record_becomes_a_row_whatever_it_holds() {
        let huge = vec![b' '; 300_000];
        let good = event().encode();
        let payloads: [Option<&[u8]>; 6] =
            [Some(&good), Some(b"{\"v\":2"), Some(b"\xff\xfe\0"), Some(b""), None, Some(&huge)];
        let mut rows = EventRows::default();
        for (offset, payload) in (0_i64..).zip(payloads) {
            rows.push(&record(offset, payload));
        }
        let batch = rows.take();
        assert_eq!(batch.num_rows(), payloads.len());
        let column = |name| batch.column_by_name(name).expect(name);
        let tenants = column("tenant").as_string::<i32>();
        assert_eq!(tenants.value(0), "acme");
        assert!(tenants.iter().skip(1).all(|tenant| tenant == Some(UNREADABLE_TENANT)));
        assert_eq!(column("event_date").as_primitive::<Date32Type>().values(), &[5, 1, 1, 1, 1, 1]);
        assert_eq!(column("offset").as_primitive::<Int64Type>().values(), &[0, 1, 2, 3, 4, 5]);
        assert_eq!(column("amount_minor").as_primitive::<Int64Type>().value(0), i64::MAX);
        assert_eq!(column("occurred_at").as_primitive::<TimestampMicrosecondType>().value(0), event().occurred_at.0);
        assert!(column("user_id").is_null(0), "no user is null, not an empty text");
        let halves = |high, low| [high, low].map(|half| column(half).as_primitive::<Int64Type>().value(0)).into();
        assert_eq!(key_halves(event_key("acme", "e1")), halves("event_key_high", "event_key_low"));
        assert_eq!(key_halves(event().content_key()), halves("content_key_high", "content_key_low"));
        assert_eq!(column("event_key_low").null_count(), 5);
        assert!(column("user_key_high").is_null(0) && column("user_hash").is_null(0));
        assert_eq!(column("country").as_string::<i32>().value(0), "DE");
        assert!(column("device").is_null(0));
        assert_eq!(column("problem").null_count(), 1);
        assert_eq!(column("raw").as_binary::<i32>().value(2), b"\xff\xfe\0");
        assert_eq!(column("raw").as_binary::<i32>().value(5).len(), huge.len());
        assert_eq!(rows.take().num_rows(), 0, "taking leaves none");
    }

    #[test]
    fn of_a_property_given_twice_the_first_value_is_kept() {
        let text = String::from_utf8(event().encode()).expect("text").replace("\"country\"", "\"store\"");
        let mut rows = EventRows::default();
        rows.push(&record(0, Some(text.as_bytes())));
        let batch = rows.take();
        let entry = batch.column_by_name("properties").expect("properties").as_map().value(0);
        assert_eq!(entry.column(0).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("store")]);
        assert_eq!(entry.column(1).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("7")]);
    }
}
