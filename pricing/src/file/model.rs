//! Price models: which keys each takes, and the checks that make tiers and matrices total.

use std::collections::{BTreeSet, HashSet};

use domain::{
    Quantity,
    catalogue::{Matrix, MatrixCell, PackageRounding, PriceModel, Tier, Tiers},
};

use super::{
    cursor::{Cursor, Fields},
    frame::Frame,
    percentage,
    tiers::{Place, flat_fee, flat_fee_at_zero, tier_list, up_to},
};

/// Most cells of a matrix.
const CELLS_MAX: usize = 20_000;

#[derive(Clone, Copy)]
enum Word {
    Flat,
    PerUnit,
    Graduated,
    Volume,
    Package,
    Matrix,
    Percentage,
    GraduatedPercentage,
    Dynamic,
}

const WORDS: &[(&str, Word)] = &[
    ("flat", Word::Flat),
    ("per_unit", Word::PerUnit),
    ("graduated", Word::Graduated),
    ("volume", Word::Volume),
    ("package", Word::Package),
    ("matrix", Word::Matrix),
    ("percentage", Word::Percentage),
    ("graduated_percentage", Word::GraduatedPercentage),
    ("dynamic", Word::Dynamic),
];

/// Reads the model that `word` names out of a price's fields, and notes keys that neither it nor
/// `common` has.
pub(super) fn read(
    fields: &Fields<'_>,
    word: &Cursor<'_>,
    common: &[&'static str],
    frame: &Frame<'_>,
) -> Option<PriceModel> {
    let (cursor, word) = (word, word.word("model", WORDS, &[])?);
    let own: &[&'static str] = match word {
        Word::Flat => &["amount"],
        Word::PerUnit => &["unit_price"],
        Word::Graduated | Word::Volume => &["tiers", "flat_fee_at_zero"],
        Word::Package => &["package_size", "package_price", "package_rounding"],
        Word::Matrix => &["prices", "default"],
        Word::Percentage => percentage::KEYS,
        Word::GraduatedPercentage => &["tiers", "flat_fee_at_zero"],
        Word::Dynamic => &["multiplier"],
    };
    fields.only(&[common, own].concat());
    match word {
        Word::Flat => {
            let amount = fields.need("amount", "give the fee, as \"10.00\"")?.decimal()?;
            Some(PriceModel::Flat { amount })
        }
        Word::PerUnit => {
            let cursor = fields.need("unit_price", "give the price of a unit, as \"0.50\"")?;
            Some(PriceModel::PerUnit { unit_price: cursor.decimal()? })
        }
        Word::Graduated => tiers(fields).map(PriceModel::Graduated),
        Word::Volume => tiers(fields).map(PriceModel::Volume),
        Word::Package => package(fields),
        Word::Matrix => matrix(fields, frame).map(PriceModel::Matrix),
        Word::Percentage => percentage::read(fields, cursor, frame).map(PriceModel::Percentage),
        Word::GraduatedPercentage => {
            percentage::check_money(cursor, frame)?;
            percentage::tiers(fields).map(PriceModel::GraduatedPercentage)
        }
        Word::Dynamic => {
            percentage::check_money(cursor, frame)?;
            let multiplier = match fields.get("multiplier") {
                Some(cursor) => cursor.decimal_not_negative()?,
                None => Quantity::ONE,
            };
            Some(PriceModel::Dynamic { multiplier })
        }
    }
}

fn package(fields: &Fields<'_>) -> Option<PriceModel> {
    let size = fields
        .need("package_size", "give the units in a package, as \"1000\"")
        .and_then(|size| size.decimal_above_zero());
    let price = fields
        .need("package_price", "give the price of a package, as \"5.00\"")
        .and_then(|price| price.decimal());
    let words = [("up", PackageRounding::Up), ("down", PackageRounding::Down)];
    let rounding = match fields.get("package_rounding") {
        Some(word) => word.word("package rounding", &words, &[])?,
        None => PackageRounding::Up,
    };
    Some(PriceModel::Package { size: size?, price: price?, rounding })
}

fn tiers(fields: &Fields<'_>) -> Option<Tiers> {
    let cursor = fields.need("tiers", "list at least one tier, as `- {unit_price: \"0.40\"}`")?;
    let list = tier_list(&cursor, tier, |tier| tier.up_to);
    let flat_fee_at_zero = flat_fee_at_zero(fields)?;
    Some(Tiers { list: list?, flat_fee_at_zero })
}

fn tier(entry: &Cursor<'_>, place: Place) -> Option<Tier> {
    let fields = entry.map(&["up_to", "unit_price", "flat_fee", "package_size"])?;
    let up_to = up_to(&fields, place)?;
    let unit_price =
        fields.need("unit_price", "give the price of a unit, \"0\" where only the fee counts")?;
    let flat_fee = flat_fee(&fields)?;
    let package_size = match fields.get("package_size") {
        Some(cursor) => Some(cursor.decimal_above_zero()?),
        None => None,
    };
    Some(Tier { up_to, unit_price: unit_price.decimal()?, flat_fee, package_size })
}

fn matrix(fields: &Fields<'_>, frame: &Frame<'_>) -> Option<Matrix> {
    let default = match fields.get("default") {
        Some(cursor) => Some(cursor.decimal()?),
        None => None,
    };
    let cursor =
        fields.need("prices", "list cells, as `- {when: {region: a}, unit_price: \"1\"}`")?;
    let entries = cursor.list(CELLS_MAX)?;
    let mut cells: Vec<(Cursor<'_>, MatrixCell)> = Vec::new();
    let mut complete = true;
    for entry in entries {
        match cell(&entry, frame) {
            Some(cell) => cells.push((entry, cell)),
            None => complete = false,
        }
    }
    if cells.is_empty() && default.is_none() && complete {
        return cursor.fail("a matrix without any price", "give cells or a default");
    }
    check_unambiguous(&cells)?;
    let cells = cells.into_iter().map(|(_, cell)| cell).collect();
    complete.then_some(Matrix { cells, default })
}

fn cell(entry: &Cursor<'_>, frame: &Frame<'_>) -> Option<MatrixCell> {
    let fields = entry.map(&["when", "unit_price"])?;
    let when = fields.need("when", "name the dimensions, as `when: {region: \"br-se1\"}`")?;
    let unit_price = fields.need("unit_price", "give the price of a unit")?.decimal()?;
    let mut pairs = Vec::new();
    for (name, value) in when.any_map()?.pairs() {
        frame.check_dimension(&value, name)?;
        pairs.push((name.to_owned(), value.text()?.to_owned()));
    }
    if pairs.is_empty() {
        return when.fail(
            "names no dimension, so it would be a second default",
            "name a dimension, or use `default`",
        );
    }
    pairs.sort();
    Some(MatrixCell { when: pairs, unit_price })
}

type Projection<'a> = Vec<&'a (String, String)>;

/// Checks that no usage fits two cells that name as many dimensions, because neither would win.
///
/// Cells are grouped by the names they use. Two cells of one group clash where all values are the
/// same; cells of two groups of one size clash where the names that both use have the same values.
fn check_unambiguous(cells: &[(Cursor<'_>, MatrixCell)]) -> Option<()> {
    let names = |cell: &MatrixCell| -> Vec<String> {
        cell.when.iter().map(|(name, _)| name.clone()).collect()
    };
    let mut seen = HashSet::new();
    for (cursor, cell) in cells {
        if !seen.insert(&cell.when) {
            return cursor.fail("the same `when` stands here a second time", "keep one of them");
        }
    }
    let groups: BTreeSet<Vec<String>> = cells.iter().map(|(_, cell)| names(cell)).collect();
    for one in &groups {
        for other in groups.iter().filter(|other| other.len() == one.len() && *other > one) {
            let project = |cell: &'_ MatrixCell| -> Vec<(String, String)> {
                let shared =
                    |(name, _): &&(String, String)| one.contains(name) && other.contains(name);
                let shared: Projection<'_> = cell.when.iter().filter(shared).collect();
                shared.into_iter().cloned().collect()
            };
            let of = |group: &Vec<String>| {
                let group = group.clone();
                cells.iter().filter(move |(_, cell)| names(cell) == group)
            };
            let first: HashSet<_> = of(one).map(|(_, cell)| project(cell)).collect();
            if let Some((cursor, _)) = of(other).find(|(_, cell)| first.contains(&project(cell))) {
                return cursor.fail(
                    format!(
                        "usage may fit this cell and one that names {}, and neither would win",
                        one.join(" and ")
                    ),
                    "name the same dimensions in both, or more in one of them",
                );
            }
        }
    }
    Some(())
}
