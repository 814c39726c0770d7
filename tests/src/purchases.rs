//! A seeded generator of purchases with its manifest, and the oracle that sums them: plain loops over what was sent,
//! no code of the layers it judges.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

/// One purchase as it was made up.
#[derive(Clone, Debug)]
pub struct Purchase {
    pub id: String,
    pub at_us: i64,
    pub user: String,
    pub cents: i64,
    pub department: String,
    pub store: String,
}

impl Purchase {
    /// The item for `POST /v1/events`.
    pub fn item(&self) -> Value {
        let at = jiff::Timestamp::from_microsecond(self.at_us).expect("in range");
        let (sign, cents) = (if self.cents < 0 { "-" } else { "" }, self.cents.unsigned_abs());
        json!({
            "event_id": self.id, "name": "purchase", "occurred_at": at.to_string(), "user_id": self.user,
            "money": { "amount": format!("{sign}{}.{:02}", cents / 100, cents % 100), "currency": "USD" },
            "properties": { "department": self.department, "store": self.store },
        })
    }
}

/// A number of purchases, `spacing_us` of event time apart, from a seed that is printed.
pub fn generate(seed: u64, count: usize, from_us: i64, spacing_us: i64) -> Vec<Purchase> {
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    (0..count)
        .map(|n| Purchase {
            id: format!("p-{seed}-{n}"),
            at_us: from_us + i64::try_from(n).expect("small") * spacing_us,
            user: format!("u-{}", random.random_range(0..500)),
            cents: random.random_range(-500..20_000),
            department: ["GROCERY", "DRUG GM", "PRODUCE", ""][random.random_range(0..4)].to_owned(),
            store: random.random_range(1..6).to_string(),
        })
        .collect()
}

/// The purchases again, some of them twice, shuffled within groups of `window`.
pub fn deliveries(purchases: &[Purchase], seed: u64, twice_share: f64, window: usize) -> Vec<Purchase> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut all = Vec::new();
    for group in purchases.chunks(window) {
        let mut group: Vec<Purchase> = group.to_vec();
        for index in 0..group.len() {
            if random.random_bool(twice_share) {
                group.push(group[index].clone());
            }
        }
        group.shuffle(&mut random);
        all.extend(group);
    }
    all
}

/// What a set of purchases adds up to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub count: u64,
    pub cents: i128,
    pub users: u64,
}

/// Sums per group, each id once.
pub fn sums<K: Ord>(purchases: &[Purchase], group: impl Fn(&Purchase) -> K) -> BTreeMap<K, Sums> {
    let mut ids = HashSet::new();
    let mut groups: BTreeMap<K, (Sums, BTreeSet<&str>)> = BTreeMap::new();
    for purchase in purchases {
        if ids.insert(&purchase.id) {
            let (sums, users) = groups.entry(group(purchase)).or_default();
            sums.count += 1;
            sums.cents = sums.cents.checked_add(i128::from(purchase.cents)).expect("128 bits are enough");
            users.insert(&purchase.user);
        }
    }
    groups.into_iter().map(|(key, (sums, users))| (key, Sums { users: users.len() as u64, ..sums })).collect()
}
