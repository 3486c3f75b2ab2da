//! Failures of a login, and the one table from what went wrong to what the browser is told.

use std::time::Duration;

use tonic::Code;

use crate::{
    Problem,
    access::{Refusal, cookie::TooLong, web::FetchError},
    problem::reasons,
};

/// Why somebody is not logged in. Nothing changed, and the login may be begun again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LoginError {
    /// The browser brings no ticket: it began no login, or long ago, or somebody else began it.
    #[error("no login was begun in this browser in the last ten minutes; open /login")]
    NoTicket,
    /// The answer repeats another state: it belongs to another login.
    #[error("the answer belongs to another login; open /login again")]
    OtherLogin,
    /// The answer names another issuer, or none though it should.
    #[error("the answer is not of the issuer that was asked; open /login again")]
    OtherIssuer,
    /// The answer has no code.
    #[error("the answer has no code, or one that is too long; open /login again")]
    NoCode,
    /// The issuer says no, by a word of RFC 6749.
    #[error("the issuer refused the login: {0}; open /login to try again")]
    Refused(String),
    /// The issuer has no address for logins.
    #[error("the issuer names no authorization_endpoint or no token_endpoint; nobody can log in")]
    NoEndpoint,
    /// The issuer's ID token does not count.
    #[error("the issuer's ID token does not count: {}", reason(.0))]
    Token(Refusal),
    /// The person is for too many tenants.
    #[error("the login names more tenants than a session holds ({0}); use a token or an API key")]
    TooLarge(#[from] TooLong),
    /// Too many log in at once.
    #[error("too many people log in at this moment; open /login again")]
    Busy,
    /// The issuer does not answer, or not as it should. What it said is for the log.
    #[error(
        "the issuer does not answer as it should, so nobody can log in now; the server's log says more"
    )]
    Issuer(FetchError),
}

/// Why a token does not count; the refusal of a credential says so twice.
fn reason(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Invalid(why) => (*why).to_owned(),
        other => other.to_string(),
    }
}

impl From<LoginError> for Problem {
    fn from(error: LoginError) -> Self {
        let message = error.to_string();
        match error {
            LoginError::Busy => Self::exhausted(reasons::SERVER_BUSY, message)
                .with_retry_after(Duration::from_secs(1)),
            LoginError::Issuer(_) | LoginError::NoEndpoint => {
                Self::unavailable(reasons::ISSUER_UNAVAILABLE, message)
            }
            LoginError::TooLarge(_) | LoginError::Token(_) | LoginError::Refused(_) => {
                Self::new(Code::PermissionDenied, reasons::LOGIN_FAILED, message)
            }
            _ => Self::new(Code::InvalidArgument, reasons::LOGIN_FAILED, message),
        }
    }
}
