//! Once a second: what the worker is doing, as metrics.

use std::time::{Duration, Instant};

use super::Driver;
use crate::worker::lane::Census;
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
        let all = self.lanes.censuses().fold(Census::default(), Census::and);
        telemetry::report_states(&all, self.reading.len(), self.paused);
        let now_ms = jiff::Timestamp::now().as_millisecond();
        for sink in Sink::ALL {
            let age =
                all.visible_ms[sink.index()].map(|ms| Duration::from_millis(u64::try_from(now_ms - ms).unwrap_or(0)));
            telemetry::report_visible_age(sink, age);
        }
    }
}
