//! The state of a partition as bytes, for a snapshot.

use std::borrow::Cow;
use std::sync::Arc;

use hashbrown::HashMap;
use reckon_schemas::cell::Measures;
use reckon_schemas::time::EventTime;
use reckon_schemas::top::TopSketch;
use reckon_schemas::window::Window;
use serde::{Deserialize, Serialize};

use super::admitted::Admitted;
use super::items::Items;
use super::partition::PartitionState;
use super::recent::SavedKeys;
use super::series::{Series, SeriesId};

/// The form that is written and read. Borrowed where it is written, so that a large state is not copied first.
#[derive(Serialize, Deserialize)]
struct Saved<'a> {
    next_offset: i64,
    watermark: Option<EventTime>,
    log_time_ms: i64,
    has_evicted: bool,
    recent: SavedKeys,
    admitted: Cow<'a, Admitted>,
    series: Vec<Cow<'a, Series>>,
    windows: Vec<SavedWindow<'a, Measures>>,
    tops: Vec<SavedWindow<'a, TopSketch>>,
}

/// A window, the next offset at its last change, its cells by the place of their series in the list.
#[derive(Serialize, Deserialize)]
#[serde(bound(deserialize = "T: Clone + Deserialize<'de>"))]
struct SavedWindow<'a, T: Clone> {
    window: Window,
    changed: i64,
    cells: Vec<(u32, Cow<'a, T>)>,
}

/// The bytes are not a state that this build wrote.
#[derive(Debug, thiserror::Error)]
#[error("not the state of a partition: {0}")]
pub(crate) struct Unreadable(String);

impl PartitionState {
    /// The state as of the last fold, which must be at the next offset: nothing may be pending.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        assert_eq!(self.pending_len(), 0, "a snapshot is taken right after a fold");
        let mut list = SeriesList { state: self, series: Vec::new(), places: HashMap::new() };
        let windows = self.totals.iter().map(|(window, cells)| {
            let saved = cells.cells.iter().map(|(number, cell)| (list.place(*number), Cow::Borrowed(&cell.measures)));
            SavedWindow { window, changed: cells.changed, cells: saved.collect() }
        });
        let windows = windows.collect();
        let tops = self.tops.iter().map(|(window, tops)| {
            let saved = tops.sketches.iter().map(|(number, top)| (list.place(*number), Cow::Borrowed(&top.sketch)));
            SavedWindow { window: *window, changed: tops.changed, cells: saved.collect() }
        });
        let tops = tops.collect();
        let saved = Saved {
            next_offset: self.next_offset,
            watermark: self.watermark,
            log_time_ms: self.log_time_ms,
            has_evicted: self.has_evicted,
            recent: self.recent.save(),
            admitted: Cow::Borrowed(&self.admitted),
            series: list.series,
            windows,
            tops,
        };
        let bytes = postcard::to_stdvec(&saved).expect("plain data is written without errors");
        // Behind the rest, where builds that do not know of it do not look.
        postcard::to_extend(self.items.counted(), bytes).expect("plain data is written without errors")
    }

    /// The state from bytes of [`Self::to_bytes`], which both sinks had acknowledged when they were written. Cells of
    /// rollups that are not counted any more are kept until they expire.
    ///
    /// # Errors
    /// [`Unreadable`] for other bytes.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, Unreadable> {
        let unreadable = |error: postcard::Error| Unreadable(error.to_string());
        let (saved, items): (Saved<'_>, _) = postcard::take_from_bytes(bytes).map_err(unreadable)?;
        let mut state = Self::starting_at(saved.next_offset);
        match items {
            [] => state.items.is_unknown = true,
            items => state.items = Items::of(postcard::from_bytes(items).map_err(unreadable)?),
        }
        state.watermark = saved.watermark;
        state.log_time_ms = saved.log_time_ms;
        state.has_evicted = saved.has_evicted;
        state.recent = saved.recent.into();
        state.admitted = saved.admitted.into_owned();
        state.acknowledged = [Some(saved.next_offset); 2];
        let series = saved.series.into_iter().map(|series| Arc::new(series.into_owned()));
        let numbers: Vec<SeriesId> = series.map(|series| state.series.number_owned(series)).collect();
        let number_at = |place| {
            let number = usize::try_from(place).ok().and_then(|place| numbers.get(place));
            number.copied().ok_or_else(|| Unreadable("a cell without a series".to_owned()))
        };
        for SavedWindow { window, changed, cells } in saved.windows {
            for (place, measures) in cells {
                let number = number_at(place)?;
                state.series.hold(number);
                state.totals.restore(window, changed, number, measures.into_owned());
            }
        }
        for SavedWindow { window, changed, cells } in saved.tops {
            for (place, sketch) in cells {
                let number = number_at(place)?;
                state.series.hold(number);
                state.tops.restore(window, changed, number, sketch.into_owned());
            }
        }
        Ok(state)
    }
}

/// The series that cells refer to, each once, in the order in which they are met.
struct SeriesList<'a> {
    state: &'a PartitionState,
    series: Vec<Cow<'a, Series>>,
    places: HashMap<SeriesId, u32>,
}

impl SeriesList<'_> {
    fn place(&mut self, number: SeriesId) -> u32 {
        *self.places.entry(number).or_insert_with(|| {
            self.series.push(Cow::Borrowed(self.state.series.get(number).as_ref()));
            u32::try_from(self.series.len() - 1).expect("no more than there are numbers")
        })
    }
}
