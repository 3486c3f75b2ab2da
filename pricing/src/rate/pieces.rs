//! Pieces: which price of a SKU counts when in a period, whoever's contract or catalogue it stands in.
//!
//! A price with the percentages that go off it is one piece for as long as it stays the same. What
//! changes beside it (another SKU's price, a credit, an exchange rate, a tax) does not cut it.

use domain::{
    Dimensions, Name, Quantity, Sku, Timestamp, Unit, Window,
    catalogue::{Meter, Price, SkuDefinition},
    contract::{Contract, Discount, DiscountValue},
};

use super::{
    cells::Cells,
    terms::{Agreed, RatingTerms},
};

/// A stretch of time in which one price counts.
#[derive(Clone, Debug)]
pub(crate) struct Piece<'c> {
    /// The stretch.
    pub(crate) span: Window,
    /// The SKU, as the catalogue has it in which the piece begins.
    pub(crate) definition: &'c SkuDefinition,
    /// The price, as it is written where the piece begins.
    pub(crate) price: &'c Price,
    /// Shares that go off, in order.
    pub(crate) discounts: Vec<(&'c Discount, Quantity)>,
    /// Version of the catalogue in which the piece begins.
    pub(crate) catalogue: &'c Name,
    /// The contract in which the piece begins.
    pub(crate) contract: Option<&'c Name>,
}

impl<'c> Piece<'c> {
    /// Tells whether a piece is this one, going on.
    fn goes_on(&self, next: &Self) -> bool {
        let same_off = |((one, share), (other, other_share)): (
            &(&Discount, Quantity),
            &(&Discount, Quantity),
        )| one.name == other.name && share == other_share;
        self.span.end == next.span.start
            && self.measures_as(next)
            && self.price.has_terms_of(next.price)
            && self.discounts.len() == next.discounts.len()
            && self.discounts.iter().zip(&next.discounts).all(same_off)
    }

    /// Tells whether both measure the same.
    pub(crate) fn measures_as(&self, other: &Self) -> bool {
        let (one, other) = (self.definition, other.definition);
        one.meter == other.meter && one.per == other.per && one.carry == other.carry
    }

    /// Tells whether what is measured costs its share of the days of what it costs for a whole period: a
    /// level does, but for an integral over time.
    pub(crate) fn costs_by_days(&self) -> bool {
        let meter = self.definition.meter;
        meter.is_level() && meter != Meter::TimeWeighted
    }

    /// Tells whether the same minimum and maximum go on in another piece.
    pub(crate) fn bounds_go_on(&self, next: &Self) -> bool {
        let bounds = |price: &Price| (price.currency, price.minimum, price.maximum);
        self.span.end == next.span.start && bounds(self.price) == bounds(next.price)
    }
}

/// A SKU as a part of the period has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'c> {
    pub(super) definition: &'c SkuDefinition,
    /// The contract's own, or the catalogue's.
    pub(super) prices: &'c [Price],
}

/// The prices of a SKU in a unit over a period.
#[derive(Debug, Default)]
pub(crate) struct Pieces<'c> {
    /// In order of time. They do not overlap; where there is none, nothing has a price.
    pub(crate) list: Vec<Piece<'c>>,
    /// For each piece, the first one that measures the same.
    pub(crate) measures: Vec<usize>,
    /// For each piece, where its matrix has which price.
    cells: Vec<Option<Cells<'c>>>,
    /// When the SKU is billed whether it is used or not.
    pub(crate) subscribed: Vec<Window>,
    /// Whether a level may hold on from usage that another measure or no price takes, inside the bill.
    pub(super) is_told_elsewhere: bool,
}

impl<'c> Pieces<'c> {
    /// The pieces of a SKU. `found` has its definition and prices in each part that knows it.
    pub(super) fn of(
        terms: &RatingTerms<'c>,
        (sku, unit): (&Sku, &Unit),
        found: impl Iterator<Item = Option<Found<'c>>>,
    ) -> Self {
        let mut pieces = Self::default();
        for (part, found) in terms.parts.iter().zip(found) {
            if part.contract.is_some_and(|contract| subscribes(contract, sku, unit)) {
                pieces.subscribe(part.window);
            }
            if let Some(found) = found {
                pieces.add_part(terms, part, found);
            }
        }
        let first = |piece| pieces.list.iter().position(|other| other.measures_as(piece));
        let measures = pieces.list.iter().map(|piece| first(piece).expect("itself at the latest"));
        pieces.measures = measures.collect();
        pieces.is_told_elsewhere = pieces.carries() && !pieces.is_one_measure_of(terms.span);
        pieces.cells = pieces.list.iter().map(|piece| Cells::of(&piece.price.model)).collect();
        pieces
    }

    /// Tells whether any level holds on.
    pub(super) fn carries(&self) -> bool {
        self.list.iter().any(|piece| piece.definition.carry)
    }

    /// Tells whether all of a stretch is measured in one way.
    fn is_one_measure_of(&self, span: Window) -> bool {
        let joins = |two: &[Piece<'_>]| two[0].span.end == two[1].span.start;
        let (first, last) = (self.list.first(), self.list.last());
        first.is_some_and(|first| first.span.start <= span.start)
            && last.is_some_and(|last| last.span.end >= span.end)
            && self.list.windows(2).all(joins)
            && self.measures.iter().all(|measure| *measure == 0)
    }

    /// The span of all pieces that measure as one does.
    pub(super) fn span_of_measure(&self, measure: usize) -> Window {
        let of = self.list.iter().zip(&self.measures).filter(|(_, own)| **own == measure);
        let end = of.map(|(piece, _)| piece.span.end).next_back();
        let start = self.list[measure].span.start;
        Window { start, end: end.unwrap_or(start) }
    }

    fn subscribe(&mut self, window: Window) {
        match self.subscribed.last_mut().filter(|last| last.end == window.start) {
            Some(last) => last.end = window.end,
            None => self.subscribed.push(window),
        }
    }

    /// Adds what counts in a part: one piece for each stretch in which one price counts throughout.
    fn add_part(
        &mut self,
        terms: &RatingTerms<'c>,
        part: &Agreed<'c>,
        Found { definition, prices }: Found<'c>,
    ) {
        let window = part.window;
        let inside = |moment: &Timestamp| window.start < *moment && *moment < window.end;
        let edges = prices.iter().flat_map(|price| [Some(price.valid_from), price.valid_to]);
        let mut edges: Vec<Timestamp> = edges.flatten().filter(inside).collect();
        edges.extend([window.start, window.end]);
        edges.sort_unstable();
        edges.dedup();
        for edge in edges.windows(2) {
            let Some(price) = terms.price_at(part, prices, edge[0]) else { continue };
            self.push(Piece {
                span: Window { start: edge[0], end: edge[1] },
                definition,
                price,
                discounts: part
                    .contract
                    .map_or_else(Vec::new, |it| shares_off(it, &definition.sku)),
                catalogue: &part.catalogue.version,
                contract: part.contract.map(|contract| &contract.name),
            });
        }
    }

    fn push(&mut self, piece: Piece<'c>) {
        match self.list.last_mut().filter(|last| last.goes_on(&piece)) {
            Some(last) => last.span.end = piece.span.end,
            None => self.list.push(piece),
        }
    }

    /// The piece that counts at a moment.
    pub(super) fn at(&self, moment: Timestamp) -> Option<usize> {
        self.list.iter().position(|piece| piece.span.holds(moment))
    }

    /// What finds the cells of a piece that has a price for each combination of dimensions.
    pub(super) fn cells(&self, piece: usize) -> Option<&Cells<'c>> {
        self.cells[piece].as_ref()
    }

    /// The dimensions that a piece prices some usage by, none but for a matrix; `None` where that has no
    /// price for it.
    pub(super) fn cell(&self, piece: usize, dimensions: &Dimensions) -> Option<Dimensions> {
        match self.cells(piece) {
            Some(cells) => cells.cell(dimensions),
            None => Some(Dimensions::none()),
        }
    }

    /// What of a window the SKU is subscribed to.
    pub(super) fn subscribed_in(&self, window: Window) -> impl Iterator<Item = Window> {
        let shared = self.subscribed.iter().map(move |known| known.overlap(window));
        shared.filter(|shared| shared.start < shared.end)
    }
}

fn subscribes(contract: &Contract, sku: &Sku, unit: &Unit) -> bool {
    contract
        .subscriptions
        .binary_search_by(|(known, within)| (known, within).cmp(&(sku, unit)))
        .is_ok()
}

/// The shares that a contract takes off lines of a SKU, in order.
fn shares_off<'c>(contract: &'c Contract, sku: &Sku) -> Vec<(&'c Discount, Quantity)> {
    let share = |discount: &'c Discount| match discount.value {
        DiscountValue::Share(share) if discount.scope.holds(sku) => Some((discount, share)),
        _ => None,
    };
    contract.discounts.iter().filter_map(share).collect()
}
