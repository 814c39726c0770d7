//! Watching numbers for people. One node looks at every alert every few seconds ([`watch`]); when an alert fires is a
//! pure function of what was seen ([`rule`]). Where an alert stands is kept in the configuration store ([`kept`]), so a
//! restart forgets nothing, and so is everything that people are told, live and by webhook ([`messages`], [`sending`]).

pub(crate) mod definition;
pub(crate) mod kept;
mod messages;
pub(crate) mod rule;
mod sending;
pub(crate) mod watch;
pub(crate) mod webhook;

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use self::definition::Definition;
use self::rule::Standing;

/// The time between two looks.
pub(crate) const TICK: Duration = Duration::from_secs(2);

/// An alert as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Alert {
    pub(crate) tenant: String,
    pub(crate) id: String,
    pub(crate) definition: Definition,
    pub(crate) revision: i64,
    pub(crate) standing: Standing,
    /// What was seen last.
    pub(crate) number: Option<String>,
    pub(crate) created_by: String,
    pub(crate) updated_at: Timestamp,
}

/// What people were told.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Event {
    /// Grows with time.
    pub(crate) id: String,
    /// The alert's id.
    pub(crate) alert: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
    /// The message: the same as by webhook.
    pub(crate) body: serde_json::Value,
}
