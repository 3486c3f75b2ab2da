//! Filter of a list of invoices: by the month in which their periods begin, and by their state.

use domain::hash;
use edge::{Problem, problem::reasons};
use pricing::timeline::Month;
use proto::v1;

use super::requests;
use crate::books::{document::State, documents::Found};

/// Which invoices are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    /// In which their periods begin, in their own zone.
    month: Option<Month>,
    state: Option<&'static str>,
}

/// Those that only a tenant's ledger lists: they have no number.
const WITHOUT_NUMBER: [State; 2] = [State::Draft, State::Discarded];
const WITH_NUMBER: [State; 2] = [State::Final, State::Void];

impl Filter {
    /// The filter of a request.
    ///
    /// # Errors
    /// For what is no month and no state.
    pub(super) fn read(request: &v1::ListInvoicesRequest) -> Result<Self, Problem> {
        let month = Some(&*request.period).filter(|month| !month.is_empty());
        let month = month.map(requests::month).transpose()?;
        let words = WITHOUT_NUMBER.iter().chain(&WITH_NUMBER).map(|state| state.as_str());
        let state = match &*request.state {
            "" => None,
            text => Some(words.clone().find(|word| *word == text).ok_or_else(|| {
                let words = words.collect::<Vec<_>>().join(", ");
                refuse(format!("{text:?} is no state of an invoice; there are {words}"))
            })?),
        };
        Ok(Self { month, state })
    }

    /// Refuses a state that no document with a number has: the list of all tenants would be empty
    /// without saying why.
    ///
    /// # Errors
    /// See above.
    pub(super) fn check_numbered(&self) -> Result<(), Problem> {
        let state = WITHOUT_NUMBER.iter().find(|state| Some(state.as_str()) == self.state);
        let Some(state) = state else { return Ok(()) };
        Err(refuse(format!(
            "{:?} invoices have no number: name the tenant to list them",
            state.as_str()
        )))
    }

    /// Tells whether a document passes.
    pub(super) fn passes(&self, found: &Found) -> bool {
        let document = &found.document;
        let is_in = |month: Month| document.draft.days().0.starts_with(&month.to_string());
        self.month.is_none_or(is_in)
            && self.state.is_none_or(|state| document.state.as_str() == state)
    }

    /// What page tokens are bound to; `None` of a list of all.
    pub(super) fn fingerprint(&self) -> Option<u64> {
        let month = self.month.map(|month| month.to_string()).unwrap_or_default();
        let texts = [month.as_bytes(), self.state.unwrap_or_default().as_bytes()];
        #[allow(clippy::cast_possible_truncation)] // Half of the hash is enough for a mistake.
        (*self != Self { month: None, state: None }).then(|| hash::parts(0, texts) as u64)
    }
}

fn refuse(message: String) -> Problem {
    Problem::invalid("state", reasons::PARAMETER_INVALID, message)
}
