//! Golden bytes: what is stored, published and shown of every golden invoice, and of what corrects it.
//!
//! Digests stand over stored documents, so their bytes may never change. `documents/digests.txt` has a
//! digest for each document of each case, and `documents/everything_on_one_invoice.jsonl` the text of
//! one of each kind. `PULSO_TEST_WRITE_DOCS=1` writes both anew, which is right for a new case only.

use std::{fmt::Write as _, fs, path::PathBuf};

use super::{Case, cases};
use domain::UsageRow;
use pricing::{
    Amount,
    document::{InvoiceDocument, NoteKind},
    invoice::{
        Invoice,
        document::{self, Billed},
    },
    timeline::Month,
};

/// The case whose documents are kept as text.
const SHOWN: &str = "everything_on_one_invoice";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/documents")
}

/// The invoices of a case by some of its usage.
fn bills(case: &Case, usage: &[UsageRow]) -> Vec<Invoice> {
    let mut months: Vec<Month> =
        case.invoices.iter().map(|(month, _)| month.parse().unwrap()).collect();
    months.dedup();
    months.into_iter().flat_map(|month| case.invoices(month, usage)).collect()
}

/// The text of a document, which is read as the same and written again as the same bytes.
fn text(document: &InvoiceDocument) -> String {
    let text = serde_json::to_string(document).unwrap();
    let read: InvoiceDocument = serde_json::from_str(&text).unwrap();
    assert_eq!((&read, &serde_json::to_string(&read).unwrap()), (document, &text));
    text
}

/// The documents of a period of which a half of the usage came too late: kinds and texts.
fn documents(half: &Invoice, all: &Invoice) -> Vec<(&'static str, String)> {
    let first = document::invoice(half);
    let mut texts = vec![
        ("invoice", text(&first)),
        ("preview", text(&document::preview(all, &mut 5))),
        ("whole preview", text(&document::preview(all, &mut 1_000))),
    ];
    let mut billed = Billed::default();
    billed.add(&first).unwrap();
    let reversal = document::reversal(&first, &billed);
    texts.extend(reversal.map(|reversal| ("reversal", text(&reversal))));
    if let Some(delta) = document::delta(all, &billed) {
        billed.add(&delta).unwrap();
        texts.push(("delta", text(&delta)));
        let reversal = document::reversal(&delta, &billed);
        texts.extend(reversal.map(|reversal| ("reversal of both", text(&reversal))));
        let nothing = Invoice { lines: Vec::new(), ..all.clone() };
        let back = document::delta(&nothing, &billed);
        texts.extend(back.map(|back| ("delta to nothing", text(&back))));
    }
    let lines = (0..half.lines.len()).map(|place| (Some(place), Amount::whole(1)));
    let credited: Vec<_> = lines.chain([(None, Amount::whole(2))]).collect();
    for (kind, counts, request_id) in [
        ("credit note", NoteKind::Goodwill, ""),
        ("credit note by id", NoteKind::Correction, "ticket-7"),
    ] {
        let why = (counts, "late \"again\"", request_id);
        let note = document::credit_note(("INV-000007", &first), &credited, why).unwrap();
        texts.push((kind, text(&note)));
    }
    texts
}

fn check(file: &str, now: &str) {
    let path = folder().join(file);
    if std::env::var_os("PULSO_TEST_WRITE_DOCS").is_some() {
        fs::write(&path, now).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    for (line, (kept, now)) in (1..).zip(kept.lines().zip(now.lines())) {
        assert_eq!(kept, now, "{file}, line {line}: the bytes of a document changed");
    }
    assert_eq!(kept.lines().count(), now.lines().count(), "{file}");
}

#[test]
fn documents_keep_their_bytes() {
    let (mut digests, mut shown) = (String::new(), String::new());
    for case in &cases() {
        let some: Vec<UsageRow> = case.usage.iter().step_by(2).cloned().collect();
        let pairs = bills(case, &some).into_iter().zip(bills(case, &case.usage));
        for (place, (half, all)) in pairs.enumerate() {
            for (kind, text) in documents(&half, &all) {
                let digest = domain::hash::bytes128(0, text.as_bytes());
                writeln!(digests, "{digest:032x} {} {place} {kind}", case.name).unwrap();
                if case.name == SHOWN {
                    writeln!(shown, "{text}").unwrap();
                }
            }
        }
    }
    check(&format!("{SHOWN}.jsonl"), &shown);
    check("digests.txt", &digests);
}
