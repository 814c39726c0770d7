//! Bringing the index to a version of the lake: only files that it does not know are read, and those in which an event of
//! them may have been delivered before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use futures::{StreamExt, TryStreamExt};
use hashbrown::{HashMap, HashSet};
use jiff::civil::Date;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::time::{EventTime, MICROS_PER_DAY, Zone};
use reckon_schemas::window::{Grain, WindowCursor};

use super::super::deliveries::{SIGHTING_COLUMNS, SightingRows};
use super::super::partitions::{Budget, Collected, Collector, PARTS, on_threads};
use super::super::scan::Dates;
use super::super::{PinnedLake, RecountError, in_background};
use super::IndexError;
use super::files::Files;
use super::marks::{MarksFile, mark};
use super::repeats::{Delivered, RepeatsFile, WORDS, date_number, events, later_by_day, replaced};
use super::state::State;

/// So many dates are asked at once whether they know events.
const ASKED_AT_ONCE: usize = 8;

/// What an extension works with.
pub(super) struct Extension<'a> {
    pub(super) pinned: &'a PinnedLake,
    pub(super) tenant: &'a Tenant,
    pub(super) files: &'a Files,
    pub(super) budget: &'a Arc<Budget>,
    /// About so many deliveries are taken at once.
    pub(super) deliveries_at_once: u64,
}

/// The lake's files of a date, with the number of their rows.
type FilesByDate = BTreeMap<Date, BTreeMap<String, u64>>;

impl Extension<'_> {
    /// Brings a state to the pinned version; false if that takes a new beginning, because the lake has less than it knew.
    ///
    /// # Errors
    /// [`IndexError`].
    pub(super) async fn extend(&self, state: &mut State) -> Result<bool, IndexError> {
        let there = self.lake_files().await?;
        if state.dates.keys().any(|date| !there.contains_key(date)) {
            return Ok(false);
        }
        let mut known: BTreeMap<Date, u64> = BTreeMap::new();
        // All dates before the first is read: what is read of one looks into the files of the others.
        for (date, files) in &there {
            let shelf = state.dates.entry(*date).or_default();
            if shelf.files.iter().any(|file| !files.contains_key(file)) {
                // Files were united: the date is read again.
                known.insert(*date, shelf.deliveries());
                (shelf.files, shelf.marks) = (BTreeSet::new(), None);
                shelf.days.values_mut().for_each(|day| day.deliveries = 0);
            }
        }
        let (mut batch, mut rows) = (Vec::new(), 0);
        for (date, files) in &there {
            for (file, own) in files {
                if state.dates.get(date).is_some_and(|shelf| shelf.files.contains(file)) {
                    continue;
                }
                if !batch.is_empty() && rows + own > self.deliveries_at_once {
                    self.take(state, &std::mem::take(&mut batch)).await?;
                    rows = 0;
                }
                batch.push((*date, file.clone()));
                rows += own;
            }
        }
        if !batch.is_empty() {
            self.take(state, &batch).await?;
        }
        let has_less = known
            .iter()
            .any(|(date, deliveries)| state.dates.get(date).is_none_or(|shelf| shelf.deliveries() < *deliveries));
        state.lake_version = self.pinned.version();
        Ok(!has_less)
    }

    async fn lake_files(&self) -> Result<FilesByDate, IndexError> {
        let mut files = FilesByDate::new();
        let mut views = self.pinned.table().get_active_add_actions_by_partitions(&[]);
        while let Some(view) = views.try_next().await.map_err(RecountError::from)? {
            let mut values = view.partition_values_map();
            if values.remove("tenant").flatten().as_deref() != Some(self.tenant.id.as_str()) {
                continue;
            }
            let date = values.remove("event_date").flatten().and_then(|date| date.parse::<Date>().ok());
            let date = date.ok_or_else(|| RecountError::Damaged(format!("{} is filed under no date", view.path())))?;
            let rows = view.num_records().map_or(0, |rows| rows as u64);
            files.entry(date).or_default().insert(view.path().into_owned(), rows);
        }
        Ok(files)
    }

    /// Takes files in that the state does not know.
    async fn take(&self, state: &mut State, batch: &[(Date, String)]) -> Result<(), IndexError> {
        let here = self.read(batch.iter().map(|(_, file)| file.clone()).collect(), None).await?;
        let (files, doubtful) = self.elsewhere(state, &here).await?;
        let elsewhere = if files.is_empty() { Intake::default() } else { self.read(files, Some(doubtful)).await? };
        let (records, others, threads) = (here.records, elsewhere.records, self.pinned.threads());
        let changed = in_background(move || resolve(records, others, threads)).await?;
        for (date, file) in batch {
            state.dates.entry(*date).or_default().files.insert(file.clone());
        }
        for ((date, day), deliveries) in here.days {
            state.dates.entry(date).or_default().days.entry(day).or_default().deliveries += deliveries;
        }
        for (date, mut marks) in here.marks {
            let shelf = state.dates.entry(date).or_default();
            if let Some(known) = &shelf.marks {
                marks.extend(known.all(self.files).await?);
            }
            marks.sort_unstable();
            marks.dedup();
            shelf.marks = Some(MarksFile::write(self.files, &marks).await?);
        }
        self.put_repeats(state, &changed).await
    }

    /// The files that the state knows and that may hold deliveries of the same events, and the marks of these events.
    async fn elsewhere(&self, state: &State, here: &Intake) -> Result<(Vec<String>, HashSet<u64>), IndexError> {
        let mut wanted: Vec<u64> = here.marks.values().flatten().copied().collect();
        wanted.sort_unstable();
        wanted.dedup();
        let wanted = &wanted;
        let asked = futures::stream::iter(state.dates.values())
            .map(|shelf| async move {
                let Some(marks) = &shelf.marks else { return Ok(None) };
                let found = marks.find(self.files, wanted).await?;
                Ok::<_, IndexError>((!found.is_empty()).then_some((&shelf.files, found)))
            })
            .buffer_unordered(ASKED_AT_ONCE);
        let answers: Vec<_> = asked.try_collect().await?;
        let (mut files, mut doubtful) = (Vec::new(), HashSet::new());
        for (own, found) in answers.into_iter().flatten() {
            files.extend(own.iter().cloned());
            doubtful.extend(found);
        }
        Ok((files, doubtful))
    }

    /// Reads deliveries in files; if `only` is given, those whose events' marks are in it.
    async fn read(&self, files: Vec<String>, only: Option<HashSet<u64>>) -> Result<Intake, RecountError> {
        let mut columns = SIGHTING_COLUMNS.to_vec();
        columns.push("occurred_at");
        let zone = &self.tenant.time_zone;
        let begin = || Reader {
            records: Collector::new(self.budget),
            cursor: WindowCursor::new(Grain::Day, zone.clone()),
            marks: HashMap::new(),
            days: HashMap::new(),
        };
        let read = move |reader: &mut Reader, batch: &RecordBatch| reader.take(batch, only.as_ref());
        let readers = self.pinned.scan_on_threads(self.tenant, Dates::In(files), &columns, begin, read).await?;
        let mut intake = Intake::default();
        for reader in readers {
            intake.records.push(reader.records);
            for (date, marks) in reader.marks {
                intake.marks.entry(date_of(date)).or_default().extend(marks);
            }
            for ((date, start), deliveries) in reader.days {
                *intake.days.entry((date_of(date), zone.day_of(start))).or_default() += deliveries;
            }
        }
        Ok(intake)
    }

    /// Puts the deliveries of events into every date that has one of them, in place of what was known of these events.
    async fn put_repeats(&self, state: &mut State, changed: &[Delivered]) -> Result<(), IndexError> {
        let mut by_date: BTreeMap<Date, Vec<Delivered>> = BTreeMap::new();
        for deliveries in events(changed) {
            let dates: BTreeSet<Date> = deliveries.iter().map(Delivered::date).collect();
            for date in dates {
                by_date.entry(date).or_default().extend_from_slice(deliveries);
            }
        }
        for (date, changed) in by_date {
            let shelf = state.dates.entry(date).or_default();
            let known = match &shelf.repeats {
                Some(file) => file.read(self.files).await?,
                None => Vec::new(),
            };
            let repeats = replaced(known, &changed);
            shelf.days.values_mut().for_each(|day| day.later = 0);
            for (day, later) in later_by_day(&repeats, date, &self.tenant.time_zone) {
                shelf.days.entry(day).or_default().later = later;
            }
            shelf.repeats = Some(RepeatsFile::write(self.files, &repeats).await?);
        }
        Ok(())
    }
}

/// What was read of files.
#[derive(Default)]
struct Intake {
    records: Vec<Collector<WORDS>>,
    marks: BTreeMap<Date, Vec<u64>>,
    /// By date and calendar day of the tenant.
    days: BTreeMap<(Date, Date), u64>,
}

/// What one thread reads.
struct Reader {
    records: Collector<WORDS>,
    cursor: WindowCursor,
    /// By the number of the date.
    marks: HashMap<i64, Vec<u64>>,
    /// By the number of the date and the first instant of the tenant's day.
    days: HashMap<(i64, EventTime), u64>,
}

impl Reader {
    fn take(&mut self, batch: &RecordBatch, only: Option<&HashSet<u64>>) -> Result<(), RecountError> {
        let rows = SightingRows::new(batch)?;
        let occurred = batch.column_by_name("occurred_at").and_then(|column| column.as_primitive_opt::<Int64Type>());
        let occurred = occurred.filter(|column| column.null_count() == 0);
        let occurred = occurred.ok_or_else(|| RecountError::Damaged("occurred_at is missing".to_owned()))?;
        for row in 0..batch.num_rows() {
            let delivered = Delivered { sighting: rows.get(row)?, occurred_us: occurred.value(row) };
            let key = delivered.sighting.key[0];
            if only.is_some_and(|only| !only.contains(&mark(key))) {
                continue;
            }
            self.records.push(key, delivered.record())?;
            if only.is_none() {
                let date = date_number(delivered.occurred_us);
                let start = self.cursor.window_at(EventTime(delivered.occurred_us)).start;
                self.marks.entry(date).or_default().push(mark(key));
                *self.days.entry((date, start)).or_default() += 1;
            }
        }
        Ok(())
    }
}

/// Every delivery of the events that have more than one, and at least one of them here.
fn resolve(
    here: Vec<Collector<WORDS>>,
    elsewhere: Vec<Collector<WORDS>>,
    threads: usize,
) -> Result<Vec<Delivered>, RecountError> {
    let parts = by_part(here).into_iter().zip(by_part(elsewhere)).collect();
    let work = |found: &mut Vec<Delivered>, (here, elsewhere): (Vec<_>, Vec<_>)| {
        let mut records: Vec<(Delivered, bool)> = Vec::new();
        for (parts, is_here) in [(here, true), (elsewhere, false)] {
            for part in parts {
                let part: Collected<WORDS> = part;
                part.take(|record| records.push((Delivered::of_record(record), is_here)))?;
            }
        }
        records.sort_unstable_by_key(|(delivered, _)| delivered.order());
        for event in records.chunk_by(|(one, _), (next, _)| one.sighting.key == next.sighting.key) {
            if event.len() > 1 && event.iter().any(|(_, is_here)| *is_here) {
                found.extend(event.iter().map(|(delivered, _)| *delivered));
            }
        }
        Ok::<(), RecountError>(())
    };
    let mut found = on_threads(threads, parts, Vec::new, work)?.concat();
    found.sort_unstable_by_key(Delivered::order);
    Ok(found)
}

/// The same part of every collector, part after part.
fn by_part(collectors: Vec<Collector<WORDS>>) -> Vec<Vec<Collected<WORDS>>> {
    let mut parts: Vec<Vec<_>> = (0..PARTS).map(|_| Vec::new()).collect();
    for collector in collectors {
        parts.iter_mut().zip(collector.finish()).for_each(|(part, collected)| part.push(collected));
    }
    parts
}

fn date_of(number: i64) -> Date {
    Zone::UTC.day_of(EventTime(number * MICROS_PER_DAY))
}
