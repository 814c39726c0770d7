//! The proof of conservation holds for a log with markers and aborted records, and finds a real hole and a real double.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use arrow::array::AsArray;
use arrow::datatypes::{Int32Type, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use reckon_schemas::lake::EVENTS_TABLE;
use reckon_tests::lake::archived_offsets;
use reckon_tests::{Stack, World, until};
use serde_json::{Value, json};

const TUNING: &str = "[archive]\ncommit_interval = \"50ms\"\n";
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_is_named_and_a_marker_is_none() -> Result<()> {
    let world = World::with_tuning(&Stack::shared()?, TUNING)?;
    let topic = world.kafka.topics.events.clone();
    let mut archiver = world.start("archive")?;
    // 0..5 plain; 5..8 committed and a marker at 8; 9..11 aborted and a marker at 11; 12..20 plain.
    let plain = producer(&world, None)?;
    send(&plain, &topic, 5).await?;
    archived(&world, 5).await?;
    let transactional = producer(&world, Some(&topic))?;
    transactional.init_transactions(PATIENCE)?;
    transactional.begin_transaction()?;
    send(&transactional, &topic, 3).await?;
    transactional.commit_transaction(PATIENCE)?;
    transactional.begin_transaction()?;
    send(&transactional, &topic, 2).await?;
    transactional.abort_transaction(PATIENCE)?;
    archived(&world, 8).await?;
    send(&plain, &topic, 8).await?;
    archived(&world, 16).await?;
    ensure!(archiver.stop()?.success(), "{}", archiver.log());
    send(&plain, &topic, 2).await?;

    let proof = conservation(&world, 0)?;
    let one = partition(&proof, &topic, 1)?;
    ensure!(one["log"] == json!({"from": 0, "to": 22}) && one["archived"] == 16, "{one}");
    let expected = json!([
        {"from": 8, "to": 12, "why": "no_record"},
        {"from": 20, "to": 22, "why": "not_yet_archived"},
    ]);
    ensure!(one["holes"] == expected, "{one}");
    ensure!(proof["partitions"].as_array().is_some_and(|all| all.len() == 4), "three of events, one of rejected items");

    // A data file that the table does not know any more, as after a repair by hand that went wrong.
    let table = world.store().join(EVENTS_TABLE);
    let (version, file) = newest_file(&table)?;
    let lost = offsets_of(&table.join(&file))?;
    ensure!(!lost.is_empty() && lost.iter().all(|(partition, _)| *partition == 1), "{lost:?}");
    let removed = json!({"remove": {"path": file, "deletionTimestamp": 1_700_000_000_000_i64, "dataChange": true}});
    commit(&table, version + 1, &removed)?;
    let proof = conservation(&world, 20)?;
    let holes = partition(&proof, &topic, 1)?["holes"].as_array().context("holes")?.clone();
    let missing: BTreeSet<(i32, i64)> = holes
        .iter()
        .filter(|hole| hole["why"] == "missing")
        .flat_map(|hole| hole["from"].as_i64().unwrap_or(0)..hole["to"].as_i64().unwrap_or(0))
        .map(|offset| (1, offset))
        .collect();
    ensure!(missing == lost, "{missing:?} instead of {lost:?}");

    // The file is put back, twice: the number of records is not what it was, and a second hole would hide it.
    let adds = add_of(&table, version, &file)?;
    commit(&table, version + 2, &adds)?;
    conservation(&world, 0)?;
    let (folder, name) = file.rsplit_once('/').context("a partitioned table")?;
    let copy = format!("{folder}/again-{name}");
    std::fs::copy(table.join(&file), table.join(&copy))?;
    let mut again = adds;
    again["add"]["path"] = copy.into();
    commit(&table, version + 3, &again)?;
    let proof = conservation(&world, 20)?;
    let one = partition(&proof, &topic, 1)?;
    let doubled: Vec<i64> = serde_json::from_value(one["doubled"].clone())?;
    ensure!(doubled == lost.iter().map(|(_, offset)| *offset).collect::<Vec<_>>(), "{one}");
    Ok(())
}

fn conservation(world: &World, code: i32) -> Result<Value> {
    let finished = world.run(&["conservation"])?;
    ensure!(finished.code == code, "exit {}:\n{}\n{}", finished.code, finished.stdout, finished.log);
    let proof: Value = serde_json::from_str(finished.stdout.lines().last().context("a line")?)?;
    ensure!(proof["holds"] == (code == 0), "{proof}");
    Ok(proof)
}

fn partition<'a>(proof: &'a Value, topic: &str, partition: i32) -> Result<&'a Value> {
    let found = proof["partitions"].as_array().into_iter().flatten();
    let mut found = found.filter(|one| one["topic"] == topic && one["partition"] == partition);
    found.next().with_context(|| format!("{proof}"))
}

fn producer(world: &World, transactions: Option<&str>) -> Result<FutureProducer> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &world.kafka.brokers);
    if let Some(id) = transactions {
        config.set("transactional.id", id);
    }
    Ok(config.create()?)
}

async fn send(producer: &FutureProducer, topic: &str, count: usize) -> Result<()> {
    for number in 0..count {
        let payload = format!("record {number}");
        let record = FutureRecord::<(), _>::to(topic).partition(1).payload(&payload);
        producer.send(record, PATIENCE).await.map_err(|(error, _)| error)?;
    }
    Ok(())
}

async fn archived(world: &World, count: usize) -> Result<()> {
    until("the records to be archived", PATIENCE, || async {
        Ok(archived_offsets(world, EVENTS_TABLE).await?.get(&1).is_some_and(|offsets| offsets.len() == count))
    })
    .await
}

fn log_file(table: &Path, version: u64) -> PathBuf {
    table.join(format!("_delta_log/{version:020}.json"))
}

fn actions(table: &Path, version: u64) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(log_file(table, version))?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// The table's version, and a data file that it added.
fn newest_file(table: &Path) -> Result<(u64, String)> {
    let version = (0..).take_while(|version| log_file(table, *version).exists()).last().context("no log")?;
    let added =
        actions(table, version)?.into_iter().find_map(|action| action["add"]["path"].as_str().map(str::to_owned));
    Ok((version, added.context("the newest commit adds a file")?))
}

fn add_of(table: &Path, version: u64, file: &str) -> Result<Value> {
    let added = actions(table, version)?.into_iter().find(|action| action["add"]["path"] == file);
    added.context("the file was added there")
}

fn commit(table: &Path, version: u64, action: &Value) -> Result<()> {
    Ok(std::fs::write(log_file(table, version), format!("{action}\n"))?)
}

fn offsets_of(file: &Path) -> Result<BTreeSet<(i32, i64)>> {
    let mut offsets = BTreeSet::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(file)?)?.build()? {
        let batch = batch?;
        let partitions = batch.column_by_name("partition").context("partition")?.as_primitive::<Int32Type>();
        let numbers = batch.column_by_name("offset").context("offset")?.as_primitive::<Int64Type>();
        offsets.extend((0..batch.num_rows()).map(|row| (partitions.value(row), numbers.value(row))));
    }
    Ok(offsets)
}
