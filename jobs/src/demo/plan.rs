//! Trouble on purpose, seeded: in which order, how often and how late each purchase is delivered.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reckon_schemas::time::{EventTime, MICROS_PER_SECOND};

use super::dataset::Purchase;

const MINUTE_US: i64 = 60 * MICROS_PER_SECOND;
const HOUR_US: i64 = 60 * MINUTE_US;
const DAY_US: i64 = 24 * HOUR_US;

/// How much trouble.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trouble {
    /// The same seed makes the same deliveries.
    pub(crate) seed: u64,
    /// The share of purchases that are delivered twice.
    pub(crate) redelivered: f64,
    /// The share that is delivered late: most within hours, some after days.
    pub(crate) late: f64,
    /// How many items that no collector can accept are mixed in.
    pub(crate) rejects: usize,
}

impl Default for Trouble {
    fn default() -> Self {
        Self { seed: 42, redelivered: 0.01, late: 0.02, rejects: 24 }
    }
}

/// One thing to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The purchase of this index.
    Purchase(usize),
    /// The purchase of this index, damaged so that it must be rejected, in one of several ways.
    Damaged(usize, u8),
}

/// What the plan holds, for the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) redelivered: usize,
    pub(crate) late: usize,
    pub(crate) rejects: usize,
}

/// Every delivery, in the order of sending. Purchases must be in time order.
pub(crate) fn plan(purchases: &[Purchase], trouble: Trouble) -> (Vec<Delivery>, Planned) {
    let mut random = StdRng::seed_from_u64(trouble.seed);
    let mut planned = Planned::default();
    let mut deliveries: Vec<(EventTime, Delivery)> = Vec::with_capacity(purchases.len() * 102 / 100);
    for (index, purchase) in purchases.iter().enumerate() {
        // Shuffled within a window of one minute.
        let mut delay_us = random.random_range(0..MINUTE_US);
        if random.random_bool(trouble.late) {
            delay_us += late_by_us(&mut random);
            planned.late += 1;
        }
        let at = purchase.at.plus_micros(delay_us);
        deliveries.push((at, Delivery::Purchase(index)));
        if random.random_bool(trouble.redelivered) {
            let again = at.plus_micros(random.random_range(0..DAY_US));
            deliveries.push((again, Delivery::Purchase(index)));
            planned.redelivered += 1;
        }
    }
    for kind in 0..trouble.rejects.min(purchases.len()) {
        let index = random.random_range(0..purchases.len());
        let kind = u8::try_from(kind % usize::from(DAMAGES)).unwrap_or(0);
        deliveries.push((purchases[index].at, Delivery::Damaged(index, kind)));
        planned.rejects += 1;
    }
    deliveries.sort_by_key(|(at, _)| *at);
    (deliveries.into_iter().map(|(_, delivery)| delivery).collect(), planned)
}

/// The number of ways to damage an item.
pub(crate) const DAMAGES: u8 = 6;

/// Half of the late ones come within the hour that the speed layer allows, the others after it, up to three days.
fn late_by_us(random: &mut StdRng) -> i64 {
    if random.random_bool(0.5) {
        random.random_range(5 * MINUTE_US..HOUR_US)
    } else {
        random.random_range(HOUR_US..3 * DAY_US)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purchases(count: i64) -> Vec<Purchase> {
        (0..count)
            .map(|n| Purchase {
                basket: n,
                product: 1,
                household: n % 7,
                store: 1,
                quantity: 1,
                cents: n,
                at: EventTime(n * 10 * MICROS_PER_SECOND),
                department: None,
            })
            .collect()
    }

    #[test]
    fn every_purchase_is_delivered_and_the_seed_decides_the_rest() {
        let purchases = purchases(20_000);
        let (deliveries, planned) = plan(&purchases, Trouble::default());
        let mut seen = vec![0; purchases.len()];
        for delivery in &deliveries {
            if let Delivery::Purchase(index) = delivery {
                seen[*index] += 1;
            }
        }
        assert!(seen.iter().all(|times| (1..=2).contains(times)));
        assert_eq!(seen.iter().filter(|times| **times == 2).count(), planned.redelivered);
        assert!((100..300).contains(&planned.redelivered) && (300..500).contains(&planned.late), "{planned:?}");
        assert_eq!(deliveries.len(), purchases.len() + planned.redelivered + planned.rejects);
        assert_eq!(plan(&purchases, Trouble::default()).0, deliveries);
        assert_ne!(plan(&purchases, Trouble { seed: 43, ..Trouble::default() }).0, deliveries);
    }
}
