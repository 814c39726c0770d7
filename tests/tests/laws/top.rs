//! What is said of the most frequent values holds, whatever occurs in whichever order and however it is cut up.

use std::collections::BTreeMap;

use proptest::prelude::*;
use reckon_schemas::top::TopSketch;

/// A few values often and very many rarely, more than there are counters.
fn occurrences() -> impl Strategy<Value = Vec<u32>> {
    let value = prop_oneof![3 => 0_u32..8, 2 => 0_u32..300, 4 => 0_u32..50_000];
    prop::collection::vec(value, 0..6_000)
}

fn sketch(values: &[u32]) -> TopSketch {
    let mut sketch = TopSketch::new();
    values.iter().for_each(|value| sketch.insert(&value.to_string()));
    sketch
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_count_is_within_its_bounds_and_no_frequent_value_is_missing(
        values in occurrences(), parts in 1_usize..6,
    ) {
        let mut truth: BTreeMap<String, u64> = BTreeMap::new();
        values.iter().for_each(|value| *truth.entry(value.to_string()).or_default() += 1);
        let mut union = TopSketch::new();
        let length = values.len().div_ceil(parts).max(1);
        values.chunks(length).for_each(|part| union.merge(&sketch(part)));
        let top = union.top(usize::MAX);
        prop_assert!(top.len() <= TopSketch::COUNTERS_MAX);
        prop_assert_eq!(union.total(), values.len() as u64);
        for found in &top {
            let true_count = truth.remove(&found.value).unwrap_or(0);
            prop_assert!((found.at_least..=found.at_most).contains(&true_count), "{:?}: {}", found, true_count);
            prop_assert!(found.at_most - found.at_least <= union.error_bound());
        }
        prop_assert!(top.is_sorted_by_key(|found| std::cmp::Reverse(found.at_most)));
        // Those that are not listed.
        for (value, true_count) in truth {
            prop_assert!(true_count <= union.error_bound(), "{}: {}", value, true_count);
        }
        // Each of the parts and the union of them can be off by what their tables were purged by, 3.5 in 512 at most.
        let bound = values.len() as u64 * 35 / 5_120 * 2 + 1;
        prop_assert!(union.error_bound() <= bound, "{} of {}", union.error_bound(), values.len());
    }

    #[test]
    fn the_same_history_gives_the_same_bytes_also_if_it_is_stored_in_between(
        values in occurrences(), more in occurrences(), at in any::<prop::sample::Index>(),
    ) {
        let stored = |sketch: &TopSketch| TopSketch::from_bytes(&sketch.to_bytes()).expect("its own bytes");
        let at = at.index(values.len() + 1);
        let mut through = sketch(&values[..at]);
        through = stored(&through);
        values[at..].iter().for_each(|value| through.insert(&value.to_string()));
        let mut straight = sketch(&values);
        prop_assert_eq!(through.to_bytes(), straight.to_bytes());
        through.merge(&stored(&sketch(&more)));
        straight.merge(&sketch(&more));
        prop_assert_eq!(through.to_bytes(), straight.to_bytes());
    }
}
