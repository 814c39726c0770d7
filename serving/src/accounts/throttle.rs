//! How often somebody may try to sign in: per account and per address, counted on each node.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use moka::future::Cache;

use super::secret;

/// Attempts are counted for so long after the first one.
pub(crate) const WINDOW: Duration = Duration::from_secs(15 * 60);
const PER_ACCOUNT_MAX: u32 = 10;
const PER_ADDRESS_MAX: u32 = 50;
/// Beyond so many, the ones that were not seen for the longest are forgotten.
const COUNTED_MAX: u64 = 100_000;

type Counts = Cache<String, Arc<AtomicU32>>;

/// Counts attempts. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Throttle {
    accounts: Counts,
    addresses: Counts,
}

impl Throttle {
    pub(crate) fn new() -> Self {
        let counts = || Cache::builder().max_capacity(COUNTED_MAX).time_to_live(WINDOW).build();
        Self { accounts: counts(), addresses: counts() }
    }

    /// Counts an attempt; whether there may be one. Accounts that do not exist count like those that do, and what is kept
    /// of either is of one size: anybody may send anything.
    pub(crate) async fn may_try(&self, account: &str, address: Option<IpAddr>) -> bool {
        let mut is_free = count(&self.accounts, secret::hash(account)).await < PER_ACCOUNT_MAX;
        if let Some(address) = address {
            is_free &= count(&self.addresses, address.to_string()).await < PER_ADDRESS_MAX;
        }
        is_free
    }

    /// It was the right person.
    pub(crate) async fn forgive(&self, account: &str) {
        self.accounts.invalidate(&secret::hash(account)).await;
    }
}

/// How many attempts there were before this one.
async fn count(counts: &Counts, key: String) -> u32 {
    counts.get_with(key, async { Arc::default() }).await.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn accounts_and_addresses_are_counted_apart() {
        let throttle = Throttle::new();
        let here = Some(IpAddr::from([192, 0, 2, 1]));
        for _ in 0..PER_ACCOUNT_MAX {
            assert!(throttle.may_try("a@example.com", here).await);
        }
        assert!(!throttle.may_try("a@example.com", here).await);
        assert!(throttle.may_try("b@example.com", here).await);
        throttle.forgive("a@example.com").await;
        assert!(throttle.may_try("a@example.com", here).await);
        for n in 0..PER_ADDRESS_MAX {
            let _ = throttle.may_try(&format!("{n}@example.com"), here).await;
        }
        assert!(!throttle.may_try("new@example.com", here).await);
        assert!(throttle.accounts.iter().all(|(key, _)| key.len() == 64), "no longer than a hash");
        assert!(throttle.may_try("new@example.com", Some(IpAddr::from([192, 0, 2, 2]))).await);
    }
}
