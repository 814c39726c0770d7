//! A record of the log as it is archived, and what all rows of the lake have in common.

use rdkafka::Message;
use rdkafka::message::Headers;
use reckon_schemas::kafka::TRACEPARENT_HEADER;
use reckon_schemas::time::EventTime;

/// How much of an unreadable record is kept.
pub(crate) const RAW_BYTES_MAX: usize = 1024 * 1024;

/// How long a problem's text may get.
const PROBLEM_CHARS_MAX: usize = 500;

/// One record of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// When the record was written, by its own time stamp.
    pub(crate) log_time: EventTime,
    pub(crate) traceparent: Option<&'a str>,
    /// `None` for a record without a value (a tombstone).
    pub(crate) payload: Option<&'a [u8]>,
}

impl<'a> Record<'a> {
    /// A consumed message.
    pub(crate) fn of(message: &'a impl Message) -> Self {
        let traceparent = message.headers().and_then(|headers| {
            let header = headers.iter().find(|header| header.key == TRACEPARENT_HEADER)?;
            std::str::from_utf8(header.value?).ok()
        });
        Self {
            partition: message.partition(),
            offset: message.offset(),
            log_time: in_calendar(EventTime::from_millis(message.timestamp().to_millis().unwrap_or(0))),
            traceparent,
            payload: message.payload(),
        }
    }
}

/// What is kept of a record that cannot be read: its bytes, cut where they are too many, and the problem, which then
/// says so.
pub(crate) fn unreadable(payload: Option<&[u8]>, problem: &str) -> (Vec<u8>, String) {
    let mut text: String = problem.chars().take(PROBLEM_CHARS_MAX).collect();
    let bytes = payload.unwrap_or_default();
    let kept = &bytes[..bytes.len().min(RAW_BYTES_MAX)];
    if kept.len() < bytes.len() {
        text.push_str(&format!(" (kept are the first {} of {} bytes)", kept.len(), bytes.len()));
    }
    (kept.to_vec(), text)
}

/// A producer may give a record any time stamp, also one that no date column can hold: such a one is moved to the
/// nearest instant between 1970 and 2261, the years that an event itself may have.
fn in_calendar(at: EventTime) -> EventTime {
    EventTime(at.0.clamp(0, 9_214_646_400_000_000 - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_bytes_are_cut_and_the_cut_is_noted() {
        let (raw, problem) = unreadable(Some(&vec![7; RAW_BYTES_MAX + 1]), "too large");
        assert_eq!(raw.len(), RAW_BYTES_MAX);
        assert_eq!(problem, "too large (kept are the first 1048576 of 1048577 bytes)");
        assert_eq!(unreadable(None, "no value"), (vec![], "no value".to_owned()));
    }

    #[test]
    fn absurd_time_stamps_stay_within_the_calendar() {
        assert_eq!(in_calendar(EventTime::from_millis(i64::MAX)).to_string(), "2261-12-31T23:59:59.999999Z");
        assert_eq!(in_calendar(EventTime(-5)), EventTime(0));
    }
}
