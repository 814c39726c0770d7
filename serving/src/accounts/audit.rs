//! Who changed what. Written in the same transaction as the change, never changed, never removed.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use sqlx::AnyConnection;
use utoipa::ToSchema;

use super::{Accounts, Actor, Error, instant, micros};

/// The most entries on one page.
pub(crate) const PAGE_MAX: i64 = 1_000;

/// A change, on its way into the log. `detail` must not hold anything secret.
#[derive(Clone, Debug)]
pub(crate) struct Change<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) actor: &'a Actor,
    /// What was done, such as `key.create`.
    pub(crate) action: &'static str,
    /// To what, by its identifier.
    pub(crate) target: &'a str,
    pub(crate) detail: Value,
}

/// An entry of the audit log.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Entry {
    /// Grows with time.
    pub(crate) id: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
    /// Who: `user:<address>`, `key:<prefix>` or `operator`.
    pub(crate) actor: String,
    /// What was done, such as `key.create`.
    pub(crate) action: String,
    /// To what, by its identifier.
    pub(crate) target: String,
    /// What else is to be known.
    pub(crate) detail: Value,
}

impl Change<'_> {
    /// Writes it down, as a part of the transaction that makes the change.
    pub(crate) async fn record(self, transaction: &mut AnyConnection) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO audit (id, tenant, at, actor, action, target, detail) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(uuid::Uuid::now_v7().simple().to_string())
        .bind(self.tenant)
        .bind(micros(Timestamp::now()))
        .bind(self.actor.to_string())
        .bind(self.action)
        .bind(self.target)
        .bind(self.detail.to_string())
        .execute(transaction)
        .await?;
        Ok(())
    }
}

impl Accounts {
    /// A tenant's entries before the one of that identifier, the newest first.
    pub(crate) async fn audit(&self, tenant: &str, before: Option<&str>, limit: i64) -> Result<Vec<Entry>, Error> {
        let rows: Vec<(String, i64, String, String, String, String)> = self
            .store
            .within(async {
                Ok(sqlx::query_as(
                    "SELECT id, at, actor, action, target, detail FROM audit \
                     WHERE tenant = $1 AND id < $2 ORDER BY id DESC LIMIT $3",
                )
                .bind(tenant)
                // Longer and greater than any identifier.
                .bind(before.unwrap_or("g"))
                .bind(limit.clamp(1, PAGE_MAX))
                .fetch_all(self.store.pool())
                .await?)
            })
            .await?;
        rows.into_iter()
            .map(|(id, at, actor, action, target, detail)| {
                let detail = serde_json::from_str(&detail).unwrap_or(Value::String(detail));
                Ok(Entry { id, at: instant(at)?, actor, action, target, detail })
            })
            .collect()
    }
}
