//! The log: topics, message keys, headers.

use serde::{Deserialize, Serialize};

/// The header that carries the request's W3C trace context.
pub const TRACEPARENT_HEADER: &str = "traceparent";

/// The names of the two topics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Topics {
    /// Accepted events, keyed by [`message_key`].
    pub events: String,
    /// Refused items with their reasons, see [`crate::event::Rejected`]; keyed by tenant.
    pub rejected: String,
    /// How many partitions `events` gets where it does not exist yet.
    pub partitions: i32,
}

impl Default for Topics {
    fn default() -> Self {
        Self { events: "events".to_owned(), rejected: "events.rejected".to_owned(), partitions: 6 }
    }
}

/// The key of an event's message: tenant and user, so that all events of a user, and with them every re-delivery of
/// one event, are in one partition. Without a user, tenant and event id.
#[must_use]
pub fn message_key(tenant: &str, user: &str, event_id: &str) -> Vec<u8> {
    let who = if user.is_empty() { event_id } else { user };
    [tenant.as_bytes(), b"\x1f", who.as_bytes()].concat()
}
