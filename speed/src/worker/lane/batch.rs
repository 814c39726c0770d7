//! Records on their way from the reader to a lane, in one piece of memory that is used again and again.

use crate::worker::windows::Record;

/// A batch with so many records, or bytes of them, is enough.
const RECORDS_MAX: usize = 500;
const BYTES_MAX: usize = 1 << 20;

/// Records of some partitions, those of each in its order.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    payloads: Vec<u8>,
    places: Vec<Place>,
}

/// A record without its payload, which ends there.
#[derive(Clone, Copy, Debug)]
struct Place {
    partition: i32,
    offset: i64,
    log_time_ms: i64,
    end: usize,
}

impl Batch {
    /// Copies a record behind the others.
    pub(crate) fn push(&mut self, partition: i32, record: &Record<'_>) {
        let Record { offset, log_time_ms, payload } = *record;
        self.payloads.extend_from_slice(payload);
        self.places.push(Place { partition, offset, log_time_ms, end: self.payloads.len() });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.places.len() >= RECORDS_MAX || self.payloads.len() >= BYTES_MAX
    }

    /// The records, with the partition of each.
    pub(crate) fn records(&self) -> impl Iterator<Item = (i32, Record<'_>)> {
        let mut start = 0;
        self.places.iter().map(move |place| {
            let payload = &self.payloads[start..place.end];
            start = place.end;
            (place.partition, Record { offset: place.offset, log_time_ms: place.log_time_ms, payload })
        })
    }

    /// The same room, empty; what one huge record took is given back.
    pub(crate) fn cleared(mut self) -> Self {
        self.places.clear();
        self.payloads.clear();
        self.payloads.shrink_to(2 * BYTES_MAX);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_out_as_they_went_in() {
        let payloads: [&[u8]; 4] = [b"one", b"", b"three", &[7; 3 * BYTES_MAX]];
        let mut batch = Batch::default();
        for (offset, payload) in (0..).zip(payloads) {
            assert!(!batch.is_full());
            batch.push(5, &Record { offset, log_time_ms: offset * 10, payload });
        }
        assert!(batch.is_full() && !batch.is_empty());
        let out: Vec<_> =
            batch.records().map(|(partition, it)| (partition, it.offset, it.log_time_ms, it.payload)).collect();
        let expected: Vec<_> = (0..).zip(payloads).map(|(offset, payload)| (5, offset, offset * 10, payload)).collect();
        assert_eq!(out, expected);
        let batch = batch.cleared();
        assert!(batch.is_empty() && batch.records().next().is_none());
        assert!(batch.payloads.capacity() <= 2 * BYTES_MAX);
    }
}
