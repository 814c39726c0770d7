//! What finance reads beside the numbers: runs, periods and restatements, as they are sent, page by page.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::answer::Value;
use crate::problem::Problem;
use crate::table::text;

/// The most items of a page.
pub(crate) const PAGE_MAX: u32 = 1_000;
/// The items of a page if nobody says how many.
pub(crate) const PAGE: u32 = 100;

/// A page of a list. New items never change the pages behind a cursor.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Page<T> {
    /// In the order of the list.
    pub(crate) items: Vec<T>,
    /// Ask for the next page with `after=` this; null at the end of the list.
    pub(crate) next: Option<String>,
}

/// An item that is a line of a spreadsheet, too.
pub(crate) trait Line {
    /// The names of the fields, in the order of the cells.
    const COLUMNS: &'static [&'static str];

    /// The fields as texts.
    fn cells(&self) -> Vec<String>;
}

/// One settlement run.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Run {
    /// Its id.
    pub(crate) run_id: String,
    /// When it became visible.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) settled_at: Timestamp,
    /// The first day that it settled.
    #[schema(format = Date)]
    pub(crate) first_day: String,
    /// The last one.
    #[schema(format = Date)]
    pub(crate) last_day: String,
    /// How many days.
    pub(crate) days: u64,
    /// Deliveries in the lake on these days.
    pub(crate) deliveries: u64,
    /// Events on these days, each once.
    pub(crate) events: u64,
    /// The version of the lake that it counted.
    pub(crate) lake_version: u64,
    /// Cells of which a difference is not explained.
    pub(crate) residual_cells: u64,
    /// How many of its days still count; the others were settled again.
    pub(crate) days_in_force: u64,
}

/// One entry in the log of periods.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct PeriodEntry {
    /// The month, e.g. `2026-10`.
    pub(crate) period: String,
    /// `closed`, `adjusted` (events that came late were posted) or `reopened`.
    pub(crate) action: String,
    /// Counts closings and reopenings of this tenant's days.
    pub(crate) generation: u32,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
    /// Who signed.
    pub(crate) signed_by: String,
    /// Why, where a reason has to be given.
    pub(crate) reason: String,
    /// Its first day.
    #[schema(format = Date)]
    pub(crate) first_day: String,
    /// Its last day.
    #[schema(format = Date)]
    pub(crate) last_day: String,
    /// The content hash of all its days.
    pub(crate) content_hash: String,
    /// The hash of the manifest of this entry.
    pub(crate) manifest: String,
    /// Whether the period is closed by this very entry now.
    pub(crate) in_force: bool,
}

/// One number that a restatement changed.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Change {
    /// The day.
    #[schema(format = Date)]
    pub(crate) day: String,
    /// The run that changed it.
    pub(crate) run_id: String,
    /// The run whose number it was before.
    pub(crate) run_before: String,
    /// The rollup's name.
    pub(crate) rollup: String,
    /// The event's name.
    pub(crate) event: String,
    /// The dimensions' values, in the order of the rollup's name.
    pub(crate) dimensions: Vec<String>,
    /// `count`, `money`, `sum` or `users`.
    pub(crate) measure: String,
    /// The currency, or the property that is summed; empty for events and users.
    pub(crate) unit: String,
    /// The number before.
    pub(crate) before: Value,
    /// The number since.
    pub(crate) after: Value,
    /// Why.
    pub(crate) reason: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) changed_at: Timestamp,
}

/// An item that the collector refused.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Rejected {
    /// Its partition and offset in the log of rejected items.
    pub(crate) id: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) refused_at: Timestamp,
    /// The door that it came in through.
    pub(crate) source: String,
    /// The field that is wrong.
    pub(crate) field: String,
    /// What is wrong with it.
    pub(crate) reason: String,
    /// The item as it was received, cut after 32 KB.
    pub(crate) raw: String,
}

impl Line for Run {
    const COLUMNS: &'static [&'static str] = &[
        "run_id",
        "settled_at",
        "first_day",
        "last_day",
        "days",
        "deliveries",
        "events",
        "lake_version",
        "residual_cells",
        "days_in_force",
    ];

    fn cells(&self) -> Vec<String> {
        let texts = [&self.run_id, &self.settled_at.to_string(), &self.first_day, &self.last_day].map(Clone::clone);
        let counts =
            [self.days, self.deliveries, self.events, self.lake_version, self.residual_cells, self.days_in_force];
        texts.into_iter().chain(counts.map(|count| count.to_string())).collect()
    }
}

impl Line for PeriodEntry {
    const COLUMNS: &'static [&'static str] = &[
        "period",
        "action",
        "generation",
        "at",
        "signed_by",
        "reason",
        "first_day",
        "last_day",
        "content_hash",
        "manifest",
        "in_force",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.period.clone(),
            self.action.clone(),
            self.generation.to_string(),
            self.at.to_string(),
            self.signed_by.clone(),
            self.reason.clone(),
            self.first_day.clone(),
            self.last_day.clone(),
            self.content_hash.clone(),
            self.manifest.clone(),
            self.in_force.to_string(),
        ]
    }
}

impl Line for Change {
    const COLUMNS: &'static [&'static str] = &[
        "day",
        "run_id",
        "run_before",
        "rollup",
        "event",
        "dimensions",
        "measure",
        "unit",
        "before",
        "after",
        "reason",
        "changed_at",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.day.clone(),
            self.run_id.clone(),
            self.run_before.clone(),
            self.rollup.clone(),
            self.event.clone(),
            self.dimensions.join("/"),
            self.measure.clone(),
            self.unit.clone(),
            text(&self.before),
            text(&self.after),
            self.reason.clone(),
            self.changed_at.to_string(),
        ]
    }
}

impl Line for Rejected {
    const COLUMNS: &'static [&'static str] = &["id", "refused_at", "source", "field", "reason", "raw"];

    fn cells(&self) -> Vec<String> {
        let Self { id, refused_at, source, field, reason, raw } = self;
        [id, &refused_at.to_string(), source, field, reason, raw].map(Clone::clone).to_vec()
    }
}

/// A place in a list: the instant of the last item that was seen, and what tells items of one instant apart.
/// Lists that no instant orders have the same one everywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) at_us: i64,
    pub(crate) tie: String,
}

impl Cursor {
    /// The cursor for a client, who has no business with what is in it.
    pub(crate) fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{} {}", self.at_us, self.tie))
    }

    /// Reads one.
    ///
    /// # Errors
    /// 400 if it is none.
    pub(crate) fn decode(text: &str) -> Result<Self, Problem> {
        let read = || {
            let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
            let text = String::from_utf8(bytes).ok()?;
            let (at_us, tie) = text.split_once(' ')?;
            Some(Self { at_us: at_us.parse().ok()?, tie: tie.to_owned() })
        };
        read().ok_or_else(|| Problem::invalid_parameter("after", "this is no cursor that a page gave as `next`"))
    }
}

/// A page of what was read, one item more than asked for, each with its place in the list.
pub(crate) fn page<T>(mut placed: Vec<(Cursor, T)>, limit: u32) -> Page<T> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = placed.len() > limit;
    placed.truncate(limit);
    let next = placed.last().filter(|_| has_more).map(|(cursor, _)| cursor.encode());
    Page { items: placed.into_iter().map(|(_, item)| item).collect(), next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_round_trip_and_others_are_refused() {
        let cursor = Cursor { at_us: -5, tie: "run 1".to_owned() };
        assert_eq!(Cursor::decode(&cursor.encode()), Ok(cursor));
        for text in ["", "x", "!!", "MQ"] {
            assert_eq!(Cursor::decode(text).map_err(|problem| problem.status), Err(400), "{text}");
        }
    }

    #[test]
    fn the_last_page_has_no_next() {
        let placed = |count: i64| {
            let cursor = |at_us| Cursor { at_us, tie: String::new() };
            (0..count).map(|at_us| (cursor(at_us), at_us.to_string())).collect::<Vec<_>>()
        };
        assert_eq!(page(placed(2), 2).next, None);
        let first = page(placed(3), 2);
        assert_eq!(first.items, ["0", "1"]);
        assert_eq!(first.next.map(|next| Cursor::decode(&next).map(|cursor| cursor.at_us)), Some(Ok(1)));
    }
}
