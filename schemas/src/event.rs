//! The event as it travels in the log: one JSON object a message, with a schema version.

mod canonical;
mod content;
mod draft;
mod properties;
mod rejected;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

pub use self::draft::{EventDraft, Rejection, limits};
pub use self::properties::Properties;
pub use self::rejected::Rejected;

use crate::ids::TenantId;
use crate::money::Money;
use crate::time::EventTime;

/// The version that this build writes. It reads every version from 1 up to it.
pub const EVENT_VERSION: u16 = 2;

/// Room for most messages, so that writing one does not move it several times.
const ENCODED_BYTES: usize = 512;

/// The door through which an event came in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// `POST /v1/events`.
    #[default]
    Native,
    /// Segment's HTTP tracking API.
    Segment,
    /// CloudEvents over HTTP.
    CloudEvents,
}

impl Source {
    /// Every door.
    pub const ALL: [Source; 3] = [Source::Native, Source::Segment, Source::CloudEvents];

    /// The name used in every format.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Source::Native => "native",
            Source::Segment => "segment",
            Source::CloudEvents => "cloud_events",
        }
    }
}

/// One thing that happened. Text is borrowed from the message where it was read from one.
///
/// History of the format: version 1 had no `source` and called the user `user_id`; version 2 is current.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event<'a> {
    /// The version of the format that the message was written in.
    #[serde(rename = "v")]
    pub version: u16,
    /// Whose event it is; a valid [`TenantId`].
    #[serde(borrow)]
    pub tenant: Cow<'a, str>,
    /// Unique within the tenant; a second delivery of the same id is the same event.
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    /// What happened, e.g. `purchase`.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// When it happened (event time).
    pub occurred_at: EventTime,
    /// When the collector received it.
    pub received_at: EventTime,
    /// Who did it; empty if that is not known, and then it counts for no distinct user.
    #[serde(borrow, default, alias = "user_id", skip_serializing_if = "str::is_empty")]
    pub user: Cow<'a, str>,
    /// The money it moved, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub money: Option<Money>,
    /// Everything else that is known about it, as text.
    #[serde(borrow, default, skip_serializing_if = "Properties::is_empty")]
    pub properties: Properties<'a>,
    /// The door it came in through.
    #[serde(default)]
    pub source: Source,
}

/// Why a message of the log is not a readable event.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The message is larger than any event may be.
    #[error("message of {0} bytes is larger than an event may be ({max})", max = limits::MESSAGE_BYTES_MAX)]
    TooLarge(usize),
    /// The message is not JSON of the right shape.
    #[error("message is not an event: {0}")]
    NotAnEvent(String),
    /// The message was written by a newer build than this one.
    #[error("event version {0} is newer than this build reads ({EVENT_VERSION}): update this build")]
    UnsupportedVersion(u16),
    /// A field has a value that no event may have.
    #[error("{0}")]
    Invalid(#[from] Rejection),
}

impl<'a> Event<'a> {
    /// Reads a message of the log, checking what every later station relies on.
    ///
    /// # Errors
    /// [`DecodeError`] if it is too large, not JSON of the right shape, too new, or has an invalid field.
    pub fn decode(message: &'a [u8]) -> Result<Self, DecodeError> {
        if message.len() > limits::MESSAGE_BYTES_MAX {
            return Err(DecodeError::TooLarge(message.len()));
        }
        let event = match canonical::read(message) {
            Some(event) => event,
            None => Self::parse(message)?,
        };
        if event.version == 0 || event.version > EVENT_VERSION {
            return Err(DecodeError::UnsupportedVersion(event.version));
        }
        event.check()?;
        Ok(event)
    }

    fn parse(message: &'a [u8]) -> Result<Self, DecodeError> {
        sonic_rs::from_slice(message).map_err(|error| {
            // The parser's text quotes the input over several lines; its first line says what and where.
            let text = error.to_string();
            DecodeError::NotAnEvent(text.lines().next().unwrap_or_default().chars().take(200).collect())
        })
    }

    /// Writes the message, in the current version.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut message = Vec::with_capacity(ENCODED_BYTES);
        serde_json::to_writer(&mut message, self).expect("an event has only text keys and finite numbers");
        message
    }

    /// The event without borrowed text.
    #[must_use]
    pub fn into_owned(self) -> Event<'static> {
        Event {
            version: self.version,
            tenant: self.tenant.into_owned().into(),
            id: self.id.into_owned().into(),
            name: self.name.into_owned().into(),
            occurred_at: self.occurred_at,
            received_at: self.received_at,
            user: self.user.into_owned().into(),
            money: self.money,
            properties: self.properties.into_owned(),
            source: self.source,
        }
    }

    /// The 128-bit key the event is recognised by.
    #[must_use]
    pub fn key(&self) -> u128 {
        crate::ids::event_key(&self.tenant, &self.id)
    }

    fn check(&self) -> Result<(), Rejection> {
        if !TenantId::is_valid(&self.tenant) {
            return Err(Rejection::new("tenant", "is not a tenant's name"));
        }
        draft::check_text("event_id", &self.id, limits::ID_CHARS_MAX)?;
        draft::check_text("name", &self.name, limits::NAME_CHARS_MAX)?;
        draft::check_optional_text("user_id", &self.user, limits::ID_CHARS_MAX)?;
        draft::check_occurred_at(self.occurred_at)?;
        self.properties.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_written_version_stays_readable() {
        let v1 = Event::decode(include_bytes!("../fixtures/event.v1.json")).expect("version 1");
        let v2 = Event::decode(include_bytes!("../fixtures/event.v2.json")).expect("version 2");
        assert_eq!((v1.version, v2.version), (1, 2));
        assert_eq!(Event { version: 2, ..v1 }, v2);
        assert_eq!(v2.user, "household-900");
        assert_eq!(v2.properties.get("department"), Some("GROCERY"));
    }

    #[test]
    fn a_newer_version_is_named() {
        let text = include_str!("../fixtures/event.v2.json").replace("\"v\":2", "\"v\":99");
        let error = Event::decode(text.as_bytes()).expect_err("too new");
        assert!(matches!(error, DecodeError::UnsupportedVersion(99)), "{error}");
    }

    #[test]
    fn messages_round_trip_and_borrow() {
        let bytes = include_bytes!("../fixtures/event.v2.json");
        let event = Event::decode(bytes).expect("readable");
        assert!(matches!(event.id, Cow::Borrowed(_)), "the hot path must not copy text");
        assert!(matches!(event.user, Cow::Borrowed(_)));
        let again = event.clone().encode();
        assert_eq!(Event::decode(&again).expect("readable"), event);
    }

    #[test]
    fn garbage_is_an_error_and_not_a_crash() {
        let deep = "[".repeat(10_000);
        let nested = format!(r#"{{"v":2,"x":{deep}"#);
        let cases: [&[u8]; 6] =
            [b"", b"{", b"\xff\xfe", b"null", nested.as_bytes(), br#"{"v":2,"tenant":"A b","id":"1","name":"n"}"#];
        for bytes in cases {
            assert!(Event::decode(bytes).is_err());
        }
        assert!(matches!(Event::decode(&vec![b' '; 10_000_000]), Err(DecodeError::TooLarge(10_000_000))));
    }
}
