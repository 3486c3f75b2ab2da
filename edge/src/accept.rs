//! Which media type an answer has: RFC 9110, section 12.5.1.

use crate::problem::{Problem, reasons};
use axum::http::{HeaderMap, header};
use tonic::Code;

/// Media type of JSON answers.
pub const JSON: &str = "application/json";
/// Media type of CSV answers.
pub const CSV: &str = "text/csv";

/// Chooses among the media types on offer, best first: the one that the client weighs highest, the
/// earlier where it does not care. Without an `Accept` header, the first.
pub fn choose(headers: &HeaderMap, offers: &[&'static str]) -> Result<&'static str, Problem> {
    let ranges: Vec<Range> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(Range::parse)
        .collect();
    if ranges.is_empty() {
        return Ok(offers[0]);
    }
    let mut best = None;
    for offer in offers {
        let weight = weight_of(offer, &ranges);
        if weight > best.map_or(0, |(weight, _)| weight) {
            best = Some((weight, *offer));
        }
    }
    best.map(|(_, offer)| offer).ok_or_else(|| {
        let message = format!("this answer exists as {} only; accept that", offers.join(" or "));
        Problem::new(Code::InvalidArgument, reasons::NOT_ACCEPTABLE, message)
    })
}

/// One range of an `Accept` header, with its weight in thousandths.
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    weight: u16,
}

impl<'a> Range<'a> {
    /// Reads `text/csv;q=0.5`, or `None` for what is no media range.
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let quality = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        Some(Self { kind, subtype, weight: quality.map_or(Some(1_000), thousandths)? })
    }

    /// How closely the range names the type: 3 exactly, 2 by its kind, 1 as any, 0 not at all.
    fn closeness(&self, kind: &str, subtype: &str) -> u8 {
        match (self.kind, self.subtype) {
            ("*", "*") => 1,
            (range, "*") if range.eq_ignore_ascii_case(kind) => 2,
            (range, sub)
                if range.eq_ignore_ascii_case(kind) && sub.eq_ignore_ascii_case(subtype) =>
            {
                3
            }
            _ => 0,
        }
    }
}

/// The weight that the closest range gives an offer.
fn weight_of(offer: &str, ranges: &[Range<'_>]) -> u16 {
    let (kind, subtype) = offer.split_once('/').expect("offers are media types");
    let closest = ranges.iter().map(|range| (range.closeness(kind, subtype), range.weight)).max();
    closest.map_or(0, |(closeness, weight)| if closeness == 0 { 0 } else { weight })
}

/// Reads a quality, `0` to `1` with at most three decimals, without a float.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction: u16 = format!("{fraction:0<3}").parse().ok()?;
    match whole {
        "0" => Some(fraction),
        "1" if fraction == 0 => Some(1_000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_heaviest_offer_wins_and_the_earlier_of_equals() {
        for (accept, expected) in [
            ("", Some(JSON)),
            ("*/*", Some(JSON)),
            ("application/json", Some(JSON)),
            ("text/csv", Some(CSV)),
            ("TEXT/CSV", Some(CSV)),
            ("text/*", Some(CSV)),
            ("text/csv;q=0.5, application/json;q=0.4", Some(CSV)),
            ("text/csv; q=0.4, application/json; q=0.5", Some(JSON)),
            ("text/csv;q=0, */*", Some(JSON)),
            ("application/json;q=0, */*;q=0.1", Some(CSV)),
            ("text/html, application/xhtml+xml, */*;q=0.8", Some(JSON)),
            ("text/html", None),
            ("text/csv;q=0", None),
            ("application/vnd.apache.parquet", None),
            ("nonsense", Some(JSON)),
        ] {
            let mut headers = HeaderMap::new();
            if !accept.is_empty() {
                headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            }
            assert_eq!(choose(&headers, &[JSON, CSV]).ok(), expected, "{accept:?}");
        }
    }
}
