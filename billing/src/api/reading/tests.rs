//! An invoice that is too long to be sent whole: shown, listed, printed, announced, verified, credited
//! and taken back.

use edge::{access::Change, compute::ComputeConfig, problem::reasons};
use futures_util::TryStreamExt as _;
use serde_json::Value;

use super::*;
use crate::{
    answers::invoice::InvoiceAnswer,
    api::invoices::Shown,
    testing::billed::{self, Service},
};

/// About 1.2 MB of text: two parts.
const LINES: usize = 2_000;
const NUMBER: &str = "INV-000001";

async fn service() -> Service {
    billed::service(LINES, ComputeConfig::default()).await.0
}

fn page(size: i32, token: &str) -> v1::ListInvoiceLinesRequest {
    let (number, page_token) = (NUMBER.to_owned(), token.to_owned());
    v1::ListInvoiceLinesRequest { number, page_size: size, page_token }
}

async fn pages(service: &Service, size: i32) -> Vec<InvoiceLinesAnswer> {
    let (mut pages, mut token) = (Vec::new(), String::new());
    loop {
        let found = service.lines(&page(size, &token)).await.unwrap();
        token.clone_from(&found.next_page_token);
        pages.push(found);
        if token.is_empty() {
            return pages;
        }
    }
}

/// The invoice as it would be shown without a bound.
async fn whole(service: &Service) -> InvoiceAnswer {
    let (found, _, _) = service.head(NUMBER).await.unwrap();
    let documents = &service.parts.books.documents;
    let document = documents.whole(&service.compute, &found.document).await.unwrap();
    InvoiceAnswer::new(messages::invoice(&found), Some(document), None)
}

#[tokio::test]
async fn a_long_invoice_is_shown_without_lines_and_listed_in_pages() {
    let service = service().await;
    let shown = service.invoice_as(NUMBER, Shown::message).await.unwrap();
    let left_out = shown.left_out.clone().unwrap();
    assert_eq!((left_out.lines, left_out.unpriced), (LINES as u64, 0));
    assert_eq!(left_out.at, "/v1/invoices/INV-000001/lines");
    let answer = InvoiceAnswer::of_message(shown).unwrap();
    let whole = whole(&service).await;
    assert_eq!(answer.head, whole.head);
    let content = (answer.content.unwrap(), whole.content.unwrap());
    assert_eq!((content.0.lines, content.0.unpriced), (None, None));
    assert_eq!(content.0.subtotals, content.1.subtotals);
    let written = serde_json::to_string(&content.1.lines).unwrap().len() as u64;
    assert!((written..written + 1_000).contains(&left_out.bytes), "{left_out:?}");
    for (size, count) in [(0, 40), (1, LINES), (1_000, 2), (999, 3)] {
        let pages = pages(&service, size).await;
        assert_eq!(pages.len(), count, "{size}");
        let lines: Vec<_> = pages.into_iter().flat_map(|page| page.lines).collect();
        assert!(content.1.lines.as_ref() == Some(&lines));
    }
}

#[tokio::test]
async fn a_page_says_what_is_wrong_with_its_request() {
    let service = service().await;
    let token = service.lines(&page(10, "")).await.unwrap().next_page_token;
    let credit = v1::CreditInvoiceRequest {
        number: NUMBER.to_owned(),
        lines: vec![v1::CreditLine { line: 1_500, amount: "0.50".to_owned() }],
        reason: "late".to_owned(),
        ..v1::CreditInvoiceRequest::default()
    };
    let note = service.credit(credit, &Change::default()).await.unwrap();
    assert_eq!(note.document.lines().len(), 1);
    let of_note = v1::ListInvoiceLinesRequest { number: note.head.number, ..page(0, "") };
    assert_eq!(service.lines(&of_note).await.unwrap().lines, note.document.lines());
    let other = v1::ListInvoiceLinesRequest { page_token: token.clone(), ..of_note };
    let missing = v1::ListInvoiceLinesRequest { number: "INV-000009".into(), ..page(0, "") };
    for (request, reason) in [
        (page(-1, ""), reasons::PAGE_SIZE_INVALID),
        (page(1_001, ""), reasons::PAGE_SIZE_INVALID),
        (page(0, "2"), reasons::PAGE_TOKEN_INVALID),
        (other, reasons::PAGE_TOKEN_INVALID),
        (missing, reasons::INVOICE_NOT_FOUND),
    ] {
        assert_eq!(service.lines(&request).await.unwrap_err().reason, reason, "{request:?}");
    }
    // Another size may follow.
    assert_eq!(service.lines(&page(1_000, &token)).await.unwrap().lines.len(), 1_000);
}

#[tokio::test]
async fn a_long_invoice_is_printed_piece_by_piece_as_if_it_were_whole() {
    let service = service().await;
    let pieces: Vec<String> = service.html(NUMBER).await.unwrap().try_collect().await.unwrap();
    assert_eq!(pieces.len(), 4, "the head, two thousand lines, the sums");
    let expected = print::html(&whole(&service).await);
    assert!(pieces.concat() == expected);
    assert!(service.html("INV-000009").await.is_err(), "refused before the first piece");
    let refused = service.pdf(NUMBER).await.unwrap();
    assert!(refused.is_err() || cfg!(feature = "pdf"));
}

/// Every message of the outbox.
async fn sent(service: &Service) -> Vec<(u64, Value)> {
    let request = v1::WatchInvoicesRequest { after: 0, until_now: true };
    let sent: Vec<_> = service.watch(&request).try_collect().await.unwrap();
    let parse = |(number, body): (u64, Box<serde_json::value::RawValue>)| {
        (number, serde_json::from_str(body.get()).unwrap())
    };
    sent.into_iter().map(parse).collect()
}

#[tokio::test]
async fn messages_about_a_long_invoice_say_where_its_lines_are() {
    let service = service().await;
    let change = Change::default();
    let reject = v1::RejectMessageRequest {
        message: 1,
        consumer: "ledger".to_owned(),
        reason: "too long".to_owned(),
    };
    service.reject(reject, &change).await.unwrap();
    assert_eq!(service.replay(1, &change).await.unwrap().replayed_as, 2);
    let voided = service.void(NUMBER, "wrong", &change).await.unwrap();
    assert_eq!(voided.state, "void");
    let sent = sent(&service).await;
    let events: Vec<_> =
        sent.iter().map(|(number, body)| (*number, body["event"].as_str().unwrap())).collect();
    assert_eq!(events, [(1, "final"), (2, "final"), (3, "void")]);
    for (_, body) in &sent {
        assert_eq!(body["digest"], voided.digest);
        assert_eq!(body["document"]["total"], "1000.00");
        assert_eq!(body["document"]["period"]["first_day"], "2024-09-01");
        assert!(body["document"]["lines"].is_null() && body["document"]["unpriced"].is_null());
        assert_eq!(body["left_out"]["lines"], LINES.to_string());
        assert_eq!(body["left_out"]["at"], "/v1/invoices/INV-000001/lines");
        assert!(body.to_string().len() < 1_000, "{body}");
    }
    assert_eq!(sent[1].1["replay_of"], "1");
}

#[tokio::test]
async fn a_long_invoice_is_verified_line_by_line() {
    let service = service().await;
    let verify = v1::VerifyInvoiceRequest { number: NUMBER.to_owned(), from_log: false };
    let verified = service.verify(&verify).await.unwrap();
    assert_eq!((verified.matches, verified.lines), (true, LINES as u32));
}
