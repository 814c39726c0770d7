//! What the worker tells about itself: metrics by the names that `describe` lists. Names end in their unit.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use reckon_schemas::settlement::Reason;
use reckon_schemas::window::Grain;

use super::lane::Census;
use super::windows::{Overflow, Sink, Tallies};

const RECORDS: &str = "reckon_speed_records_total";
const COUNTED: &str = "reckon_speed_counted_total";
const REFUSED: &str = "reckon_speed_refused_total";
const LATE: &str = "reckon_speed_late_total";
const OVERFLOWED: &str = "reckon_speed_overflowed_total";
const LAG: &str = "reckon_speed_consumer_lag_records";
const VISIBLE_AGE: &str = "reckon_speed_newest_visible_event_age_seconds";
const CELLS: &str = "reckon_speed_cells";
const WAITING: &str = "reckon_speed_waiting_cells";
const PARTITIONS: &str = "reckon_speed_partitions";
const PAUSED: &str = "reckon_speed_paused";
const FLUSH: &str = "reckon_speed_flush_seconds";
const FLUSHED: &str = "reckon_speed_flushed_cells_total";
const SNAPSHOT: &str = "reckon_speed_snapshot_seconds";
const SNAPSHOT_BYTES: &str = "reckon_speed_snapshot_bytes";

/// Says what each metric is.
pub(super) fn describe() {
    describe_counter!(RECORDS, "Records read, by partition");
    describe_counter!(COUNTED, "Events counted, by partition");
    describe_counter!(REFUSED, "Records read and not counted, by reason");
    describe_counter!(LATE, "Events that came too late for windows of a grain, by grain");
    describe_counter!(OVERFLOWED, "Events counted under __other__, by tenant and dimension");
    describe_gauge!(LAG, "Records in the log that are not read yet, by partition");
    describe_gauge!(
        VISIBLE_AGE,
        Unit::Seconds,
        "How long ago the newest event whose effect can be read was received, by store; idle partitions excluded"
    );
    describe_gauge!(CELLS, "Cells in memory, by grain");
    describe_gauge!(WAITING, "Cells that a store has not been given yet, by store");
    describe_gauge!(PARTITIONS, "Partitions that this worker has");
    describe_gauge!(PAUSED, "1 while reading pauses because too much waits for the stores");
    describe_histogram!(FLUSH, Unit::Seconds, "From handing a batch to a store to its acknowledgement, by store");
    describe_counter!(FLUSHED, "Cells handed to a store, by store");
    describe_histogram!(SNAPSHOT, Unit::Seconds, "Writing one partition's snapshot to the object store");
    describe_histogram!(SNAPSHOT_BYTES, Unit::Bytes, "One partition's state before compression");
}

/// What a partition's records came to since the last report of it.
pub(super) fn report_tallies(partition: i32, now: &Tallies, before: &Tallies) {
    let partition = partition.to_string();
    counter!(RECORDS, "partition" => partition.clone()).increment(now.records - before.records);
    counter!(COUNTED, "partition" => partition).increment(now.counted - before.counted);
    for (reason, (now, before)) in Reason::ALL.into_iter().zip(now.refused.iter().zip(before.refused)) {
        if *now > before {
            counter!(REFUSED, "reason" => reason.name()).increment(now - before);
        }
    }
    for (grain, (now, before)) in Grain::ALL.into_iter().zip(now.late_for.iter().zip(before.late_for)) {
        if *now > before {
            counter!(LATE, "grain" => grain.name()).increment(now - before);
        }
    }
}

/// Events that were counted under `__other__`.
pub(super) fn report_overflows(overflows: &[Overflow]) {
    for overflow in overflows {
        for dimension in &overflow.dimensions {
            let labels = [("tenant", overflow.tenant.clone()), ("dimension", dimension.clone())];
            counter!(OVERFLOWED, &labels).increment(1);
        }
    }
}

/// How far the log is ahead of a partition.
pub(super) fn report_lag(partition: i32, lag: i64) {
    gauge!(LAG, "partition" => partition.to_string()).set(lag.max(0) as f64);
}

/// How old the newest event is that a store has; `None` if nothing waits to become visible.
pub(super) fn report_visible_age(sink: Sink, age: Option<Duration>) {
    gauge!(VISIBLE_AGE, "store" => sink.name()).set(age.map_or(0.0, |age| age.as_secs_f64()));
}

/// What is in memory.
pub(super) fn report_states(census: &Census, partitions: usize, paused: bool) {
    for grain in Grain::ALL {
        gauge!(CELLS, "grain" => grain.name()).set(census.cells[grain.index()] as f64);
    }
    for sink in Sink::ALL {
        gauge!(WAITING, "store" => sink.name()).set(census.waiting[sink.index()] as f64);
    }
    gauge!(PARTITIONS).set(partitions as f64);
    gauge!(PAUSED).set(f64::from(u8::from(paused)));
}

/// A store acknowledged a batch.
pub(super) fn report_flush(sink: Sink, took: Duration) {
    histogram!(FLUSH, "store" => sink.name()).record(took.as_secs_f64());
}

/// A store was handed cells.
pub(super) fn report_flushed(sink: Sink, cells: usize) {
    counter!(FLUSHED, "store" => sink.name()).increment(cells as u64);
}

/// A snapshot was written.
pub(super) fn report_snapshot(bytes: usize, took: Duration) {
    histogram!(SNAPSHOT).record(took.as_secs_f64());
    histogram!(SNAPSHOT_BYTES).record(bytes as f64);
}
