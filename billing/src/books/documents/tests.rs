//! Documents that a later version wrote, or that were damaged.

use domain::Timestamp;
use pricing::Amount;
use storage::memory::MemoryBillingStore;

use super::*;
use crate::books::document::Draft;

/// An invoice, as golden texts have it.
fn text() -> &'static str {
    let texts = include_str!("../../../../pricing/tests/documents/everything_on_one_invoice.jsonl");
    texts.lines().next().unwrap()
}

/// A document of which this is stored.
async fn stored(text: &str) -> (Documents<MemoryBillingStore>, Document) {
    let store = Arc::new(MemoryBillingStore::new());
    let content = journal::put_content(&*store, text.as_bytes()).await.unwrap();
    let draft = Draft {
        run: 1,
        kind: Kind::Invoice,
        start: Timestamp::MIN,
        end: Timestamp::MAX,
        time_zone: "UTC".to_owned(),
        currency: "BRL".to_owned(),
        total: Amount::ZERO,
        content,
        corrects: Vec::new(),
        counts: Vec::new(),
        request_id: None,
    };
    (Documents::new(store, Compute::default()), Document::drafted(0, draft))
}

#[tokio::test]
async fn a_document_of_a_later_version_is_passed_on_whole_and_not_reckoned_with() {
    let newer = text().replacen("\"contract\":", "\"colour\":\"red\",\"contract\":", 1);
    assert_ne!(newer, text());
    let (documents, document) = stored(&newer).await;
    assert_eq!(documents.stored(&document).await.unwrap().get(), newer);
    for error in [
        documents.content(&document).await.unwrap_err(),
        documents.billed(std::slice::from_ref(&document)).await.unwrap_err(),
    ] {
        let error = error.to_string();
        assert!(error.contains(&document.draft.content), "{error}");
        assert!(error.contains("use the version that wrote it or a later one"), "{error}");
    }
}

#[tokio::test]
async fn a_damaged_document_says_where_and_what_was_expected() {
    for (from, to, expected) in [
        ("\"total\":\"315.00\"", "\"total\":315.00", "expected an amount such as \"50.00\""),
        ("\"total\":\"315.00\"", "\"total\":\"0315.00\"", "writes it otherwise"),
        ("\"total\":\"315.00\",", "", "missing field `total`"),
    ] {
        assert!(text().contains(from), "{from}");
        let (documents, document) = stored(&text().replacen(from, to, 1)).await;
        let error = documents.content(&document).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains(&document.draft.content), "{error}");
    }
    let (documents, document) = stored(text()).await;
    assert_eq!(documents.content(&document).await.unwrap().total().to_string(), "315.00");
}
