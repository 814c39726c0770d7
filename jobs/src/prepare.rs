//! Makes the topics and the tables that are missing. Safe to run at any time, by any number of processes.

use std::time::Duration;

use anyhow::{Context, bail};
use clickhouse::Client;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;
use reckon_schemas::clickhouse::{MIGRATIONS, raw_events_ttl, speed_cells_ttl};
use reckon_schemas::stores::{ClickHouse, Kafka};
use tokio_util::sync::CancellationToken;

use crate::config::Settings;

const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Topics and tables. Waits for servers that are not up yet, until shutdown.
///
/// # Errors
/// When a server refuses what is asked of it.
pub(crate) async fn everything(settings: &Settings, shutdown: &CancellationToken) -> anyhow::Result<()> {
    until_reachable("Kafka", shutdown, || topics(&settings.kafka)).await?;
    until_reachable("ClickHouse", shutdown, || tables(&settings.clickhouse)).await?;
    until_reachable("ClickHouse", shutdown, || retention(settings)).await
}

/// A server that is away comes back; one that answers with a refusal does not change its mind.
async fn until_reachable<F: Future<Output = Result<(), Attempt>>>(
    server: &str,
    shutdown: &CancellationToken,
    attempt: impl Fn() -> F,
) -> anyhow::Result<()> {
    let mut told = false;
    loop {
        match attempt().await {
            Ok(()) => return Ok(()),
            Err(Attempt::Refused(error)) => return Err(error.context(format!("preparing {server}"))),
            Err(Attempt::Away(error)) => {
                if !told {
                    tracing::warn!("waiting for {server}: {error:#}");
                    told = true;
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(RETRY_DELAY) => {}
        }
    }
}

enum Attempt {
    Away(anyhow::Error),
    Refused(anyhow::Error),
}

async fn topics(kafka: &Kafka) -> Result<(), Attempt> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", &kafka.brokers)
        .create()
        .context("creating the Kafka client")
        .map_err(Attempt::Refused)?;
    let topics = [(&kafka.topics.events, kafka.topics.partitions), (&kafka.topics.rejected, 1)];
    // -1: as many replicas as the broker's own default says. The log keeps the time that the collector wrote.
    let new = topics.map(|(name, partitions)| NewTopic::new(name, partitions, TopicReplication::Fixed(-1)));
    let options = AdminOptions::new().operation_timeout(Some(ATTEMPT_TIMEOUT)).request_timeout(Some(ATTEMPT_TIMEOUT));
    let results = admin.create_topics(&new, &options).await.context("asking for topics").map_err(Attempt::Away)?;
    for result in results {
        match result {
            Ok(name) => tracing::info!(topic = name, "topic made"),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((name, error)) => return Err(Attempt::Refused(anyhow::anyhow!("topic {name}: {error}"))),
        }
    }
    Ok(())
}

/// A client for the configured server and database.
pub(crate) fn clickhouse_client(clickhouse: &ClickHouse) -> Client {
    let mut client = Client::default()
        .with_url(&clickhouse.url)
        .with_database(&clickhouse.database)
        .with_setting("async_insert", "0");
    if let Some(user) = &clickhouse.user {
        client = client.with_user(user);
    }
    if let Some(password) = &clickhouse.password {
        client = client.with_password(password);
    }
    client
}

async fn tables(clickhouse: &ClickHouse) -> Result<(), Attempt> {
    check_name(&clickhouse.database).map_err(Attempt::Refused)?;
    let client = clickhouse_client(clickhouse);
    let database = format!("CREATE DATABASE IF NOT EXISTS `{}`", clickhouse.database);
    // The database may not exist yet, so this one statement must not select it.
    execute(&client.clone().with_database("default"), &database).await?;
    // The first step makes the table `migrations` and can be repeated, so it needs no look before it.
    let mut applied: Vec<u32> = vec![];
    for migration in MIGRATIONS {
        if applied.contains(&migration.version) {
            continue;
        }
        for statement in migration.statements() {
            execute(&client, statement).await?;
        }
        if migration.version == 1 {
            applied = client.query("SELECT version FROM migrations").fetch_all().await.map_err(classify)?;
        }
        if !applied.contains(&migration.version) {
            client
                .query("INSERT INTO migrations (version, name) SELECT {version:UInt32}, {name:String}")
                .param("version", migration.version)
                .param("name", migration.name)
                .execute()
                .await
                .map_err(classify)?;
            tracing::info!(version = migration.version, name = migration.name, "migration applied");
        }
    }
    Ok(())
}

/// Gives rows the lifetimes that are configured.
async fn retention(settings: &Settings) -> Result<(), Attempt> {
    let client = clickhouse_client(&settings.clickhouse);
    keep(&client, "raw_events_stored", &raw_events_ttl(settings.raw.retention)).await?;
    let cells = speed_cells_ttl(&settings.speed.clickhouse_retention);
    keep(&client, "speed_cells_raw", &cells).await?;
    keep(&client, "speed_tops_raw", &cells).await
}

/// Changes a table's lifetimes, if it has others: that is work for the server.
async fn keep(client: &Client, table: &str, ttl: &str) -> Result<(), Attempt> {
    let same = "SELECT count() FROM system.tables WHERE database = currentDatabase() AND name = {table:String} \
                AND position(engine_full, {ttl:String}) > 0";
    let query = client.query(same).param("table", table).param("ttl", format!("TTL {ttl}"));
    let found: u64 = query.fetch_one().await.map_err(classify)?;
    if found > 0 {
        return Ok(());
    }
    execute(client, &format!("ALTER TABLE {table} MODIFY TTL {ttl}")).await?;
    tracing::info!(table, ttl, "rows have other lifetimes now");
    Ok(())
}

async fn execute(client: &Client, statement: &str) -> Result<(), Attempt> {
    client.query(&statement.replace('?', "??")).execute().await.map_err(classify)
}

fn classify(error: clickhouse::error::Error) -> Attempt {
    match error {
        clickhouse::error::Error::BadResponse(_) => Attempt::Refused(error.into()),
        other => Attempt::Away(other.into()),
    }
}

fn check_name(database: &str) -> anyhow::Result<()> {
    let usable = !database.is_empty() && database.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !usable {
        bail!("clickhouse.database = {database:?}: use letters, digits and '_'");
    }
    Ok(())
}
