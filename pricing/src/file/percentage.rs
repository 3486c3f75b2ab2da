//! Models that price amounts of money: their keys, and what they ask of the SKU.

use domain::{
    Name, Quantity,
    catalogue::{Meter, PerEvent, Percentage, RateTier, RateTiers},
};

use super::{
    cursor::{Cursor, Fields},
    frame::Frame,
    tiers::{Place, flat_fee, flat_fee_at_zero, tier_list, up_to},
};

/// Keys of `percentage`.
pub(super) const KEYS: &[&str] = &[
    "rate",
    "fixed_fee",
    "amount_dimension",
    "free_events",
    "free_amount",
    "min_per_event",
    "max_per_event",
];

/// Keys that need the amount of each event.
const PER_EVENT: [&str; 4] = ["free_events", "free_amount", "min_per_event", "max_per_event"];

const RATE_REMEDY: &str = "give the share as a factor: \"0.015\" is 1.5 %";

/// Checks that the meter of a SKU whose amounts are money gives money.
pub(super) fn check_money(word: &Cursor<'_>, frame: &Frame<'_>) -> Option<()> {
    if frame.meter == Some(Meter::Count) {
        return word.fail(
            "prices amounts of money, but the meter `count` gives a number of pulses",
            "remove `meter`, or use per_unit",
        );
    }
    Some(())
}

/// Reads `percentage`. `word` is where the model is named.
pub(super) fn read(
    fields: &Fields<'_>,
    word: &Cursor<'_>,
    frame: &Frame<'_>,
) -> Option<Percentage> {
    if let Some(meter) = frame.meter
        && meter != Meter::Sum
    {
        return word.fail(
            format!("bills the sum of the events' amounts, but the meter is `{}`", meter.as_str()),
            "remove `meter`, or use another model",
        );
    }
    let rate = fields.need("rate", RATE_REMEDY).and_then(|rate| rate.decimal_not_negative());
    let fixed_fee = match fields.get("fixed_fee") {
        Some(cursor) => cursor.decimal_not_negative(),
        None => Some(Quantity::ZERO),
    };
    let per_event = per_event(fields, frame)?;
    Some(Percentage { rate: rate?, fixed_fee: fixed_fee?, per_event })
}

/// The terms that look at single events: `Some(None)` where there are none.
fn per_event(fields: &Fields<'_>, frame: &Frame<'_>) -> Option<Option<PerEvent>> {
    let first = PER_EVENT.iter().find_map(|key| fields.get(key).map(|cursor| (*key, cursor)));
    let Some((key, cursor)) = first else {
        return match fields.get("amount_dimension") {
            None => Some(None),
            Some(cursor) => cursor.fail(
                "nothing here asks for the amount of each event",
                format!("remove it, or give one of {}", PER_EVENT.join(", ")),
            ),
        };
    };
    let amount_dimension = amount_dimension(fields, frame, (key, &cursor));
    let free_events = fields.get("free_events").map(|cursor| cursor.whole(1, u64::MAX));
    let free_amount = fields.get("free_amount").map(|cursor| cursor.decimal_above_zero());
    let minimum = fields.get("min_per_event").map(|cursor| cursor.decimal_not_negative());
    let maximum = fields.get("max_per_event").map(|cursor| cursor.decimal_not_negative());
    check_whole_period(fields, key)?;
    let terms = PerEvent {
        amount_dimension: amount_dimension?,
        free_events: given(free_events)?,
        free_amount: given(free_amount)?,
        minimum: given(minimum)?,
        maximum: given(maximum)?,
    };
    if let (Some(least), Some(most)) = (terms.minimum, terms.maximum)
        && least > most
    {
        return fields.get("min_per_event")?.fail(
            format!("min_per_event {least} is greater than max_per_event {most}"),
            "raise max_per_event or lower min_per_event",
        );
    }
    Some(Some(terms))
}

/// A value that may be absent but not wrong.
fn given<T>(value: Option<Option<T>>) -> Option<Option<T>> {
    match value {
        None => Some(None),
        Some(value) => value.map(Some),
    }
}

/// The declared dimension that keeps events of different amounts apart, which `key` needs.
fn amount_dimension(
    fields: &Fields<'_>,
    frame: &Frame<'_>,
    (key, cursor): (&str, &Cursor<'_>),
) -> Option<Name> {
    let Some(named) = fields.get("amount_dimension") else {
        return cursor.fail(
            format!(
                "`{key}` looks at the amount of each event, and the totals keep events of \
                 different amounts apart by a dimension only"
            ),
            "let pulses repeat their amount in a property, list it under the SKU's `dimensions`, \
             and name it here, as `amount_dimension: amount`",
        );
    };
    let name = named.name(Name::new)?;
    frame.check_dimension(&named, name.as_str())?;
    Some(name)
}

/// Refuses what acts on the period's whole quantity, where single events are priced.
fn check_whole_period(fields: &Fields<'_>, key: &str) -> Option<()> {
    if let Some(convert) = fields.get("convert") {
        return convert.fail(
            format!("converts the period's quantity, and `{key}` looks at single events"),
            "send amounts in the unit that is priced",
        );
    }
    if let Some(free_units) = fields.get("free_units") {
        return free_units.fail(
            format!("is taken off the period's quantity, and `{key}` looks at single events"),
            "use free_amount",
        );
    }
    Some(())
}

/// Reads the tiers of `graduated_percentage`.
pub(super) fn tiers(fields: &Fields<'_>) -> Option<RateTiers> {
    let cursor = fields.need("tiers", "list at least one tier, as `- {rate: \"0.015\"}`")?;
    let list = tier_list(&cursor, tier, |tier| tier.up_to);
    let flat_fee_at_zero = flat_fee_at_zero(fields)?;
    Some(RateTiers { list: list?, flat_fee_at_zero })
}

fn tier(entry: &Cursor<'_>, place: Place) -> Option<RateTier> {
    let fields = entry.map(&["up_to", "rate", "flat_fee"])?;
    let up_to = up_to(&fields, place)?;
    let rate = fields.need("rate", RATE_REMEDY)?.decimal_not_negative()?;
    Some(RateTier { up_to, rate, flat_fee: flat_fee(&fields)? })
}
