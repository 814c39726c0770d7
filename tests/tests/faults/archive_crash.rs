//! The archiver is killed while records flow, again and again: every record is in the lake, and none twice.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use reckon_schemas::lake::{EVENTS_TABLE, REJECTED_TABLE};
use reckon_tests::lake::{archived_offsets, assert_conserved, log_ranges, until_conserved};
use reckon_tests::{Process, Stack, World, until};

/// Many small commits, so that a kill meets the archiver at every step of one.
const TUNING: &str = r#"
[archive]
commit_interval = "30ms"
commit_rows = 400
discovery_interval = "500ms"
"#;

const RECORDS: usize = 40_000;
const LIVES: usize = 12;
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn kill_while_records_flow_neither_loses_nor_repeats() -> Result<()> {
    let stack = Stack::shared()?;
    let world = World::with_tuning(&stack, TUNING)?;
    let seed = 0x5eed_00a1;
    let mut random = StdRng::seed_from_u64(seed);
    let flow = tokio::spawn(produce(world.kafka.brokers.clone(), world.kafka.topics.events.clone(), seed, RECORDS));

    let mut killed_at_work = 0;
    for life in 0..LIVES {
        let before = archived(&world).await?;
        let mut archiver = world.start("archive")?;
        if life % 3 == 2 {
            // Sometimes it does not even get as far as a commit.
            tokio::time::sleep(Duration::from_millis(random.random_range(20..400))).await;
        } else {
            until("this life to archive something", PATIENCE, || async {
                Ok(archived(&world).await? > before || before == RECORDS)
            })
            .await?;
            tokio::time::sleep(Duration::from_millis(random.random_range(0..150))).await;
        }
        archiver.kill()?;
        killed_at_work += usize::from(archived(&world).await? < RECORDS);
    }
    ensure!(killed_at_work >= LIVES / 2, "only {killed_at_work} of {LIVES} lives ended with work left: not a test");
    flow.await??;
    let mut archiver = world.start("archive")?;
    until_conserved(&world).await.with_context(|| format!("seed {seed:#x}"))?;
    ensure!(archived(&world).await? == RECORDS);

    // The rejects' table is under the same law.
    let rejected = &world.kafka.topics.rejected;
    produce(world.kafka.brokers.clone(), rejected.clone(), seed, 500).await?;
    until("the rejects to be archived", PATIENCE, || async {
        let archived = archived_offsets(&world, REJECTED_TABLE).await?;
        let ranges = log_ranges(&world, rejected).await?;
        Ok(ranges.into_iter().all(|(partition, (low, high))| {
            archived.get(&partition).map_or(low == high, |offsets| offsets.iter().copied().eq(low..high))
        }))
    })
    .await?;

    // In good order: what was read is committed before it ends, and the next start has nothing to do.
    produce(world.kafka.brokers.clone(), world.kafka.topics.events.clone(), seed + 1, 1_000).await?;
    ensure!(archiver.stop()?.success(), "the archiver did not stop in good order:\n{}", archiver.log());
    let _archiver = world.start("archive")?;
    until_conserved(&world).await?;
    ensure!(archived(&world).await? == RECORDS + 1_000);
    repeat_a_file(&world).await?;
    ensure!(assert_conserved(&world).await.is_err(), "the oracle does not see records that are there twice");
    Ok(())
}

/// The negative control: what a commit that does not look at the table's progress would do.
async fn repeat_a_file(world: &World) -> Result<()> {
    let table = deltalake::open_table(format!("{}/{EVENTS_TABLE}", world.lake.url).parse()?).await?;
    let rows = datafusion::prelude::SessionContext::new().read_table(table.table_provider().await?)?;
    let twice = rows.limit(0, Some(1))?.collect().await?;
    table.write(twice).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_archivers_share_a_lake_without_writing_twice() -> Result<()> {
    let stack = Stack::shared()?;
    let world = World::with_tuning(&stack, TUNING)?;
    let mut both = [world.start("archive")?, world.start("archive")?];
    produce(world.kafka.brokers.clone(), world.kafka.topics.events.clone(), 0x5eed_00a2, RECORDS).await?;
    until_conserved(&world).await?;
    // One of them has had to give way more often than is tolerable, and says why it stopped; or they hardly met.
    for archiver in &mut both {
        if archiver.has_ended()? {
            ensure!(archiver.log().contains("Only one archiver may run on a lake"), "{}", archiver.log());
        }
    }
    ensure!(!ended(&mut both[0])? || !ended(&mut both[1])?, "both gave up:\n{}", both[0].log());
    Ok(())
}

fn ended(archiver: &mut Process) -> Result<bool> {
    archiver.has_ended()
}

async fn archived(world: &World) -> Result<usize> {
    Ok(archived_offsets(world, EVENTS_TABLE).await.map_or(0, |offsets| offsets.values().map(Vec::len).sum()))
}

/// Fills a topic with what an archive must keep whatever it is: events, broken ones, bytes that are no text.
async fn produce(brokers: String, topic: String, seed: u64, count: usize) -> Result<()> {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .create()?;
    let mut random = StdRng::seed_from_u64(seed);
    for batch in 0..count.div_ceil(200) {
        let numbers = batch * 200..count.min(batch * 200 + 200);
        let sent = numbers.map(|number| {
            let payload = payload(&mut random, number);
            let key = number.to_string();
            let producer = &producer;
            let topic = topic.as_str();
            async move {
                let record = FutureRecord::to(topic).key(&key).payload(&payload);
                producer.send(record, Duration::from_secs(30)).await
            }
        });
        for result in futures::future::join_all(sent).await {
            result.map_err(|(error, _)| error)?;
        }
        // A flow, not a flood: it has to last as long as the lives that it is archived in.
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    Ok(())
}

fn payload(random: &mut StdRng, number: usize) -> Vec<u8> {
    match random.random_range(0..20) {
        0 => b"{\"v\":2,\"tenant\":".to_vec(),
        1 => vec![0xff, 0xfe, 0x00],
        2 => Vec::new(),
        _ => {
            let at = 1_700_000_000_000_000 + random.random_range(0..3 * 86_400_000_000_i64);
            format!(
                r#"{{"v":2,"tenant":"acme","id":"e{number}","name":"purchase","occurred_at":{at},"received_at":{at},"user":"u{}"}}"#,
                number % 97
            )
            .into_bytes()
        }
    }
}
