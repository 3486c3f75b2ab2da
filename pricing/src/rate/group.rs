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
    pieces::{Piece, Pieces},
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
    /// Whether a price asks for the single events of a row.
    keeps_events: bool,
    /// Whether a level asks when it changed.
    keeps_changes: bool,
    tally: Tally,
}

/// All rows of one resource.
struct Rows<'c> {
    pieces: Rc<Pieces<'c>>,
    stretches: Vec<Stretch>,
}

/// Adds up rows as they come: those of the span, and of levels that hold on from before it. A row costs one
/// look-up of its resource, whatever the number of prices, and nothing is copied for it but for the first
/// of its resource.
pub(super) struct Grouping<'t, 'c> {
    terms: &'t RatingTerms<'c>,
    index: Index<'t, 'c>,
    /// The prices of what there is usage of, each found once.
    prices: HashMap<(Sku, Unit), Rc<Pieces<'c>>>,
    resources: HashMap<ResourceKey, Rows<'c>>,
    /// Rows under a price that looks at each event, with their places: what they tell together shows when
    /// all are there.
    per_event: Vec<(usize, UsageRow)>,
    has_prices_per_event: bool,
    /// How many rows were taken.
    taken: usize,
}

impl<'t, 'c> Grouping<'t, 'c> {
    pub(super) fn new(terms: &'t RatingTerms<'c>) -> Self {
        let index = Index::of(terms);
        let has_prices_per_event = index.has_prices_per_event();
        let (prices, resources) = (HashMap::default(), HashMap::default());
        let (per_event, taken) = (Vec::new(), 0);
        Self { terms, index, prices, resources, per_event, has_prices_per_event, taken }
    }

    /// Takes rows, in any order.
    pub(super) fn add(&mut self, rows: &[UsageRow]) {
        let mixed = MixedAmounts::default();
        for (place, row) in (self.taken..).zip(rows) {
            if row.key.window_start >= self.terms.span.end {
                continue;
            }
            if self.has_prices_per_event && self.is_per_event(row) {
                self.per_event.push((place, row.clone()));
            } else {
                self.take(place, row, &mixed);
            }
        }
        self.taken += rows.len();
    }

    /// What is billed, and what waits.
    pub(super) fn finish(mut self) -> (Bills<'c>, Waiting) {
        let per_event = std::mem::take(&mut self.per_event);
        let mixed = MixedAmounts::of(per_event.iter().map(|(_, row)| row));
        for (place, row) in &per_event {
            self.take(*place, row, &mixed);
        }
        let (mut bills, mut waiting) = (Bills::new(), Waiting::new());
        for (resource, rows) in self.resources {
            place(&resource, rows, (&mut bills, &mut waiting));
        }
        subscribe(self.terms, &self.index, &mut bills);
        (bills, waiting)
    }

    fn take(&mut self, place: usize, row: &UsageRow, mixed: &MixedAmounts<'_>) {
        let resource = &row.key.resource;
        let (terms, index) = (self.terms, &self.index);
        if let Some(rows) = self.resources.get_mut(resource) {
            rows.take((place, row), (terms, index, mixed));
            return;
        }
        // Most resources have one, and a list makes room for four at first.
        let stretches = Vec::with_capacity(1);
        let mut rows = Rows { pieces: self.pieces(resource), stretches };
        rows.take((place, row), (terms, &self.index, mixed));
        self.resources.insert(resource.clone(), rows);
    }

    fn is_per_event(&mut self, row: &UsageRow) -> bool {
        let hour = row.key.window_start;
        let pieces = self.terms.span.holds(hour).then(|| self.pieces(&row.key.resource));
        pieces.is_some_and(|pieces| {
            let piece = pieces.at(hour).map(|at| &pieces.list[at]);
            piece.is_some_and(|piece| piece.price.model.per_event().is_some())
        })
    }

    fn pieces(&mut self, resource: &ResourceKey) -> Rc<Pieces<'c>> {
        let of = (resource.product_sku.clone(), resource.use_unity.clone());
        let make = || Rc::new(self.index.pieces(&resource.product_sku, &resource.use_unity));
        Rc::clone(self.prices.entry(of).or_insert_with(make))
    }
}

impl Rows<'_> {
    /// Takes a row of the resource, by its place among all.
    fn take(
        &mut self,
        (place, row): (usize, &UsageRow),
        (terms, index, mixed): (&RatingTerms<'_>, &Index<'_, '_>, &MixedAmounts<'_>),
    ) {
        let Some(stretch) = self.stretch_of(row, terms.span, index, mixed) else { return };
        let Stretch { keeps_events, keeps_changes, tally, .. } = &mut self.stretches[stretch];
        tally.add(&row.cell.aggregate);
        if terms.sources == Sources::Listed {
            tally.note(u32::try_from(place).expect("below 2^32 rows a bill"));
        }
        if *keeps_events {
            tally.keep_events(row);
        }
        if *keeps_changes {
            tally.keep_change(row);
        }
    }

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
            self.pieces.carries().then_some(Standing::Before)?
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
        let is_inside = standing != Standing::Before;
        let keeps_changes = is_inside && self.pieces.is_told_elsewhere;
        let Standing::Priced(at) = standing else {
            return Stretch { standing, span: None, keeps_events: false, keeps_changes, tally };
        };
        let piece = &self.pieces.list[at];
        // Whether an hour of single events is told is looked up hour by hour.
        let keeps_events = piece.price.model.per_event().is_some();
        let span = (!keeps_events).then_some(piece.span);
        let keeps_changes = keeps_changes || piece.definition.meter == Meter::TimeWeighted;
        Stretch { standing, span, keeps_events, keeps_changes, tally }
    }
}

fn place<'c>(
    resource: &ResourceKey,
    rows: Rows<'c>,
    (bills, waiting): (&mut Bills<'c>, &mut Waiting),
) {
    let ResourceKey { tenant, product_sku, use_unity, dimensions } = resource;
    if rows.pieces.is_told_elsewhere {
        let what = (tenant.clone(), product_sku.clone(), use_unity.clone());
        bill_of(bills, what, &rows.pieces).tell_elsewhere(dimensions, &rows.stretches);
    }
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

    /// The measures that let a level hold on, each by its first piece.
    fn carrying(&self) -> Vec<usize> {
        let first = |(at, piece): &(usize, &Piece<'_>)| {
            piece.definition.carry && self.pieces.measures[*at] == *at
        };
        self.pieces.list.iter().enumerate().filter(first).map(|(at, _)| at).collect()
    }

    /// Notes a level from before the bill, for all that lets it hold on.
    fn hold_on(&mut self, dimensions: &Dimensions, tally: &Tally) {
        for measure in self.carrying() {
            self.level(measure, dimensions).hold_on(tally.last(), tally.rows());
        }
    }

    /// Tells each measure that lets a level hold on what the others, or no price, took of it.
    fn tell_elsewhere(&mut self, dimensions: &Dimensions, stretches: &[Stretch]) {
        let inside = stretches.iter().filter(|stretch| stretch.standing != Standing::Before);
        for measure in self.carrying() {
            let span = self.pieces.span_of_measure(measure);
            for Stretch { standing, tally, .. } in inside.clone() {
                let is_own = matches!(*standing, Standing::Priced(at) if self.pieces.measures[at] == measure);
                for change in tally.changes().filter(|(time, _)| !is_own && *time < span.end) {
                    let level = self.level(measure, dimensions);
                    match change.0 < span.start {
                        true => level.hold_on(Some(change), tally.rows()),
                        false => level.change_elsewhere(change),
                    }
                }
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
