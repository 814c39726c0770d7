//! From what a client sent to an event: every check that an event must pass, each with its reason.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{EVENT_VERSION, Event, Properties, Source};
use crate::ids::TenantId;
use crate::money::{Currency, Money};
use crate::time::EventTime;

/// Bounds on everything a client may send. Lengths are in characters, as in the JSON Schema.
pub mod limits {
    /// A message of the log, in bytes.
    pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;
    /// `event_id` and `user_id`.
    pub const ID_CHARS_MAX: usize = 256;
    /// `name`.
    pub const NAME_CHARS_MAX: usize = 128;
    /// The number of properties.
    pub const PROPERTIES_MAX: usize = 64;
    /// A property's name.
    pub const PROPERTY_NAME_CHARS_MAX: usize = 64;
    /// A property's value.
    pub const PROPERTY_CHARS_MAX: usize = 1024;
    /// How far `occurred_at` may lie after the receipt: a client's clock is trusted for one day, no more.
    pub const FUTURE_MICROS_MAX: i64 = 24 * 3600 * 1_000_000;
}

/// Why an item is not an event: which field, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Rejection {
    /// The field, as the client named it; `event` for the item as a whole.
    pub field: String,
    /// What is wrong, for a person to read.
    pub reason: String,
}

impl Rejection {
    /// A rejection of one field.
    pub fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}

/// An event before its checks: what each door (native, Segment) fills in from its own format.
#[derive(Clone, Debug)]
pub struct EventDraft {
    /// Unique within the tenant.
    pub id: String,
    /// What happened.
    pub name: String,
    /// When it happened.
    pub occurred_at: EventTime,
    /// Who did it; empty if unknown.
    pub user: String,
    /// The money it moved.
    pub money: Option<Money>,
    /// Everything else.
    pub properties: Properties<'static>,
    /// The door.
    pub source: Source,
}

/// The native item with its fields still unread, so that each error can name its field.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NativeItem<'a> {
    #[serde(borrow)]
    event_id: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    occurred_at: Option<&'a RawValue>,
    #[serde(borrow)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow)]
    money: Option<&'a RawValue>,
    #[serde(borrow)]
    properties: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NativeMoney<'a> {
    #[serde(borrow)]
    amount: &'a RawValue,
    #[serde(borrow)]
    currency: Cow<'a, str>,
}

impl EventDraft {
    /// Reads one item of `POST /v1/events`, as `schemas/event.schema.json` describes it.
    ///
    /// # Errors
    /// A [`Rejection`] that names the first field that is missing or wrong.
    pub fn from_native(item: &str) -> Result<Self, Rejection> {
        if !item.trim_start().starts_with('{') {
            return Err(Rejection::new("event", "is not an object"));
        }
        let item: NativeItem<'_> =
            serde_json::from_str(item).map_err(|error| Rejection::new("event", error.to_string()))?;
        let properties = item.properties.map(flat_properties).transpose()?.unwrap_or_default();
        Ok(Self {
            id: required_text("event_id", item.event_id)?,
            name: required_text("name", item.name)?,
            occurred_at: parse_time("occurred_at", &required_text("occurred_at", item.occurred_at)?)?,
            user: item.user_id.map(|raw| text("user_id", raw)).transpose()?.unwrap_or_default(),
            money: item.money.map(native_money).transpose()?,
            properties,
            source: Source::Native,
        })
    }

    /// Checks the draft and makes it the tenant's event.
    ///
    /// # Errors
    /// A [`Rejection`] that names the first field that no event may have.
    pub fn check(self, tenant: &TenantId, received_at: EventTime) -> Result<Event<'static>, Rejection> {
        if self.occurred_at > received_at.plus_micros(limits::FUTURE_MICROS_MAX) {
            return Err(Rejection::new("occurred_at", "lies more than 24 hours in the future"));
        }
        let event = Event {
            version: EVENT_VERSION,
            tenant: tenant.as_str().to_owned().into(),
            id: self.id.into(),
            name: self.name.into(),
            occurred_at: self.occurred_at,
            received_at,
            user: self.user.into(),
            money: self.money,
            properties: self.properties,
            source: self.source,
        };
        event.check()?;
        Ok(event)
    }
}

/// Reads an RFC 3339 instant with an offset.
///
/// # Errors
/// A [`Rejection`] of `field` if it is not one.
pub(crate) fn parse_time(field: &str, text: &str) -> Result<EventTime, Rejection> {
    let bytes = text.as_bytes();
    // The parser also reads other notations; the schema, and so this door, takes RFC 3339 only.
    let is_rfc3339 = bytes.len() >= 20
        && bytes[10] == b'T'
        && bytes[13] == b':'
        && bytes[16] == b':'
        && (text.ends_with('Z') || matches!(bytes[bytes.len() - 6], b'+' | b'-'));
    match text.parse::<Timestamp>() {
        Ok(at) if is_rfc3339 => Ok(EventTime::from_timestamp(at)),
        _ => Err(Rejection::new(field, "is not an RFC 3339 instant such as \"2026-01-31T23:59:59.5Z\"")),
    }
}

#[inline]
pub(super) fn check_text(field: &str, text: &str, chars_max: usize) -> Result<(), Rejection> {
    if text.is_empty() {
        return Err(Rejection::new(field, "is empty"));
    }
    check_optional_text(field, text, chars_max)
}

#[inline]
pub(super) fn check_optional_text(field: &str, text: &str, chars_max: usize) -> Result<(), Rejection> {
    if text.len() > chars_max && text.chars().count() > chars_max {
        return Err(Rejection::new(field, format!("is longer than {chars_max} characters")));
    }
    // Not `any`, which looks at one byte after the other.
    if text.bytes().fold(false, |found, byte| found | (byte < 0x20)) {
        return Err(Rejection::new(field, "contains a control character"));
    }
    Ok(())
}

pub(super) fn check_occurred_at(at: EventTime) -> Result<(), Rejection> {
    // 2261-12-31: beyond it, nanosecond arithmetic in 64 bits, which other tools use, would wrap.
    if (0..9_214_646_400_000_000).contains(&at.0) {
        Ok(())
    } else {
        Err(Rejection::new("occurred_at", "lies before 1970 or after 2261"))
    }
}

fn text(field: &str, raw: &RawValue) -> Result<String, Rejection> {
    serde_json::from_str(raw.get()).map_err(|_| Rejection::new(field, "is not a text"))
}

fn required_text(field: &str, raw: Option<&RawValue>) -> Result<String, Rejection> {
    text(field, raw.ok_or_else(|| Rejection::new(field, "is missing"))?)
}

fn native_money(raw: &RawValue) -> Result<Money, Rejection> {
    // Serde would also read an array as the fields in their order.
    if !raw.get().starts_with('{') {
        return Err(Rejection::new("money", "is not an object"));
    }
    let money: NativeMoney<'_> =
        serde_json::from_str(raw.get()).map_err(|error| Rejection::new("money", error.to_string()))?;
    let currency: Currency = money
        .currency
        .parse()
        .map_err(|error: crate::money::MoneyError| Rejection::new("money.currency", error.to_string()))?;
    // A number's own text, or the text inside of a string: never a float.
    let raw_amount = money.amount.get();
    let amount: Cow<'_, str> = if raw_amount.starts_with('"') {
        Cow::Owned(text("money.amount", money.amount)?)
    } else {
        Cow::Borrowed(raw_amount)
    };
    let minor = currency.parse_minor(&amount).map_err(|error| Rejection::new("money.amount", error.to_string()))?;
    Ok(Money { currency, minor })
}

fn flat_properties(raw: &RawValue) -> Result<Properties<'static>, Rejection> {
    let fields: BTreeMap<String, &RawValue> =
        serde_json::from_str(raw.get()).map_err(|_| Rejection::new("properties", "is not an object"))?;
    if fields.len() > limits::PROPERTIES_MAX {
        return Err(Rejection::new("properties", format!("has more than {} entries", limits::PROPERTIES_MAX)));
    }
    let mut properties = Properties::new();
    for (name, raw) in fields {
        match raw.get().as_bytes().first() {
            // The field is put into words only where it is refused: most of what a collector does is this loop.
            Some(b'"') => match serde_json::from_str::<String>(raw.get()) {
                Ok(value) => properties.insert(name, value),
                Err(_) => return Err(Rejection::new(format!("properties.{name}"), "is not a text")),
            },
            Some(b'{' | b'[') => {
                return Err(Rejection::new(format!("properties.{name}"), "is nested: give a text, number or boolean"));
            }
            // Not kept, but its name is checked like every other.
            Some(b'n') => check_text("properties", &name, limits::PROPERTY_NAME_CHARS_MAX)?,
            _ => properties.insert(name, raw.get().to_owned()),
        }
    }
    Ok(properties)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field_of(item: &str) -> String {
        let checked = EventDraft::from_native(item)
            .and_then(|draft| draft.check(&"t".parse().expect("valid"), EventTime(1_800_000_000_000_000)));
        checked.expect_err(item).field
    }

    #[test]
    fn a_full_item_becomes_an_event() {
        let draft = EventDraft::from_native(
            r#"{"event_id":"1","name":"purchase","occurred_at":"2026-01-31T23:59:59.5+01:00","user_id":"u",
                "money":{"amount":12.10,"currency":"EUR"},"properties":{"store":7,"vip":true,"none":null,"ratio":0.10}}"#,
        )
        .expect("valid");
        assert_eq!(draft.money.map(|money| money.minor), Some(1210));
        assert_eq!(draft.properties.get("ratio"), Some("0.10"), "a number keeps its text");
        assert_eq!(draft.properties.get("none"), None);
        assert_eq!(draft.occurred_at.to_string(), "2026-01-31T22:59:59.5Z");
    }

    #[test]
    fn each_error_names_its_field() {
        for (item, field) in [
            (r#"{"name":"n","occurred_at":"2026-01-01T00:00:00Z"}"#, "event_id"),
            (r#"{"event_id":"","name":"n","occurred_at":"2026-01-01T00:00:00Z"}"#, "event_id"),
            (r#"{"event_id":7,"name":"n","occurred_at":"2026-01-01T00:00:00Z"}"#, "event_id"),
            (r#"{"event_id":"1","name":"n","occurred_at":"yesterday"}"#, "occurred_at"),
            (r#"{"event_id":"1","name":"n","occurred_at":"2026-02-30T00:00:00Z"}"#, "occurred_at"),
            (r#"{"event_id":"1","name":"n","occurred_at":"2099-01-01T00:00:00Z"}"#, "occurred_at"),
            (r#"{"event_id":"1","name":"n","occurred_at":"1969-12-31T23:59:59Z"}"#, "occurred_at"),
            (r#"{"event_id":"1","name":"n","occurred_at":"2026-01-01T00:00:00Z","x":1}"#, "event"),
            (
                r#"{"event_id":"1","name":"n","occurred_at":"2026-01-01T00:00:00Z","money":{"amount":"1","currency":"X"}}"#,
                "money.currency",
            ),
            (
                r#"{"event_id":"1","name":"n","occurred_at":"2026-01-01T00:00:00Z","money":{"amount":"NaN","currency":"EUR"}}"#,
                "money.amount",
            ),
            (
                r#"{"event_id":"1","name":"n","occurred_at":"2026-01-01T00:00:00Z","properties":{"a":{}}}"#,
                "properties.a",
            ),
            (r#"{"event_id":"1\u0000","name":"n","occurred_at":"2026-01-01T00:00:00Z"}"#, "event_id"),
            ("[1]", "event"),
            ("{", "event"),
        ] {
            assert_eq!(field_of(item), field, "{item}");
        }
    }
}
