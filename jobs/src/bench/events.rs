//! The events of the benchmark: a pure function of a seed and a place in the log, so that any of them can be made
//! again, in any thread, and an exact count needs nobody's memory.

use anyhow::Result;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rand_distr::weighted::WeightedAliasIndex;
use rand_distr::{Distribution, Exp, LogNormal};
use reckon_schemas::event::{EVENT_VERSION, Event, Properties, Source};
use reckon_schemas::money::{Currency, Money};
use reckon_schemas::time::{EventTime, MICROS_PER_SECOND};

pub(crate) const TENANTS: usize = 20;
pub(crate) const USERS: u32 = 2_000_000;
pub(crate) const DAY_US: i64 = 86_400 * MICROS_PER_SECOND;
/// Every so many-th delivery repeats an earlier one.
const AGAIN_EVERY: u64 = 100;
/// How many deliveries lie between the two at the most.
const AGAIN_WITHIN: u64 = 1_000_000;
/// Coprime to the number of users: multiplying by it shuffles them, so that frequent ones are not neighbours.
const USER_STRIDE: u64 = 1_299_709;
const OUT_OF_ORDER_MEAN_S: f64 = 20.0;

pub(crate) const NAMES: [&str; 8] =
    ["page_view", "click", "add_to_cart", "search", "purchase", "signup", "login", "refund"];
const NAME_WEIGHTS: [f64; 8] = [0.48, 0.22, 0.08, 0.09, 0.05, 0.01, 0.06, 0.01];
const PURCHASE: u8 = 4;
const REFUND: u8 = 7;
pub(crate) const COUNTRIES: [&str; 30] = [
    "US", "CN", "IN", "BR", "DE", "GB", "FR", "JP", "RU", "MX", "IT", "ES", "CA", "KR", "AU", "NL", "TR", "PL", "SE",
    "ID", "CH", "BE", "AR", "NO", "AT", "IE", "DK", "FI", "PT", "NZ",
];
pub(crate) const DEVICES: [&str; 4] = ["mobile", "desktop", "tablet", "tv"];
const DEVICE_WEIGHTS: [f64; 4] = [0.58, 0.33, 0.07, 0.02];

/// The tenant of an index.
pub(crate) fn tenant(index: usize) -> String {
    format!("t{index:02}")
}

/// Who does what how often.
pub(crate) struct Population {
    tenants: WeightedAliasIndex<f64>,
    names: WeightedAliasIndex<f64>,
    countries: WeightedAliasIndex<f64>,
    devices: WeightedAliasIndex<f64>,
    users: WeightedAliasIndex<f64>,
    amounts: LogNormal<f64>,
    delays_s: Exp<f64>,
    tenant_ids: Vec<String>,
    usd: Currency,
}

/// One event, in indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) tenant: u8,
    pub(crate) name: u8,
    pub(crate) country: u8,
    pub(crate) device: u8,
    pub(crate) user: u32,
    /// How long before its receipt it happened.
    pub(crate) delay_us: i64,
    /// US dollars in cents, for purchases and refunds.
    pub(crate) minor: Option<i64>,
    pub(crate) id: u128,
    detail: u64,
}

impl Population {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            tenants: zipf(TENANTS, 1.1)?,
            names: WeightedAliasIndex::new(NAME_WEIGHTS.to_vec())?,
            countries: zipf(COUNTRIES.len(), 1.2)?,
            devices: WeightedAliasIndex::new(DEVICE_WEIGHTS.to_vec())?,
            users: zipf(USERS as usize, 0.8)?,
            amounts: LogNormal::new(7.6, 1.1)?,
            delays_s: Exp::new(1.0 / OUT_OF_ORDER_MEAN_S)?,
            tenant_ids: (0..TENANTS).map(tenant).collect(),
            usd: "USD".parse()?,
        })
    }

    /// The next event of a random source.
    #[expect(clippy::cast_possible_truncation, reason = "indices of short tables, and amounts far below 2^63")]
    pub(crate) fn draw(&self, random: &mut SmallRng) -> Made {
        let name = self.names.sample(random) as u8;
        let amount = self.amounts.sample(random).round() as i64 + 1;
        let rank = self.users.sample(random) as u64;
        Made {
            tenant: self.tenants.sample(random) as u8,
            name,
            country: self.countries.sample(random) as u8,
            device: self.devices.sample(random) as u8,
            user: (rank * USER_STRIDE % u64::from(USERS)) as u32,
            delay_us: (self.delays_s.sample(random) * MICROS_PER_SECOND as f64) as i64,
            minor: match name {
                PURCHASE => Some(amount),
                REFUND => Some(-amount),
                _ => None,
            },
            id: random.random(),
            detail: random.random(),
        }
    }

    /// The message of an event.
    pub(crate) fn encode(&self, made: &Made, received_at: EventTime, occurred_at: EventTime) -> Message {
        let tenant = &self.tenant_ids[usize::from(made.tenant)];
        let user = format!("u-{:07}", made.user);
        let id = format!("{:032x}", made.id);
        let mut properties = Properties::new();
        properties.insert("country", COUNTRIES[usize::from(made.country)]);
        properties.insert("device", DEVICES[usize::from(made.device)]);
        properties.insert("page", made.page());
        properties.insert("session", made.session());
        properties.insert("app_version", made.app_version());
        let event = Event {
            version: EVENT_VERSION,
            tenant: tenant.into(),
            id: (&id).into(),
            name: NAMES[usize::from(made.name)].into(),
            occurred_at,
            received_at,
            user: (&user).into(),
            money: made.minor.map(|minor| Money { currency: self.usd, minor }),
            properties,
            source: Source::Native,
        };
        Message {
            key: reckon_schemas::kafka::message_key(tenant, &user, &id),
            payload: event.encode(),
            timestamp_ms: received_at.0.div_euclid(1000),
        }
    }
}

impl Made {
    pub(crate) fn page(&self) -> String {
        format!("/products/{}", self.detail % 50_000)
    }

    pub(crate) fn session(&self) -> String {
        format!("{:016x}", self.detail)
    }

    pub(crate) fn app_version(&self) -> String {
        format!("4.{}.{}", self.detail % 7, self.detail % 31)
    }
}

/// A message of the log.
pub(crate) struct Message {
    pub(crate) key: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) timestamp_ms: i64,
}

/// A day's deliveries in the order of the log.
pub(crate) struct Day {
    pub(crate) population: Population,
    pub(crate) seed: u64,
    pub(crate) start: EventTime,
    pub(crate) deliveries: u64,
}

impl Day {
    /// The place whose event is delivered at a place: its own, or, at every hundredth, an earlier one.
    pub(crate) fn original(&self, place: u64) -> u64 {
        if place % AGAIN_EVERY != AGAIN_EVERY - 1 {
            return place;
        }
        let mut random = SmallRng::seed_from_u64(self.seed ^ place.rotate_left(32));
        let earlier = place - random.random_range(1..=place.min(AGAIN_WITHIN));
        // One that repeats another itself is left to its neighbour.
        if earlier % AGAIN_EVERY == AGAIN_EVERY - 1 { earlier - 1 } else { earlier }
    }

    /// How many of the deliveries repeat an earlier one.
    pub(crate) fn repeated(&self) -> u64 {
        self.deliveries / AGAIN_EVERY
    }

    /// The event of an original place, and when it happened.
    pub(crate) fn event(&self, place: u64) -> (Made, EventTime) {
        let mixed = self.seed.wrapping_add(place.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let made = self.population.draw(&mut SmallRng::seed_from_u64(mixed));
        (made, EventTime((self.received_at(place).0 - made.delay_us).max(self.start.0)))
    }

    /// The message delivered at a place; a repeated one is the same to the byte, but comes later.
    pub(crate) fn message(&self, place: u64, original: u64, made: &Made, occurred_at: EventTime) -> Message {
        let message = self.population.encode(made, self.received_at(original), occurred_at);
        Message { timestamp_ms: self.received_at(place).0.div_euclid(1000), ..message }
    }

    fn received_at(&self, place: u64) -> EventTime {
        let offset = i128::from(place) * i128::from(DAY_US) / i128::from(self.deliveries.max(1));
        self.start.plus_micros(i64::try_from(offset).unwrap_or(DAY_US))
    }
}

fn zipf(count: usize, exponent: f64) -> Result<WeightedAliasIndex<f64>> {
    Ok(WeightedAliasIndex::new((1..=count).map(|rank| (rank as f64).powf(-exponent)).collect())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day() -> Day {
        Day { population: Population::new().expect("valid"), seed: 42, start: EventTime(0), deliveries: 20_000 }
    }

    #[test]
    fn a_place_is_always_the_same_event_and_every_hundredth_an_earlier_one() {
        let day = day();
        let repeated = (0..day.deliveries).filter(|place| day.original(*place) != *place).count();
        assert_eq!(repeated as u64, day.repeated());
        for place in [0, 99, 199, 12_345, 19_999] {
            let original = day.original(place);
            assert!(original <= place && day.original(original) == original, "{place} {original}");
            assert_eq!(day.event(original), day.event(original));
        }
        assert_ne!(day.event(1), Day { seed: 43, ..self::day() }.event(1));
    }

    #[test]
    fn messages_are_readable_and_about_as_long_as_promised() {
        let day = day();
        let mut bytes = 0;
        for place in 0..1000 {
            let (made, at) = day.event(place);
            let message = day.message(place, place, &made, at);
            let event = Event::decode(&message.payload).expect("readable");
            assert_eq!(event.money.map(|money| money.minor), made.minor);
            assert!(event.occurred_at <= event.received_at && event.occurred_at.0 < DAY_US);
            bytes += message.payload.len();
        }
        assert!((280..330).contains(&(bytes / 1000)), "{} bytes on average", bytes / 1000);
    }
}
