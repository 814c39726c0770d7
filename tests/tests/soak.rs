//! `make soak`: the faults of the speed layer, played long, two at a time. It prints what each scene injected and what
//! it survived, with its seed, and fails if an oracle did anywhere. Without `RECKON_SOAK` it does nothing: `cargo test`
//! is to be over soon.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is the result")]

use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::StreamExt;
use reckon_tests::Stack;
use reckon_tests::faults::{
    Survived, bad_records, bit_flip, blocked, broker, calendar, clock, disk_full, hot_tenant, idle, kills, lost_answer,
    many_parts, paused, redis_paused, steps, storm, together, truncated,
};
use serde_json::{Value, json};

/// All of it takes at most so long; what is not over by then has failed.
const ALL_MAX: Duration = Duration::from_secs(20 * 60);

/// The faults' numbers, the seed, and the scene.
struct Case {
    faults: &'static str,
    seed: u64,
    scene: Pin<Box<dyn Future<Output = Result<Survived>> + Send>>,
}

struct Played {
    faults: &'static str,
    seed: u64,
    took: Duration,
    result: Result<Survived>,
}

#[tokio::main]
async fn main() -> ExitCode {
    if std::env::var_os("RECKON_SOAK").is_none() {
        return ExitCode::SUCCESS;
    }
    let started = Instant::now();
    let played = match play(started + ALL_MAX).await {
        Ok(played) => played,
        Err(error) => {
            eprintln!("soak: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    print(&played, started.elapsed());
    if played.iter().all(|case| case.result.is_ok()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Harmless to the servers in one line, harmful ones in the other, each line one case after the other.
async fn play(deadline: Instant) -> Result<Vec<Played>> {
    let shared = Arc::new(Stack::shared()?);
    let own = Arc::new(tokio::task::spawn_blocking(|| Stack::own("soak")).await??);
    let (mut played, harmed) = futures::join!(
        one_by_one(on_the_shared_stack(&shared), deadline),
        one_by_one(on_the_harmed_one(&own), deadline)
    );
    played.extend(harmed);
    played.sort_by_key(|case| case.faults);
    Ok(played)
}

async fn one_by_one(cases: Vec<Case>, deadline: Instant) -> Vec<Played> {
    futures::stream::iter(cases).then(|case| play_one(case, deadline)).collect().await
}

async fn play_one(case: Case, deadline: Instant) -> Played {
    let Case { faults, seed, scene } = case;
    let started = Instant::now();
    // A task of its own, so that a panic is a failure of this case alone.
    let mut task = tokio::spawn(scene);
    let result = match tokio::time::timeout_at(deadline.into(), &mut task).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(panic.into()),
        Err(_) => {
            task.abort();
            Err(anyhow::anyhow!("not over when the {ALL_MAX:?} for all cases were"))
        }
    };
    let took = started.elapsed();
    let said = result.as_ref().map_or_else(|error| format!("FAILED: {error:#}"), |survived| survived.held.clone());
    eprintln!("soak: {faults} (seed {seed:#x}, {:.0} s): {said}", took.as_secs_f64());
    Played { faults, seed, took, result }
}

fn on_the_shared_stack(stack: &Arc<Stack>) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |faults, seed, scene| cases.push(Case { faults, seed, scene });
    macro_rules! case {
        ($faults:literal, $seed:literal, |$s:ident, $seed_name:ident| $scene:expr) => {{
            let $s = Arc::clone(stack);
            let $seed_name = $seed;
            add($faults, $seed, Box::pin(async move { $scene.await }));
        }};
    }
    case!("01 steps", 0x50a4_0101, |s, seed| steps::kill_at_each_step(&s, seed, 5));
    case!("01 mid-window", 0x50a4_0102, |s, seed| kills::kill_in_mid_window(&s, seed, 20));
    case!("01 second worker", 0x50a4_0103, |s, seed| kills::second_worker_comes_and_goes(&s, seed));
    case!("02 paused", 0x50a4_0201, |s, seed| paused::pause_past_the_session(&s, seed));
    case!("02 paused", 0x50a4_0202, |s, seed| paused::pause_past_the_session(&s, seed));
    case!("03 storm", 0x50a4_0301, |s, seed| storm::rebalance_storm(&s, seed, 50));
    case!("04 blocked", 0x50a4_0401, |s, seed| blocked::block_past_the_poll_interval(&s, seed));
    case!("06 truncated, no snapshot", 0x50a4_0602, |s, seed| truncated::log_truncated_without_a_snapshot(&s, seed));
    case!("06 truncated", 0x50a4_0601, |s, seed| truncated::log_truncated_under_the_worker(&s, seed));
    case!("10 lost answer", 0x50a4_1001, |s, seed| lost_answer::answers_are_lost(&s, seed, 10));
    case!("11 many parts", 0x50a4_1101, |s, seed| many_parts::too_many_parts(&s, seed, 300));
    case!("12 disk full", 0x50a4_1201, |s, seed| disk_full::no_room_for_snapshots(&s, seed));
    case!("16 bit flip", 0x50a4_1601, |s, seed| bit_flip::bits_flip_in_snapshots(&s, seed));
    case!("16 bit flip", 0x50a4_1602, |s, seed| bit_flip::bits_flip_in_snapshots(&s, seed));
    case!("17 clock", 0x50a4_1701, |s, seed| clock::clock_is_an_hour_off(&s, seed));
    case!("19 calendar", 0x50a4_1901, |s, seed| calendar::instants_far_and_special(&s, seed));
    case!("20 idle", 0x50a4_2001, |s, seed| idle::a_partition_is_idle(&s, seed));
    case!("21 bytes", 0x50a4_2101, |s, seed| bad_records::bytes_that_are_no_event(&s, seed));
    case!("22 sums", 0x50a4_2201, |s, seed| bad_records::sums_beyond_64_bits(&s, seed));
    case!("23 large", 0x50a4_2301, |s, seed| bad_records::records_that_are_too_large(&s, seed, 50));
    case!("hot tenant", 0x50a4_2901, |s, seed| {
        hot_tenant::hot_tenant_beside_quiet_ones(&s, seed, Duration::from_secs(30))
    });
    cases
}

fn on_the_harmed_one(stack: &Arc<Stack>) -> Vec<Case> {
    let mut cases = Vec::new();
    let shared = || Arc::clone(stack);
    let stack = shared();
    let broker = async move { broker::broker_goes_away(&stack, 0x50a4_0501, 4).await };
    cases.push(Case { faults: "05 broker", seed: 0x50a4_0501, scene: Box::pin(broker) });
    let stack = shared();
    let redis = async move { redis_paused::redis_does_not_answer(&stack, 0x50a4_0801, 4).await };
    cases.push(Case { faults: "08 Redis paused", seed: 0x50a4_0801, scene: Box::pin(redis) });
    for seed in 0x50a4_2801..0x50a4_280b {
        let stack = shared();
        let scene = Box::pin(async move { together::everything_dies(&stack, seed).await });
        cases.push(Case { faults: "28 together", seed, scene });
    }
    cases
}

fn print(played: &[Played], took: Duration) {
    println!("| fault | seed | s | injected | held |\n|---|---|---|---|---|");
    let mut cases: Vec<Value> = Vec::new();
    for Played { faults, seed, took, result } in played {
        let (injected, held) = match result {
            Ok(survived) => (survived.injected.as_str(), survived.held.clone()),
            Err(error) => ("", format!("FAILED: {}", format!("{error:#}").replace('\n', " "))),
        };
        println!("| {faults} | {seed:#x} | {:.0} | {injected} | {held} |", took.as_secs_f64());
        cases.push(json!({
            "fault": faults, "seed": seed, "seconds": took.as_secs(), "held": result.is_ok(), "injected": injected,
            "text": held,
        }));
    }
    let held = cases.iter().filter(|case| case["held"] == true).count();
    println!(
        "{}",
        json!({ "soak": { "cases": cases.len(), "held": held, "seconds": took.as_secs(), "played": cases } })
    );
}
