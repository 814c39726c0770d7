//! From a message of Segment's API to an event.

use std::borrow::Cow;
use std::net::IpAddr;

use jiff::Timestamp;
use reckon_schemas::event::{EventDraft, Rejection, Source, limits};
use reckon_schemas::time::{EventTime, MICROS_PER_SECOND};
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::super::enrich::{Client, Enricher};
use super::super::nested::{self, Flat};

const MINUTE_US: i64 = 60 * MICROS_PER_SECOND;

/// A client's clock is corrected if it is wrong by more than this. A smaller error includes the time that the request
/// was under way, so correcting it would give each delivery of one message another time.
const SKEW_US_MIN: i64 = 5 * MINUTE_US;

/// What of `context` is worth grouping by; the rest describes single clients.
const CONTEXT_KEPT: &[&str] = &[
    "app.name",
    "app.version",
    "campaign.name",
    "campaign.source",
    "campaign.medium",
    "device.type",
    "library.name",
    "locale",
    "os.name",
    "page.path",
    "timezone",
];

/// The type of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Track,
    Identify,
    Page,
    Screen,
    Group,
    Alias,
}

impl Kind {
    pub(super) fn parse(name: &str) -> Option<Self> {
        let all = [Self::Track, Self::Identify, Self::Page, Self::Screen, Self::Group, Self::Alias];
        all.into_iter().find(|kind| kind.name() == name)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Track => "track",
            Self::Identify => "identify",
            Self::Page => "page",
            Self::Screen => "screen",
            Self::Group => "group",
            Self::Alias => "alias",
        }
    }
}

/// What holds for every message of a request.
pub(super) struct Outer<'a> {
    pub(super) context: Option<&'a RawValue>,
    pub(super) sent_at: Option<&'a RawValue>,
    pub(super) received_at: EventTime,
}

/// A message with its fields still unread. Fields that are not known are left out, as Segment does.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Message<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    message_id: Option<&'a RawValue>,
    #[serde(borrow)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow)]
    anonymous_id: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    sent_at: Option<&'a RawValue>,
    #[serde(borrow)]
    properties: Option<&'a RawValue>,
    #[serde(borrow)]
    traits: Option<&'a RawValue>,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    category: Option<&'a RawValue>,
    #[serde(borrow)]
    group_id: Option<&'a RawValue>,
    #[serde(borrow)]
    previous_id: Option<&'a RawValue>,
}

impl<'a> Message<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, Rejection> {
        if !text.trim_start().starts_with('{') {
            return Err(Rejection::new("event", "is not an object"));
        }
        serde_json::from_str(text).map_err(|error| Rejection::new("event", error.to_string()))
    }

    /// The event that the message tells of; `kind` is what the route says, otherwise the message says it.
    pub(super) fn draft(
        &self,
        kind: Option<Kind>,
        outer: &Outer<'_>,
        enricher: &Enricher,
    ) -> Result<EventDraft, Rejection> {
        let kind = kind
            .or_else(|| Kind::parse(self.kind.as_deref()?))
            .ok_or_else(|| Rejection::new("type", "is not one of track, identify, page, screen, group, alias"))?;
        let name = match kind {
            Kind::Track => id("event", self.event)?.ok_or_else(|| Rejection::new("event", "is missing"))?,
            other => other.name().to_owned(),
        };
        let user = match id("userId", self.user_id)? {
            Some(user) => user,
            None => id("anonymousId", self.anonymous_id)?.unwrap_or_default(),
        };
        let mut flat = Flat::default();
        for (field, raw) in [("properties", self.properties), ("traits", self.traits)] {
            raw.map_or(Ok(()), |raw| flat.add_object(field, "", raw))?;
        }
        let money = self.properties.map_or(Ok(None), |raw| nested::money("properties", raw))?;
        let named = [
            ("name", self.name),
            ("category", self.category),
            ("groupId", self.group_id),
            ("previousId", self.previous_id),
        ];
        for (name, raw) in named {
            raw.map_or(Ok(()), |raw| flat.add(name, raw))?;
        }
        let mut draft = EventDraft {
            // Without an id of its own each delivery is an event of its own.
            id: id("messageId", self.message_id)?.unwrap_or_else(|| Uuid::now_v7().to_string()),
            name,
            occurred_at: self.occurred_at(outer)?,
            user,
            money,
            properties: flat.into_properties(),
            source: Source::Segment,
        };
        self.add_context(&mut draft, outer, enricher);
        Ok(draft)
    }

    /// The message's time by the collector's clock: the client's time, moved by the difference of the clocks when the
    /// message was sent, in whole minutes, if that is more than a few of them.
    fn occurred_at(&self, outer: &Outer<'_>) -> Result<EventTime, Rejection> {
        let Some(at) = time(self.timestamp).map_err(|()| {
            Rejection::new("timestamp", "is not an ISO 8601 instant such as \"2026-01-31T23:59:59.5Z\"")
        })?
        else {
            return Ok(outer.received_at);
        };
        let sent_at = time(self.sent_at.or(outer.sent_at)).unwrap_or_default();
        let skew_us = sent_at.map_or(0, |sent_at| outer.received_at.0.saturating_sub(sent_at.0));
        if skew_us.unsigned_abs() <= SKEW_US_MIN.unsigned_abs() {
            return Ok(at);
        }
        let whole_minutes_us = skew_us.saturating_add(MINUTE_US / 2).div_euclid(MINUTE_US).saturating_mul(MINUTE_US);
        Ok(at.plus_micros(whole_minutes_us))
    }

    /// The message's context before the request's: what both have is the message's own. A context that cannot be read
    /// is no reason to refuse an event.
    fn add_context(&self, draft: &mut EventDraft, outer: &Outer<'_>, enricher: &Enricher) {
        let mut context = Flat::default();
        for raw in [self.context, outer.context].into_iter().flatten() {
            let _unreadable = context.add_object("context", "", raw);
        }
        let context = context.into_properties();
        // A server sends its users' address and browser here; its own are of no interest then.
        let address = context.get("ip").and_then(|ip| ip.parse::<IpAddr>().ok());
        let client = Client {
            country: address.and_then(|address| enricher.country_of(address)),
            device: context.get("userAgent").and_then(|agent| enricher.device_of(agent)),
        };
        client.enrich(draft);
        for name in CONTEXT_KEPT {
            if let (Some(value), true) = (context.get(name), draft.properties.len() < limits::PROPERTIES_MAX) {
                draft.properties.insert(format!("context.{name}"), value.to_owned());
            }
        }
    }
}

/// A text, or a number's own text, as some libraries send ids.
fn id(field: &str, raw: Option<&RawValue>) -> Result<Option<String>, Rejection> {
    let Some(raw) = raw else { return Ok(None) };
    match raw.get().as_bytes().first() {
        Some(b'"') => {
            let text: String =
                serde_json::from_str(raw.get()).map_err(|_| Rejection::new(field, "is not a readable text"))?;
            Ok((!text.is_empty()).then_some(text))
        }
        Some(b'-' | b'0'..=b'9') => Ok(Some(raw.get().to_owned())),
        Some(b'n') => Ok(None),
        _ => Err(Rejection::new(field, "is not a text")),
    }
}

fn time(raw: Option<&RawValue>) -> Result<Option<EventTime>, ()> {
    let Some(raw) = raw else { return Ok(None) };
    let text: Option<Cow<'_, str>> = serde_json::from_str(raw.get()).map_err(|_| ())?;
    let at = text.map(|text| text.parse::<Timestamp>()).transpose().map_err(|_| ())?;
    Ok(at.map(EventTime::from_timestamp))
}

#[cfg(test)]
mod tests {
    use super::super::super::Tuning;
    use super::*;

    const RECEIVED_AT: &str = "2026-03-01T12:00:00Z";

    fn at(text: &str) -> EventTime {
        EventTime::from_timestamp(text.parse().expect("a timestamp"))
    }

    fn draft_with(text: &str, kind: Option<Kind>, context: Option<&str>) -> Result<EventDraft, Rejection> {
        let context: Option<&RawValue> = context.map(|text| serde_json::from_str(text).expect("JSON"));
        let outer = Outer { context, sent_at: None, received_at: at(RECEIVED_AT) };
        let enricher = Enricher::open(&Tuning::default()).expect("valid");
        Message::parse(text)?.draft(kind, &outer, &enricher)
    }

    fn draft(text: &str) -> Result<EventDraft, Rejection> {
        draft_with(text, None, None)
    }

    #[test]
    fn a_track_message_becomes_an_event() {
        let draft = draft(
            r#"{"type":"track","event":"Order Completed","messageId":"m-1","userId":"u","anonymousId":"a",
                "timestamp":"2026-03-01T11:59:00.123Z","integrations":{"All":true},"unknown":[[[]]],
                "properties":{"revenue":12.10,"currency":"eur","cart":{"size":3}}}"#,
        )
        .expect("valid");
        assert_eq!((draft.id.as_str(), draft.name.as_str(), draft.user.as_str()), ("m-1", "Order Completed", "u"));
        assert_eq!(draft.occurred_at, at("2026-03-01T11:59:00.123Z"));
        assert_eq!(draft.money.map(|money| money.to_string()).as_deref(), Some("12.10 EUR"));
        assert_eq!(draft.properties.get("cart.size"), Some("3"));
        assert_eq!(draft.source, Source::Segment);
    }

    #[test]
    fn other_types_are_named_after_themselves() {
        let group =
            draft(r#"{"type":"group","anonymousId":"a","groupId":"g","traits":{"plan":"pro"}}"#).expect("valid");
        assert_eq!((group.name.as_str(), group.user.as_str()), ("group", "a"));
        assert_eq!((group.properties.get("groupId"), group.properties.get("plan")), (Some("g"), Some("pro")));
        assert_eq!(group.occurred_at, at(RECEIVED_AT), "without a time it is the time of receipt");
        assert!(Uuid::parse_str(&group.id).is_ok(), "without an id it gets one");
        let page = draft_with(r#"{"name":"Home","userId":7}"#, Some(Kind::Page), None).expect("valid");
        assert_eq!((page.name.as_str(), page.user.as_str()), ("page", "7"));
        assert_eq!(page.properties.get("name"), Some("Home"));
    }

    #[test]
    fn each_error_names_its_field() {
        for (text, field) in [
            (r#"{"type":"track","userId":"u"}"#, "event"),
            (r#"{"type":"purchase","event":"e"}"#, "type"),
            (r#"{"event":"e"}"#, "type"),
            (r#"{"type":"track","event":"e","timestamp":"yesterday"}"#, "timestamp"),
            (r#"{"type":"track","event":"e","timestamp":17}"#, "timestamp"),
            (r#"{"type":"track","event":"e","userId":{}}"#, "userId"),
            (r#"{"type":"track","event":"e","properties":[1]}"#, "properties"),
            (r#"{"type":"track","event":"e","properties":{"revenue":"NaN"}}"#, "properties.revenue"),
            ("[]", "event"),
            ("7", "event"),
        ] {
            assert_eq!(draft(text).expect_err(text).field, field, "{text}");
        }
    }

    #[test]
    fn a_wrong_clock_is_corrected_and_a_slow_network_is_not() {
        let occurred = |timestamp: &str, sent_at: &str| {
            let text = format!(r#"{{"type":"alias","timestamp":"{timestamp}","sentAt":"{sent_at}"}}"#);
            draft(&text).expect("valid").occurred_at
        };
        let slow = occurred("2026-03-01T11:00:00Z", "2026-03-01T11:59:30Z");
        assert_eq!(slow, at("2026-03-01T11:00:00Z"));
        // Two hours fast; the second delivery is 20 seconds later and must give the same time.
        let first = occurred("2026-03-01T13:00:00Z", "2026-03-01T14:00:00Z");
        let again = occurred("2026-03-01T13:00:00Z", "2026-03-01T14:00:20Z");
        assert_eq!((first, again), (at("2026-03-01T11:00:00Z"), at("2026-03-01T11:00:00Z")));
        let unreadable = occurred("2026-03-01T11:00:00Z", "soon");
        assert_eq!(unreadable, at("2026-03-01T11:00:00Z"));
    }

    #[test]
    fn the_messages_context_comes_before_the_requests() {
        let outer = r#"{"locale":"de-DE","library":{"name":"analytics-node"},"ip":"1.2.3.4",
            "userAgent":"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"}"#;
        let text = r#"{"type":"track","event":"e","context":{"locale":"fr-FR"}}"#;
        let draft = draft_with(text, None, Some(outer)).expect("valid");
        assert_eq!(draft.properties.get("context.locale"), Some("fr-FR"));
        assert_eq!(draft.properties.get("context.library.name"), Some("analytics-node"));
        assert_eq!(draft.properties.get("device"), Some("desktop"));
        assert_eq!(draft.properties.get("context.ip"), None, "addresses are not kept");
    }
}
