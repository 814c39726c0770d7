//! What a nightly reads follows what has changed, and what it settles is what reading everything settles.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use reckon_tests::books::{Books, TUNING, day, purchases};
use reckon_tests::counted::produce_at;
use reckon_tests::purchases::Purchase;
use reckon_tests::{Stack, World};
use serde_json::Value;

const HOUR_MS: i64 = 3_600_000;

/// Eighty-three days with a purchase every twelve minutes.
async fn settled() -> Result<(Books, Value)> {
    let stack = Stack::shared()?;
    let mut books = Books::open(World::with_tuning(&stack, TUNING)?)?;
    books.send(&purchases(0x5eed_4401, 10_000, "2026-03-02T15:00:00Z", 12)).await?;
    let first = books.nightly()?;
    Ok((books, first))
}

fn read(answer: &Value, what: &str) -> u64 {
    answer["read"][what].as_u64().unwrap_or_else(|| panic!("{what} is not in {answer}"))
}

/// The first purchase of a day.
fn of(books: &Books, date: &str) -> Purchase {
    books.sent.iter().find(|purchase| day(purchase) == date).cloned().expect("a purchase every twelve minutes")
}

/// Day and content.
async fn contents(books: &Books) -> Result<Vec<(String, String)>> {
    Ok(books.states().await?.into_iter().map(|(day, _, _, content)| (day, content)).collect())
}

/// The days whose newest settlement is of another run than before.
async fn counted_since(books: &Books, before: &[(String, String, String, String)]) -> Result<Vec<String>> {
    let now = books.states().await?;
    Ok(now.into_iter().filter(|row| before.iter().all(|old| old.2 != row.2)).map(|(day, ..)| day).collect())
}

/// Counts every day by reading everything, and compares.
async fn assert_full_is_the_same(books: &Books) -> Result<Value> {
    let incremental = contents(books).await?;
    let full = books.run(0, &["nightly", "--full"])?;
    ensure!(full["settled"] == incremental.len(), "{full}");
    ensure!(contents(books).await? == incremental, "reading everything settles something else");
    Ok(full)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_late_deliveries_cost_little_and_settle_the_same() -> Result<()> {
    let (mut books, first) = settled().await?;
    ensure!(read(&first, "lake_rows") >= 20_000, "{first}");
    let nothing = books.run(99, &["nightly"])?;
    ensure!((read(&nothing, "lake_rows"), read(&nothing, "lake_bytes")) == (0, 0), "{nothing}");

    let before = books.states().await?;
    let late = purchases(0x5eed_4402, 3, "2026-04-10T16:00:00Z", 30);
    books.send(&late).await?;
    // A purchase that is settled with 20 April comes again, says 5 May, and the log took that delivery an hour earlier;
    // one of 1 April comes again a day later, after the one that counts.
    let moved = Purchase { at_us: of(&books, "2026-05-05").at_us + 1_000_000, ..of(&books, "2026-04-20") };
    produce_at(&books.world, std::slice::from_ref(&moved), Some(jiff::Timestamp::now().as_millisecond() - HOUR_MS))
        .await?;
    let again = Purchase { at_us: of(&books, "2026-04-02").at_us + 1_000_000, ..of(&books, "2026-04-01") };
    produce_at(&books.world, &[again], None).await?;
    let few = books.nightly()?;
    let counted = counted_since(&books, &before).await?;
    ensure!(counted == ["2026-04-02", "2026-04-10", "2026-04-20", "2026-05-05"], "{counted:?}");
    let known = books.sent.iter_mut().find(|purchase| purchase.id == moved.id);
    *known.expect("it was sent") = moved;
    ensure!(books.settled_days().await? == Books::expected_days(&books.sent), "an event counts on one day");

    let full = assert_full_is_the_same(&books).await?;
    for what in ["lake_rows", "lake_bytes"] {
        let (few, full) = (read(&few, what), read(&full, what));
        ensure!(few > 0 && few * 5 < full, "{what}: {few} for a few days, {full} for all");
    }
    ensure!(
        read(&few, "index_bytes") * 5 < read(&full, "lake_bytes") && read(&full, "index_bytes") == 0,
        "{few}, {full}"
    );
    Ok(())
}

/// The files of the tenant's index whose names end like this.
fn index_files(books: &Books, ending: &str) -> Result<Vec<PathBuf>> {
    let folder = books.world.store().join("index").join(&books.world.tenant);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        files.push(entry?.path());
    }
    files.retain(|file| file.to_string_lossy().ends_with(ending));
    ensure!(!files.is_empty(), "the index has no {ending}");
    Ok(files)
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_to_the_index_the_numbers_are_the_same() -> Result<()> {
    let (mut books, _) = settled().await?;
    for (seed, ending) in [(0x5eed_4411, ".json"), (0x5eed_4412, ".marks"), (0x5eed_4413, ".repeats")] {
        // Something is delivered twice on a day that comes late.
        let late = purchases(seed, 3, "2026-04-10T16:00:00Z", 30);
        books.send(&late).await?;
        books.send(&late[..1]).await?;
        books.nightly()?;
        for (number, file) in index_files(&books, ending)?.iter().enumerate() {
            let mut bytes = std::fs::read(file)?;
            if number % 2 == 0 || bytes.is_empty() {
                std::fs::remove_file(file)?;
            } else {
                let last = bytes.len() - 1;
                bytes[last] ^= 4;
                std::fs::write(file, bytes)?;
            }
        }
        books.send(&purchases(seed + 100, 3, "2026-04-10T18:00:00Z", 30)).await?;
        books.nightly()?;
        ensure!(books.settled_days().await? == Books::expected_days(&books.sent), "with damaged {ending}");
    }
    assert_full_is_the_same(&books).await?;
    // That run kept no index: the next one makes it anew, and has nothing to do.
    let anew = books.run(99, &["nightly"])?;
    ensure!(read(&anew, "lake_rows") >= 10_000, "{anew}");
    Ok(())
}
