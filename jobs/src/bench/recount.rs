//! Counts a lake exactly, as a settlement does, tenant after tenant; what it takes, and a digest of the answer.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use futures::{StreamExt, TryStreamExt};
use reckon_batch::lake::Lake;
use reckon_batch::recount::{Counted, Plan, count_whole};
use reckon_schemas::catalog::Tenant;
use reckon_schemas::cell::Rollup;
use reckon_schemas::money::Currency;
use reckon_schemas::time::{MICROS_PER_SECOND, Zone};
use reckon_schemas::window::Grain;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::events::{TENANTS, tenant};
use super::{fill_lake, rate, rounded};
use crate::usage::Usage;

const MEGABYTE: usize = 1 << 20;
/// While one tenant's counts are put together, the next one's rows are read.
const TENANTS_AT_ONCE: usize = 2;
/// Of a limit on the whole process: what is left for keys beside the tables of the count, the scan and the code.
const KEYS_SHARE: usize = 3;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// By what to group, e.g. "total country country,device".
    #[arg(long, default_value = "country", value_delimiter = ' ')]
    rollups: Vec<Rollup>,
    /// In which windows, finest first.
    #[arg(long, default_value = "1h", value_delimiter = ' ')]
    grains: Vec<Grain>,
    /// How much memory the whole process may take, in MB.
    #[arg(long, default_value_t = 4096)]
    memory_mb: usize,
}

/// The answer in a few numbers, which other engines can compute as well.
#[derive(Default)]
struct Answer {
    groups: u64,
    events: u64,
    minor: i128,
    users: u64,
    /// The sum over all cells of events times users: tells which number belongs to which.
    product: u128,
    /// For one rollup and one grain: every cell as a line.
    lines: Vec<String>,
}

/// Counts the lake in a folder.
pub(crate) async fn run(dir: &Path, arguments: &Arguments) -> Result<Value> {
    let plan = Plan {
        rollups: arguments.rollups.clone(),
        grains: arguments.grains.clone(),
        memory_bytes: arguments.memory_mb * MEGABYTE / KEYS_SHARE / TENANTS_AT_ONCE,
    };
    let single = plan.rollups.len() == 1 && plan.grains.len() == 1;
    let usd: Currency = "USD".parse()?;
    let (mut answer, mut spilled_bytes) = (Answer::default(), 0);
    let started = Instant::now();
    let table = Lake::open(&fill_lake::store(dir)).await?.events().await?;
    let tenants = (0..TENANTS).map(settings_of).collect::<Result<Vec<Tenant>>>()?;
    let counting = tenants.iter().map(|tenant| count_whole(&table, tenant, &plan));
    let mut counting = futures::stream::iter(counting).buffered(TENANTS_AT_ONCE);
    for tenant in &tenants {
        let Some(counted) = counting.try_next().await? else { break };
        spilled_bytes += counted.spilled_bytes;
        answer.add(tenant, &counted, usd, single);
    }
    let seconds = started.elapsed().as_secs_f64();
    answer.lines.sort_unstable();
    let digest = hex::encode(Sha256::digest(answer.lines.join("\n")));
    Ok(json!({
        "line": "recount",
        "engine": "reckon",
        "work": if single { "single" } else { "whole" },
        "memory_mb": arguments.memory_mb,
        "seconds": rounded(seconds),
        "events_per_second": rate(answer.events, seconds),
        "groups": answer.groups,
        "events": answer.events,
        "amount_minor": i64::try_from(answer.minor)?,
        "users_summed": answer.users,
        "product": answer.product.to_string(),
        "digest": if single { &digest[..16] } else { "" },
        "spilled_mb": spilled_bytes / MEGABYTE,
        "usage": Usage::of(std::process::id())?.json(),
    }))
}

fn settings_of(index: usize) -> Result<Tenant> {
    Ok(Tenant::new(tenant(index).parse()?, Zone::UTC))
}

impl Answer {
    fn add(&mut self, tenant: &Tenant, counted: &Counted, usd: Currency, with_lines: bool) {
        for cell in counted.cells.all() {
            let minor = cell.exact.sums.get(usd);
            self.groups += 1;
            self.events += cell.exact.count;
            self.minor += minor;
            self.users += cell.exact.users_exact;
            self.product += u128::from(cell.exact.count) * u128::from(cell.exact.users_exact);
            if with_lines {
                let event = &counted.groups.get(cell.group).event;
                let values = counted.groups.values_of(cell.group).join("|");
                let hour = cell.window.start.0 / (3600 * MICROS_PER_SECOND);
                let (count, users) = (cell.exact.count, cell.exact.users_exact);
                self.lines.push(format!("{}|{event}|{values}|{hour}|{count}|{minor}|{users}", tenant.id));
            }
        }
    }
}
