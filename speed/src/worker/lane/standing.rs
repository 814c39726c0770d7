//! How a lane stands, for the reader: how much waits for the stores, and once a second what it has.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reckon_schemas::window::Grain;

use super::Lane;
use crate::worker::windows::Sink;

const CENSUS_INTERVAL: Duration = Duration::from_secs(1);

/// What a lane shows of itself.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// How much waits for the stores, 1 for as much as is allowed, as the bits of a float.
    load: AtomicU64,
    census: Mutex<Census>,
}

/// What is in a lane's memory.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Census {
    /// By grain.
    pub(crate) cells: [usize; Grain::ALL.len()],
    /// By sink: cells that it has not been given yet.
    pub(crate) waiting: [usize; Sink::ALL.len()],
    /// By sink: when the newest record was received that it has of the partition which is the furthest behind, in
    /// milliseconds; of partitions that it does not have everything of.
    pub(crate) visible_ms: [Option<i64>; Sink::ALL.len()],
}

impl Census {
    /// Two lanes' together.
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.cells.iter_mut().zip(other.cells).for_each(|(sum, part)| *sum += part);
        self.waiting.iter_mut().zip(other.waiting).for_each(|(sum, part)| *sum += part);
        for (oldest, ms) in self.visible_ms.iter_mut().zip(other.visible_ms) {
            *oldest = [*oldest, ms].into_iter().flatten().min();
        }
        self
    }
}

impl Standing {
    pub(crate) fn load(&self) -> f64 {
        f64::from_bits(self.load.load(Ordering::Relaxed))
    }

    pub(crate) fn census(&self) -> Census {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Census> {
        // A plain mutex: it is held for a copy, once a second.
        self.census.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane {
    /// Shows how much waits, and now and then the rest.
    pub(super) fn stand(&mut self) {
        self.standing.load.store(self.load().to_bits(), Ordering::Relaxed);
        if self.counted_at.elapsed() < CENSUS_INTERVAL {
            return;
        }
        self.counted_at = Instant::now();
        self.owned.values_mut().for_each(|owned| owned.report());
        let census = self.take_census();
        *self.standing.lock() = census;
    }

    fn take_census(&self) -> Census {
        let mut census = Census::default();
        for owned in self.owned.values() {
            for grain in Grain::ALL {
                census.cells[grain.index()] += owned.state.cells_len(grain);
            }
            for sink in Sink::ALL {
                census.waiting[sink.index()] += owned.state.dirty_len(sink);
            }
        }
        for sink in Sink::ALL {
            // A partition whose newest record is acknowledged has nothing that could become visible.
            let waiting = self.owned.values().filter(|owned| !owned.is_visible(sink));
            census.visible_ms[sink.index()] = waiting.map(|owned| owned.visible_log_time_ms(sink)).min();
        }
        census
    }
}
