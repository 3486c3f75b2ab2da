//! Documents are read as they are written, and what is none says so.

use super::*;

/// One document of each kind, as golden texts have them.
const TEXTS: &str = include_str!("../../tests/documents/everything_on_one_invoice.jsonl");

#[test]
fn every_kind_is_written_again_as_it_was_read() {
    let mut kinds = BTreeSet::new();
    for text in TEXTS.lines() {
        let document: InvoiceDocument = serde_json::from_str(text).unwrap();
        kinds.insert(document.kind());
        assert_eq!(serde_json::to_string(&document).unwrap(), text);
    }
    assert_eq!(kinds.len(), 5, "{kinds:?}");
}

#[test]
fn a_key_that_is_not_known_is_passed_over_and_found_by_writing_again() {
    let text = TEXTS.lines().next().unwrap();
    let newer = text.replacen("\"tenant\":", "\"colour\":\"red\",\"tenant\":", 1);
    let document: InvoiceDocument = serde_json::from_str(&newer).unwrap();
    assert_eq!(serde_json::to_string(&document).unwrap(), text);
    assert_ne!(text, newer);
}

#[test]
fn what_is_no_document_says_what_is_wrong() {
    let text = TEXTS.lines().next().unwrap();
    for (from, to, error) in [
        ("\"document\":\"invoice\",", "", "the first key is not `document`"),
        ("\"document\":\"invoice\"", "\"document\":\"receipt\"", "unknown variant `receipt`"),
        ("\"tenant\":\"acme\",", "", "missing field `tenant`"),
        ("\"currency\":\"BRL\"", "\"currency\":\"BRX\"", "a currency of ISO 4217"),
        ("\"step\":\"meter\"", "\"step\":\"guess\"", "unknown variant `guess`"),
        ("\"kind\":\"usage\"", "\"kind\":\"gift\"", "unknown variant `gift`"),
    ] {
        assert!(text.contains(from), "{from} is not in {text}");
        let damaged = text.replacen(from, to, 1);
        let found = serde_json::from_str::<InvoiceDocument>(&damaged).unwrap_err().to_string();
        assert!(found.contains(error), "{found}");
    }
}
