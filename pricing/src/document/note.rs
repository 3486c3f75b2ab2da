//! A credit note's kind, and which line each of its lines is about.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{CreditNote, DocumentLine};

/// Why a credit note gives money back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NoteKind {
    /// The document billed too much. Later deltas count the note as billed less.
    Correction,
    /// The document is right, and the money is given back all the same. Deltas ignore the note.
    #[default]
    Goodwill,
}

impl NoteKind {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Correction => "correction",
            Self::Goodwill => "goodwill",
        }
    }

    /// The kind that a word names, if one does.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Correction, Self::Goodwill].into_iter().find(|kind| kind.as_str() == word)
    }
}

impl CreditNote {
    /// What it counts as; notes that say nothing are goodwill.
    #[must_use]
    pub fn kind(&self) -> NoteKind {
        self.note_kind.unwrap_or_default()
    }

    /// The key of the line that one of its lines gives back a part of; `None` of the document as a whole.
    #[must_use]
    pub fn line_key<'l>(&self, line: &'l DocumentLine) -> Option<&'l str> {
        let rest = line.key.strip_prefix("credit ")?.strip_suffix(self.corrects.as_str())?;
        rest.strip_suffix(" of ")
    }
}
