//! Old dates leave a lake in a folder; files follow, when nobody can be reading them.

use std::collections::BTreeMap;

use jiff::ToSpan;
use jiff::civil::{Date, date};
use reckon_schemas::lake::EVENTS_TABLE;
use reckon_schemas::stores;
use reckon_schemas::time::{EventTime, Zone};

use super::expire::expire_table;
use super::{Held, Request, expired_offsets, remove_files};
use crate::archive::tests::archive_messages;
use crate::conservation::{Range, archived};
use crate::count::tests::{TOPIC, event};
use crate::lake::Lake;
use crate::objects::Objects;

const FIRST: Date = date(2026, 8, 1);
const BORDER: Date = date(2026, 8, 3);

struct Scene {
    _dir: tempfile::TempDir,
    store: stores::Lake,
    lake: Lake,
    objects: Objects,
}

/// Five dates with four events each, in one partition of the log.
async fn scene() -> Scene {
    let dir = tempfile::tempdir().expect("a folder");
    let store = stores::Lake::at(format!("file://{}", dir.path().display()));
    for day in 0..5_u32 {
        let start = Zone::UTC.day_start(FIRST.saturating_add(i64::from(day).days())).0;
        let message = |number: u32| {
            let id = day * 4 + number;
            let at = EventTime(start + i64::from(number) * 3_600_000_000);
            (0, i64::from(id), event("acme", id, at).encode())
        };
        archive_messages(&store, TOPIC, &(0..4).map(message).collect::<Vec<_>>()).await;
    }
    let (lake, objects) = (Lake::open(&store).await.expect("a lake"), Objects::open(&store).expect("a store"));
    Scene { _dir: dir, store, lake, objects }
}

impl Scene {
    async fn expire(&self, before: Date, dry_run: bool) -> super::Expired {
        let request = Request { keep_days: 0, now: jiff::Timestamp::now(), dry_run };
        let table = self.lake.events().await.expect("events");
        expire_table(EVENTS_TABLE, &table, &self.objects, before, request).await.expect("expired")
    }

    async fn there(&self) -> Vec<Range> {
        let table = self.lake.events().await.expect("events");
        let found: BTreeMap<_, _> = archived(&table, None).await.expect("readable");
        found.get(&0).map(|offsets| offsets.ranges().collect()).unwrap_or_default()
    }
}

#[tokio::test]
async fn dates_before_the_border_leave_and_are_on_record() {
    let scene = scene().await;
    let told = scene.expire(BORDER, true).await;
    assert_eq!((told.records, told.files), (8, 2));
    assert_eq!(scene.there().await, [Range { from: 0, to: 20 }], "nothing was done");
    let before = scene.lake.events().await.expect("events");
    assert_eq!(Held::of(&before).await.expect("readable"), Held::default());
    scene.expire(BORDER, false).await;
    assert_eq!(scene.there().await, [Range { from: 8, to: 20 }]);
    let table = scene.lake.events().await.expect("events");
    assert_eq!(Held::of(&table).await.expect("readable").since, Some(BORDER));
    let gone = expired_offsets(&scene.objects, EVENTS_TABLE, &table).await.expect("readable");
    assert_eq!(gone[&0].ranges().collect::<Vec<_>>(), [Range { from: 0, to: 8 }]);
    // Whoever pinned the version before reads it to the end, and the archive goes on.
    assert_eq!(archived(&before, None).await.expect("readable")[&0].ranges().count(), 1);
    let progress = crate::lake::progress(&table, TOPIC).await.expect("progress");
    assert_eq!(progress, [(0, 20)].into());
}

#[tokio::test]
async fn a_record_without_its_commit_explains_nothing() {
    let scene = scene().await;
    let record = super::record::Record {
        before: BORDER,
        at: jiff::Timestamp::now(),
        offsets: BTreeMap::from([(0, vec![(0, 8)])]),
    };
    super::record::write(&scene.objects, EVENTS_TABLE, &record).await.expect("written");
    let table = scene.lake.events().await.expect("events");
    assert!(expired_offsets(&scene.objects, EVENTS_TABLE, &table).await.expect("readable").is_empty());
}

#[tokio::test]
async fn files_of_what_expired_are_removed_a_week_later_although_a_settlement_counted_them() {
    let scene = scene().await;
    let pinned = crate::lake::version(&scene.lake.events().await.expect("events"));
    scene.expire(BORDER, false).await;
    // For the date that expired, one event more: it is in the table again.
    let late = event("acme", 99, EventTime(Zone::UTC.day_start(FIRST).0));
    archive_messages(&scene.store, TOPIC, &[(0, 20, late.encode())]).await;
    let week = std::time::Duration::ZERO;
    let now = jiff::Timestamp::now();
    let removed = |now, dry_run| remove_files(&scene.store, week, now, dry_run);
    assert_eq!(removed(now, false).await.expect("listed"), [0, 0], "somebody may be reading");
    let later = now.checked_add((8 * 24).hours()).expect("in range");
    let vacuumed = scene.lake.vacuum(week, &[pinned], later, false).await.expect("vacuumed");
    assert_eq!(vacuumed[0].files, 0, "the pinned version keeps them");
    assert_eq!(removed(later, true).await.expect("listed"), [2, 0]);
    assert_eq!(removed(later, false).await.expect("removed"), [2, 0]);
    assert_eq!(removed(later, false).await.expect("listed"), [0, 0]);
    assert_eq!(scene.there().await, [Range { from: 8, to: 21 }], "the newest version is whole");
    // What is left of the pinned version is what was filed under dates that are held.
    let old = scene.lake.events_at(pinned).await.expect("its log is there");
    assert!(archived(&old, None).await.is_err(), "its old files are gone");
    let held = datafusion::prelude::ident("event_date")
        .gt_eq(datafusion::prelude::lit(datafusion::scalar::ScalarValue::Date32(Some(20_668))));
    assert_eq!(archived(&old, Some(held)).await.expect("readable")[&0].ranges().count(), 1);
}
