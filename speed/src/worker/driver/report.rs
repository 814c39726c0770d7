//! Once a second: what the worker is doing, as metrics; and a warning where a dimension has too many values.

use std::time::{Duration, Instant};

use super::Driver;
use crate::worker::telemetry;
use crate::worker::windows::Sink;

const INTERVAL: Duration = Duration::from_secs(1);

/// When it was last told.
#[derive(Debug)]
pub(crate) struct Watch {
    told_at: Instant,
}

impl Default for Watch {
    fn default() -> Self {
        telemetry::describe();
        Self { told_at: Instant::now() }
    }
}

impl Driver {
    pub(super) fn report(&mut self) {
        if self.watch.told_at.elapsed() < INTERVAL {
            return;
        }
        self.watch.told_at = Instant::now();
        for (partition, end) in self.source.ends() {
            if let Some(owned) = self.owned.get(&partition) {
                telemetry::report_lag(partition, end - owned.state.next_offset());
            }
        }
        self.owned.values_mut().for_each(|owned| owned.report());
        telemetry::report_states(self.owned.values().map(|owned| &owned.state), self.paused);
        let now_ms = jiff::Timestamp::now().as_millisecond();
        for sink in Sink::ALL {
            // A partition whose newest record is acknowledged has nothing that could become visible.
            let waiting = self.owned.values().filter(|owned| !owned.is_visible(sink));
            let oldest_ms = waiting.map(|owned| owned.visible_log_time_ms(sink)).min();
            let age = oldest_ms.map(|ms| Duration::from_millis(u64::try_from(now_ms - ms).unwrap_or(0)));
            telemetry::report_visible_age(sink, age);
        }
    }
}
