//! The log changes under the archiver: records that are gone stop it, loudly; partitions that are new are archived.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use reckon_schemas::lake::EVENTS_TABLE;
use reckon_tests::lake::{archived_offsets, until_conserved};
use reckon_tests::{Stack, World, until};

const TUNING: &str = r#"
[archive]
commit_interval = "50ms"
discovery_interval = "300ms"
"#;

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_gone_stop_it_and_are_named() -> Result<()> {
    let stack = Stack::shared()?;
    let world = World::with_tuning(&stack, TUNING)?;
    produce(&world, 1, 100).await?;
    let mut archiver = world.start("archive")?;
    until_conserved(&world).await?;
    ensure!(archiver.stop()?.success(), "{}", archiver.log());

    produce(&world, 1, 100).await?;
    let mut cut = TopicPartitionList::new();
    cut.add_partition_offset(&world.kafka.topics.events, 1, Offset::Offset(150))?;
    admin(&world)?.delete_records(&cut, &AdminOptions::new()).await?;

    let mut archiver = world.start("archive")?;
    until("the archiver to stop", PATIENCE, || async { Ok(world_log_names_the_loss(&archiver.log(), &world)) }).await?;
    until_ended(&mut archiver).await?;
    let offsets = archived_offsets(&world, EVENTS_TABLE).await?;
    ensure!(offsets.get(&1).is_some_and(|offsets| offsets.iter().copied().eq(0..100)), "{offsets:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn new_partitions_are_archived_too() -> Result<()> {
    let stack = Stack::shared()?;
    let world = World::with_tuning(&stack, TUNING)?;
    produce(&world, 0, 10).await?;
    let mut archiver = world.start("archive")?;
    until_conserved(&world).await?;
    let more = NewPartitions::new(&world.kafka.topics.events, 5);
    for result in admin(&world)?.create_partitions([&more], &AdminOptions::new()).await? {
        result.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    }
    until("a record to enter a new partition", PATIENCE, || async { Ok(produce(&world, 4, 10).await.is_ok()) }).await?;
    until_conserved(&world).await?;
    ensure!(archived_offsets(&world, EVENTS_TABLE).await?.contains_key(&4));
    ensure!(archiver.stop()?.success(), "{}", archiver.log());
    Ok(())
}

fn world_log_names_the_loss(log: &str, world: &World) -> bool {
    let named = format!("{} partition 1: the next record to archive is 100", world.kafka.topics.events);
    log.contains(&named) && log.contains("the log begins at 150 and ends at 200") && log.contains("Nothing was skipped")
}

async fn until_ended(archiver: &mut reckon_tests::Process) -> Result<()> {
    for _ in 0..200 {
        if archiver.has_ended()? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("the archiver did not end:\n{}", archiver.log())
}

fn admin(world: &World) -> Result<AdminClient<DefaultClientContext>> {
    ClientConfig::new().set("bootstrap.servers", &world.kafka.brokers).create().context("an admin client")
}

async fn produce(world: &World, partition: i32, count: usize) -> Result<()> {
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", &world.kafka.brokers).create()?;
    for number in 0..count {
        let payload = format!("record {number}");
        let record = FutureRecord::<(), _>::to(&world.kafka.topics.events).partition(partition).payload(&payload);
        producer.send(record, Duration::from_secs(10)).await.map_err(|(error, _)| error)?;
    }
    Ok(())
}
