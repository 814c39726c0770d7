//! A heat map as it is sent.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::answer::{Adjustment, Coverage, Gap, Number, Stale};
use crate::cache::newest::Aging;

/// What a map takes in memory, in bytes; a guess.
const MAP_BYTES: u32 = 50_000;

/// One metric by hour of the day and day of the week.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct HeatMap {
    /// Whose numbers these are: the tenant of the key.
    pub(crate) tenant: String,
    /// The metric asked for: its name, or its text.
    pub(crate) metric: String,
    /// What is counted: `count`, `money`, `sum`, `users` or `formula`.
    pub(crate) measure: String,
    /// What the numbers are in.
    pub(crate) unit: String,
    /// The zone whose clocks show the hours.
    pub(crate) time_zone: String,
    /// The first instant answered: what was asked for, widened to whole hours.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) from: Timestamp,
    /// The first instant after what is answered, widened likewise.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) to: Timestamp,
    /// The instant up to which every window is settled; null if nothing is.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) horizon: Option<Timestamp>,
    /// The event time that the speed layer has seen on every partition that has one; null if it has seen none.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) watermark: Option<Timestamp>,
    /// When this was computed.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) computed_at: Timestamp,
    /// How long before it was sent this was computed, in milliseconds.
    pub(crate) age_ms: i64,
    /// Set if provisional numbers are older than they should be, or all of them are older than they would be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stale: Option<Stale>,
    /// How long ago everything that the log had received by then was counted, in milliseconds: of the partition that is
    /// the furthest behind.
    pub(crate) speed_lag_ms: Option<i64>,
    /// Which layer answers which part of the range: without gap, without overlap.
    pub(crate) coverage: Vec<Coverage>,
    /// Parts of the range that nobody has counted yet.
    pub(crate) gaps: Vec<Gap>,
    /// Events that came for a closed period after it was closed: they are in no number of this answer.
    pub(crate) adjustments: Vec<Adjustment>,
    /// What else there is to know about this answer.
    pub(crate) notes: Vec<String>,
    /// Over the whole range.
    pub(crate) total: Number,
    /// The hours of the week, from Monday 00:00 on: 168.
    pub(crate) cells: Vec<HeatCell>,
}

/// One hour of the week.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct HeatCell {
    /// 1 for Monday to 7 for Sunday.
    #[schema(minimum = 1, maximum = 7)]
    pub(crate) weekday: u8,
    /// 0 to 23, as a clock in the zone shows it.
    #[schema(minimum = 0, maximum = 23)]
    pub(crate) hour: u8,
    /// How many hours of the range these are: divide by it for an hour of the usual week.
    pub(crate) hours: usize,
    /// All of them together; null if the range has none.
    pub(crate) number: Option<Number>,
}

impl Aging for HeatMap {
    fn computed_at(&self) -> Timestamp {
        self.computed_at
    }

    fn bytes(&self) -> u32 {
        MAP_BYTES
    }

    fn age(&mut self, age_ms: i64, stale: Option<Stale>) {
        // What is not known to be less.
        self.speed_lag_ms = self.speed_lag_ms.map(|lag_ms| lag_ms.saturating_add(age_ms - self.age_ms));
        self.age_ms = age_ms;
        self.stale = stale.or(self.stale);
    }
}
