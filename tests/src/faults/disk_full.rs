//! Fault 12: the disk under the snapshots is full.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::flow::Flow;
use super::steps::{newest, snapshot_folder, snapshots};
use super::{PATIENCE, Survived, tuning, until_assigned, until_logged, until_progress, until_whole};
use crate::{Member, Stack, World, until};

/// Fills a file system of 64 MB, kills a worker on it, and makes room again. Left out, with a word about it, where
/// nothing may be mounted.
pub async fn no_room_for_snapshots(stack: &Stack, seed: u64) -> Result<Survived> {
    let world = World::with_tuning(stack, &tuning(""))?;
    let folder = snapshot_folder(&world);
    std::fs::create_dir_all(&folder)?;
    let disk = match Disk::mount(&folder, "64m") {
        Ok(disk) => disk,
        Err(refusal) => {
            eprintln!("left out: a full disk needs a mount, and that was refused: {refusal:#}");
            return Ok(Survived {
                injected: "left out".to_owned(),
                held: format!("nothing may be mounted: {refusal:#}"),
            });
        }
    };
    let mut worker = world.start_worker(&Member::named("first"))?;
    let flow = Flow::start(&world, seed, 40_000, 300)?;
    until("every partition's snapshot", PATIENCE, || async { Ok(newest(&world).len() == 3) }).await?;
    let filler = disk.fill()?;
    until_logged(&worker, "snapshot was not written", 1).await?;
    let saved = newest(&world);
    until_progress(&world, 200).await.context("counting goes on without snapshots")?;
    ensure!(newest(&world) == saved, "snapshots are {:?}, with no room for new ones", snapshots(&world));
    worker.kill()?;

    // The old ones are valid: they are where the next one starts, also while there is no room.
    let mut worker = world.start_worker(&Member::named("second"))?;
    let starts = until_assigned(&worker, 3).await?;
    ensure!(starts.iter().all(|(partition, offset)| saved.get(partition) == Some(offset)), "{starts:?} {saved:?}");
    ensure!(!worker.log().contains("snapshot is damaged"), "{}", worker.log_tail());
    until_logged(&worker, "snapshot was not written", 1).await?;
    std::fs::remove_file(filler)?;
    until_logged(&worker, "snapshots are written again", 1).await?;
    until("newer snapshots", PATIENCE, || async {
        let now = newest(&world);
        Ok(saved.iter().all(|(partition, offset)| now.get(partition) > Some(offset)))
    })
    .await?;
    flow.stop(&world).await?;
    let whole = until_whole(&world).await?;
    ensure!(worker.stop()?.success(), "{}", worker.log_tail());
    drop(disk);
    Ok(Survived {
        injected: "a full disk of 64 MB under the snapshots, and a kill -9 on it".to_owned(),
        held: format!("{whole}; the old snapshots stayed valid, new ones came with the room"),
    })
}

/// A mounted file system in memory. Unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(folder: &Path, size: &str) -> Result<Self> {
        let options = format!("size={size}");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(Self(folder.to_owned()))
    }

    /// Writes until nothing fits any more.
    fn fill(&self) -> Result<PathBuf> {
        let path = self.0.join("filler");
        let mut file = std::fs::File::create(&path)?;
        let full = loop {
            if let Err(error) = file.write_all(&[0; 4096]) {
                break error;
            }
        };
        ensure!(full.kind() == std::io::ErrorKind::StorageFull, "{full}");
        Ok(path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a worker that is about to end may still have a file open.
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.0.display());
        }
    }
}
