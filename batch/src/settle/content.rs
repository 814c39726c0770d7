//! A fingerprint of everything that a day's cells say.

use std::fmt::Write;

use reckon_schemas::ids::TenantId;
use sha2::{Digest, Sha256};

use crate::recount::{Cell, Groups, Top};

/// The fingerprint of a day on which nothing happened.
pub(crate) fn empty_day_hash(tenant: &TenantId) -> String {
    content_hash(tenant, &Groups::new(Vec::new()), std::iter::empty(), std::iter::empty())
}

/// SHA-256, in hexadecimal, over a day's cells, which must come sorted by (group's rank, window), and its most frequent
/// values, in the order of [`crate::recount::TopTally::finish`]. Two counts of the same events have the same hash,
/// whichever run made them and however the deliveries were ordered.
pub(crate) fn content_hash<'a>(
    tenant: &TenantId,
    groups: &Groups,
    cells: impl Iterator<Item = &'a Cell>,
    tops: impl Iterator<Item = &'a Top>,
) -> String {
    let mut hash = Sha256::new();
    // Every text is preceded by its length, so that no two contents read the same.
    let mut line = format!("reckon-day-1 {}\n", tenant.as_str());
    for cell in cells {
        let group = groups.get(cell.group);
        let (event, values, exact) = (&group.event, group.values.as_str(), &cell.exact);
        let rollup = groups.rollup_of(cell.group).name();
        let window = cell.window;
        let users = exact.users.to_clickhouse();
        let written = write!(
            line,
            "{}:{rollup} {} {} {} {}:{event} {}:{values} {} {} {}:",
            rollup.len(),
            window.grain,
            window.start.0,
            window.end.0,
            event.len(),
            values.len(),
            exact.count,
            exact.users_exact,
            users.len(),
        );
        written.expect("a text can always grow");
        hash.update(line.as_bytes());
        hash.update(&users);
        line.clear();
        for (unit, sum) in exact.sums.iter() {
            write!(line, " {unit} {sum}").expect("a text can always grow");
        }
        line.push('\n');
    }
    // A window in which nothing occurred says nothing.
    for top in tops.filter(|top| top.total > 0) {
        let Top { event, property, window, total, values, bound, .. } = top;
        let written = write!(
            line,
            "top {}:{event} {}:{property} {} {} {} {total} {bound}",
            event.len(),
            property.len(),
            window.grain,
            window.start.0,
            window.end.0,
        );
        written.expect("a text can always grow");
        for (value, count) in values {
            write!(line, " {}:{value} {count}", value.len()).expect("a text can always grow");
        }
        line.push('\n');
        hash.update(line.as_bytes());
        line.clear();
    }
    hash.update(line.as_bytes());
    hex::encode(hash.finalize())
}
