//! Page: an invoice in the words a customer reads, from which the HTML page and the PDF are drawn.

use pricing::{
    Amount,
    document::{ByDimensions, DocumentLine, LineKind, Period, QuantityOf},
    rate::Step,
};
use serde::Serialize;

use crate::answers::invoice::{DocumentContent, InvoiceAnswer, InvoiceHeadAnswer, PaymentAnswer};

/// What stands on the page, in plain text and in the order of reading.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    pub(super) title: String,
    /// Why it is void, if it is.
    pub(super) void: Option<String>,
    /// Which invoice a credit note gives back a part of, and why.
    pub(super) credits: Option<String>,
    /// Names and values.
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) rows: Vec<Row>,
    /// Names and amounts with their currency; what is due comes last.
    pub(super) sums: Vec<(String, String)>,
    pub(super) waiting: Option<String>,
    pub(super) document: String,
}

/// A line of the invoice.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) item: String,
    /// The SKU where the item has a name of its own.
    pub(super) sku: String,
    pub(super) details: Vec<String>,
    pub(super) quantity: String,
    pub(super) amount: String,
}

impl Page {
    /// Of an invoice with its content.
    pub(super) fn of(invoice: &InvoiceAnswer) -> Self {
        let content = invoice.content.as_ref();
        let kind = match content.map(|content| content.document.as_str()) {
            Some("delta") => "Adjustment",
            Some("credit_note") => "Credit note",
            Some("reversal") => "Reversal",
            _ => "Invoice",
        };
        let issued = invoice.head.issued_at.map_or_else(String::new, |issued| issued.to_string());
        let mut facts = vec![("Customer", invoice.head.tenant.clone()), ("Issued", issued)];
        if let Some(DocumentContent { period, payment_term_days, .. }) = content {
            let Period { first_day, last_day, time_zone, .. } = period;
            facts.push(("Service period", format!("{first_day} to {last_day} ({time_zone})")));
            facts.push(("Payment", format!("within {payment_term_days} days")));
        }
        let void = || format!("Void: {}", invoice.head.void_reason);
        Self {
            title: format!("{kind} {}", invoice.head.number),
            void: (invoice.head.state == "void").then(void),
            credits: content.and_then(credits),
            facts,
            rows: content.iter().flat_map(|content| &content.lines).map(Row::of).collect(),
            sums: sums(invoice),
            waiting: waiting(
                content.and_then(|content| content.unpriced.as_ref()).map_or(0, Vec::len),
            ),
            document: format!("Document {}", invoice.head.digest),
        }
    }
}

/// Which invoice a credit note gives back a part of, and why.
fn credits(content: &DocumentContent) -> Option<String> {
    Some(format!("Of {}: {}", content.corrects.as_ref()?, content.reason.as_ref()?))
}

fn waiting(resources: usize) -> Option<String> {
    Some(match resources {
        0 => return None,
        1 => "One resource has no price yet; it follows in an adjustment.".to_owned(),
        more => format!("{more} resources have no price yet; they follow in an adjustment."),
    })
}

/// The total, what prepaid credits pay of it or get back, and what is due.
fn sums(invoice: &InvoiceAnswer) -> Vec<(String, String)> {
    let InvoiceHeadAnswer { total, due, due_before_void, payments, currency, .. } = &invoice.head;
    let money = |amount: &str| format!("{amount} {currency}");
    let paid = payments.iter().map(|PaymentAnswer { credit, amount }| match below_zero(amount) {
        None => (format!("Prepaid credit {credit}"), money(&format!("-{amount}"))),
        Some(back) => (format!("Back to prepaid credit {credit}"), money(back)),
    });
    let before = due_before_void.iter().map(|due| ("Due until it was void".to_owned(), money(due)));
    let due = match below_zero(due) {
        None => ("Due".to_owned(), money(due)),
        Some(back) => ("Due to the customer".to_owned(), money(back)),
    };
    let total = ("Total".to_owned(), money(total));
    std::iter::once(total).chain(paid).chain(before).chain([due]).collect()
}

/// How far an amount is below zero, if it is.
fn below_zero(amount: &str) -> Option<&str> {
    amount.strip_prefix('-')
}

impl Row {
    fn of(line: &DocumentLine) -> Self {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (sku, name) = (text(&line.product_sku), text(&line.name));
        let name = if line.kind == LineKind::Rounding { "Rounding".to_owned() } else { name };
        let (item, sku) = if name.is_empty() { (sku, name) } else { (name, sku) };
        let dimensions = line.dimensions.iter().flat_map(|pairs| &pairs.0);
        let dimensions = dimensions.map(|(name, value)| format!("{name}: {value}"));
        let metered = line.quantity.filter(|quantity| *quantity != Amount::ZERO);
        Self {
            item,
            sku,
            details: dimensions
                .chain(line.detail.iter().filter_map(words))
                .chain(line.by_dimensions.iter().flat_map(parts))
                .collect(),
            quantity: metered.map_or_else(String::new, |quantity| {
                format!("{quantity} {}", text(&line.use_unity))
            }),
            amount: line.amount.to_string(),
        }
    }
}

/// What a quantity consists of, by dimensions.
fn parts(detail: &ByDimensions) -> Vec<String> {
    let listed = detail.listed.iter().map(|QuantityOf { dimensions, quantity }| {
        let names: Vec<String> =
            dimensions.0.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        format!("{}: {quantity}", names.join(", "))
    });
    let more = detail.more.zip(detail.more_quantity);
    let more = more.map(|(more, quantity)| format!("{more} more: {quantity}"));
    listed.chain(more).collect()
}

/// A step in words, for those that a customer asks about.
fn words(step: &Step) -> Option<String> {
    Some(match step {
        Step::Units { quantity, unit_price, .. } => format!("{quantity} × {unit_price}"),
        Step::Tier { tier, quantity, unit_price, .. } => {
            format!("tier {tier}: {quantity} × {unit_price}")
        }
        Step::TierFee { tier, amount } => format!("fee of tier {tier}: {amount}"),
        Step::Packages { packages, package_price, .. } => {
            format!("{packages} packages × {package_price}")
        }
        Step::Rate { quantity, rate, .. } | Step::RateTier { quantity, rate, .. } => {
            format!("{quantity} × {rate}")
        }
        Step::FreeUnits { used, .. } => format!("{used} free"),
        Step::Prorated { days, of } | Step::Shared { days, of, .. } => {
            format!("{days} of {of} days")
        }
        Step::Metered { resources: Some(resources), .. } if *resources > 1 => {
            format!("{resources} resources together")
        }
        Step::BelowZero { quantity } => format!("{quantity} belongs to another period"),
        Step::Discounted { name, amount, .. } => format!("discount {name}: {amount}"),
        Step::Exchanged { from, rate, .. } => format!("from {from} at {rate}"),
        Step::Minimum { bound, .. } => format!("to the minimum of {bound}"),
        Step::Maximum { bound, .. } => format!("to the maximum of {bound}"),
        Step::Shortfall { committed, spent, .. } => format!("committed {committed}, used {spent}"),
        Step::Overage { committed, beyond, factor, .. } => {
            format!("{beyond} beyond {committed}, × {factor}")
        }
        Step::Taxed { base, rate, .. } => format!("{rate} of {base}"),
        Step::Invoiced { amount } => format!("invoiced before: {amount}"),
        Step::Corrected { amount } => format!("corrected before: {amount}"),
        Step::Goodwill { amount } => format!("goodwill given before: {amount}"),
        _ => return None,
    })
}
