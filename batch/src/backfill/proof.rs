//! Whether a rollup's cells add up to what was published of all of them together.

use std::collections::BTreeSet;

use jiff::civil::Date;
use reckon_schemas::sums::{SumOverflow, Unit};
use reckon_schemas::window::Window;

use crate::recount::{Cells, Groups};
use crate::settle::{Whole, WholePlace, Wholes};

/// A window in which the two do not agree.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Misfit {
    pub(super) day: Date,
    pub(super) text: String,
}

/// Adds up the cells of a rollup.
///
/// # Errors
/// [`SumOverflow`] if a sum leaves 128 bits.
pub(super) fn wholes(groups: &Groups, cells: &Cells) -> Result<Wholes, SumOverflow> {
    let mut wholes = Wholes::new();
    for cell in cells.all() {
        let Window { grain, start, .. } = cell.window;
        let place = (cell.day, groups.get(cell.group).event.clone(), grain, start);
        let whole = wholes.entry(place).or_default();
        whole.count += cell.exact.count;
        whole.sums.add_all(&cell.exact.sums)?;
        whole.users.merge(&cell.exact.users);
    }
    Ok(wholes)
}

/// Every window in which what was counted is not what was published, by day.
///
/// A property that is summed only since may be in what was counted: it was not published of that day at all.
pub(super) fn misfits(counted: &Wholes, published: &Wholes) -> Vec<Misfit> {
    let places: BTreeSet<&WholePlace> = counted.keys().chain(published.keys()).collect();
    let nothing = Whole::default();
    let compare = |place: &&WholePlace| {
        let (new, old) = (counted.get(*place).unwrap_or(&nothing), published.get(*place).unwrap_or(&nothing));
        let difference = difference(new, old)?;
        let (day, event, grain, start) = *place;
        Some(Misfit { day: *day, text: format!("{day} {event}, {grain} from {start}: {difference}") })
    };
    places.iter().filter_map(compare).collect()
}

fn difference(counted: &Whole, published: &Whole) -> Option<String> {
    if counted.count != published.count {
        return Some(format!("{} events, published are {}", counted.count, published.count));
    }
    let is_money = |unit: &Unit| unit.currency().is_some();
    let units = counted.sums.iter().map(|(unit, _)| unit).filter(|unit| is_money(unit));
    for unit in units.chain(published.sums.iter().map(|(unit, _)| unit)) {
        let (new, old) = (counted.sums.get(unit), published.sums.get(unit));
        if new != old {
            return Some(format!("{} {unit}, published are {}", unit.format(new), unit.format(old)));
        }
    }
    (counted.users != published.users)
        .then(|| format!("about {} users, published are {}", counted.users.estimate(), published.users.estimate()))
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use reckon_schemas::time::EventTime;
    use reckon_schemas::window::Grain;

    use super::*;

    fn whole(count: u64, sums: &[(&str, i128)], users: &[&str]) -> Whole {
        let mut whole = Whole { count, ..Whole::default() };
        for (unit, sum) in sums {
            whole.sums.add(unit.parse::<Unit>().expect("a unit"), *sum).expect("small");
        }
        users.iter().for_each(|user| whole.users.insert(user.as_bytes()));
        whole
    }

    fn at(whole: Whole) -> Wholes {
        Wholes::from_iter([((date(2026, 3, 1), "sale".to_owned(), Grain::Hour, EventTime(0)), whole)])
    }

    #[test]
    fn one_event_one_cent_and_one_user_are_each_noticed() {
        let published = at(whole(2, &[("EUR", 300)], &["a", "b"]));
        let misfits = |counted: Whole| misfits(&at(counted), &published);
        assert_eq!(misfits(whole(2, &[("EUR", 300)], &["b", "a"])), []);
        assert_eq!(misfits(whole(2, &[("EUR", 300), ("#weight", 5)], &["a", "b"])), [], "summed only since");
        for (counted, said) in [
            (whole(3, &[("EUR", 300)], &["a", "b"]), "3 events, published are 2"),
            (whole(2, &[("EUR", 301)], &["a", "b"]), "3.01 EUR, published are 3.00"),
            (whole(2, &[("EUR", 300), ("USD", 1)], &["a", "b"]), "0.01 USD, published are 0.00"),
            (whole(2, &[], &["a", "b"]), "0.00 EUR, published are 3.00"),
            (whole(2, &[("EUR", 300)], &["a"]), "about 1 users, published are 2"),
        ] {
            let found = misfits(counted);
            assert!(found.len() == 1 && found[0].text.contains(said), "{found:?}");
        }
    }

    #[test]
    fn a_window_that_only_one_of_the_two_has_is_noticed() {
        let one = at(whole(1, &[], &[]));
        assert_eq!(misfits(&one, &Wholes::new()).len(), 1);
        assert_eq!(misfits(&Wholes::new(), &one).len(), 1);
    }
}
