//! Holding copies of the keys and quotas, and looking whether they changed.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reckon_schemas::ids::TenantId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Accounts, Error, Quota, micros};

/// How often what has expired is removed.
const TIDY_INTERVAL: Duration = Duration::from_secs(600);
/// How long a key that does not work any more is listed.
const KEYS_REMEMBERED: Duration = Duration::from_secs(90 * 24 * 3600);

impl Accounts {
    /// Keeps the copies up to date until shutdown. While the store is away they stay for a bounded time.
    pub async fn follow(&self, shutdown: CancellationToken) {
        self.store.take_for_prepared();
        self.look_again_and_again(false, shutdown).await;
    }

    /// The same, and makes the tables first, and removes what has expired.
    pub(crate) async fn tend(&self, shutdown: CancellationToken) {
        self.look_again_and_again(true, shutdown).await;
    }

    async fn look_again_and_again(&self, tends: bool, shutdown: CancellationToken) {
        let mut is_prepared = !tends;
        let (mut good_at, mut tidied_at) = (Instant::now(), None::<Instant>);
        let mut is_away = false;
        loop {
            let looked = tokio::select! {
                () = shutdown.cancelled() => return,
                looked = self.look(&mut is_prepared) => looked,
            };
            match looked {
                Ok(()) => {
                    if is_away {
                        tracing::info!("the configuration store answers again");
                    }
                    (good_at, is_away) = (Instant::now(), false);
                }
                Err(error) => {
                    if !is_away {
                        let kept = self.tuning.keys_kept;
                        tracing::warn!(%error, "known keys go on working for {kept:?}, nothing else opens");
                    }
                    is_away = true;
                }
            }
            if is_away && good_at.elapsed() >= self.tuning.keys_kept && !self.book.borrow().is_empty() {
                tracing::error!("the configuration store has been away for too long: only the catalog's keys work now");
                self.forget().await;
            }
            if tends && !is_away && tidied_at.is_none_or(|at| at.elapsed() >= TIDY_INTERVAL) {
                tidied_at = Some(Instant::now());
                if let Err(error) = self.tidy().await {
                    tracing::warn!(%error, "what has expired was not removed");
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(self.tuning.refresh) => {}
            }
        }
    }

    async fn look(&self, is_prepared: &mut bool) -> Result<(), Error> {
        if !*is_prepared {
            self.store.migrate().await?;
            *is_prepared = true;
        }
        self.refresh().await
    }

    /// Replaces the copies if they are not of the newest revision.
    pub(crate) async fn refresh(&self) -> Result<(), Error> {
        let mut copied = self.copied.lock().await;
        self.store
            .within(async {
                // The revision first: what is read after it is at least as new, so nothing is missed.
                let (revision,): (i64,) = sqlx::query_as("SELECT revision FROM revisions WHERE name = 'access'")
                    .fetch_one(self.store.pool())
                    .await?;
                if *copied == Some(revision) {
                    return Ok(());
                }
                let book = Arc::new(self.read_keys().await?);
                let quotas = Arc::new(self.read_quotas().await?);
                let metrics = Arc::new(self.read_copies().await?);
                let rate = |(tenant, quota): (&TenantId, &Quota)| Some((tenant.clone(), quota.events_per_second_max?));
                let event_rates = Arc::new(quotas.iter().filter_map(rate).collect());
                self.book.send_if_modified(|known| replace(known, book));
                self.quotas.send_if_modified(|known| replace(known, quotas));
                self.event_rates.send_if_modified(|known| replace(known, event_rates));
                self.metrics.send_if_modified(|known| replace(known, metrics));
                *copied = Some(revision);
                Ok(())
            })
            .await
    }

    /// After a change that was made here: known at once, if the store allows, or else with the next look.
    pub(crate) async fn refresh_after_change(&self) {
        if let Err(error) = self.refresh().await {
            tracing::warn!(%error, "a change was made; this node knows it with its next look");
        }
    }

    async fn tidy(&self) -> Result<(), Error> {
        let now = Timestamp::now();
        let long_ago = micros(now - KEYS_REMEMBERED);
        self.store
            .within(async {
                let pool = self.store.pool();
                for statement in
                    ["DELETE FROM sessions WHERE expires_at < $1", "DELETE FROM invitations WHERE expires_at < $1"]
                {
                    sqlx::query(statement).bind(micros(now)).execute(pool).await?;
                }
                sqlx::query("DELETE FROM access_keys WHERE revoked_at < $1 OR expires_at < $1")
                    .bind(long_ago)
                    .execute(pool)
                    .await?;
                Ok(())
            })
            .await
    }

    async fn forget(&self) {
        let mut copied = self.copied.lock().await;
        self.book.send_replace(Arc::default());
        *copied = None;
    }
}

fn replace<T: PartialEq>(known: &mut Arc<T>, new: Arc<T>) -> bool {
    let is_new = *known != new;
    *known = new;
    is_new
}
