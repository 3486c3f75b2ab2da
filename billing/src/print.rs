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

pub use html::html;

/// Why there is no PDF.
#[derive(Debug, thiserror::Error)]
pub enum PdfError {
    /// The program was built without it.
    #[error(
        "this program was built without PDF: build it with `--features billing/pdf`, or print the HTML page from a browser"
    )]
    NotBuilt,
    /// The typesetter refused.
    #[error("the invoice cannot be typeset: {0}; its HTML page can be printed")]
    Typesetting(String),
}

/// Draws an invoice with its content as a PDF.
///
/// # Errors
/// When this program was built without it; when the invoice was not issued, or holds a character that
/// the fonts do not have.
pub fn pdf(invoice: &InvoiceAnswer) -> Result<Vec<u8>, PdfError> {
    #[cfg(feature = "pdf")]
    return pdf::pdf(invoice);
    #[cfg(not(feature = "pdf"))]
    {
        let _ = invoice;
        Err(PdfError::NotBuilt)
    }
}
