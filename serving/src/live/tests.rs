//! How feeds begin and end, where no store is there.

use std::time::Duration;

use reckon_schemas::catalog::Catalog;
use reckon_schemas::stores;
use reckon_schemas::time::Zone;

use super::*;
use crate::access::Limits;
use crate::accounts::{self, Accounts};
use crate::lake::{self, Lake};
use crate::query::{Evaluator, Retention};
use crate::stores::{Bounds, Stores};

fn tenant() -> Arc<Tenant> {
    Arc::new(Tenant {
        id: "acme".parse().expect("valid"),
        time_zone: Zone::UTC,
        rollups: vec![],
        metrics: vec![],
        keys: vec![],
        dimension_values_max: Tenant::DIMENSION_VALUES_MAX,
        events_per_second_max: None,
    })
}

/// Nobody listens on port 9 of this machine.
fn hub() -> Hub {
    let tuning = Arc::new(Tuning::default());
    let clickhouse = stores::ClickHouse {
        url: "http://127.0.0.1:9".to_owned(),
        database: "nothing".to_owned(),
        user: None,
        password: None,
    };
    let redis = stores::Redis { url: "redis://127.0.0.1:9/".to_owned() };
    let (query_timeout, redis_timeout) = (Duration::from_secs(1), Duration::from_secs(1));
    let bounds = Bounds { rows_max: 1, result_bytes_max: 1 << 20, query_timeout, redis_timeout };
    let stores = Stores::new(&clickhouse, &redis, "events".to_owned(), bounds).expect("addresses");
    let limits = lake::Limits { rows_max: 1, memory_bytes: 1 << 20, numbers_max: 1, cache_numbers: 1 };
    let lake = Lake::new(stores::Lake::at("file:///nowhere"), limits).expect("an engine");
    let url = Some("sqlite:///nowhere/accounts.db".to_owned());
    let accounts = Accounts::open(accounts::Tuning { url, ..accounts::Tuning::default() }).expect("not used");
    let evaluator = Evaluator::new(
        stores,
        lake,
        Retention { seconds: Duration::ZERO, raw: Duration::ZERO },
        accounts.metrics(),
        tuning.clone(),
    );
    let limits = Limits {
        queries_per_second_max: 1,
        live_clients_max: 1,
        rows_per_minute_max: 1,
        evaluations_max: 1,
        event_evaluations_max: 1,
        waiting_max: 1,
    };
    let catalog = Arc::new(Catalog { tenants: vec![] });
    let access = Arc::new(Access::new(watch::channel(catalog).1, accounts, limits));
    Hub::new(Answers::new(evaluator, tuning.clone()), access, tuning, CancellationToken::new())
}

fn query() -> Query {
    let pairs = [("metric_text", "count(*)"), ("grain", "1m")];
    Query::parse(&pairs.map(|(name, value)| (name.to_owned(), value.to_owned()))).expect("a question")
}

impl Hub {
    fn feeds(&self) -> usize {
        self.lock().values().map(|watched| watched.feeds.len()).sum()
    }

    /// A feed that nobody evaluates yet.
    fn list(&self) -> Listed {
        let listed = Listed { hub: self.clone(), tenant: tenant(), query: query(), feed: Arc::new(Feed::new()) };
        let mut tenants = self.lock();
        let watched = tenants.entry(listed.tenant.id.clone()).or_default();
        watched.feeds.insert(query(), listed.feed.clone());
        drop(tenants);
        listed
    }
}

async fn told(subscription: &mut Subscription) -> Result<(), u16> {
    let ready = tokio::time::timeout(Duration::from_secs(20), subscription.ready()).await.expect("it is told");
    ready.map_err(|problem| problem.status)
}

#[tokio::test]
async fn a_panic_is_told_to_who_watches_and_the_question_can_be_asked_again() {
    let hub = hub();
    let listed = hub.list();
    let mut watcher = hub.subscribe(query(), &tenant()).expect("a place");
    assert_eq!(hub.feeds(), 1, "it joins the feed that there is");
    let work = async move {
        let _listed = listed;
        panic!("on purpose");
    };
    assert!(tokio::spawn(work).await.is_err_and(|error| error.is_panic()));
    assert_eq!(told(&mut watcher).await, Err(500));
    assert_eq!(hub.feeds(), 0);
    let mut again = hub.subscribe(query(), &tenant()).expect("a place");
    assert_eq!(told(&mut again).await, Err(503), "it is evaluated, and no store is there");
}

#[tokio::test]
async fn a_feed_that_ends_leaves_its_successor_alone() {
    let hub = hub();
    let (first, second) = (hub.list(), hub.list());
    drop(first);
    assert_eq!(hub.feeds(), 1);
    drop(second);
    assert_eq!(hub.feeds(), 0);
}

#[tokio::test]
async fn at_shutdown_nobody_waits_for_an_answer() {
    let hub = hub();
    let mut watcher = hub.subscribe(query(), &tenant()).expect("a place");
    hub.shutdown.cancel();
    assert_eq!(told(&mut watcher).await, Err(503));
    tokio::time::timeout(Duration::from_secs(20), async {
        while hub.feeds() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("it is struck off the list");
}

#[test]
fn a_question_that_is_asked_while_the_runtime_ends_blocks_nobody() {
    /// Asks when it is dropped, which happens as the runtime ends.
    struct Late(Hub);
    impl Drop for Late {
        fn drop(&mut self) {
            drop(self.0.subscribe(query(), &tenant()));
        }
    }
    let (ended, waiting) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let hub = runtime.block_on(async { hub() });
        let late = Late(hub.clone());
        runtime.spawn(async move {
            let _late = late;
            std::future::pending::<()>().await;
        });
        drop(runtime);
        ended.send(hub.feeds()).expect("it waits");
    });
    assert_eq!(waiting.recv_timeout(Duration::from_secs(20)), Ok(0), "it is struck off, and nothing hangs");
}
