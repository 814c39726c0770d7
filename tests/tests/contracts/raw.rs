//! Raw events: what the log holds is in ClickHouse, every event once, by its first delivery.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use reckon_tests::counted::produce;
use reckon_tests::purchases::{deliveries, generate};
use reckon_tests::raw::{assert_raw, compare, count, expected, rows};
use reckon_tests::{Stack, World, process};
use serde_json::Value;

const HOUR_MS: i64 = 3_600_000;

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_the_events_of_the_log() -> Result<()> {
    let world = World::with_tuning(&Stack::shared()?, "[raw]\nrows_max = 1500\ngroup = \"one\"\n")?;
    let seed = 0x5eed_0031;
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let purchases = generate(seed, 6_000, (now_ms - 12 * HOUR_MS) * 1000, 2_000_000);
    produce(&world, &deliveries(&purchases, seed, 0.1, 300)).await?;
    let tenant = &world.tenant;
    let event = |tenant: &str, id: &str, at: i64| {
        format!(r#"{{"v":2,"tenant":"{tenant}","id":"{id}","name":"n","occurred_at":{at},"received_at":{at}}}"#)
    };
    // Events without money, user and properties; events of others; what is none; and deliveries of one event that differ in everything but
    // its id, days apart, in different partitions, the first one read last.
    write(
        &world,
        vec![
            (0, now_ms, event(tenant, "bare", 0)),
            (1, now_ms, event(tenant, "bär ✓", 9_214_646_399_999_999)),
            (0, now_ms, event("somebody-else", "1", 0)),
            (1, now_ms, "{\"v\":2".to_owned()),
            (2, now_ms, String::new()),
            (2, now_ms, event(tenant, "again", 2)),
            (0, now_ms - 50 * HOUR_MS, event(tenant, "again", 1)),
            (1, now_ms - 26 * HOUR_MS, event(tenant, "again", 3)),
            // Too old to be kept.
            (0, 0, event("somebody-else", "2", 0)),
        ],
    )
    .await?;

    let first = until_end(&world, &["raw", "--until-end"])?;
    let expected = expected(&world).await?;
    ensure!(expected.len() == 6_003 && expected["again"].occurred_us == 1, "the oracle");
    let number = |line: &Value, name: &str| line[name].as_u64().context(name.to_owned());
    ensure!(number(&first, "records")? == number(&first, "rows")? + 2, "{first}");
    ensure!(number(&first, "blocks")? >= 4 && first["rows_per_second"].as_f64() > Some(0.0), "{first}");
    compare(rows(&world, "raw_events").await?, &expected)?;

    // It goes on where it ended.
    let second = until_end(&world, &["raw", "--until-end"])?;
    ensure!(number(&second, "records")? == 0, "{second}");

    // Another group begins anew, with other blocks: nothing changes for those who ask, although everything is written
    // again, which is what the oracle would notice if the table did not keep one row of a key.
    let config = std::fs::read_to_string(world.config())?;
    let other = config.replace("\"one\"", "\"two\"").replace("1500", "1100");
    std::fs::write(world.config(), other)?;
    world.clickhouse_client().query("SYSTEM STOP MERGES raw_events_stored").execute().await?;
    let again = until_end(&world, &["raw", "--until-end"])?;
    ensure!(number(&again, "rows")? == number(&first, "rows")?, "{again}");
    assert_raw(&world).await?;
    ensure!(count(&world, "raw_events_stored").await? > 6_003 + 6_000);
    ensure!(compare(rows(&world, "raw_events_stored").await?, &expected).is_err(), "the oracle sees no second row");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_older_than_the_retention_is_not_read_and_not_kept() -> Result<()> {
    let world = World::with_tuning(&Stack::shared()?, "[raw]\nretention = \"36h\"\n")?;
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let ages = [100, 40, 30, 0].iter().enumerate();
    let records = ages.map(|(id, hours)| {
        let tenant = &world.tenant;
        let event = format!(r#"{{"v":2,"tenant":"{tenant}","id":"{id}","name":"n","occurred_at":0,"received_at":0}}"#);
        (1, now_ms - hours * HOUR_MS, event)
    });
    write(&world, records.collect()).await?;
    let line = until_end(&world, &["raw", "--until-end"])?;
    ensure!(line["rows"] == 2, "{line}");
    let sql = "SELECT engine_full FROM system.tables WHERE database = ? AND name = 'raw_events_stored'";
    let table: String = world.clickhouse_client().query(sql).bind(&world.clickhouse.database).fetch_one().await?;
    ensure!(table.contains("TTL toDateTime(log_time) + toIntervalSecond(129600)"), "{table}");
    Ok(())
}

fn until_end(world: &World, arguments: &[&str]) -> Result<Value> {
    let finished = process::run(&world.config(), arguments)?;
    ensure!(finished.code == 0, "{}", finished.log);
    serde_json::from_str(finished.stdout.lines().last().context("no line")?).context(finished.stdout)
}

/// Writes messages as they are: partition, time stamp, payload.
async fn write(world: &World, records: Vec<(i32, i64, String)>) -> Result<()> {
    let (brokers, topic) = (world.kafka.brokers.clone(), world.kafka.topics.events.clone());
    tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &brokers).create()?;
        for (partition, at_ms, payload) in &records {
            let record: BaseRecord<'_, str, String> = BaseRecord::to(&topic).partition(*partition).timestamp(*at_ms);
            producer.send(record.payload(payload)).map_err(|(error, _)| error)?;
        }
        Ok(producer.flush(Duration::from_secs(30))?)
    })
    .await?
}
