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
    (of(store, DocumentLimits::default()), Document::drafted(0, draft))
}

fn of(store: Arc<MemoryBillingStore>, limits: DocumentLimits) -> Documents<MemoryBillingStore> {
    Documents::new(store, Compute::default(), limits)
}

/// The same document where so many bytes may be sent whole.
async fn within(text: &str, inline_bytes_max: usize) -> (Documents<MemoryBillingStore>, Document) {
    let (documents, document) = stored(text).await;
    let limits = DocumentLimits { inline_bytes_max, ..DocumentLimits::default() };
    (of(documents.store, limits), Document { number: Some(42), ..document })
}

#[tokio::test]
async fn a_document_is_sent_whole_up_to_the_bound_and_beyond_it_without_its_lists() {
    let pool = Compute::default();
    let (documents, document) = within(text(), text().len()).await;
    let announced = documents.stored(&document).await.unwrap();
    assert_eq!((announced.document.get(), announced.left_out), (text(), None));
    let (shown, left_out) = documents.shown(&pool, &document).await.unwrap();
    assert_eq!((journal::bytes(&shown), left_out), (text().as_bytes().to_vec(), None));

    let newer = text().replacen("\"tenant\":", "\"colour\":\"red\",\"tenant\":", 1);
    let (documents, document) = within(&newer, newer.len() - 1).await;
    let left_out = LeftOut {
        lines: shown.lines().len() as u64,
        unpriced: shown.unpriced().len() as u64,
        bytes: newer.len() as u64,
        at: Some("/v1/invoices/INV-000042/lines".to_owned()),
    };
    let announced = documents.stored(&document).await.unwrap();
    assert_eq!(announced.left_out, Some(left_out.clone()));
    let announced: Map<String, Value> = serde_json::from_str(announced.document.get()).unwrap();
    let stored: Map<String, Value> = serde_json::from_str(&newer).unwrap();
    let is_list = |key: &String| ["lines", "unpriced"].contains(&key.as_str());
    let rest: Map<String, Value> = stored.into_iter().filter(|(key, _)| !is_list(key)).collect();
    let texts = [announced, rest].map(|keys| Value::Object(keys).to_string());
    assert_eq!(
        texts[0], texts[1],
        "the keys of the stored text, in their order, but for the lists"
    );
    let (head, told) = documents.shown(&pool, &document).await.unwrap();
    assert_eq!((head.lines(), head.unpriced(), told), (&[][..], &[][..], Some(left_out)));
    assert_eq!(head.total(), shown.total());
}

#[tokio::test]
async fn a_document_of_more_lines_than_the_bound_is_not_stored() {
    let waiting = r#""unpriced":[{"product_sku":"new","use_unity":"u","dimensions":{},"quantity":"1","count":"1","reason":"unknown_sku","remedy":""}]"#;
    let text = text().replacen("\"unpriced\":[]", waiting, 1);
    let document: InvoiceDocument = serde_json::from_str(&text).unwrap();
    let entries = document.lines().len() + document.unpriced().len();
    assert!(entries > document.lines().len() && !document.lines().is_empty());
    let store = Arc::new(MemoryBillingStore::new());
    let limited = |lines_max| {
        of(Arc::clone(&store), DocumentLimits { lines_max, ..DocumentLimits::default() })
    };
    let refused = limited(entries - 1).put(&document).await.unwrap_err();
    let BillingError::Refused { reason: Refusal::TooLarge, message } = refused else {
        panic!("{refused}")
    };
    for part in [
        format!("{entries} lines, and {} are the most", entries - 1),
        "billing.document_lines_max".to_owned(),
        document.tenant().to_owned(),
        document.period().first_day.clone(),
    ] {
        assert!(message.contains(&part), "{message}");
    }
    let digest = journal::digest(text.as_bytes());
    assert!(kept::find(&*store, &digest).await.is_err(), "nothing was stored");
    assert_eq!(limited(entries).put(&document).await.unwrap(), digest);
}

#[tokio::test]
async fn a_document_of_a_later_version_is_passed_on_whole_and_not_reckoned_with() {
    let newer = text().replacen("\"contract\":", "\"colour\":\"red\",\"contract\":", 1);
    assert_ne!(newer, text());
    let (documents, document) = stored(&newer).await;
    assert_eq!(documents.stored(&document).await.unwrap().document.get(), newer);
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
