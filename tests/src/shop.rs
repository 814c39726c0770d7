//! A shop's events with trouble, and an oracle that counts them with plain loops: for questions that no rollup answers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;

use crate::world::World;

const HOUR_US: i64 = 3_600_000_000;
const MINUTE_US: i64 = 60_000_000;
/// Values of a property that may or may not be numbers; how much each is, in millionths.
const QUANTITIES: [(&str, i128); 7] = [
    ("1", 1_000_000),
    ("2.5", 2_500_000),
    ("-3", -3_000_000),
    ("1e2", 100_000_000),
    ("many", 0),
    ("0.0000001", 0),
    (".5", 0),
];

/// One delivery of an event.
#[derive(Clone, Debug)]
pub struct Shopping {
    pub id: String,
    pub name: &'static str,
    pub at_us: i64,
    pub user: String,
    pub currency: &'static str,
    pub cents: i64,
    pub properties: BTreeMap<&'static str, String>,
    pub millionths: i128,
    pub partition: i32,
    pub log_ms: i64,
}

impl Shopping {
    /// What the event has for a dimension.
    pub fn value(&self, dimension: &str) -> String {
        if dimension == "user_id" {
            self.user.clone()
        } else {
            self.properties.get(dimension).cloned().unwrap_or_default()
        }
    }

    fn message(&self, tenant: &str) -> String {
        let mut message = json!({
            "v": 2, "tenant": tenant, "id": self.id, "name": self.name, "occurred_at": self.at_us,
            "received_at": self.log_ms * 1000, "properties": self.properties,
        });
        if !self.user.is_empty() {
            message["user"] = self.user.as_str().into();
        }
        if self.name == "purchase" {
            message["money"] = json!({ "currency": self.currency, "minor": self.cents });
        }
        message.to_string()
    }
}

/// Deliveries of `count` events of the 84 hours before `now_us`, in the order of the log: every tenth event comes again,
/// every second time with other contents. Half of them happen on full minutes, so that many are of one instant.
pub fn deliveries(seed: u64, count: usize, now_us: i64) -> Vec<Shopping> {
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut all = Vec::new();
    for number in 0..count {
        let shopping = one(&mut random, format!("e-{number}"), now_us);
        if random.random_bool(0.1) {
            let again = one(&mut random, shopping.id.clone(), now_us);
            let log_ms = shopping.log_ms + random.random_range(1..100_000);
            all.push(match random.random_bool(0.5) {
                true => Shopping { log_ms, partition: again.partition, ..shopping.clone() },
                // Not far away in time, as whoever repeats himself is.
                false => Shopping { log_ms, at_us: shopping.at_us + random.random_range(0..HOUR_US), ..again },
            });
        }
        all.push(shopping);
    }
    all.sort_by_key(|shopping| (shopping.log_ms, shopping.partition));
    all
}

fn one(random: &mut StdRng, id: String, now_us: i64) -> Shopping {
    let mut at_us = now_us - HOUR_US - random.random_range(0..83 * HOUR_US);
    if random.random_bool(0.5) {
        at_us -= at_us.rem_euclid(MINUTE_US);
    }
    let mut pick = |values: &[&'static str]| values[random.random_range(0..values.len())].to_owned();
    let mut properties = BTreeMap::from([("every", "one".to_owned())]);
    for (name, value) in [
        ("department", pick(&["GROCERY", "DRUG GM", "PRODUCE", ""])),
        ("country", pick(&["DE", "US", "NZ"])),
        ("device", pick(&["phone", "desktop"])),
        ("it's \"odd\\", pick(&["' OR 1=1 --", "\\", "\u{1f}", "ä✓"])),
    ] {
        if !value.is_empty() {
            properties.insert(name, value);
        }
    }
    let (quantity, millionths) = QUANTITIES[random.random_range(0..QUANTITIES.len())];
    properties.insert("quantity", quantity.to_owned());
    properties.insert("basket", format!("b-{}", random.random_range(0..300)));
    let user = random.random_range(0..65);
    Shopping {
        id,
        name: ["view", "view", "cart", "purchase"][random.random_range(0..4)],
        at_us,
        user: if user < 60 { format!("u-{user}") } else { String::new() },
        currency: if random.random_bool(0.9) { "USD" } else { "EUR" },
        cents: random.random_range(-500..20_000),
        properties,
        millionths,
        partition: random.random_range(0..3),
        log_ms: at_us / 1000 + random.random_range(0..60_000),
    }
}

/// The neighbour's deliveries: of the same names, departments, times and mostly users as these, but of other amounts. Every
/// second one has the id of ours, and comes just before it; every third is of the user `canary`.
pub fn of_a_neighbour(deliveries: &[Shopping], canary: &str) -> Vec<Shopping> {
    let theirs = |(number, ours): (usize, &Shopping)| Shopping {
        id: if number % 2 == 0 { ours.id.clone() } else { format!("{canary}-{number}") },
        user: if number % 3 == 0 { canary.to_owned() } else { ours.user.clone() },
        cents: ours.cents + 77_777_777,
        log_ms: ours.log_ms - 1,
        ..ours.clone()
    };
    deliveries.iter().enumerate().map(theirs).collect()
}

/// Writes deliveries into the log, with the time and partition that they have.
pub async fn produce(world: &World, deliveries: &[Shopping]) -> Result<()> {
    produce_for(world, &world.tenant, deliveries).await
}

/// The same for a tenant of the world.
pub async fn produce_for(world: &World, tenant: &str, deliveries: &[Shopping]) -> Result<()> {
    let (brokers, topic) = (world.kafka.brokers.clone(), world.kafka.topics.events.clone());
    let messages: Vec<(i32, i64, String)> =
        deliveries.iter().map(|shopping| (shopping.partition, shopping.log_ms, shopping.message(tenant))).collect();
    tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &brokers).create()?;
        for (partition, at_ms, payload) in &messages {
            let record: BaseRecord<'_, str, String> = BaseRecord::to(&topic).partition(*partition).timestamp(*at_ms);
            producer.send(record.payload(payload)).map_err(|(error, _)| error)?;
            producer.poll(Duration::ZERO);
        }
        Ok(producer.flush(Duration::from_secs(30))?)
    })
    .await?
}

/// Each event once, by the delivery with the lowest log time, then partition, then place in the partition.
pub fn events(deliveries: &[Shopping]) -> Vec<Shopping> {
    let mut events: BTreeMap<&str, (i64, i32, usize)> = BTreeMap::new();
    for (offset, shopping) in deliveries.iter().enumerate() {
        let place = (shopping.log_ms, shopping.partition, offset);
        let first = events.entry(&shopping.id).or_insert(place);
        *first = place.min(*first);
    }
    events.into_values().map(|(.., index)| deliveries[index].clone()).collect()
}

/// What a set of events amounts to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    pub count: u64,
    /// Dollars alone.
    pub cents: i128,
    pub millionths: i128,
    pub users: BTreeSet<String>,
}

impl Amounts {
    /// Takes an event in.
    pub fn add(&mut self, shopping: &Shopping) {
        self.count += 1;
        self.millionths += shopping.millionths;
        if shopping.currency == "USD" {
            self.cents += i128::from(shopping.cents);
        }
        if !shopping.user.is_empty() {
            self.users.insert(shopping.user.clone());
        }
    }

    /// The number of a metric as an answer writes it.
    pub fn said(&self, metric: &str) -> serde_json::Value {
        match metric {
            "purchases" => self.count.into(),
            "households" => self.users.len().into(),
            "revenue" => decimal(self.cents, 2).into(),
            _ => {
                let text = decimal(self.millionths, 6);
                text.trim_end_matches('0').trim_end_matches('.').into()
            }
        }
    }
}

fn decimal(amount: i128, decimals: usize) -> String {
    let (sign, digits) = (if amount < 0 { "-" } else { "" }, amount.unsigned_abs().to_string());
    let digits = format!("{digits:0>width$}", width = decimals + 1);
    let (whole, fraction) = digits.split_at(digits.len() - decimals);
    format!("{sign}{whole}.{fraction}")
}
