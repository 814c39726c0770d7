//! Whatever is done to one number of the speed layer, the delivery is named.

use std::collections::BTreeMap;

use proptest::prelude::*;
use reckon_schemas::settlement::Reason;
use reckon_schemas::sums::{Sums, Unit};
use reckon_schemas::time::EventTime;

use super::contributions::{Selection, contributions, shares};
use super::residual::{Amounts, Part, Verdict, narrow};
use crate::reconcile::Fates;
use crate::recount::{Named, Position};

fn cents(amount: i128) -> Sums {
    [("USD".parse::<Unit>().expect("known"), amount)].into_iter().collect()
}

fn amounts(deliveries: &[(usize, Sums)]) -> Amounts {
    let mut amounts = Amounts::default();
    for (_, sums) in deliveries {
        amounts.count += 1;
        amounts.sums.add_all(sums).expect("small");
    }
    amounts
}

/// Parts of deliveries, each with an amount of its own, and what an honest speed layer says of them.
fn parts() -> impl Strategy<Value = BTreeMap<Part, Vec<(usize, Sums)>>> {
    proptest::collection::vec((0..3_i32, 0..5_i64), 1..60).prop_map(|places| {
        let mut parts: BTreeMap<Part, Vec<(usize, Sums)>> = BTreeMap::new();
        for (number, (partition, minute)) in places.into_iter().enumerate() {
            let amount = 100 + i128::try_from(number).expect("small");
            parts.entry((partition, EventTime(minute * 60_000_000))).or_default().push((number, cents(amount)));
        }
        parts
    })
}

proptest! {
    #[test]
    fn a_lost_a_doubled_and_a_changed_delivery_are_named(parts in parts(), chosen in any::<prop::sample::Index>()) {
        let honest: BTreeMap<Part, Amounts> = parts.iter().map(|(part, all)| (*part, amounts(all))).collect();
        prop_assert!(narrow(&honest, &parts).expect("small").is_empty());
        let all: Vec<(Part, usize, Sums)> =
            parts.iter().flat_map(|(part, all)| all.iter().map(|(number, sums)| (*part, *number, sums.clone()))).collect();
        let (part, number, sums) = &all[chosen.index(all.len())];
        let alter = |count: i128, sign: i128, cent: i128| {
            let mut altered = honest.clone();
            let said = altered.get_mut(part).expect("there");
            said.count += count;
            said.sums.add_all(&sums.iter().map(|(unit, sum)| (unit, sum * sign + cent)).collect()).expect("small");
            altered.retain(|_, said| said.count != 0 || !said.sums.iter().all(|(_, sum)| sum == 0));
            narrow(&altered, &parts).expect("small")
        };
        for (found, verdict) in [(alter(-1, -1, 0), Verdict::Lost), (alter(1, 1, 0), Verdict::Doubled)] {
            prop_assert_eq!(found.len(), 1);
            prop_assert_eq!((found[0].partition, found[0].start, found[0].verdict), (part.0, part.1, verdict));
            prop_assert_eq!(&found[0].suspects, &vec![*number]);
        }
        let changed = alter(0, 0, 1);
        prop_assert_eq!(changed.len(), 1);
        prop_assert_eq!((changed[0].partition, changed[0].start, changed[0].verdict), (part.0, part.1, Verdict::Changed));
        prop_assert!(changed[0].suspects.contains(number));
    }
}

#[test]
fn what_the_lake_does_not_have_is_no_delivery_s_fault() {
    let place = (0, EventTime(0));
    let said = BTreeMap::from([(place, Amounts { count: 2, sums: cents(30) })]);
    let known = BTreeMap::from([(place, vec![(7, cents(10))])]);
    let found = narrow(&said, &known).expect("small");
    assert_eq!((found[0].verdict, found[0].suspects.len()), (Verdict::NotInTheLake, 0));
    let found = narrow(&said, &BTreeMap::<Part, Vec<(usize, Sums)>>::new()).expect("small");
    assert_eq!((found[0].verdict, found[0].difference.count), (Verdict::NotInTheLake, 2));
}

fn named(id: &str, offset: i64, first: i64, department: &str, minor: i64) -> Named {
    let place = |offset| Position { log_time: EventTime(offset), partition: 0, offset };
    Named::for_tests(place(offset), place(first), id, department, minor)
}

#[test]
fn only_what_makes_a_difference_in_the_cell_is_listed() {
    let deliveries = [
        named("counted by both", 0, 0, "DELI", 1),
        named("late", 1, 1, "DELI", 10),
        named("late elsewhere", 2, 2, "MEAT", 100),
        named("again, and counted again", 3, 0, "DELI", 1_000),
        named("one value too many", 4, 4, "DELI", 10_000),
        named("not seen", 9, 9, "DELI", 100_000),
        named("again, and recognised", 5, 0, "DELI", 1_000_000),
    ];
    let fates = Fates {
        next_offsets: BTreeMap::from([(0, 9)]),
        refused: [((0, 1), Reason::Late), ((0, 2), Reason::Late), ((0, 5), Reason::Duplicate)].into_iter().collect(),
        overflowed: [((0, 4), ["department".to_owned()].into())].into_iter().collect(),
        ..Fates::default()
    };
    let select = |rollup: &str, values: &[(&str, &str)]| Selection {
        rollup: rollup.parse().expect("a rollup"),
        event: None,
        values: values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    };
    let list = |selection: &Selection| {
        let found = contributions(&deliveries, &fates, selection, &[]);
        let names = found.iter().map(|one| (one.delivery.event_id.clone(), one.reason, one.sign)).collect::<Vec<_>>();
        (names, shares(&found).expect("small"))
    };
    let (names, sums) = list(&select("department", &[("department", "DELI")]));
    let expected = [
        ("late", Reason::Late, -1),
        ("again, and counted again", Reason::Duplicate, 1),
        ("one value too many", Reason::Overflow, -1),
        ("not seen", Reason::NotYetSeen, -1),
    ];
    assert_eq!(names, expected.map(|(name, reason, sign)| (name.to_owned(), reason, sign)));
    let euro = Some("EUR".parse::<Unit>().expect("known"));
    assert_eq!(sums[&(euro.clone(), Reason::Overflow)], -10_000);
    assert_eq!(sums[&(None, Reason::Late)], -1);
    let (names, _) = list(&select("department", &[("department", "__other__")]));
    assert_eq!(names, [("one value too many".to_owned(), Reason::Overflow, 1)]);
    // Of a rollup that came with the record at 4, what speed accepted before is listed, once where batch counted it.
    let mut later = fates.clone();
    later.plans.note("department".to_owned(), 0, 4, true);
    let found = contributions(&deliveries, &later, &select("department", &[("department", "DELI")]), &[]);
    let names: Vec<_> = found.iter().map(|one| (one.delivery.event_id.as_str(), one.reason, one.sign)).collect();
    let then = ("counted by both", Reason::NotCountedThen, -1);
    assert_eq!(names, [then, ("late", Reason::Late, -1), expected[2], expected[3]]);
    // In the total nothing overflows.
    let (names, sums) = list(&select("total", &[]));
    assert_eq!(names.len(), 4);
    assert_eq!(sums[&(euro, Reason::Late)], -110);
}
