//! Resource: what one tenant's usage of one SKU comes to in a period, as lines.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use domain::{
    Dimensions, Quantity, Tenant, UsageRow, Window,
    catalogue::{Price, PriceModel, Rounding},
};

use super::{
    Line, Rated, RatingTerms, Share, Step, Unpriced, UnpricedReason,
    bill::{self, Bounds, Part},
    charge::Charge,
    detail::Detail,
    group::Resource,
    levels::Level,
    measured::Measured,
    pieces::{Piece, Pieces},
    tally::Tally,
};
use crate::amount::Amount;

/// What one price prices together, before it is priced.
struct Priced {
    /// Place of the piece.
    piece: usize,
    /// The piece, or a stretch of it that is billed without usage.
    span: Window,
    /// The dimensions of the cell of a matrix.
    cell: Dimensions,
    quantity: Result<Quantity, UnpricedReason>,
    tally: Tally,
    detail: Detail,
    /// How many levels were added up, and how many of them hold on from before the bill.
    levels: Option<(u64, u64)>,
    /// Whether there is usage.
    is_used: bool,
}

/// Bills a resource.
pub(super) fn rate(
    rated: &mut Rated,
    (terms, usage): (&RatingTerms<'_>, &[UsageRow]),
    tenant: &Tenant,
    resource: Resource<'_>,
) {
    let pieces = std::rc::Rc::clone(&resource.pieces);
    let place = Place { tenant, terms, usage, pieces: &pieces };
    let parts = place.parts(rated, resource);
    // Once for all cells of a matrix: each copy has all of them.
    let mut prices: BTreeMap<(usize, Window), (Cow<'_, Price>, Share)> = BTreeMap::new();
    for Priced { piece, span, .. } in &parts {
        prices.entry((*piece, *span)).or_insert_with(|| place.price(*piece, *span));
    }
    let measured = parts.iter().map(|part| place.measured(part, &prices[&(part.piece, part.span)]));
    let measured: Vec<Measured<'_>> = measured.collect();
    let charges = bill::charges(&measured);
    let stretches = place.stretches();
    let bounds = place.bounds(&stretches, &parts, &charges);
    let bill = bill::bill(charges, &measured, &bounds, terms.rounding);
    let (mut parts, mut billed) = (parts.into_iter(), bill.parts.into_iter());
    for ((bounds, held), outer) in bounds.iter().zip(stretches).zip(bill.bounds) {
        for (part, billed) in parts.by_ref().take(bounds.parts).zip(billed.by_ref()) {
            place.add(rated, part, billed);
        }
        if let Some(outer) = outer {
            rated.lines.push(place.bound(held, bounds.rounding, outer));
        }
    }
}

/// Where lines stand.
struct Place<'a, 'c> {
    tenant: &'a Tenant,
    terms: &'a RatingTerms<'c>,
    usage: &'a [UsageRow],
    pieces: &'a Pieces<'c>,
}

/// Consecutive pieces under the same bounds: the first and the last.
#[derive(Clone, Copy)]
struct Held {
    first: usize,
    last: usize,
}

impl<'a, 'c> Place<'a, 'c> {
    /// What is priced, by piece and cell: what was used, and what is due without usage. Levels that have
    /// no price wait.
    fn parts(&self, rated: &mut Rated, resource: Resource<'_>) -> Vec<Priced> {
        let mut parts = Vec::new();
        for ((piece, cell), (tally, detail)) in resource.parts {
            let definition = self.pieces.list[piece].definition;
            let quantity = tally.metered(definition.meter);
            let (span, detail) = (self.pieces.list[piece].span, detail.beside(&cell));
            let part =
                Priced { piece, span, cell, quantity, tally, detail, levels: None, is_used: true };
            parts.push(part);
        }
        self.add_levels(rated, &mut parts, &resource.levels);
        let is_used = !parts.is_empty();
        let used: BTreeSet<usize> = parts.iter().map(|part| part.piece).collect();
        for (at, piece) in self.pieces.list.iter().enumerate() {
            if !used.contains(&at) {
                parts.extend(self.due(piece, is_used).map(|span| Priced::due(at, span)));
            }
        }
        parts.sort_by(|one, other| {
            (one.piece, &one.cell, one.span).cmp(&(other.piece, &other.cell, other.span))
        });
        parts
    }

    /// When a piece is due that has no usage: a flat price for all of its days once there is usage under
    /// any price, and what is subscribed to. A matrix prices combinations, and there is none.
    fn due(&self, piece: &Piece<'_>, is_used: bool) -> impl Iterator<Item = Window> {
        let whole = matches!(piece.price.model, PriceModel::Flat { .. }) && is_used;
        let is_matrix = matches!(piece.price.model, PriceModel::Matrix(_));
        let subscribed = (!whole && !is_matrix).then(|| self.pieces.subscribed_in(piece.span));
        whole.then_some(piece.span).into_iter().chain(subscribed.into_iter().flatten())
    }

    /// Adds up the levels under each piece.
    fn add_levels(
        &self,
        rated: &mut Rated,
        parts: &mut Vec<Priced>,
        levels: &BTreeMap<(usize, Dimensions), Level>,
    ) {
        // A level that several pieces have no price for waits once.
        let mut waiting = BTreeSet::new();
        for (at, piece) in self.pieces.list.iter().enumerate() {
            let mut cells: BTreeMap<Dimensions, Priced> = BTreeMap::new();
            let own =
                levels.iter().filter(|((measure, _), _)| *measure == self.pieces.measures[at]);
            for ((_, of), level) in own.filter(|(_, level)| !level.is_over()) {
                let Some(cell) = self.pieces.cell(at, of) else {
                    if waiting.insert((self.pieces.measures[at], of)) {
                        self.wait(rated, (piece, of), UnpricedReason::NoMatrixPrice, &level.tally);
                    }
                    continue;
                };
                let within = (self.terms.span.start, self.terms.period);
                let measured = level.measured(piece.definition.meter, piece.span, within);
                let quantity = measured.map(|quantity| quantity.max(Quantity::ZERO));
                if let Ok(below) = measured.map(|measured| measured.min(Quantity::ZERO))
                    && below < Quantity::ZERO
                    && waiting.insert((self.pieces.measures[at], of))
                {
                    self.wait_below(rated, (piece, of), below, &level.tally);
                }
                let part = cells.entry(cell.clone()).or_insert_with(|| Priced {
                    levels: Some((0, 0)),
                    is_used: true,
                    cell,
                    ..Priced::due(at, piece.span)
                });
                let rows = level.rows(piece.definition.meter, piece.span, self.usage);
                let is_carried = level.is_carried(piece.definition.meter);
                part.add_level(of, level.tally.clone().with_rows(rows), (quantity, is_carried));
            }
            parts.extend(cells.into_iter().map(|(cell, part)| Priced {
                detail: part.detail.beside(&cell),
                cell,
                ..part
            }));
        }
    }

    /// A part's price, for the share of the period that it is for. A level costs a share of what it costs
    /// for the whole period, but for an integral over time, which is smaller already.
    fn price(&self, piece: usize, span: Window) -> (Cow<'c, Price>, Share) {
        let piece = &self.pieces.list[piece];
        let share = self.terms.share(span);
        match piece.costs_by_days() {
            true => (Cow::Borrowed(piece.price), share),
            false => (share.of_price(piece.price), share),
        }
    }

    /// What a part is priced for.
    fn measured<'p>(
        &'p self,
        part: &Priced,
        (price, share): &'p (Cow<'_, Price>, Share),
    ) -> Measured<'p> {
        let piece = &self.pieces.list[part.piece];
        let (meter, levels) = (piece.definition.meter, part.levels);
        let mut origin: Vec<Step> = Vec::new();
        origin.extend(part.quantity.ok().map(|quantity| Step::Metered {
            meter,
            quantity,
            resources: levels.map(|(resources, _)| resources),
            carried: levels.map(|(_, carried)| carried).filter(|carried| *carried > 0),
        }));
        let (by_days, is_whole) = (piece.costs_by_days(), share.is_whole());
        if !is_whole && !by_days {
            origin.push(Step::Prorated { days: share.days, of: share.of });
        }
        let is_flat = matches!(price.model, PriceModel::Flat { .. });
        Measured {
            price,
            cells: self.pieces.cells(part.piece),
            piece: part.piece,
            discounts: &piece.discounts,
            exchange: self.terms.exchange_from(price.currency),
            dimensions: part.cell.clone(),
            quantity: part.quantity,
            events: part.tally.events(),
            origin,
            share: (!is_whole && by_days).then_some(*share),
            goes_on: !is_whole && (by_days || is_flat),
        }
    }

    /// Stretches of pieces under the same bounds, in order.
    fn stretches(&self) -> Vec<Held> {
        let list = &self.pieces.list;
        let mut stretches: Vec<Held> = Vec::new();
        for (at, piece) in list.iter().enumerate() {
            match stretches.last_mut().filter(|held| list[held.last].bounds_go_on(piece)) {
                Some(held) => held.last = at,
                None => stretches.push(Held { first: at, last: at }),
            }
        }
        stretches
    }

    fn span_of(&self, held: Held) -> Window {
        let (first, last) = (&self.pieces.list[held.first], &self.pieces.list[held.last]);
        Window { start: first.span.start, end: last.span.end }
    }

    /// What holds the parts of each stretch: the minimum and maximum for its days once usage was priced,
    /// else for the days on which the SKU is subscribed to.
    fn bounds(
        &self,
        stretches: &[Held],
        parts: &[Priced],
        charges: &[Result<Charge, UnpricedReason>],
    ) -> Vec<Bounds> {
        let is_used =
            parts.iter().zip(charges).any(|(part, charge)| part.is_used && charge.is_ok());
        let of = |held: &Held| {
            let price = self.pieces.list[held.last].price;
            let inside = |part: &&Priced| (held.first..=held.last).contains(&part.piece);
            let days: Vec<Window> = match is_used {
                true => vec![self.span_of(*held)],
                false => self.pieces.subscribed_in(self.span_of(*held)).collect(),
            };
            self.bounds_of(price, parts.iter().filter(inside).count(), &days)
        };
        stretches.iter().map(of).collect()
    }

    fn bounds_of(&self, price: &Price, parts: usize, days: &[Window]) -> Bounds {
        let shares: Vec<Share> = days.iter().map(|days| self.terms.share(*days)).collect();
        let written = Bounds::of(price, parts);
        let exchange = self.terms.exchange_from(price.currency);
        if exchange.is_none() && shares.iter().any(|share| share.is_whole()) {
            return written;
        }
        let of = |bound: Quantity| {
            let parts = shares.iter().map(|share| share.of(bound));
            let sum = parts.into_iter().try_fold(Quantity::ZERO, Quantity::checked_add);
            sum.expect("parts of a bound are no more than it")
        };
        Bounds {
            minimum: price.minimum.map(of).filter(|_| !days.is_empty()),
            maximum: price.maximum.map(of).filter(|_| !days.is_empty()),
            exchange,
            rounding: self.terms.rounding,
            ..written
        }
    }

    /// Adds the line of a part, or its usage to what waits.
    fn add(&self, rated: &mut Rated, part: Priced, billed: Result<Part, UnpricedReason>) {
        let piece = &self.pieces.list[part.piece];
        let billed = match billed {
            Ok(billed) => billed,
            Err(reason) => return self.wait(rated, (piece, &part.cell), reason, &part.tally),
        };
        if let Some(quantity) = billed.below_zero {
            self.wait_below(rated, (piece, &part.cell), quantity, &part.tally);
        }
        let quantity = part.quantity.map_or(Amount::ZERO, Amount::of);
        let line = self.line(piece, part.span, billed);
        rated.lines.push(Line {
            dimensions: part.cell,
            quantity,
            by_dimensions: part.detail,
            hours: part.tally.hours(self.usage),
            ..line
        });
    }

    fn wait(
        &self,
        rated: &mut Rated,
        (piece, dimensions): (&Piece<'_>, &Dimensions),
        reason: UnpricedReason,
        tally: &Tally,
    ) {
        let (sku, unit) = (piece.definition.sku.clone(), piece.definition.unit.clone());
        let what = (self.tenant.clone(), sku, unit, dimensions.clone());
        rated.unpriced.push(Unpriced::of(what, reason, tally, self.usage));
    }

    /// Names what of a quantity is below zero and gives nothing back.
    fn wait_below(
        &self,
        rated: &mut Rated,
        of: (&Piece<'_>, &Dimensions),
        quantity: Quantity,
        tally: &Tally,
    ) {
        self.wait(rated, of, UnpricedReason::BelowZero, &Tally::default());
        if let Some(waiting) = rated.unpriced.last_mut() {
            (waiting.quantity, waiting.count) = (Amount::of(quantity), tally.count());
        }
    }

    /// The line that brings others to a bound.
    fn bound(&self, held: Held, rounding: Rounding, outer: Part) -> Line {
        let line = self.line(&self.pieces.list[held.first], self.span_of(held), outer);
        Line { rounding, ..line }
    }

    fn line(&self, piece: &Piece<'_>, span: Window, part: Part) -> Line {
        let definition = piece.definition;
        let line = Line {
            tenant: self.tenant.clone(),
            product_sku: definition.sku.clone(),
            use_unity: definition.unit.clone(),
            dimensions: Dimensions::none(),
            name: definition.name.clone(),
            model: piece.price.model.as_str(),
            quantity: Amount::ZERO,
            by_dimensions: Detail::default(),
            amount: part.amount,
            rounding: self.terms.rounding,
            catalogue: piece.catalogue.clone(),
            contract: piece.contract.cloned(),
            valid_from: piece.price.valid_from,
            span,
            steps: part.steps,
            hours: Vec::new(),
        };
        debug_assert_eq!(line.steps_total(), line.amount, "the steps add up to the line");
        line
    }
}

impl Priced {
    /// What is due under a piece without usage.
    fn due(piece: usize, span: Window) -> Self {
        Self {
            piece,
            span,
            cell: Dimensions::none(),
            quantity: Ok(Quantity::ZERO),
            tally: Tally::default(),
            detail: Detail::default(),
            levels: None,
            is_used: false,
        }
    }

    fn add_level(
        &mut self,
        of: &Dimensions,
        tally: Tally,
        (quantity, is_carried): (Result<Quantity, UnpricedReason>, bool),
    ) {
        let add = |sum: Quantity| sum.checked_add(quantity?).ok_or(UnpricedReason::OutOfRange);
        self.quantity = self.quantity.and_then(add);
        self.detail.add(of, quantity.map_or(Amount::ZERO, Amount::of));
        self.tally.merge(tally);
        let (resources, carried) = self.levels.unwrap_or_default();
        self.levels = Some((resources + 1, carried + u64::from(is_carried)));
    }
}
