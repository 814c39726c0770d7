//! What is kept in ClickHouse: the tables, who writes them, and the migrations that make them.
//!
//! | table or view | written by | content |
//! |---|---|---|
//! | `speed_cells_raw` | speed | absolute totals per cell and Kafka partition, versioned by the next offset |
//! | `speed_cells` | (view) | one row per cell, users as a state for `uniqCombined64Merge(14)`; the one to query |
//! | `speed_exceptions` | speed | every record that speed read and did not count, or came too late for up to a grain (`missed`), with its reason |
//! | `speed_overflows` | speed | every record that it counted under `__other__`, with the dimensions that had too many values |
//! | `speed_exception_counts` | (view) | the same, counted per minute, event name, reason and grain |
//! | `speed_tops_raw` | speed | the most frequent values of a property per window, event and Kafka partition, versioned by the next offset, as the bytes of [`crate::top::TopSketch`] |
//! | `speed_plans` | speed | for each partition from which record on a rollup, a summed property or a property's most frequent values are counted, or are not counted any more; and up to which event time it was then |
//! | `speed_progress` | speed | how far each partition is in these tables, and up to when that is everything; written last |
//! | `settled_cells_raw` | batch | exact cells of every run |
//! | `settled_users` | batch | the 128-bit user keys of every day's cell, for exact distinct counts over any days |
//! | `settled_tops_raw` | batch | per window from five minutes on, the values of a property that occurred most often, with exact counts; of every day one row of grain `1d`, also if nothing occurred |
//! | `settled_tops` | (view) | those of the newest settlement of each day, a row a value |
//! | `conflicts` | batch | deliveries of one event id with different contents, as a run found them: where both are, what both say |
//! | `drift` | batch | per cell and measure of a run: speed, batch, reasons, residual |
//! | `settlement_cuts` | batch | per run: how far the speed layer had read when it was compared, so that its drift can be traced to deliveries at any later time |
//! | `ledger_breaks_stored` | batch | every difference to a ledger that a tie-out ever found, with its newest state (`open`, `resolved`) |
//! | `ledger_breaks` | (view) | the same, each break once; the one to query |
//! | `settlements` | batch | one row per settled day, written last: it makes the run visible. A close and a reopening write the days again, under a higher generation, which counts before any other row |
//! | `periods` | batch | the log of periods: every close, every posting of adjustments, every reopening, with who and why |
//! | `periods_closed` | (view) | the periods that are closed now |
//! | `adjustments_stored` | batch | events that came for a closed period: where they belong, what they amount to, the day they are posted on |
//! | `adjustments` | (view) | the same, each event once; `in_force` as long as its period is closed |
//! | `changes_stored` | batch | per cell of grain `1d` and measure that a run restated: the value before and after |
//! | `changes` | (view) | those of runs that became visible; the one to query |
//! | `raw_events_stored` | raw | every delivery of the last days, replayed ones and blocks' repetitions included |
//! | `raw_events` | (view) | every event of them once, by its first delivery; the one to query, with a bound on `log_time` |
//! | `raw_progress` | raw | how far each partition is in `raw_events_stored`, and up to when that is everything; written after the rows, and while nothing happens |
//! | `backfills` | batch | one row per day that a rollup was filled for after the day was settled, written last: it makes the run's cells of that rollup visible beside the run that settled the day |
//! | `backfills_current` | (view) | those that add to the newest settlement of their day |
//! | `horizons`, `cells` | (views) | the instant up to which a tenant is settled; every cell by the layer that answers for its window, for tools that speak SQL |
//! | `settlements_current`, `settled_cells` | (views) | the newest settlement of each day, and the cells it makes visible |

use crate::window::{Grain, PerGrain};

/// One step that brings the database from one version to the next. Steps are never changed, only added.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// 1 for the first.
    pub version: u32,
    /// What it is about.
    pub name: &'static str,
    /// Statements separated by `;` at the end of a line. Each is idempotent, so that a step cut short is run again.
    pub sql: &'static str,
}

impl Migration {
    /// The single statements, without the comments around them.
    pub fn statements(&self) -> impl Iterator<Item = &'static str> {
        self.sql.split(";\n").map(str::trim).filter(|statement| !statement.is_empty())
    }
}

/// Every step, in order. A database is prepared by `CREATE DATABASE IF NOT EXISTS`, then by the steps that the table
/// `migrations` (made by the first) does not list yet.
pub const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "speed", sql: include_str!("../sql/0001_speed.sql") },
    Migration { version: 2, name: "settled", sql: include_str!("../sql/0002_settled.sql") },
    Migration { version: 3, name: "raw", sql: include_str!("../sql/0003_raw.sql") },
    Migration { version: 4, name: "speed_grains", sql: include_str!("../sql/0004_speed_grains.sql") },
    Migration { version: 5, name: "speed_tops", sql: include_str!("../sql/0005_speed_tops.sql") },
    Migration { version: 6, name: "conflicts", sql: include_str!("../sql/0006_conflicts.sql") },
    Migration { version: 8, name: "periods", sql: include_str!("../sql/0008_periods.sql") },
    Migration { version: 9, name: "changes", sql: include_str!("../sql/0009_changes.sql") },
    Migration { version: 10, name: "drill_down", sql: include_str!("../sql/0010_drill_down.sql") },
    Migration { version: 11, name: "ledger_breaks", sql: include_str!("../sql/0011_ledger_breaks.sql") },
    Migration { version: 14, name: "settled_tops", sql: include_str!("../sql/0014_settled_tops.sql") },
    Migration { version: 16, name: "backfills", sql: include_str!("../sql/0016_backfills.sql") },
    Migration { version: 17, name: "speed_plans", sql: include_str!("../sql/0017_speed_plans.sql") },
    Migration { version: 25, name: "merged", sql: include_str!("../sql/0025_merged.sql") },
    Migration { version: 34, name: "caught_up", sql: include_str!("../sql/0034_caught_up.sql") },
    Migration { version: 35, name: "raw_progress", sql: include_str!("../sql/0035_raw_progress.sql") },
];

/// The lifetime of the rows of `raw_events_stored`, as ClickHouse itself writes it: by the time that the log took them,
/// because replayed events may be years old.
#[must_use]
pub fn raw_events_ttl(retention: std::time::Duration) -> String {
    format!("toDateTime(log_time) + toIntervalSecond({})", retention.as_secs())
}

/// The lifetimes of the rows of `speed_cells_raw`, as ClickHouse itself writes them. Cells of a day stay for good.
#[must_use]
pub fn speed_cells_ttl(retention: &PerGrain) -> String {
    let ttl = |grain: Grain| {
        let seconds = retention.of(grain).as_secs();
        format!("window_end + toIntervalSecond({seconds}) WHERE grain = '{grain}'")
    };
    [Grain::Minute, Grain::FiveMinutes, Grain::Hour].map(ttl).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_lifetime_of_raw_events_is_a_week() {
        let week = raw_events_ttl(std::time::Duration::from_secs(7 * 86_400));
        assert!(MIGRATIONS[2].sql.contains(&week), "{week}");
    }

    #[test]
    fn steps_are_in_order_and_repeatable() {
        assert!(MIGRATIONS.is_sorted_by(|one, next| one.version < next.version));
        for migration in MIGRATIONS {
            for statement in migration.statements() {
                assert!(statement.contains("IF NOT EXISTS") || statement.contains("OR REPLACE VIEW"), "{statement}");
            }
        }
    }
}
