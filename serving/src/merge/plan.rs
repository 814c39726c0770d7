//! Which layer answers which window.

use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use reckon_schemas::settlement::{self, State};
use reckon_schemas::time::{EventTime, Zone};
use reckon_schemas::window::{Grain, Window};

/// Which of the two counts a number comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    Batch,
    Speed,
}

/// One settled day, as the newest settlement row says.
#[derive(Clone, Debug)]
pub(crate) struct SettledDay {
    pub(crate) day: Date,
    pub(crate) start: EventTime,
    pub(crate) end: EventTime,
    pub(crate) run_id: Arc<str>,
    pub(crate) state: State,
    pub(crate) settled_at: Timestamp,
}

/// Everything that is settled for a tenant, read at one moment: all that is read afterwards for the same answer is
/// pinned to these runs, so that a settlement landing in between cannot mix two runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settlements {
    days: Vec<SettledDay>,
    horizon: Option<EventTime>,
}

impl Settlements {
    pub(crate) fn new(mut days: Vec<SettledDay>, zone: &Zone) -> Self {
        days.sort_unstable_by_key(|day| day.start);
        let horizon = settlement::horizon(days.iter().map(|day| day.day), zone);
        Self { days, horizon }
    }

    pub(crate) fn horizon(&self) -> Option<EventTime> {
        self.horizon
    }

    /// The days that share an instant with the window, as positions.
    fn overlapping(&self, window: &Window) -> Range<usize> {
        let first = self.days.partition_point(|day| day.end <= window.start);
        let last = self.days.partition_point(|day| day.start < window.end);
        first..last.max(first)
    }
}

/// Where a number comes from and whether it can still change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Provenance {
    /// `None` if both layers contributed.
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
}

/// Windows without a gap between them, each given to exactly one layer.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    settlements: Settlements,
    windows: Vec<PlannedWindow>,
    pieces: Vec<Piece>,
    counted_at: Option<Timestamp>,
}

impl Plan {
    /// Plans over windows that follow each other. `counted_at` is when the speed layer last wrote.
    ///
    /// A window before the first settled day belongs to batch: it was recounted with everything else, and there was
    /// nothing in it.
    pub(crate) fn new(windows: &[Window], settlements: Settlements, counted_at: Option<Timestamp>) -> Self {
        let windows = windows.iter().map(|window| planned(*window, &settlements)).collect();
        Self::of(windows, settlements, counted_at)
    }

    /// The same where speed answers everything, because batch does not count it.
    pub(crate) fn of_speed(windows: &[Window], settlements: Settlements, counted_at: Option<Timestamp>) -> Self {
        let windows = windows.iter().copied().map(provisional).collect();
        Self::of(windows, settlements, counted_at)
    }

    fn of(windows: Vec<PlannedWindow>, settlements: Settlements, counted_at: Option<Timestamp>) -> Self {
        let pieces = pieces(&windows);
        let plan = Self { settlements, windows, pieces, counted_at };
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

    /// The position of the window that starts at an instant, if that layer answers it.
    pub(crate) fn position(&self, start: EventTime, layer: Layer) -> Option<usize> {
        let index = self.windows.binary_search_by_key(&start, |planned| planned.window.start).ok()?;
        (self.windows[index].layer == layer).then_some(index)
    }

    /// The windows of one layer; batch's come first, because the horizon is one instant.
    pub(crate) fn windows_of(&self, layer: Layer) -> Range<usize> {
        let border = self.windows.partition_point(|planned| planned.layer == Layer::Batch);
        match layer {
            Layer::Batch => 0..border,
            Layer::Speed => border..self.windows.len(),
        }
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
        let (layer, as_of) = match (batch.is_empty(), batch == windows) {
            (true, _) => (Some(Layer::Speed), self.counted_at),
            (false, true) => (Some(Layer::Batch), settled_at.or_else(|| self.first_settled_at())),
            (false, false) => (None, settled_at.max(self.counted_at)),
        };
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
    PlannedWindow { window, layer: Layer::Speed, state: State::Provisional, days: 0..0 }
}

fn planned(window: Window, settlements: &Settlements) -> PlannedWindow {
    // Batch does not count seconds.
    let can_settle = Grain::KEPT.contains(&window.grain);
    let is_settled = can_settle && settlements.horizon.is_some_and(|horizon| window.end <= horizon);
    if !is_settled {
        return provisional(window);
    }
    let days = settlements.overlapping(&window);
    let state = settlements.days[days.clone()].iter().map(|day| day.state).reduce(weaker);
    PlannedWindow { window, layer: Layer::Batch, state: state.unwrap_or(State::Settled), days }
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
