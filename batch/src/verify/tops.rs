//! The stored most frequent values of a few days against those that were counted again.

use hashbrown::HashMap;
use jiff::civil::Date;

use super::recount::Recounted;
use super::{Finding, Verification};
use crate::Error;
use crate::recount::Top;
use crate::settle::Store;

/// Compares with what a run has stored for the days that were counted again.
///
/// # Errors
/// [`Error::Retryable`] if ClickHouse is away.
pub(super) async fn compare(
    store: &Store,
    run_id: &str,
    recounted: &Recounted,
    found: &mut Verification,
) -> Result<(), Error> {
    let days: Vec<Date> = recounted.settlements.iter().map(|day| day.day).collect();
    let (Some(first), Some(last)) = (days.first(), days.last()) else { return Ok(()) };
    let stored = store.tops_of_run(&found.tenant, run_id, (*first, *last)).await?;
    let mut expected: HashMap<_, &Top> = recounted.tops.iter().map(|top| (top.place(), top)).collect();
    for stored in stored.iter().filter(|stored| days.contains(&stored.day)) {
        // One that is there twice is not expected the second time.
        let expected = expected.remove(&stored.place()).map_or_else(|| "nothing".to_owned(), said);
        found.expect("top", place(stored), &said(stored), &expected);
    }
    let mut missing: Vec<&Top> = expected.into_values().collect();
    missing.sort_unstable_by_key(|top| top.place());
    for top in missing {
        found.find(Finding { what: "top", place: place(top), stored: "nothing".to_owned(), expected: said(top) });
    }
    Ok(())
}

fn place(top: &Top) -> String {
    format!("{} {} {} {} from {}", top.day, top.event, top.property, top.window.grain, top.window.start)
}

fn said(top: &Top) -> String {
    format!("{:?} of {}, others at most {}, until {}", top.values, top.total, top.bound, top.window.end)
}
