//! The stores themselves: whatever has something of a tenant says so.

use anyhow::{Result, ensure};
use reqwest::Method;

use super::stage::Stage;
use super::table::BY_DEPARTMENT;

impl Stage {
    /// Every entry of Redis that has something of the others says so in its key.
    pub(super) async fn look_into_redis(&self) -> Result<()> {
        // What is settled is kept longest: long enough to be found.
        let path = format!("/v1/query?{BY_DEPARTMENT}&grain=1d&from={}&to={}", self.from, self.from.tomorrow()?);
        let settled = self.ask(&self.theirs, Method::GET, &path, None).await?;
        ensure!(settled.status == 200 && settled.text.contains(&self.canary), "{}", settled.text);
        let mut redis = self.world.redis_connection().await?;
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut redis).await?;
        let tag = format!("{{{}}}", self.theirs.id);
        let (mut seen, mut answers) = (0, 0);
        for key in keys {
            let kind: String = redis::cmd("TYPE").arg(&key).query_async(&mut redis).await?;
            let read: &[&str] = match kind.as_str() {
                "hash" => &["HGETALL"],
                "zset" => &["ZRANGE", "0", "-1"],
                "set" => &["SMEMBERS"],
                "list" => &["LRANGE", "0", "-1"],
                "string" => &["GET"],
                _ => continue,
            };
            let mut command = redis::cmd(read[0]);
            command.arg(&key).arg(&read[1..]);
            let value: redis::Value = command.query_async(&mut redis).await?;
            let mut text = format!("{key} {value:?}");
            if let redis::Value::BulkString(bytes) = &value {
                // Answers are kept as compressed JSON behind a number.
                let packed = bytes.split(|byte| *byte == b' ').next().map_or(&bytes[..0], |head| &bytes[head.len()..]);
                let json = packed.get(1..).and_then(|packed| zstd::decode_all(packed).ok()).unwrap_or_default();
                let json = String::from_utf8_lossy(&json);
                answers += usize::from(json.contains(&self.canary));
                text += &json;
            }
            if text.contains(&self.canary) {
                ensure!(key.contains(&tag), "{key}");
                seen += 1;
            }
        }
        ensure!(seen > 0 && answers > 0, "the canary is nowhere in Redis, or in no answer: this shows nothing");
        Ok(())
    }

    /// Every row of ClickHouse that has something of the others is theirs.
    pub(super) async fn look_into_clickhouse(&self) -> Result<()> {
        let client = self.world.clickhouse_client();
        let tables: Vec<(String, u8)> = client
            .query(
                "SELECT table, toUInt8(countIf(name = 'tenant')) FROM system.columns \
                 WHERE database = currentDatabase() GROUP BY table ORDER BY table",
            )
            .fetch_all()
            .await?;
        let mut seen = 0;
        for (table, has_tenant) in tables {
            let tenant = if has_tenant == 1 { "tenant" } else { "''" };
            let rows: Vec<(String, u64)> = client
                .query(&format!(
                    "SELECT {tenant} AS whose, count() FROM {table} \
                     WHERE positionCaseInsensitive(formatRow('TSV', *), ?) > 0 GROUP BY whose"
                ))
                .bind(&self.canary)
                .fetch_all()
                .await?;
            for (tenant, count) in rows {
                ensure!(tenant == self.theirs.id, "{count} rows of {table} that are of {tenant:?}");
                seen += 1;
            }
        }
        ensure!(seen > 5, "the canary is in {seen} tables and views only: this shows little");
        Ok(())
    }
}
