//! Whatever happens to deliveries, the reasons add up; whatever happens to the numbers, the residual names it.

use std::collections::BTreeSet;

use proptest::prelude::*;
use reckon_schemas::catalog::Measure;
use reckon_schemas::cell::Measures;
use reckon_schemas::settlement::Reason;
use reckon_schemas::sketch::Sketch;
use reckon_schemas::sums::Unit;

use super::{Counted, Drift, Entry, Evidence, Fate};
use crate::recount::{Exact, User};

/// A delivery that speed counts, or would count, in one cell: that of its own values, or, if it is strange there, that
/// of `__other__`, where batch does not count it. The first one of an id counts, unless it was first delivered elsewhere.
#[derive(Clone, Debug)]
struct Delivered {
    id: u8,
    first_elsewhere: bool,
    user: u16,
    amount: Option<(bool, i64)>,
    fate: Fate,
    strange: bool,
    conflicting: bool,
    /// Whether the property was in the catalog when speed read it.
    summed: bool,
}

fn delivered() -> impl Strategy<Value = Delivered> {
    let fate = prop_oneof![
        5 => Just(Fate::Accepted),
        1 => Just(Fate::Elsewhere),
        1 => Just(Fate::NotYetSeen),
        1 => prop_oneof![Just(Reason::Late), Just(Reason::Duplicate), Just(Reason::Future), Just(Reason::UnknownTenant)]
            .prop_map(Fate::Refused),
        1 => Just(Fate::Accepted.without()),
    ];
    let amount = proptest::option::of((any::<bool>(), any::<i64>()));
    let rare = || proptest::bool::weighted(0.1);
    let summed = proptest::bool::weighted(0.9);
    let parts = (any::<u8>(), proptest::bool::weighted(0.05), 0..900_u16, amount, fate, rare(), rare(), summed);
    parts.prop_map(|(id, first_elsewhere, user, amount, fate, strange, conflicting, summed)| {
        let strange = strange && fate == Fate::Accepted;
        Delivered { id, first_elsewhere, user, amount, fate, strange, conflicting, summed }
    })
}

fn unit(first: bool) -> Unit {
    if first { "USD" } else { "#quantity" }.parse().expect("known")
}

fn measure(first: bool) -> Measure {
    if first { Measure::Money } else { Measure::Sum }
}

/// One cell as both layers and the evidence see it.
#[derive(Clone, Default)]
struct Cell {
    speed: Measures,
    batch: Exact,
    evidence: Evidence,
}

fn count(deliveries: &[Delivered]) -> Cell {
    let mut cell = Cell::default();
    let (mut ids, mut users) = (BTreeSet::new(), BTreeSet::new());
    // The speed layer keeps a cell for each Kafka partition; here users decide over it, as their keys do there.
    let mut parts = [Measures::default(), Measures::default()];
    for delivery in deliveries {
        let first = !delivery.first_elsewhere && ids.insert(delivery.id);
        let counted = match (first, delivery.strange) {
            (true, false) => Counted::Here,
            (true, true) => Counted::Elsewhere,
            (false, _) => Counted::Not,
        };
        let name = format!("user-{}", delivery.user);
        let user = if delivery.user == 0 { None } else { User::of("t", &name) };
        let amounts: Vec<_> = delivery.amount.iter().map(|(first, amount)| (unit(*first), *amount)).collect();
        let quantity = [unit(false)];
        let unsummed = if delivery.summed { &[][..] } else { &quantity };
        if delivery.fate == Fate::Accepted {
            let part = &mut parts[usize::from(delivery.user % 2)];
            part.count += 1;
            for (unit, amount) in amounts.iter().filter(|(unit, _)| !unsummed.contains(unit)) {
                part.sums.add(unit, (*amount).into()).expect("small");
            }
            if user.is_some() {
                part.users.insert(name.as_bytes());
            }
        }
        if counted == Counted::Here {
            cell.batch.add_event(&amounts).expect("small");
            if let Some(user) = user.filter(|user| users.insert(user.key)) {
                cell.batch.add_new_user(user);
            }
        }
        let conflicting = delivery.conflicting;
        let entry = Entry { fate: delivery.fate, counted, conflicting, amounts: &amounts, unsummed, user };
        cell.evidence.enter(&entry).expect("small");
    }
    parts.iter().for_each(|part| cell.speed.merge(part).expect("small"));
    cell
}

impl Cell {
    fn explain(&self) -> Vec<Drift> {
        self.evidence.explain(&self.speed, &self.batch).expect("far from 128 bits")
    }

    fn residual(&self, measure: Measure, unit: Option<Unit>) -> i128 {
        let found = self.explain().into_iter().find(|drift| (drift.measure, &drift.unit) == (measure, &unit));
        found.map_or(0, |drift| drift.residual)
    }
}

proptest! {
    #[test]
    fn every_difference_is_explained(deliveries in proptest::collection::vec(delivered(), 0..1500)) {
        for drift in count(&deliveries).explain() {
            prop_assert_eq!(drift.residual, 0, "{:?}", drift);
            let reasons: i128 = drift.reasons.values().sum();
            prop_assert_eq!(drift.speed - drift.batch, reasons);
        }
    }

    #[test]
    fn the_order_of_deliveries_to_the_evidence_does_not_matter(
        (deliveries, shuffled) in proptest::collection::vec(delivered(), 0..60).prop_flat_map(|deliveries| {
            // Ids are made unique, so that which delivery counts does not depend on the order.
            let unique: Vec<Delivered> =
                deliveries.into_iter().zip(0..).map(|(delivery, id)| Delivered { id, ..delivery }).collect();
            (Just(unique.clone()), Just(unique).prop_shuffle())
        })
    ) {
        prop_assert_eq!(count(&deliveries).explain(), count(&shuffled).explain());
    }

    #[test]
    fn a_lost_event_a_doubled_one_and_a_changed_cent_are_found(
        deliveries in proptest::collection::vec(delivered(), 1..200),
        chosen in any::<prop::sample::Index>(),
    ) {
        let cell = count(&deliveries);
        let Some((first, amount)) = deliveries[chosen.index(deliveries.len())].amount else { return Ok(()) };
        let (sum, amount) = ((measure(first), Some(unit(first))), i128::from(amount));
        let alter = |count: i64, amount: i128| {
            let mut altered = cell.clone();
            altered.speed.count = altered.speed.count.checked_add_signed(count).unwrap_or(0);
            altered.speed.sums.add(unit(first), amount).expect("small");
            altered
        };
        if cell.speed.count > 0 {
            let lost = alter(-1, -amount);
            prop_assert_eq!(lost.residual(Measure::Count, None), -1);
            prop_assert_eq!(lost.residual(sum.0, sum.1.clone()), -amount);
        }
        let doubled = alter(1, amount);
        prop_assert_eq!(doubled.residual(Measure::Count, None), 1);
        prop_assert_eq!(doubled.residual(sum.0, sum.1.clone()), amount);
        let changed = alter(0, 1);
        prop_assert_eq!(changed.residual(Measure::Count, None), 0);
        prop_assert_eq!(changed.residual(sum.0, sum.1), 1);
    }
}

fn delivered_as(fate: Fate) -> Delivered {
    Delivered {
        id: 1,
        first_elsewhere: false,
        user: 1,
        amount: None,
        fate,
        strange: false,
        conflicting: false,
        summed: true,
    }
}

#[test]
fn a_user_that_speed_forgot_or_invented_is_found() {
    let delivery = |user: u16, id| Delivered { id, user, ..delivered_as(Fate::Accepted) };
    let deliveries: Vec<_> = (1..=200).map(|user| delivery(user, u8::try_from(user).expect("small"))).collect();
    let cell = count(&deliveries);
    assert_eq!(cell.residual(Measure::Users, None), 0);
    let mut invented = cell.clone();
    invented.speed.users.insert(b"nobody");
    assert_eq!(invented.residual(Measure::Users, None), 1);
    let mut forgot = cell.clone();
    forgot.speed.users = Sketch::new();
    (2..=200).for_each(|user| forgot.speed.users.insert(format!("user-{user}").as_bytes()));
    assert_eq!(forgot.residual(Measure::Users, None), -1);
    let mut batch_lost = cell;
    batch_lost.batch.count -= 1;
    assert_eq!(batch_lost.residual(Measure::Count, None), 1);
}

#[test]
fn a_user_in_one_set_only_is_put_down_to_what_happened() {
    let of = |fate, first_elsewhere| Delivered { first_elsewhere, ..delivered_as(fate) };
    let users = |deliveries: &[Delivered]| {
        let drifts = count(deliveries).explain();
        let drift = drifts.into_iter().find(|drift| drift.measure == Measure::Users);
        drift.map(|drift| drift.reasons.into_iter().collect::<Vec<_>>()).unwrap_or_default()
    };
    assert_eq!(users(&[of(Fate::Refused(Reason::Late), false)]), [(Reason::Late, -1)]);
    assert_eq!(users(&[of(Fate::NotYetSeen, false)]), [(Reason::NotYetSeen, -1)]);
    assert_eq!(users(&[of(Fate::Accepted, true)]), [(Reason::Duplicate, 1)]);
    assert_eq!(users(&[of(Fate::Refused(Reason::Late), false), of(Fate::Accepted, false)]), []);
    assert_eq!(users(&[of(Fate::Refused(Reason::Late), true)]), []);
    assert_eq!(users(&[of(Fate::Elsewhere, false)]), [(Reason::Overflow, -1)]);
    assert_eq!(users(&[of(Fate::Elsewhere, true)]), []);
    let strange = Delivered { strange: true, ..of(Fate::Accepted, false) };
    assert_eq!(users(std::slice::from_ref(&strange)), [(Reason::Overflow, 1)]);
    assert_eq!(users(&[strange, of(Fate::Accepted, true)]), [(Reason::Duplicate, 1)]);
}

#[test]
fn two_contents_under_one_id_are_no_plain_repetition() {
    // Batch counts the first delivery, of 10; speed saw the second one first, of 13.
    let first =
        Delivered { amount: Some((true, 10)), conflicting: true, ..delivered_as(Fate::Refused(Reason::Duplicate)) };
    let second = Delivered { amount: Some((true, 13)), fate: Fate::Accepted, ..first.clone() };
    let drifts = count(&[first, second]).explain();
    let [events, money] = [0, 1].map(|index| (drifts[index].reasons.clone(), drifts[index].residual));
    assert_eq!(events, ([(Reason::Conflicting, 0)].into(), 0));
    assert_eq!(money, ([(Reason::Conflicting, 3)].into(), 0));
}

#[test]
fn what_was_added_later_is_missing_by_a_reason_of_its_own_and_only_that() {
    let with = |summed, fate| Delivered { amount: Some((false, 5)), summed, ..delivered_as(fate) };
    let sums = |delivered: Delivered| {
        let drifts = count(&[delivered]).explain();
        drifts.into_iter().map(|drift| (drift.measure, drift.reasons.into_iter().collect())).collect::<Vec<_>>()
    };
    let then = |amount| vec![(Reason::NotCountedThen, amount)];
    let property = [(Measure::Count, vec![]), (Measure::Sum, then(-5)), (Measure::Users, vec![])];
    assert_eq!(sums(with(false, Fate::Accepted)), property);
    let rollup = [(Measure::Count, then(-1)), (Measure::Sum, then(-5)), (Measure::Users, then(-1))];
    assert_eq!(sums(with(true, Fate::Accepted.without())), rollup);
    // What was late is late, whatever was in the catalog.
    let late = sums(with(false, Fate::Refused(Reason::Late).without()));
    assert_eq!(late[1].1, vec![(Reason::Late, -5)]);
}

#[test]
fn a_cell_that_only_speed_has_is_a_residual() {
    let speed = Measures { count: 3, ..Measures::default() };
    let drifts = Evidence::default().explain(&speed, &Exact::default()).expect("small");
    assert_eq!(drifts.len(), 1);
    assert_eq!((drifts[0].residual, drifts[0].speed, drifts[0].batch), (3, 3, 0));
}

#[test]
fn a_large_cell_shows_the_sketch_s_error_as_its_reason() {
    let deliveries: Vec<_> = (0..20_000_u32)
        .map(|user| User::of("t", &format!("user-{user}")).expect("a name"))
        .map(|user| Entry {
            fate: Fate::Accepted,
            counted: Counted::Here,
            conflicting: false,
            amounts: &[],
            unsummed: &[],
            user: Some(user),
        })
        .collect();
    let mut cell = Cell::default();
    for (index, entry) in deliveries.iter().enumerate() {
        cell.evidence.enter(entry).expect("no money");
        cell.batch.add_event(&[]).expect("no money");
        cell.batch.add_new_user(entry.user.expect("given"));
        cell.speed.count += 1;
        cell.speed.users.insert(format!("user-{index}").as_bytes());
    }
    let drifts = cell.explain();
    let users = drifts.iter().find(|drift| drift.measure == Measure::Users).expect("there");
    let error = i128::from(cell.speed.users.estimate()) - 20_000;
    assert_ne!(error, 0, "another number of users would have to be taken");
    assert_eq!(users.reasons.get(&Reason::Sketch), Some(&error));
    assert_eq!(users.residual, 0);
    assert!(error.unsigned_abs() <= u128::from(users.error_bound));
}
