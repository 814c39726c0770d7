//! Messages on their way: a bounded number at the same time, and of each tenant only some, so that receivers that do not
//! answer keep nobody else's messages waiting.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::task::{self, JoinError, JoinSet};

use super::messages::{Due, OF_TENANT_MAX};
use super::webhook::Webhooks;
use crate::accounts::{Accounts, Error};

/// Messages of all tenants that are sent at the same time.
const AT_ONCE: usize = 32;
/// How many are looked at: those of tenants that have enough on their way are passed over.
const LOOKED_AT_MAX: i64 = 100;

/// See the module.
pub(super) struct Sending {
    accounts: Accounts,
    webhooks: Arc<Webhooks>,
    under_way: JoinSet<()>,
    /// Whose message each of them sends.
    tenants: HashMap<task::Id, String>,
}

impl Sending {
    pub(super) fn new(accounts: Accounts, webhooks: Arc<Webhooks>) -> Self {
        Self { accounts, webhooks, under_way: JoinSet::new(), tenants: HashMap::new() }
    }

    /// Begins to send what is due, as far as there are places.
    pub(super) async fn send_due(&mut self) -> Result<(), Error> {
        if self.under_way.len() >= AT_ONCE {
            return Ok(());
        }
        for due in self.accounts.due_messages(LOOKED_AT_MAX).await? {
            let of_tenant = self.tenants.values().filter(|tenant| **tenant == due.tenant).count();
            if of_tenant >= usize::from(OF_TENANT_MAX) || !self.accounts.begin_attempt(&due).await? {
                continue;
            }
            let tenant = due.tenant.clone();
            let task = self.under_way.spawn(deliver(self.accounts.clone(), self.webhooks.clone(), due));
            self.tenants.insert(task.id(), tenant);
            if self.under_way.len() >= AT_ONCE {
                break;
            }
        }
        Ok(())
    }

    /// Waits until one has arrived or has not; for ever if none is on its way.
    pub(super) async fn one_ended(&mut self) {
        match self.under_way.join_next_with_id().await {
            Some(ended) => {
                let id = ended.map_or_else(|error: JoinError| error.id(), |(id, ())| id);
                self.tenants.remove(&id);
            }
            None => std::future::pending().await,
        }
    }

    /// Waits for those that are on their way, and begins no more.
    pub(super) async fn end(mut self) {
        while self.under_way.join_next().await.is_some() {}
    }
}

async fn deliver(accounts: Accounts, webhooks: Arc<Webhooks>, due: Due) {
    let sent = match &due.address {
        Ok(address) => webhooks.send(address, &due.secret, &due.message, Timestamp::now()).await,
        Err(nowhere) => Err(nowhere.clone()),
    };
    if let Err(error) = accounts.end_attempt(&due, &sent).await {
        tracing::warn!(%error, message = due.message.id, "it is not known whether a message arrived: it is sent again");
    }
}
