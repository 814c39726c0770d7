//! Who pays for what the stores read. A request's task knows its tenant once the credential was looked at; whatever is
//! read in that task, however deep, is put on this tenant's account. Tasks of their own say whom they work for
//! ([`on_account_of`]).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;

use tokio::sync::OwnedSemaphorePermit;

use super::Allowance;
use crate::problem::Problem;

tokio::task_local! {
    static PAYER: OnceLock<Arc<Allowance>>;
}

/// Opens an account for a request.
pub(crate) async fn metered(request: Request, next: Next) -> Response {
    PAYER.scope(OnceLock::new(), next.run(request)).await
}

/// Does something on the account of a tenant.
pub(crate) async fn on_account_of<F: Future>(allowance: Arc<Allowance>, work: F) -> F::Output {
    PAYER.scope(OnceLock::from(allowance), work).await
}

/// Says who sent the request of this task.
pub(super) fn pays(allowance: &Arc<Allowance>) {
    // Outside of a request there is no account, and nothing to do.
    let _ = PAYER.try_with(|payer| payer.set(allowance.clone()));
}

/// On whose account this task works, to go on with in another one.
pub(crate) fn payer() -> Option<Arc<Allowance>> {
    PAYER.try_with(|payer| payer.get().cloned()).ok().flatten()
}

/// Takes this tenant's share of the node: waits, at most for so long, while the tenant has as many questions of this kind
/// under way as it may have, which is fewer than the node answers at a time. Outside of a request nothing is shared.
///
/// # Errors
/// 429 if the tenant's questions have made the stores read more than they may, or too many of them wait.
pub(crate) async fn share(reads_events: bool, wait_max: Duration) -> Result<Option<OwnedSemaphorePermit>, Problem> {
    let Some(allowance) = payer() else { return Ok(None) };
    allowance.may_read()?;
    allowance.places(reads_events).take(wait_max).await.map(Some)
}

/// Counts rows that a store has read for this task.
pub(crate) fn charge(rows: u64) {
    let _ = PAYER.try_with(|payer| {
        if let Some(allowance) = payer.get() {
            allowance.charge(rows);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::allowance::tests::allowance;
    use super::*;

    const WAIT: Duration = Duration::from_millis(100);

    #[tokio::test]
    async fn what_is_read_is_put_on_the_account_of_who_asked() {
        let (one, other) = (allowance(), allowance());
        on_account_of(one.clone(), async { charge(7) }).await;
        charge(100);
        assert_eq!((one.rows_used(), other.rows_used()), (7, 0));
        on_account_of(one.clone(), async { charge(10_000) }).await;
        let refused = on_account_of(one, share(false, WAIT)).await.map(|_| ()).map_err(|problem| problem.status);
        assert_eq!(refused, Err(429));
        assert!(on_account_of(other, share(true, WAIT)).await.is_ok());
    }

    #[tokio::test]
    async fn a_tenant_waits_for_itself_only() {
        let (one, other) = (allowance(), allowance());
        let share_of = async |who: &Arc<Allowance>, reads_events| {
            let shared = on_account_of(who.clone(), share(reads_events, WAIT)).await;
            shared.map_err(|problem| problem.status)
        };
        let taken = share_of(&one, true).await.expect("free");
        assert_eq!(share_of(&one, true).await.map(drop), Err(429), "its only place for such questions is taken");
        assert!(share_of(&one, false).await.is_ok(), "others are answered beside it");
        assert!(share_of(&other, true).await.is_ok());
        drop(taken);
        assert!(share_of(&one, true).await.is_ok());
    }
}
