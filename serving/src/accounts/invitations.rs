//! Memberships that wait for a person. See [`super::users`] for why nobody is simply added.

use std::time::Duration;

use jiff::Timestamp;
use reckon_schemas::access::Scope;
use reckon_schemas::ids::TenantId;
use serde::Serialize;
use serde_json::json;
use sqlx::AnyConnection;
use utoipa::ToSchema;

use super::audit::Change;
use super::users::{User, has_room, insert_user, join, user_by_email};
use super::{Accounts, Actor, Error, instant, micros, now, parse_scopes, password, scopes_text, secret};

/// How long an invitation can be accepted.
const VALID: Duration = Duration::from_secs(7 * 24 * 3600);
/// The most that wait in a tenant.
const WAITING_MAX: i64 = 100;

/// An invitation that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Waiting {
    /// Whose it is.
    pub(crate) email: String,
    /// What they will be allowed to do.
    #[schema(value_type = Vec<String>)]
    pub(crate) scopes: Vec<Scope>,
    /// Until when it can be accepted.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) expires_at: Timestamp,
}

impl Accounts {
    /// Invites an address. The token is in the answer and nowhere else; the admin hands it to the person.
    pub(crate) async fn invite(
        &self,
        tenant: &TenantId,
        email: String,
        scopes: Vec<Scope>,
        actor: &Actor,
    ) -> Result<(String, Waiting), Error> {
        let (tenant, now) = (tenant.as_str(), now());
        let new = secret::new("ri")?;
        let waiting = Waiting { email, scopes, expires_at: now + VALID };
        self.store
            .within(async {
                let mut transaction = self.store.begin().await?;
                // A second invitation of the same address takes the place of the first.
                sqlx::query("DELETE FROM invitations WHERE tenant = $1 AND (email = $2 OR expires_at < $3)")
                    .bind(tenant)
                    .bind(&waiting.email)
                    .bind(micros(now))
                    .execute(&mut *transaction)
                    .await?;
                let (count,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM invitations WHERE tenant = $1")
                    .bind(tenant)
                    .fetch_one(&mut *transaction)
                    .await?;
                if count >= WAITING_MAX {
                    return Err(Error::Full { what: "invitations", max: WAITING_MAX });
                }
                sqlx::query(
                    "INSERT INTO invitations (sha256, tenant, email, scopes, created_by, expires_at) \
                     VALUES ($1, $2, $3, $4, $5, $6)",
                )
                .bind(&new.sha256)
                .bind(tenant)
                .bind(&waiting.email)
                .bind(scopes_text(&waiting.scopes))
                .bind(actor.to_string())
                .bind(micros(waiting.expires_at))
                .execute(&mut *transaction)
                .await?;
                let detail = json!({ "scopes": waiting.scopes });
                let change = Change { tenant, actor, action: "user.invite", target: &waiting.email, detail };
                change.record(&mut transaction).await?;
                Ok(transaction.commit().await?)
            })
            .await?;
        Ok((new.token, waiting))
    }

    /// The tenant's invitations that can be accepted.
    pub(crate) async fn waiting(&self, tenant: &TenantId) -> Result<Vec<Waiting>, Error> {
        let rows: Vec<(String, String, i64)> = self
            .store
            .within(async {
                Ok(sqlx::query_as(
                    "SELECT email, scopes, expires_at FROM invitations WHERE tenant = $1 AND expires_at > $2 \
                     ORDER BY email LIMIT $3",
                )
                .bind(tenant.as_str())
                .bind(micros(Timestamp::now()))
                .bind(WAITING_MAX)
                .fetch_all(self.store.pool())
                .await?)
            })
            .await?;
        let waiting = |(email, scopes, expires_at): (String, String, i64)| {
            Ok(Waiting { email, scopes: parse_scopes(&scopes)?, expires_at: instant(expires_at)? })
        };
        rows.into_iter().map(waiting).collect()
    }

    /// Accepts an invitation: with the password of the account, or with one for a new account. The person and the tenant,
    /// or `None` if the token or the password is not right.
    pub(crate) async fn accept(&self, token: &str, password: String) -> Result<Option<(User, String)>, Error> {
        // First, and for everybody: no account has a password that could not be set.
        password::check(&password)?;
        let sha256 = secret::hash(token);
        let invited = self.store.within(self.find_invitation(&sha256)).await?;
        let Some((email, known)) = invited else { return Ok(None) };
        let hash = match &known {
            Some(user) if password::is_right(password.clone(), user.password.clone()).await? => None,
            Some(_) => return Ok(None),
            None => Some(password::hash(password).await?),
        };
        self.store
            .within(async {
                let mut transaction = self.store.begin().await?;
                let (user, proof) = match (user_by_email(&mut transaction, &email).await?, hash) {
                    // Somebody made the account meanwhile, with a password that nobody has compared.
                    (Some(user), None) if known.as_ref() == Some(&user) => (user, "password"),
                    (None, Some(hash)) => {
                        let id = insert_user(&mut transaction, &email, Some(&hash)).await?;
                        // Whoever held the token has set the password.
                        (User { id, email: email.clone(), password: Some(hash) }, "new password")
                    }
                    _ => return Ok(None),
                };
                let Some(tenant) = take(&mut transaction, &sha256, &user, proof).await? else { return Ok(None) };
                transaction.commit().await?;
                Ok(Some((user, tenant)))
            })
            .await
    }

    async fn find_invitation(&self, sha256: &str) -> Result<Option<(String, Option<User>)>, Error> {
        let mut connection = self.store.pool().acquire().await?;
        let row: Option<(String,)> =
            sqlx::query_as("SELECT email FROM invitations WHERE sha256 = $1 AND expires_at > $2")
                .bind(sha256)
                .bind(micros(Timestamp::now()))
                .fetch_optional(&mut *connection)
                .await?;
        let Some((email,)) = row else { return Ok(None) };
        let user = user_by_email(&mut connection, &email).await?;
        Ok(Some((email, user)))
    }
}

/// Every invitation of an address, for a person whose address somebody vouches for. Those of tenants that have no room go
/// on waiting: they keep nobody out of the others.
pub(super) async fn take_all(transaction: &mut AnyConnection, user: &User) -> Result<(), Error> {
    let rows: Vec<(String, String)> =
        sqlx::query_as("SELECT sha256, tenant FROM invitations WHERE email = $1 AND expires_at > $2")
            .bind(&user.email)
            .bind(micros(Timestamp::now()))
            .fetch_all(&mut *transaction)
            .await?;
    for (sha256, tenant) in rows {
        if has_room(transaction, &tenant, &user.id).await? {
            take(transaction, &sha256, user, "provider").await?;
        }
    }
    Ok(())
}

/// Turns an invitation into a membership; the tenant, or `None` if somebody else was faster. `proof` says how the person
/// was known.
async fn take(
    transaction: &mut AnyConnection,
    sha256: &str,
    user: &User,
    proof: &'static str,
) -> Result<Option<String>, Error> {
    let row: Option<(String, String, String)> =
        sqlx::query_as("DELETE FROM invitations WHERE sha256 = $1 AND email = $2 RETURNING tenant, scopes, created_by")
            .bind(sha256)
            .bind(&user.email)
            .fetch_optional(&mut *transaction)
            .await?;
    let Some((tenant, scopes, invited_by)) = row else { return Ok(None) };
    let scopes = parse_scopes(&scopes)?;
    join(transaction, &tenant, &user.id, &scopes).await?;
    let actor = Actor::Person(user.email.clone());
    let detail = json!({ "scopes": scopes, "invited_by": invited_by, "proof": proof });
    let change = Change { tenant: &tenant, actor: &actor, action: "user.join", target: &user.id, detail };
    change.record(transaction).await?;
    Ok(Some(tenant))
}
