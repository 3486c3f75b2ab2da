//! Refusal: why a credential does not count, in words that never hold any of it.

use tonic::Code;

use crate::{Problem, problem::reasons};

/// Why a credential does not count.
///
/// The texts are constants, so no part of a token or key can get into an answer or a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request has none.
    #[error(
        "no credential; send `authorization: Bearer` with a token or an API key, or `x-api-key`"
    )]
    Missing,
    /// It is not one of ours, or damaged.
    #[error("the credential does not count: {0}")]
    Invalid(&'static str),
    /// It has ended.
    #[error("the credential has expired; get a new one")]
    Expired,
    /// It has not begun.
    #[error("the credential is not valid yet; compare the clocks of issuer and server")]
    NotYet,
    /// Somebody took it back.
    #[error("the credential was revoked; ask an admin for a new one")]
    Revoked,
    /// What says whether it counts cannot be read now.
    #[error("credentials cannot be checked now: {0}; send the same again later")]
    Unavailable(&'static str),
}

impl Refusal {
    /// Its reason, a word of [`reasons::TABLE`].
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Missing => reasons::CREDENTIAL_MISSING,
            Self::Invalid(_) => reasons::CREDENTIAL_INVALID,
            Self::Expired | Self::NotYet => reasons::CREDENTIAL_EXPIRED,
            Self::Revoked => reasons::CREDENTIAL_REVOKED,
            Self::Unavailable(_) => reasons::STORE_UNAVAILABLE,
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::Unavailable(_) => Code::Unavailable,
            _ => Code::Unauthenticated,
        };
        Self::new(code, refusal.reason(), refusal.to_string())
    }
}
