//! What a page says, and that no text of an invoice can become a part of its form.

use pricing::document::InvoiceDocument;
use serde_json::json;

use super::*;
use crate::answers::invoice::{DocumentContent, InvoiceHeadAnswer, PaymentAnswer};

fn invoice(customer: &str) -> InvoiceAnswer {
    let (start, end) = ("2024-08-31T22:00:00Z", "2024-09-30T22:00:00Z");
    let document = json!({
        "document": "invoice", "tenant": customer, "currency": "EUR",
        "period": {"start": start, "end": end, "first_day": "2024-09-01", "last_day": "2024-09-30",
                   "time_zone": "Europe/Berlin", "whole": {"start": start, "end": end}},
        "payment_term_days": 14, "contracts": [],
        "subtotals": {"usage": "64.85", "discount": "0", "commitment": "0", "tax": "12.32"},
        "total": "77.17",
        "lines": [
            {"key": "1", "kind": "usage",
             "product_sku": "vm", "name": "Virtual machine", "use_unity": "hour", "quantity": "720.5",
             "amount": "64.85", "dimensions": {"region": "a<b"},
             "detail": [{"step": "free_units", "used": "72", "quantity": "648.5"},
                        {"step": "units", "quantity": "648.5", "unit_price": "0.10", "amount": "64.85"},
                        {"step": "flat", "amount": "64.85"}]},
            {"key": "2", "kind": "tax", "name": "vat", "quantity": "0", "amount": "12.32",
             "detail": [{"step": "tax", "rate": "0.19", "base": "64.85", "amount": "12.3215"}]},
        ],
        "unpriced": [{"product_sku": "new", "use_unity": "u", "dimensions": {}, "quantity": "1",
                      "count": "1", "reason": "unknown_sku", "remedy": ""}],
    });
    let document: InvoiceDocument = serde_json::from_value(document).unwrap();
    let payment = PaymentAnswer { credit: "welcome".to_owned(), amount: "7.17".to_owned() };
    let head = InvoiceHeadAnswer {
        number: "INV-000042".to_owned(),
        kind: "invoice".to_owned(),
        state: "final".to_owned(),
        tenant: customer.to_owned(),
        currency: "EUR".to_owned(),
        total: "77.17".to_owned(),
        paid: "7.17".to_owned(),
        due: "70.00".to_owned(),
        due_before_void: None,
        period_start: None,
        period_end: None,
        first_day: String::new(),
        last_day: String::new(),
        time_zone: String::new(),
        issued_at: "2024-10-01T00:00:05Z".parse().ok(),
        run: 1,
        payments: vec![payment],
        void_reason: String::new(),
        digest: "d1".to_owned(),
    };
    InvoiceAnswer { head, content: Some(document.into()) }
}

fn content(invoice: &mut InvoiceAnswer) -> &mut DocumentContent {
    invoice.content.as_mut().unwrap()
}

#[test]
fn a_page_says_who_owes_what_for_which_usage() {
    let page = html(&invoice("acme"));
    for part in [
        "<h1>Invoice INV-000042</h1>",
        "<dt>Customer</dt><dd>acme</dd>",
        "2024-09-01 to 2024-09-30 (Europe/Berlin)",
        "Virtual machine<br><small>vm</small>",
        "region: a&lt;b<br>72 free<br>648.5 × 0.1</td>",
        "720.5 hour</td><td class=\"n\">64.85</td>",
        "<td>vat</td><td>0.19 of 64.85</td><td class=\"n\"></td>",
        "Prepaid credit welcome</th><td class=\"n\">-7.17 EUR",
        "Due</th><td class=\"n\">70.00 EUR",
        "One resource has no price yet",
        "<footer>Document d1</footer>",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
}

#[test]
fn a_line_of_several_resources_says_which_below_it() {
    let mut invoice = invoice("acme");
    let lines = json!([
        {"key": "1", "kind": "usage", "product_sku": "disk", "use_unity": "GB", "quantity": "303",
         "amount": "15.161", "dimensions": {},
         "by_dimensions": {
             "listed": [{"dimensions": {"bucket": "a", "zone": "1"}, "quantity": "100"},
                        {"dimensions": {"bucket": "b", "zone": "1"}, "quantity": "200"}],
             "more": "2", "more_quantity": "3"},
         "detail": [{"step": "meter", "meter": "latest", "quantity": "303", "resources": "4"},
                    {"step": "units", "quantity": "303", "unit_price": "0.10", "amount": "30.3"},
                    {"step": "days", "days": 15, "of": 30, "amount": "-15.15"}]},
        {"key": "2", "kind": "usage", "product_sku": "sms", "use_unity": "m", "quantity": "-5",
         "amount": "0", "dimensions": {}, "detail": [{"step": "below_zero", "quantity": "-5"}]},
        {"key": "rounding", "kind": "rounding", "amount": "-0.001", "detail": []},
    ]);
    content(&mut invoice).lines = serde_json::from_value(lines).unwrap();
    let page = html(&invoice);
    for part in [
        "<td>4 resources together<br>303 × 0.1<br>15 of 30 days<br>bucket: a, zone: 1: 100<br>\
         bucket: b, zone: 1: 200<br>2 more: 3</td><td class=\"n\">303 GB</td>",
        "<td>-5 belongs to another period</td>",
        "<tr><td>Rounding</td><td></td><td class=\"n\"></td><td class=\"n\">-0.001</td></tr>",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
}

#[test]
fn a_void_invoice_and_a_credit_note_say_so() {
    let mut void = invoice("acme");
    void.head.state = "void".to_owned();
    void.head.void_reason = "sent twice".to_owned();
    (void.head.due, void.head.due_before_void) = ("0.00".to_owned(), Some("70.00".to_owned()));
    let page = html(&void);
    for part in [
        "<p class=\"void\">Void: sent twice</p>",
        "Due until it was void</th><td class=\"n\">70.00 EUR",
        "Due</th><td class=\"n\">0.00 EUR",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    let mut note = invoice("acme");
    content(&mut note).document = "credit_note".to_owned();
    content(&mut note).corrects = Some("INV-000007".to_owned());
    content(&mut note).reason = Some("service level missed".to_owned());
    note.head.payments[0].amount = "-7.17".to_owned();
    note.head.due = "-3.00".to_owned();
    let note = html(&note);
    assert!(note.contains("Back to prepaid credit welcome</th><td class=\"n\">7.17 EUR"), "{note}");
    assert!(note.contains("Due to the customer</th><td class=\"n\">3.00 EUR"), "{note}");
    assert!(note.contains("<h1>Credit note INV-000042</h1>"), "{note}");
    assert!(note.contains("<p>Of INV-000007: service level missed</p>"), "{note}");
}

#[test]
fn no_text_becomes_markup() {
    let page = html(&invoice("<script>alert('\"&')</script>"));
    assert!(page.contains("&lt;script&gt;alert(&#39;&quot;&amp;&#39;)&lt;/script&gt;"), "{page}");
    assert!(!page.contains("<script"));
}

#[cfg(not(feature = "pdf"))]
#[test]
fn a_program_without_pdf_says_how_to_get_it() {
    let error = pdf(&invoice("acme")).unwrap_err().to_string();
    assert!(error.contains("--features billing/pdf"), "{error}");
}

#[cfg(feature = "pdf")]
mod pdf {
    use typst::layout::{Abs, Frame, FrameItem};

    use super::super::{pdf, pdf::typeset};
    use super::*;

    #[test]
    fn the_same_invoice_gives_the_same_bytes_in_any_alphabet_of_the_fonts() {
        // What means something in the template's language is text in an invoice.
        let invoice = invoice("#panic() *Ação* Ωμέγα Счёт \"]$_\\");
        let first = pdf(&invoice).unwrap();
        assert!(first.starts_with(b"%PDF-1.7") && first.ends_with(b"%%EOF"));
        assert_eq!(first, pdf(&invoice).unwrap());
        let other = self::invoice("acme");
        assert_ne!(first, pdf(&other).unwrap());
    }

    #[test]
    fn what_cannot_be_typeset_is_an_error_that_says_what() {
        let error = pdf(&invoice("東京")).unwrap_err().to_string();
        assert!(error.contains("東"), "{error}");
        let mut draft = invoice("acme");
        draft.head.issued_at = None;
        let error = pdf(&draft).unwrap_err().to_string();
        assert!(error.contains("was not issued"), "{error}");
    }

    /// How far to the right a text goes.
    fn right_edge(frame: &Frame) -> Abs {
        let edges = frame.items().map(|(place, item)| {
            place.x
                + match item {
                    FrameItem::Group(group) => right_edge(&group.frame),
                    FrameItem::Text(text) => text.width(),
                    _ => Abs::zero(),
                }
        });
        edges.fold(Abs::zero(), Abs::max)
    }

    #[test]
    fn a_name_without_spaces_stays_on_the_page() {
        let mut long = invoice(&"W".repeat(128));
        content(&mut long).lines[0].name = Some("standard_".repeat(14));
        let document = typeset(&long).unwrap();
        let edge = right_edge(&document.pages()[0].frame).to_pt();
        // A4 is 595 points wide, of which the margin takes 51.
        assert!((500.0..=545.0).contains(&edge), "{edge}");
    }

    #[test]
    fn a_long_invoice_goes_on_over_pages() {
        let pages = |invoice: &InvoiceAnswer| typeset(invoice).unwrap().pages().len();
        let mut long = invoice("acme");
        assert_eq!(pages(&long), 1);
        let line = content(&mut long).lines[0].clone();
        content(&mut long).lines = vec![line; 200];
        assert!(pages(&long) > 5);
    }
}
