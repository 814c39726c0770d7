//! What the tests stand on: real servers, the real binary, and oracles that share no code with what they judge.
//!
//! `make test` starts one stack for all tests (its folder is in `RECKON_TEST_STACK`). A test that harms a server
//! starts a stack of its own ([`Stack::own`]). Every test has its own tenant, topics, database and lake
//! ([`World::new`]), so tests do not see each other.

#![allow(missing_docs, reason = "test support: names and the module text say it")]
#![allow(clippy::print_stderr, reason = "seeds and the ends of logs belong into a failing test's output")]

pub mod books;
pub mod counted;
pub mod faults;
pub mod lake;
pub mod lists;
pub mod log;
pub mod openid;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod purchases;
pub mod raw;
pub mod s3;
pub mod shop;
pub mod stack;
pub mod world;

pub use process::Process;
pub use stack::{Service, Stack};
pub use world::{Member, World};

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;

/// Asks until the answer is yes.
///
/// # Errors
/// What was waited for, if it did not happen in time.
pub async fn until<F: Future<Output = anyhow::Result<bool>>>(
    what: &str,
    limit: Duration,
    ask: impl Fn() -> F,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut last_error = String::new();
    while started.elapsed() < limit {
        match ask().await {
            Ok(true) => return Ok(()),
            Ok(false) => last_error.clear(),
            Err(error) => last_error = format!(": {error:#}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("waited {limit:?} in vain for {what}{last_error}")
}

/// The interpreter that has what `deploy/local/install --with-tests` installed.
///
/// # Errors
/// It is not there.
pub fn python() -> anyhow::Result<PathBuf> {
    let cache = std::env::var_os("RECKON_CACHE").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
        home.map(|cache| cache.join("reckon"))
    });
    let python = cache.context("no folder for caches")?.join("test-venv/bin/python");
    anyhow::ensure!(python.exists(), "{} is missing: run deploy/local/install --with-tests", python.display());
    Ok(python)
}
