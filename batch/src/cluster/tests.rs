//! A cluster against this process, on the same lake: a scheduler and two executors as they run anywhere.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use jiff::civil::{Date, date};
use reckon_schemas::stores;
use reckon_schemas::time::{EventTime, Zone};
use tokio_util::sync::CancellationToken;

use super::{Engine, Executor, run_executor, run_scheduler};
use crate::archive::tests::archive_messages;
use crate::count::tests::{TOPIC, counting, event, tenant};
use crate::count::{Counted, Counter, Days};
use crate::lake::Lake;
use crate::reconcile::Drift;
use crate::recount::{Budget, Contradiction, Groups};
use crate::settle::SpeedCut;

fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("bound")
}

/// Starts a scheduler and two executors, which end with the test's runtime.
async fn start(dir: &tempfile::TempDir, lake: &stores::Lake) -> Engine {
    let scheduler = free_address();
    let shared = lake.clone();
    tokio::spawn(async move { run_scheduler(scheduler, &shared, CancellationToken::new()).await });
    for number in 0..2 {
        let executor = Executor {
            scheduler: (scheduler.ip().to_string(), scheduler.port()),
            listen: free_address(),
            host: None,
            work_dir: dir.path().join(format!("executor-{number}")),
            cores: 1,
            memory_bytes: Some(1 << 30),
        };
        let shared = lake.clone();
        tokio::spawn(async move { run_executor(executor, &shared).await });
    }
    while tokio::net::TcpStream::connect(scheduler).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Engine::Ballista(scheduler.to_string())
}

async fn count(
    counter: &Counter<'_>,
    days: &[Date],
    deliveries: &BTreeMap<Date, u64>,
    cut: &SpeedCut,
    groups: &mut Groups,
) -> (Counted, Vec<Contradiction>) {
    let budget = Budget::new(1 << 24);
    let firsts = counter.first_deliveries(days, deliveries, &budget).await.expect("found");
    let asked = Days { days, deliveries, firsts: &firsts, cut: Some(cut), settled: &BTreeMap::new() };
    let counted = counter.count(&asked, groups, &budget).await.expect("counted");
    (counted, firsts.firsts.contradictions().to_vec())
}

/// By day and names: every difference between the layers.
fn drifts(counted: &Counted, groups: &Groups) -> BTreeMap<String, Vec<Drift>> {
    let name = |group: u32| format!("{} {:?}", groups.rollup_of(group).name(), groups.get(group));
    counted.drift.iter().map(|cell| (format!("{} {}", cell.day, name(cell.group)), cell.drifts.clone())).collect()
}

fn hashes(counted: &Counted) -> Vec<(Date, u64, u64, String)> {
    let day = |day: &crate::settle::Settlement| (day.day, day.deliveries, day.events, day.content_hash.clone());
    counted.settlements.iter().map(day).collect()
}

fn listed(counted: &Counted) -> Vec<(Date, u128)> {
    let mut users: Vec<_> = counted.cells.users_of_days().map(|(cell, user)| (cell.day, user)).collect();
    users.sort_unstable();
    users
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_counts_and_compares_as_this_process_does() {
    let dir = tempfile::tempdir().expect("a folder");
    let lake_dir = tempfile::tempdir().expect("a folder");
    let (mut here, mut there) = (counting(&lake_dir).await, counting(&lake_dir).await);
    let store = stores::Lake::at(format!("file://{}", lake_dir.path().display()));
    let engine = start(&dir, &store).await;
    let table = Lake::open(&store).await.expect("a lake").events().await.expect("its events");
    let tenant = tenant();
    let elsewhere = Counter::new(&engine, &table, &tenant).await.expect("a cluster");
    assert_eq!(elsewhere.deliveries_by_day().await.expect("surveyed"), here.by_day);
    let local = Counter::new(&Engine::Local, &table, &tenant).await.expect("readable");
    let (days, deliveries) = (here.days.clone(), here.by_day.clone());
    // The speed layer has read nothing, half of the log, all of it.
    for (next, days) in [(0, &days[1..2]), (150, &days[..]), (10_000, &days[..])] {
        let (cut, same_cut) = (here.speed(next), there.speed(next));
        let (expected, contradictions) = count(&local, days, &deliveries, &cut, &mut here.groups).await;
        let (counted, found) = count(&elsewhere, days, &deliveries, &same_cut, &mut there.groups).await;
        assert!(!contradictions.is_empty() && found == contradictions);
        assert_eq!(hashes(&counted), hashes(&expected));
        assert_eq!(listed(&counted), listed(&expected));
        assert_eq!(drifts(&counted, &there.groups), drifts(&expected, &here.groups));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_users_and_hours_in_two_days_are_the_same_on_a_cluster() {
    let (dir, lake_dir) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let store = stores::Lake::at(format!("file://{}", lake_dir.path().display()));
    let zone = Zone::parse("Asia/Kolkata").expect("known");
    let mut tenant = tenant();
    // An hour of universal time around midnight there.
    let midnight = zone.day_start(date(2026, 7, 21)).0;
    tenant.time_zone = zone;
    tenant.rollups.push("country,department".parse().expect("valid"));
    tenant.rollups.push("department,country".parse().expect("valid"));
    let message = |id: u32| {
        let mut event = event("acme", id, EventTime(midnight - 1_700_000_000 + i64::from(id) * 400_000));
        event.user = format!("user {id}").into();
        event.properties.insert("country", if id.is_multiple_of(3) { "IN" } else { "LK" });
        (0, i64::from(id), event.encode())
    };
    let messages: Vec<_> = (0..6000).map(message).collect();
    archive_messages(&store, TOPIC, &messages).await;
    let engine = start(&dir, &store).await;
    let table = Lake::open(&store).await.expect("a lake").events().await.expect("its events");
    let local = Counter::new(&Engine::Local, &table, &tenant).await.expect("readable");
    let elsewhere = Counter::new(&engine, &table, &tenant).await.expect("a cluster");
    let deliveries = local.deliveries_by_day().await.expect("readable");
    assert_eq!(elsewhere.deliveries_by_day().await.expect("surveyed"), deliveries);
    let days: Vec<Date> = deliveries.keys().copied().collect();
    assert_eq!(days, [date(2026, 7, 20), date(2026, 7, 21)]);
    let cut = SpeedCut::default();
    let groups = || Groups::new(tenant.counted_rollups());
    let (expected, _) = count(&local, &days, &deliveries, &cut, &mut groups()).await;
    let (counted, _) = count(&elsewhere, &days, &deliveries, &cut, &mut groups()).await;
    assert_eq!(hashes(&counted), hashes(&expected));
}

#[test]
fn engines_are_named_by_their_schedulers() {
    for (text, engine) in [
        ("local", Some(Engine::Local)),
        ("ballista://host:50050", Some(Engine::Ballista("host:50050".to_owned()))),
        ("ballista://[::1]:1/", Some(Engine::Ballista("[::1]:1".to_owned()))),
        ("ballista://host", None),
        ("ballista://:1", None),
        ("http://host:1", None),
    ] {
        assert_eq!(text.parse::<Engine>().ok(), engine, "{text}");
    }
}
