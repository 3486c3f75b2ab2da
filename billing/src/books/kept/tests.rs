//! Documents of any size: what is stored, that it is read back to the byte, and what a process that dies
//! in between leaves.

use edge::Compute;
use pricing::{
    Amount,
    amount::Money,
    document::{DocumentLine, LineKind, Waiting},
    words::Pairs,
};
use storage::memory::{EntryFault, MemoryBillingStore};

use super::*;
use crate::books::{entries, understood};

/// An invoice, as golden texts have it.
fn golden() -> Bill {
    let texts = include_str!("../../../../pricing/tests/documents/everything_on_one_invoice.jsonl");
    let InvoiceDocument::Invoice(bill) =
        serde_json::from_str(texts.lines().next().unwrap()).unwrap()
    else {
        panic!("it is an invoice")
    };
    bill
}

fn line(place: usize, bytes: usize) -> DocumentLine {
    let key = format!("{place} \",\"lines\":[]{}", "k".repeat(bytes));
    DocumentLine::new(key, LineKind::Usage, Money::new(Amount::whole(1), 2))
}

fn waiting(place: usize, bytes: usize) -> Waiting {
    Waiting {
        product_sku: format!("sku {place}"),
        use_unity: "u".to_owned(),
        dimensions: Pairs(vec![("res".to_owned(), "r".repeat(bytes))]),
        quantity: Amount::whole(1),
        count: 1,
        reason: "unknown_sku".to_owned(),
        remedy: String::new(),
        hours: None,
        hours_left_out: None,
    }
}

/// An invoice of so many lines and resources without a price, of about so many bytes each.
fn bill(lines: usize, unpriced: usize, bytes: usize) -> InvoiceDocument {
    InvoiceDocument::Invoice(Bill {
        lines: (0..lines).map(|place| line(place, bytes)).collect(),
        unpriced: (0..unpriced).map(|place| waiting(place, bytes)).collect(),
        ..golden()
    })
}

fn note(lines: usize, bytes: usize) -> InvoiceDocument {
    let bill = golden();
    InvoiceDocument::CreditNote(CreditNote {
        corrects: "INV-000001".to_owned(),
        reason: "\",\"lines\":[] \",\"unpriced\":[]".to_owned(),
        tenant: bill.tenant,
        currency: bill.currency,
        period: bill.period,
        payment_term_days: bill.payment_term_days,
        total: bill.total,
        lines: (0..lines).map(|place| line(place, bytes)).collect(),
        request_id: Some("r".to_owned()),
        note_kind: None,
    })
}

/// Documents with an edge each: nothing, one entry, entries of just a part, entries longer than that.
fn documents() -> Vec<InvoiceDocument> {
    vec![
        InvoiceDocument::Invoice(golden()),
        bill(0, 0, 0),
        bill(3, 2, PART_BYTES / 2),
        bill(5_000, 0, 400),
        bill(0, 5_000, 400),
        bill(5_000, 5_000, 400),
        bill(1, 1, PART_BYTES),
        bill(2, 0, 5 * PART_BYTES),
        note(5_000, 400),
    ]
}

async fn all_of(store: &MemoryBillingStore, journal: &str) -> Vec<Vec<u8>> {
    store.entries(journal, 0, usize::MAX).await.unwrap()
}

#[tokio::test]
async fn a_document_of_any_size_is_read_back_to_the_byte() {
    for document in documents() {
        let (store, pool) = (MemoryBillingStore::new(), Compute::default());
        let written = journal::bytes(&document);
        let digest = put(&store, &document).await.unwrap();
        assert_eq!(digest, journal::digest(&written), "the digest is that of the text");
        let kept = find(&store, &digest).await.unwrap();
        assert_eq!(kept.bytes(), written.len() as u64);
        let is_whole = matches!(kept, Kept::Whole(_));
        assert_eq!(is_whole, written.len() <= PART_BYTES, "{} bytes", written.len());
        let (frame, counts) = kept.frame().unwrap();
        assert_eq!(frame.into_bytes(), journal::bytes(&without_lists(&document)));
        assert_eq!(counts, [document.lines().len(), document.unpriced().len()].map(|n| n as u64));
        assert_eq!(text(&store, &digest, kept).await.unwrap(), written);
        let read = understood::document(&store, &pool, &digest).await.unwrap().unwrap();
        assert!(read == document);
    }
}

#[tokio::test]
async fn pages_of_any_size_give_every_entry_once_and_in_order() {
    for document in documents() {
        let (store, pool) = (MemoryBillingStore::new(), Compute::default());
        let digest = put(&store, &document).await.unwrap();
        for limit in [1_000, 7_777] {
            let (mut lines, mut unpriced, mut from) = (Vec::new(), Vec::new(), Some(0));
            while let Some(place) = from {
                let kept = find(&store, &digest).await.unwrap();
                let page = entries::page((&store, &pool), kept, place, limit).await.unwrap();
                let page = page.unwrap();
                let count = page.lines.len() + page.unpriced.len();
                let bytes =
                    journal::bytes(&page.lines).len() + journal::bytes(&page.unpriced).len();
                assert!(count <= limit && (count == 1 || bytes <= entries::PAGE_BYTES + 2 * count));
                assert_eq!(page.next.is_none(), place + count as u64 == total(&document));
                lines.extend(page.lines);
                unpriced.extend(page.unpriced);
                from = page.next;
            }
            assert!(lines == document.lines() && unpriced == document.unpriced());
        }
        let kept = find(&store, &digest).await.unwrap();
        let behind = entries::page((&store, &pool), kept, u64::MAX, 10).await.unwrap().unwrap();
        assert!(behind.lines.is_empty() && behind.unpriced.is_empty() && behind.next.is_none());
    }
}

fn total(document: &InvoiceDocument) -> u64 {
    (document.lines().len() + document.unpriced().len()) as u64
}

#[tokio::test]
async fn a_document_is_kept_whole_up_to_the_bytes_of_a_part() {
    let empty = journal::bytes(&bill(1, 0, 0)).len();
    for (bytes, is_whole) in [(PART_BYTES, true), (PART_BYTES + 1, false)] {
        let (store, document) = (MemoryBillingStore::new(), bill(1, 0, bytes - empty));
        let digest = put(&store, &document).await.unwrap();
        let kept = find(&store, &digest).await.unwrap();
        assert_eq!(kept.bytes(), bytes as u64);
        assert_eq!(matches!(kept, Kept::Whole(_)), is_whole, "{bytes}");
    }
}

#[tokio::test]
async fn no_entry_of_the_store_is_longer_than_a_part() {
    let store = MemoryBillingStore::new();
    let digest = put(&store, &bill(2_000, 2, 3_000)).await.unwrap();
    let Kept::Parts(index) = find(&store, &digest).await.unwrap() else { panic!("it is long") };
    let parts: Vec<_> = index.parts().collect();
    // 2,000 lines of about 3,050 bytes, of which 343 fill a part.
    assert_eq!(parts.len(), 7, "{parts:?}");
    for (_, _, part) in parts {
        let entries = all_of(&store, &format!("content/{part}")).await;
        assert!(entries.len() == 1 && entries[0].len() <= PART_BYTES);
    }
}

/// Whether a document can be found. What is found is all of it.
async fn is_there(store: &MemoryBillingStore, document: &InvoiceDocument) -> bool {
    let written = journal::bytes(document);
    let digest = journal::digest(&written);
    let Ok(kept) = find(store, &digest).await else { return false };
    assert!(text(store, &digest, kept).await.unwrap() == written);
    true
}

#[tokio::test]
async fn a_store_that_fails_between_parts_leaves_no_half_document_and_the_next_try_makes_it() {
    let document = bill(4_000, 0, 1_000);
    // Where a failed write was done all the same, the last that fails has made the document.
    for (fault, tries_more) in [(EntryFault::Lost, 1), (EntryFault::Added, 0)] {
        let (store, mut tries) = (MemoryBillingStore::new(), 0);
        // Each try fails one write later.
        while !is_there(&store, &document).await {
            store.fail_entry_after(tries, fault);
            tries += 1;
            // What it says is looked at above.
            let _ = put(&store, &document).await;
        }
        let digest = put(&store, &document).await.unwrap();
        let Kept::Parts(index) = find(&store, &digest).await.unwrap() else { panic!("it is long") };
        let writes = index.parts().count() + 1;
        assert_eq!((writes, tries), (6, writes + tries_more), "each write failed once");
    }
}

#[tokio::test]
async fn a_long_document_that_an_earlier_version_stored_whole_is_read_in_the_same_ways() {
    let (store, pool) = (MemoryBillingStore::new(), Compute::default());
    let document = bill(3_000, 2, 400);
    let written = journal::bytes(&document);
    let digest = journal::put_content(&store, &written).await.unwrap();
    let read = understood::document(&store, &pool, &digest).await.unwrap().unwrap();
    assert!(read == document);
    let kept = find(&store, &digest).await.unwrap();
    assert_eq!((kept.bytes(), kept.frame().unwrap().1), (written.len() as u64, [3_000, 2]));
    let page = entries::page((&store, &pool), kept, 2_999, 10).await.unwrap().unwrap();
    assert!(page.lines == document.lines()[2_999..] && page.unpriced == document.unpriced());
}

#[tokio::test]
async fn two_processes_that_store_one_document_end_with_one() {
    let (store, document) = (MemoryBillingStore::new(), bill(3_000, 3_000, 400));
    store.add_within(std::time::Duration::ZERO);
    let (first, second) = tokio::join!(put(&store, &document), put(&store, &document));
    let digest = first.unwrap();
    assert_eq!(digest, second.unwrap());
    assert_eq!(all_of(&store, &index_journal(&digest)).await.len(), 1);
    let kept = find(&store, &digest).await.unwrap();
    assert!(text(&store, &digest, kept).await.unwrap() == journal::bytes(&document));
}

#[tokio::test]
async fn a_damaged_index_or_part_is_said_and_not_shown() {
    let (store, pool) = (MemoryBillingStore::new(), Compute::default());
    let digest = put(&store, &bill(3_000, 0, 400)).await.unwrap();
    let Kept::Parts(index) = find(&store, &digest).await.unwrap() else { panic!("it is long") };
    let part = index.parts().next().unwrap().2.to_owned();
    let (journal, change) = (format!("content/{part}"), |byte: &mut u8| *byte ^= 1);
    store.change_entry(&journal, 0, |entry| entry.first_mut().into_iter().for_each(change));
    let kept = find(&store, &digest).await.unwrap();
    let page = entries::page((&store, &pool), kept, 0, 1).await;
    assert!(page.unwrap_err().to_string().contains("not what its digest says"));
    let place = |entry: &[u8]| entry.windows(7).position(|found| found == b"entries").unwrap();
    store.change_entry(&index_journal(&digest), 0, |entry| change(&mut entry[place(entry) + 10]));
    let error = find(&store, &digest).await.unwrap_err().to_string();
    assert!(error.contains("the index is not what its digest says"), "{error}");
}
