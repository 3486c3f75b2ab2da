//! Grouping: rows of usage find their prices, and those that are priced together are added up.

use std::{collections::BTreeMap, rc::Rc};

use domain::{
    Dimensions, Name, ResourceKey, Sku, Tenant, Unit, UsageRow, Window, catalogue::Meter,
};

use super::{
    RatingTerms, Sources, UnpricedReason,
    detail::Detail,
    events::MixedAmounts,
    index::{HashMap, Index},
    levels::Level,
    pieces::Pieces,
    tally::Tally,
};
use crate::amount::Amount;

/// All usage of one tenant, SKU and unit.
#[derive(Default)]
pub(super) struct Resource<'c> {
    pub(super) pieces: Rc<Pieces<'c>>,
    /// Pulses that are added up: by piece and, for a matrix, the dimensions of the cell.
    pub(super) parts: BTreeMap<(usize, Dimensions), (Tally, Detail)>,
    /// Levels, each by the first piece that measures the same and what it is measured for.
    pub(super) levels: BTreeMap<(usize, Dimensions), Level>,
}

pub(super) type Bills<'c> = BTreeMap<(Tenant, Sku, Unit), Resource<'c>>;
pub(super) type Waiting = BTreeMap<(Tenant, Sku, Unit, UnpricedReason, Dimensions), Tally>;

/// What a row is to the bill.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Under the price of a piece.
    Priced(usize),
    /// From before the bill, of which levels may hold on.
    Before,
    /// Without a price.
    Waits(UnpricedReason),
}

/// Rows of one resource that stand alike.
struct Stretch {
    standing: Standing,
    /// When rows stand so, whatever they hold; looked at for each row.
    span: Option<Window>,
    /// Whether a row tells more than what it adds to the sums.
    tells_more: bool,
    tally: Tally,
}

/// All rows of one resource.
struct Rows<'c> {
    pieces: Rc<Pieces<'c>>,
    stretches: Vec<Stretch>,
}

/// Adds up the rows of the span, and finds the levels that hold on from before it. A row costs one
/// look-up of its resource, whatever the number of prices, and nothing is copied for it.
pub(super) fn group<'c>(terms: &RatingTerms<'c>, usage: &[UsageRow]) -> (Bills<'c>, Waiting) {
    let index = Index::of(terms);
    let mut known = Known { index: &index, made: HashMap::default() };
    let mixed = known.mixed(terms.span, usage);
    let mut resources: HashMap<&ResourceKey, Rows<'c>> = HashMap::default();
    for (place, row) in usage.iter().enumerate() {
        if row.key.window_start >= terms.span.end {
            continue;
        }
        let rows = resources.entry(&row.key.resource).or_insert_with(|| Rows {
            pieces: known.pieces(&row.key.resource),
            stretches: Vec::new(),
        });
        let Some(stretch) = rows.stretch_of(row, terms.span, &index, &mixed) else { continue };
        let Stretch { standing, tells_more, tally, .. } = &mut rows.stretches[stretch];
        tally.add(&row.cell.aggregate);
        if terms.sources == Sources::Listed && *standing != Standing::Before {
            tally.note(u32::try_from(place).expect("below 2^32 rows a bill"));
        }
        if let Standing::Priced(piece) = *standing
            && *tells_more
        {
            let piece = &rows.pieces.list[piece];
            tally.keep_single(piece.definition.meter, piece.price, row);
        }
    }
    let (mut bills, mut waiting) = (Bills::new(), Waiting::new());
    for (resource, rows) in resources {
        place(resource, rows, (&mut bills, &mut waiting));
    }
    subscribe(terms, &index, &mut bills);
    (bills, waiting)
}

/// The prices of what there is usage of, each found once.
struct Known<'i, 'c, 'u> {
    index: &'i Index<'i, 'c>,
    made: HashMap<(&'u Sku, &'u Unit), Rc<Pieces<'c>>>,
}

impl<'c, 'u> Known<'_, 'c, 'u> {
    fn pieces(&mut self, resource: &'u ResourceKey) -> Rc<Pieces<'c>> {
        let (sku, unit) = (&resource.product_sku, &resource.use_unity);
        let make = || Rc::new(self.index.pieces(sku, unit));
        Rc::clone(self.made.entry((sku, unit)).or_insert_with(make))
    }

    /// The hours whose events' amounts are needed and cannot be told.
    fn mixed(&mut self, span: Window, usage: &'u [UsageRow]) -> MixedAmounts<'u> {
        if !self.index.has_prices_per_event() {
            return MixedAmounts::default();
        }
        MixedAmounts::of(usage.iter().filter(|row| {
            let hour = row.key.window_start;
            let pieces = span.holds(hour).then(|| self.pieces(&row.key.resource));
            pieces.is_some_and(|pieces| {
                let piece = pieces.at(hour).map(|at| &pieces.list[at]);
                piece.is_some_and(|piece| piece.price.model.per_event().is_some())
            })
        }))
    }
}

impl Rows<'_> {
    /// Place of the stretch that a row belongs to; `None` where nothing asks for it. The newest is looked
    /// at first: rows come by time, and prices change seldom.
    fn stretch_of(
        &mut self,
        row: &UsageRow,
        span: Window,
        index: &Index<'_, '_>,
        mixed: &MixedAmounts<'_>,
    ) -> Option<usize> {
        let hour = row.key.window_start;
        let newest = self.stretches.last().and_then(|newest| newest.span);
        if newest.is_some_and(|span| span.holds(hour)) {
            return Some(self.stretches.len() - 1);
        }
        let standing = if hour < span.start {
            self.pieces
                .list
                .iter()
                .any(|piece| piece.definition.carry)
                .then_some(Standing::Before)?
        } else {
            let piece = self.pieces.at(hour).ok_or_else(|| index.why_unpriced(row));
            let told = piece.and_then(|piece| mixed.refuse(row).map_or(Ok(piece), Err));
            told.map_or_else(Standing::Waits, Standing::Priced)
        };
        let found = self.stretches.iter().position(|stretch| stretch.standing == standing);
        let at = found.unwrap_or_else(|| {
            self.stretches.push(self.begun(standing));
            self.stretches.len() - 1
        });
        // Kept last, so that the next row finds it first.
        let newest = self.stretches.len() - 1;
        self.stretches.swap(at, newest);
        Some(newest)
    }

    /// A stretch without rows.
    fn begun(&self, standing: Standing) -> Stretch {
        let tally = Tally::default();
        let Standing::Priced(at) = standing else {
            return Stretch { standing, span: None, tells_more: false, tally };
        };
        let piece = &self.pieces.list[at];
        // Whether an hour of single events is told is looked up hour by hour.
        let is_per_event = piece.price.model.per_event().is_some();
        let span = (!is_per_event).then_some(piece.span);
        let tells_more = is_per_event || piece.definition.meter == Meter::TimeWeighted;
        Stretch { standing, span, tells_more, tally }
    }
}

fn place<'c>(
    resource: &ResourceKey,
    rows: Rows<'c>,
    (bills, waiting): (&mut Bills<'c>, &mut Waiting),
) {
    let ResourceKey { tenant, product_sku, use_unity, dimensions } = resource;
    for Stretch { standing, tally, .. } in rows.stretches {
        let what = || (tenant.clone(), product_sku.clone(), use_unity.clone());
        let wait = |reason, waiting: &mut Waiting, tally| {
            let (tenant, sku, unit) = what();
            waiting
                .entry((tenant, sku, unit, reason, dimensions.clone()))
                .or_default()
                .merge(tally);
        };
        match standing {
            Standing::Waits(reason) => wait(reason, waiting, tally),
            Standing::Before => {
                bill_of(bills, what(), &rows.pieces).hold_on(dimensions, &tally);
            }
            Standing::Priced(at) if rows.pieces.list[at].definition.meter.is_level() => {
                bill_of(bills, what(), &rows.pieces).level(at, dimensions).tally.merge(tally);
            }
            Standing::Priced(at) => match rows.pieces.cell(at, dimensions) {
                Some(cell) => {
                    bill_of(bills, what(), &rows.pieces).add((at, cell), dimensions, tally);
                }
                None => wait(UnpricedReason::NoMatrixPrice, waiting, tally),
            },
        }
    }
}

fn bill_of<'b, 'c>(
    bills: &'b mut Bills<'c>,
    what: (Tenant, Sku, Unit),
    pieces: &Rc<Pieces<'c>>,
) -> &'b mut Resource<'c> {
    bills
        .entry(what)
        .or_insert_with(|| Resource { pieces: Rc::clone(pieces), ..Resource::default() })
}

impl Resource<'_> {
    /// Adds the pulses of one resource.
    fn add(&mut self, (at, cell): (usize, Dimensions), dimensions: &Dimensions, tally: Tally) {
        let is_matrix = self.pieces.cells(at).is_some();
        let quantity = match self.pieces.list[at].definition.meter {
            Meter::Count => Amount::whole(1).times(tally.count()).unwrap_or_default(),
            _ => tally.sum(),
        };
        let (sum, detail) = self.parts.entry((at, cell)).or_default();
        sum.merge(tally);
        if is_matrix {
            detail.add(dimensions, quantity);
        }
    }

    /// The level of a resource under what a piece measures.
    fn level(&mut self, at: usize, dimensions: &Dimensions) -> &mut Level {
        let measure = self.pieces.measures[at];
        let of = projected(dimensions, &self.pieces.list[measure].definition.per);
        self.levels.entry((measure, of)).or_default()
    }

    /// Notes a level from before the bill, for all that lets it hold on.
    fn hold_on(&mut self, dimensions: &Dimensions, tally: &Tally) {
        let pieces = Rc::clone(&self.pieces);
        for (at, piece) in pieces.list.iter().enumerate() {
            if piece.definition.carry && pieces.measures[at] == at {
                let level = self.level(at, dimensions);
                level.before = level.before.max(tally.last());
            }
        }
    }
}

/// The dimensions that are named, of some.
fn projected(dimensions: &Dimensions, names: &[Name]) -> Dimensions {
    let pairs = dimensions.pairs();
    let is_named = |name: &str| names.iter().any(|known| known.as_str() == name);
    if pairs.iter().all(|(name, _)| is_named(name)) {
        return dimensions.clone();
    }
    let named = pairs.iter().filter(|(name, _)| is_named(name));
    Dimensions::from_pairs(named.map(|(name, value)| (name.as_str(), value.as_str())))
}

/// Adds what is billed without usage: SKUs that are subscribed to.
fn subscribe<'c>(terms: &RatingTerms<'c>, index: &Index<'_, 'c>, bills: &mut Bills<'c>) {
    for contract in terms.parts.iter().filter_map(|part| part.contract) {
        for (sku, unit) in &contract.subscriptions {
            let what = (contract.tenant.clone(), sku.clone(), unit.clone());
            if bills.contains_key(&what) {
                continue;
            }
            let pieces = Rc::new(index.pieces(sku, unit));
            if !pieces.list.is_empty() {
                bill_of(bills, what, &pieces);
            }
        }
    }
}
