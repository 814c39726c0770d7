//! Fault 17: a worker's clock is an hour off, either way.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::flow::purchases;
use super::{LATENESS, Survived, tuning};
use crate::counted::{assert_counted, produce, until_counted};
use crate::purchases::generate;
use crate::{Member, Stack, World};

/// A worker an hour ahead, then one an hour behind. Some events are a few minutes ahead of the log, which is allowed,
/// and some half an hour, which is not: neither clock has a say in it.
pub async fn clock_is_an_hour_off(stack: &Stack, seed: u64) -> Result<Survived> {
    let library = faketime()?;
    let world = World::with_tuning(stack, &tuning(""))?;
    let all = purchases(seed, 6_000);
    for (offset, part) in ["+1h", "-1h"].into_iter().zip(all.chunks(all.len() / 2 + 1)) {
        let mut member = Member::named(format!("worker{offset}"));
        member.variables = [("LD_PRELOAD", library.to_string_lossy().as_ref()), ("FAKETIME", offset)]
            .into_iter()
            .chain([("FAKETIME_DONT_FAKE_MONOTONIC", "1"), ("FAKETIME_FORCE_MONOTONIC_FIX", "0")])
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut worker = world.start_worker(&member)?;
        produce(&world, part).await?;
        until_counted(&world).await.with_context(|| worker.log_tail())?;
        let now_us = jiff::Timestamp::now().as_microsecond();
        let stamp = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(if offset == "+1h" { 1 } else { -1 });
        let hour = stamp.strftime("%Y-%m-%dT%H:").to_string();
        ensure!(worker.log().contains(&hour), "its clock is right:\n{}", worker.log_tail());
        if offset == "-1h" {
            produce(&world, &generate(seed + 1, 200, now_us + 60_000_000, 1_000_000)).await?;
            produce(&world, &generate(seed + 2, 200, now_us + 30 * 60_000_000, 1_000_000)).await?;
            until_counted(&world).await?;
        } else {
            produce(&world, &generate(seed + 3, 200, now_us + 40 * 60_000_000, 1_000_000)).await?;
            until_counted(&world).await?;
        }
        ensure!(worker.stop()?.success(), "{}", worker.log_tail());
    }
    let counted = assert_counted(&world, LATENESS).await?;
    ensure!(counted.exceptions.get("future") == Some(&400), "{:?}", counted.exceptions);
    ensure!(!counted.exceptions.contains_key("late"), "{:?}", counted.exceptions);
    Ok(Survived {
        injected: "a worker's clock an hour ahead, then one an hour behind".to_owned(),
        held: format!("{} cells; the same 400 events are future ones", counted.cells.len()),
    })
}

/// The library that lies about the time, of Debian's package `faketime`.
fn faketime() -> Result<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib")?.flatten().map(|entry| entry.path());
    folders
        .map(|folder| folder.join("faketime/libfaketime.so.1"))
        .find(|library| library.exists())
        .context("libfaketime is missing: deploy/local/install --with-tests installs it")
}
