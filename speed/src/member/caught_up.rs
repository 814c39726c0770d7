//! Up to when everything that the log had received of a partition was read.

use super::End;

/// What is known of that for one partition, by whoever reads it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CaughtUp {
    /// Where the partition ended when it was claimed: an end before that is one from an earlier claim.
    end_at_claim: i64,
    /// When the log was last known to have nothing that was not read.
    read_up_at_ms: i64,
}

impl CaughtUp {
    /// The partition was claimed, ends there, and is read from `next_offset` on.
    pub(crate) fn claimed(end: &End, next_offset: i64) -> Self {
        let mut caught_up = Self { end_at_claim: end.high, read_up_at_ms: 0 };
        caught_up.note_end(end, next_offset);
        caught_up
    }

    /// The partition ended there, at a moment before the newest record was read.
    pub(crate) fn note_end(&mut self, end: &End, next_offset: i64) {
        if end.high >= self.end_at_claim && next_offset >= end.readable {
            self.read_up_at_ms = self.read_up_at_ms.max(end.at_ms);
        }
    }

    /// In milliseconds of the wall clock. The newest record says so, too; but the log's times are those of other clocks: one
    /// that is ahead says nothing.
    pub(crate) fn at_ms(&self, newest_log_time_ms: i64) -> i64 {
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let newest_ms = Some(newest_log_time_ms).filter(|newest_ms| *newest_ms <= now_ms);
        self.read_up_at_ms.max(newest_ms.unwrap_or(0)).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(high: i64, at_ms: i64) -> End {
        End { partition: 0, high, readable: high, at_ms }
    }

    #[test]
    fn an_end_counts_once_everything_before_it_is_read() {
        let mut caught_up = CaughtUp::claimed(&end(50, 1_000), 40);
        assert_eq!(caught_up.at_ms(0), 0, "ten records are to be read");
        caught_up.note_end(&end(30, 2_000), 45);
        assert_eq!(caught_up.at_ms(0), 0, "an end of an earlier claim");
        caught_up.note_end(&end(50, 3_000), 50);
        assert_eq!(caught_up.at_ms(0), 3_000);
        caught_up.note_end(&end(51, 4_000), 50);
        assert_eq!(caught_up.at_ms(0), 3_000);
        assert_eq!(CaughtUp::claimed(&end(50, 1_000), 50).at_ms(0), 1_000, "nothing is to be read");
    }

    #[test]
    fn the_newest_record_counts_unless_its_clock_is_ahead() {
        let caught_up = CaughtUp::claimed(&end(50, 1_000), 50);
        assert_eq!(caught_up.at_ms(1_500), 1_500);
        assert_eq!(caught_up.at_ms(i64::MAX), 1_000);
    }
}
