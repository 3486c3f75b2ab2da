//! Price models: which keys each takes, and the checks that make tiers and matrices total.

use std::collections::{BTreeMap, HashSet};

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

/// Most sets of dimensions that the cells of one matrix name. Each is compared with all others: with
/// one for each cell, a file of 1 MB took days.
const GROUPS_MAX: usize = 100;

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
    check_unambiguous(&cursor, &cells)?;
    let cells = cells.into_iter().map(|(_, cell)| cell).collect();
    complete.then_some(Matrix { cells, default })
}

fn cell(entry: &Cursor<'_>, frame: &Frame<'_>) -> Option<MatrixCell> {
    let fields = entry.map(&["when", "unit_price"])?;
    let when = fields.need("when", "name the dimensions, as `when: {region: \"br-se1\"}`")?;
    let unit_price = fields.need("unit_price", "give the price of a unit")?.decimal()?;
    let mut pairs = Vec::new();
    for (name, value) in when.any_map()?.pairs() {
        frame.check_priced_by(&value, name)?;
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

/// Cells by the dimensions that they name.
type Groups<'c, 'd> = BTreeMap<Vec<&'c str>, Vec<&'c (Cursor<'d>, MatrixCell)>>;

/// Checks that no usage fits two cells that name as many dimensions, because neither would win.
///
/// Two cells that name the same dimensions clash where all values are the same; others of one size
/// clash where the dimensions that both name have the same values. Groups of cells are compared in
/// pairs, so their number is bounded: the time is that of the cells for each group.
fn check_unambiguous(cursor: &Cursor<'_>, cells: &[(Cursor<'_>, MatrixCell)]) -> Option<()> {
    let mut seen = HashSet::new();
    let mut groups = Groups::new();
    for cell in cells {
        let (cursor, MatrixCell { when, .. }) = cell;
        if !seen.insert(when) {
            return cursor.fail("the same `when` stands here a second time", "keep one of them");
        }
        groups.entry(when.iter().map(|(name, _)| &**name).collect()).or_default().push(cell);
    }
    if groups.len() > GROUPS_MAX {
        return cursor.fail(
            format!(
                "the cells name {} different sets of dimensions, and at most {GROUPS_MAX} are allowed",
                groups.len()
            ),
            "name the same dimensions in more cells",
        );
    }
    for (one, first) in &groups {
        let others = groups.iter().filter(|(other, _)| other.len() == one.len() && *other > one);
        for (other, second) in others {
            let shared: Vec<&str> =
                one.iter().filter(|name| other.contains(name)).copied().collect();
            let project = |(_, cell): &&(Cursor<'_>, MatrixCell)| -> Vec<String> {
                let values = cell.when.iter().filter(|(name, _)| shared.contains(&&**name));
                values.map(|(_, value)| value.clone()).collect()
            };
            let taken: HashSet<_> = first.iter().map(project).collect();
            if let Some((cursor, _)) = second.iter().find(|cell| taken.contains(&project(cell))) {
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
