//! What holds for every sketch, whatever form it is in.

use super::*;
use std::ops::Range;

/// Around every switch of form, and far from them.
const SIZES: [u32; 10] = [0, 1, 16, 17, 511, 512, 513, 1_300, 5_000, 60_000];

pub(super) fn sketch_of(users: Range<u32>) -> Sketch {
    let mut sketch = Sketch::new();
    users.for_each(|user| sketch.insert(user_id(user).as_bytes()));
    sketch
}

fn user_id(user: u32) -> String {
    format!("user-{user}")
}

#[test]
fn counts_exactly_up_to_the_switch_and_estimates_after_it() {
    for users in SIZES {
        let sketch = sketch_of(0..users);
        let off = sketch.estimate().abs_diff(u64::from(users));
        assert!(off <= sketch.error_bound(), "{users} users: {off} off");
        assert_eq!(sketch.error_bound() == 0, users <= 512, "{users} users");
        assert_eq!(sketch.is_empty(), users == 0);
    }
    assert_eq!(sketch_of(0..512).estimate(), 512);
}

#[test]
fn the_order_of_users_does_not_matter() {
    for users in SIZES {
        let mut backwards = Sketch::new();
        // Twice, and in a stride that shares no factor with any of the sizes.
        for step in 0..u64::from(users) * 2 {
            let user = step * 7_919 % u64::from(users);
            backwards.insert(format!("user-{user}").as_bytes());
        }
        let forwards = sketch_of(0..users);
        assert_eq!(backwards, forwards, "{users} users");
        assert_eq!(backwards.to_redis(), forwards.to_redis());
        assert_eq!(backwards.to_clickhouse(), forwards.to_clickhouse());
    }
}

#[test]
fn merging_is_the_union() {
    for left in SIZES {
        for right in SIZES {
            // Half of the smaller one is in both.
            let start = left - left.min(right) / 2;
            let (a, b) = (sketch_of(0..left), sketch_of(start..start + right));
            let mut union = a.clone();
            union.merge(&b);
            assert_eq!(union, sketch_of(0..left.max(start + right)), "{left} and {right} users");
            let mut mirrored = b.clone();
            mirrored.merge(&a);
            assert_eq!(mirrored, union, "{left} and {right} users");
            union.merge(&b);
            union.merge(&a);
            assert_eq!(union, mirrored, "merging again changes nothing");
        }
    }
}

#[test]
fn the_grouping_of_merges_does_not_matter() {
    let whole = sketch_of(0..3_000);
    for parts in [2, 7, 300, 3_000] {
        let mut merged = Sketch::new();
        for part in 0..parts {
            merged.merge(&sketch_of(3_000 * part / parts..3_000 * (part + 1) / parts));
        }
        assert_eq!(merged, whole, "{parts} parts");
    }
}

#[test]
fn tells_whether_an_insertion_changed_it() {
    for users in [0, 1, 511, 512, 513] {
        let mut sketch = sketch_of(0..users);
        for known in 0..users {
            assert!(!sketch.insert_hash(hash_user(user_id(known).as_bytes())));
        }
        // Register 3 with a rank that none of these users has.
        assert!(sketch.insert_hash(1 << 60 | 3));
    }
}

#[test]
fn memory_stays_small_for_small_cells() {
    assert_eq!(Sketch::new().memory_bytes(), 24);
    assert_eq!(sketch_of(0..1).memory_bytes(), 32);
    assert!(sketch_of(0..512).memory_bytes() <= 24 + 4_104);
    assert_eq!(sketch_of(0..100_000).memory_bytes(), 24 + 12_512);
}

#[test]
fn arbitrary_bytes_never_panic() {
    let starts: [&[u8]; 6] = [b"", b"HYLL\x00", b"HYLL\x01", &[1], &[2], &[3]];
    for seed in 0..2_000_u64 {
        let noise = (0..seed % 300).flat_map(|n| hash_user(&(seed << 32 | n).to_le_bytes()).to_le_bytes());
        let bytes = [starts[(seed % 6) as usize], &noise.collect::<Vec<_>>()].concat();
        let _ = Sketch::from_redis(&bytes);
        let _ = Sketch::from_clickhouse(&bytes);
    }
}
