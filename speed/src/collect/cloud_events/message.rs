//! From one CloudEvent in JSON to an event.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use reckon_schemas::event::{EventDraft, Rejection, Source};
use reckon_schemas::time::EventTime;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::nested::{self, Flat};

/// An event with its attributes still unread.
#[derive(Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow)]
    specversion: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    source: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    subject: Option<&'a RawValue>,
    #[serde(borrow)]
    time: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    // Bytes and descriptions of data are nothing to count by.
    #[serde(borrow, rename = "data_base64")]
    _data_base64: Option<&'a RawValue>,
    #[serde(borrow, rename = "datacontenttype")]
    _data_content_type: Option<&'a RawValue>,
    #[serde(borrow, rename = "dataschema")]
    _data_schema: Option<&'a RawValue>,
    #[serde(borrow, flatten)]
    extensions: BTreeMap<Cow<'a, str>, Unread<'a>>,
}

/// A value that is read when it is needed; flattened members cannot be borrowed as they are.
#[derive(Deserialize)]
#[serde(untagged)]
enum Unread<'a> {
    Bool(bool),
    Integer(i64),
    Text(Cow<'a, str>),
    Other(serde::de::IgnoredAny),
}

impl<'a> Message<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, Rejection> {
        // A list of the attributes' values in order is an object to the JSON reader, but not to the format.
        if !text.trim_start().starts_with('{') {
            return Err(Rejection::new("event", "is not an object"));
        }
        serde_json::from_str(text).map_err(|error| Rejection::new("event", error.to_string()))
    }

    /// The event. What has no time happened when it was received.
    pub(super) fn draft(&self, received_at: EventTime) -> Result<EventDraft, Rejection> {
        if required("specversion", self.specversion)? != "1.0" {
            return Err(Rejection::new("specversion", "is not 1.0"));
        }
        let source = required("source", self.source)?;
        let id = required("id", self.id)?;
        // A URI reference has no spaces, so what stands before the first one is the source, whatever the id is.
        if source.contains(' ') {
            return Err(Rejection::new("source", "is not a URI reference: it contains a space"));
        }
        let mut flat = Flat::default();
        let mut money = None;
        if let Some(data) = self.data {
            money = nested::money("data", data)?;
            match data.get().as_bytes().first() {
                Some(b'{') => flat.add_object("data", "", data)?,
                _ => flat.add("data", data)?,
            }
        }
        let mut properties = flat.into_properties();
        let mut insert = |name: String, value: String| {
            if properties.len() < reckon_schemas::event::limits::PROPERTIES_MAX {
                properties.insert(name, value);
            }
        };
        insert("ce.source".to_owned(), source.clone());
        for (name, value) in &self.extensions {
            match value {
                Unread::Bool(value) => insert(format!("ce.{name}"), value.to_string()),
                Unread::Integer(value) => insert(format!("ce.{name}"), value.to_string()),
                Unread::Text(value) => insert(format!("ce.{name}"), value.clone().into_owned()),
                Unread::Other(_) => return Err(Rejection::new(name.clone(), "is neither text, integer nor boolean")),
            }
        }
        Ok(EventDraft {
            id: format!("{source} {id}"),
            name: required("type", self.kind)?,
            occurred_at: self.occurred_at(received_at)?,
            user: optional("subject", self.subject)?.unwrap_or_default(),
            money,
            properties,
            source: Source::CloudEvents,
        })
    }

    fn occurred_at(&self, received_at: EventTime) -> Result<EventTime, Rejection> {
        let Some(text) = optional("time", self.time)? else { return Ok(received_at) };
        let at = text.parse::<Timestamp>();
        let at =
            at.map_err(|_| Rejection::new("time", "is not an RFC 3339 instant such as \"2026-01-31T23:59:59.5Z\""))?;
        Ok(EventTime::from_timestamp(at))
    }
}

fn required(attribute: &str, raw: Option<&RawValue>) -> Result<String, Rejection> {
    match optional(attribute, raw)? {
        Some(text) if !text.is_empty() => Ok(text),
        Some(_) => Err(Rejection::new(attribute, "is empty")),
        None => Err(Rejection::new(attribute, "is missing")),
    }
}

fn optional(attribute: &str, raw: Option<&RawValue>) -> Result<Option<String>, Rejection> {
    let Some(raw) = raw else { return Ok(None) };
    serde_json::from_str(raw.get()).map_err(|_| Rejection::new(attribute, "is not a text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECEIVED_AT: EventTime = EventTime(1_800_000_000_000_000);

    fn draft(text: &str) -> Result<EventDraft, Rejection> {
        Message::parse(text)?.draft(RECEIVED_AT)
    }

    #[test]
    fn attributes_and_data_become_an_event() {
        let draft = draft(
            r#"{"specversion":"1.0","id":"7","source":"//shop/eu","type":"purchase","subject":"u-1","time":"2026-03-01T11:59:00.123Z",
                "datacontenttype":"application/json","dataschema":"x","region":"eu","tier":3,"test":false,
                "data":{"revenue":12.10,"currency":"eur","cart":{"size":3}}}"#,
        )
        .expect("valid");
        assert_eq!((draft.id.as_str(), draft.name.as_str(), draft.user.as_str()), ("//shop/eu 7", "purchase", "u-1"));
        assert_eq!(draft.money.map(|money| money.to_string()).as_deref(), Some("12.10 EUR"));
        let pairs: Vec<_> = draft.properties.iter().collect();
        let expected = [
            ("cart.size", "3"),
            ("currency", "eur"),
            ("revenue", "12.10"),
            ("ce.source", "//shop/eu"),
            ("ce.region", "eu"),
            ("ce.test", "false"),
            ("ce.tier", "3"),
        ];
        assert_eq!(pairs, expected);
    }

    #[test]
    fn a_missing_time_is_the_time_of_receipt() {
        let draft = draft(r#"{"specversion":"1.0","id":"7","source":"a","type":"t","data":"text"}"#).expect("valid");
        assert_eq!((draft.occurred_at, draft.user.as_str(), draft.money), (RECEIVED_AT, "", None));
        assert_eq!(draft.properties.get("data"), Some("text"));
    }

    #[test]
    fn source_and_id_together_are_the_identity() {
        let id = |source: &str, id: &str| {
            let text = format!(r#"{{"specversion":"1.0","id":"{id}","source":"{source}","type":"t"}}"#);
            draft(&text).map(|draft| draft.id)
        };
        assert_ne!(id("a", "b c"), id("ab", "c"));
        assert_ne!(id("a", "x"), id("b", "x"));
        assert_eq!(id("a b", "c").expect_err("a space").field, "source");
    }

    #[test]
    fn each_error_names_its_attribute() {
        for (text, field) in [
            (r#"{"id":"7","source":"a","type":"t"}"#, "specversion"),
            (r#"{"specversion":"0.3","id":"7","source":"a","type":"t"}"#, "specversion"),
            (r#"{"specversion":"1.0","source":"a","type":"t"}"#, "id"),
            (r#"{"specversion":"1.0","id":"","source":"a","type":"t"}"#, "id"),
            (r#"{"specversion":"1.0","id":"7","type":"t"}"#, "source"),
            (r#"{"specversion":"1.0","id":"7","source":"a"}"#, "type"),
            (r#"{"specversion":"1.0","id":7,"source":"a","type":"t"}"#, "id"),
            (r#"{"specversion":"1.0","id":"7","source":"a","type":"t","time":"yesterday"}"#, "time"),
            (r#"{"specversion":"1.0","id":"7","source":"a","type":"t","region":{}}"#, "region"),
            (r#"{"specversion":"1.0","id":"7","source":"a","type":"t","data":{"revenue":"NaN"}}"#, "data.revenue"),
            ("[]", "event"),
        ] {
            assert_eq!(draft(text).expect_err(text).field, field, "{text}");
        }
    }
}
