//! What single tenants may use, where that is not what the configuration says for all.

use std::collections::HashMap;

use reckon_schemas::ids::TenantId;
use serde_json::json;

use super::audit::Change;
use super::{Accounts, Actor, Error};

/// A tenant's bounds; what is absent is as configured for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Requests to the serving nodes per second, each node for itself.
    pub queries_per_second_max: Option<u32>,
    /// Live connections at a time, each node for itself.
    pub live_clients_max: Option<u32>,
    /// Rows that its questions may make the stores read in a minute, each node for itself.
    pub rows_per_minute_max: Option<u64>,
    /// Events to the collectors per second, each collector for itself; instead of what the catalog says.
    pub events_per_second_max: Option<u32>,
}

type Row = (String, Option<i64>, Option<i64>, Option<i64>, Option<i64>);

impl Accounts {
    /// Gives a tenant bounds of its own, instead of those that it has had.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn set_quota(&self, tenant: &TenantId, quota: Quota, actor: &Actor) -> Result<(), Error> {
        let rows = quota.rows_per_minute_max.map(|rows| i64::try_from(rows).unwrap_or(i64::MAX));
        self.store
            .within(async {
                let mut transaction = self.store.begin().await?;
                super::keys::next_revision(&mut transaction).await?;
                sqlx::query(
                    "INSERT INTO quotas (tenant, queries_per_second_max, live_clients_max, rows_per_minute_max, \
                     events_per_second_max) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (tenant) DO UPDATE SET \
                     queries_per_second_max = excluded.queries_per_second_max, \
                     live_clients_max = excluded.live_clients_max, \
                     rows_per_minute_max = excluded.rows_per_minute_max, \
                     events_per_second_max = excluded.events_per_second_max",
                )
                .bind(tenant.as_str())
                .bind(quota.queries_per_second_max.map(i64::from))
                .bind(quota.live_clients_max.map(i64::from))
                .bind(rows)
                .bind(quota.events_per_second_max.map(i64::from))
                .execute(&mut *transaction)
                .await?;
                let detail = json!({
                    "queries_per_second_max": quota.queries_per_second_max, "live_clients_max": quota.live_clients_max,
                    "rows_per_minute_max": quota.rows_per_minute_max,
                    "events_per_second_max": quota.events_per_second_max,
                });
                let tenant = tenant.as_str();
                let change = Change { tenant, actor, action: "quota.set", target: tenant, detail };
                change.record(&mut transaction).await?;
                Ok(transaction.commit().await?)
            })
            .await?;
        self.refresh_after_change().await;
        Ok(())
    }

    pub(super) async fn read_quotas(&self) -> Result<HashMap<TenantId, Quota>, Error> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT tenant, queries_per_second_max, live_clients_max, rows_per_minute_max, events_per_second_max \
             FROM quotas",
        )
        .fetch_all(self.store.pool())
        .await?;
        let quota = |(tenant, queries, clients, rows, events): Row| {
            let small = |value: Option<i64>| value.map(|value| u32::try_from(value.max(0)).unwrap_or(u32::MAX));
            let quota = Quota {
                queries_per_second_max: small(queries),
                live_clients_max: small(clients),
                rows_per_minute_max: rows.map(|rows| u64::try_from(rows).unwrap_or(0)),
                events_per_second_max: small(events),
            };
            Some((tenant.parse().ok()?, quota))
        };
        Ok(rows.into_iter().filter_map(quota).collect())
    }
}
