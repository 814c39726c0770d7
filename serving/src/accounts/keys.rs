//! Access keys: made, listed, revoked. What is kept of a key is its prefix and its hash.

use jiff::Timestamp;
use rand::TryRngCore;
use rand::rngs::OsRng;
use reckon_schemas::access::{AccessKey, KeyBook, NewKey, Scope};
use reckon_schemas::ids::TenantId;
use serde::Serialize;
use serde_json::json;
use sqlx::AnyConnection;
use utoipa::ToSchema;

use super::audit::Change;
use super::{Accounts, Actor, Error, instant, micros, now, parse_scopes, scopes_text};
use crate::records::Cursor;

/// The most keys of a tenant that work.
pub(crate) const KEYS_PER_TENANT_MAX: i64 = 100;

/// A key of the store, without what would open anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct KeyEntry {
    /// The key's public part: `rk_<prefix>_…`.
    pub(crate) prefix: String,
    /// What its owner calls it.
    pub(crate) name: String,
    /// What it may do.
    #[schema(value_type = Vec<String>)]
    pub(crate) scopes: Vec<Scope>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: Timestamp,
    /// By whom.
    pub(crate) created_by: String,
    /// When it stops to work; never if absent.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) expires_at: Option<Timestamp>,
    /// Since when it does not work any more.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) revoked_at: Option<Timestamp>,
}

/// What a new key is to be.
#[derive(Clone, Debug)]
pub(crate) struct KeyWish {
    pub(crate) name: String,
    pub(crate) scopes: Vec<Scope>,
    pub(crate) expires_at: Option<Timestamp>,
}

type Row = (String, String, String, i64, String, Option<i64>, Option<i64>);

impl Accounts {
    /// Makes a key. The key itself is in the answer and nowhere else.
    pub(crate) async fn create_key(
        &self,
        tenant: &TenantId,
        wish: KeyWish,
        actor: &Actor,
    ) -> Result<(String, KeyEntry), Error> {
        let mut random = [0_u8; 20];
        OsRng.try_fill_bytes(&mut random).map_err(|error| Error::Broken(error.to_string()))?;
        let new = NewKey::from_random(random, wish.scopes);
        let now = now();
        let entry = KeyEntry {
            prefix: new.entry.prefix,
            name: wish.name,
            scopes: new.entry.scopes,
            created_at: now,
            created_by: actor.to_string(),
            expires_at: wish.expires_at,
            revoked_at: None,
        };
        self.store.within(self.insert_key(tenant.as_str(), &entry, &new.entry.sha256, actor)).await?;
        self.refresh_after_change().await;
        Ok((new.key, entry))
    }

    async fn insert_key(&self, tenant: &str, entry: &KeyEntry, sha256: &str, actor: &Actor) -> Result<(), Error> {
        let mut transaction = self.store.begin().await?;
        // First, so that two who make keys at the same time count one after the other.
        next_revision(&mut transaction).await?;
        let (working,): (i64,) = sqlx::query_as(
            "SELECT COUNT(*) FROM access_keys WHERE tenant = $1 AND revoked_at IS NULL \
             AND (expires_at IS NULL OR expires_at > $2)",
        )
        .bind(tenant)
        .bind(micros(entry.created_at))
        .fetch_one(&mut *transaction)
        .await?;
        if working >= KEYS_PER_TENANT_MAX {
            return Err(Error::Full { what: "keys", max: KEYS_PER_TENANT_MAX });
        }
        sqlx::query(
            "INSERT INTO access_keys (prefix, tenant, name, sha256, scopes, created_at, created_by, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(&entry.prefix)
        .bind(tenant)
        .bind(&entry.name)
        .bind(sha256)
        .bind(scopes_text(&entry.scopes))
        .bind(micros(entry.created_at))
        .bind(&entry.created_by)
        .bind(entry.expires_at.map(micros))
        .execute(&mut *transaction)
        .await?;
        let detail = json!({ "name": entry.name, "scopes": entry.scopes, "expires_at": entry.expires_at });
        let change = Change { tenant, actor, action: "key.create", target: &entry.prefix, detail };
        change.record(&mut transaction).await?;
        Ok(transaction.commit().await?)
    }

    /// Ends a key of the tenant, now.
    pub(crate) async fn revoke_key(&self, tenant: &TenantId, prefix: &str, actor: &Actor) -> Result<(), Error> {
        let tenant = tenant.as_str();
        self.store
            .within(async {
                let mut transaction = self.store.begin().await?;
                next_revision(&mut transaction).await?;
                let revoked = sqlx::query(
                    "UPDATE access_keys SET revoked_at = $1 WHERE prefix = $2 AND tenant = $3 AND revoked_at IS NULL",
                )
                .bind(micros(Timestamp::now()))
                .bind(prefix)
                .bind(tenant)
                .execute(&mut *transaction)
                .await?;
                if revoked.rows_affected() == 0 {
                    return Err(Error::Missing);
                }
                let change = Change { tenant, actor, action: "key.revoke", target: prefix, detail: json!({}) };
                change.record(&mut transaction).await?;
                Ok(transaction.commit().await?)
            })
            .await?;
        self.refresh_after_change().await;
        Ok(())
    }

    /// The tenant's keys in the store behind a place, revoked and expired ones too, the newest first, one more than `limit`.
    pub(crate) async fn list_keys(
        &self,
        tenant: &TenantId,
        after: &Cursor,
        limit: u32,
    ) -> Result<Vec<(Cursor, KeyEntry)>, Error> {
        let rows: Vec<Row> = self
            .store
            .within(async {
                Ok(sqlx::query_as(
                    "SELECT prefix, name, scopes, created_at, created_by, expires_at, revoked_at FROM access_keys \
                     WHERE tenant = $1 AND (created_at < $2 OR created_at = $2 AND prefix > $3) \
                     ORDER BY created_at DESC, prefix LIMIT $4",
                )
                .bind(tenant.as_str())
                .bind(after.at_us)
                .bind(&after.tie)
                .bind(i64::from(limit) + 1)
                .fetch_all(self.store.pool())
                .await?)
            })
            .await?;
        let placed = |row: Row| {
            let cursor = Cursor { at_us: row.3, tie: row.0.clone() };
            Ok((cursor, entry(row)?))
        };
        rows.into_iter().map(placed).collect()
    }

    /// Every key that works, of all tenants.
    pub(super) async fn read_keys(&self) -> Result<KeyBook, Error> {
        let rows: Vec<(String, String, String, String, Option<i64>)> = sqlx::query_as(
            "SELECT prefix, tenant, sha256, scopes, expires_at FROM access_keys WHERE revoked_at IS NULL \
             AND (expires_at IS NULL OR expires_at > $1)",
        )
        .bind(micros(Timestamp::now()))
        .fetch_all(self.store.pool())
        .await?;
        let key = |(prefix, tenant, sha256, scopes, expires_at): (String, String, String, String, Option<i64>)| {
            let tenant: TenantId = tenant.parse().map_err(|_| Error::Broken(format!("the tenant of key {prefix}")))?;
            let (scopes, expires_at) = (parse_scopes(&scopes)?, expires_at.map(instant).transpose()?);
            Ok((tenant, AccessKey { prefix, sha256, scopes, expires_at }))
        };
        rows.into_iter().map(key).collect()
    }
}

/// Says that keys or quotas change with this transaction, and makes others who change them wait for it.
pub(super) async fn next_revision(transaction: &mut AnyConnection) -> Result<(), Error> {
    sqlx::query("UPDATE revisions SET revision = revision + 1 WHERE name = 'access'").execute(transaction).await?;
    Ok(())
}

fn entry((prefix, name, scopes, created_at, created_by, expires_at, revoked_at): Row) -> Result<KeyEntry, Error> {
    Ok(KeyEntry {
        prefix,
        name,
        scopes: parse_scopes(&scopes)?,
        created_at: instant(created_at)?,
        created_by,
        expires_at: expires_at.map(instant).transpose()?,
        revoked_at: revoked_at.map(instant).transpose()?,
    })
}
