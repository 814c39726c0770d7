//! What has to be done before a period can be closed.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::civil::Date;
use reckon_schemas::period::Period;
use reckon_schemas::time::{EventTime, Zone};
use serde::Serialize;

use crate::settle::PeriodDay;

/// The most days that an item names.
const NAMED_MAX: usize = 5;

/// What is known of a period.
pub(super) struct Facts<'a> {
    pub(super) period: Period,
    pub(super) zone: &'a Zone,
    pub(super) now: EventTime,
    pub(super) settle_after: Duration,
    /// The first day of the tenant that is settled.
    pub(super) first_known: Option<Date>,
    /// The newest settlement of each of its days.
    pub(super) settled: &'a [PeriodDay],
    /// Deliveries in the lake by day.
    pub(super) deliveries: &'a BTreeMap<Date, u64>,
    pub(super) conflicts: u64,
    pub(super) ledger_breaks: u64,
}

/// The checklist of a period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checklist {
    /// The period.
    pub period: Period,
    /// What was looked at, in a fixed order.
    pub items: Vec<Item>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Its name: `over`, `settled`, `unchanged`, `residuals`, `conflicts`, `ledger_breaks`.
    pub name: &'static str,
    /// How many are open.
    pub open: u64,
    /// Whether a person may close all the same, with a reason.
    pub acceptable: bool,
    /// What was found.
    pub finding: String,
    /// What to do, if something is open.
    pub remedy: &'static str,
}

impl Checklist {
    pub(super) fn draw(facts: &Facts<'_>) -> Self {
        let settled: BTreeMap<Date, &PeriodDay> = facts.settled.iter().map(|day| (day.day, day)).collect();
        let in_lake = |day: &Date| facts.deliveries.get(day).copied().unwrap_or(0);
        let settle_after = i64::try_from(facts.settle_after.as_micros()).unwrap_or(i64::MAX);
        let days: Vec<Date> = facts.period.days().collect();
        let not_over = named(days.iter().filter(|day| facts.zone.day_end(**day).plus_micros(settle_after) > facts.now));
        let unsettled = named(days.iter().filter(|day| {
            // Before the tenant's first event there is nothing to settle.
            let before_all = facts.first_known.is_some_and(|first| **day < first) && in_lake(day) == 0;
            !settled.contains_key(*day) && !before_all
        }));
        let changed =
            named(days.iter().filter(|day| settled.get(*day).is_some_and(|known| known.deliveries != in_lake(day))));
        let with_residual: Vec<&PeriodDay> = facts.settled.iter().filter(|day| day.residual_cells > 0).collect();
        let residuals = named(with_residual.iter().map(|day| &day.day));
        let cells = with_residual.iter().map(|day| day.residual_cells).sum();
        let must = |name, (open, days): (u64, String), what: &str, remedy| Item {
            name,
            open,
            acceptable: false,
            finding: if open == 0 { format!("no day {what}") } else { format!("{open} days {what}: {days}") },
            remedy,
        };
        let may = |name, open, finding, remedy| Item { name, open, acceptable: true, finding, remedy };
        Self {
            period: facts.period,
            items: vec![
                must("over", not_over, "is not over yet", "wait until the period is over"),
                must("settled", unsettled, "is unsettled", "run `reckon nightly`"),
                must("unchanged", changed, "got deliveries since it was settled", "run `reckon nightly`"),
                may(
                    "residuals",
                    cells,
                    format!("{cells} cells with unexplained drift{}", listed(&residuals.1)),
                    "look at `reckon reconcile`, or accept them with --accept REASON",
                ),
                may(
                    "conflicts",
                    facts.conflicts,
                    format!("{} deliveries that contradict an earlier one of the same id", facts.conflicts),
                    "look at the table `conflicts`, or accept them with --accept REASON",
                ),
                may(
                    "ledger_breaks",
                    facts.ledger_breaks,
                    format!("{} open differences to a ledger", facts.ledger_breaks),
                    "resolve them and tie out again, or accept them with --accept REASON",
                ),
            ],
        }
    }

    /// Whether nothing is open.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.items.iter().all(|item| item.open == 0)
    }

    /// Whether the period may be closed: nothing is open, or only what may be accepted, and it is.
    #[must_use]
    pub fn allows(&self, accepted: bool) -> bool {
        self.items.iter().all(|item| item.open == 0 || (item.acceptable && accepted))
    }

    /// Everything that is open, in a sentence.
    #[must_use]
    pub fn open_items(&self) -> String {
        let open = self.items.iter().filter(|item| item.open > 0);
        open.map(|item| format!("{} ({})", item.finding, item.remedy)).collect::<Vec<_>>().join("; ")
    }
}

/// How many days, and the first of them.
fn named<'a>(days: impl Iterator<Item = &'a Date>) -> (u64, String) {
    let days: Vec<String> = days.map(ToString::to_string).collect();
    let more = if days.len() > NAMED_MAX { ", …" } else { "" };
    (days.len() as u64, format!("{}{more}", days[..days.len().min(NAMED_MAX)].join(", ")))
}

fn listed(days: &str) -> String {
    if days.is_empty() { String::new() } else { format!(" on {days}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;
    use reckon_schemas::settlement::State;
    use reckon_schemas::window::{Grain, Window};

    fn settled(day: Date) -> PeriodDay {
        PeriodDay {
            day,
            window: Window { grain: Grain::Day, start: EventTime(0), end: EventTime(1) },
            run_id: "run".to_owned(),
            state: State::Settled,
            deliveries: 10,
            events: 9,
            lake_version: 3,
            content_hash: "hash".to_owned(),
            residual_cells: 0,
            generation: 0,
            settled_at: EventTime(0),
        }
    }

    struct Scene {
        settled: Vec<PeriodDay>,
        deliveries: BTreeMap<Date, u64>,
        now: &'static str,
        conflicts: u64,
    }

    impl Scene {
        fn good() -> Self {
            let period: Period = "2026-10".parse().expect("a month");
            // The tenant began on the third.
            let days: Vec<Date> = period.days().filter(|day| *day >= date(2026, 10, 3)).collect();
            Self {
                settled: days.iter().copied().map(settled).collect(),
                deliveries: days.into_iter().map(|day| (day, 10)).collect(),
                now: "2026-11-02T00:00:00Z",
                conflicts: 0,
            }
        }

        fn open(&self) -> Vec<(&'static str, u64)> {
            let checklist = self.draw();
            checklist.items.iter().filter(|item| item.open > 0).map(|item| (item.name, item.open)).collect()
        }

        fn draw(&self) -> Checklist {
            Checklist::draw(&Facts {
                period: "2026-10".parse().expect("a month"),
                zone: &Zone::parse("America/New_York").expect("known"),
                now: EventTime::from_timestamp(self.now.parse().expect("an instant")),
                settle_after: Duration::from_secs(3600),
                first_known: self.settled.first().map(|day| day.day),
                settled: &self.settled,
                deliveries: &self.deliveries,
                conflicts: self.conflicts,
                ledger_breaks: 0,
            })
        }
    }

    #[test]
    fn days_before_the_first_event_do_not_stand_in_the_way() {
        let scene = Scene::good();
        assert_eq!(scene.open(), []);
        assert!(scene.draw().allows(false));
    }

    #[test]
    fn what_is_open_is_named() {
        // 01:00 in New York on the first of November: an hour less and the last day is not settled yet.
        let scene = Scene { now: "2026-11-01T04:59:59Z", ..Scene::good() };
        assert_eq!(scene.open(), [("over", 1)]);
        let mut scene = Scene::good();
        scene.settled.remove(10);
        *scene.deliveries.entry(date(2026, 10, 20)).or_default() += 1;
        scene.settled[3].residual_cells = 2;
        scene.conflicts = 4;
        assert_eq!(scene.open(), [("settled", 1), ("unchanged", 1), ("residuals", 2), ("conflicts", 4)]);
        let text = scene.draw().open_items();
        assert!(
            text.contains("2026-10-13") && text.contains("2026-10-20") && text.contains("reckon nightly"),
            "{text}"
        );
    }

    #[test]
    fn residuals_can_be_accepted_and_unsettled_days_cannot() {
        let mut scene = Scene::good();
        scene.settled[3].residual_cells = 2;
        assert!(!scene.draw().allows(false) && scene.draw().allows(true));
        scene.settled.remove(10);
        assert!(!scene.draw().allows(true));
        // A late event from before the first day that is settled.
        let mut scene = Scene::good();
        scene.deliveries.insert(date(2026, 10, 1), 1);
        assert_eq!(scene.open(), [("settled", 1)]);
        let nothing = Scene { settled: Vec::new(), deliveries: BTreeMap::new(), ..Scene::good() };
        assert_eq!(nothing.open(), [("settled", 31)]);
    }
}
