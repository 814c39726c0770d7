//! A lane between a reader and stores that this test plays.

use std::sync::mpsc::channel;

use reckon_schemas::catalog::{Catalog, Tenant};
use reckon_schemas::event::{EVENT_VERSION, Event, Properties, Source};
use reckon_schemas::time::Zone;
use tokio::sync::mpsc;

use super::*;
use crate::worker::sinks::{Flush, Flushed, Outcome};
use crate::worker::snapshots::Capture;
use crate::worker::windows::{Record, Sink};

const PARTITION: i32 = 7;
const RECORDS: i64 = 3;
/// So long that nothing is flushed but once at the beginning and when a partition is given back.
const NEVER: Duration = Duration::from_secs(3600);
const SOON: Duration = Duration::from_secs(10);

struct Scene {
    words: Sender<Word>,
    said: Receiver<Said>,
    redis: mpsc::Receiver<Flush>,
    clickhouse: mpsc::Receiver<Flush>,
    captures: mpsc::Receiver<Capture>,
}

impl Scene {
    /// A lane that was given a partition and records of it.
    fn set() -> Self {
        let known = Tenant::new("acme".parse().expect("valid"), Zone::UTC);
        let tenant = Tenant { dimension_values_max: 10, ..known };
        let tuning = Tuning::default();
        let plan = Arc::new(Plan::new(&Catalog { tenants: vec![tenant] }, tuning.rules()));
        let ((words, heard), (says, said)) = (channel(), channel());
        let ((to_redis, redis), (to_clickhouse, clickhouse)) = (mpsc::channel(1), mpsc::channel(1));
        let (to_snapshots, captures) = mpsc::channel(1);
        let lane = Lane {
            number: 0,
            topic: "events".to_owned(),
            tuning,
            plan,
            words: heard,
            says,
            standing: Arc::default(),
            outlets: Outlets {
                redis: Outlet::new(to_redis, NEVER),
                clickhouse: Outlet::new(to_clickhouse, NEVER),
                captures: to_snapshots,
            },
            owned: BTreeMap::new(),
            read_at: Instant::now(),
            counted_at: Instant::now(),
        };
        std::thread::spawn(move || lane.run());
        let scene = Self { words, said, redis, clickhouse, captures };
        let state = Box::new(PartitionState::starting_at(0));
        let end = End { partition: PARTITION, high: 0, readable: 0, at_ms: 0 };
        scene.tell(Word::Claim { end, claim: 1, state });
        scene.tell(Word::Records(batch()));
        scene
    }

    fn tell(&self, word: Word) {
        self.words.send(word).expect("the lane listens");
    }

    fn release(&self, until: Option<Instant>) -> Receiver<Result<(), Error>> {
        let (done, answered) = channel();
        self.tell(Word::Release { partitions: vec![PARTITION], until, done });
        answered
    }

    fn acknowledge(&self, sink: Sink, flush: &Flush) {
        let part =
            |next_offset| Flushed { partition: PARTITION, claim: 1, outcome: Outcome::Acknowledged(next_offset) };
        let parts = flush.parts.iter().map(|it| part(it.next_offset)).collect();
        self.tell(Word::Report(Report::Flushed { sink, parts }));
    }
}

fn batch() -> Batch {
    let mut batch = Batch::default();
    let now = EventTime::from_timestamp(jiff::Timestamp::now());
    for offset in 0..RECORDS {
        let event = Event {
            version: EVENT_VERSION,
            tenant: "acme".into(),
            id: offset.to_string().into(),
            name: "purchase".into(),
            occurred_at: now,
            received_at: now,
            user: "ada".into(),
            money: None,
            properties: Properties::new(),
            source: Source::Native,
        };
        let payload = event.encode();
        batch.push(PARTITION, &Record { offset, log_time_ms: now.0 / 1000, payload: &payload });
    }
    batch
}

/// Answers what comes until everything that was read is there; how many cells Redis was given, and whether ClickHouse was
/// given any.
fn take_until_everything_is_there(scene: &mut Scene, sink: Sink) -> (usize, bool) {
    let (mut cells, mut has_blocks, mut next_offset) = (0, false, 0);
    while next_offset < RECORDS {
        let flush = match sink {
            Sink::Redis => scene.redis.blocking_recv(),
            Sink::ClickHouse => scene.clickhouse.blocking_recv(),
        };
        let flush = flush.expect("the lane hands over what it has");
        cells += flush.parts.iter().map(|part| part.cells.len()).sum::<usize>();
        has_blocks |= !flush.blocks.is_empty();
        next_offset = flush.parts.iter().map(|part| part.next_offset).max().unwrap_or(0);
        scene.acknowledge(sink, &flush);
    }
    (cells, has_blocks)
}

#[test]
fn what_is_given_back_is_counted_flushed_and_saved_before() {
    let mut scene = Scene::set();
    let answered = scene.release(Some(Instant::now() + SOON));
    assert_eq!(take_until_everything_is_there(&mut scene, Sink::Redis), (5, false), "a cell of each grain");
    assert_eq!(take_until_everything_is_there(&mut scene, Sink::ClickHouse), (0, true));
    let capture = scene.captures.blocking_recv().expect("a state to be saved");
    assert_eq!((capture.partition, capture.next_offset), (PARTITION, RECORDS));
    assert!(answered.try_recv().is_err(), "it is not saved yet");
    scene.tell(Word::Report(Report::Saved { partition: PARTITION, claim: 1, next_offset: RECORDS, stored: true }));
    assert!(matches!(answered.recv_timeout(SOON), Ok(Ok(()))));
    let said: Vec<Said> = scene.said.try_iter().collect();
    assert!(matches!(said[..], [Said::Counted { lane: 0, .. }, Said::Saved { next_offset: RECORDS, .. }]));
}

#[test]
fn what_is_lost_goes_nowhere() {
    let mut scene = Scene::set();
    assert!(matches!(scene.release(None).recv_timeout(SOON), Ok(Ok(()))));
    scene.tell(Word::Records(batch()));
    assert!(matches!(scene.release(None).recv_timeout(SOON), Ok(Ok(()))));
    // Progress as of the claim may have been told.
    let flushes = std::iter::from_fn(|| scene.redis.try_recv().or_else(|_| scene.clickhouse.try_recv()).ok());
    for flush in flushes {
        assert!(flush.parts.iter().all(|part| part.next_offset == 0 && part.cells.is_empty()), "{flush:?}");
        assert!(flush.blocks.is_empty());
    }
    assert!(scene.captures.try_recv().is_err());
}

#[test]
fn stores_that_take_nothing_are_waited_for_no_longer_than_allowed() {
    let scene = Scene::set();
    let answered = scene.release(Some(Instant::now() + Duration::from_millis(200)));
    assert!(matches!(answered.recv_timeout(SOON), Ok(Ok(()))), "left to whoever comes next");
    scene.tell(Word::End);
    while scene.said.recv_timeout(SOON).is_ok() {}
    assert!(scene.words.send(Word::End).is_err(), "the lane has ended");
}
