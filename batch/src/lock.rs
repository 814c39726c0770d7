//! One job at a time on a tenant's settlements: a lock with an owner and an expiry, in the object store.
//!
//! The lock is a row of files `locks/<tenant>/<term>.json`, of which the one with the highest term counts. A term is
//! taken by creating its file, which only one can; it is allowed once the term before is over: released, or expired.
//! Within a term only its owner writes the file, to extend it or to give it back. So no store needs more than atomic
//! creation, and an owner that comes back after its term sees that there is a higher one.
//!
//! Expiry is by the clock of whoever looks. Clocks that are far apart can make two owners at once; they do no harm
//! all the same: a run becomes visible as a whole, a manifest is created once, and what a close has locked is told from
//! what an older job writes by the generation of the rows.

use std::time::Duration;

use jiff::Timestamp;
use reckon_schemas::ids::TenantId;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::objects::{ObjectError, Objects, numbered_path};

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Somebody else has it.
    #[error(
        "the settlements of tenant {tenant} are locked by {owner} since {since}; the lock expires at {expires_at} unless \
         it is renewed: try again then"
    )]
    Held {
        /// Whose settlements.
        tenant: TenantId,
        /// Who has it.
        owner: String,
        /// Since when.
        since: Timestamp,
        /// When it can be taken over.
        expires_at: Timestamp,
    },
    /// The store did not do as asked.
    #[error(transparent)]
    Object(#[from] ObjectError),
}

/// What a term's file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Term {
    owner: String,
    since: Timestamp,
    expires_at: Timestamp,
}

/// A lock that is held, and renewed until it is released or dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    place: Place,
    term: Term,
    renewing: JoinHandle<()>,
    lost: CancellationToken,
}

/// Where a term is written.
#[derive(Clone, Debug)]
struct Place {
    objects: Objects,
    folder: String,
    number: u64,
}

impl Lock {
    /// Takes the lock of a tenant.
    ///
    /// # Errors
    /// [`LockError::Held`] if somebody else has it, [`LockError::Object`] if the store is away.
    pub(crate) async fn acquire(
        objects: &Objects,
        tenant: &TenantId,
        owner: &str,
        expiry: Duration,
    ) -> Result<Self, LockError> {
        let folder = format!("locks/{tenant}");
        let numbers = objects.numbered(&folder).await?;
        let newest = numbers.last().copied().unwrap_or(0);
        let held = |term: Term| LockError::Held {
            tenant: tenant.clone(),
            owner: term.owner,
            since: term.since,
            expires_at: term.expires_at,
        };
        if let Some(term) = read(objects, &folder, newest).await?
            && term.expires_at > Timestamp::now()
        {
            return Err(held(term));
        }
        let place = Place { objects: objects.clone(), folder, number: newest + 1 };
        let term = Term { owner: owner.to_owned(), since: Timestamp::now(), expires_at: after(expiry) };
        if !objects.create(&place.path(), encode(&term)).await? {
            // Somebody was faster, and may even be done by now.
            let other = read(objects, &place.folder, place.number).await?;
            return Err(held(other.unwrap_or(Term { owner: "another job".to_owned(), ..term })));
        }
        for old in numbers.into_iter().filter(|number| *number < newest) {
            objects.remove(&numbered_path(&place.folder, old)).await?;
        }
        let lost = CancellationToken::new();
        let renewing = tokio::spawn(renew(place.clone(), term.clone(), expiry, lost.clone()));
        Ok(Self { place, term, renewing, lost })
    }

    /// Works under the lock of a tenant: takes it, ends the work if it is lost meanwhile, and gives it back.
    ///
    /// # Errors
    /// As [`Lock::acquire`] and as the work; [`crate::Error::Retryable`] if the lock was lost.
    pub(crate) async fn hold<T, E: From<crate::Error>>(
        objects: &Objects,
        tenant: &TenantId,
        owner: &str,
        expiry: Duration,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let lock = Self::acquire(objects, tenant, owner, expiry).await.map_err(crate::Error::from)?;
        let done = tokio::select! {
            done = Box::pin(work) => done,
            () = lock.lost() => Err(lost(tenant).into()),
        };
        lock.release().await;
        done
    }

    /// Completes when the lock is no longer held: it could not be renewed in time, or somebody took it over.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Gives it back, so that the next one does not have to wait for the expiry.
    pub(crate) async fn release(self) {
        self.renewing.abort();
        if self.lost.is_cancelled() {
            return;
        }
        let over = Term { expires_at: Timestamp::now(), ..self.term.clone() };
        if let Err(error) = self.place.objects.write(&self.place.path(), encode(&over)).await {
            tracing::warn!(%error, "the lock could not be given back; it expires by itself");
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.renewing.abort();
    }
}

impl Place {
    fn path(&self) -> String {
        numbered_path(&self.folder, self.number)
    }

    /// Extends the term; false if somebody has taken a higher one.
    async fn extend(&self, term: &Term, expiry: Duration) -> Result<bool, ObjectError> {
        let numbers = self.objects.numbered(&self.folder).await?;
        if numbers.last().is_some_and(|newest| *newest > self.number) {
            return Ok(false);
        }
        let extended = Term { expires_at: after(expiry), ..term.clone() };
        self.objects.write(&self.path(), encode(&extended)).await.map(|()| true)
    }
}

/// What work says that had to end because its lock is gone.
pub(crate) fn lost(tenant: &TenantId) -> crate::Error {
    crate::Error::Retryable(format!("the lock on the settlements of tenant {tenant} was lost: try again"))
}

/// Renews a term at a third of its time, again and again.
async fn renew(place: Place, term: Term, expiry: Duration, lost: CancellationToken) {
    let mut renewed_at = tokio::time::Instant::now();
    loop {
        tokio::time::sleep(expiry / 3).await;
        let started = tokio::time::Instant::now();
        match tokio::time::timeout(expiry / 3, place.extend(&term, expiry)).await {
            Ok(Ok(true)) => renewed_at = started,
            Ok(Ok(false)) => {
                tracing::error!("another job has taken the lock over");
                return lost.cancel();
            }
            Ok(Err(error)) => tracing::warn!(%error, "the lock could not be renewed"),
            Err(_) => tracing::warn!("the lock could not be renewed in time"),
        }
        if renewed_at.elapsed() >= expiry {
            tracing::error!("the lock has expired");
            return lost.cancel();
        }
    }
}

async fn read(objects: &Objects, folder: &str, number: u64) -> Result<Option<Term>, ObjectError> {
    let content = objects.read(&numbered_path(folder, number)).await?;
    // A file that cannot be read was cut short by a crash: as if the term were over.
    Ok(content.and_then(|content| serde_json::from_slice(&content).ok()))
}

fn encode(term: &Term) -> Vec<u8> {
    serde_json::to_vec(term).expect("plain data")
}

fn after(duration: Duration) -> Timestamp {
    let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    Timestamp::now().saturating_add(jiff::SignedDuration::from_micros(micros)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reckon_schemas::stores;

    const LONG: Duration = Duration::from_secs(60);

    fn scene() -> (tempfile::TempDir, Objects, TenantId) {
        let dir = tempfile::tempdir().expect("a folder");
        let objects = Objects::open(&stores::Lake::at(format!("file://{}", dir.path().display()))).expect("usable");
        (dir, objects, "acme".parse().expect("valid"))
    }

    #[tokio::test]
    async fn one_of_many_gets_it_and_the_others_are_told_who() {
        let (_dir, objects, tenant) = scene();
        let names: Vec<String> = (0..8).map(|n| format!("job-{n}")).collect();
        let tries = names.iter().map(|name| Lock::acquire(&objects, &tenant, name, LONG));
        let (held, refused): (Vec<_>, Vec<_>) =
            futures::future::join_all(tries).await.into_iter().partition(Result::is_ok);
        assert_eq!((held.len(), refused.len()), (1, 7));
        let lock = held.into_iter().next().expect("one").expect("held");
        let error = Lock::acquire(&objects, &tenant, "late", LONG).await.expect_err("held").to_string();
        assert!(error.contains(&lock.term.owner) && error.contains("acme"), "{error}");
        lock.release().await;
        Lock::acquire(&objects, &tenant, "next", LONG).await.expect("free again").release().await;
    }

    #[tokio::test]
    async fn it_is_taken_over_once_it_expired_and_the_former_owner_notices() {
        let (_dir, objects, tenant) = scene();
        let short = Duration::from_millis(300);
        let dead = Lock::acquire(&objects, &tenant, "dead", short).await.expect("free");
        // As a killed process: nobody renews it any more.
        dead.renewing.abort();
        assert!(Lock::acquire(&objects, &tenant, "eager", LONG).await.is_err(), "it has not expired yet");
        tokio::time::sleep(short).await;
        let next = Lock::acquire(&objects, &tenant, "next", LONG).await.expect("expired");
        assert!(!dead.place.extend(&dead.term, LONG).await.expect("readable"), "a higher term is there");
        // What the former owner does at its end does not touch the new one.
        dead.release().await;
        assert!(Lock::acquire(&objects, &tenant, "third", LONG).await.is_err());
        next.release().await;
    }

    #[tokio::test]
    async fn it_is_renewed_while_it_is_held() {
        let (_dir, objects, tenant) = scene();
        let short = Duration::from_millis(300);
        let lock = Lock::acquire(&objects, &tenant, "owner", short).await.expect("free");
        tokio::time::sleep(short * 3).await;
        assert!(Lock::acquire(&objects, &tenant, "other", short).await.is_err(), "it was renewed");
        lock.release().await;
    }

    #[tokio::test]
    async fn losing_it_is_told() {
        let (_dir, objects, tenant) = scene();
        let short = Duration::from_millis(300);
        let lock = Lock::acquire(&objects, &tenant, "owner", short).await.expect("free");
        assert!(objects.create(&numbered_path("locks/acme", 2), encode(&lock.term)).await.expect("written"));
        tokio::time::timeout(Duration::from_secs(5), lock.lost()).await.expect("it notices");
    }

    #[tokio::test]
    async fn work_ends_when_its_lock_is_lost_and_gives_it_back_when_it_is_done() {
        let (_dir, objects, tenant) = scene();
        let short = Duration::from_millis(300);
        let taken_over = async {
            let term = read(&objects, "locks/acme", 1).await?.expect("it is held");
            assert!(objects.create(&numbered_path("locks/acme", 2), encode(&term)).await?);
            std::future::pending::<Result<(), crate::Error>>().await
        };
        let ended =
            tokio::time::timeout(Duration::from_secs(5), Lock::hold(&objects, &tenant, "owner", short, taken_over));
        let error = ended.await.expect("it ends").expect_err("the lock is gone").to_string();
        assert!(error.contains("acme was lost"), "{error}");
        tokio::time::sleep(short).await;
        for number in 0..2 {
            let done = Lock::hold(&objects, &tenant, "next", LONG, async { Ok::<_, crate::Error>(number) }).await;
            assert_eq!(done.expect("it was given back"), number);
        }
    }
}
