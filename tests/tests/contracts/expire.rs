//! Retention: old dates leave the lake; what was settled, closed and verified stays as it is, and who asks for more is
//! told that it has expired.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::ToSpan;
use jiff::civil::Date;
use reckon_schemas::lake::EVENTS_TABLE;
use reckon_tests::books::{Books, TUNING, purchases};
use reckon_tests::lake::archived_offsets;
use reckon_tests::purchases::Purchase;
use reckon_tests::{Stack, World, until};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
/// One purchase every three hours for 110 days, which end a few days ago.
const PURCHASES: usize = 880;

fn today() -> Date {
    jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date()
}

fn noon(days_ago: i64) -> String {
    format!("{}T12:00:00Z", today().saturating_sub(days_ago.days()))
}

async fn archived(books: &Books, records: usize) -> Result<()> {
    until("the purchases in the lake", PATIENCE, || async {
        let archived = archived_offsets(&books.world, EVENTS_TABLE).await?;
        Ok(archived.values().map(Vec::len).sum::<usize>() == records)
    })
    .await
}

async fn hashes(books: &Books) -> Result<Vec<(String, String)>> {
    Ok(books.states().await?.into_iter().map(|(day, _, _, hash)| (day, hash)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_keeps_its_numbers() -> Result<()> {
    let stack = Stack::shared()?;
    let mut books = Books::open(World::with_tuning(&stack, TUNING)?)?;
    books.send(&purchases(0x5eed_4601, PURCHASES, &noon(114), 180)).await?;
    let report = books.nightly()?;
    let run = report["reports"][0]["run_id"].as_str().context("a run")?.to_owned();
    // A late purchase for a day that would expire: it is counted first.
    let late = purchases(0x5eed_4602, 2, &noon(100), 60);
    books.send(&late).await?;
    archived(&books, PURCHASES + 2).await?;
    let refused = books.world.run(&["expire"])?;
    ensure!(refused.code == 11 && refused.log.contains("run `reckon nightly` first"), "{}", refused.log);
    books.nightly()?;
    let (before, settled) = (hashes(&books).await?, books.settled_days().await?);
    ensure!(settled == Books::expected_days(&books.sent));

    let told = books.run(0, &["expire", "--dry-run"])?;
    archived(&books, PURCHASES + 2).await?;
    let expired = books.run(0, &["expire"])?;
    let left = &expired["tables"][0];
    ensure!(
        left["records"] == told["tables"][0]["records"] && left["version"] != told["tables"][0]["version"],
        "{told}"
    );
    let border = today().saturating_sub(90.days());
    ensure!(left["before"] == border.to_string(), "{left}");
    let gone = usize::try_from(left["records"].as_u64().context("records")?)?;
    ensure!(gone > 150, "{left}");
    archived(&books, PURCHASES + 2 - gone).await?;
    ensure!(books.world.run(&["expire"])?.code == 99, "nothing more is that old");

    holes_have_their_reason(&books, gone)?;
    nothing_is_restated(&mut books, border, gone, &late[0]).await?;
    ensure!(hashes(&books).await? == before && books.settled_days().await? == settled);

    // A run of days that are here and days that have expired: the one are counted again, of the other it is said.
    let verified = books.run(0, &["verify", "--run", &run])?;
    let verified = &verified["verifications"][0];
    ensure!(verified["wrong"] == 0 && verified["expired_days"].as_u64() > Some(15), "{verified}");
    ensure!(verified["days"].as_u64() > Some(80), "{verified}");
    let old = border.saturating_sub(10.days()).to_string();
    let explained = books.world.run(&["explain", "--tenant", &books.world.tenant, "--date", &old])?;
    ensure!(explained.code == 78 && explained.log.contains("has expired"), "{}", explained.log);
    single_events_are_not_missed(&books, border).await
}

/// Rollups answer for days whose events have expired; a question about single events is refused, not answered with zero.
async fn single_events_are_not_missed(books: &Books, border: Date) -> Result<()> {
    let mut serving = books.world.start_serving().await?;
    let ask = async |first: Date, more: &str| {
        let range = format!("from={first}&to={}", border.saturating_add(3.days()));
        books.world.query(&format!("/v1/query?metric=purchases&grain=1d&{range}{more}")).await
    };
    let old = border.saturating_sub(10.days());
    let of_rollup = async |first| Ok::<_, anyhow::Error>(ask(first, "").await?["total"]["value"].as_u64());
    let refused = ask(old, "&by=user_id").await.err().context("it is answered")?.to_string();
    ensure!(refused.starts_with("422") && refused.contains("have expired"), "{refused}");
    ensure!(of_rollup(old).await? > Some(50));
    let whole = border.saturating_add(1.days());
    let of_events = ask(whole, "&by=user_id").await?;
    ensure!(of_events["total"]["value"].as_u64() == of_rollup(whole).await?, "{of_events}");
    ensure!(of_events["coverage"][0]["layer"] == "lake" && of_events["total"]["state"] != "provisional", "{of_events}");
    ensure!(serving.stop()?.success());
    Ok(())
}

/// Every offset that is not in the lake any more has expired.
fn holes_have_their_reason(books: &Books, gone: usize) -> Result<()> {
    let proof = books.run(0, &["conservation"])?;
    let holes = proof["partitions"].as_array().into_iter().flatten().flat_map(|one| one["holes"].as_array());
    let mut expired = 0;
    for hole in holes.flatten() {
        ensure!(hole["why"] == "expired", "{hole}");
        expired += hole["to"].as_i64().unwrap_or(0) - hole["from"].as_i64().unwrap_or(0);
    }
    ensure!(usize::try_from(expired)? == gone, "{proof}");
    Ok(())
}

/// A nightly after an expiry leaves the days alone that the lake does not hold any more, whatever comes for them.
async fn nothing_is_restated(books: &mut Books, border: Date, gone: usize, known: &Purchase) -> Result<()> {
    ensure!(books.world.run(&["nightly"])?.code == 99, "nothing changed");
    let old = border.saturating_sub(10.days()).to_string();
    let asked = books.world.run(&["nightly", "--date", &old])?;
    ensure!(asked.code == 99 && asked.stdout.contains("have expired"), "{}\n{}", asked.stdout, asked.log);
    let full = books.run(0, &["nightly", "--full"])?;
    ensure!(full["expired"][0]["days"].as_u64() > Some(15), "{full}");
    ensure!(full["reports"][0]["first_day"].as_str() >= Some(border.to_string().as_str()), "{full}");
    // One of them again, and a new one: whether either was counted, nobody can know any more.
    let there = PURCHASES + 2 - gone;
    let new = Purchase { id: "new".to_owned(), ..known.clone() };
    let sent = std::mem::take(&mut books.sent);
    books.send(&[known.clone(), new]).await?;
    books.sent = sent;
    archived(books, there + 2).await?;
    ensure!(books.world.run(&["nightly"])?.code == 99);
    // They leave with the next expiry.
    books.run(0, &["expire"])?;
    archived(books, there).await?;
    holes_have_their_reason(books, gone + 2)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_month_stays_closed_and_nothing_is_posted_twice() -> Result<()> {
    let stack = Stack::shared()?;
    let mut books = Books::open(World::with_tuning(&stack, TUNING)?)?;
    // The month that was over at least 91 days ago, and the last one.
    let month = today().saturating_sub(91.days()).first_of_month().saturating_sub(1.days());
    let period = month.strftime("%Y-%m").to_string();
    let from = format!("{}T16:00:00Z", month.first_of_month());
    books.send(&purchases(0x5eed_4603, 200, &from, 180)).await?;
    books.nightly()?;
    // Expired before it is closed: what is settled can be closed all the same.
    books.run(0, &["expire"])?;
    books.run_for_tenant(0, &["close", "--period", &period, "--sign-off", "Ada Lovelace"])?;
    let states = books.states().await?;
    // A purchase of that month comes once more: its first delivery is gone, and it was counted.
    let known = books.sent[0].clone();
    books.send(&[known]).await?;
    archived(&books, 1).await?;
    let told = books.world.run(&["nightly"])?;
    ensure!(told.code == 99 && told.log.contains("have expired, and are not posted"), "{}", told.log);
    ensure!(books.rows("adjustments")?.is_empty() && books.states().await? == states);
    books.run(0, &["verify", "--chain"]).map(|_: Value| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_can_be_configured_and_switched_off() -> Result<()> {
    let stack = Stack::shared()?;
    let mut books = Books::open(World::with_tuning(&stack, &format!("{TUNING}\n[expire]\nkeep_days = 0\n"))?)?;
    books.send(&purchases(0x5eed_4604, 20, &noon(200), 60)).await?;
    books.nightly()?;
    ensure!(books.world.run(&["expire"])?.code == 99);
    archived(&books, 20).await?;
    books.run(0, &["expire", "--keep-days", "150"])?;
    archived(&books, 0).await?;
    Ok(())
}
