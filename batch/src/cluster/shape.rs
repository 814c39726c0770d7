//! By what events are grouped: every rollup in every grain, in one question.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::logical_expr::{Expr, ident};
use reckon_schemas::cell::Rollup;
use reckon_schemas::window::Grain;

/// The dimensions of some rollups, each with a column, and which rollups are made of which.
#[derive(Debug)]
pub(super) struct Shape {
    dimensions: Vec<String>,
    /// By the numbers of its dimensions, ascending: the rollups, each with its dimensions' numbers in its own order.
    rollups: BTreeMap<Vec<usize>, Vec<(usize, Vec<usize>)>>,
}

/// The column of the window of a grain.
pub(super) fn window_column(grain: Grain) -> String {
    format!("window_{grain}")
}

/// The column of the text of a property that is summed.
pub(super) fn text_column(number: usize) -> String {
    format!("text_{number}")
}

fn dimension_column(number: usize) -> String {
    format!("dimension_{number}")
}

impl Shape {
    pub(super) fn new(rollups: &[Rollup]) -> Self {
        let dimensions: BTreeSet<&String> = rollups.iter().flat_map(Rollup::dimensions).collect();
        let dimensions: Vec<String> = dimensions.into_iter().cloned().collect();
        let mut by_set: BTreeMap<Vec<usize>, Vec<(usize, Vec<usize>)>> = BTreeMap::new();
        for (number, rollup) in rollups.iter().enumerate() {
            let place = |name| dimensions.binary_search(name).expect("the dimensions of all rollups are there");
            let own: Vec<usize> = rollup.dimensions().iter().map(place).collect();
            let mut set = own.clone();
            set.sort_unstable();
            by_set.entry(set).or_default().push((number, own));
        }
        Self { dimensions, rollups: by_set }
    }

    /// Column and property of each dimension.
    pub(super) fn dimensions(&self) -> impl Iterator<Item = (String, &str)> {
        self.dimensions.iter().enumerate().map(|(number, name)| (dimension_column(number), name.as_str()))
    }

    /// The columns that tell cells of some grains apart.
    pub(super) fn cell_columns(&self, grains: &[Grain]) -> impl Iterator<Item = String> {
        let windows =
            grains.iter().filter(|grain| grain.fixed_length_us().is_some()).map(|grain| window_column(*grain));
        let always = ["name", "day"].map(str::to_owned).into_iter();
        always.chain(windows.collect::<Vec<_>>()).chain(self.dimensions().map(|(column, _)| column))
    }

    /// The sets that are grouped by: for each rollup and grain the columns of its cells, and these.
    pub(super) fn sets(&self, grains: &[Grain], more: &[&str]) -> Vec<Vec<Expr>> {
        let set = |dimensions: &Vec<usize>, grain: Grain| {
            let mut columns = vec![ident("name"), ident("day")];
            columns.extend(grain.fixed_length_us().map(|_| ident(window_column(grain))));
            columns.extend(dimensions.iter().map(|number| ident(dimension_column(*number))));
            columns.extend(more.iter().map(|name| ident(*name)));
            columns
        };
        self.rollups.keys().flat_map(|dimensions| grains.iter().map(move |grain| set(dimensions, *grain))).collect()
    }

    /// The rollups of a set of dimensions, each with its dimensions' numbers in its own order.
    pub(super) fn rollups_of(&self, dimensions: &[usize]) -> &[(usize, Vec<usize>)] {
        self.rollups.get(dimensions).map_or(&[], Vec::as_slice)
    }
}
