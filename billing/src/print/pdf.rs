//! Pdf: an invoice typeset by Typst, as a PDF that archives keep (PDF/A-3a, tagged for screen readers).
//!
//! The fonts come with the program, so the same invoice gives the same bytes on every machine. They
//! hold Latin, Greek, Cyrillic and some others; a character that none has is an error, never a blank
//! box.

use domain::Timestamp as Moment;
use jiff::tz::TimeZone;
use serde::Serialize;
use typst::{
    Library, LibraryExt as _, World,
    diag::{FileError, FileResult, SourceDiagnostic, Warned},
    foundations::{Bytes, Datetime, Duration},
    syntax::{FileId, RootedPath, Source, VirtualPath, VirtualRoot},
    text::{Font, FontBook},
    utils::LazyHash,
};
use typst_kit::fonts::{self, FontStore};
use typst_layout::PagedDocument;
use typst_pdf::{PdfOptions, PdfStandard, PdfStandards, Timestamp};

use super::{
    PdfError,
    page::{Page, Row},
};
use crate::answers::invoice::InvoiceAnswer;

/// What the template is given.
#[derive(Serialize)]
struct Printed {
    #[serde(flatten)]
    page: Page,
    rows: Vec<Row>,
}

impl Printed {
    fn of(invoice: &InvoiceAnswer) -> Self {
        let lines = invoice.content.iter().flat_map(|content| content.lines.iter().flatten());
        Self { page: Page::of(invoice), rows: lines.map(Row::of).collect() }
    }
}

const TEMPLATE: &str = include_str!("invoice.typ");

/// See [`super::pdf`].
pub(super) fn pdf(invoice: &InvoiceAnswer) -> Result<Vec<u8>, PdfError> {
    let document = typeset(invoice)?;
    let standards = PdfStandards::new(&[PdfStandard::A_3a])
        .map_err(|error| PdfError::Typesetting(error.message().to_string()))?;
    let timestamp = Some(issued(invoice.head.issued_at)?);
    let options = PdfOptions { standards, timestamp, ..PdfOptions::default() };
    typst_pdf::pdf(&document, &options).map_err(|found| refused(&found))
}

pub(super) fn typeset(invoice: &InvoiceAnswer) -> Result<PagedDocument, PdfError> {
    let page = serde_json::to_vec(&Printed::of(invoice));
    let page = page.map_err(|error| PdfError::Typesetting(error.to_string()))?;
    let Warned { output, .. } = typst::compile::<PagedDocument>(&Desk::new(page)?);
    // Typst remembers what it did for the next time, which is for another page.
    typst::comemo::evict(0);
    output.map_err(|found| refused(&found))
}

fn refused(diagnostics: &[SourceDiagnostic]) -> PdfError {
    let messages: Vec<&str> = diagnostics.iter().map(|found| &*found.message).collect();
    PdfError::Typesetting(messages.join("; "))
}

/// The date of the document: when the invoice was issued, in UTC.
fn issued(issued_at: Option<Moment>) -> Result<Timestamp, PdfError> {
    let issued = issued_at.and_then(|at| jiff::Timestamp::from_microsecond(at.micros()).ok());
    let civil = issued.map(|issued| issued.to_zoned(TimeZone::UTC).datetime());
    let parts = civil.and_then(|at| {
        let [month, day, hour, minute, second] =
            [at.month(), at.day(), at.hour(), at.minute(), at.second()].map(i8::unsigned_abs);
        Datetime::from_ymd_hms(at.year().into(), month, day, hour, minute, second)
    });
    parts
        .map(Timestamp::new_utc)
        .ok_or_else(|| PdfError::Typesetting("it was not issued".to_owned()))
}

/// All that the template can reach: itself, the page and the fonts. No clock, no file, no network.
struct Desk {
    library: LazyHash<Library>,
    fonts: FontStore,
    template: Source,
    page: (FileId, Bytes),
}

impl Desk {
    fn new(page: Vec<u8>) -> Result<Self, PdfError> {
        let mut fonts = FontStore::new();
        fonts.extend(fonts::embedded());
        Ok(Self {
            library: LazyHash::new(Library::default()),
            fonts,
            template: Source::new(file("invoice.typ")?, TEMPLATE.to_owned()),
            page: (file("page.json")?, Bytes::new(page)),
        })
    }
}

fn file(name: &str) -> Result<FileId, PdfError> {
    let path =
        VirtualPath::new(name).map_err(|error| PdfError::Typesetting(format!("{error:?}")))?;
    Ok(RootedPath::new(VirtualRoot::Project, path).intern())
}

impl World for Desk {
    fn library(&self) -> &LazyHash<Library> {
        &self.library
    }

    fn book(&self) -> &LazyHash<FontBook> {
        self.fonts.book()
    }

    fn main(&self) -> FileId {
        self.template.id()
    }

    fn source(&self, id: FileId) -> FileResult<Source> {
        match id == self.template.id() {
            true => Ok(self.template.clone()),
            false => Err(FileError::AccessDenied),
        }
    }

    fn file(&self, id: FileId) -> FileResult<Bytes> {
        let (page, bytes) = &self.page;
        match id == *page {
            true => Ok(bytes.clone()),
            false => Err(FileError::AccessDenied),
        }
    }

    fn font(&self, index: usize) -> Option<Font> {
        self.fonts.font(index)
    }

    fn today(&self, _offset: Option<Duration>) -> Option<Datetime> {
        None
    }
}
