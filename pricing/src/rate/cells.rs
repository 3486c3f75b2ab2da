//! Cells: which price of a matrix usage has, by its dimensions.

use std::collections::{BTreeMap, HashMap};

use domain::{
    Dimensions, Quantity,
    catalogue::{Matrix, MatrixCell, PriceModel},
};

use crate::words::Pairs;

/// Cells that name the same dimensions, by the values that they name.
type Group<'c> = (Vec<&'c str>, HashMap<Vec<&'c str>, &'c MatrixCell>);

/// The cells of a matrix by what they name, those first that name most.
#[derive(Debug)]
pub(crate) struct Cells<'c> {
    groups: Vec<Group<'c>>,
    default: Option<Quantity>,
}

impl<'c> Cells<'c> {
    /// Those of a price, where it is a matrix.
    pub(crate) fn of(model: &'c PriceModel) -> Option<Self> {
        let PriceModel::Matrix(matrix) = model else { return None };
        let Matrix { cells, default } = matrix;
        let mut groups: BTreeMap<Vec<&str>, HashMap<Vec<&str>, &MatrixCell>> = BTreeMap::new();
        for cell in cells {
            let (names, values) = cell.when.iter().map(|(name, value)| (&**name, &**value)).unzip();
            groups.entry(names).or_default().insert(values, cell);
        }
        let mut groups: Vec<Group<'_>> = groups.into_iter().collect();
        groups.sort_by_key(|(names, _)| std::cmp::Reverse(names.len()));
        Some(Self { groups, default: *default })
    }

    /// The dimensions of the cell that prices some usage, none for the default; `None` where neither
    /// does.
    pub(crate) fn cell(&self, dimensions: &Dimensions) -> Option<Dimensions> {
        match self.find(dimensions) {
            Some(cell) => {
                let pairs = cell.when.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                Some(Dimensions::from_pairs(pairs))
            }
            None => self.default.map(|_| Dimensions::none()),
        }
    }

    /// The price of some usage and what its cell names, nothing for the default; `None` where there is no
    /// price.
    pub(crate) fn price(&self, dimensions: &Dimensions) -> Option<(Quantity, Pairs)> {
        match self.find(dimensions) {
            Some(cell) => Some((cell.unit_price, Pairs(cell.when.clone()))),
            None => self.default.map(|default| (default, Pairs::default())),
        }
    }

    /// Of the cells that fit, the one that names most dimensions.
    fn find(&self, dimensions: &Dimensions) -> Option<&'c MatrixCell> {
        let pairs = dimensions.pairs();
        let value_of = |name: &&str| {
            let found = pairs.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.as_str())
        };
        let fits = |(names, cells): &Group<'c>| {
            let values: Option<Vec<&str>> = names.iter().map(value_of).collect();
            cells.get(&values?).copied()
        };
        self.groups.iter().find_map(fits)
    }
}
