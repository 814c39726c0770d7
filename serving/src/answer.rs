//! What is sent to clients. Data time (`from`, `to`, `start`, `end`, `horizon`, `watermark`) and compute time
//! (`computed_at`, `as_of`) are separate fields everywhere.

mod groups;
mod nothing;
mod staleness;
mod value;

use std::collections::BTreeMap;

use jiff::Timestamp;
use reckon_schemas::settlement::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub(crate) use self::groups::Groups;
pub(crate) use self::staleness::{Stale, StaleReason};

/// The answer to a query.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Answer {
    /// Whose numbers these are: the tenant of the key.
    pub(crate) tenant: String,
    /// The metric asked for: its name, or its text.
    pub(crate) metric: String,
    /// In a comparison of segments: which of them this is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) segment: Option<String>,
    /// What is counted: `count`, `money`, `sum`, `users`, `active_users` or `top`; `formula` if the metric is a text.
    pub(crate) measure: String,
    /// `events`, `users`, the currency's ISO 4217 code, or the name of the property that is summed; of a formula a
    /// combination of these, such as `USD/events`, or nothing.
    pub(crate) unit: String,
    /// The length of the windows: `1s`, `1m`, `5m`, `1h` or `1d`.
    pub(crate) grain: String,
    /// The zone that days are in.
    pub(crate) time_zone: String,
    /// The rollup that was read; more than one, separated by `;`, where a formula needs them; if there is none, the
    /// properties that were read of single events.
    pub(crate) rollup: String,
    /// The first instant answered: what was asked for, widened to whole windows.
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
    /// When this answer was computed.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) computed_at: Timestamp,
    /// How long before it was sent this answer was computed, in milliseconds: 0 if it was computed for this request.
    pub(crate) age_ms: i64,
    /// Set if provisional numbers are older than they should be, or all of them are older than they would be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stale: Option<Stale>,
    /// How long ago everything that the log had received by then was counted, in milliseconds: of the partition that is
    /// the furthest behind. It grows while the speed layer is behind, and while it is silent.
    pub(crate) speed_lag_ms: Option<i64>,
    /// Which layer answers which part of the range: without gap, without overlap.
    pub(crate) coverage: Vec<Coverage>,
    /// Parts of the range that nobody has counted yet; a missing number there is not a zero.
    pub(crate) gaps: Vec<Gap>,
    /// Events that came for a closed period after it was closed: its numbers never change, so these events are in no
    /// number of this answer.
    pub(crate) adjustments: Vec<Adjustment>,
    /// What else there is to know about this answer.
    pub(crate) notes: Vec<String>,
    /// Whether groups were left out; `total` has them all the same.
    pub(crate) truncated: bool,
    /// How many groups there are, those left out included.
    pub(crate) groups_count: usize,
    /// All groups together, over the whole range.
    pub(crate) total: Number,
    /// All groups together, for each entry of `coverage`.
    pub(crate) parts: Vec<Part>,
    /// The groups, the largest first; on a page in the order of their names. One group without dimensions if none were
    /// asked for.
    #[schema(value_type = Vec<Group>)]
    pub(crate) groups: Groups,
    /// The groups that were left out, as one: sums are added up, users are counted anew over all of them. Not there
    /// where nothing was left out, and where it cannot be derived, which `notes` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) other: Option<Group>,
    /// If this is a page and not the last one: what to give as `cursor` for the next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
    /// What it was to be compared with, and how it differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(no_recursion)]
    pub(crate) comparison: Option<Box<Comparison>>,
}

/// The answer that another one is compared with, and the differences.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Comparison {
    /// `period`: the same question about an earlier range. `segments`: the same range with other filters.
    pub(crate) kind: String,
    /// What it is compared with.
    pub(crate) base: Answer,
    /// Whether both totals are in the same state, so that a difference is not one of settled and provisional numbers.
    pub(crate) same_state: bool,
    /// Of the totals.
    pub(crate) total: Delta,
    /// Of the groups that either of both names.
    pub(crate) groups: Vec<GroupDelta>,
    /// Of the groups that are left out, if either side leaves out some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) other: Option<GroupDelta>,
}

/// How two numbers differ. Each is null where it is not known, because a side has a gap there, or not defined.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Delta {
    /// The number minus that of the base, in the unit of both.
    pub(crate) difference: Option<Number>,
    /// The number divided by that of the base, rounded to six decimals, which is part of the error bound. Null if the
    /// base may be zero.
    pub(crate) ratio: Option<Number>,
}

/// How one group differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct GroupDelta {
    /// The values grouped by.
    pub(crate) dimensions: BTreeMap<String, String>,
    /// Over the whole range.
    pub(crate) total: Delta,
    /// By window, in order; windows without events on both sides are left out.
    pub(crate) points: Vec<PointDelta>,
}

/// How one window differs from the one that it is compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct PointDelta {
    /// The window's first instant; null if there is none, because the range of the base is longer or has an hour that
    /// this one does not have.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) start: Option<Timestamp>,
    /// The first instant after it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) end: Option<Timestamp>,
    /// The first instant of the window that it is compared with; null likewise.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) base_start: Option<Timestamp>,
    /// The first instant after that.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) base_end: Option<Timestamp>,
    /// The difference and the ratio.
    #[serde(flatten)]
    pub(crate) delta: Delta,
}

impl Answer {
    /// Whether any part of it can still move.
    pub(crate) fn is_provisional(&self) -> bool {
        self.coverage.iter().any(|part| part.state == State::Provisional)
    }
}

/// A number, and how far it can be trusted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Number {
    /// An integer, or a decimal string for sums and formulas; null where a formula is not defined: it divides by zero, or
    /// `gaps` has a part that some of its aggregates were counted in and others were not.
    pub(crate) value: Value,
    /// How it was computed: `exact` is integer arithmetic over what was counted, `hll` a HyperLogLog sketch,
    /// `frequent_items` a sketch of the most frequent values. Whether
    /// everything was counted yet is what `state` says.
    pub(crate) method: Method,
    /// How far the method may be off, in the unit of the value: three standard errors of a HyperLogLog
    /// sketch; of frequent items the most that the value can be too high; 0 if exact.
    pub(crate) error_bound: Value,
    /// `provisional`: it will be replaced. `settled`: it changes only if late events arrive. `restated`: that has
    /// happened. `closed`: it never changes. A sum is as certain as its least certain part.
    #[schema(value_type = String)]
    pub(crate) state: State,
    /// When the newest of what it is made of was written.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) as_of: Option<Timestamp>,
    /// The settlement run it comes from; null if it is none or more than one (see `coverage`).
    pub(crate) run_id: Option<String>,
}

/// A number's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Value {
    /// Events or users.
    Integer(i128),
    /// Money in the currency's major unit, with exactly its decimals; or the sum of a property, without trailing zeros.
    Decimal(String),
    /// What a formula says where it is not defined.
    Undefined,
}

/// How a number was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Method {
    /// Integer arithmetic.
    Exact,
    /// A HyperLogLog sketch.
    Hll,
    /// A sketch of frequent items: the value is the most it can be, and at most `error_bound` too high.
    FrequentItems,
}

/// Which layer answers a part of the range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Coverage {
    /// The part's first instant.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) from: Timestamp,
    /// The first instant after it.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) to: Timestamp,
    /// `batch` or `speed`; for questions that no rollup answers `lake` or `raw`. Of a formula whose aggregates are
    /// answered by several layers: the last of them in this order.
    pub(crate) layer: LayerName,
    /// `settled`, `restated`, `closed` or `provisional`.
    #[schema(value_type = String)]
    pub(crate) state: State,
    /// When the newest of it was written.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) as_of: Option<Timestamp>,
    /// The settlement runs behind it, at most ten.
    pub(crate) run_ids: Vec<String>,
    /// The version of the lake that was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lake_version: Option<u64>,
}

/// A layer's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LayerName {
    /// Counted exactly from the lake.
    Batch,
    /// Counted while it streamed.
    Speed,
    /// Counted for this question, from the single events of the lake.
    Lake,
    /// Counted for this question, from the single events of the last days.
    Raw,
}

/// A part of the range that was not counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Gap {
    /// Its first instant.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) from: Timestamp,
    /// The first instant after it.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) to: Timestamp,
    /// Why.
    pub(crate) reason: String,
}

/// What came for a closed period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Adjustment {
    /// The closed period, a month as 2026-10.
    pub(crate) period: String,
    /// Whether the events are posted on a day that begins in this range, or happened there and are posted later.
    pub(crate) kind: AdjustmentKind,
    /// How many events.
    pub(crate) events: u64,
    /// What they amount to, in the unit of the answer; null for users, whose numbers do not add up.
    pub(crate) amount: Option<Value>,
    /// Of a formula: which of its aggregates they are missing from, counted from 1 in the order of the text, equal ones
    /// once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) aggregate: Option<u32>,
    /// Of a formula: the unit of the amount, which is that of the aggregate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<String>,
}

/// How an adjustment relates to a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AdjustmentKind {
    /// To be added to this range by whoever adds up the books.
    PostedHere,
    /// They happened in this range, and are posted in a later one.
    BelongsHere,
}

/// The number of one part of the range.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Part {
    /// `batch` or `speed`.
    pub(crate) layer: LayerName,
    /// `settled`, `restated`, `closed` or `provisional`.
    #[schema(value_type = String)]
    pub(crate) state: State,
    /// The part's first instant.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) from: Timestamp,
    /// The first instant after it.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) to: Timestamp,
    /// Its number.
    pub(crate) number: Number,
}

/// The numbers of one combination of dimension values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Group {
    /// The values grouped by.
    pub(crate) dimensions: BTreeMap<String, String>,
    /// Over the whole range.
    pub(crate) total: Number,
    /// For each entry of `coverage`.
    pub(crate) parts: Vec<Part>,
    /// By window, in order. A window without a point had no event (if no entry of `gaps` says otherwise). Active users
    /// and the most frequent values have none, only totals.
    pub(crate) points: Vec<Point>,
}

/// The number of one window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Point {
    /// The window's first instant.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) start: Timestamp,
    /// The first instant after it.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) end: Timestamp,
    /// Its number.
    pub(crate) number: Number,
}
