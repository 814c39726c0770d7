//! The most frequent values of dimensions that have too many to count each, window by window.
//!
//! Unlike other measures they are not folded from finer windows: which counters a sketch purges depends on the order in
//! which it is filled, so every window's sketch takes each event itself, in the order of the log.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use reckon_schemas::top::TopSketch;
use reckon_schemas::window::{Grain, Window};

use super::Sink;
use super::pending::BySeries;
use super::series::{SeriesId, SeriesTable};

/// The grains that they are kept for.
pub(super) const TOP_GRAINS: [Grain; 3] = TopSketch::GRAINS;
/// A sketch takes the room of about so many cells.
const CELLS_EACH: usize = 100;

/// The sketches of all windows that can still change or are not in the stores yet.
#[derive(Debug, Default)]
pub(super) struct Tops(BTreeMap<Window, TopWindow>);

/// The sketches of one window, and the partition's next offset when one of them was changed last.
#[derive(Debug, Default)]
pub(super) struct TopWindow {
    pub(super) sketches: BySeries<Top>,
    pub(super) changed: i64,
}

#[derive(Debug, Default)]
pub(super) struct Top {
    pub(super) sketch: TopSketch,
    dirty: [bool; 2],
}

impl Tops {
    /// Counts a value.
    pub(super) fn insert(
        &mut self,
        window: Window,
        number: SeriesId,
        value: &str,
        next_offset: i64,
        series: &mut SeriesTable,
    ) {
        let of_window = self.0.entry(window).or_default();
        of_window.changed = next_offset;
        let top = of_window.sketches.entry(number).or_insert_with(|| {
            series.hold(number);
            Top::default()
        });
        top.sketch.insert(value);
        top.dirty = [true; 2];
    }

    /// How much waits for a sink, in cells.
    pub(super) fn dirty_len(&self, sink: Sink) -> usize {
        let tops = self.0.values().flat_map(|window| window.sketches.values());
        CELLS_EACH * tops.filter(|top| top.dirty[sink.index()]).count()
    }

    /// Calls back with every sketch that a sink has not been given yet; after it, it has.
    pub(super) fn take_dirty(&mut self, sink: Sink, mut take: impl FnMut(Window, SeriesId, &TopSketch)) {
        for (window, of_window) in &mut self.0 {
            for (number, top) in &mut of_window.sketches {
                if std::mem::take(&mut top.dirty[sink.index()]) {
                    take(*window, *number, &top.sketch);
                }
            }
        }
    }

    /// Makes every sketch one that a sink has not been given yet.
    pub(super) fn mark_all_dirty(&mut self, sink: Sink) {
        let tops = self.0.values_mut().flat_map(|window| window.sketches.values_mut());
        tops.for_each(|top| top.dirty[sink.index()] = true);
    }

    /// Drops the windows that are over and in both sinks.
    pub(super) fn evict(&mut self, is_over: impl Fn(&Window) -> bool, safe: i64, series: &mut SeriesTable) {
        self.0.retain(|window, of_window| {
            let is_dirty = of_window.sketches.values().any(|top| top.dirty.contains(&true));
            let stays = !is_over(window) || of_window.changed > safe || is_dirty;
            if !stays {
                of_window.sketches.keys().for_each(|number| series.release(*number));
            }
            stays
        });
    }

    /// Every window with its sketches.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Window, &TopWindow)> {
        self.0.iter()
    }

    /// Puts back a sketch that was read from a snapshot; the caller holds its series.
    pub(super) fn restore(&mut self, window: Window, changed: i64, number: SeriesId, sketch: TopSketch) {
        let of_window = self.0.entry(window).or_default();
        of_window.changed = changed;
        of_window.sketches.insert(number, Top { sketch, dirty: [false; 2] });
    }
}

/// What a series of most frequent values has in place of a rollup's name, which cannot contain the mark.
pub(super) fn series_name(property: &str) -> String {
    format!("{MARK}{property}")
}

/// The property that such a series is about.
pub(super) fn property_of(series_name: &str) -> &str {
    series_name.strip_prefix(MARK).unwrap_or(series_name)
}

const MARK: char = '\u{1}';

/// The values that are kept for a tenant: by event name, the series' name and the property.
pub(super) type TopPlan = HashMap<String, Vec<(String, String)>>;
