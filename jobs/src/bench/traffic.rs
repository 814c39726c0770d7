//! Bodies of requests: batches of items as clients send them, happening now.

use std::fmt::Write;

use anyhow::{Context, Result};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::events::{COUNTRIES, DEVICES, Made, NAMES, Population, TENANTS};

/// A source of batches. Ids are new in every run.
pub(crate) struct Traffic {
    random: SmallRng,
    run: String,
    batches: u64,
    hot_share: Option<f64>,
}

/// One request's content.
pub(crate) struct Batch {
    pub(crate) tenant: usize,
    pub(crate) body: String,
}

impl Traffic {
    /// `hot_share` is the share of the first tenant; without it tenants have the shares of the filled topic.
    pub(crate) fn new(seed: u64, hot_share: Option<f64>) -> Self {
        let run = uuid::Uuid::now_v7().simple().to_string();
        Self { random: SmallRng::seed_from_u64(seed), run, batches: 0, hot_share }
    }

    /// The next batch; all items of a batch are of one tenant. With a probe, its last item is an event of that name.
    pub(crate) fn batch(&mut self, population: &Population, items: usize, probe: Option<&str>) -> Result<Batch> {
        let now = jiff::Timestamp::now().to_string();
        let first = population.draw(&mut self.random);
        let tenant = match self.hot_share {
            Some(share) if self.random.random_bool(share) => 0,
            Some(_) => self.random.random_range(1..TENANTS),
            None => usize::from(first.tenant),
        };
        self.batches += 1;
        let mut body = String::with_capacity(items * 360);
        for item in 0..items {
            body.push(if item == 0 { '[' } else { ',' });
            let made = population.draw(&mut self.random);
            let name = probe.filter(|_| item + 1 == items).unwrap_or(NAMES[usize::from(made.name)]);
            self.item(&mut body, item, &made, name, &now).context("writing into memory")?;
        }
        body.push(']');
        Ok(Batch { tenant, body })
    }

    fn item(&self, body: &mut String, item: usize, made: &Made, name: &str, now: &str) -> std::fmt::Result {
        write!(
            body,
            r#"{{"event_id":"{}-{}-{item}","name":"{name}","occurred_at":"{now}","user_id":"u-{:07}""#,
            self.run, self.batches, made.user
        )?;
        if let Some(minor) = made.minor {
            let sign = if minor < 0 { "-" } else { "" };
            let (whole, cents) = (minor.unsigned_abs() / 100, minor.unsigned_abs() % 100);
            write!(body, r#","money":{{"amount":"{sign}{whole}.{cents:02}","currency":"USD"}}"#)?;
        }
        write!(
            body,
            r#","properties":{{"country":"{}","device":"{}","page":"{}","session":"{}","app_version":"{}"}}}}"#,
            COUNTRIES[usize::from(made.country)],
            DEVICES[usize::from(made.device)],
            made.page(),
            made.session(),
            made.app_version()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reckon_schemas::event::EventDraft;

    #[test]
    fn items_are_accepted_and_the_probe_is_the_last() {
        let population = Population::new().expect("valid");
        let mut traffic = Traffic::new(7, Some(0.8));
        let mut hot = 0;
        for _ in 0..100 {
            let batch = traffic.batch(&population, 50, Some("probe-1")).expect("written");
            hot += usize::from(batch.tenant == 0);
            let items: Vec<&serde_json::value::RawValue> = serde_json::from_str(&batch.body).expect("an array");
            let names: Vec<String> =
                items.iter().map(|item| EventDraft::from_native(item.get()).expect("valid").name).collect();
            assert_eq!(names.iter().position(|name| name == "probe-1"), Some(49));
        }
        assert!((70..90).contains(&hot), "{hot}");
    }
}
