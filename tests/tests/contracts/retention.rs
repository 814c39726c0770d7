//! Cells leave ClickHouse when their grain's retention is over, and only then.

use std::time::Duration;

use anyhow::{Result, ensure};
use reckon_tests::counted::{produce, until_counted};
use reckon_tests::purchases::generate;
use reckon_tests::{Stack, World, until};

const DAY_US: i64 = 24 * 3_600_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn cells_are_kept_as_long_as_their_grain_says() -> Result<()> {
    let kept = r#"{ second = "1m", minute = "30d", five_minutes = "30d", hour = "300d", day = "300d" }"#;
    let tuning = format!("[speed]\nclickhouse_interval = \"200ms\"\nclickhouse_retention = {kept}\n");
    let world = World::with_tuning(&Stack::shared()?, &tuning)?;
    let now_us = jiff::Timestamp::now().as_microsecond();
    let worker = world.start("speed")?;
    for days in [400_i64, 100, 1] {
        produce(&world, &generate(0x5eed_4100 + days.unsigned_abs(), 50, now_us - days * DAY_US, 1_000_000)).await?;
        until_counted(&world).await?;
    }
    drop(worker);
    let client = world.clickhouse_client();
    // The worker counts the most frequent values in windows that it has cells of, so these are given.
    client
        .query(
            "INSERT INTO speed_tops_raw SELECT 'acme', 'page', grain, now() - INTERVAL days DAY AS start, start, 'view', 0, 1, '' \
             FROM (SELECT arrayJoin(['1d', '1h', '1m', '5m']) AS grain, arrayJoin([400, 100, 1]) AS days)",
        )
        .execute()
        .await?;
    for table in ["speed_cells_raw", "speed_tops_raw"] {
        until("the rows that are over to be gone", Duration::from_secs(60), || async {
            client.query(&format!("OPTIMIZE TABLE {table} FINAL")).execute().await?;
            let minutes = format!("SELECT uniqExact(toDate(window_start)) FROM {table} WHERE grain IN ('1m', '5m')");
            Ok(client.query(&minutes).fetch_one::<u64>().await? <= 2)
        })
        .await?;
        let oldest = format!(
            "SELECT grain, toInt64(max(dateDiff('day', window_start, now()))) FROM {table} GROUP BY grain ORDER BY grain"
        );
        let oldest = client.query(&oldest).fetch_all::<(String, i64)>().await?;
        let ages: Vec<i64> = oldest.iter().map(|(_, age)| *age / 50).collect();
        ensure!(ages == [8, 2, 0, 0], "{table}: 1d for good, 1h for 300 days, 1m and 5m for 30: {oldest:?}");
    }

    // Preparing again finds the lifetimes as they are.
    let again = world.run(&["prepare"])?;
    ensure!(again.code == 0 && !again.log.contains("other lifetimes"), "{}", again.log);
    Ok(())
}
