//! What of an event makes two deliveries of it say the same.

use xxhash_rust::xxh3::xxh3_128;

use super::Event;

impl Event<'_> {
    /// The 128-bit key of what the event says: name, time, user, money and properties. Two deliveries of one id with
    /// different keys contradict each other.
    ///
    /// When and through which door it was received says nothing about the event, and neither does the order of its
    /// properties; of a property given twice the first value counts.
    #[must_use]
    pub fn content_key(&self) -> u128 {
        let mut text = Vec::with_capacity(256);
        // Every text is preceded by its length, so that no two contents read the same.
        let mut put = |value: &str| {
            text.extend_from_slice(&(value.len() as u64).to_le_bytes());
            text.extend_from_slice(value.as_bytes());
        };
        put(&self.name);
        put(&self.user);
        let mut properties: Vec<(&str, &str)> = self.properties.iter().collect();
        properties.sort_by_key(|(name, _)| *name);
        properties.dedup_by_key(|(name, _)| *name);
        for (name, value) in properties {
            put(name);
            put(value);
        }
        text.extend_from_slice(&self.occurred_at.0.to_le_bytes());
        if let Some(money) = self.money {
            text.extend_from_slice(money.currency.code().as_bytes());
            text.extend_from_slice(&money.minor.to_le_bytes());
        }
        xxh3_128(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{EVENT_VERSION, Properties, Source};
    use super::*;
    use crate::money::Money;
    use crate::time::EventTime;

    fn event() -> Event<'static> {
        let mut properties = Properties::new();
        properties.insert("store", "7");
        properties.insert("country", "DE");
        Event {
            version: EVENT_VERSION,
            tenant: "acme".into(),
            id: "e1".into(),
            name: "sale".into(),
            occurred_at: EventTime(5),
            received_at: EventTime(9),
            user: "u".into(),
            money: Some(Money { currency: "EUR".parse().expect("known"), minor: 1 }),
            properties,
            source: Source::Native,
        }
    }

    #[test]
    fn it_depends_on_what_is_said_and_on_nothing_else() {
        let key = event().content_key();
        let mut turned = Properties::new();
        turned.insert("country", "DE");
        turned.insert("store", "7");
        let again = Event { received_at: EventTime(10), source: Source::Segment, properties: turned, ..event() };
        assert_eq!(again.content_key(), key);
        let mut other_store = Properties::new();
        other_store.insert("store", "8");
        other_store.insert("country", "DE");
        let others = [
            Event { name: "refund".into(), ..event() },
            Event { user: "".into(), ..event() },
            Event { occurred_at: EventTime(6), ..event() },
            Event { money: None, ..event() },
            Event { money: Some(Money { currency: "EUR".parse().expect("known"), minor: 2 }), ..event() },
            Event { money: Some(Money { currency: "USD".parse().expect("known"), minor: 1 }), ..event() },
            Event { properties: other_store, ..event() },
            Event { properties: Properties::new(), ..event() },
        ];
        for other in others {
            assert_ne!(other.content_key(), key, "{other:?}");
        }
    }
}
