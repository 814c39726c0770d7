//! A tenant's month in the books: purchases in, settlements, closes and checks by the real binary.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::counted::produce;
use crate::purchases::{Purchase, Sums, generate, sums};
use crate::{Process, World};

/// What happens sooner than in production.
pub const TUNING: &str = r#"
[speed]
flush_interval = "100ms"
clickhouse_interval = "300ms"

[archive]
commit_interval = "200ms"

[nightly]
archive_wait = "60s"
lock_expiry = "3s"
"#;

/// The month that is closed: long over, and the clocks of the tenant's zone change in it.
pub const PERIOD: &str = "2026-03";

/// See the module.
pub struct Books {
    pub world: World,
    pub sent: Vec<Purchase>,
    _parts: [Process; 2],
}

/// An instant in microseconds.
pub fn micros(at: &str) -> i64 {
    at.parse::<jiff::Timestamp>().expect("an instant").as_microsecond()
}

/// Purchases from an instant on, one every so many minutes.
pub fn purchases(seed: u64, count: usize, from: &str, every_minutes: i64) -> Vec<Purchase> {
    generate(seed, count, micros(from), every_minutes * 60_000_000)
}

/// The calendar day of a purchase where the tenant is.
pub fn day(purchase: &Purchase) -> String {
    let at = jiff::Timestamp::from_microsecond(purchase.at_us).expect("in range");
    at.to_zoned(jiff::tz::TimeZone::get("America/New_York").expect("known")).date().to_string()
}

impl Books {
    /// A world whose speed worker and archive run.
    pub fn open(world: World) -> Result<Self> {
        let parts = [world.start("speed")?, world.start("archive")?];
        Ok(Self { world, sent: Vec::new(), _parts: parts })
    }

    /// Brings purchases into the log.
    pub async fn send(&mut self, purchases: &[Purchase]) -> Result<()> {
        produce(&self.world, purchases).await?;
        self.sent.extend_from_slice(purchases);
        Ok(())
    }

    /// Runs a command that has to end with this exit code; its last line is JSON.
    pub fn run(&self, code: i32, arguments: &[&str]) -> Result<Value> {
        let finished = self.world.run(arguments)?;
        ensure!(
            finished.code == code,
            "reckon {}: exit {} instead of {code}\n{}\n{}",
            arguments.join(" "),
            finished.code,
            finished.stdout,
            finished.log
        );
        let last = finished.stdout.lines().last().unwrap_or("null");
        serde_json::from_str(last).with_context(|| format!("the last line is no JSON: {last}"))
    }

    /// The same with the tenant.
    pub fn run_for_tenant(&self, code: i32, arguments: &[&str]) -> Result<Value> {
        let arguments = [arguments, &["--tenant", &self.world.tenant]].concat();
        self.run(code, &arguments)
    }

    /// What a command that prints one JSON object a line prints.
    pub fn rows(&self, command: &str) -> Result<Vec<Value>> {
        let finished = self.world.run(&[command, "--tenant", &self.world.tenant, "--format", "json"])?;
        ensure!(finished.code == 0, "{command}: {}", finished.log);
        finished.stdout.lines().map(|line| serde_json::from_str(line).context(line.to_owned())).collect()
    }

    /// Settles what is due and returns the report.
    pub fn nightly(&self) -> Result<Value> {
        self.run(0, &["nightly"])
    }

    /// Settles every day again, whether it changed or not.
    pub fn nightly_full(&self) -> Result<Value> {
        self.run(0, &["nightly", "--full"])
    }

    /// The settled total of every day, from ClickHouse.
    pub async fn settled_days(&self) -> Result<BTreeMap<String, Sums>> {
        let rows: Vec<(String, u64, i128, u64)> = self
            .world
            .clickhouse_client()
            .query(
                "SELECT toString(day), count, money['USD'], users_exact FROM settled_cells \
                 WHERE rollup = 'total' AND grain = '1d' ORDER BY day",
            )
            .fetch_all()
            .await?;
        Ok(rows.into_iter().map(|(day, count, cents, users)| (day, Sums { count, cents, users })).collect())
    }

    /// The same, added up from purchases.
    pub fn expected_days(purchases: &[Purchase]) -> BTreeMap<String, Sums> {
        sums(purchases, day)
    }

    /// Day, state, run and content of everything that is settled.
    pub async fn states(&self) -> Result<Vec<(String, String, String, String)>> {
        let rows = self
            .world
            .clickhouse_client()
            .query("SELECT toString(day), state, run_id, content_hash FROM settlements_current ORDER BY day")
            .fetch_all()
            .await?;
        Ok(rows)
    }

    /// Changes what is stored, as somebody with access to the server could.
    pub async fn tamper(&self, sql: &str) -> Result<()> {
        let client = self.world.clickhouse_client().with_setting("mutations_sync", "2");
        Ok(client.query(&sql.replace('?', "??")).execute().await?)
    }
}
