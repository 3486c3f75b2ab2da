//! The routes of a login.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CACHE_CONTROL, LOCATION, SET_COOKIE},
};
use tracing::{info, warn};
use utoipa::OpenApi;

use super::{
    Login,
    exchange::word,
    failure::LoginError,
    ticket::{Return, TICKET_AGE, Ticket},
};
use crate::{
    Problem,
    access::issuer::NamesItself,
    listen::Peer,
    parameters::Parameters,
    problem::{ProblemJson, http::HttpProblem, reasons},
};

/// What the issuer's answer may have; it may have more, which nobody looks at.
const ANSWER: [&str; 4] = ["state", "code", "iss", "error"];

/// The description of these routes.
#[derive(OpenApi)]
#[openapi(
    paths(begin, finish, end),
    tags((name = "login", description = "How a person logs in by a browser.")),
)]
pub(super) struct Description;

pub(super) fn router(login: Arc<Login>) -> Router {
    Router::new()
        .route("/login", get(begin))
        .route(super::CALLBACK, get(finish))
        .route("/logout", post(end))
        .with_state(login)
}

/// Sends the browser to the issuer, where the person logs in.
#[utoipa::path(
    get,
    path = "/login",
    operation_id = "beginLogin",
    tag = "login",
    params(("return" = Option<String>, Query, description = "The page of this server to go to afterwards; / if absent.")),
    responses(
        (status = 302, description = "To the issuer."),
        (status = 503, description = "The issuer does not answer.", body = ProblemJson, content_type = "application/problem+json"),
    ),
)]
async fn begin(State(login): State<Arc<Login>>, request: Request) -> Result<Response, HttpProblem> {
    login.count(&request)?;
    let parameters = Parameters::parse(request.uri().query(), &["return"], &[])?;
    let to = match parameters.get("return") {
        None => Return::home(),
        Some(text) => Return::parse(text).map_err(|error| {
            Problem::invalid("return", reasons::PARAMETER_INVALID, error.to_string())
        })?,
    };
    let begun = async {
        let metadata = login.metadata().await.map_err(LoginError::Issuer)?;
        let ticket = Ticket::new(to, login.clock.now());
        let address = login.authorization(&metadata, &ticket)?;
        let kept = login.cookie().set(&ticket.seal(&login.tickets), TICKET_AGE)?;
        Ok(redirect(StatusCode::FOUND, &address, [kept]))
    };
    begun.await.map_err(refused)
}

/// Takes the issuer's answer and begins a session.
#[utoipa::path(
    get,
    path = "/login/callback",
    operation_id = "finishLogin",
    tag = "login",
    responses(
        (status = 302, description = "To the page that the login was begun for, with a session."),
        (status = 400, description = "The answer belongs to no login of this browser.", body = ProblemJson, content_type = "application/problem+json"),
        (status = 403, description = "The issuer, or what it says of the person, refuses.", body = ProblemJson, content_type = "application/problem+json"),
        (status = 503, description = "The issuer does not answer.", body = ProblemJson, content_type = "application/problem+json"),
    ),
)]
async fn finish(
    State(login): State<Arc<Login>>,
    request: Request,
) -> Result<Response, HttpProblem> {
    login.count(&request)?;
    let query = known(request.uri().query().unwrap_or_default());
    let answer = Parameters::parse(Some(&query), &ANSWER, &[])?;
    login.finish(&answer, request.headers()).await.map_err(refused)
}

/// Ends the session of this browser.
#[utoipa::path(
    post,
    path = "/logout",
    operation_id = "endSession",
    tag = "login",
    responses(
        (status = 303, description = "To the first page, without a session."),
        (status = 403, description = "A page of others asks.", body = ProblemJson, content_type = "application/problem+json"),
    ),
)]
async fn end(State(login): State<Arc<Login>>, request: Request) -> Result<Response, HttpProblem> {
    login.sessions.check_page(request.method(), request.headers())?;
    Ok(redirect(
        StatusCode::SEE_OTHER,
        "/",
        [login.sessions.cookie().cleared(), login.cookie().cleared()],
    ))
}

impl Login {
    /// Counts a request of an address.
    fn count(&self, request: &Request) -> Result<(), Problem> {
        let peer = request.extensions().get::<Peer>().copied().unwrap_or_default();
        self.rates.of_address(peer).map(drop).map_err(|too_many| too_many.problem)
    }

    async fn finish(
        &self,
        answer: &Parameters<'_>,
        headers: &HeaderMap,
    ) -> Result<Response, LoginError> {
        let now = self.clock.now();
        let ticket = self.ticket(headers).ok_or(LoginError::NoTicket)?;
        if answer.get("state") != Some(&ticket.state) {
            return Err(LoginError::OtherLogin);
        }
        let metadata = self.metadata().await.map_err(LoginError::Issuer)?;
        match (answer.get("iss"), metadata.names_itself) {
            (Some(named), _) if named != self.issuer.name() => return Err(LoginError::OtherIssuer),
            (None, NamesItself::Always) => return Err(LoginError::OtherIssuer),
            _ => {}
        }
        if let Some(error) = answer.get("error") {
            return Err(LoginError::Refused(word(error)));
        }
        let code = answer.get("code").ok_or(LoginError::NoCode)?;
        let verified = self.exchange(&metadata, &ticket, code).await?;
        let until = verified.until.min(now.plus(self.options.session_max));
        let session = self.sessions.begin(&verified.principal, until, now)?;
        let person = &verified.principal;
        info!(name = person.name, roles = %person.roles, tenants = %person.tenants, %until, "logged in");
        Ok(redirect(StatusCode::FOUND, ticket.to.as_str(), [session, self.cookie().cleared()]))
    }

    /// The one ticket that the browser brings.
    fn ticket(&self, headers: &HeaderMap) -> Option<Ticket> {
        match &self.cookie().values(headers)[..] {
            [value] => Ticket::open(value.to_str().ok()?, &self.tickets, self.clock.now()),
            _ => None,
        }
    }
}

/// What the browser is told; the log has what the issuer did.
fn refused(error: LoginError) -> HttpProblem {
    match &error {
        LoginError::Issuer(cause) => warn!(error = %cause, "the issuer cannot log anybody in"),
        LoginError::NoEndpoint => warn!(%error, "the issuer cannot log anybody in"),
        _ => info!(%error, "login refused"),
    }
    HttpProblem(error.into())
}

/// The pairs of a query whose names count.
fn known(query: &str) -> String {
    let counts = |pair: &&str| {
        let name = pair.split_once('=').map_or(*pair, |(name, _)| name);
        ANSWER.contains(&name)
    };
    query.split('&').filter(counts).collect::<Vec<_>>().join("&")
}

fn redirect(
    status: StatusCode,
    to: &str,
    cookies: impl IntoIterator<Item = HeaderValue>,
) -> Response {
    let mut response = status.into_response();
    let headers = response.headers_mut();
    headers
        .insert(LOCATION, HeaderValue::from_str(to).expect("addresses and paths are plain text"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for cookie in cookies {
        headers.append(SET_COOKIE, cookie);
    }
    response
}
