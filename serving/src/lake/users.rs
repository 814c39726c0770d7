//! How many different users there are, exactly, of each set of groups and windows at once.

use std::collections::HashMap;

/// A user, in a group and a window.
pub(super) type Visit = (u128, u32, u32);

/// How many different users there are, of each set that an answer tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Users {
    pub(super) all: u64,
    pub(super) by_group: HashMap<u32, u64>,
    /// By group and window.
    pub(super) by_place: HashMap<(u32, u32), u64>,
    pub(super) by_piece: Vec<u64>,
    pub(super) by_group_and_piece: HashMap<(u32, usize), u64>,
}

impl Users {
    /// Counts visits of which no two are the same: one user after the other, each one's in the order of groups and windows.
    /// `pieces` are the first windows of the pieces.
    pub(super) fn of(mut visits: Vec<Visit>, pieces: &[usize]) -> Self {
        visits.sort_unstable();
        let mut users = Self { by_piece: vec![0; pieces.len()], ..Self::default() };
        // The last user who was seen in each piece, by number.
        let mut seen_in = vec![0; pieces.len()];
        for of_one in visits.chunk_by(|(one, ..), (other, ..)| one == other) {
            users.all += 1;
            let mut last = None;
            for (_, group, window) in of_one {
                let piece = pieces.partition_point(|first| *first <= *window as usize).saturating_sub(1);
                *users.by_place.entry((*group, *window)).or_default() += 1;
                if last.is_none_or(|(last, _)| last != *group) {
                    *users.by_group.entry(*group).or_default() += 1;
                }
                if last != Some((*group, piece)) {
                    *users.by_group_and_piece.entry((*group, piece)).or_default() += 1;
                }
                if seen_in.get(piece).is_some_and(|seen| *seen != users.all) {
                    seen_in[piece] = users.all;
                    users.by_piece[piece] += 1;
                }
                last = Some((*group, piece));
            }
        }
        users
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_user_of_many_windows_is_one_user_of_their_union(
            visits in proptest::collection::hash_set((0_u128..6, 0_u32..3, 0_u32..8), 0..60),
            borders in proptest::collection::btree_set(1_usize..8, 0..3),
        ) {
            let pieces: Vec<usize> = std::iter::once(0).chain(borders).collect();
            let users = Users::of(visits.iter().copied().collect(), &pieces);
            let piece = |window: u32| pieces.iter().rposition(|first| *first <= window as usize).unwrap_or(0);
            let distinct = |is_in: &dyn Fn(u32, u32) -> bool| {
                let those = visits.iter().filter(|(_, group, window)| is_in(*group, *window));
                those.map(|(user, ..)| *user).collect::<BTreeSet<_>>().len() as u64
            };
            prop_assert_eq!(users.all, distinct(&|_, _| true));
            for at in 0..pieces.len() {
                prop_assert_eq!(users.by_piece[at], distinct(&|_, window| piece(window) == at));
            }
            for one in 0..3 {
                let count = users.by_group.get(&one).copied().unwrap_or(0);
                prop_assert_eq!(count, distinct(&|group, _| group == one));
                for at in 0..pieces.len() {
                    let count = users.by_group_and_piece.get(&(one, at)).copied().unwrap_or(0);
                    prop_assert_eq!(count, distinct(&|group, window| group == one && piece(window) == at));
                }
                for at in 0..8 {
                    let count = users.by_place.get(&(one, at)).copied().unwrap_or(0);
                    prop_assert_eq!(count, distinct(&|group, window| (group, window) == (one, at)));
                }
            }
        }
    }
}
