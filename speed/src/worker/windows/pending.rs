//! What was counted since the last fold, by the finest window that takes the event.

use std::hash::BuildHasherDefault;

use hashbrown::HashMap;
use reckon_schemas::cell::Measures;
use reckon_schemas::time::EventTime;
use reckon_schemas::window::Grain;

use super::numbers::NumberHasher;
use super::series::{SeriesId, SeriesTable};

/// Cells of one window by the number of their series.
pub(super) type BySeries<C> = HashMap<SeriesId, C, BuildHasherDefault<NumberHasher>>;

/// The pending cells of one window.
#[derive(Debug)]
pub(super) struct PendingWindow {
    pub(super) grain: Grain,
    pub(super) start: EventTime,
    pub(super) cells: BySeries<Measures>,
}

/// All pending cells.
#[derive(Debug, Default)]
pub(super) struct Pending {
    windows: Vec<PendingWindow>,
    places: HashMap<(Grain, EventTime), usize>,
    /// Events follow each other in time, so the next one most often falls into the same window.
    last: usize,
    cells: usize,
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        self.cells
    }

    /// Makes the window the one that [`Self::cell`] counts in.
    pub(super) fn turn_to(&mut self, grain: Grain, start: EventTime) {
        let is_it = |window: &PendingWindow| window.grain == grain && window.start == start;
        if self.windows.get(self.last).is_some_and(is_it) {
            return;
        }
        self.last = *self.places.entry((grain, start)).or_insert_with(|| {
            self.windows.push(PendingWindow { grain, start, cells: BySeries::default() });
            self.windows.len() - 1
        });
    }

    /// The measures of a series in that window.
    pub(super) fn cell(&mut self, number: SeriesId, series: &mut SeriesTable) -> &mut Measures {
        let window = &mut self.windows[self.last];
        window.cells.entry(number).or_insert_with(|| {
            series.hold(number);
            self.cells += 1;
            Measures::default()
        })
    }

    /// The beginnings of the windows, ascending.
    pub(super) fn starts(&self) -> Vec<EventTime> {
        let mut starts: Vec<EventTime> = self.windows.iter().map(|window| window.start).collect();
        starts.sort_unstable();
        starts
    }

    /// All windows; nothing is pending after it.
    pub(super) fn take(&mut self) -> Vec<PendingWindow> {
        self.cells = 0;
        self.last = 0;
        self.places.clear();
        std::mem::take(&mut self.windows)
    }
}
