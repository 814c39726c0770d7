//! Sessions: a random token in a cookie, its hash in the store, one tenant at a time.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reckon_schemas::access::Scope;
use serde_json::json;
use tokio::sync::Semaphore;

use super::audit::Change;
use super::users::{User, checked_email, user_by_email};
use super::{Accounts, Actor, Error, instant, micros, parse_scopes, password, secret};

/// The most sessions of a person; with one more the oldest ends.
const PER_USER_MAX: i64 = 20;
/// That a session is in use is written down no more often than this.
const SEEN_STEP: Duration = Duration::from_secs(60);
/// The most tenants that a person can choose from.
const TENANTS_MAX: i64 = 100;
/// Refused sign-ins that are being written down; more wait.
static NOTES: Semaphore = Semaphore::const_new(16);

/// Somebody who is signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) user_id: String,
    pub(crate) email: String,
    pub(crate) tenant: String,
    pub(crate) scopes: Vec<Scope>,
}

impl Accounts {
    /// The account that has this address and password.
    pub(crate) async fn user_by_password(&self, email: &str, password: String) -> Result<Option<User>, Error> {
        let Ok(email) = checked_email(email) else { return Ok(None) };
        let found = self
            .store
            .within(async {
                let mut connection = self.store.pool().acquire().await?;
                user_by_email(&mut connection, &email).await
            })
            .await?;
        let stored = found.as_ref().and_then(|user| user.password.clone());
        let is_right = password::is_right(password, stored).await?;
        Ok(found.filter(|_| is_right))
    }

    /// The tenants that somebody is a member of, by name.
    pub(crate) async fn tenants_of(&self, user_id: &str) -> Result<Vec<String>, Error> {
        let rows: Vec<(String,)> = self
            .store
            .within(async {
                Ok(sqlx::query_as("SELECT tenant FROM memberships WHERE user_id = $1 ORDER BY tenant LIMIT $2")
                    .bind(user_id)
                    .bind(TENANTS_MAX)
                    .fetch_all(self.store.pool())
                    .await?)
            })
            .await?;
        Ok(rows.into_iter().map(|(tenant,)| tenant).collect())
    }

    /// Opens a session for a member of the tenant. The token is in the answer and nowhere else.
    pub(crate) async fn open_session(&self, user: &User, tenant: &str, by: &'static str) -> Result<String, Error> {
        let (new, now) = (secret::new("rs")?, Timestamp::now());
        self.store
            .within(async {
                let mut transaction = self.store.begin().await?;
                sqlx::query(
                    "INSERT INTO sessions (sha256, user_id, tenant, created_at, seen_at, expires_at) \
                     VALUES ($1, $2, $3, $4, $4, $5)",
                )
                .bind(&new.sha256)
                .bind(&user.id)
                .bind(tenant)
                .bind(micros(now))
                .bind(micros(now + self.tuning.session_age_max))
                .execute(&mut *transaction)
                .await?;
                sqlx::query(
                    "DELETE FROM sessions WHERE user_id = $1 AND sha256 NOT IN \
                     (SELECT sha256 FROM sessions WHERE user_id = $1 ORDER BY created_at DESC LIMIT $2)",
                )
                .bind(&user.id)
                .bind(PER_USER_MAX)
                .execute(&mut *transaction)
                .await?;
                let actor = &Actor::Person(user.email.clone());
                let detail = json!({ "by": by });
                let change = Change { tenant, actor, action: "session.open", target: &user.id, detail };
                change.record(&mut transaction).await?;
                Ok(transaction.commit().await?)
            })
            .await?;
        Ok(new.token)
    }

    /// Has it written down, where an account's tenants can see it, that somebody tried to sign in with something wrong.
    /// Beside the answer: how long it takes would tell who has an account.
    pub(crate) async fn note_refused(&self, email: String) -> Result<(), Error> {
        // Everybody waits for a place, whether there is something to write or not.
        let place = NOTES.acquire().await.map_err(|_| Error::Away("shutting down".to_owned()))?;
        let accounts = self.clone();
        tokio::spawn(async move {
            if let Err(error) = accounts.record_refused(&email).await {
                tracing::warn!(%error, "a refused sign-in is not in the audit log");
            }
            drop(place);
        });
        Ok(())
    }

    async fn record_refused(&self, email: &str) -> Result<(), Error> {
        let Ok(email) = checked_email(email) else { return Ok(()) };
        self.store
            .within(async {
                let mut transaction = self.store.begin().await?;
                let Some(user) = user_by_email(&mut transaction, &email).await? else { return Ok(()) };
                let rows: Vec<(String,)> =
                    sqlx::query_as("SELECT tenant FROM memberships WHERE user_id = $1 ORDER BY tenant LIMIT $2")
                        .bind(&user.id)
                        .bind(TENANTS_MAX)
                        .fetch_all(&mut *transaction)
                        .await?;
                let actor = &Actor::Person(email.clone());
                for (tenant,) in &rows {
                    let detail = json!({});
                    let change = Change { tenant, actor, action: "session.refused", target: &user.id, detail };
                    change.record(&mut transaction).await?;
                }
                Ok(transaction.commit().await?)
            })
            .await
    }

    /// Whose session this is, if it is still one. It is in use by that.
    pub(crate) async fn session(&self, token: &str) -> Result<Option<Session>, Error> {
        let Some((session, idle)) = self.find_session(token).await? else { return Ok(None) };
        // Short times of idleness, which tests have, need finer steps.
        if idle >= signed(SEEN_STEP.min(self.tuning.session_idle / 4)) {
            self.store
                .within(async {
                    sqlx::query("UPDATE sessions SET seen_at = $1 WHERE sha256 = $2")
                        .bind(micros(Timestamp::now()))
                        .bind(secret::hash(token))
                        .execute(self.store.pool())
                        .await?;
                    Ok(())
                })
                .await?;
        }
        Ok(Some(session))
    }

    /// The same for who looks whether it still is one: that is no use of it, or what is open would keep it open.
    pub(crate) async fn session_as_it_is(&self, token: &str) -> Result<Option<Session>, Error> {
        Ok(self.find_session(token).await?.map(|(session, _)| session))
    }

    /// The session, and for how long nothing was asked in it.
    async fn find_session(&self, token: &str) -> Result<Option<(Session, SignedDuration)>, Error> {
        let now = Timestamp::now();
        let row: Option<(String, String, String, String, i64)> = self
            .store
            .within(async {
                Ok(sqlx::query_as(
                    "SELECT users.id, users.email, sessions.tenant, memberships.scopes, sessions.seen_at FROM sessions \
                     JOIN users ON users.id = sessions.user_id \
                     JOIN memberships ON memberships.user_id = users.id AND memberships.tenant = sessions.tenant \
                     WHERE sessions.sha256 = $1 AND sessions.expires_at > $2",
                )
                .bind(secret::hash(token))
                .bind(micros(now))
                .fetch_optional(self.store.pool())
                .await?)
            })
            .await?;
        let Some((user_id, email, tenant, scopes, seen_at)) = row else { return Ok(None) };
        let idle = now.duration_since(instant(seen_at)?);
        if idle >= signed(self.tuning.session_idle) {
            return Ok(None);
        }
        Ok(Some((Session { user_id, email, tenant, scopes: parse_scopes(&scopes)? }, idle)))
    }

    /// Goes on in another tenant that the person is a member of.
    pub(crate) async fn switch_session(&self, token: &str, session: &Session, tenant: &str) -> Result<(), Error> {
        if !self.tenants_of(&session.user_id).await?.iter().any(|own| own == tenant) {
            return Err(Error::Missing);
        }
        self.store
            .within(async {
                let mut transaction = self.store.begin().await?;
                sqlx::query("UPDATE sessions SET tenant = $1 WHERE sha256 = $2")
                    .bind(tenant)
                    .bind(secret::hash(token))
                    .execute(&mut *transaction)
                    .await?;
                let actor = &Actor::Person(session.email.clone());
                let (action, target, detail) = ("session.switch", session.user_id.as_str(), json!({}));
                Change { tenant, actor, action, target, detail }.record(&mut transaction).await?;
                Ok(transaction.commit().await?)
            })
            .await
    }

    /// Ends a session.
    pub(crate) async fn close_session(&self, token: &str, session: &Session) -> Result<(), Error> {
        self.store
            .within(async {
                let mut transaction = self.store.begin().await?;
                sqlx::query("DELETE FROM sessions WHERE sha256 = $1")
                    .bind(secret::hash(token))
                    .execute(&mut *transaction)
                    .await?;
                let (tenant, actor) = (session.tenant.as_str(), &Actor::Person(session.email.clone()));
                let (action, target, detail) = ("session.close", session.user_id.as_str(), json!({}));
                Change { tenant, actor, action, target, detail }.record(&mut transaction).await?;
                Ok(transaction.commit().await?)
            })
            .await
    }

    /// Gives somebody another password and ends their other sessions. `false` if the old one is not right.
    pub(crate) async fn change_password(
        &self,
        token: &str,
        session: &Session,
        old: String,
        new: String,
    ) -> Result<bool, Error> {
        password::check(&new)?;
        if self.user_by_password(&session.email, old).await?.is_none() {
            return Ok(false);
        }
        let hash = password::hash(new).await?;
        self.store
            .within(async {
                let mut transaction = self.store.begin().await?;
                sqlx::query("UPDATE users SET password = $1 WHERE id = $2")
                    .bind(&hash)
                    .bind(&session.user_id)
                    .execute(&mut *transaction)
                    .await?;
                sqlx::query("DELETE FROM sessions WHERE user_id = $1 AND sha256 <> $2")
                    .bind(&session.user_id)
                    .bind(secret::hash(token))
                    .execute(&mut *transaction)
                    .await?;
                let (tenant, actor) = (session.tenant.as_str(), &Actor::Person(session.email.clone()));
                let (action, target, detail) = ("user.password", session.user_id.as_str(), json!({}));
                Change { tenant, actor, action, target, detail }.record(&mut transaction).await?;
                transaction.commit().await?;
                Ok(true)
            })
            .await
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
