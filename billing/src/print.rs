//! Print: documents for people to read: invoices as HTML pages and as PDF, and pictures.

use crate::answers::invoice::InvoiceAnswer;

mod markup;
mod page;

mod html;
#[cfg(feature = "pdf")]
mod pdf;
pub mod picture;
#[cfg(test)]
mod tests;

pub use html::{closing, html, opening, rows};

/// Most lines of an invoice that is drawn as a PDF, which is typeset in memory as a whole: some hundred
/// pages.
pub const PDF_LINES_MAX: u64 = 5_000;

/// Why there is no PDF.
#[derive(Debug, thiserror::Error)]
pub enum PdfError {
    /// The program was built without it.
    #[error(
        "this program was built without PDF: build it with `--features billing/pdf`, or print the HTML page from a browser"
    )]
    NotBuilt,
    /// It would have too many pages.
    #[error(
        "the invoice has {0} lines, and a PDF has {PDF_LINES_MAX} at most: print its HTML page"
    )]
    TooLong(u64),
    /// The typesetter refused.
    #[error("the invoice cannot be typeset: {0}; its HTML page can be printed")]
    Typesetting(String),
}

/// Tells whether this program draws a PDF of so many lines.
///
/// # Errors
/// When it was built without it; when there are too many lines.
pub const fn check_pdf(lines: u64) -> Result<(), PdfError> {
    if cfg!(not(feature = "pdf")) {
        return Err(PdfError::NotBuilt);
    }
    if lines > PDF_LINES_MAX { Err(PdfError::TooLong(lines)) } else { Ok(()) }
}

/// Draws an invoice with its content as a PDF.
///
/// # Errors
/// As [`check_pdf`]; when the invoice was not issued, or holds a character that the fonts do not have.
pub fn pdf(invoice: &InvoiceAnswer) -> Result<Vec<u8>, PdfError> {
    let lines = invoice.content.as_ref().and_then(|content| content.lines.as_ref());
    check_pdf(lines.map_or(0, |lines| lines.len() as u64))?;
    #[cfg(feature = "pdf")]
    return pdf::pdf(invoice);
    #[cfg(not(feature = "pdf"))]
    Err(PdfError::NotBuilt)
}
