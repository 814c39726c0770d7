//! A rollup that was added to the catalog later gets its history, and no number that was published changes.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use reckon_tests::books::{Books, PERIOD, TUNING, day, purchases};
use reckon_tests::purchases::{Purchase, Sums, sums};
use reckon_tests::{Stack, World};
use serde_json::Value;

const ROLLUP: &str = "department,store";
const RANGE: [&str; 4] = ["--from", "2026-03-01", "--to", "2026-04-30"];
const ONE_DAY: [&str; 4] = ["--from", "2026-03-09", "--to", "2026-03-09"];

/// A month that is closed and some days of the next one; three events that came for the month after its close, and two
/// for a day that was settled before them. Then the rollup is added.
async fn settled_without_the_rollup() -> Result<(Books, Vec<Purchase>)> {
    let stack = Stack::shared()?;
    let mut books = Books::open(World::with_tuning(&stack, TUNING)?)?;
    let settled = purchases(0x5eed_4101, 1_000, "2026-03-02T15:00:00Z", 48);
    books.send(&settled).await?;
    books.nightly()?;
    books.run_for_tenant(0, &["close", "--period", PERIOD, "--sign-off", "Ada Lovelace"])?;
    books.send(&purchases(0x5eed_4102, 3, "2026-03-20T16:00:00Z", 60)).await?;
    let posted = books.nightly()?;
    ensure!(posted["adjusted"][0]["events"] == 3, "{posted}");
    books.send(&purchases(0x5eed_4103, 2, "2026-04-02T16:00:00Z", 60)).await?;
    reckon_tests::lake::until_conserved(&books.world).await?;
    books.world.change_catalog(|tenant| tenant.rollups.push(ROLLUP.parse().expect("a rollup")))?;
    Ok((books, settled))
}

fn backfill(books: &Books, code: i32, more: &[&str]) -> Result<Value> {
    books.run_for_tenant(code, &[&["backfill", "--rollup", ROLLUP], more].concat())
}

/// Everything that is published of the rollups that were there before, as one number a table; and how much is stored.
async fn published(books: &Books) -> Result<(Vec<(String, u64, u64)>, Vec<u64>)> {
    let cells = "SELECT `rollup`, count(), groupBitXor(sipHash64(grain, window_start, event, dimensions, day, run_id, count, \
                 toString(money), users_exact, finalizeAggregation(users))) FROM settled_cells WHERE `rollup` != 'department,store' \
                 GROUP BY `rollup` ORDER BY `rollup`";
    let stored = "SELECT count() FROM settled_cells_raw UNION ALL SELECT count() FROM settled_users \
                  UNION ALL SELECT count() FROM changes_stored UNION ALL SELECT count() FROM backfills";
    let client = books.world.clickhouse_client();
    let mut stored: Vec<u64> = client.query(stored).fetch_all().await?;
    stored.sort_unstable();
    Ok((client.query(cells).fetch_all().await?, stored))
}

/// What is visible of the rollup, by day and values.
async fn filled(books: &Books, grain: &str) -> Result<BTreeMap<(String, String, String), Sums>> {
    let sql = "SELECT toString(day), dimensions[1], dimensions[2], toUInt64(sum(settled_cells.count)), \
               sum(money['USD']), toUInt64(uniqCombined64Merge(14)(settled_cells.users)) FROM settled_cells \
               WHERE rollup = 'department,store' AND grain = ? GROUP BY day, dimensions";
    let query = books.world.clickhouse_client().query(sql).bind(grain);
    let rows: Vec<(String, String, String, u64, i128, u64)> = query.fetch_all().await?;
    let cell = |(day, department, store, count, cents, users)| ((day, department, store), Sums { count, cents, users });
    Ok(rows.into_iter().map(cell).collect())
}

fn expected(purchases: &[Purchase]) -> BTreeMap<(String, String, String), Sums> {
    sums(purchases, |purchase| (day(purchase), purchase.department.clone(), purchase.store.clone()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollup_gets_its_history_and_nothing_else_changes() -> Result<()> {
    let (books, settled) = settled_without_the_rollup().await?;
    let days = u64::try_from(Books::expected_days(&settled).len())?;
    let (before, states) = (published(&books).await?, books.states().await?);

    // Who asks is told that nobody has counted it, not that there was nothing.
    let mut serving = books.world.start_serving().await?;
    let asked = "/v1/query?metric=revenue&grain=1d&by=department,store&from=2026-03-02&to=2026-04-01";
    let unknown = books.world.query(asked).await?;
    ensure!(unknown["total"]["value"] == "0.00" && unknown["gaps"][0]["from"] == "2026-03-02T05:00:00Z", "{unknown}");

    // A dry run tells and writes nothing.
    let told = backfill(&books, 0, &[&RANGE[..], &["--dry-run"]].concat())?;
    ensure!(told["days"] == days && told["closed_periods"] == serde_json::json!([PERIOD]), "{told}");
    ensure!(told["cells_method"] == "estimated" && told["cells"].as_u64() > Some(2_000), "{told}");
    ensure!(told["cost"]["rows"].as_u64() > Some(1_000) && told["cost"]["bytes_at_most"].as_u64() > Some(10_000));
    ensure!(told["checklist"].as_array().is_some_and(|all| all.iter().all(|check| check["good"] == true)), "{told}");
    ensure!(published(&books).await? == before, "a dry run writes nothing");

    // The run: every cell of every day, as it was settled. What came for a closed month, or since, is not in it.
    let done = backfill(&books, 0, &RANGE)?;
    ensure!(done["days"] == days && done["lake_versions"].as_array().is_some_and(|all| all.len() > 1), "{done}");
    for grain in ["1d", "1h", "1m"] {
        let (found, expected) = (filled(&books, grain).await?, expected(&settled));
        ensure!(found == expected, "{grain}: {} cells, {} expected", found.len(), expected.len());
    }
    ensure!(published(&books).await?.0 == before.0 && books.states().await? == states, "nothing else changed");
    let changes = books.rows("changes")?;
    ensure!(changes.iter().all(|change| change["reason"] == "new_rollup" && change["rollup"] == ROLLUP));
    ensure!(changes.iter().filter(|change| change["measure"] == "count").count() == expected(&settled).len());

    // Everybody who asks gets it, with its provenance.
    let answer = books.world.query(asked).await?;
    let total = books.world.query("/v1/query?metric=revenue&grain=1d&from=2026-03-02&to=2026-04-01").await?;
    ensure!(answer["total"]["value"] == total["total"]["value"] && answer["total"]["state"] == "closed", "{answer}");
    ensure!(answer["total"]["run_id"] == done["run_id"] && answer["gaps"] == serde_json::json!([]), "{answer}");
    let users = asked.replace("revenue", "households");
    let users = books.world.query(&users).await?;
    let march: Vec<Purchase> = settled.iter().filter(|purchase| day(purchase).starts_with(PERIOD)).cloned().collect();
    let households = sums(&march, |_| ()).remove(&()).context("purchases")?.users;
    ensure!(users["total"]["value"] == households && users["total"]["method"] == "exact", "{users}");
    ensure!(serving.stop()?.success());

    // Again: nothing to do. And the next settlement counts it by itself.
    ensure!(backfill(&books, 99, &RANGE)?["days"] == 0);
    let run = done["run_id"].as_str().context("a run")?.to_owned();
    verified(&books, &run).await?;
    books.nightly()?;
    ensure!(filled(&books, "1d").await? == expected_after(&books, &settled), "one day is restated, the others stay");
    ensure!(backfill(&books, 99, &RANGE)?["days"] == 0);
    let known = books.rows("changes")?.len();
    books.run(0, &["nightly", "--full"])?;
    ensure!(books.rows("changes")?.len() == known, "what a backfill had filled is no change");
    Ok(())
}

/// The events of the closed month stay adjustments; those of the open day are counted.
fn expected_after(books: &Books, settled: &[Purchase]) -> BTreeMap<(String, String, String), Sums> {
    let april: Vec<Purchase> =
        books.sent.iter().filter(|purchase| !day(purchase).starts_with(PERIOD)).cloned().collect();
    let mut all = settled.to_vec();
    all.extend(april);
    expected(&all)
}

/// A run of a backfill is counted again like every other, and its rows are anchored in the chain.
async fn verified(books: &Books, run: &str) -> Result<()> {
    let good = books.run(0, &["verify", "--run", run, "--chain"])?;
    ensure!(good["verified"] == true && good["verifications"][0]["cells"].as_u64() > Some(3_000), "{good}");
    let cell = format!("run_id = '{run}' AND grain = '1h' AND day = '2026-03-07'");
    let set = |by: i64| format!("ALTER TABLE settled_cells_raw UPDATE count = count + {by} WHERE {cell}");
    books.tamper(&set(1)).await?;
    let bad = books.run(13, &["verify", "--run", run])?;
    let named = bad["verifications"][0]["findings"][0]["place"].as_str().unwrap_or_default();
    ensure!(named.starts_with("2026-03-07 department,store purchase"), "{bad}");
    books.tamper(&set(-1)).await?;
    books
        .tamper(&format!(
            "ALTER TABLE backfills UPDATE events = 1, content_hash = 'x' WHERE run_id = '{run}' AND day = '2026-03-08'"
        ))
        .await?;
    let bad = books.run(13, &["verify", "--chain"])?;
    ensure!(bad.to_string().contains("2026-03-08"), "{bad}");
    Ok(())
}

/// What does not add up to what was published is not added: a cent that was changed there is found here.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollup_that_does_not_fit_is_refused() -> Result<()> {
    let (books, _) = settled_without_the_rollup().await?;
    let of_tenant = ["backfill", "--tenant", &books.world.tenant];
    let refused = books.world.run(&[&of_tenant[..], &["--rollup", "color"], &ONE_DAY].concat())?;
    ensure!(refused.code == 78 && refused.log.contains("add it to the catalog"), "{}", refused.log);
    books
        .tamper(
            "ALTER TABLE settled_cells_raw UPDATE money = map('USD', money['USD'] + 1) \
             WHERE rollup = 'total' AND grain = '1h' AND day = '2026-03-09' AND count = 1",
        )
        .await?;
    let told = backfill(&books, 0, &[&ONE_DAY[..], &["--dry-run"]].concat())?;
    ensure!(told["checklist"].to_string().contains("does not add up") && told["cells_method"] == "estimated", "{told}");
    let refused = books.world.run(&[&of_tenant[..], &["--rollup", ROLLUP], &RANGE].concat())?;
    ensure!(refused.code == 1 && refused.log.contains("2026-03-09"), "exit {}: {}", refused.code, refused.log);
    ensure!(filled(&books, "1d").await?.is_empty(), "and nothing of it is visible");
    Ok(())
}
