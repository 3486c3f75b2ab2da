//! HTML: an invoice as one page for a browser and for printing.

use pricing::document::DocumentLine;

use super::{
    markup::{escaped, push},
    page::{Page, Row},
};
use crate::answers::invoice::InvoiceAnswer;

/// Draws an invoice with its content as one HTML page that needs no other file, for a browser and for
/// printing. Every text is escaped.
#[must_use]
pub fn html(invoice: &InvoiceAnswer) -> String {
    let lines = invoice.content.as_ref().and_then(|content| content.lines.as_deref());
    [opening(invoice), rows(lines.unwrap_or_default()), closing(invoice)].concat()
}

/// What stands before the lines. With [`rows`] of the lines and [`closing`] it is the page, so that one
/// of any length can be drawn bit by bit.
#[must_use]
pub fn opening(invoice: &InvoiceAnswer) -> String {
    let page = Page::of(invoice);
    let title = escaped(&page.title);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<header><h1>{title}</h1>"
    );
    let mut put = |part: std::fmt::Arguments<'_>| push(&mut html, part);
    if let Some(void) = &page.void {
        put(format_args!("<p class=\"void\">{}</p>", escaped(void)));
    }
    if let Some(credits) = &page.credits {
        put(format_args!("<p>{}</p>", escaped(credits)));
    }
    put(format_args!("</header>\n<dl>\n"));
    for (name, value) in &page.facts {
        put(format_args!("<dt>{name}</dt><dd>{}</dd>\n", escaped(value)));
    }
    put(format_args!(
        "</dl>\n<table>\n<thead><tr><th>Item</th><th>Details</th><th class=\"n\">Quantity</th>\
         <th class=\"n\">Amount</th></tr></thead>\n<tbody>\n"
    ));
    html
}

/// Lines as rows of the table.
#[must_use]
pub fn rows(lines: &[DocumentLine]) -> String {
    lines.iter().map(|line| html_of(&Row::of(line))).collect()
}

/// What stands behind the lines.
#[must_use]
pub fn closing(invoice: &InvoiceAnswer) -> String {
    let page = Page::of(invoice);
    let mut html = String::new();
    let mut put = |part: std::fmt::Arguments<'_>| push(&mut html, part);
    put(format_args!("</tbody>\n<tfoot>\n"));
    for (name, amount) in &page.sums {
        let (name, amount) = (escaped(name), escaped(amount));
        put(format_args!("<tr><th colspan=\"3\">{name}</th><td class=\"n\">{amount}</td></tr>\n"));
    }
    put(format_args!("</tfoot>\n</table>\n"));
    if let Some(waiting) = &page.waiting {
        put(format_args!("<p>{}</p>\n", escaped(waiting)));
    }
    put(format_args!("<footer>{}</footer>\n</body>\n</html>\n", escaped(&page.document)));
    html
}

/// A line of the invoice as a row of the table.
fn html_of(row: &Row) -> String {
    let sku = match row.sku.is_empty() {
        true => String::new(),
        false => format!("<br><small>{}</small>", escaped(&row.sku)),
    };
    let details: Vec<String> = row.details.iter().map(|detail| escaped(detail)).collect();
    format!(
        "<tr><td>{}{sku}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>\n",
        escaped(&row.item),
        details.join("<br>"),
        escaped(&row.quantity),
        escaped(&row.amount)
    )
}

const STYLE: &str = "
body{font:14px/1.5 system-ui,sans-serif;color:#1a1a1a;max-width:52rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0 0 1rem}
dl{display:grid;grid-template-columns:10rem 1fr;gap:.25rem 1rem;margin:0 0 1.5rem}
dt{color:#666}dd{margin:0;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.4rem .5rem;border-bottom:1px solid #ddd;overflow-wrap:anywhere}
td small{color:#666}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
tfoot th{text-align:right}tfoot tr:last-child>*{font-weight:700;border-bottom:2px solid #1a1a1a}
.void{color:#a00;font-weight:700}
footer{margin-top:2rem;color:#666;font-size:.8rem;overflow-wrap:anywhere}
thead{display:table-header-group}tr{break-inside:avoid}
@media print{body{margin:0;max-width:none}@page{margin:18mm}}
";
