//! How often the values of a property occurred: exactly, for the metrics of measure `top`.

use hashbrown::HashMap;
use jiff::civil::Date;
use reckon_schemas::catalog::Tenant;
use reckon_schemas::time::{EventTime, Zone};
use reckon_schemas::top::{TopSketch, cut};
use reckon_schemas::window::{Grain, Window};

use super::timeline::{Slots, Timeline};

/// Of a window, so many values are kept; of those that are left out, only how often any of them occurred at most.
pub(crate) const VALUES_MAX: usize = 1000;

/// The values of one property of one event in one window on one calendar day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Top {
    /// The event's name.
    pub(crate) event: String,
    /// The property.
    pub(crate) property: String,
    /// The day that it is settled with.
    pub(crate) day: Date,
    /// The window.
    pub(crate) window: Window,
    /// How often any value occurred.
    pub(crate) total: u64,
    /// How often each occurred: the most frequent first, and among equals in the order of the values.
    pub(crate) values: Vec<(String, u64)>,
    /// How often the most frequent of those that are not listed occurred; 0 if all are listed.
    pub(crate) bound: u64,
}

/// Counts values, event by event.
#[derive(Debug)]
pub(crate) struct TopTally {
    /// Event and property.
    asked: Vec<(String, String)>,
    slots: Slots,
    values: HashMap<String, u32>,
    /// By what is asked, slot and value.
    counts: HashMap<(u32, u32, u32), u64>,
}

impl TopTally {
    /// Nothing counted yet, for the tenant's metrics.
    pub(crate) fn new(tenant: &Tenant) -> Self {
        let asked = tenant.tops().into_iter().map(|(event, property)| (event.to_owned(), property.to_owned()));
        let slots = Slots::new(TopSketch::GRAINS[0], &tenant.time_zone);
        Self { asked: asked.collect(), slots, values: HashMap::new(), counts: HashMap::new() }
    }

    /// Counts one event, which no other delivery was counted for.
    pub(crate) fn count<'a>(
        &mut self,
        at: EventTime,
        day: Date,
        event: &str,
        property: impl Fn(&str) -> Option<&'a str>,
    ) {
        for (number, (_, name)) in (0_u32..).zip(&self.asked).filter(|(_, (asked, _))| asked == event) {
            let Some(value) = property(name).map(cut) else { continue };
            let slot = self.slots.of(at, day);
            let value = match self.values.get(value) {
                Some(known) => *known,
                None => {
                    let number = u32::try_from(self.values.len()).expect("a chunk of days has far fewer than 2^32");
                    self.values.insert(value.to_owned(), number);
                    number
                }
            };
            *self.counts.entry((number, slot, value)).or_default() += 1;
        }
    }

    /// What was counted, and for each of `days` a window of that day, if only to say that nothing occurred; in the order
    /// of day, event, property and window.
    pub(crate) fn finish(self, days: &[Date], zone: &Zone) -> Vec<Top> {
        let Self { asked, slots, values, counts } = self;
        let timeline = Timeline::new(slots.all().to_vec(), &TopSketch::GRAINS, zone);
        let places = timeline.places(slots.all());
        let mut names: Vec<&str> = vec![""; values.len()];
        values.iter().for_each(|(value, number)| names[*number as usize] = value);
        let mut windows: HashMap<(u32, Date, Window), HashMap<u32, u64>> = HashMap::new();
        for ((asked, slot, value), count) in counts {
            for by_slot in timeline.by_slot() {
                let (window, day) = timeline.window(by_slot[places[slot as usize] as usize]);
                *windows.entry((asked, day, window)).or_default().entry(value).or_default() += count;
            }
        }
        for day in days {
            let window = Window { grain: Grain::Day, start: zone.day_start(*day), end: zone.day_end(*day) };
            for number in (0_u32..).take(asked.len()) {
                windows.entry((number, *day, window)).or_default();
            }
        }
        let mut tops: Vec<Top> = windows
            .into_iter()
            .map(|((number, day, window), counts)| {
                let (event, property) = asked[number as usize].clone();
                let values = counts.into_iter().map(|(value, count)| (names[value as usize].to_owned(), count));
                Top::new((event, property), day, window, values.collect())
            })
            .collect();
        tops.sort_unstable_by(|one, other| one.place().cmp(&other.place()));
        tops
    }
}

impl Top {
    /// What it is of; no two have the same.
    pub(crate) fn place(&self) -> (Date, &str, &str, Window) {
        (self.day, &self.event, &self.property, self.window)
    }

    fn new((event, property): (String, String), day: Date, window: Window, mut values: Vec<(String, u64)>) -> Self {
        let total = values.iter().map(|(_, count)| count).sum();
        values.sort_unstable_by(|(value, count), (other, other_count)| {
            other_count.cmp(count).then_with(|| value.cmp(other))
        });
        let bound = values.get(VALUES_MAX).map_or(0, |(_, count)| *count);
        values.truncate(VALUES_MAX);
        Self { event, property, day, window, total, values, bound }
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use reckon_schemas::catalog::Metric;

    use super::*;

    fn tenant() -> Tenant {
        let mut tenant = crate::count::tests::tenant();
        let top = |name, event, property| Metric { limit: Some(3), ..Metric::top(name, event, property) };
        tenant.metrics =
            vec![top("pages", "view", "page"), top("more pages", "view", "page"), top("terms", "search", "q")];
        tenant
    }

    #[test]
    fn every_window_lists_its_values_exactly_and_ties_by_name() {
        let (tenant, day) = (tenant(), date(2026, 10, 25));
        let zone = &tenant.time_zone;
        let mut tally = TopTally::new(&tenant);
        let start = zone.day_start(day);
        for (minute, page) in [(0, "b"), (1, "a"), (7, "b"), (65, "c"), (65, "a"), (66, "c"), (67, "c")] {
            tally.count(start.plus_micros(minute * 60_000_000), day, "view", |name| (name == "page").then_some(page));
            tally.count(start, day, "sale", |_| Some("not asked for"));
            tally.count(start, day, "search", |_| None);
        }
        let tops = tally.finish(&[day, date(2026, 10, 26)], zone);
        let of = |event: &str, grain: Grain| -> Vec<Vec<(String, u64)>> {
            let tops = tops.iter().filter(|top| top.event == event && top.window.grain == grain);
            tops.map(|top| top.values.clone()).collect()
        };
        let list = |values: &[(&str, u64)]| -> Vec<(String, u64)> {
            values.iter().map(|(value, count)| ((*value).to_owned(), *count)).collect()
        };
        assert_eq!(
            of("view", Grain::FiveMinutes),
            [list(&[("a", 1), ("b", 1)]), list(&[("b", 1)]), list(&[("c", 3), ("a", 1)])]
        );
        assert_eq!(of("view", Grain::Hour), [list(&[("b", 2), ("a", 1)]), list(&[("c", 3), ("a", 1)])]);
        assert_eq!(of("view", Grain::Day), [list(&[("c", 3), ("a", 2), ("b", 2)]), list(&[])]);
        assert_eq!(of("search", Grain::Day), [list(&[]), list(&[])], "that nothing occurred is said");
        assert!(of("sale", Grain::Day).is_empty());
        let day = tops.iter().find(|top| top.event == "view" && top.window.grain == Grain::Day).expect("one");
        assert_eq!((day.total, day.bound, day.window.start), (7, 0, start));
    }

    #[test]
    fn of_too_many_values_the_rest_is_bounded() {
        let (tenant, day) = (tenant(), date(2026, 10, 24));
        let mut tally = TopTally::new(&tenant);
        let at = tenant.time_zone.day_start(day);
        let values: Vec<String> = (0..VALUES_MAX + 100).map(|number| format!("/{number:06}")).collect();
        for (number, value) in values.iter().enumerate() {
            // The first fifty three times, the next thousand twice, the rest once.
            let times = if number < 50 { 3 } else { 1 + usize::from(number < VALUES_MAX + 50) };
            (0..times).for_each(|_| tally.count(at, day, "view", |_| Some(value)));
        }
        for top in tally.finish(&[day], &tenant.time_zone).iter().filter(|top| top.event == "view") {
            assert_eq!((top.values.len(), top.bound, top.total), (VALUES_MAX, 2, 150 + 2000 + 50));
            assert_eq!(
                top.values.last(),
                Some(&(values[VALUES_MAX - 1].clone(), 2)),
                "the order of the values decides"
            );
        }
    }
}
