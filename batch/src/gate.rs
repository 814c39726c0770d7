//! The gate for schedulers: is a day final?

use jiff::Timestamp;
use jiff::civil::Date;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::settlement::{State, last_settled_day};
use reckon_schemas::stores;
use reckon_schemas::time::EventTime;
use serde::Serialize;

use crate::Error;
use crate::settle::{PeriodDay, Store};

/// What is known of a day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finality {
    /// Whose day.
    pub tenant: reckon_schemas::ids::TenantId,
    /// The day.
    pub date: Date,
    /// Whether it, and every day before it, is settled.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Its state.
    pub state: State,
    /// The run that its numbers come from.
    pub run_id: Option<String>,
    /// When it was settled.
    pub settled_at: Option<Timestamp>,
    /// How many of its cells have drift that no reason explains.
    pub residual_cells: u64,
    /// The instant up to which everything is settled.
    pub horizon: Option<Timestamp>,
    /// Why it is not final; empty if it is.
    pub reason: String,
}

/// Looks a day up.
///
/// # Errors
/// [`Error::Retryable`] if ClickHouse is away, [`Error::Broken`] if what it holds cannot be read.
pub async fn finality(clickhouse: &stores::ClickHouse, tenant: &Tenant, date: Date) -> Result<Finality, Error> {
    let store = Store::new(clickhouse);
    let settled = store.settled_days(&tenant.id).await?;
    let first = settled.keys().next().copied();
    let last = last_settled_day(settled.keys().copied());
    let day = store.settled_between(&tenant.id, date, date).await?.pop();
    Ok(judge(tenant, date, first, last, day))
}

fn judge(tenant: &Tenant, date: Date, first: Option<Date>, last: Option<Date>, day: Option<PeriodDay>) -> Finality {
    let before_all = first.is_some_and(|first| date < first);
    let within_horizon = last.is_some_and(|last| date <= last);
    let is_final = before_all || (day.is_some() && within_horizon);
    let reason = match (&day, last) {
        _ if is_final => String::new(),
        (Some(_), Some(last)) => {
            format!("{date} is settled, but an earlier day is not: everything is settled up to {last}")
        }
        (_, Some(last)) => format!("{date} is not settled; everything is settled up to {last}"),
        (_, None) => "nothing of this tenant is settled".to_owned(),
    };
    Finality {
        tenant: tenant.id.clone(),
        date,
        is_final,
        // Before the first event nothing happened, and late events would change that.
        state: day.as_ref().map_or(if before_all { State::Settled } else { State::Provisional }, |day| day.state),
        settled_at: day.as_ref().map(|day| day.settled_at.to_timestamp()),
        residual_cells: day.as_ref().map_or(0, |day| day.residual_cells),
        run_id: day.map(|day| day.run_id),
        horizon: last.map(|last| tenant.time_zone.day_end(last)).map(EventTime::to_timestamp),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;
    use reckon_schemas::time::Zone;
    use reckon_schemas::window::{Grain, Window};

    fn settled(day: Date) -> PeriodDay {
        PeriodDay {
            day,
            window: Window { grain: Grain::Day, start: EventTime(0), end: EventTime(1) },
            run_id: "run".to_owned(),
            state: State::Restated,
            deliveries: 1,
            events: 1,
            lake_version: 1,
            content_hash: String::new(),
            residual_cells: 3,
            generation: 0,
            settled_at: EventTime(0),
        }
    }

    #[test]
    fn a_day_is_final_when_it_and_all_before_it_are_settled() {
        let tenant = Tenant::new("acme".parse().expect("valid"), Zone::UTC);
        let (first, last) = (Some(date(2026, 3, 2)), Some(date(2026, 3, 9)));
        let ask = |day: Date, known| judge(&tenant, day, first, last, known);
        let inside = ask(date(2026, 3, 9), Some(settled(date(2026, 3, 9))));
        assert!(inside.is_final && inside.state == State::Restated && inside.residual_cells == 3, "{inside:?}");
        let beyond_a_gap = ask(date(2026, 3, 11), Some(settled(date(2026, 3, 11))));
        assert!(!beyond_a_gap.is_final && beyond_a_gap.reason.contains("2026-03-09"), "{beyond_a_gap:?}");
        assert!(!ask(date(2026, 3, 10), None).is_final);
        assert!(ask(date(2026, 3, 1), None).is_final, "before the first event there is nothing to wait for");
        assert!(!judge(&tenant, date(2026, 3, 1), None, None, None).is_final);
    }
}
