//! A nightly is killed at random moments, again and again: run once more, it settles what an undisturbed one settles,
//! digit by digit. And two at once do no harm.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reckon_schemas::lake::EVENTS_TABLE;
use reckon_tests::books::{Books, purchases};
use reckon_tests::lake::archived_offsets;
use reckon_tests::{Process, Stack, World, process, until};

const KILLS: usize = 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// The lock of a killed nightly is soon over, and nobody waits for the speed layer.
const TUNING: &str = r#"
[archive]
commit_interval = "200ms"

[nightly]
archive_wait = "60s"
speed_wait = "0s"
lock_expiry = "600ms"
chunk_deliveries = 200
"#;
const EXPIRED: Duration = Duration::from_millis(700);

#[expect(clippy::print_stderr, reason = "a test says what it did")]
fn tell(what: &str) {
    eprintln!("{what}");
}

async fn archived(books: &Books) -> Result<()> {
    until("the purchases in the lake", PATIENCE, || async {
        let archived = archived_offsets(&books.world, EVENTS_TABLE).await?;
        Ok(archived.values().map(Vec::len).sum::<usize>() == books.sent.len())
    })
    .await
}

/// Day and content of everything that is settled in a database.
async fn contents(world: &World, database: &str) -> Result<Vec<(String, String)>> {
    let client = world.clickhouse_client().with_database(database);
    let sql = "SELECT toString(day), content_hash FROM settlements_current ORDER BY day";
    Ok(client.query(sql).fetch_all().await?)
}

/// Every day that can be seen has the cells and users that its settlement stands for.
async fn assert_whole(world: &World) -> Result<()> {
    let torn: Vec<(String, u64, u64, u64, u64)> = world
        .clickhouse_client()
        .query(
            "SELECT toString(day), any(events) AS expected, sum(cells.count) AS counted, sum(cells.users_exact), \
             sum(keys.users) AS found FROM settlements_current \
             LEFT JOIN (SELECT day, run_id, count, users_exact FROM settled_cells_raw \
                        WHERE `rollup` = 'total' AND grain = '1d') AS cells USING (day, run_id) \
             LEFT JOIN (SELECT day, run_id, count() AS users FROM settled_users \
                        WHERE `rollup` = 'total' GROUP BY day, run_id) AS keys USING (day, run_id) \
             GROUP BY day HAVING expected != counted OR sum(cells.users_exact) != found ORDER BY day",
        )
        .fetch_all()
        .await?;
    ensure!(torn.is_empty(), "days that can be seen and are not whole: {torn:?}");
    Ok(())
}

async fn visible_runs(world: &World) -> Result<u64> {
    Ok(world.clickhouse_client().query("SELECT uniqExact(run_id) FROM settlements").fetch_one().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_moments_it_settles_the_same() -> Result<()> {
    let stack = Stack::shared()?;
    let seed = 0x5eed_4101;
    let mut random = StdRng::seed_from_u64(seed);
    let mut books = Books::open(World::with_tuning(&stack, TUNING)?)?;
    books.send(&purchases(seed, 12_000, "2026-08-03T15:00:00Z", 4)).await?;
    archived(&books).await?;

    // The same lake, settled by nobody who is disturbed, in a database of its own.
    let calm_database = format!("{}_calm", books.world.clickhouse.database);
    let calm = books.world.config().with_file_name("calm.toml");
    let text = std::fs::read_to_string(books.world.config())?;
    std::fs::write(&calm, text.replace(&books.world.clickhouse.database, &calm_database))?;
    let started = Instant::now();
    let first = process::run(&calm, &["nightly"])?;
    ensure!(first.code == 0, "{}", first.log);
    let whole_ms = u64::try_from(started.elapsed().as_millis())?;

    let (mut killed_at_work, mut runs) = (0, 0);
    for life in 0..KILLS {
        let visible = visible_runs(&books.world).await?;
        if visible > runs {
            // The last one got as far as its last step: there has to be something to do again.
            runs = visible;
            let more = purchases(seed + 1 + u64::try_from(life)?, 40, "2026-08-03T15:00:00Z", 1_000);
            books.send(&more).await?;
            archived(&books).await?;
        }
        let log = books.world.config().with_file_name(format!("life-{life}.log"));
        let mut nightly = Process::start(&books.world.config(), &["nightly"], log)?;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..=whole_ms))).await;
        killed_at_work += usize::from(!nightly.has_ended()?);
        nightly.kill()?;
        // Before anything could heal it: what can be seen is whole.
        assert_whole(&books.world).await.with_context(|| format!("seed {seed:#x}, life {life}"))?;
        tokio::time::sleep(EXPIRED).await;
    }
    ensure!(killed_at_work >= KILLS / 2, "only {killed_at_work} of {KILLS} were killed at work: not a test");

    let last = books.world.run(&["nightly"])?;
    ensure!(matches!(last.code, 0 | 99), "exit {}:\n{}", last.code, last.log);
    let undisturbed = process::run(&calm, &["nightly"])?;
    ensure!(matches!(undisturbed.code, 0 | 99), "{}", undisturbed.log);
    let (found, expected) = (
        contents(&books.world, &books.world.clickhouse.database).await?,
        contents(&books.world, &calm_database).await?,
    );
    ensure!(found == expected && found.len() > 30, "seed {seed:#x}, {killed_at_work} killed at work");
    ensure!(books.settled_days().await? == Books::expected_days(&books.sent));
    tell(&format!("{killed_at_work} of {KILLS} were killed at work, a whole one takes {whole_ms} ms"));
    // Manifests of runs that were cut short are links of the chain like all others.
    books.run(0, &["verify", "--chain"]).map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_at_once_do_no_harm() -> Result<()> {
    let stack = Stack::shared()?;
    let tuning = TUNING.replace("lock_expiry = \"600ms\"", "lock_expiry = \"5s\"");
    let mut books = Books::open(World::with_tuning(&stack, &tuning)?)?;
    books.send(&purchases(0x5eed_4102, 4_000, "2026-08-03T15:00:00Z", 4)).await?;
    archived(&books).await?;
    let log = |name: &str| books.world.config().with_file_name(format!("{name}.log"));
    let mut both = [
        Process::start(&books.world.config(), &["nightly"], log("one"))?,
        Process::start(&books.world.config(), &["nightly"], log("other"))?,
    ];
    let mut codes = Vec::new();
    for nightly in &mut both {
        let ended = loop {
            if let Some(status) = nightly.ended()? {
                break status;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        codes.push(ended.code().context("a code")?);
    }
    codes.sort_unstable();
    // One settles; the other is refused, or comes when there is nothing left to do.
    ensure!(codes[0] == 0 && matches!(codes[1], 75 | 99), "{codes:?}\n{}\n{}", both[0].log_tail(), both[1].log_tail());
    ensure!(visible_runs(&books.world).await? == 1);
    ensure!(books.settled_days().await? == Books::expected_days(&books.sent));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_lock_says_who_has_it_and_is_taken_over_when_it_expires() -> Result<()> {
    let stack = Stack::shared()?;
    let mut books = Books::open(World::with_tuning(&stack, TUNING)?)?;
    books.send(&purchases(0x5eed_4103, 200, "2026-08-03T15:00:00Z", 60)).await?;
    archived(&books).await?;
    let folder = books.world.store().join("locks").join(&books.world.tenant);
    std::fs::create_dir_all(&folder)?;
    let now = jiff::Timestamp::now();
    let expires_at = now + jiff::SignedDuration::from_secs(8);
    let held = serde_json::json!({ "owner": "a nightly on another host", "since": now, "expires_at": expires_at });
    std::fs::write(folder.join(format!("{:020}.json", 7)), held.to_string())?;
    let refused = books.world.run(&["nightly"])?;
    ensure!(refused.code == 75 && refused.log.contains("a nightly on another host"), "{}", refused.log);
    let close =
        books.world.run(&["close", "--tenant", &books.world.tenant, "--period", "2026-08", "--sign-off", "A"])?;
    ensure!(close.code == 75, "a close waits as well: {}", close.log);
    until("the lock to expire", PATIENCE, || async { Ok(jiff::Timestamp::now() > expires_at) }).await?;
    books.nightly()?;
    ensure!(books.world.run(&["nightly"])?.code == 99, "it was given back");
    Ok(())
}
