//! Fault 16, the lake's part: a flipped bit in a Parquet file is noticed before anything is counted from it, and the file
//! comes back from the log.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reckon_tests::books::{Books, TUNING, purchases};
use reckon_tests::lake::{assert_conserved, until_conserved};
use reckon_tests::{Stack, World};

const SEED: u64 = 0x5eed_1602;
const FLIPS: usize = 24;

/// The files of the tenant, in order.
fn files(world: &World) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for day in std::fs::read_dir(world.store().join("lake/events").join(format!("tenant={}", world.tenant)))? {
        for file in std::fs::read_dir(day?.path())? {
            files.push(file?.path());
        }
    }
    files.sort();
    Ok(files)
}

fn flip(file: &Path, byte: usize, bit: u32) -> Result<()> {
    let mut bytes = std::fs::read(file)?;
    bytes[byte] ^= 1 << bit;
    Ok(std::fs::write(file, bytes)?)
}

/// What is settled: day and content.
async fn contents(books: &Books) -> Result<Vec<(String, String)>> {
    Ok(books.states().await?.into_iter().map(|(day, _, _, content)| (day, content)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_the_lake_never_becomes_a_number() -> Result<()> {
    let stack = Stack::shared()?;
    let mut books = Books::open(World::with_tuning(&stack, TUNING)?)?;
    for seed in [0x5eed_1601, 0x5eed_1603] {
        books.send(&purchases(seed, 200, "2026-03-02T15:00:00Z", 60)).await?;
        until_conserved(&books.world).await?;
    }
    let rows = books.nightly()?;
    let settled = contents(&books).await?;
    ensure!(settled.len() > 5, "{rows}");

    let mut random = StdRng::seed_from_u64(SEED);
    let files = files(&books.world)?;
    for _ in 0..FLIPS {
        let file = &files[random.random_range(0..files.len())];
        let length = usize::try_from(std::fs::metadata(file)?.len())?;
        let (byte, bit) = (random.random_range(0..length), random.random_range(0..8));
        flip(file, byte, bit)?;
        let finished = books.world.run(&["nightly", "--full"])?;
        let name = file.file_name().context("a name")?.to_string_lossy();
        let place = format!("seed {SEED}, byte {byte} bit {bit} of {name}: exit {}\n{}", finished.code, finished.log);
        ensure!(finished.code == 22, "{place}");
        ensure!(finished.log.contains(&*name) && finished.log.contains("reckon archive --again"), "{place}");
        ensure!(contents(&books).await? == settled, "{place}");
        flip(file, byte, bit)?;
    }
    books.nightly_full()?;
    ensure!(contents(&books).await? == settled);

    // A compaction does not take damage for what was written; nor does it seal less than it found.
    flip(&files[0], 100, 3)?;
    ensure!(books.world.run(&["compact"])?.code == 22);
    restored(&books, &files[0]).await?;
    ensure!(contents(&books).await? == settled, "the records are the same");
    let before = self::files(&books.world)?;
    books.run(0, &["compact"])?;
    let united = self::files(&books.world)?;
    let newest = united.iter().find(|file| !before.contains(file)).context("a file that the compaction wrote")?;
    flip(newest, 200, 1)?;
    ensure!(books.world.run(&["nightly", "--full"])?.code == 22, "{}", newest.display());
    Ok(())
}

/// What the log still has is written anew; what is settled afterwards is the same.
async fn restored(books: &Books, file: &Path) -> Result<()> {
    let table = books.world.store().join("lake/events");
    let name = file.strip_prefix(&table)?.to_string_lossy().into_owned();
    let told = books.run(0, &["archive", "--again", &name])?;
    ensure!(told["restored"]["file"] == name.as_str() && told["restored"]["records"].as_u64() > Some(0), "{told}");
    assert_conserved(&books.world).await?;
    books.nightly_full()?;
    let unknown = books.world.run(&["archive", "--again", &name])?;
    ensure!(unknown.code == 78 && unknown.log.contains("newest version"), "{}", unknown.log);
    Ok(())
}
