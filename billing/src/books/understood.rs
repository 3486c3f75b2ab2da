//! Understood: a document read to reckon with it, or to write a part of it again. All of it has to be
//! known here, because what is not would be lost while the digest is that of the whole.

use domain::BillingStore;
use edge::Compute;
use pricing::document::InvoiceDocument;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    journal,
    kept::{self, Kept, List, list_text},
};
use crate::{BillingError, error::compute};

/// The document with a digest. Read part by part, so that its text is never in memory as a whole.
///
/// # Errors
/// When the store fails. Within: where it is damaged, or that a later version wrote it.
pub(crate) async fn document(
    store: &impl BillingStore,
    pool: &Compute,
    digest: &str,
) -> Result<Result<InvoiceDocument, String>, BillingError> {
    let index = match kept::find(store, digest).await? {
        Kept::Whole(text) => return compute(pool, move || whole(&text)).await,
        Kept::Parts(index) => index,
    };
    let mut read = whole(index.frame().as_bytes());
    for (list, _, digest) in index.parts() {
        let Ok(mut document) = read else { return Ok(read) };
        let part = journal::content(store, digest).await?;
        read = compute(pool, move || add(&mut document, list, &part).map(|()| document)).await?;
    }
    Ok(read)
}

fn whole(text: &[u8]) -> Result<InvoiceDocument, String> {
    let document: InvoiceDocument =
        serde_json::from_slice(text).map_err(|error| error.to_string())?;
    check(&document, text).map(|()| document)
}

/// Adds a part to its list.
fn add(document: &mut InvoiceDocument, list: List, part: &[u8]) -> Result<(), String> {
    let bill = match document {
        InvoiceDocument::CreditNote(note) if list == List::Lines => {
            note.lines.extend(entries(part)?);
            return Ok(());
        }
        InvoiceDocument::CreditNote(_) => return Err("a note has no usage".to_owned()),
        InvoiceDocument::Invoice(bill)
        | InvoiceDocument::Delta(bill)
        | InvoiceDocument::Reversal(bill)
        | InvoiceDocument::Preview(bill) => bill,
    };
    match list {
        List::Lines => bill.lines.extend(entries(part)?),
        List::Unpriced => bill.unpriced.extend(entries(part)?),
    }
    Ok(())
}

fn entries<T: Serialize + DeserializeOwned>(part: &[u8]) -> Result<Vec<T>, String> {
    let text = list_text(part);
    let entries: Vec<T> = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    check(&entries, text.as_bytes()).map(|()| entries)
}

fn check(read: &impl Serialize, text: &[u8]) -> Result<(), String> {
    match journal::bytes(read) == text {
        true => Ok(()),
        false => {
            Err("it holds more than this program knows of documents, or writes it otherwise; \
                      use the version that wrote it or a later one"
                .to_owned())
        }
    }
}
