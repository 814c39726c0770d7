//! The whole data set: a year of purchases, delivered with trouble, settles month by month to what DuckDB finds in the
//! source file.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use reckon_schemas::catalog::Catalog;
use reckon_tests::stack::repository;
use reckon_tests::{Stack, World};
use serde::Deserialize;

use crate::questions::{self, Source};

/// The published totals of the data set.
const PURCHASES: u64 = 1_469_307;
const REVENUE: &str = "4596039.58";
const HOUSEHOLDS: u64 = 2_469;

/// Floats that are whole cents, so the only rounding is that to cents; days and months are those of New York.
const BY_MONTH: &str = "
import duckdb, json, sys
# It would go to standard output when the machine is slow.
duckdb.execute('SET enable_progress_bar = false')
print(duckdb.execute('''
    SELECT json_group_array({'month': month, 'purchases': purchases, 'cents': cents, 'households': households}) FROM (
        SELECT strftime(timezone('America/New_York', timezone('UTC', transaction_timestamp)), '%Y-%m') AS month,
               count(*) AS purchases, sum(CAST(round(sales_value * 100) AS BIGINT)) AS cents,
               count(DISTINCT household_id) AS households
        FROM read_parquet(?) GROUP BY GROUPING SETS ((1), ()) ORDER BY 1 NULLS LAST)
''', [sys.argv[1]]).fetchone()[0])";

/// What a month holds; all of them if it has no name.
#[derive(Debug, Deserialize)]
struct Month {
    month: Option<String>,
    purchases: u64,
    cents: i64,
    households: u64,
}

fn dollars(cents: i64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_month_of_the_year_is_what_duckdb_finds_in_the_source() -> Result<()> {
    let stack = Stack::shared()?;
    let mut world = World::new(&stack)?;
    let data = dataset()?;
    let dir = world.config().with_file_name("demo");
    let (source, dir) = (data.to_str().context("UTF-8")?, dir.to_str().context("UTF-8")?);
    let demo = world.run(&["demo", "--data", source, "--dir", dir, "--keep-time", "--exit"])?;
    ensure!(demo.code == 0, "exit {}:\n{}\n{}", demo.code, demo.stdout, demo.log);
    ensure!(demo.stdout.contains("residual 0"), "{}", demo.stdout);

    // The demo's tenant is asked with a key of this world.
    let keys = world.catalog.tenants[0].keys.clone();
    let mut catalog: Catalog = toml::from_str(&std::fs::read_to_string(format!("{dir}/catalog.toml"))?)?;
    catalog.tenants[0].keys = keys;
    world.change_catalog(|tenant| *tenant = catalog.tenants.remove(0))?;
    let mut serving = world.start_serving().await?;

    let months = by_month(&data.join("transactions.parquet"))?;
    ensure!(months.len() == 13, "{months:?}");
    for Month { month, purchases, cents, households } in months {
        let range = match month.as_deref() {
            None => {
                ensure!((purchases, dollars(cents).as_str(), households) == (PURCHASES, REVENUE, HOUSEHOLDS));
                "from=2017-01-01&to=2018-01-01".to_owned()
            }
            Some(month) => {
                let first: jiff::civil::Date = format!("{month}-01").parse()?;
                format!("from={first}&to={}", first.last_of_month().tomorrow()?)
            }
        };
        let ask = |metric: &str| format!("/v1/query?metric={metric}&grain=1d&{range}");
        for (metric, expected) in
            [("purchases", purchases.into()), ("revenue", dollars(cents).into()), ("households", households.into())]
        {
            let total = world.query(&ask(metric)).await?["total"].clone();
            let expected: serde_json::Value = expected;
            ensure!(total["value"] == expected, "{metric} of {month:?}: {total} instead of {expected}");
            ensure!(total["state"] == "settled" && total["method"] == "exact", "{total}");
        }
    }
    ensure!(serving.stop()?.success());
    let (first, end) = ("2017-01-01T05:00:00Z", "2018-01-01T05:00:00Z");
    questions::answers_equal_the_source(&mut world, &Source { folder: data, first, end, rounds: 8 }).await
}

/// The folder of the data set, which is fetched if it is not there yet.
fn dataset() -> Result<PathBuf> {
    let fetched = Command::new(repository().join("deploy/local/fetch-dataset")).output()?;
    ensure!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
    Ok(PathBuf::from(String::from_utf8(fetched.stdout)?.trim()))
}

fn by_month(file: &Path) -> Result<Vec<Month>> {
    let python = reckon_tests::python()?;
    let counted = Command::new(python).args(["-c", BY_MONTH]).arg(file).output()?;
    ensure!(counted.status.success(), "{}", String::from_utf8_lossy(&counted.stderr));
    Ok(serde_json::from_slice(&counted.stdout)?)
}
