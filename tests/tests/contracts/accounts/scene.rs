//! Two tenants with keys in the catalog, a configuration store, and serving nodes of this process.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reckon_schemas::access::{NewKey, Scope};
use reckon_schemas::catalog::{Catalog, Metric, Tenant};
use reckon_schemas::stores;
use reckon_schemas::time::Zone;
use reckon_serving::Config;
use reckon_serving::accounts::{Accounts, Tuning};
use reckon_tests::Stack;
use reckon_tests::postgres::Postgres;
use reqwest::header::HeaderMap;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use sqlx::{AnyPool, AssertSqlSafe};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// An empty database, gone when dropped.
pub(crate) struct Database {
    pub(crate) url: String,
    _server: Option<Arc<Postgres>>,
    _folder: Option<tempfile::TempDir>,
}

impl Database {
    pub(crate) fn sqlite() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let url = format!("sqlite://{}/accounts.db", folder.path().display());
        Ok(Self { url, _server: None, _folder: Some(folder) })
    }

    pub(crate) async fn postgres() -> Result<Self> {
        let server = Postgres::shared().await?;
        Ok(Self { url: server.database().await?, _server: Some(server), _folder: None })
    }

    /// The database as an operator sees it.
    pub(crate) async fn pool(&self) -> Result<AnyPool> {
        sqlx::any::install_default_drivers();
        Ok(AnyPool::connect(&self.url).await?)
    }

    /// Every row of every table, as text.
    pub(crate) async fn dump(&self) -> Result<String> {
        use sqlx::{Column, Row, ValueRef};
        let pool = self.pool().await?;
        let mut text = String::new();
        for table in [
            "access_keys",
            "users",
            "identities",
            "memberships",
            "invitations",
            "sessions",
            "audit",
            "documents",
            "alerts",
            "alert_events",
        ] {
            for row in sqlx::query(AssertSqlSafe(format!("SELECT * FROM {table}"))).fetch_all(&pool).await? {
                for column in row.columns() {
                    let value = row.try_get_raw(column.ordinal())?;
                    if !value.is_null() && value.type_info().to_string() == "TEXT" {
                        text += row.try_get::<&str, _>(column.ordinal())?;
                        text.push('\n');
                    }
                }
            }
        }
        Ok(text)
    }
}

/// See the module.
pub(crate) struct Scene {
    pub(crate) acme: Keys,
    pub(crate) other: Keys,
    /// What nodes follow.
    pub(crate) catalog: watch::Sender<Arc<Catalog>>,
    pub(crate) http: reqwest::Client,
}

/// A tenant's name and its keys in the catalog.
pub(crate) struct Keys {
    pub(crate) tenant: String,
    pub(crate) admin: String,
    pub(crate) read: String,
    pub(crate) write: String,
}

/// A running serving node; stops when dropped.
pub(crate) struct Node {
    pub(crate) url: String,
    pub(crate) accounts: Accounts,
    http: reqwest::Client,
    _stop: DropGuard,
}

/// Answers, as far as tests look at them.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) async fn read(response: Response) -> Result<Self> {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Self { status, headers, text: response.text().await? })
    }

    pub(crate) fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.text).with_context(|| format!("{} {}", self.status, self.text))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The session's cookie that it sets, as it is sent back.
    pub(crate) fn cookie(&self) -> Option<String> {
        let set = self.headers.get_all("set-cookie").iter().filter_map(|value| value.to_str().ok());
        let pairs = set.filter_map(|cookie| cookie.split(';').next()).filter(|pair| !pair.ends_with('='));
        let pairs: Vec<&str> = pairs.collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }
}

impl Scene {
    pub(crate) fn new() -> Result<Self> {
        let id = uuid::Uuid::new_v4().simple().to_string()[..10].to_owned();
        let (acme, acme_tenant) = tenant(&format!("a{id}"))?;
        let (other, other_tenant) = tenant(&format!("b{id}"))?;
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(30))
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let catalog = Arc::new(Catalog { tenants: vec![acme_tenant, other_tenant] });
        Ok(Self { acme, other, catalog: watch::Sender::new(catalog), http })
    }

    /// A node on this database, with sections of the configuration as given.
    pub(crate) async fn node(&self, database: &str, tuning: Tuning, serve: reckon_serving::Tuning) -> Result<Node> {
        let stack = Stack::shared()?;
        let accounts = Accounts::open(Tuning { url: Some(database.to_owned()), ..tuning })?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let shutdown = CancellationToken::new();
        let config = Config {
            redis: stores::Redis { url: stack.redis.clone() },
            clickhouse: stores::ClickHouse { url: stack.clickhouse.clone(), ..stores::ClickHouse::default() },
            lake: stores::Lake::at("file:///nowhere"),
            raw_retention: Duration::from_secs(7 * 86_400),
            seconds_retention: Duration::from_secs(600),
            kafka: stores::Kafka::default(),
            catalog: self.catalog.subscribe(),
            accounts: accounts.clone(),
            tuning: serve,
            extra_openapi: Vec::new(),
        };
        tokio::spawn(reckon_serving::run(config, listener, shutdown.clone()));
        let node = Node { url, accounts, http: self.http.clone(), _stop: shutdown.drop_guard() };
        reckon_tests::until("the configuration store", Duration::from_secs(20), async || {
            Ok(node.ask(Method::GET, "/v1/keys", &self.acme.admin, None).await?.status == 200)
        })
        .await?;
        Ok(node)
    }

    /// The same as everybody has it.
    pub(crate) async fn plain_node(&self, database: &str) -> Result<Node> {
        self.node(database, quick(), reckon_serving::Tuning::default()).await
    }
}

/// Everything happens sooner, and over HTTP.
pub(crate) fn quick() -> Tuning {
    Tuning { refresh: Duration::from_millis(200), secure_cookies: false, ..Tuning::default() }
}

impl Node {
    /// Asks with a key.
    pub(crate) async fn ask(&self, method: Method, path: &str, key: &str, body: Option<&Value>) -> Result<Answer> {
        self.send(method, path, &[("authorization", &format!("Bearer {key}"))], body).await
    }

    /// The items of a list, and the pages that they are on. In one page they are the same ones, and what is no page is
    /// refused.
    pub(crate) async fn pages(
        &self,
        path: &str,
        name: &str,
        key: &str,
        limit: usize,
    ) -> Result<(Vec<Value>, Vec<Value>)> {
        let (mut items, mut pages) = (Vec::new(), Vec::new());
        let mut next = Some(format!("{path}?limit={limit}"));
        while let Some(path_of_page) = next {
            let page = self.ask(Method::GET, &path_of_page, key, None).await?.json()?;
            let on_page = page[name].as_array().with_context(|| page.to_string())?;
            ensure!((1..=limit).contains(&on_page.len()), "{page}");
            items.extend(on_page.clone());
            next = page["next"].as_str().map(|next| format!("{path}?limit={limit}&after={next}"));
            pages.push(page);
        }
        let whole = self.ask(Method::GET, path, key, None).await?.json()?;
        ensure!(whole[name] == json!(items) && whole["next"].is_null(), "{whole} {items:?}");
        for wrong in ["limit=0", "limit=1001", "after=1", "before=1", "offset=1"] {
            let answer = self.ask(Method::GET, &format!("{path}?{wrong}"), key, None).await?;
            ensure!(answer.status == 400, "{path} {wrong}: {}", answer.text);
        }
        Ok((items, pages))
    }

    /// Asks with headers.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer> {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        Answer::read(request.send().await?).await
    }
}

fn tenant(id: &str) -> Result<(Keys, Tenant)> {
    let key = |scopes: &[Scope]| NewKey::from_random(rand::random(), scopes.to_vec());
    let (admin, read, write) = (key(&[Scope::Admin, Scope::Read]), key(&[Scope::Read]), key(&[Scope::Write]));
    let keys = Keys { tenant: id.to_owned(), admin: admin.key, read: read.key, write: write.key };
    let tenant = Tenant {
        rollups: vec!["department".parse()?],
        metrics: vec![Metric::count("purchases", "purchase")],
        keys: vec![admin.entry, read.entry, write.entry],
        ..Tenant::new(id.parse()?, Zone::parse("America/New_York")?)
    };
    Ok((keys, tenant))
}
