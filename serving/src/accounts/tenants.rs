//! What the audit log says of tenants. Which tenants there are, and what they are, stands in the catalog.

use std::collections::BTreeSet;

use reckon_schemas::ids::TenantId;
use serde_json::Value;

use super::audit::Change;
use super::{Accounts, Actor, Error};

/// How the audit log names that a tenant was added to the catalog.
pub const TENANT_ADD: &str = "tenant.add";

impl Accounts {
    /// What was ever done for a tenant of that name; nothing if the name was never in use here.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn tenant_actions(&self, tenant: &TenantId) -> Result<BTreeSet<String>, Error> {
        self.store
            .within(async {
                let actions = sqlx::query_scalar("SELECT DISTINCT action FROM audit WHERE tenant = $1")
                    .bind(tenant.as_str())
                    .fetch_all(self.store.pool())
                    .await?;
                Ok(actions.into_iter().collect())
            })
            .await
    }

    /// Writes down that a tenant was added to the catalog, and as what.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn tenant_added(&self, tenant: &TenantId, detail: Value, actor: &Actor) -> Result<(), Error> {
        let tenant = tenant.as_str();
        self.store
            .within(async {
                let mut transaction = self.store.begin().await?;
                let change = Change { tenant, actor, action: TENANT_ADD, target: tenant, detail };
                change.record(&mut transaction).await?;
                Ok(transaction.commit().await?)
            })
            .await
    }
}
