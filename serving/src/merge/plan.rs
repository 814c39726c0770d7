//! Which layer answers which window.

mod fit;
mod settled;

use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;
use reckon_schemas::settlement::State;
use reckon_schemas::time::EventTime;
use reckon_schemas::window::{Grain, Window};

pub(crate) use self::settled::{SettledDay, Settlements};

/// Where a number comes from, in the order in which they follow each other in a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Layer {
    /// Cells that were counted from the lake and settled.
    Batch,
    /// Cells that were counted while the events streamed.
    Speed,
    /// Single events of the lake.
    Lake,
    /// Single events of the last days.
    Raw,
}

/// Where a number comes from and whether it can still change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Provenance {
    /// `None` if more than one contributed.
    pub(crate) layer: Option<Layer>,
    pub(crate) state: State,
    /// When the newest of what it is made of was written.
    pub(crate) as_of: Option<Timestamp>,
    /// Each once, in the order of the days.
    pub(crate) run_ids: Vec<Arc<str>>,
}

/// Consecutive windows that one layer answers in one state.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) windows: Range<usize>,
    pub(crate) from: EventTime,
    pub(crate) to: EventTime,
    pub(crate) layer: Layer,
    pub(crate) state: State,
}

#[derive(Clone, Debug)]
struct PlannedWindow {
    window: Window,
    layer: Layer,
    state: State,
    days: Range<usize>,
    /// Whether the layer has a number for it.
    is_known: bool,
}

/// What a plan does with a cell that begins at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is of the window at this position.
    Window(usize),
    /// It is of a window that another layer answers, or of one that is told as a gap.
    LeftOut,
    /// It is of none of the windows.
    Nowhere,
}

/// Windows without a gap between them, each given to exactly one layer.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    settlements: Settlements,
    windows: Vec<PlannedWindow>,
    pieces: Vec<Piece>,
    counted_at: Option<Timestamp>,
    events: Events,
}

/// What stands behind an answer from single events.
#[derive(Clone, Debug, Default)]
pub(crate) struct Events {
    /// Windows that begin here or later are answered from raw events, all others from the lake.
    pub(crate) raw_from: Option<EventTime>,
    /// When the newest raw event arrived.
    pub(crate) raw_at: Option<Timestamp>,
    /// If raw events are behind the log in any partition: from here on they are missing, whoever's they are.
    pub(crate) raw_to: Option<EventTime>,
    /// The lake that is read, if it is.
    pub(crate) lake: Option<LakeState>,
}

/// One version of the lake, held against what is settled.
#[derive(Clone, Debug)]
pub(crate) struct LakeState {
    pub(crate) version: u64,
    /// When it was committed.
    pub(crate) committed_at: Option<Timestamp>,
    /// Days up to the horizon of which the version holds other deliveries than their settlement was counted from.
    pub(crate) differing: Vec<(EventTime, EventTime)>,
}

impl Plan {
    /// Plans over windows that follow each other. `counted_at` is when the speed layer last wrote.
    ///
    /// A window before the first settled day belongs to batch: it was recounted with everything else, and there was
    /// nothing in it.
    pub(crate) fn new(windows: &[Window], settlements: Settlements, counted_at: Option<Timestamp>) -> Self {
        let is_days = windows.first().is_some_and(|window| window.grain == Grain::Day);
        let settlements = if is_days { settlements.of_days(windows) } else { settlements };
        let windows = windows.iter().map(|window| planned(*window, &settlements)).collect();
        Self::of(windows, settlements, counted_at, Events::default())
    }

    /// The same where speed answers everything, because batch does not count it.
    pub(crate) fn of_speed(windows: &[Window], settlements: Settlements, counted_at: Option<Timestamp>) -> Self {
        let windows = windows.iter().copied().map(provisional).collect();
        Self::of(windows, settlements, counted_at, Events::default())
    }

    /// The same where single events are read, because no rollup has the answer.
    pub(crate) fn of_events(windows: &[Window], settlements: Settlements, events: Events) -> Self {
        let windows = windows.iter().map(|window| from_events(*window, &settlements, &events)).collect();
        Self::of(windows, settlements, None, events)
    }

    fn of(
        windows: Vec<PlannedWindow>,
        settlements: Settlements,
        counted_at: Option<Timestamp>,
        events: Events,
    ) -> Self {
        let pieces = pieces(&windows);
        let plan = Self { settlements, windows, pieces, counted_at, events };
        plan.assert_covered();
        plan
    }

    pub(crate) fn horizon(&self) -> Option<EventTime> {
        self.settlements.horizon
    }

    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    pub(crate) fn window(&self, index: usize) -> &Window {
        &self.windows[index].window
    }

    pub(crate) fn len(&self) -> usize {
        self.windows.len()
    }

    /// Where a layer's cell belongs that begins at an instant.
    pub(crate) fn place(&self, start: EventTime, layer: Layer) -> Place {
        match self.windows.binary_search_by_key(&start, |planned| planned.window.start) {
            Ok(index) if self.windows[index].layer == layer && self.windows[index].is_known => Place::Window(index),
            Ok(_) => Place::LeftOut,
            Err(_) => Place::Nowhere,
        }
    }

    /// The version of the lake whose events are read.
    pub(crate) fn lake_version(&self) -> Option<u64> {
        self.events.lake.as_ref().map(|lake| lake.version)
    }

    /// Whether single events answer.
    pub(crate) fn reads_events(&self) -> bool {
        self.events.raw_from.is_some() || self.events.lake.is_some()
    }

    /// Whether raw events are asked for and there are none at all, of any kind.
    fn lacks_raw_events(&self) -> bool {
        self.events.raw_at.is_none() && !self.windows_of(Layer::Raw).is_empty()
    }

    /// The part of what raw events are to answer that they have not come to.
    pub(crate) fn raw_events_missing(&self) -> Option<(EventTime, EventTime)> {
        let (from, to) = self.span(self.windows_of(Layer::Raw))?;
        let from = if self.lacks_raw_events() { from } else { from.max(self.events.raw_to?) };
        (from < to).then_some((from, to))
    }

    /// The windows of one layer, which follow each other: between two layers there is one border.
    pub(crate) fn windows_of(&self, layer: Layer) -> Range<usize> {
        let start = self.windows.partition_point(|planned| planned.layer < layer);
        start..self.windows.partition_point(|planned| planned.layer <= layer)
    }

    /// The time from the start of the first of these windows to the end of the last; `None` if there are none.
    pub(crate) fn span(&self, windows: Range<usize>) -> Option<(EventTime, EventTime)> {
        let windows = &self.windows[windows];
        Some((windows.first()?.window.start, windows.last()?.window.end))
    }

    /// The settled days behind these windows.
    pub(crate) fn settled_days(&self, windows: Range<usize>) -> &[SettledDay] {
        match &self.windows[windows] {
            [] => &[],
            [one] => &self.settlements.days[one.days.clone()],
            [first, .., last] => &self.settlements.days[first.days.start..last.days.end],
        }
    }

    /// What stands behind the numbers of these windows.
    pub(crate) fn provenance(&self, windows: Range<usize>) -> Provenance {
        let batch_end = windows.end.min(self.windows_of(Layer::Batch).end);
        let batch = windows.start.min(batch_end)..batch_end;
        let days = self.settled_days(batch.clone());
        let mut run_ids: Vec<Arc<str>> = Vec::new();
        for day in days {
            if !run_ids.contains(&day.run_id) {
                run_ids.push(day.run_id.clone());
            }
        }
        let settled_at = days.iter().map(|day| day.settled_at).max();
        let state = self.windows[windows.clone()].iter().map(|planned| planned.state);
        let state = state.reduce(weaker).unwrap_or(State::Provisional);
        let written_at = |layer| match layer {
            Layer::Batch => settled_at.or_else(|| self.first_settled_at()),
            Layer::Speed => self.counted_at,
            Layer::Lake => self.events.lake.as_ref().and_then(|lake| lake.committed_at),
            Layer::Raw => self.events.raw_at,
        };
        let (first, last) = self.layers_of(windows);
        let layer = (first == last).then_some(first);
        let as_of = written_at(first).max(written_at(last));
        Provenance { layer, state, as_of, run_ids }
    }

    /// What stands behind windows that do not follow each other; `None` if there are none.
    pub(crate) fn provenance_of(&self, windows: impl IntoIterator<Item = usize>) -> Option<Provenance> {
        let each = windows.into_iter().map(|index| self.provenance(index..index + 1));
        each.reduce(|mut all, one| {
            all.layer = all.layer.filter(|layer| one.layer == Some(*layer));
            all.state = weaker(all.state, one.state);
            all.as_of = all.as_of.max(one.as_of);
            all.run_ids.extend(one.run_ids.into_iter().filter(|run| !all.run_ids.contains(run)).collect::<Vec<_>>());
            all
        })
    }

    /// The layers of the first and the last of these windows.
    fn layers_of(&self, windows: Range<usize>) -> (Layer, Layer) {
        match &self.windows[windows] {
            [] => (Layer::Speed, Layer::Speed),
            [one] => (one.layer, one.layer),
            [first, .., last] => (first.layer, last.layer),
        }
    }

    fn first_settled_at(&self) -> Option<Timestamp> {
        self.settlements.days.first().map(|day| day.settled_at)
    }

    /// Law: the coverage of a range has no gap and no overlap.
    fn assert_covered(&self) {
        let mut at = self.windows.first().map(|planned| planned.window.start);
        for piece in &self.pieces {
            assert_eq!(at, Some(piece.from), "pieces follow each other without gap and overlap");
            at = Some(piece.to);
        }
        assert_eq!(at, self.windows.last().map(|planned| planned.window.end), "pieces cover the whole range");
    }
}

/// The state of a sum: it can change if any part of it can.
pub(crate) fn weaker(a: State, b: State) -> State {
    let certainty = |state| match state {
        State::Provisional => 0,
        State::Restated => 1,
        State::Settled => 2,
        State::Closed => 3,
    };
    if certainty(a) <= certainty(b) { a } else { b }
}

fn provisional(window: Window) -> PlannedWindow {
    PlannedWindow { window, layer: Layer::Speed, state: State::Provisional, days: 0..0, is_known: true }
}

fn planned(window: Window, settlements: &Settlements) -> PlannedWindow {
    // Batch does not count seconds.
    let can_settle = Grain::KEPT.contains(&window.grain);
    let is_settled = can_settle && settlements.horizon.is_some_and(|horizon| window.end <= horizon);
    if !is_settled {
        return provisional(window);
    }
    let days = settlements.overlapping(window.start, window.end);
    let is_known = settlements.fit(&window, &days);
    let state = settlements.days[days.clone()].iter().map(|day| day.state).reduce(weaker).unwrap_or(State::Settled);
    let state = if is_known { state } else { State::Provisional };
    PlannedWindow { window, layer: Layer::Batch, state, days, is_known }
}

/// A window of the lake is as certain as its settlement if the lake still holds what that was counted from.
fn from_events(window: Window, settlements: &Settlements, events: &Events) -> PlannedWindow {
    if events.raw_from.is_some_and(|from| window.start >= from) {
        return PlannedWindow { layer: Layer::Raw, ..provisional(window) };
    }
    let differing = events.lake.iter().flat_map(|lake| &lake.differing);
    let differs = differing.into_iter().any(|(from, to)| *from < window.end && window.start < *to);
    let settled = planned(window, settlements);
    let state = if differs { State::Provisional } else { settled.state };
    PlannedWindow { layer: Layer::Lake, state, days: 0..0, is_known: true, ..settled }
}

fn pieces(windows: &[PlannedWindow]) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for (index, planned) in windows.iter().enumerate() {
        match pieces.last_mut() {
            Some(last) if last.layer == planned.layer && last.state == planned.state => {
                last.windows.end = index + 1;
                last.to = planned.window.end;
            }
            _ => pieces.push(Piece {
                windows: index..index + 1,
                from: planned.window.start,
                to: planned.window.end,
                layer: planned.layer,
                state: planned.state,
            }),
        }
    }
    pieces
}
