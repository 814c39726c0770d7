//! What a writer without the comparison of versions would do, done by hand: the oracle has to notice it.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::LATENESS;
use crate::World;
use crate::counted::{assert_counted, cell_keys};

/// Every field of every hash of cells in Redis, as it is stored.
pub type Fields = BTreeMap<(String, String), String>;

/// All of them.
pub async fn fields(world: &World) -> Result<Fields> {
    let mut connection = world.redis_connection().await?;
    let mut fields = Fields::new();
    for key in cell_keys(&mut connection, &world.tenant).await? {
        let hash: BTreeMap<String, String> = redis::cmd("HGETALL").arg(&key).query_async(&mut connection).await?;
        fields.extend(hash.into_iter().map(|(field, totals)| ((key.clone(), field), totals)));
    }
    Ok(fields)
}

/// No cell may ever go back to an older version.
pub fn assert_not_older(before: &Fields, after: &Fields) -> Result<()> {
    for (cell, old) in before {
        let Some(new) = after.get(cell) else { anyhow::bail!("{cell:?} is gone") };
        ensure!(version(new)? >= version(old)?, "{cell:?} went back from {old:?} to {new:?}");
    }
    Ok(())
}

fn version(totals: &str) -> Result<u64> {
    Ok(totals.split(' ').next().context("a version")?.parse()?)
}

/// Writes an older cell over its newer totals, past the script, and looks whether the oracle notices; then the same in
/// ClickHouse with a version that is higher than it deserves. Both are taken back.
pub async fn an_older_writer_is_noticed(world: &World, older: &Fields) -> Result<()> {
    let newest = fields(world).await?;
    let ((key, field), old) = older
        .iter()
        .find(|(cell, old)| newest.get(*cell).is_some_and(|new| counts(new) != counts(old) && in_question(&cell.0)))
        .context("no cell has changed since: not a control")?;
    let new = &newest[&(key.clone(), field.clone())];
    let mut connection = world.redis_connection().await?;
    let mut set = async |totals: &str| {
        redis::cmd("HSET").arg(key).arg(field).arg(totals).query_async::<()>(&mut connection).await
    };
    set(old).await?;
    noticed(world, "Redis").await?;
    set(new).await?;

    let client = world.clickhouse_client();
    let copy = |version: &str, count: &str| {
        format!(
            "INSERT INTO speed_cells_raw SELECT * REPLACE({version} AS version, {count} AS count) FROM speed_cells_raw \
             FINAL WHERE rollup = 'total' AND grain = '1h' ORDER BY window_start, event, partition LIMIT 1"
        )
    };
    client.query(&copy("version + 1000000", "count - 1")).execute().await?;
    noticed(world, "ClickHouse").await?;
    client.query(&copy("version + 1", "count + 1")).execute().await?;
    assert_counted(world, LATENESS).await?;
    Ok(())
}

/// What of the totals is compared: not the version.
fn counts(totals: &str) -> &str {
    totals.split_once(' ').map_or(totals, |(_, rest)| rest)
}

fn in_question(key: &str) -> bool {
    key.contains(":cells:1h:") || key.contains(":cells:1m:")
}

async fn noticed(world: &World, store: &str) -> Result<()> {
    let problem = assert_counted(world, LATENESS).await.err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(problem.contains(store) && problem.contains("cells are wrong"), "nobody noticed: {problem}");
    Ok(())
}
