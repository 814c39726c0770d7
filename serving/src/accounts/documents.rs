//! What people save: one shelf per kind, every document with a revision, so that nobody overwrites what they have not
//! seen.

use std::collections::HashMap;

use jiff::Timestamp;
use reckon_schemas::ids::TenantId;
use serde_json::json;
use sqlx::AnyConnection;

use super::audit::Change;
use super::keys::next_revision;
use super::{Accounts, Actor, Error, instant, micros, now};
use crate::records::Cursor;

/// A kind of documents, and what is bounded about them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// What the store tells them apart by.
    pub(crate) name: &'static str,
    /// The most of a tenant.
    pub(crate) count_max: i64,
    /// The largest body, in bytes.
    pub(crate) bytes_max: usize,
    /// How the audit log names what is done to them: made, changed, removed.
    pub(crate) actions: [&'static str; 3],
    /// Whether every node holds a copy of all of them.
    pub(crate) is_copied: bool,
}

/// Documents that nodes hold copies of: their bodies, by tenant and identifier.
pub(crate) type Copies = HashMap<String, HashMap<String, String>>;

/// The kind of which nodes hold copies: a question names one like a metric of the catalog.
pub(crate) const METRICS: Kind = Kind {
    name: "metric",
    count_max: 200,
    bytes_max: 4 * 1024,
    actions: ["metric.create", "metric.change", "metric.remove"],
    is_copied: true,
};

/// Something saved. The body is what it was saved as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Document {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) body: String,
    pub(crate) revision: i64,
    pub(crate) updated_at: Timestamp,
    pub(crate) updated_by: String,
}

type Row = (String, String, String, i64, i64, String);

impl Accounts {
    /// Documents of a kind behind a place, by name, one more than `limit`.
    pub(crate) async fn documents(
        &self,
        tenant: &TenantId,
        kind: Kind,
        after: &Cursor,
        limit: u32,
    ) -> Result<Vec<(Cursor, Document)>, Error> {
        // Identifiers have no spaces, names may.
        let (id, name) = after.tie.split_once(' ').unwrap_or_default();
        let rows: Vec<Row> = self
            .store()
            .within(async {
                Ok(sqlx::query_as(
                    "SELECT id, name, body, revision, updated_at, updated_by FROM documents \
                     WHERE tenant = $1 AND kind = $2 AND (name, id) > ($3, $4) ORDER BY name, id LIMIT $5",
                )
                .bind(tenant.as_str())
                .bind(kind.name)
                .bind(name)
                .bind(id)
                .bind(i64::from(limit) + 1)
                .fetch_all(self.store().pool())
                .await?)
            })
            .await?;
        let placed = |document: Document| {
            let cursor = Cursor { at_us: i64::MIN, tie: format!("{} {}", document.id, document.name) };
            (cursor, document)
        };
        rows.into_iter().map(|row| document(row).map(placed)).collect()
    }

    /// Every document that nodes hold copies of.
    pub(super) async fn read_copies(&self) -> Result<Copies, Error> {
        let rows: Vec<(String, String, String)> =
            sqlx::query_as("SELECT tenant, id, body FROM documents WHERE kind = $1")
                .bind(METRICS.name)
                .fetch_all(self.store().pool())
                .await?;
        let mut copies = Copies::new();
        for (tenant, id, body) in rows {
            copies.entry(tenant).or_default().insert(id, body);
        }
        Ok(copies)
    }

    /// One of them.
    pub(crate) async fn document(&self, tenant: &TenantId, kind: Kind, id: &str) -> Result<Document, Error> {
        let row: Option<Row> = self
            .store()
            .within(async {
                Ok(sqlx::query_as(
                    "SELECT id, name, body, revision, updated_at, updated_by FROM documents \
                     WHERE tenant = $1 AND kind = $2 AND id = $3",
                )
                .bind(tenant.as_str())
                .bind(kind.name)
                .bind(id)
                .fetch_optional(self.store().pool())
                .await?)
            })
            .await?;
        document(row.ok_or(Error::Missing)?)
    }

    /// Saves a new one.
    pub(crate) async fn add_document(
        &self,
        tenant: &TenantId,
        kind: Kind,
        id: String,
        name: String,
        body: String,
        actor: &Actor,
    ) -> Result<Document, Error> {
        check(kind, &body)?;
        let (updated_at, updated_by) = (now(), actor.to_string());
        let document = Document { id, name, body, revision: 1, updated_at, updated_by };
        let tenant = tenant.as_str();
        self.store()
            .within(async {
                let mut transaction = self.store().begin().await?;
                begin(kind, &mut transaction).await?;
                let (count,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM documents WHERE tenant = $1 AND kind = $2")
                    .bind(tenant)
                    .bind(kind.name)
                    .fetch_one(&mut *transaction)
                    .await?;
                if count >= kind.count_max {
                    return Err(Error::Full { what: kind.name, max: kind.count_max });
                }
                sqlx::query(
                    "INSERT INTO documents (tenant, kind, id, name, body, revision, updated_at, updated_by) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                )
                .bind(tenant)
                .bind(kind.name)
                .bind(&document.id)
                .bind(&document.name)
                .bind(&document.body)
                .bind(document.revision)
                .bind(micros(document.updated_at))
                .bind(&document.updated_by)
                .execute(&mut *transaction)
                .await?;
                let (action, target, detail) =
                    (kind.actions[0], document.id.as_str(), json!({ "name": document.name }));
                Change { tenant, actor, action, target, detail }.record(&mut transaction).await?;
                Ok(transaction.commit().await?)
            })
            .await?;
        self.copy(kind).await;
        Ok(document)
    }

    async fn copy(&self, kind: Kind) {
        if kind.is_copied {
            self.refresh_after_change().await;
        }
    }

    /// Saves another version in the place of one that was read.
    pub(crate) async fn change_document(
        &self,
        tenant: &TenantId,
        kind: Kind,
        read: &Document,
        (name, body): (String, String),
        actor: &Actor,
    ) -> Result<Document, Error> {
        check(kind, &body)?;
        let document = Document {
            id: read.id.clone(),
            name,
            body,
            revision: read.revision + 1,
            updated_at: now(),
            updated_by: actor.to_string(),
        };
        let tenant = tenant.as_str();
        self.store()
            .within(async {
                let mut transaction = self.store().begin().await?;
                begin(kind, &mut transaction).await?;
                let changed = sqlx::query(
                    "UPDATE documents SET name = $1, body = $2, revision = $3, updated_at = $4, updated_by = $5 \
                     WHERE tenant = $6 AND kind = $7 AND id = $8 AND revision = $9",
                )
                .bind(&document.name)
                .bind(&document.body)
                .bind(document.revision)
                .bind(micros(document.updated_at))
                .bind(&document.updated_by)
                .bind(tenant)
                .bind(kind.name)
                .bind(&document.id)
                .bind(read.revision)
                .execute(&mut *transaction)
                .await?;
                if changed.rows_affected() == 0 {
                    return Err(Error::Changed);
                }
                let detail = json!({ "name": document.name, "revision": document.revision });
                let (action, target) = (kind.actions[1], document.id.as_str());
                Change { tenant, actor, action, target, detail }.record(&mut transaction).await?;
                Ok(transaction.commit().await?)
            })
            .await?;
        self.copy(kind).await;
        Ok(document)
    }

    /// Removes one that was read.
    pub(crate) async fn remove_document(
        &self,
        tenant: &TenantId,
        kind: Kind,
        read: &Document,
        actor: &Actor,
    ) -> Result<(), Error> {
        let tenant = tenant.as_str();
        self.store()
            .within(async {
                let mut transaction = self.store().begin().await?;
                begin(kind, &mut transaction).await?;
                let removed =
                    sqlx::query("DELETE FROM documents WHERE tenant = $1 AND kind = $2 AND id = $3 AND revision = $4")
                        .bind(tenant)
                        .bind(kind.name)
                        .bind(&read.id)
                        .bind(read.revision)
                        .execute(&mut *transaction)
                        .await?;
                if removed.rows_affected() == 0 {
                    return Err(Error::Changed);
                }
                let (action, target, detail) = (kind.actions[2], read.id.as_str(), json!({ "name": read.name }));
                Change { tenant, actor, action, target, detail }.record(&mut transaction).await?;
                Ok(transaction.commit().await?)
            })
            .await?;
        self.copy(kind).await;
        Ok(())
    }
}

/// Says that copies change with this transaction, if there are any.
async fn begin(kind: Kind, transaction: &mut AnyConnection) -> Result<(), Error> {
    if kind.is_copied { next_revision(transaction).await } else { Ok(()) }
}

fn check(kind: Kind, body: &str) -> Result<(), Error> {
    if body.len() <= kind.bytes_max {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "a {} is at most {} bytes of JSON, this one has {}",
        kind.name,
        kind.bytes_max,
        body.len()
    )))
}

fn document((id, name, body, revision, updated_at, updated_by): Row) -> Result<Document, Error> {
    Ok(Document { id, name, body, revision, updated_at: instant(updated_at)?, updated_by })
}
