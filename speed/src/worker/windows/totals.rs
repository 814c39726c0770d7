//! The absolute totals of every cell that can still change or is not in the stores yet, window by window.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use reckon_schemas::cell::Measures;
use reckon_schemas::sums::SumOverflow;
use reckon_schemas::time::EventTime;
use reckon_schemas::window::{Grain, Window};

use super::Sink;
use super::pending::BySeries;
use super::series::{SeriesId, SeriesTable};

/// One cell in one partition.
#[derive(Debug, Default)]
pub(super) struct Cell {
    pub(super) measures: Measures,
    /// Whether it is in the list of what a sink has not been given yet.
    dirty: [bool; 2],
}

/// The cells of one window.
#[derive(Debug, Default)]
pub(super) struct WindowCells {
    pub(super) cells: BySeries<Cell>,
    /// The partition's next offset at the last fold that changed one of them.
    pub(super) changed: i64,
    /// Per sink: the cells that it has not been given yet.
    dirty: [Vec<SeriesId>; 2],
}

/// The end of a window leads, so that the first ones to be over come first.
type Place = (EventTime, EventTime);

/// The cells of all windows.
#[derive(Debug, Default)]
pub(super) struct Totals {
    by_grain: [BTreeMap<Place, WindowCells>; 5],
    cells: [usize; 5],
    /// Per sink: the windows with cells that it has not been given yet, and how many cells those are.
    dirty_windows: [BTreeSet<Window>; 2],
    dirty_cells: [usize; 2],
}

/// Whether a sink keeps cells of a grain: those of one second are for Redis only.
fn keeps(sink: Sink, grain: Grain) -> bool {
    sink == Sink::Redis || grain != Grain::Second
}

impl Totals {
    /// Adds to cells of a window, which are made where they are not there. Sinks that keep such cells are to be given them,
    /// except for Redis where the window is not fresh any more.
    pub(super) fn add<'d>(
        &mut self,
        window: Window,
        is_fresh: bool,
        next_offset: i64,
        deltas: impl Iterator<Item = (SeriesId, Cow<'d, Measures>)>,
        series: &mut SeriesTable,
    ) -> Result<(), SumOverflow> {
        let cells = self.by_grain[window.grain.index()].entry((window.end, window.start)).or_default();
        let known_dirty = Sink::ALL.map(|sink| cells.dirty[sink.index()].len());
        cells.changed = next_offset;
        let takes = |sink: &Sink| keeps(*sink, window.grain) && (is_fresh || *sink != Sink::Redis);
        for (number, delta) in deltas {
            let cell = match cells.cells.entry(number) {
                hashbrown::hash_map::Entry::Occupied(entry) => {
                    let cell = entry.into_mut();
                    cell.measures.merge(&delta)?;
                    cell
                }
                hashbrown::hash_map::Entry::Vacant(entry) => {
                    series.hold(number);
                    self.cells[window.grain.index()] += 1;
                    entry.insert(Cell { measures: delta.into_owned(), dirty: [false; 2] })
                }
            };
            for sink in Sink::ALL.into_iter().filter(takes) {
                if !std::mem::replace(&mut cell.dirty[sink.index()], true) {
                    cells.dirty[sink.index()].push(number);
                }
            }
        }
        let now_dirty = Sink::ALL.map(|sink| cells.dirty[sink.index()].len());
        for sink in Sink::ALL {
            let new = now_dirty[sink.index()] - known_dirty[sink.index()];
            if new > 0 {
                self.dirty_cells[sink.index()] += new;
                self.dirty_windows[sink.index()].insert(window);
            }
        }
        Ok(())
    }

    /// How many cells a sink has not been given yet.
    pub(super) fn dirty_len(&self, sink: Sink) -> usize {
        self.dirty_cells[sink.index()]
    }

    /// Every cell that a sink has not been given yet; after it, it has.
    pub(super) fn take_dirty(&mut self, sink: Sink) -> impl Iterator<Item = (Window, SeriesId, &Measures)> {
        let taken = self.take_numbers(sink);
        let by_grain = &self.by_grain;
        taken.into_iter().flat_map(move |(window, numbers)| {
            let cells = &by_grain[window.grain.index()][&(window.end, window.start)].cells;
            numbers.into_iter().map(move |number| (window, number, &cells[&number].measures))
        })
    }

    /// The same for whoever notes in them what was given.
    pub(super) fn visit_dirty(&mut self, sink: Sink, mut visit: impl FnMut(Window, SeriesId, &mut Measures)) {
        for (window, numbers) in self.take_numbers(sink) {
            let Some(cells) = self.by_grain[window.grain.index()].get_mut(&(window.end, window.start)) else {
                continue;
            };
            for number in numbers {
                if let Some(cell) = cells.cells.get_mut(&number) {
                    visit(window, number, &mut cell.measures);
                }
            }
        }
    }

    /// By window: the cells that a sink has not been given yet; after it, they count as given.
    fn take_numbers(&mut self, sink: Sink) -> Vec<(Window, Vec<SeriesId>)> {
        self.dirty_cells[sink.index()] = 0;
        let windows = std::mem::take(&mut self.dirty_windows[sink.index()]);
        let mut taken = Vec::with_capacity(windows.len());
        for window in windows {
            let Some(cells) = self.by_grain[window.grain.index()].get_mut(&(window.end, window.start)) else {
                continue;
            };
            let numbers = std::mem::take(&mut cells.dirty[sink.index()]);
            for number in &numbers {
                if let Some(cell) = cells.cells.get_mut(number) {
                    cell.dirty[sink.index()] = false;
                }
            }
            taken.push((window, numbers));
        }
        taken
    }

    /// Makes every cell that a sink keeps one that it has not been given yet.
    pub(super) fn mark_all_dirty(&mut self, sink: Sink) {
        let mut dirty = 0;
        for grain in Grain::ALL.into_iter().filter(|grain| keeps(sink, *grain)) {
            for ((end, start), cells) in &mut self.by_grain[grain.index()] {
                cells.dirty[sink.index()] = cells.cells.keys().copied().collect();
                for cell in cells.cells.values_mut() {
                    cell.dirty[sink.index()] = true;
                    if sink == Sink::Redis {
                        cell.measures.users.forget_redis();
                    }
                }
                dirty += cells.cells.len();
                self.dirty_windows[sink.index()].insert(Window { grain, start: *start, end: *end });
            }
        }
        self.dirty_cells[sink.index()] = dirty;
    }

    /// How many cells of a grain there are.
    pub(super) fn len(&self, grain: Grain) -> usize {
        self.cells[grain.index()]
    }

    /// Drops windows from the front of each grain while they are over and dispensable (told with how many cells they
    /// have); those that have to stay are passed over. True if one was dropped.
    pub(super) fn evict(
        &mut self,
        is_over: impl Fn(&Window) -> bool,
        mut is_dispensable: impl FnMut(&Window, usize) -> bool,
        must_stay: impl Fn(&Window, &WindowCells) -> bool,
        series: &mut SeriesTable,
    ) -> bool {
        let mut evicted = false;
        for grain in Grain::ALL {
            let windows = &mut self.by_grain[grain.index()];
            let of = |(end, start): &Place| Window { grain, start: *start, end: *end };
            let over = windows.iter().take_while(|(place, _)| is_over(&of(place)));
            let over = over.take_while(|(place, cells)| is_dispensable(&of(place), cells.cells.len()));
            let over: Vec<Place> = over.map(|(place, _)| *place).collect();
            for place in over {
                let cells = &windows[&place];
                if cells.is_dirty() || must_stay(&of(&place), cells) {
                    continue;
                }
                if let Some(cells) = windows.remove(&place) {
                    self.cells[grain.index()] -= cells.cells.len();
                    cells.cells.into_keys().for_each(|number| series.release(number));
                    evicted = true;
                }
            }
        }
        evicted
    }

    /// Every window with its cells.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Window, &WindowCells)> {
        Grain::ALL.into_iter().flat_map(|grain| {
            let windows = self.by_grain[grain.index()].iter();
            windows.map(move |((end, start), cells)| (Window { grain, start: *start, end: *end }, cells))
        })
    }

    #[cfg(test)]
    pub(super) fn measures_mut(&mut self) -> impl Iterator<Item = &mut Measures> {
        let windows = self.by_grain.iter_mut().flat_map(BTreeMap::values_mut);
        windows.flat_map(|window| window.cells.values_mut().map(|cell| &mut cell.measures))
    }

    /// Puts back a cell that was read from a snapshot.
    pub(super) fn restore(&mut self, window: Window, changed: i64, number: SeriesId, measures: Measures) {
        let cells = self.by_grain[window.grain.index()].entry((window.end, window.start)).or_default();
        cells.changed = changed;
        cells.cells.insert(number, Cell { measures, dirty: [false; 2] });
        self.cells[window.grain.index()] += 1;
    }
}

impl WindowCells {
    fn is_dirty(&self) -> bool {
        self.dirty.iter().any(|dirty| !dirty.is_empty())
    }
}
