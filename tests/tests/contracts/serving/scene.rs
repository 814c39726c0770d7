//! Two tenants, three days of purchases, and a serving node of this process.
//!
//! | day | batch | speed |
//! |---|---|---|
//! | 2026-03-07 | 1,000.00 GROCERY + 500.00 DRUG, users 0 to 59 and 40 to 99 | other numbers, to be ignored |
//! | 2026-03-08 (23 hours) | first 1.00, then restated 2,000.00 GROCERY, users 50 to 149 | other numbers, to be ignored |
//! | 2026-03-09 | nothing | partition 0: 30.00 GROCERY, users 0 to 9; partition 1: 4.00 DRUG, users 200 to 204 |

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use reckon_schemas::access::{NewKey, Scope};
use reckon_schemas::catalog::{Catalog, Metric, Tenant};
use reckon_schemas::cell::DimensionValues;
use reckon_schemas::clickhouse::MIGRATIONS;
use reckon_schemas::ids::user_key;
use reckon_schemas::kafka::Topics;
use reckon_schemas::redis_keys::{self, CellTotals};
use reckon_schemas::sketch::Sketch;
use reckon_schemas::stores;
use reckon_schemas::sums::{Sums, Unit};
use reckon_schemas::time::{EventTime, Zone};
use reckon_schemas::window::Grain;
use reckon_serving::accounts::{self, Accounts};
use reckon_serving::{Config, Tuning};
use reckon_tests::Stack;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A value that only the other tenant's rows contain.
pub(super) const CANARY: &str = "CANARY-OF-THE-OTHER-TENANT";

/// Every purchase is of one and a half items, in millionths.
pub(super) const ITEMS_OF_ONE: i128 = 1_500_000;

/// The three days' windows.
pub(super) const FIRST: (&str, &str) = ("2026-03-07 05:00:00", "2026-03-08 05:00:00");
pub(super) const SECOND: (&str, &str) = ("2026-03-08 05:00:00", "2026-03-09 04:00:00");
pub(super) const THIRD: (&str, &str) = ("2026-03-09 04:00:00", "2026-03-10 04:00:00");

pub(super) struct Scene {
    pub(super) tenant: String,
    pub(super) read_key: String,
    pub(super) finance_key: String,
    pub(super) write_key: String,
    pub(super) other_key: String,
    pub(super) clickhouse: stores::ClickHouse,
    pub(super) redis: stores::Redis,
    topic: String,
    pub(super) catalog: Arc<Catalog>,
    http: reqwest::Client,
    folder: tempfile::TempDir,
}

/// A running serving node; stops when dropped.
pub(super) struct Node {
    pub(super) url: String,
    pub(super) http: reqwest::Client,
    /// Changes what it knows.
    pub(super) catalog: watch::Sender<Arc<Catalog>>,
    _stop: DropGuard,
}

impl Scene {
    /// Databases, tables and rows.
    pub(super) async fn new() -> Result<Self> {
        let stack = Stack::shared()?;
        let id = uuid::Uuid::new_v4().simple().to_string()[..10].to_owned();
        let key = |scope| NewKey::from_random(rand::random(), vec![scope]);
        let (read, finance, write) = (key(Scope::Read), key(Scope::Finance), key(Scope::Write));
        let other = NewKey::from_random(rand::random(), vec![Scope::Read, Scope::Finance]);
        let tenant = format!("a{id}");
        let catalog = Catalog {
            tenants: vec![
                test_tenant(&tenant, vec![read.entry, finance.entry, write.entry])?,
                test_tenant(&format!("b{id}"), vec![other.entry])?,
            ],
        };
        let scene = Self {
            tenant,
            read_key: read.key,
            finance_key: finance.key,
            write_key: write.key,
            other_key: other.key,
            clickhouse: stores::ClickHouse {
                url: stack.clickhouse.clone(),
                database: format!("serving_{id}"),
                user: None,
                password: None,
            },
            redis: stores::Redis { url: stack.redis.clone() },
            topic: format!("events-{id}"),
            catalog: Arc::new(catalog),
            http: reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?,
            folder: tempfile::tempdir()?,
        };
        let database = &scene.clickhouse.database;
        scene.execute("default", &format!("CREATE DATABASE {database}")).await?;
        for statement in MIGRATIONS.iter().flat_map(|migration| migration.statements()) {
            scene.sql(statement).await?;
        }
        scene.settle().await?;
        scene.count_provisionally().await?;
        Ok(scene)
    }

    /// A node on these stores that looks at everything anew for every question about what can still move.
    pub(super) async fn serve(&self, clickhouse: &stores::ClickHouse, redis: &stores::Redis) -> Result<Node> {
        let tuning = Tuning {
            live_interval: Duration::from_millis(50),
            standing_interval: Duration::ZERO,
            cache_moving: Duration::ZERO,
            cache_recent: Duration::ZERO,
            cache_history: Duration::ZERO,
            ..Tuning::default()
        };
        self.serve_with(clickhouse, redis, tuning).await
    }

    /// A node on these stores.
    pub(super) async fn serve_with(
        &self,
        clickhouse: &stores::ClickHouse,
        redis: &stores::Redis,
        tuning: Tuning,
    ) -> Result<Node> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let shutdown = CancellationToken::new();
        let topics = Topics { events: self.topic.clone(), ..Topics::default() };
        let (catalog, followed) = watch::channel(self.catalog.clone());
        let config = Config {
            redis: redis.clone(),
            clickhouse: clickhouse.clone(),
            lake: stores::Lake::at("file:///nowhere"),
            // All questions about single events are about raw ones; there is no lake.
            raw_retention: Duration::from_secs(100 * 366 * 86_400),
            seconds_retention: Duration::from_secs(600),
            kafka: stores::Kafka { topics, ..stores::Kafka::default() },
            catalog: followed,
            accounts: self.accounts()?,
            tuning,
            extra_openapi: Vec::new(),
        };
        tokio::spawn(reckon_serving::run(config, listener, shutdown.clone()));
        Ok(Node { url, http: self.http.clone(), catalog, _stop: shutdown.drop_guard() })
    }

    /// The configuration store, as whoever runs the node sees it.
    pub(super) fn accounts(&self) -> Result<Accounts> {
        let url = Some(format!("sqlite://{}/accounts.db", self.folder.path().display()));
        Ok(Accounts::open(accounts::Tuning { url, ..accounts::Tuning::default() })?)
    }

    /// Totals of partition 1 for the third day in Redis, 6 purchases of users 200 to 205 in DRUG, and the announcement.
    pub(super) async fn flush_to_redis(&self, version: i64, cents: i128) -> Result<()> {
        let client = redis::Client::open(self.redis.url.as_str())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let zone = Zone::parse("America/New_York")?;
        let window = Grain::Day.window_at(at("2026-03-09T16:00:00Z")?, &zone);
        let mut sums = Sums::new();
        sums.add("USD".parse::<Unit>()?, cents)?;
        sums.add("#quantity".parse::<Unit>()?, 6 * ITEMS_OF_ONE)?;
        let totals = CellTotals { version, count: 6, sums, users: None }.encode();
        let sketch = sketch(200..206).to_redis();
        let mut write = redis::pipe();
        for (rollup, values) in [("total", DimensionValues::default()), ("department", DimensionValues::new(&["DRUG"]))]
        {
            let key = redis_keys::cells(&self.tenant, &window, rollup, "purchase");
            write.hset(key, redis_keys::cell_field(1, &values), &totals).ignore();
            let key = redis_keys::users(&self.tenant, &window, rollup, "purchase", 1, &values);
            write.set(key, &sketch[..]).ignore();
        }
        write.publish(redis_keys::changes_channel(&self.tenant), "{}").ignore();
        write.query_async::<()>(&mut connection).await?;
        Ok(())
    }

    async fn settle(&self) -> Result<()> {
        let (first, second) = (("2026-03-07", FIRST), ("2026-03-08", SECOND));
        for (day, run, department, cents, users) in [
            (first, "run-1", Some("GROCERY"), 100_000, 0..60),
            (first, "run-1", Some("DRUG"), 50_000, 40..100),
            (first, "run-1", None, 150_000, 0..100),
            (second, "run-1", Some("GROCERY"), 100, 0..1),
            (second, "run-1", None, 100, 0..1),
            (second, "run-2", Some("GROCERY"), 200_000, 50..150),
            (second, "run-2", None, 200_000, 50..150),
            // A run that never became visible.
            (second, "run-3", Some("GROCERY"), 999_999, 0..500),
            (second, "run-3", None, 999_999, 0..500),
        ] {
            self.settled_cell(day, run, department, cents, users).await?;
        }
        for (day, run, state, at) in [
            (first, "run-1", "settled", "2026-03-09 06:00:00"),
            (second, "run-1", "settled", "2026-03-09 06:00:00"),
            (second, "run-2", "restated", "2026-03-09 07:00:00"),
        ] {
            self.settlement(day, run, (state, 0), at).await?;
        }
        let tenant = &self.tenant;
        self.sql(&format!(
            "INSERT INTO drift VALUES \
             ('{tenant}', 'run-2', '2026-03-08', 'total', 'purchase', [], 'money', 'USD', 199000, 200000, \
              map('late', -1500, 'duplicate', 500), 0, 0), \
             ('{tenant}', 'run-2', '2026-03-08', 'department', 'purchase', ['GROCERY'], 'count', '', 9, 10, \
              map('late', -1), 0, 0)"
        ))
        .await
    }

    /// A day is settled by a run: its state and generation, and when.
    pub(super) async fn settlement(
        &self,
        (day, (start, end)): (&str, (&str, &str)),
        run: &str,
        (state, generation): (&str, u32),
        at: &str,
    ) -> Result<()> {
        let tenant = &self.tenant;
        self.sql(&format!(
            "INSERT INTO settlements (tenant, day, run_id, state, window_start, window_end, deliveries, events, \
             lake_version, content_hash, residual_cells, settled_at, generation) VALUES ('{tenant}', '{day}', '{run}', \
             '{state}', '{start}', '{end}', 101, 100, 7, 'hash', 0, '{at}', {generation})"
        ))
        .await
    }

    /// One purchase per user; in the rollup without dimensions if there is no department.
    pub(super) async fn settled_cell(
        &self,
        (day, (start, end)): (&str, (&str, &str)),
        run: &str,
        department: Option<&str>,
        cents: i64,
        users: Range<u32>,
    ) -> Result<()> {
        let tenant = &self.tenant;
        let count = users.len();
        let state = hex(&sketch(users.clone()).to_clickhouse());
        let keys: Vec<String> = users.map(|user| user_key(tenant, &name(user)).to_string()).collect();
        let (rollup, dimensions) = rollup(department);
        self.sql(&format!(
            "INSERT INTO settled_cells_raw VALUES ('{tenant}', '{rollup}', '1d', '{start}', '{end}', 'purchase', \
             {dimensions}, '{day}', '{run}', {count}, map('USD', {cents}, '#quantity', {count} * {ITEMS_OF_ONE}), {count}, unhex('{state}'))"
        ))
        .await?;
        self.sql(&format!(
            "INSERT INTO settled_users SELECT '{tenant}', '{rollup}', 'purchase', {dimensions}, '{day}', '{run}', \
             arrayJoin([{}]::Array(UInt128))",
            keys.join(",")
        ))
        .await
    }

    async fn count_provisionally(&self) -> Result<()> {
        let (tenant, other) = (&self.tenant, &self.catalog.tenants[1].id);
        for (tenant, (start, end), department, partition, version, count, cents, users) in [
            (tenant.as_str(), FIRST, "GROCERY", 0, 5, 1, 1, 0..1),
            (tenant.as_str(), THIRD, "GROCERY", 0, 8, 9, 2_900, 0..9),
            (tenant.as_str(), THIRD, "GROCERY", 0, 9, 10, 3_000, 0..10),
            (tenant.as_str(), THIRD, "DRUG", 1, 4, 5, 400, 200..205),
            (other.as_str(), THIRD, CANARY, 0, 9, 10, 7_777_777, 0..10),
        ] {
            let state = hex(&sketch(users).to_clickhouse());
            for (rollup, dimensions) in [rollup(Some(department)), rollup(None)] {
                self.sql(&format!(
                    "INSERT INTO speed_cells_raw VALUES ('{tenant}', '{rollup}', '1d', '{start}', '{end}', 'purchase', \
                     {dimensions}, {partition}, {version}, {count}, \
                     map('USD', {cents}, '#quantity', {count} * {ITEMS_OF_ONE}), unhex('{state}'))"
                ))
                .await?;
            }
        }
        let topic = &self.topic;
        self.sql(&format!(
            "INSERT INTO speed_progress (topic, partition, next_offset, watermark, written_at) VALUES \
             ('{topic}', 0, 9, '2026-03-09 20:00:00', now64(3)), \
             ('{topic}', 1, 4, '2026-03-09 19:00:00', now64(3)), ('{topic}', 2, 0, NULL, now64(3))"
        ))
        .await
    }

    pub(super) async fn sql(&self, statement: &str) -> Result<()> {
        self.execute(&self.clickhouse.database, statement).await
    }

    async fn execute(&self, database: &str, statement: &str) -> Result<()> {
        let request = self.http.post(&self.clickhouse.url).query(&[("database", database)]);
        let answer = request.body(statement.to_owned()).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{status} {text}\n{statement}");
        Ok(())
    }
}

impl Node {
    /// Asks with a key; the status, and the body as JSON.
    pub(super) async fn ask(&self, key: &str, path: &str) -> Result<(u16, Value)> {
        let answer = self.http.get(format!("{}{path}", self.url)).bearer_auth(key).send().await?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// Asks with a body; the status, and the answer's body as JSON.
    pub(super) async fn post_to(&self, key: &str, path: &str, body: &Value) -> Result<(u16, Value)> {
        let answer = self.http.post(format!("{}{path}", self.url)).bearer_auth(key).json(body).send().await?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// Opens a stream.
    pub(super) async fn open(&self, key: &str, path: &str, last: Option<&str>) -> Result<reqwest::Response> {
        let mut request = self.http.get(format!("{}{path}", self.url)).bearer_auth(key);
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        Ok(request.send().await?)
    }
}

/// The rollup's name and the dimension values in SQL.
fn rollup(department: Option<&str>) -> (&'static str, String) {
    match department {
        Some(department) => ("department", format!("['{department}']")),
        None => ("total", "[]::Array(String)".to_owned()),
    }
}

pub(super) fn at(text: &str) -> Result<EventTime> {
    Ok(EventTime::from_timestamp(text.parse()?))
}

fn name(user: u32) -> String {
    format!("user-{user}")
}

pub(super) fn sketch(users: Range<u32>) -> Sketch {
    let mut sketch = Sketch::new();
    users.for_each(|user| sketch.insert(name(user).as_bytes()));
    sketch
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn test_tenant(id: &str, keys: Vec<reckon_schemas::access::AccessKey>) -> Result<Tenant> {
    Ok(Tenant {
        rollups: vec!["department".parse()?],
        metrics: vec![
            Metric::money("revenue", "purchase", "USD".parse()?),
            Metric::count("purchases", "purchase"),
            Metric::users("households", "purchase"),
            Metric::sum("items", "purchase", "quantity"),
            Metric::active_users("active", Metric::ANY_EVENT),
            Metric::active_users("active_buyers", "purchase"),
            Metric { limit: Some(3), ..Metric::top("pages", "view", "page") },
        ],
        keys,
        ..Tenant::new(id.parse()?, Zone::parse("America/New_York")?)
    })
}
