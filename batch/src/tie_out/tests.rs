//! Every row of both sides is in the result once, to the cent; and what breaks is named for what it is.

use std::collections::BTreeMap;

use jiff::civil::{Date, date};
use proptest::prelude::*;
use reckon_schemas::money::Currency;
use reckon_schemas::time::Zone;

use super::{Age, Item, Kind, Ledger, Mapping, match_sides};

const STRIPE: &str = include_str!("../../../deploy/ledgers/stripe.toml");
const BANK: &str = include_str!("../../../deploy/ledgers/bank.toml");
const STRIPE_ROWS: &str = include_str!("../../../tests/fixtures/ledgers/stripe.csv");
const BANK_ROWS: &str = include_str!("../../../tests/fixtures/ledgers/bank.csv");

fn mapping(text: &str) -> Mapping {
    toml::from_str(text).expect("a mapping")
}

fn zone(name: &str) -> Zone {
    Zone::parse(name).expect("known")
}

fn currency(code: &str) -> Currency {
    code.parse().expect("known")
}

fn item(reference: &str, code: &str, minor: i64) -> Item {
    let name = format!("{reference}/{minor}");
    Item { reference: reference.to_owned(), currency: currency(code), minor, day: date(2026, 3, 7), name }
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    let one = (0..30_u8, 0..3_usize, any::<i64>(), 1..28_i8).prop_map(|(reference, code, minor, day)| Item {
        day: date(2026, 2, day),
        ..item(&format!("r{reference}"), ["EUR", "USD", "JPY"][code], minor)
    });
    proptest::collection::vec(one, 0..80)
}

proptest! {
    #[test]
    fn every_row_is_accounted_for_to_the_cent(ours in items(), theirs in items(), tolerance in 0..1000_u64) {
        let groups = match_sides(&ours, &theirs, |_| tolerance).expect("far from 128 bits");
        for (side, items) in [(0, &ours), (1, &theirs)] {
            let side_of = |group: &super::Group| if side == 0 { group.ours.clone() } else { group.theirs.clone() };
            let mut names: Vec<String> = groups.iter().filter_map(side_of).flat_map(|side| side.names).collect();
            let mut expected: Vec<String> = items.iter().map(|item| item.name.clone()).collect();
            names.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(names, expected);
            for code in ["EUR", "USD", "JPY"] {
                let here = |group: &&super::Group| group.currency == currency(code);
                let found: i128 = groups.iter().filter(here).filter_map(side_of).map(|side| side.minor).sum();
                let sum: i128 = items.iter().filter(|item| item.currency == currency(code)).map(|item| i128::from(item.minor)).sum();
                prop_assert_eq!(found, sum);
            }
        }
        for group in &groups {
            let (ours, theirs) = (group.ours.as_ref().map(|side| side.minor), group.theirs.as_ref().map(|side| side.minor));
            let expected = match (ours, theirs) {
                (Some(ours), Some(theirs)) if (ours - theirs).unsigned_abs() <= u128::from(tolerance) => Kind::Matched,
                (Some(_), Some(_)) => Kind::Different,
                (None, _) => Kind::MissingHere,
                (_, None) => Kind::MissingThere,
            };
            prop_assert_eq!(group.kind, expected);
        }
    }

    #[test]
    fn the_order_of_rows_does_not_matter((ours, shuffled) in items().prop_flat_map(|items| (Just(items.clone()), Just(items).prop_shuffle())), theirs in items()) {
        let kinds = |ours: &[Item]| {
            let groups = match_sides(ours, &theirs, |_| 5).expect("far from 128 bits");
            groups.into_iter().map(|group| (group.reference, group.currency, group.kind)).collect::<Vec<_>>()
        };
        prop_assert_eq!(kinds(&ours), kinds(&shuffled));
    }
}

#[test]
fn what_breaks_is_named_for_what_it_is() {
    let ours =
        [item("a", "EUR", 100), item("b", "EUR", 100), item("c", "EUR", 100), item("d", "EUR", 7), item("e", "EUR", 5)];
    let theirs = [
        item("a", "EUR", 60),
        item("a", "EUR", 40),
        item("b", "EUR", 101),
        item("c", "EUR", 102),
        item("d", "USD", 7),
        item("f", "EUR", 1),
    ];
    let groups = match_sides(&ours, &theirs, |_| 1).expect("small");
    let found: Vec<_> = groups
        .iter()
        .map(|group| (group.reference.as_str(), group.kind, group.shape(), group.other_currency))
        .collect();
    assert_eq!(
        found,
        [
            ("a", Kind::Matched, "1:2".to_owned(), false),
            ("b", Kind::Matched, "1:1".to_owned(), false),
            ("c", Kind::Different, "1:1".to_owned(), false),
            ("d", Kind::MissingThere, "1:0".to_owned(), true),
            ("d", Kind::MissingHere, "0:1".to_owned(), true),
            ("e", Kind::MissingThere, "1:0".to_owned(), false),
            ("f", Kind::MissingHere, "0:1".to_owned(), false),
        ]
    );
    assert_eq!(groups[2].difference(), Ok(-2));
}

#[test]
fn ages_are_the_days_that_people_chase() {
    for (days, age) in
        [(-3, "0-1"), (0, "0-1"), (1, "0-1"), (2, "2-7"), (7, "2-7"), (8, "8-30"), (30, "8-30"), (31, ">30")]
    {
        assert_eq!(Age::of_days(days).name(), age, "{days}");
    }
}

#[test]
fn a_provider_s_export_becomes_payments_in_the_tenant_s_days() {
    let mapping = mapping(STRIPE);
    let tenant = zone("America/New_York");
    let basis = mapping.basis(&tenant);
    assert_eq!(basis, tenant, "the export knows the time of day");
    let ledger = Ledger::read(STRIPE_ROWS.as_bytes(), &mapping, &basis).expect("readable");
    let found: Vec<(&str, i64, Date)> =
        ledger.items.iter().map(|item| (item.reference.as_str(), item.minor, item.day)).collect();
    assert_eq!(
        found,
        [
            ("order-1", 1_999, date(2026, 3, 7)),
            // 03:30 of the 8th in universal time is still the 7th in New York.
            ("order-2", 125_000, date(2026, 3, 7)),
            ("order-3", 750, date(2026, 3, 8)),
            ("refund-1", -1_999, date(2026, 3, 9)),
            ("order-5", 3_100, date(2026, 3, 9)),
            ("order-5", 3_100, date(2026, 3, 9)),
            ("order-x", 6_400, date(2026, 3, 9)),
            ("order-8", 1_200, date(2026, 3, 9)),
            ("(txn_11)", 500, date(2026, 3, 9)),
        ]
    );
    assert_eq!(ledger.items[5].name, "txn_6", "charged twice, which is no repetition of a row");
    assert_eq!(ledger.repeated.iter().map(|item| item.name.as_str()).collect::<Vec<_>>(), ["txn_5"]);
    let ignored = [("reporting_category fee", 1), ("reporting_category payout", 1)];
    assert_eq!(ledger.ignored, ignored.map(|(name, count)| (name.to_owned(), count)).into());
    assert_eq!(ledger.rows, 12);
}

#[test]
fn a_bank_s_statement_decides_the_days_itself() {
    let mapping = mapping(BANK);
    let basis = mapping.basis(&zone("America/New_York"));
    assert_eq!(basis, zone("Europe/Berlin"), "the statement has dates only");
    let ledger = Ledger::read(BANK_ROWS.as_bytes(), &mapping, &basis).expect("readable");
    let found: Vec<(&str, i64, Date, &str)> =
        ledger.items.iter().map(|item| (item.reference.as_str(), item.minor, item.day, item.name.as_str())).collect();
    assert_eq!(
        found,
        [
            ("A-1001", 123_456, date(2026, 3, 7), "line 2"),
            ("A-1002", 4_000, date(2026, 3, 8), "line 3"),
            ("A-1002", 1_000, date(2026, 3, 9), "line 4"),
            ("A-1001", -3_456, date(2026, 3, 9), "line 5"),
            ("(line 7)", 9_900, date(2026, 3, 10), "line 7"),
        ]
    );
    assert_eq!(ledger.ignored, BTreeMap::from([("Buchungstext Entgelt".to_owned(), 1)]));
}

#[test]
fn what_cannot_be_read_stops_with_its_line_and_column() {
    let bank = mapping(BANK);
    let read = |text: &str| Ledger::read(text.as_bytes(), &bank, &zone("UTC")).expect_err("wrong").to_string();
    let header = "Buchungstag;Buchungstext;Verwendungszweck;Soll;Haben\n";
    for (row, told) in [
        ("07.03.2026;x;Bestellung 1;;12.50", ["line 2", "Haben", "separators"]),
        ("2026-03-07;x;Bestellung 1;;12,50", ["line 2", "Buchungstag", ""]),
        ("07.03.2026;x;Bestellung 1;;", ["line 2", "Haben", "no amount"]),
        ("07.03.2026;x;Bestellung 1;1,00;2,00", ["line 2", "Haben", "Soll"]),
        ("07.03.2026;x;Bestellung 1;;0,001", ["line 2", "Haben", "decimals"]),
    ] {
        let error = read(&format!("{header}{row}\n"));
        assert!(told.iter().all(|part| error.contains(part)), "{error}");
    }
    let error = read("Buchungstag;Text\n07.03.2026;x\n");
    assert!(error.contains("\"Verwendungszweck\"") && error.contains("Buchungstag, Text"), "{error}");
    let error = read(&format!("{header}07.03.2026;x\n"));
    assert!(error.contains("CSV"), "{error}");
}

#[test]
fn a_mapping_that_contradicts_itself_is_refused() {
    assert!(toml::from_str::<Mapping>(&BANK.replace("delimiter", "delimiters")).is_err(), "an unknown key");
    for (from, to, told) in [
        ("debit = \"Soll\"", "", "credit"),
        ("thousands_separator = \".\"", "thousands_separator = \",\"", "separator"),
        ("events = [\"purchase\", \"refund\"]", "events = []", "events"),
        ("columns = [\"Verwendungszweck\"]", "columns = []", "reference.columns"),
    ] {
        let error = mapping(&BANK.replace(from, to)).check().expect_err("contradicts itself").to_string();
        assert!(error.contains(told), "{error}");
    }
}
