//! What the index says of a lake: one small file, which names all others.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::IndexError;
use super::files::Files;
use super::marks::MarksFile;
use super::repeats::RepeatsFile;

/// The format that this build reads and writes; any other one is made anew.
const FORMAT: u32 = 1;

/// The index of one tenant: for each date that the lake files deliveries under, what is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    format: u32,
    /// The id of the table.
    table: String,
    /// The zone in which days are counted.
    zone: String,
    /// The version of the table that was read last.
    pub(super) lake_version: u64,
    pub(super) dates: BTreeMap<Date, Shelf>,
}

/// What is known of the deliveries that are filed under one date.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shelf {
    /// The lake's files that this was read from. They never change.
    pub(super) files: BTreeSet<String>,
    /// By the calendar day of the tenant.
    pub(super) days: BTreeMap<Date, DayCounts>,
    pub(super) marks: Option<MarksFile>,
    /// Every event that was delivered more than once, and at least once on this date.
    pub(super) repeats: Option<RepeatsFile>,
}

/// How often something was delivered for a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DayCounts {
    /// All deliveries.
    pub(super) deliveries: u64,
    /// Those that are not the first one of their event.
    pub(super) later: u64,
}

impl Shelf {
    pub(super) fn deliveries(&self) -> u64 {
        self.days.values().map(|day| day.deliveries).sum()
    }
}

impl State {
    /// Nothing read yet.
    pub(super) fn new(table: &str, zone: &str) -> Self {
        Self { format: FORMAT, table: table.to_owned(), zone: zone.to_owned(), ..Self::default() }
    }

    /// The newest one, or nothing read yet if there is none that can be used.
    ///
    /// # Errors
    /// [`IndexError::Unusable`] if the store is away.
    pub(super) async fn load(files: &Files, table: &str, zone: &str) -> Result<Self, IndexError> {
        let empty = Self::new(table, zone);
        let Some(newest) = files.states().await?.pop() else { return Ok(empty) };
        let bytes = files.read(&name(newest)).await?;
        let state = bytes
            .and_then(|bytes| checked(&bytes))
            .filter(|state| state.format == empty.format && state.table == empty.table && state.zone == empty.zone);
        if state.is_none() {
            tracing::info!(
                state = name(newest),
                "an index of another build, table or zone, or a damaged one: not used"
            );
        }
        Ok(state.unwrap_or(empty))
    }

    /// Makes this the newest one; what it does not name is removed.
    ///
    /// # Errors
    /// [`IndexError::Unusable`].
    pub(super) async fn save(&self, files: &Files) -> Result<(), IndexError> {
        let number = files.states().await?.pop().map_or(1, |newest| newest + 1);
        let json = serde_json::to_vec(self).expect("plain data");
        let mut content = format!("{:016x}\n", xxh3_64(&json)).into_bytes();
        content.extend(json);
        files.create(&name(number), content).await?;
        let shelves = self.dates.values();
        let named = shelves.flat_map(|shelf| {
            let marks = shelf.marks.iter().map(|file| file.name.as_str());
            marks.chain(shelf.repeats.iter().map(|file| file.name.as_str()))
        });
        let named: BTreeSet<&str> = named.collect();
        files.keep_only(|file| file == name(number) || named.contains(file)).await
    }
}

fn name(number: u64) -> String {
    format!("{number:020}.json")
}

fn checked(bytes: &[u8]) -> Option<State> {
    let (checksum, json) = bytes.split_at_checked(17)?;
    let expected = format!("{:016x}\n", xxh3_64(json));
    (checksum == expected.as_bytes()).then(|| serde_json::from_slice(json).ok())?
}
