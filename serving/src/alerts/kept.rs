//! Alerts in the configuration store.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use sqlx::AnyConnection;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::definition::Definition;
use super::rule::Standing;
use super::{Alert, Event};
use crate::accounts::audit::Change;
use crate::accounts::{Accounts, Actor, Error, instant, micros};
use crate::records::Cursor;

/// The most alerts of a tenant.
const ALERTS_PER_TENANT_MAX: i64 = 100;
/// The most that are looked at in one round.
const ALERTS_MAX: i64 = 10_000;
/// The most events of a page.
pub(crate) const EVENTS_MAX: i64 = 500;
/// How often it is looked whether there is a new event, however many watch.
const NEWEST_INTERVAL: Duration = Duration::from_secs(1);

type Row = (String, String, String, i64, String, Option<String>, String, i64);
type EventRow = (String, String, i64, String);

/// An alert that is looked at.
pub(super) struct Watched {
    pub(super) alert: Alert,
    /// Where it stands, word for word: nobody has looked at it since if the store still says so.
    stood: String,
}

/// What a look at an alert changed.
pub(super) struct Looked<'a> {
    pub(super) watched: &'a Watched,
    pub(super) standing: &'a Standing,
    pub(super) number: Option<&'a str>,
    /// What people are told, if they are.
    pub(super) told: Option<Value>,
}

impl Accounts {
    /// A tenant's alerts behind a place, the oldest first, one more than `limit`; of one that cannot be read its identifier.
    pub(crate) async fn alerts(
        &self,
        tenant: &str,
        after: &Cursor,
        limit: u32,
    ) -> Result<Vec<(Cursor, Result<Alert, String>)>, Error> {
        let sql = "SELECT tenant, id, definition, revision, standing, number, created_by, updated_at FROM alerts \
                   WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3";
        let query = sqlx::query_as::<_, Row>(sql).bind(tenant).bind(&after.tie).bind(i64::from(limit) + 1);
        let rows = self.store().within(async { Ok(query.fetch_all(self.store().pool()).await?) }).await?;
        // Identifiers grow with the time that they were made at. Why one cannot be read is logged by the node that watches.
        let placed = |row: Row| {
            let id = row.1.clone();
            (Cursor { at_us: i64::MIN, tie: id.clone() }, alert(row).map_err(|_| id))
        };
        Ok(rows.into_iter().map(placed).collect())
    }

    /// One alert of a tenant.
    pub(crate) async fn alert(&self, tenant: &str, id: &str) -> Result<Alert, Error> {
        let sql = "SELECT tenant, id, definition, revision, standing, number, created_by, updated_at FROM alerts \
                   WHERE tenant = $1 AND id = $2";
        let query = sqlx::query_as::<_, Row>(sql).bind(tenant).bind(id);
        let row = self.store().within(async { Ok(query.fetch_optional(self.store().pool()).await?) }).await?;
        alert(row.ok_or(Error::Missing)?)
    }

    /// Every alert of every tenant, for the node that watches, and what is wrong with those that cannot be read.
    pub(super) async fn all_alerts(&self) -> Result<(Vec<Watched>, Vec<Error>), Error> {
        let sql = "SELECT tenant, id, definition, revision, standing, number, created_by, updated_at FROM alerts \
                   ORDER BY tenant, id LIMIT $1";
        let query = sqlx::query_as::<_, Row>(sql).bind(ALERTS_MAX);
        let rows = self.store().within(async { Ok(query.fetch_all(self.store().pool()).await?) }).await?;
        let (mut watched, mut unreadable) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in rows {
            let stood = row.4.clone();
            match alert(row) {
                Ok(alert) => watched.push(Watched { alert, stood }),
                Err(error) => unreadable.push(error),
            }
        }
        Ok((watched, unreadable))
    }

    /// Keeps a new alert. `secret` signs its messages.
    pub(crate) async fn create_alert(
        &self,
        tenant: &str,
        definition: &Definition,
        secret: &str,
        actor: &Actor,
    ) -> Result<Alert, Error> {
        let new = Alert {
            tenant: tenant.to_owned(),
            id: Uuid::now_v7().simple().to_string(),
            definition: definition.clone(),
            revision: 1,
            standing: Standing::default(),
            number: None,
            created_by: actor.to_string(),
            updated_at: Timestamp::now(),
        };
        let (text, standing) = (json(definition)?, json(&new.standing)?);
        let work = async {
            let mut transaction = self.store().begin().await?;
            let (count,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM alerts WHERE tenant = $1")
                .bind(tenant)
                .fetch_one(&mut *transaction)
                .await?;
            if count >= ALERTS_PER_TENANT_MAX {
                return Err(Error::Full { what: "alerts", max: ALERTS_PER_TENANT_MAX });
            }
            sqlx::query(
                "INSERT INTO alerts (tenant, id, definition, secret, revision, standing, created_by, updated_at) \
                 VALUES ($1, $2, $3, $4, 1, $5, $6, $7)",
            )
            .bind(tenant)
            .bind(&new.id)
            .bind(&text)
            .bind(secret)
            .bind(&standing)
            .bind(&new.created_by)
            .bind(micros(new.updated_at))
            .execute(&mut *transaction)
            .await?;
            record(&mut transaction, tenant, actor, "alert.create", &new.id, definition).await?;
            Ok(transaction.commit().await?)
        };
        self.store().within(work).await?;
        Ok(new)
    }

    /// Replaces an alert's definition, if it still is the revision that was read; it begins anew.
    pub(crate) async fn change_alert(
        &self,
        before: &Alert,
        definition: &Definition,
        actor: &Actor,
    ) -> Result<Alert, Error> {
        let now = Timestamp::now();
        let after = Alert {
            definition: definition.clone(),
            revision: before.revision + 1,
            standing: Standing::default(),
            number: None,
            updated_at: now,
            ..before.clone()
        };
        let (text, standing) = (json(definition)?, json(&after.standing)?);
        let work = async {
            let mut transaction = self.store().begin().await?;
            let changed = sqlx::query(
                "UPDATE alerts SET definition = $1, standing = $2, number = NULL, revision = revision + 1, \
                 updated_at = $3 WHERE tenant = $4 AND id = $5 AND revision = $6",
            )
            .bind(&text)
            .bind(&standing)
            .bind(micros(now))
            .bind(&before.tenant)
            .bind(&before.id)
            .bind(before.revision)
            .execute(&mut *transaction)
            .await?;
            if changed.rows_affected() == 0 {
                return Err(Error::Changed);
            }
            record(&mut transaction, &before.tenant, actor, "alert.change", &before.id, definition).await?;
            Ok(transaction.commit().await?)
        };
        self.store().within(work).await?;
        Ok(after)
    }

    /// Removes an alert, and the messages of it that still wait.
    pub(crate) async fn delete_alert(&self, tenant: &str, id: &str, actor: &Actor) -> Result<(), Error> {
        let work = async {
            let mut transaction = self.store().begin().await?;
            let gone = sqlx::query("DELETE FROM alerts WHERE tenant = $1 AND id = $2")
                .bind(tenant)
                .bind(id)
                .execute(&mut *transaction)
                .await?;
            if gone.rows_affected() == 0 {
                return Err(Error::Missing);
            }
            sqlx::query("DELETE FROM alert_messages WHERE tenant = $1 AND alert = $2")
                .bind(tenant)
                .bind(id)
                .execute(&mut *transaction)
                .await?;
            let change = Change { tenant, actor, action: "alert.delete", target: id, detail: json!({}) };
            change.record(&mut transaction).await?;
            Ok(transaction.commit().await?)
        };
        self.store().within(work).await
    }

    /// Keeps what a look changed, and what is to be told, together. Nothing if the alert was changed meanwhile, or if
    /// another node has looked at it, as after a pause of this one.
    pub(super) async fn record_look(&self, looked: &Looked<'_>, now: Timestamp) -> Result<(), Error> {
        let Looked { watched: Watched { alert, stood }, standing, number, told } = looked;
        let standing = json(standing)?;
        let work = async {
            let mut transaction = self.store().begin().await?;
            let kept = sqlx::query(
                "UPDATE alerts SET standing = $1, number = $2 \
                 WHERE tenant = $3 AND id = $4 AND revision = $5 AND standing = $6",
            )
            .bind(&standing)
            .bind(*number)
            .bind(&alert.tenant)
            .bind(&alert.id)
            .bind(alert.revision)
            .bind(stood)
            .execute(&mut *transaction)
            .await?;
            if kept.rows_affected() > 0
                && let Some(told) = told
            {
                tell(&mut transaction, alert, told, now).await?;
            }
            Ok(transaction.commit().await?)
        };
        self.store().within(work).await
    }

    /// What a tenant was told after an event, the oldest first.
    pub(crate) async fn alert_events_after(&self, tenant: &str, after: &str, limit: i64) -> Result<Vec<Event>, Error> {
        let sql = "SELECT id, alert, at, body FROM alert_events WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3";
        self.read_events(sql, tenant, after, limit).await
    }

    /// What a tenant was told before an event, or up to now, the newest first.
    pub(crate) async fn alert_events_before(
        &self,
        tenant: &str,
        before: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Event>, Error> {
        let sql =
            "SELECT id, alert, at, body FROM alert_events WHERE tenant = $1 AND id < $2 ORDER BY id DESC LIMIT $3";
        // Greater than any identifier.
        self.read_events(sql, tenant, before.unwrap_or("g"), limit).await
    }

    async fn read_events(&self, sql: &'static str, tenant: &str, from: &str, limit: i64) -> Result<Vec<Event>, Error> {
        let query = sqlx::query_as::<_, EventRow>(sql).bind(tenant).bind(from).bind(limit);
        let rows = self.store().within(async { Ok(query.fetch_all(self.store().pool()).await?) }).await?;
        rows.into_iter().map(event).collect()
    }

    /// Keeps saying which event is the newest of all tenants, so that those who watch need not ask; until shutdown.
    pub(crate) async fn follow_alert_events(&self, newest: watch::Sender<String>, shutdown: CancellationToken) {
        while shutdown.run_until_cancelled(tokio::time::sleep(NEWEST_INTERVAL)).await.is_some() {
            let sql = "SELECT COALESCE(MAX(id), '') FROM alert_events";
            let query = sqlx::query_as::<_, (String,)>(sql);
            let found = self.store().within(async { Ok(query.fetch_one(self.store().pool()).await?) }).await;
            if let Ok((id,)) = found {
                newest.send_if_modified(|known| std::mem::replace(known, id.clone()) != id);
            }
        }
    }

    /// The newest event of a tenant, empty if there is none.
    pub(crate) async fn newest_alert_event(&self, tenant: &str) -> Result<String, Error> {
        let sql = "SELECT COALESCE(MAX(id), '') FROM alert_events WHERE tenant = $1";
        let query = sqlx::query_as::<_, (String,)>(sql).bind(tenant);
        let (id,) = self.store().within(async { Ok(query.fetch_one(self.store().pool()).await?) }).await?;
        Ok(id)
    }
}

async fn record(
    transaction: &mut AnyConnection,
    tenant: &str,
    actor: &Actor,
    action: &'static str,
    target: &str,
    definition: &Definition,
) -> Result<(), Error> {
    // An address may have a token in it, as some receivers want.
    let detail = json!({ "name": definition.name, "metric": definition.metric, "threshold": definition.threshold });
    Change { tenant, actor, action, target, detail }.record(transaction).await
}

async fn tell(transaction: &mut AnyConnection, alert: &Alert, told: &Value, now: Timestamp) -> Result<(), Error> {
    let id = next_event_id(transaction).await?;
    sqlx::query("INSERT INTO alert_events (id, tenant, alert, at, body) VALUES ($1, $2, $3, $4, $5)")
        .bind(&id)
        .bind(&alert.tenant)
        .bind(&alert.id)
        .bind(micros(now))
        .bind(told.to_string())
        .execute(&mut *transaction)
        .await?;
    if alert.definition.webhook.is_some() {
        sqlx::query(
            "INSERT INTO alert_messages (event, tenant, alert, state, attempts, next_at) VALUES ($1, $2, $3, 'due', 0, $4)",
        )
        .bind(&id)
        .bind(&alert.tenant)
        .bind(&alert.id)
        .bind(micros(now))
        .execute(transaction)
        .await?;
    }
    Ok(())
}

/// The identifier of the next event. Events are read on from the last one that was seen, so whoever tells something is
/// alone from here to the end of the transaction: what appears later has a greater one, whichever node's clock made it.
async fn next_event_id(transaction: &mut AnyConnection) -> Result<String, Error> {
    sqlx::query(
        "INSERT INTO revisions (name, revision) VALUES ('alert_events', 1) \
         ON CONFLICT (name) DO UPDATE SET revision = revisions.revision + 1",
    )
    .execute(&mut *transaction)
    .await?;
    let (newest,): (String,) =
        sqlx::query_as("SELECT COALESCE(MAX(id), '') FROM alert_events").fetch_one(transaction).await?;
    Ok(following(&newest, Uuid::now_v7()))
}

/// This identifier, or if it is not greater than the newest one, the one after that.
fn following(newest: &str, made: Uuid) -> String {
    let after = newest.parse::<Uuid>().map_or(0, |newest| newest.as_u128().saturating_add(1));
    Uuid::from_u128(made.as_u128().max(after)).simple().to_string()
}

pub(super) fn json(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|error| Error::Broken(error.to_string()))
}

fn alert((tenant, id, definition, revision, standing, number, created_by, updated_at): Row) -> Result<Alert, Error> {
    let unreadable = |error: serde_json::Error| Error::Broken(format!("alert {id}: {error}"));
    Ok(Alert {
        definition: serde_json::from_str(&definition).map_err(unreadable)?,
        standing: serde_json::from_str(&standing).map_err(unreadable)?,
        updated_at: instant(updated_at)?,
        tenant,
        id: id.clone(),
        revision,
        number,
        created_by,
    })
}

fn event((id, alert, at, body): EventRow) -> Result<Event, Error> {
    let body = serde_json::from_str(&body).unwrap_or(Value::String(body));
    Ok(Event { id, alert, at: instant(at)?, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_grow_also_when_clocks_differ() {
        let id = |number: u128| Uuid::from_u128(number).simple().to_string();
        assert_eq!(following("", Uuid::from_u128(7)), id(7));
        assert_eq!(following(&id(6), Uuid::from_u128(7)), id(7));
        assert_eq!(following(&id(7), Uuid::from_u128(7)), id(8));
        assert_eq!(following(&id(0xffff), Uuid::from_u128(7)), id(0x1_0000));
        assert!(id(0xffff) < id(0x1_0000));
    }
}
