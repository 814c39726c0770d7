//! Stores that older builds made become what this one needs, also when several nodes begin at the same time.

use std::time::Duration;

use anyhow::{Context, Result};
use reckon_schemas::access::{NewKey, Scope};
use reckon_serving::accounts::Accounts;
use reckon_tests::until;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyPool, AssertSqlSafe, SqlSafeStr};

use super::on_both_stores;
use super::scene::{Database, Keys, Scene, quick};

on_both_stores!(the_first_tables_and_what_is_in_them_become_the_newest, nodes_that_begin_at_once_all_begin);

/// As the first build made them.
const FIRST: &str = include_str!("../../../../serving/migrations/0001_accounts.sql");
const NODES: usize = 4;

/// The store of the first build, with a row in every table; a key that is in it.
async fn first_store(database: &Database, tenant: &Keys) -> Result<String> {
    // Which makes the file of SQLite.
    let url = if database.url.starts_with("sqlite") { &format!("{}?mode=rwc", database.url) } else { &database.url };
    sqlx::any::install_default_drivers();
    let pool = AnyPool::connect(url).await?;
    let first = Migration::new(1, "accounts".into(), MigrationType::Simple, FIRST.into_sql_str(), false);
    Migrator::with_migrations(vec![first]).run(&pool).await?;
    let NewKey { key, entry } = NewKey::from_random(rand::random(), vec![Scope::Read]);
    for statement in [
        "INSERT INTO quotas (tenant, live_clients_max) VALUES ('TENANT', 7)",
        "INSERT INTO access_keys (prefix, tenant, name, sha256, scopes, created_at, created_by) \
         VALUES ('PREFIX', 'TENANT', 'old', 'HASH', 'read', 1, 'operator')",
        "INSERT INTO users (id, email, password, created_at) VALUES ('ada', 'ada@example.com', 'HASH', 1)",
        "INSERT INTO identities (issuer, subject, user_id) VALUES ('https://example.com', '7', 'ada')",
        "INSERT INTO memberships (tenant, user_id, scopes, created_at) VALUES ('TENANT', 'ada', 'read', 1)",
        "INSERT INTO invitations (sha256, tenant, email, scopes, created_by, expires_at) \
         VALUES ('HASH', 'TENANT', 'bob@example.com', 'read', 'operator', 9000000000000000)",
        "INSERT INTO sessions (sha256, user_id, tenant, created_at, seen_at, expires_at) \
         VALUES ('HASH', 'ada', 'TENANT', 1, 1, 9000000000000000)",
        "INSERT INTO audit (id, tenant, at, actor, action, target, detail) \
         VALUES ('01', 'TENANT', 1, 'operator', 'user.set', 'ada', '{}')",
        "INSERT INTO documents (tenant, kind, id, name, body, revision, updated_at, updated_by) \
         VALUES ('TENANT', 'dashboard', 'old', 'Old', '{\"name\":\"Old\",\"charts\":[]}', 3, 1, 'operator')",
    ] {
        let statement = statement.replace("TENANT", &tenant.tenant);
        let statement = statement.replace("PREFIX", &entry.prefix).replace("HASH", &entry.sha256);
        sqlx::query(AssertSqlSafe(statement.clone())).execute(&pool).await.context(statement)?;
    }
    Ok(key)
}

async fn the_first_tables_and_what_is_in_them_become_the_newest(database: Database) -> Result<()> {
    let scene = Scene::new()?;
    let key = first_store(&database, &scene.acme).await?;
    let node = scene.plain_node(&database.url).await?;
    let get = async |path: &str| node.ask(Method::GET, path, &scene.acme.admin, None).await?.json();
    until("the key, which still opens", Duration::from_secs(10), async || {
        Ok(node.ask(Method::GET, "/v1/catalog", &key, None).await?.status == 200)
    })
    .await?;
    assert_eq!(get("/v1/quotas").await?["live_clients"]["max"], 7);
    let people = get("/v1/users").await?;
    assert_eq!(people["members"][0]["email"], "ada@example.com");
    assert_eq!(people["invitations"][0]["email"], "bob@example.com");
    assert_eq!(get("/v1/audit").await?["entries"][0]["action"], "user.set");
    let board = &get("/v1/dashboards").await?["dashboards"][0];
    assert_eq!((&board["name"], &board["revision"]), (&json!("Old"), &json!(3)));
    // What came later is there, and guards what was there before.
    let alert: Value = json!({ "name": "few", "metric": "purchases", "side": "below", "threshold": "1" });
    assert_eq!(node.ask(Method::POST, "/v1/alerts", &scene.acme.admin, Some(&alert)).await?.status, 201);
    let refused = sqlx::query("DELETE FROM audit").execute(&database.pool().await?).await;
    assert!(refused.is_err_and(|error| error.to_string().contains("only added to")));
    Ok(())
}

async fn nodes_that_begin_at_once_all_begin(database: Database) -> Result<()> {
    let scene = Scene::new()?;
    first_store(&database, &scene.acme).await?;
    // Two stores: one that has its first tables, and one that is empty.
    let empty = if database.url.starts_with("sqlite") { Database::sqlite()? } else { Database::postgres().await? };
    for url in [&database.url, &empty.url] {
        let open = || Accounts::open(reckon_serving::accounts::Tuning { url: Some(url.clone()), ..quick() });
        let nodes = (0..NODES).map(|_| open()).collect::<Result<Vec<_>, _>>()?;
        futures::future::try_join_all(nodes.iter().map(Accounts::prepare)).await?;
    }
    Ok(())
}
