//! Wire: documents as messages and back. Nothing is lost on the way: a document that went over the wire
//! is written as the same JSON.

use domain::{LogId, Timestamp};
use pricing::{
    document::{
        Bill, ByDimensions, CreditNote, DocumentLine, Hour, InvoiceDocument, LineKind, NoteKind,
        Period, PriceRef, PulseRef, QuantityOf, SegmentRef, Span, Subtotals, Waiting,
    },
    words::{Pairs, Word},
};
use proto::{convert, v1};
use thiserror::Error;

mod step;

/// An answer that this program cannot read, at a field of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the answer is not understood at `{0}`: use a program as new as the server")]
pub struct NotUnderstood(pub &'static str);

/// What is read of a message.
pub(crate) type Read<T> = Result<T, NotUnderstood>;

/// A document as a message.
#[must_use]
pub(crate) fn document(document: InvoiceDocument) -> v1::InvoiceDocument {
    use v1::invoice_document::Document;
    let document = match document {
        InvoiceDocument::Invoice(content) => Document::Invoice(bill(content)),
        InvoiceDocument::Delta(content) => Document::Delta(bill(content)),
        InvoiceDocument::Reversal(content) => Document::Reversal(bill(content)),
        InvoiceDocument::Preview(content) => Document::Preview(bill(content)),
        InvoiceDocument::CreditNote(content) => Document::CreditNote(note(content)),
    };
    v1::InvoiceDocument { document: Some(document) }
}

/// The document that a message is.
///
/// # Errors
/// When it is not understood.
pub(crate) fn of_document(message: v1::InvoiceDocument) -> Read<InvoiceDocument> {
    use v1::invoice_document::Document;
    Ok(match message.document.ok_or(NotUnderstood("document"))? {
        Document::Invoice(content) => InvoiceDocument::Invoice(of_bill(content)?),
        Document::Delta(content) => InvoiceDocument::Delta(of_bill(content)?),
        Document::Reversal(content) => InvoiceDocument::Reversal(of_bill(content)?),
        Document::Preview(content) => InvoiceDocument::Preview(of_bill(content)?),
        Document::CreditNote(content) => InvoiceDocument::CreditNote(of_note(content)?),
    })
}

fn bill(bill: Bill) -> v1::Bill {
    v1::Bill {
        tenant: bill.tenant,
        currency: text(&bill.currency),
        period: Some(period(bill.period)),
        payment_term_days: bill.payment_term_days.into(),
        contracts: bill.contracts.into_iter().collect(),
        subtotals: Some(v1::Subtotals {
            usage: text(&bill.subtotals.usage),
            discount: text(&bill.subtotals.discount),
            commitment: text(&bill.subtotals.commitment),
            tax: text(&bill.subtotals.tax),
            rounding: bill.subtotals.rounding.as_ref().map(text),
            credit: bill.subtotals.credit.as_ref().map(text),
        }),
        total: text(&bill.total),
        lines: bill.lines.into_iter().map(line).collect(),
        unpriced: bill.unpriced.into_iter().map(waiting).collect(),
    }
}

fn of_bill(bill: v1::Bill) -> Read<Bill> {
    let subtotals = bill.subtotals.ok_or(NotUnderstood("subtotals"))?;
    Ok(Bill {
        tenant: bill.tenant,
        currency: word("currency", &bill.currency)?,
        period: of_period(bill.period)?,
        payment_term_days: small("payment_term_days", bill.payment_term_days)?,
        contracts: bill.contracts.into_iter().collect(),
        subtotals: Subtotals {
            usage: word("subtotals.usage", &subtotals.usage)?,
            discount: word("subtotals.discount", &subtotals.discount)?,
            commitment: word("subtotals.commitment", &subtotals.commitment)?,
            tax: word("subtotals.tax", &subtotals.tax)?,
            rounding: of_optional("subtotals.rounding", subtotals.rounding.as_deref())?,
            credit: of_optional("subtotals.credit", subtotals.credit.as_deref())?,
        },
        total: word("total", &bill.total)?,
        lines: all(bill.lines, of_line)?,
        unpriced: all(bill.unpriced, of_waiting)?,
    })
}

fn note(note: CreditNote) -> v1::CreditNote {
    v1::CreditNote {
        corrects: note.corrects,
        reason: note.reason,
        tenant: note.tenant,
        currency: text(&note.currency),
        period: Some(period(note.period)),
        payment_term_days: note.payment_term_days.into(),
        total: text(&note.total),
        lines: note.lines.into_iter().map(line).collect(),
        request_id: note.request_id,
        note_kind: note.note_kind.map(|kind| kind.as_str().to_owned()),
    }
}

fn of_note(note: v1::CreditNote) -> Read<CreditNote> {
    Ok(CreditNote {
        corrects: note.corrects,
        reason: note.reason,
        tenant: note.tenant,
        currency: word("currency", &note.currency)?,
        period: of_period(note.period)?,
        payment_term_days: small("payment_term_days", note.payment_term_days)?,
        total: word("total", &note.total)?,
        lines: all(note.lines, of_line)?,
        request_id: note.request_id,
        note_kind: note.note_kind.as_deref().map(of_note_kind).transpose()?,
    })
}

fn of_note_kind(word: &str) -> Read<NoteKind> {
    NoteKind::from_word(word).ok_or(NotUnderstood("note_kind"))
}

fn period(period: Period) -> v1::BillPeriod {
    v1::BillPeriod {
        start: Some(convert::wire_time(period.start)),
        end: Some(convert::wire_time(period.end)),
        first_day: period.first_day,
        last_day: period.last_day,
        time_zone: period.time_zone,
        whole: Some(span(period.whole)),
    }
}

fn of_period(message: Option<v1::BillPeriod>) -> Read<Period> {
    let period = message.ok_or(NotUnderstood("period"))?;
    Ok(Period {
        start: moment("period.start", period.start)?,
        end: moment("period.end", period.end)?,
        first_day: period.first_day,
        last_day: period.last_day,
        time_zone: period.time_zone,
        whole: of_span(period.whole.ok_or(NotUnderstood("period.whole"))?)?,
    })
}

fn span(Span { start, end }: Span) -> v1::TimeSpan {
    let [start, end] = [start, end].map(|moment| Some(convert::wire_time(moment)));
    v1::TimeSpan { start, end }
}

fn of_span(v1::TimeSpan { start, end }: v1::TimeSpan) -> Read<Span> {
    Ok(Span { start: moment("span.start", start)?, end: moment("span.end", end)? })
}

/// A line as a message.
#[must_use]
pub(crate) fn line(line: DocumentLine) -> v1::DocumentLine {
    let price = line.price.map(|PriceRef { catalogue, valid_from }| v1::PriceRef {
        catalogue,
        valid_from: Some(convert::wire_time(valid_from)),
    });
    v1::DocumentLine {
        key: line.key,
        kind: line.kind.as_str().to_owned(),
        name: line.name,
        product_sku: line.product_sku,
        use_unity: line.use_unity,
        dimensions: line.dimensions.map(dimensions),
        by_dimensions: line.by_dimensions.map(by_dimensions),
        model: line.model,
        quantity: line.quantity.as_ref().map(text),
        price,
        contract: line.contract,
        span: line.span.map(span),
        amount: text(&line.amount),
        rounding: line.rounding.as_ref().map(text),
        detail: line.detail.into_iter().map(step::message).collect(),
        line: line.line.map(|place| u32::try_from(place).unwrap_or(u32::MAX)),
        hours: hours(line.hours, line.hours_left_out),
    }
}

/// The line that a message is.
///
/// # Errors
/// When it is not understood.
pub(crate) fn of_line(line: v1::DocumentLine) -> Read<DocumentLine> {
    let price = line.price.map(|v1::PriceRef { catalogue, valid_from }| {
        Ok(PriceRef { catalogue, valid_from: moment("price.valid_from", valid_from)? })
    });
    let (hours, hours_left_out) = of_hours(line.hours)?;
    Ok(DocumentLine {
        key: line.key,
        kind: LineKind::from_word(&line.kind).ok_or(NotUnderstood("line.kind"))?,
        name: line.name,
        product_sku: line.product_sku,
        use_unity: line.use_unity,
        dimensions: line.dimensions.map(pairs),
        by_dimensions: line.by_dimensions.map(of_by_dimensions).transpose()?,
        model: line.model,
        quantity: of_optional("line.quantity", line.quantity.as_deref())?,
        price: price.transpose()?,
        contract: line.contract,
        span: line.span.map(of_span).transpose()?,
        amount: word("line.amount", &line.amount)?,
        rounding: of_optional("line.rounding", line.rounding.as_deref())?,
        detail: all(line.detail, step::of_message)?,
        line: line.line.map(|place| small("line.line", place)).transpose()?,
        hours,
        hours_left_out,
    })
}

fn by_dimensions(detail: ByDimensions) -> v1::ByDimensions {
    let listed = detail.listed.into_iter().map(|of| v1::QuantityOf {
        dimensions: Some(dimensions(of.dimensions)),
        quantity: text(&of.quantity),
    });
    v1::ByDimensions {
        listed: listed.collect(),
        more: detail.more.as_ref().map(text),
        more_quantity: detail.more_quantity.as_ref().map(text),
    }
}

fn of_by_dimensions(message: v1::ByDimensions) -> Read<ByDimensions> {
    let listed = |of: v1::QuantityOf| {
        let dimensions = pairs(of.dimensions.ok_or(NotUnderstood("by_dimensions.dimensions"))?);
        Ok(QuantityOf { dimensions, quantity: word("by_dimensions.quantity", &of.quantity)? })
    };
    Ok(ByDimensions {
        listed: all(message.listed, listed)?,
        more: of_optional("by_dimensions.more", message.more.as_deref())?,
        more_quantity: of_optional(
            "by_dimensions.more_quantity",
            message.more_quantity.as_deref(),
        )?,
    })
}

fn waiting(waiting: Waiting) -> v1::UnpricedUsage {
    v1::UnpricedUsage {
        product_sku: waiting.product_sku,
        use_unity: waiting.use_unity,
        dimensions: Some(dimensions(waiting.dimensions)),
        quantity: text(&waiting.quantity),
        count: text(&waiting.count),
        reason: waiting.reason,
        remedy: waiting.remedy,
        hours: hours(waiting.hours, waiting.hours_left_out),
    }
}

fn of_waiting(waiting: v1::UnpricedUsage) -> Read<Waiting> {
    let (hours, hours_left_out) = of_hours(waiting.hours)?;
    Ok(Waiting {
        product_sku: waiting.product_sku,
        use_unity: waiting.use_unity,
        dimensions: pairs(waiting.dimensions.unwrap_or_default()),
        quantity: word("unpriced.quantity", &waiting.quantity)?,
        count: word("unpriced.count", &waiting.count)?,
        reason: waiting.reason,
        remedy: waiting.remedy,
        hours,
        hours_left_out,
    })
}

fn hours(listed: Option<Vec<Hour>>, left_out: Option<u64>) -> Option<v1::LineHours> {
    let hours = listed?.into_iter().map(hour).collect();
    Some(v1::LineHours { hours, left_out: left_out.unwrap_or_default() })
}

fn of_hours(message: Option<v1::LineHours>) -> Read<(Option<Vec<Hour>>, Option<u64>)> {
    let Some(v1::LineHours { hours, left_out }) = message else { return Ok((None, None)) };
    Ok((Some(all(hours, of_hour)?), Some(left_out).filter(|count| *count > 0)))
}

/// An hour as a message.
#[must_use]
pub(crate) fn hour(hour: Hour) -> v1::UsageHour {
    v1::UsageHour {
        window_start: Some(convert::wire_time(hour.window_start)),
        count: text(&hour.count),
        sum: text(&hour.sum),
        segments: hour.segments.into_iter().map(segment).collect(),
    }
}

/// The hour that a message is.
///
/// # Errors
/// When it is not understood.
pub(crate) fn of_hour(hour: v1::UsageHour) -> Read<Hour> {
    Ok(Hour {
        window_start: moment("hour.window_start", hour.window_start)?,
        count: word("hour.count", &hour.count)?,
        sum: word("hour.sum", &hour.sum)?,
        segments: all(hour.segments, of_segment)?,
    })
}

fn segment(segment: SegmentRef) -> v1::SegmentRef {
    let left_out = segment.pulses_left_out.unwrap_or_default();
    let listed = segment.pulses.map(|pulses| v1::SegmentPulses {
        pulses: pulses.into_iter().map(pulse).collect(),
        left_out,
    });
    v1::SegmentRef {
        log_id: segment.log_id.0.to_vec(),
        partition: segment.partition.into(),
        epoch: segment.epoch.into(),
        segment_start: segment.segment_start,
        offset_last: segment.offset_last,
        in_log: segment.in_log,
        pulses: listed,
    }
}

fn of_segment(segment: v1::SegmentRef) -> Read<SegmentRef> {
    let log_id = <[u8; 16]>::try_from(segment.log_id.as_slice());
    let left_out = segment.pulses.as_ref().map(|pulses| pulses.left_out);
    let pulses = segment.pulses.map(|listed| all(listed.pulses, of_pulse));
    Ok(SegmentRef {
        log_id: LogId(log_id.map_err(|_| NotUnderstood("segment.log_id"))?),
        partition: small("segment.partition", segment.partition)?,
        epoch: small("segment.epoch", segment.epoch)?,
        segment_start: segment.segment_start,
        offset_last: segment.offset_last,
        in_log: segment.in_log,
        pulses: pulses.transpose()?,
        pulses_left_out: left_out.filter(|count| *count > 0),
    })
}

fn pulse(pulse: PulseRef) -> v1::PulseRef {
    v1::PulseRef {
        offset: pulse.offset,
        index: pulse.index,
        time: Some(convert::wire_time(pulse.time)),
        amount: text(&pulse.amount),
        request_id: pulse.request_id,
        source: pulse.source,
        id: pulse.id,
        producer_id: pulse.producer_id,
        sequence: pulse.sequence,
        backfill: pulse.backfill,
        row: pulse.row,
    }
}

fn of_pulse(pulse: v1::PulseRef) -> Read<PulseRef> {
    Ok(PulseRef {
        offset: pulse.offset,
        index: pulse.index,
        time: moment("pulse.time", pulse.time)?,
        amount: word("pulse.amount", &pulse.amount)?,
        request_id: pulse.request_id,
        source: pulse.source,
        id: pulse.id,
        producer_id: pulse.producer_id,
        sequence: pulse.sequence,
        backfill: pulse.backfill,
        row: pulse.row,
    })
}

fn dimensions(Pairs(pairs): Pairs) -> v1::Dimensions {
    let pair = |(name, value)| v1::dimensions::Pair { name, value };
    v1::Dimensions { pairs: pairs.into_iter().map(pair).collect() }
}

fn pairs(v1::Dimensions { pairs }: v1::Dimensions) -> Pairs {
    Pairs(pairs.into_iter().map(|pair| (pair.name, pair.value)).collect())
}

fn text<T: Word>(word: &T) -> String {
    word.shown().to_string()
}

/// Reads a field that is a word.
pub(crate) fn word<T: Word>(field: &'static str, text: &str) -> Read<T> {
    T::read(text).ok_or(NotUnderstood(field))
}

fn of_optional<T: Word>(field: &'static str, text: Option<&str>) -> Read<Option<T>> {
    text.map(|text| word(field, text)).transpose()
}

pub(crate) fn moment(field: &'static str, time: Option<prost_types::Timestamp>) -> Read<Timestamp> {
    time.as_ref().and_then(convert::timestamp).ok_or(NotUnderstood(field))
}

fn small<T: TryFrom<u32>>(field: &'static str, number: u32) -> Read<T> {
    T::try_from(number).map_err(|_| NotUnderstood(field))
}

fn all<M, T>(messages: Vec<M>, read: impl Fn(M) -> Read<T>) -> Read<Vec<T>> {
    messages.into_iter().map(read).collect()
}

#[cfg(test)]
mod tests;
