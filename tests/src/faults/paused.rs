//! Fault 2: a worker is paused past its session timeout, with writes on their way, and comes back.

use anyhow::{Result, ensure};

use super::controls::{an_older_writer_is_noticed, assert_not_older, fields};
use super::flow::purchases;
use super::via::Via;
use super::{LATENESS, PATIENCE, Survived, tuning, until_assigned, until_logged, until_whole};
use crate::counted::{assert_counted, produce, progress_in_clickhouse, progress_in_redis, until_counted};
use crate::proxy::{Direction, Way};
use crate::{Member, Stack, World, until};

/// One worker owns everything, is paused with a flush under way to each store, and loses everything to another one.
pub async fn pause_past_the_session(stack: &Stack, seed: u64) -> Result<Survived> {
    let world = World::with_tuning(stack, &tuning(""))?;
    let via = Via::open(&world).await?;
    let all = purchases(seed, 12_000);
    let parts: Vec<_> = all.chunks(all.len().div_ceil(4)).collect();
    let mut paused = world.start_worker(&via.member("paused"))?;
    produce(&world, parts[0]).await?;
    until_counted(&world).await?;
    let older = fields(&world).await?;

    via.set(Direction::Requests, Way::Held);
    produce(&world, parts[1]).await?;
    via.until_held(Direction::Requests).await?;
    paused.pause()?;
    let mut other = world.start_worker(&Member::named("other"))?;
    until_assigned(&other, 3).await?;
    produce(&world, parts[2]).await?;
    until_counted(&world).await?;
    assert_counted(&world, LATENESS).await?;

    // The late writes arrive, first those that had left the worker, then those that it had yet to send.
    let (before, redis, clickhouse) =
        (fields(&world).await?, progress_in_redis(&world).await?, progress_in_clickhouse(&world).await?);
    let answers = (via.redis.forwarded(Direction::Answers), via.clickhouse.forwarded(Direction::Answers));
    via.set(Direction::Requests, Way::Open);
    paused.resume()?;
    until("the late writes to be answered", PATIENCE, || async {
        Ok(via.redis.forwarded(Direction::Answers) > answers.0
            && via.clickhouse.forwarded(Direction::Answers) > answers.1)
    })
    .await?;
    until_logged(&paused, "partitions lost", 1).await?;
    ensure!(!paused.has_ended()?, "{}", paused.log_tail());
    assert_counted(&world, LATENESS).await?;
    assert_not_older(&before, &fields(&world).await?)?;
    let back = |was: &i64, is: Option<&i64>| is.is_none_or(|is| is < was);
    for (was, is) in [(redis, progress_in_redis(&world).await?), (clickhouse, progress_in_clickhouse(&world).await?)] {
        ensure!(!was.iter().any(|(partition, was)| back(was, is.get(partition))), "{is:?} is behind {was:?}");
    }

    // Together they go on; and the same without versions would not have passed.
    produce(&world, parts[3]).await?;
    let whole = until_whole(&world).await?;
    an_older_writer_is_noticed(&world, &older).await?;
    ensure!(paused.stop()?.success() && other.stop()?.success(), "{}\n{}", paused.log_tail(), other.log_tail());
    Ok(Survived {
        injected: "SIGSTOP past the session timeout with a flush on its way to each store, then SIGCONT".to_owned(),
        held: format!("{whole}; no cell and no progress went back; an older total put in by hand is noticed"),
    })
}
