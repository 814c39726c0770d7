//! Records that were read and are not in the lake yet: bounded, and without gap or repetition.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::append::{Block, Span};
use super::record::Record;
use super::rows::Rows;
use super::tuning::Tuning;

/// What a row costs beside its payload.
const ROW_BYTES: usize = 200;
/// A column's texts must stay below 2 GiB, whatever is configured.
const BYTES_MAX: usize = 512 * 1024 * 1024;

/// Rows of one table that wait for the next commit.
#[derive(Debug)]
pub(crate) struct Pending<R> {
    rows: R,
    count: usize,
    bytes: usize,
    spans: BTreeMap<i32, Span>,
    /// The next offset to take, of every partition that the table or this buffer has records of.
    positions: BTreeMap<i32, i64>,
    first_at: Option<Instant>,
    rows_max: usize,
    bytes_max: usize,
    interval: Duration,
}

impl<R: Rows> Pending<R> {
    /// Nothing yet, going on where the table is.
    pub(crate) fn new(progress: &BTreeMap<i32, i64>, tuning: &Tuning) -> Self {
        Self {
            rows: R::default(),
            count: 0,
            bytes: 0,
            spans: BTreeMap::new(),
            positions: progress.clone(),
            first_at: None,
            rows_max: tuning.commit_rows,
            bytes_max: tuning.commit_bytes.min(BYTES_MAX),
            interval: tuning.commit_interval,
        }
    }

    /// Takes a record, unless it was taken before: a consumer may be handed a record twice. Offsets may have holes.
    pub(crate) fn push(&mut self, record: &Record<'_>) {
        let start = self.positions.get(&record.partition).copied();
        if start.is_some_and(|start| record.offset < start) {
            return;
        }
        let next = record.offset + 1;
        self.rows.push(record);
        self.spans.entry(record.partition).or_insert(Span { start, next }).next = next;
        self.positions.insert(record.partition, next);
        self.count += 1;
        self.bytes += ROW_BYTES + record.payload.map_or(0, <[u8]>::len);
        self.first_at.get_or_insert_with(Instant::now);
    }

    /// Whether there is as much as one commit may hold.
    pub(crate) fn is_full(&self) -> bool {
        self.count >= self.rows_max || self.bytes >= self.bytes_max
    }

    /// When what is there is to be committed, if there is anything.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        self.first_at.map(|first| first + self.interval)
    }

    /// The next offset to take of every partition that has had records.
    pub(crate) fn positions(&self) -> &BTreeMap<i32, i64> {
        &self.positions
    }

    /// Takes everything that waits, if anything does.
    pub(crate) fn take(&mut self) -> Option<Block> {
        self.first_at.take()?;
        self.count = 0;
        self.bytes = 0;
        Some(Block { rows: self.rows.take(), spans: std::mem::take(&mut self.spans) })
    }
}

#[cfg(test)]
mod tests {
    use reckon_schemas::time::EventTime;

    use super::super::event_rows::EventRows;
    use super::*;

    fn push(pending: &mut Pending<EventRows>, partition: i32, offset: i64) {
        let payload = Some(b"not an event".as_slice());
        pending.push(&Record { partition, offset, log_time: EventTime(0), traceparent: None, payload });
    }

    #[test]
    fn records_below_the_position_are_ignored_and_holes_are_not_filled() {
        let progress = BTreeMap::from([(0, 10)]);
        let mut pending = Pending::<EventRows>::new(&progress, &Tuning::default());
        for offset in [8, 9, 10, 11, 11, 10, 15] {
            push(&mut pending, 0, offset);
        }
        push(&mut pending, 1, 3);
        let block = pending.take().expect("something waits");
        assert_eq!(block.rows.num_rows(), 4, "10, 11, 15 and the other partition's 3");
        let spans = [(0, Span { start: Some(10), next: 16 }), (1, Span { start: None, next: 4 })];
        assert_eq!(block.spans, BTreeMap::from(spans));
        assert!(pending.take().is_none());
        push(&mut pending, 0, 15);
        assert!(pending.take().is_none(), "taken before");
        push(&mut pending, 0, 16);
        let block = pending.take().expect("something waits");
        assert_eq!(block.spans, BTreeMap::from([(0, Span { start: Some(16), next: 17 })]));
    }

    #[test]
    fn rows_and_bytes_are_bounded() {
        let few_rows = Tuning { commit_rows: 2, ..Tuning::default() };
        let few_bytes = Tuning { commit_bytes: 400, ..Tuning::default() };
        for tuning in [few_rows, few_bytes] {
            let mut pending = Pending::<EventRows>::new(&BTreeMap::new(), &tuning);
            push(&mut pending, 0, 0);
            assert!(!pending.is_full());
            assert!(pending.due_at().is_some());
            push(&mut pending, 0, 1);
            assert!(pending.is_full());
            pending.take();
            assert!(!pending.is_full());
            assert!(pending.due_at().is_none());
        }
    }
}
