//! One run, counted again.

use std::collections::{BTreeMap, BTreeSet};
use std::slice::from_ref;

use deltalake::DeltaTable;
use jiff::civil::Date;
use reckon_schemas::cell::Rollup;
use reckon_schemas::ids::TenantId;

use super::compare::Expected;
use super::recount::{Recounted, recount};
use super::{Config, Finding, Verification, tops};
use crate::Error;
use crate::cluster::Engine;
use crate::count::{Counter, pieces};
use crate::lake::{self, Lake};
use crate::manifest::{self, Action, Backfilled, Counted, LakeFile, Link};
use crate::objects::Objects;
use crate::recount::Budget;
use crate::retention::{Held, date_of};
use crate::settle::Store;

/// Counts a run again, from the lake version and the configuration in its manifest, and compares every cell that it
/// published, its users and the content of its days.
///
/// # Errors
/// [`Error::Config`] if no tenant has such a run, [`Error::Retryable`] if a server is away, [`Error::Broken`] if what the
/// run was made from is no longer there.
pub async fn verify_run(config: &Config, tenant: Option<&TenantId>, run_id: &str) -> Result<Verification, Error> {
    let objects = Objects::open(&config.lake)?;
    for known in config.catalog.asked(tenant)? {
        let links = manifest::load(&objects, &known.id).await?;
        let of_run = |link: &&Link| link.manifest.as_ref().is_ok_and(|one| one.run_id.to_string() == run_id);
        let Some(link) = links.iter().find(of_run) else { continue };
        let Ok(manifest) = &link.manifest else { continue };
        return verify(config, &known.id, link, &manifest.action, run_id).await;
    }
    Err(Error::Config(format!("there is no manifest of a run {run_id:?}; `reckon reconcile` prints the ids of runs")))
}

/// What a run published, as its manifest and its rows say.
struct Published<'a> {
    run_id: &'a str,
    link: &'a Link,
    /// The only rollup that it counted; none if it counted all of its configuration.
    rollup: Option<&'a Rollup>,
    /// By day: the fingerprint and the hash of the manifest.
    days: BTreeMap<Date, (String, String)>,
}

async fn verify(
    config: &Config,
    tenant: &TenantId,
    link: &Link,
    action: &Action,
    run_id: &str,
) -> Result<Verification, Error> {
    let store = Store::new(&config.clickhouse);
    let (counts, rollup, days) = match action {
        Action::Settled(counted) => (from_ref(counted), None, store.hashes_of_run(tenant, run_id).await?),
        Action::Backfilled(Backfilled { parts, rollup, .. }) => {
            (parts.as_slice(), Some(rollup), store.hashes_of_backfill(tenant, run_id).await?)
        }
        Action::Closed(_) | Action::Adjusted(_) | Action::Reopened(_) => {
            return Err(Error::Config(format!(
                "run {run_id} counted nothing: it closed, opened or adjusted a period; use `reckon verify --chain`"
            )));
        }
    };
    let mut found = Verification::new(tenant, Some(run_id.to_owned()));
    found.manifests = 1;
    let published = Published { run_id, link, rollup, days };
    for counted in counts {
        let others = counts.iter().filter(|other| other.lake_version != counted.lake_version);
        let elsewhere = others.flat_map(|other| &other.days).map(|day| day.day).collect();
        verify_count(config, &store, &published, counted, &elsewhere, &mut found).await?;
    }
    Ok(found)
}

/// Counts what was counted from one version of the lake.
async fn verify_count(
    config: &Config,
    store: &Store,
    run: &Published<'_>,
    counted: &Counted,
    elsewhere: &BTreeSet<Date>,
    found: &mut Verification,
) -> Result<(), Error> {
    let (configuration, hash) = manifest::configuration_of(&counted.configuration);
    found.expect("configuration", "its hash", &counted.configuration_hash, &hash);
    let opened = Lake::open(&config.lake).await?;
    let table = opened.events_at(counted.lake_version).await.map_err(|error| {
        Error::Broken(format!("version {} of the lake, which the run counted: {error}", counted.lake_version))
    })?;
    let held = Held::of(&opened.events().await?).await?;
    verify_files(&table, counted, held, found).await;
    if !found.is_good() {
        // What is counted from files that were changed says nothing about the numbers.
        return Ok(());
    }
    let offsets = manifest::next_offsets(&lake::progress(&table, &config.topic).await?);
    found.expect("offsets", "of the lake's version", &format!("{:?}", counted.offsets), &format!("{offsets:?}"));
    // A cluster counts all of a tenant's rollups.
    let engine = if run.rollup.is_some() { &Engine::Local } else { &config.engine };
    let counter = Counter::since(engine, &table, &configuration, held.since).await?;
    if run.days.is_empty() {
        let (stored, expected) = ("nothing: the run was cut short before".to_owned(), "settlements".to_owned());
        found.find(Finding { what: "settlement", place: run.run_id.to_owned(), stored, expected });
        return Ok(());
    }
    let zone = &configuration.time_zone;
    let published = counted.days.iter().map(|day| day.day).collect::<BTreeSet<_>>();
    let (days, expired): (Vec<Date>, Vec<Date>) = published.into_iter().partition(|day| held.holds(*day, zone));
    found.expired_days = expired.len() as u64;
    let rollups = run.rollup.map_or_else(|| configuration.counted_rollups(), |rollup| vec![rollup.clone()]);
    let deliveries = counter.deliveries_by_day().await?;
    let budget = Budget::new(config.tuning.memory_bytes);
    for days in pieces(&days, &deliveries, config.tuning.chunk_deliveries) {
        let (Some(first), Some(last)) = (days.first(), days.last()) else { continue };
        let recounted = recount(&counter, rollups.clone(), days, &deliveries, &budget).await?;
        verify_days(run, counted, &recounted, found);
        Expected::new(&recounted).compare(store, run.run_id, (*first, *last), elsewhere, found).await?;
        if run.rollup.is_none() {
            tops::compare(store, run.run_id, &recounted, found).await?;
        }
    }
    Ok(())
}

/// Whether the lake's files are still those that were counted. What has expired may be gone, or not yet.
async fn verify_files(table: &DeltaTable, counted: &Counted, held: Held, found: &mut Verification) {
    let kept = |file: &&LakeFile| date_of(&file.path).is_none_or(|date| held.since.is_none_or(|since| date >= since));
    for file in counted.files.iter().filter(kept) {
        let expected = format!("{} bytes, SHA-256 {}", file.bytes, file.sha256);
        let stored = match manifest::checksum(table, &file.path).await {
            Ok((bytes, sha256)) => format!("{bytes} bytes, SHA-256 {sha256}"),
            Err(error) => error.to_string(),
        };
        found.expect("file", file.path.as_str(), &stored, &expected);
        found.files += 1;
    }
}

/// Whether the days have the content that the manifest and the settlements' rows say.
fn verify_days(run: &Published<'_>, counted: &Counted, recounted: &Recounted, found: &mut Verification) {
    let published: BTreeMap<Date, &str> = counted.days.iter().map(|day| (day.day, day.content_hash.as_str())).collect();
    for day in &recounted.settlements {
        let (place, hash) = (format!("{} content", day.day), day.content_hash.as_str());
        found.days += 1;
        found.expect("manifest", place.as_str(), published.get(&day.day).copied().unwrap_or("nothing"), hash);
        match run.days.get(&day.day) {
            None => found.expect("settlement", place, "nothing", hash),
            Some((stored, anchor)) => {
                found.expect("settlement", place, stored, hash);
                found.expect("manifest", format!("{} hash", day.day), &run.link.hash, anchor);
            }
        }
    }
}
