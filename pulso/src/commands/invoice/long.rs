//! Long invoices: the server lists their lines in pages, which are printed as they come.

use std::ops::ControlFlow;

use billing::{
    answers::invoice::{InvoiceAnswer, InvoiceLinesAnswer},
    print,
};
use proto::v1::{ListInvoiceLinesRequest, billing_service_client::BillingServiceClient};
use serde::Serialize;
use serde_json::json;

use super::LINE_COLUMNS;
use crate::{
    client::Channel,
    exit::{Exit, Failure},
    output::{self, Answer, Printer, pages},
};

/// Lines of a page that is printed on its own, and of one of many.
const FIRST_PAGE: i32 = 50;
const PAGE: i32 = 1_000;

/// The pages of an invoice's lines.
pub(super) struct Pages {
    client: BillingServiceClient<Channel>,
    /// None behind the last page.
    next: Option<ListInvoiceLinesRequest>,
}

impl Pages {
    /// Begins with the first.
    pub(super) fn new(client: BillingServiceClient<Channel>, number: &str) -> Self {
        let (number, page_token) = (number.to_owned(), String::new());
        let first = ListInvoiceLinesRequest { number, page_size: PAGE, page_token };
        Self { client, next: Some(first) }
    }

    /// The next page, if there is one.
    async fn next(&mut self) -> Result<Option<InvoiceLinesAnswer>, Failure> {
        let Some(request) = self.next.take() else { return Ok(None) };
        let listed = self.client.list_invoice_lines(request.clone()).await;
        let page = listed.map_err(|status| Failure::status(&status))?.into_inner();
        let page = InvoiceLinesAnswer::of_message(page).map_err(Failure::internal)?;
        let page_token = page.next_page_token.clone();
        self.next =
            (!page_token.is_empty()).then_some(ListInvoiceLinesRequest { page_token, ..request });
        Ok(Some(page))
    }

    /// The first page, with as many lines as a person looks at.
    pub(super) async fn first(mut self) -> Result<InvoiceLinesAnswer, Failure> {
        self.next.iter_mut().for_each(|request| request.page_size = FIRST_PAGE);
        let page = self.next().await?;
        page.ok_or_else(|| Failure::internal("an invoice has a first page"))
    }

    /// Puts all lines into an invoice.
    pub(super) async fn complete(mut self, invoice: &mut InvoiceAnswer) -> Result<(), Failure> {
        let mut lines = Vec::new();
        while let Some(page) = self.next().await? {
            lines.extend(page.lines);
        }
        invoice.content.iter_mut().for_each(|content| content.lines = Some(lines.split_off(0)));
        Ok(())
    }
}

/// Prints all lines as they come, as JSON lines or as rows of CSV.
pub(super) async fn print_lines(printer: Printer, mut pages: Pages) -> Result<Exit, Failure> {
    let mut printed = printer.pages();
    while let Some(page) = pages.next().await? {
        let answer = Answer::list(json!({"lines": page.lines}), "lines", &LINE_COLUMNS);
        if page.lines.is_empty() || printed.print(&answer)?.is_break() {
            break;
        }
    }
    Ok(Exit::Success)
}

/// Prints an invoice as the one document that a shorter one is.
pub(super) async fn print_document(
    mut invoice: InvoiceAnswer,
    mut pages: Pages,
) -> Result<Exit, Failure> {
    invoice.left_out = None;
    if let Some(content) = &mut invoice.content {
        content.lines = Some(Vec::new());
        content.unpriced = content.subtotals.is_some().then(Vec::new);
    }
    let mut document = Document::new(&output::json(&invoice).to_string());
    let mut printed = document.begin();
    while let Some(page) = pages.next().await? {
        printed.push_str(&document.entries(&page));
        if pages::print_text(&printed)?.is_break() {
            return Ok(Exit::Success);
        }
        printed.clear();
    }
    printed.push_str(&document.end());
    let _: ControlFlow<()> = pages::print_text(&printed)?;
    Ok(Exit::Success)
}

/// The text of a document whose lists are empty, around which it is written with what they hold.
struct Document {
    /// Up to the lines, between the lists, and behind the last.
    around: Vec<String>,
    /// The list that is open, and whether it has an entry.
    open: usize,
    has_entry: bool,
}

impl Document {
    fn new(empty: &str) -> Self {
        let (mut around, mut rest) = (Vec::new(), empty);
        for key in ["lines", "unpriced"] {
            // A quote within a text is escaped, so this is the key and nothing else.
            let list = format!("\"{key}\":[]");
            if let Some(place) = rest.find(&list) {
                let (before, after) = rest.split_at(place + list.len() - 1);
                around.push(before.to_owned());
                rest = after;
            }
        }
        around.push(format!("{rest}\n"));
        Self { around, open: 0, has_entry: false }
    }

    fn begin(&self) -> String {
        self.around[0].clone()
    }

    fn entries(&mut self, page: &InvoiceLinesAnswer) -> String {
        let mut text = String::new();
        page.lines.iter().for_each(|line| self.entry(line, &mut text));
        if !page.unpriced.is_empty() && self.open == 0 {
            self.turn(&mut text);
        }
        page.unpriced.iter().for_each(|waiting| self.entry(waiting, &mut text));
        text
    }

    fn entry<T: Serialize>(&mut self, entry: &T, text: &mut String) {
        text.push_str(if self.has_entry { "," } else { "" });
        text.push_str(&output::json(entry).to_string());
        self.has_entry = true;
    }

    /// Ends the open list.
    fn turn(&mut self, text: &mut String) {
        self.open += 1;
        self.has_entry = false;
        text.push_str(self.around.get(self.open).map_or("", String::as_str));
    }

    fn end(mut self) -> String {
        let mut text = String::new();
        while self.open + 1 < self.around.len() {
            self.turn(&mut text);
        }
        text
    }
}

/// Prints an invoice as a page, as its lines come.
pub(super) async fn print_html(invoice: &InvoiceAnswer, mut pages: Pages) -> Result<Exit, Failure> {
    let mut printed = print::opening(invoice);
    while let Some(page) = pages.next().await? {
        printed.push_str(&print::rows(&page.lines));
        if pages::print_text(&printed)?.is_break() {
            return Ok(Exit::Success);
        }
        printed.clear();
        if !page.unpriced.is_empty() {
            break;
        }
    }
    printed.push_str(&print::closing(invoice));
    let _: ControlFlow<()> = pages::print_text(&printed)?;
    Ok(Exit::Success)
}

/// What to do to see more than the first page.
pub(super) fn note(shown: usize, lines: u64) -> String {
    format!("the first {shown} of {lines} lines: -o csv, -o jsonl and -o json print all")
}

#[cfg(test)]
mod tests {
    use pricing::{
        Amount,
        amount::Money,
        document::{DocumentLine, LineKind, Waiting},
        words::Pairs,
    };
    use serde_json::Value;

    use super::*;

    fn page(lines: &[&str], unpriced: &[&str]) -> InvoiceLinesAnswer {
        let amount = Money::new(Amount::whole(1), 2);
        let line = |key: &&str| DocumentLine::new((*key).to_owned(), LineKind::Usage, amount);
        let waiting = |sku: &&str| Waiting {
            product_sku: (*sku).to_owned(),
            use_unity: String::new(),
            dimensions: Pairs(Vec::new()),
            quantity: Amount::ZERO,
            count: 1,
            reason: String::new(),
            remedy: String::new(),
            hours: None,
            hours_left_out: None,
        };
        InvoiceLinesAnswer {
            lines: lines.iter().map(line).collect(),
            unpriced: unpriced.iter().map(waiting).collect(),
            next_page_token: String::new(),
        }
    }

    #[test]
    fn a_document_that_comes_in_pages_is_one_document() {
        let bill = json!({"reason": "\"lines\":[]", "lines": [], "unpriced": [], "total": "1"});
        let note = json!({"lines": [], "request_id": "r"});
        let (none, few, more): (_, &[&str], &[&str]) = (&[], &["a", "b"], &["c"]);
        for (empty, pages, lines, unpriced) in [
            (&bill, vec![], 0, 0),
            (&bill, vec![page(few, none)], 2, 0),
            (&bill, vec![page(few, none), page(more, few), page(none, more)], 3, 3),
            (&bill, vec![page(none, few)], 0, 2),
            (&note, vec![page(few, none), page(more, none)], 3, 0),
        ] {
            let mut document = Document::new(&empty.to_string());
            let mut text = document.begin();
            pages.iter().for_each(|page| text.push_str(&document.entries(page)));
            text.push_str(&document.end());
            let read: Value = serde_json::from_str(&text).unwrap();
            let count = |key: &str| read[key].as_array().map_or(0, Vec::len);
            assert_eq!((count("lines"), count("unpriced")), (lines, unpriced), "{text}");
            for same in ["reason", "total", "request_id"] {
                assert_eq!(read[same], empty[same]);
            }
        }
    }
}
