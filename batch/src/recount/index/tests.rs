//! The index against reading the whole lake.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::civil::Date;
use proptest::prelude::*;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::event::{EVENT_VERSION, Event, Properties, Source};
use reckon_schemas::stores;
use reckon_schemas::time::EventTime;

use super::super::{Budget, PinnedLake, Read, Reading};
use super::files::Files;
use super::marks::MarksFile;
use super::{Index, IndexError};
use crate::archive::{Loader, Tuning};
use crate::lake::Lake;
use crate::objects::Objects;

const DAY: i64 = 86_400_000_000;
const TOPIC: &str = "events";

/// Event, day, log time, content.
type Delivery = (u32, i64, i64, u32);

struct Bench {
    dir: tempfile::TempDir,
    lake: Lake,
    objects: Objects,
    tenant: Tenant,
    next_offsets: [i64; 3],
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let store = stores::Lake::at(format!("file://{}", dir.path().display()));
        let lake = Lake::open(&store).await.expect("a lake");
        let objects = Objects::open(&store).expect("a folder");
        let tenant = crate::count::tests::tenant();
        Self { dir, lake, objects, tenant, next_offsets: [0; 3] }
    }

    /// Archives deliveries in one commit.
    async fn deliver(&mut self, deliveries: &[Delivery]) {
        let mut loader = Loader::open(&self.lake, TOPIC, &Tuning::default()).await.expect("a lake");
        for (index, (id, day, log_time, content)) in deliveries.iter().enumerate() {
            // An hour before midnight in universal time is the next day where the tenant is.
            let at = EventTime(20_000 * DAY + day * DAY + if id % 3 == 0 { 23 * DAY / 24 } else { DAY / 3 });
            let mut properties = Properties::new();
            properties.insert("said", content.to_string());
            let event = Event {
                version: EVENT_VERSION,
                tenant: self.tenant.id.as_str().to_owned().into(),
                id: format!("e{id}").into(),
                name: "sale".into(),
                occurred_at: at,
                received_at: at,
                user: "u".into(),
                money: None,
                properties,
                source: Source::Native,
            };
            let partition = index % 3;
            let offset = self.next_offsets[partition];
            self.next_offsets[partition] += 1;
            let partition = i32::try_from(partition).expect("small");
            loader.push(partition, offset, EventTime(*log_time), &event.encode()).await.expect("taken");
        }
        loader.commit().await.expect("committed");
    }

    async fn pinned(&self, reading: &Arc<Reading>) -> PinnedLake {
        let table = self.lake.events().await.expect("its events");
        PinnedLake::measured(&table, reading).await.expect("readable")
    }

    async fn index(&self, reading: &Arc<Reading>) -> Result<Index, IndexError> {
        let pinned = self.pinned(reading).await;
        Index::at(&pinned, &self.tenant, &self.objects, &Budget::new(0), 50).await
    }

    /// How much is read to bring the index to the lake as it is.
    async fn read(&self) -> Read {
        let reading = Arc::default();
        self.index(&reading).await.expect("usable");
        reading.so_far()
    }

    /// The index says of every day what reading everything says.
    async fn check(&self) -> Result<(), IndexError> {
        let reading = Arc::default();
        let (index, pinned) = (self.index(&reading).await?, self.pinned(&reading).await);
        let deliveries = pinned.deliveries_by_day(&self.tenant).await.expect("readable");
        assert_eq!(index.deliveries_by_day(), deliveries);
        let mut events: BTreeMap<Date, u64> = BTreeMap::new();
        let zone = &self.tenant.time_zone;
        for (day, deliveries) in &deliveries {
            let span = zone.day_start(*day)..zone.day_end(*day);
            let budget = Budget::new(0);
            let full = pinned.first_deliveries(&self.tenant, span.clone(), *deliveries, true, &budget).await;
            let (full, firsts) = (full.expect("readable"), index.first_deliveries(span.clone()).await?);
            assert_eq!(firsts.contradictions(), full.contradictions(), "{day}");
            let mut on_the_day = Vec::new();
            let take = |delivery: super::super::Delivery<'_>| {
                if span.contains(&delivery.occurred_at) {
                    on_the_day.push(delivery.place);
                }
                Ok::<(), super::super::RecountError>(())
            };
            pinned.deliveries(&self.tenant, span.clone(), take).await.expect("readable");
            for place in on_the_day {
                let said = (firsts.is_first(place), firsts.is_conflicting(place));
                assert_eq!(said, (full.is_first(place), full.is_conflicting(place)), "{day} {place:?}");
                *events.entry(*day).or_default() += u64::from(said.0);
            }
            events.entry(*day).or_default();
        }
        assert_eq!(index.events_by_day(), events);
        Ok(())
    }

    /// The files of the index.
    fn files(&self) -> Vec<std::path::PathBuf> {
        let Ok(listed) = std::fs::read_dir(self.dir.path().join("index/acme")) else { return Vec::new() };
        let mut files: Vec<_> = listed.map(|entry| entry.expect("listed").path()).collect();
        files.sort();
        files
    }

    /// Flips a bit of one of the index's files, or cuts it, or removes it.
    fn damage(&self, which: usize) {
        let files = self.files();
        let Some(file) = files.get(which % files.len().max(1)) else { return };
        let mut bytes = std::fs::read(file).expect("readable");
        match which % 5 {
            0 => std::fs::remove_file(file).expect("removed"),
            1 => std::fs::write(file, &bytes[..bytes.len() / 2]).expect("written"),
            _ if bytes.is_empty() => {}
            _ => {
                let at = which * 7919 % bytes.len();
                bytes[at] ^= 1 << (which % 8);
                std::fs::write(file, bytes).expect("written");
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Deliver(Vec<Delivery>),
    /// The lake's files are united.
    Compact,
    /// A nightly looks.
    Look,
    /// A file of the index is no longer what it was.
    Damage(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let delivery = (0..40_u32, 0..8_i64, 0..60_i64, prop_oneof![9 => Just(0_u32), 1 => Just(1)]);
    let step = prop_oneof![
        5 => prop::collection::vec(delivery, 1..40).prop_map(Step::Deliver),
        1 => Just(Step::Compact),
        3 => Just(Step::Look),
        1 => (0..1000_usize).prop_map(Step::Damage),
    ];
    prop::collection::vec(step, 1..9)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn the_index_says_what_reading_everything_says(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let mut bench = Bench::new().await;
            bench.deliver(&[(0, 0, 5, 0)]).await;
            for step in steps.iter().chain([&Step::Look]) {
                match step {
                    Step::Deliver(deliveries) => bench.deliver(deliveries).await,
                    Step::Compact => drop(bench.lake.compact().await.expect("compacted")),
                    Step::Damage(which) => bench.damage(*which),
                    Step::Look => match bench.check().await {
                        Ok(()) => {}
                        // A damaged file that was not needed before: whoever meets it forgets the index.
                        Err(IndexError::Unusable(_)) => {
                            let forgotten = Index::forget(&bench.objects, &bench.tenant, &Arc::default()).await;
                            forgotten.expect("removed");
                            bench.check().await.expect("made anew");
                        }
                        Err(error) => panic!("{error}"),
                    },
                }
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_follows_what_is_new() {
    let mut bench = Bench::new().await;
    for day in 0..30 {
        let deliveries: Vec<Delivery> = (0..400).map(|id| (400 * day + id, i64::from(day), i64::from(id), 0)).collect();
        bench.deliver(&deliveries).await;
    }
    let everything = bench.read().await;
    assert!(everything.lake_rows >= 12_000, "{everything:?}");
    assert_eq!(bench.read().await.lake_rows, 0, "nothing is new");
    let before = bench.index(&Arc::default()).await.expect("usable").events_by_day();
    // One that was never there, and one of day 7 that comes again for day 12, earlier in the log.
    bench.deliver(&[(20_000, 3, 500, 0), (400 * 7 + 6, 12, -1, 0)]).await;
    let few = bench.read().await;
    assert!((2..=2 + 400).contains(&few.lake_rows), "the new ones, and what is filed with day 7: {few:?}");
    assert!(few.lake_bytes * 10 < everything.lake_bytes && few.index_bytes < 150_000, "{few:?} of {everything:?}");
    let after = bench.index(&Arc::default()).await.expect("usable").events_by_day();
    let day = |number: i64| bench.tenant.time_zone.day_of(EventTime(20_000 * DAY + number * DAY + DAY / 3));
    let changed: Vec<(Date, u64, u64)> = before
        .iter()
        .map(|(day, count)| (*day, *count, after[day]))
        .filter(|(_, before, after)| before != after)
        .collect();
    let at =
        |number: i64, more: u64, less: u64| (day(number), before[&day(number)], before[&day(number)] + more - less);
    assert_eq!(changed, [at(3, 1, 0), at(7, 0, 1), at(12, 1, 0)]);
    bench.check().await.expect("usable");
}

#[tokio::test]
async fn a_lake_that_has_less_than_it_had_is_read_anew() {
    let mut bench = Bench::new().await;
    bench.deliver(&[(1, 0, 5, 0), (1, 3, 6, 0), (2, 3, 7, 0)]).await;
    bench.check().await.expect("usable");
    // As after a retention: the state knows a date that the lake no longer has.
    let state = bench.files().into_iter().find(|file| file.extension().is_some_and(|ending| ending == "json"));
    let text = std::fs::read_to_string(state.as_ref().expect("a state")).expect("readable");
    let gone = r#""dates":{"1999-01-01":{"files":["gone"],"days":{},"marks":null,"repeats":null},"#;
    let json = text.split_once('\n').expect("a checksum").1.replacen(r#""dates":{"#, gone, 1);
    let checksum = xxhash_rust::xxh3::xxh3_64(json.as_bytes());
    std::fs::write(state.expect("a state"), format!("{checksum:016x}\n{json}")).expect("written");
    bench.check().await.expect("usable");
}

#[tokio::test]
async fn marks_are_found_in_few_blocks_and_damage_is_noticed() {
    let bench = Bench::new().await;
    let reading = Arc::default();
    let files = Files::new(&bench.objects, &bench.tenant.id, &reading);
    for count in [0_u64, 1, 511, 512, 1023, 1024, 40_000] {
        let mut marks: Vec<u64> = (0..count).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16).collect();
        marks.sort_unstable();
        marks.dedup();
        let file = MarksFile::write(&files, &marks).await.expect("written");
        assert_eq!(file.all(&files).await.expect("readable"), marks);
        let wanted: Vec<u64> = marks.iter().copied().step_by(97).flat_map(|mark| [mark, mark + 1]).collect();
        let expected: Vec<u64> = wanted.iter().copied().filter(|mark| marks.binary_search(mark).is_ok()).collect();
        assert_eq!(file.find(&files, &wanted).await.expect("readable"), expected);
        if count == 40_000 {
            let before = reading.so_far().index_bytes;
            assert_eq!(file.find(&files, &marks[7..8]).await.expect("readable"), marks[7..8]);
            let read = reading.so_far().index_bytes - before;
            assert!(read < 12_000, "{read} bytes of {}", count * 6);
            let path = bench.dir.path().join("index/acme").join(&file.name);
            let bytes = std::fs::read(&path).expect("readable");
            for at in [3, 700, bytes.len() - 1] {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1;
                std::fs::write(&path, bytes).expect("written");
                assert!(matches!(file.all(&files).await, Err(IndexError::Unusable(_))), "{at}");
            }
        }
    }
}
