//! A tenant's chain of manifests, against itself and against what ClickHouse has of it.

use hashbrown::HashMap;
use reckon_schemas::ids::TenantId;

use super::{Config, Finding, Verification};
use crate::Error;
use crate::manifest::{self, Action};
use crate::objects::Objects;
use crate::settle::Store;

/// Checks that no manifest is missing, changed or moved; that every run that became visible has the manifest that its
/// rows name, with the same content of every day; and that every closed period is as it was signed.
///
/// # Errors
/// [`Error::Retryable`] if a server is away, [`Error::Broken`] if what it holds cannot be read.
pub async fn verify_chain(config: &Config, tenant: &TenantId) -> Result<Verification, Error> {
    let objects = Objects::open(&config.lake)?;
    let store = Store::new(&config.clickhouse);
    let mut found = Verification::new(tenant, None);
    let links = manifest::load(&objects, tenant).await?;
    found.manifests = links.len() as u64;
    for problem in manifest::check(tenant, &links) {
        let (stored, expected) = (problem, "an unbroken chain".to_owned());
        found.find(Finding { what: "manifest", place: "chain".to_owned(), stored, expected });
    }
    let by_hash: HashMap<&str, &manifest::Link> = links.iter().map(|link| (link.hash.as_str(), link)).collect();
    // By the manifest: which days have which content, as far as the rows of a run or a close can be looked up in it.
    let mut anchored = store.anchored_days(tenant).await?;
    anchored.extend(store.anchored_backfills(tenant).await?);
    for row in anchored {
        let place = format!("{} of run {}", row.day, row.run_id);
        let Some(Ok(named)) = by_hash.get(row.manifest.as_str()).map(|link| &link.manifest) else {
            let (stored, expected) = ("no such manifest in the chain".to_owned(), row.manifest);
            found.find(Finding { what: "manifest", place, stored, expected });
            continue;
        };
        let days: Vec<_> = match &named.action {
            Action::Settled(counted) => counted.days.iter().collect(),
            Action::Closed(closed) => closed.days.iter().collect(),
            Action::Backfilled(backfilled) => backfilled.parts.iter().flat_map(|part| &part.days).collect(),
            // A reopening changes no content.
            Action::Adjusted(_) | Action::Reopened(_) => continue,
        };
        found.days += 1;
        let signed = days.into_iter().find(|day| day.day == row.day && day.run_id == row.run_id);
        let signed = signed.map_or("nothing", |day| day.content_hash.as_str());
        found.expect("settlement", format!("{place}, content"), &row.content_hash, signed);
    }
    for closed in store.closed_periods(tenant).await? {
        let place = format!("{} closed by {}", closed.period, closed.closed_by);
        match by_hash.get(closed.manifest.as_str()).map(|link| &link.manifest) {
            Some(Ok(manifest::Manifest { action: Action::Closed(signed), .. })) => {
                found.expect("period", format!("{place}, content"), &closed.content_hash, &signed.content_hash);
                found.expect("period", format!("{place}, name"), &closed.closed_by, &signed.signed_by);
                let offsets = manifest::next_offsets(&closed.next_offsets);
                let (stored, expected) = (format!("{offsets:?}"), format!("{:?}", signed.offsets));
                found.expect("period", format!("{place}, offsets"), &stored, &expected);
            }
            _ => found.expect("period", place, "no such manifest in the chain", &closed.manifest),
        }
    }
    Ok(found)
}
