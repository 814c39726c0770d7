//! The exact count of what was filled in: dense tables and sets of users, with nothing of the worker's own code.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};
use reckon_schemas::time::EventTime;
use serde::{Deserialize, Serialize};

use super::events::{COUNTRIES, DEVICES, Made, NAMES, TENANTS, USERS};

const HOURS: usize = 24;
const HOUR_US: i64 = 3_600_000_000;

/// Counts while events are made.
pub(crate) struct Counting {
    /// Tenant, name, country, device, hour: events and cents.
    cells: Vec<(u64, i128)>,
    /// Tenant and name: one bit a user.
    users: Vec<Vec<u64>>,
}

/// The exact count of a day.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Recount {
    /// The first instant of the day.
    pub(crate) start: EventTime,
    pub(crate) deliveries: u64,
    pub(crate) repeated: u64,
    /// Every cell of an hour that has events.
    pub(crate) cells: Vec<HourCell>,
    /// How many distinct users each tenant and event name has on that day.
    pub(crate) users: Vec<(u8, u8, u64)>,
}

/// One hour of one tenant, name, country and device.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct HourCell {
    pub(crate) tenant: u8,
    pub(crate) name: u8,
    pub(crate) country: u8,
    pub(crate) device: u8,
    pub(crate) hour: u8,
    pub(crate) count: u64,
    pub(crate) minor: i64,
}

impl Counting {
    pub(crate) fn new() -> Self {
        let cells = TENANTS * NAMES.len() * COUNTRIES.len() * DEVICES.len() * HOURS;
        let words = (USERS as usize).div_ceil(64);
        Self { cells: vec![(0, 0); cells], users: vec![vec![0; words]; TENANTS * NAMES.len()] }
    }

    /// Counts an event that was not there before.
    pub(crate) fn add(&mut self, made: &Made, since_midnight_us: i64) {
        let hour = usize::try_from(since_midnight_us / HOUR_US).expect("events lie within the day");
        let series = usize::from(made.tenant) * NAMES.len() + usize::from(made.name);
        let place = (series * COUNTRIES.len() + usize::from(made.country)) * DEVICES.len() + usize::from(made.device);
        let cell = &mut self.cells[place * HOURS + hour];
        cell.0 += 1;
        cell.1 += i128::from(made.minor.unwrap_or(0));
        self.users[series][made.user as usize / 64] |= 1 << (made.user % 64);
    }

    pub(crate) fn merge(&mut self, other: &Counting) {
        for (cell, more) in self.cells.iter_mut().zip(&other.cells) {
            cell.0 += more.0;
            cell.1 += more.1;
        }
        for (words, more) in self.users.iter_mut().flatten().zip(other.users.iter().flatten()) {
            *words |= more;
        }
    }

    pub(crate) fn finish(&self, start: EventTime, deliveries: u64, repeated: u64) -> Result<Recount> {
        let index = |number: usize| u8::try_from(number).expect("the tables are short");
        let mut cells = Vec::new();
        for (place, (count, minor)) in self.cells.iter().enumerate().filter(|(_, (count, _))| *count > 0) {
            let (rest, hour) = (place / HOURS, place % HOURS);
            let (rest, device) = (rest / DEVICES.len(), rest % DEVICES.len());
            let (series, country) = (rest / COUNTRIES.len(), rest % COUNTRIES.len());
            cells.push(HourCell {
                tenant: index(series / NAMES.len()),
                name: index(series % NAMES.len()),
                country: index(country),
                device: index(device),
                hour: index(hour),
                count: *count,
                minor: i64::try_from(*minor).context("a sum of an hour leaves 64 bits")?,
            });
        }
        let users = self.users.iter().enumerate().map(|(series, words)| {
            let distinct = words.iter().map(|word| u64::from(word.count_ones())).sum();
            (index(series / NAMES.len()), index(series % NAMES.len()), distinct)
        });
        let users = users.filter(|(_, _, distinct)| *distinct > 0).collect();
        Ok(Recount { start, deliveries, repeated, cells, users })
    }
}

/// What is expected of one cell of one grain: events and cents.
pub(crate) type Expected = HashMap<CellKey, (u64, i128)>;

/// Tenant, event name, dimension values, and the first hour of the window.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CellKey {
    pub(crate) tenant: String,
    pub(crate) event: String,
    pub(crate) dimensions: Vec<String>,
    pub(crate) start: EventTime,
}

impl Recount {
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let file = std::fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(serde_json::to_writer(std::io::BufWriter::new(file), self)?)
    }

    pub(crate) fn load(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path)
            .with_context(|| format!("no exact count at {}: run `reckon bench fill` first", path.display()))?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// The cells of a rollup, per hour or for the whole day.
    pub(crate) fn expected(&self, dimensions: &[String], whole_day: bool) -> Result<Expected> {
        let mut expected = Expected::new();
        for cell in &self.cells {
            let values = dimensions.iter().map(|dimension| match dimension.as_str() {
                "country" => Ok(COUNTRIES[usize::from(cell.country)].to_owned()),
                "device" => Ok(DEVICES[usize::from(cell.device)].to_owned()),
                other => Err(anyhow::anyhow!("the exact count knows no dimension {other:?}")),
            });
            let key = CellKey {
                tenant: super::events::tenant(usize::from(cell.tenant)),
                event: NAMES[usize::from(cell.name)].to_owned(),
                dimensions: values.collect::<Result<_>>()?,
                start: self.start.plus_micros(if whole_day { 0 } else { i64::from(cell.hour) * HOUR_US }),
            };
            let entry = expected.entry(key).or_default();
            entry.0 += cell.count;
            entry.1 += i128::from(cell.minor);
        }
        Ok(expected)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::bench::events::{Day, Population};
    use reckon_schemas::event::Event;

    #[test]
    fn it_is_what_the_messages_say() {
        let day = Day { population: Population::new().expect("valid"), seed: 1, start: EventTime(0), deliveries: 3000 };
        let mut counting = Counting::new();
        let (mut seen, mut users) = (HashSet::new(), HashSet::new());
        let mut by_message = Expected::new();
        for place in 0..day.deliveries {
            let original = day.original(place);
            let (made, occurred_at) = day.event(original);
            if original == place {
                counting.add(&made, occurred_at.0);
            }
            let message = day.message(place, original, &made, occurred_at);
            let event = Event::decode(&message.payload).expect("readable").into_owned();
            if !seen.insert(event.id.to_string()) {
                continue;
            }
            users.insert((event.tenant.to_string(), event.name.to_string(), event.user.to_string()));
            let key = CellKey {
                tenant: event.tenant.to_string(),
                event: event.name.to_string(),
                dimensions: vec![event.properties.get("country").expect("there").to_owned()],
                start: EventTime(event.occurred_at.0 / HOUR_US * HOUR_US),
            };
            let cell = by_message.entry(key).or_default();
            cell.0 += 1;
            cell.1 += event.money.map_or(0, |money| i128::from(money.minor));
        }
        let recount = counting.finish(day.start, day.deliveries, day.repeated()).expect("fits");
        assert_eq!(recount.expected(&["country".to_owned()], false).expect("known"), by_message);
        assert_eq!(recount.users.iter().map(|(_, _, distinct)| *distinct).sum::<u64>(), users.len() as u64);
        assert_eq!(seen.len() as u64, day.deliveries - day.repeated());
    }
}
