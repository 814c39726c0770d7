//! The state of a partition as bytes, for a snapshot.

use std::sync::Arc;

use reckon_schemas::cell::Measures;
use reckon_schemas::time::EventTime;
use reckon_schemas::window::Window;
use serde::{Deserialize, Serialize};

use super::partition::PartitionState;
use super::recent::SavedKeys;
use super::series::{Cell, Series, SeriesCells};

/// A window, the next offset at its last change, its totals.
type SavedCell<M> = (Window, i64, M);

/// The form that is written: borrowed, so that a large state is not copied first.
#[derive(Serialize)]
struct Saving<'a> {
    next_offset: i64,
    watermark: Option<EventTime>,
    log_time_ms: i64,
    has_evicted: bool,
    recent: SavedKeys,
    series: Vec<(&'a Series, Vec<SavedCell<&'a Measures>>)>,
}

/// The same form as it is read.
#[derive(Deserialize)]
struct Saved {
    next_offset: i64,
    watermark: Option<EventTime>,
    log_time_ms: i64,
    has_evicted: bool,
    recent: SavedKeys,
    series: Vec<(Series, Vec<SavedCell<Measures>>)>,
}

/// The bytes are not a state that this build wrote.
#[derive(Debug, thiserror::Error)]
#[error("not the state of a partition: {0}")]
pub(crate) struct Unreadable(String);

impl PartitionState {
    /// The state as of the last fold, which must be at the next offset: nothing may be pending.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        assert_eq!(self.pending_len(), 0, "a snapshot is taken right after a fold");
        let series = self.series.iter().map(|(series, cells)| {
            let totals = cells.totals.iter().map(|(window, cell)| (*window, cell.changed, &cell.measures));
            (series.as_ref(), totals.collect())
        });
        let saving = Saving {
            next_offset: self.next_offset,
            watermark: self.watermark,
            log_time_ms: self.log_time_ms,
            has_evicted: self.has_evicted,
            recent: self.recent.save(),
            series: series.collect(),
        };
        postcard::to_stdvec(&saving).expect("plain data is written without errors")
    }

    /// The state from bytes of [`Self::to_bytes`], which both sinks had acknowledged when they were written. Cells of
    /// rollups that are not counted any more are kept until they expire.
    ///
    /// # Errors
    /// [`Unreadable`] for other bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, Unreadable> {
        let saved: Saved = postcard::from_bytes(bytes).map_err(|error| Unreadable(error.to_string()))?;
        let mut state = Self::starting_at(saved.next_offset);
        state.watermark = saved.watermark;
        state.log_time_ms = saved.log_time_ms;
        state.has_evicted = saved.has_evicted;
        state.recent = saved.recent.into();
        state.acknowledged = [Some(saved.next_offset); 2];
        for (series, totals) in saved.series {
            let cells = totals.into_iter().map(|(window, changed, measures)| {
                let cell = Cell { measures, changed, ..Cell::default() };
                (window, cell)
            });
            let cells = SeriesCells { totals: cells.collect(), ..SeriesCells::default() };
            state.series.insert(Arc::new(series), cells);
        }
        state.index_expiry();
        Ok(state)
    }
}
