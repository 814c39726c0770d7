//! The cells that changed since a sink was given them last.

use std::sync::Arc;

use reckon_schemas::cell::Measures;
use reckon_schemas::redis_keys::USERS_BESIDE_MAX;
use reckon_schemas::sketch::Sketch;
use reckon_schemas::sums::Sums;
use reckon_schemas::window::Window;

use super::Sink;
use super::partition::PartitionState;
use super::series::Series;

/// The totals of a cell as of the last fold, for a sink that has not been given them yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChangedCell<'a> {
    pub(crate) series: &'a Arc<Series>,
    pub(crate) window: Window,
    pub(crate) measures: &'a Measures,
}

/// What Redis is to be told of a cell: totals, and of the users only what it lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FreshCell {
    pub(crate) series: Arc<Series>,
    pub(crate) window: Window,
    pub(crate) count: u64,
    pub(crate) sums: Sums,
    pub(crate) users: FreshUsers,
}

/// The users of a cell, on their way to Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FreshUsers {
    /// Few: beside the totals.
    Beside(Sketch),
    /// What [`Sketch::take_redis`] returned, for a key of their own.
    Key(Vec<u8>),
}

impl FreshUsers {
    /// All of them, whatever Redis has.
    pub(crate) fn whole(sketch: &Sketch) -> Self {
        Self::few(sketch).unwrap_or_else(|| Self::Key(sketch.to_redis()))
    }

    fn lacking(sketch: &mut Sketch) -> Self {
        Self::few(sketch).unwrap_or_else(|| Self::Key(sketch.take_redis()))
    }

    fn few(sketch: &Sketch) -> Option<Self> {
        let are_few = sketch.counted().is_some_and(|users| users <= USERS_BESIDE_MAX);
        are_few.then(|| Self::Beside(sketch.clone()))
    }
}

impl PartitionState {
    /// The totals of every cell that changed since the last call for this sink, as of the last fold.
    pub(crate) fn changed(&mut self, sink: Sink) -> Vec<ChangedCell<'_>> {
        let series = &self.series;
        let changed = self.totals.take_dirty(sink);
        changed.map(|(window, number, measures)| ChangedCell { series: series.get(number), window, measures }).collect()
    }

    /// The same for Redis, to be kept; what it returns is on top of what all calls before returned.
    pub(crate) fn take_fresh(&mut self) -> Vec<FreshCell> {
        let mut fresh = Vec::with_capacity(self.totals.dirty_len(Sink::Redis));
        let series = &self.series;
        self.totals.visit_dirty(Sink::Redis, |window, number, Measures { count, sums, users }| {
            fresh.push(FreshCell {
                series: Arc::clone(series.get(number)),
                window,
                count: *count,
                sums: sums.clone(),
                users: FreshUsers::lacking(users),
            });
        });
        fresh
    }
}
