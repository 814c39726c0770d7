//! People, and which tenants they are members of.
//!
//! An account is known by its address and belongs to no tenant: memberships do. A tenant's admin can only *invite* an
//! address; the membership begins when whoever holds the invitation's token proves to be that person, by the account's
//! password, or by setting one if there is no account yet, or by an OpenID provider that vouches for the address. Inviting
//! does not tell whether an address has an account elsewhere.
//!
//! Nothing is sent to an address here: the admin hands the token over, and could use it up instead. For an address
//! without an account that makes an account that the admin holds the password of. It opens what the admin's own tenant
//! shows and nothing else, because every other tenant's invitation needs a token of its own; the audit log says of each
//! membership who had invited it and whether the account was new; and the address becomes its owner's when an OpenID
//! provider vouches for them, or when the operator sets the password. Where that is not enough, people sign in by a
//! provider.

use jiff::Timestamp;
use reckon_schemas::access::Scope;
use reckon_schemas::ids::TenantId;
use serde::Serialize;
use serde_json::json;
use sqlx::AnyConnection;
use utoipa::ToSchema;

use super::audit::Change;
use super::{Accounts, Actor, Error, instant, micros, parse_scopes, password, scopes_text};
use crate::records::Cursor;

/// The most members of a tenant.
const MEMBERS_MAX: i64 = 1_000;
/// The longest address (RFC 5321).
const EMAIL_BYTES_MAX: usize = 254;

/// A member of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Member {
    /// The person's identifier.
    pub(crate) id: String,
    /// Their address.
    pub(crate) email: String,
    /// What they may do.
    #[schema(value_type = Vec<String>)]
    pub(crate) scopes: Vec<Scope>,
    /// Since when they are a member.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) since: Timestamp,
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) email: String,
    pub(crate) password: Option<String>,
}

/// An address as accounts are known by it.
pub(crate) fn checked_email(text: &str) -> Result<String, Error> {
    let email = text.trim().to_lowercase();
    let is_plain = email.len() <= EMAIL_BYTES_MAX && !email.chars().any(|c| c.is_whitespace() || c.is_control());
    match email.split_once('@') {
        Some((name, host)) if is_plain && !name.is_empty() && !host.is_empty() && !host.contains('@') => Ok(email),
        _ => Err(Error::Invalid("this is no e-mail address".to_owned())),
    }
}

impl Accounts {
    /// Makes somebody a member of a tenant, with this password, whether they have an account or not: the way to the first
    /// admin, and the way back in. Ends their sessions.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn set_user(
        &self,
        tenant: &TenantId,
        email: &str,
        password: String,
        scopes: &[Scope],
    ) -> Result<(), Error> {
        let (email, hash) = (checked_email(email)?, password::hash(password).await?);
        let tenant = tenant.as_str();
        self.store
            .within(async {
                let mut transaction = self.store.begin().await?;
                let user = match user_by_email(&mut transaction, &email).await? {
                    Some(user) => user.id,
                    None => insert_user(&mut transaction, &email, None).await?,
                };
                sqlx::query("UPDATE users SET password = $1 WHERE id = $2")
                    .bind(&hash)
                    .bind(&user)
                    .execute(&mut *transaction)
                    .await?;
                sqlx::query("DELETE FROM sessions WHERE user_id = $1").bind(&user).execute(&mut *transaction).await?;
                join(&mut transaction, tenant, &user, scopes).await?;
                let detail = json!({ "email": email, "scopes": scopes });
                let actor = &Actor::Operator;
                let change = Change { tenant, actor, action: "user.set", target: &user, detail };
                change.record(&mut transaction).await?;
                Ok(transaction.commit().await?)
            })
            .await
    }

    /// The members of a tenant behind a place, by address, one more than `limit`.
    pub(crate) async fn members(
        &self,
        tenant: &TenantId,
        after: &Cursor,
        limit: u32,
    ) -> Result<Vec<(Cursor, Member)>, Error> {
        let rows: Vec<(String, String, String, i64)> = self
            .store
            .within(async {
                Ok(sqlx::query_as(
                    "SELECT users.id, users.email, memberships.scopes, memberships.created_at FROM memberships \
                     JOIN users ON users.id = memberships.user_id WHERE memberships.tenant = $1 \
                     AND users.email > $2 ORDER BY users.email LIMIT $3",
                )
                .bind(tenant.as_str())
                .bind(&after.tie)
                .bind(i64::from(limit) + 1)
                .fetch_all(self.store.pool())
                .await?)
            })
            .await?;
        let placed = |(id, email, scopes, since): (String, String, String, i64)| {
            let cursor = Cursor { at_us: i64::MIN, tie: email.clone() };
            Ok((cursor, Member { id, email, scopes: parse_scopes(&scopes)?, since: instant(since)? }))
        };
        rows.into_iter().map(placed).collect()
    }

    /// Gives a member other scopes, or with none ends the membership. What they have open follows with their next
    /// request.
    pub(crate) async fn change_member(
        &self,
        tenant: &TenantId,
        user: &str,
        scopes: Option<&[Scope]>,
        actor: &Actor,
    ) -> Result<(), Error> {
        let tenant = tenant.as_str();
        self.store
            .within(async {
                let mut transaction = self.store.begin().await?;
                let changed = match scopes {
                    Some(scopes) => {
                        sqlx::query("UPDATE memberships SET scopes = $1 WHERE tenant = $2 AND user_id = $3")
                            .bind(scopes_text(scopes))
                            .bind(tenant)
                            .bind(user)
                            .execute(&mut *transaction)
                            .await?
                    }
                    None => {
                        sqlx::query("DELETE FROM sessions WHERE tenant = $1 AND user_id = $2")
                            .bind(tenant)
                            .bind(user)
                            .execute(&mut *transaction)
                            .await?;
                        sqlx::query("DELETE FROM memberships WHERE tenant = $1 AND user_id = $2")
                            .bind(tenant)
                            .bind(user)
                            .execute(&mut *transaction)
                            .await?
                    }
                };
                if changed.rows_affected() == 0 {
                    return Err(Error::Missing);
                }
                let action = if scopes.is_some() { "user.change" } else { "user.remove" };
                let change = Change { tenant, actor, action, target: user, detail: json!({ "scopes": scopes }) };
                change.record(&mut transaction).await?;
                Ok(transaction.commit().await?)
            })
            .await
    }
}

pub(super) async fn user_by_email(connection: &mut AnyConnection, email: &str) -> Result<Option<User>, Error> {
    let row: Option<(String, String, Option<String>)> =
        sqlx::query_as("SELECT id, email, password FROM users WHERE email = $1")
            .bind(email)
            .fetch_optional(connection)
            .await?;
    Ok(row.map(|(id, email, password)| User { id, email, password }))
}

pub(super) async fn insert_user(
    connection: &mut AnyConnection,
    email: &str,
    password: Option<&str>,
) -> Result<String, Error> {
    let id = uuid::Uuid::now_v7().simple().to_string();
    sqlx::query("INSERT INTO users (id, email, password, created_at) VALUES ($1, $2, $3, $4)")
        .bind(&id)
        .bind(email)
        .bind(password)
        .bind(micros(Timestamp::now()))
        .execute(connection)
        .await?;
    Ok(id)
}

/// Whether somebody can be a member of a tenant: who is one already always can.
pub(super) async fn has_room(connection: &mut AnyConnection, tenant: &str, user: &str) -> Result<bool, Error> {
    let (others,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM memberships WHERE tenant = $1 AND user_id <> $2")
        .bind(tenant)
        .bind(user)
        .fetch_one(connection)
        .await?;
    Ok(others < MEMBERS_MAX)
}

/// Begins a membership, or gives it these scopes.
pub(super) async fn join(
    connection: &mut AnyConnection,
    tenant: &str,
    user: &str,
    scopes: &[Scope],
) -> Result<(), Error> {
    if !has_room(connection, tenant, user).await? {
        return Err(Error::Full { what: "members", max: MEMBERS_MAX });
    }
    sqlx::query(
        "INSERT INTO memberships (tenant, user_id, scopes, created_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (tenant, user_id) DO UPDATE SET scopes = excluded.scopes",
    )
    .bind(tenant)
    .bind(user)
    .bind(scopes_text(scopes))
    .bind(micros(Timestamp::now()))
    .execute(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_compared_in_one_spelling() {
        assert_eq!(checked_email(" Ada@Example.COM ").expect("an address"), "ada@example.com");
        for wrong in ["", "ada", "@example.com", "ada@", "a b@example.com", "a@b@c", &format!("a@{}", "x".repeat(300))]
        {
            assert!(checked_email(wrong).is_err(), "{wrong}");
        }
    }
}
