//! Layer: the one gate of both doors, between a request and every handler.
//!
//! It finds the rule of the method, counts the request of the address, finds the principal, checks
//! roles and tenants, counts the request of the client and the place of a stream, and leaves the
//! [`Principal`] among the request's extensions, and the client's [`Pace`](crate::listen::Pace). The credential's headers end here: no handler, and no log of one, sees them.
//! A streaming call passes once, when it begins.
//!
//! While access is off, every request has the [local principal](Principal::local).

mod door;

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use http::{
    HeaderValue, Method, Request, Response,
    header::{CONTENT_TYPE, COOKIE},
};
use tonic::Code;
use tower::{Layer, Service};

use self::door::{Door, Refused};
use super::{
    authenticator::Authenticator,
    change::Change,
    pages::Guests,
    principal::{CredentialKind, Principal},
    quota::{Place, Quotas},
    rate::{Rates, Remaining},
    refusal::Refusal,
    rules::{Effect, Found, Rule, Rules},
    shown::Shown,
    trail::Record,
    watched::{Check, Watch, Watched},
    writes::{Call, Writes},
};
use crate::{CorrelationId, Problem, listen::Peer, problem::reasons};

/// Who may come in, for all doors of a process. Clones share it.
#[derive(Clone, Debug)]
pub struct Access(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    rules: Rules,
    authenticator: Option<Authenticator>,
    rates: Rates,
    quotas: Quotas,
    /// Of every request while access is off.
    local: Principal,
    writes: Writes,
}

impl Access {
    /// Access by these rules for principals that this authenticator finds, with their writes recorded.
    #[must_use]
    pub fn new(
        rules: Rules,
        authenticator: Authenticator,
        (rates, quotas): (Rates, Quotas),
        trail: Arc<dyn Record>,
    ) -> Self {
        Self::with(rules, Some(authenticator), (rates, quotas), trail)
    }

    fn with(
        rules: Rules,
        authenticator: Option<Authenticator>,
        (rates, quotas): (Rates, Quotas),
        trail: Arc<dyn Record>,
    ) -> Self {
        let (local, writes) = (Principal::local(), Writes::new(trail));
        Self(Arc::new(Shared { rules, authenticator, rates, quotas, local, writes }))
    }

    /// No access control: every request may do everything, within the rate of its address. For
    /// processes that serve loopback only.
    #[must_use]
    pub fn off(rules: Rules, rates: Rates, trail: Arc<dyn Record>) -> Self {
        Self::with(rules, None, (rates, Quotas::default()), trail)
    }

    /// Waits until every write that was begun is recorded to its end. No request may come any more.
    pub(crate) async fn finish_writes(&self) {
        self.0.writes.finish().await;
    }

    /// Cuts off the writes under way when it is dropped.
    pub(crate) fn cut_off_on_drop(&self) -> CutOff {
        CutOff(self.clone())
    }

    /// Who may call what.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.0.rules
    }

    /// Tells whether requests need credentials.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.authenticator.is_some()
    }
}

/// See [`Access::cut_off_on_drop`].
pub(crate) struct CutOff(Access);

impl Drop for CutOff {
    fn drop(&mut self) {
        self.0.0.writes.cut_off();
    }
}

/// What the content type of a call begins with.
const GRPC: &[u8] = b"application/grpc";

/// Lets requests in by an [`Access`].
#[derive(Clone, Debug)]
pub struct AccessLayer {
    access: Access,
    door: Door,
    /// Of the HTTP door.
    guests: Option<Arc<Guests>>,
}

impl AccessLayer {
    /// The layer of the gRPC door.
    #[must_use]
    pub const fn grpc(access: Access) -> Self {
        Self { access, door: Door::Grpc, guests: None }
    }

    /// The layer of the HTTP door. It belongs within the layer that writes problems out.
    #[must_use]
    pub fn http(access: Access, guests: Guests) -> Self {
        Self { access, door: Door::Http, guests: Some(Arc::new(guests)) }
    }
}

impl<S> Layer<S> for AccessLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, layer: self.clone() }
    }
}

/// A service under an [`AccessLayer`].
#[derive(Clone, Debug)]
pub struct Guarded<S> {
    inner: S,
    layer: AccessLayer,
}

impl<S, B, A> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response<A>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Send + 'static,
    A: Default + Send + 'static,
{
    type Response = Response<Watched<A>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The clone may not be ready; the one that was polled is.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let layer = self.layer.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let Admitted { remaining, watch, write } = match layer.admit(&mut parts).await {
                Ok(admitted) => admitted,
                Err(refused) => return Ok(layer.door.write(*refused)),
            };
            let request = Request::from_parts(parts, body);
            let answered = match write {
                None => Ok(inner.call(request).await),
                Some(call) => layer.write(&call, inner, request).await,
            };
            let mut response = match answered {
                Ok(answer) => answer?,
                Err(problem) => {
                    let refused = Refused { problem, remaining, verbs: Vec::new() };
                    return Ok(layer.door.write(refused));
                }
            };
            if let (Door::Http, Some(remaining)) = (layer.door, remaining) {
                remaining.write(response.headers_mut());
            }
            Ok(response.map(|body| Watched::new(body, watch)))
        })
    }
}

/// A request that comes in.
#[derive(Default)]
struct Admitted {
    /// What is left of the tighter rate.
    remaining: Option<Remaining>,
    /// Of a gRPC call with a credential.
    watch: Option<Watch>,
    /// Where the method writes.
    write: Option<Call>,
}

impl AccessLayer {
    /// Lets a request in, with its principal, or says why not.
    async fn admit(&self, parts: &mut http::request::Parts) -> Result<Admitted, Box<Refused>> {
        let Shared { authenticator, rates, local, .. } = &*self.access.0;
        let mut shown =
            Shown::take(parts, authenticator.as_ref().and_then(Authenticator::sessions));
        if self.door == Door::Grpc {
            // A browser adds its cookie to any request, so calls over gRPC do not count by it.
            shown.headers.remove(COOKIE);
        }
        let found = self.find(&parts.method, parts.uri.path());
        let is_open = matches!(found, Found::Rule(rule) if rule.is_open());
        let peer = parts.extensions.get::<Peer>().copied().unwrap_or_default();
        // Probes come from an address that nobody chooses, and cost nothing.
        let of_address = if is_open { None } else { rates.of_address(peer)? };
        self.check_content_type(parts)?;
        let Some(authenticator) = authenticator else {
            // Before anything is recorded: a page of others writes nothing.
            self.check_page(parts)?;
            parts.extensions.insert(local.clone());
            let write = match found {
                Found::Rule(rule) => call_of(rule, local, parts),
                Found::OtherVerb | Found::Nothing => None,
            };
            return Ok(Admitted { remaining: of_address, watch: None, write });
        };
        if is_open {
            return Ok(Admitted::default());
        }
        match self.admit_known(parts, (found, shown), authenticator).await {
            Ok(Admitted { remaining, watch, write }) => {
                let remaining = remaining.map(|remaining| remaining.tighter(of_address));
                Ok(Admitted { remaining: remaining.or(of_address), watch, write })
            }
            // It was counted, whatever came of it.
            Err(mut refused) => {
                refused.remaining = refused.remaining.or(of_address);
                Err(refused)
            }
        }
    }

    /// The same behind the rate of the address, for a method that needs a credential.
    async fn admit_known(
        &self,
        parts: &mut http::request::Parts,
        (found, shown): (Found, Shown),
        authenticator: &Authenticator,
    ) -> Result<Admitted, Box<Refused>> {
        let Shared { rates, quotas, writes, .. } = &*self.access.0;
        let path = parts.uri.path();
        let rule = match found {
            Found::Rule(rule) => rule,
            Found::OtherVerb => return Err(self.other_verb(path)),
            Found::Nothing => return Err(self.door.no_such(path).into()),
        };
        let principal = authenticator.identify(&shown).await.map_err(Problem::from)?;
        if let (Some(sessions), true) =
            (authenticator.sessions(), shown.headers.contains_key(COOKIE))
        {
            sessions.check_page(&parts.method, &parts.headers)?;
        }
        if principal.kind == CredentialKind::Certificate {
            self.check_page(parts)?;
        }
        let write = call_of(rule, &principal, parts);
        if let Err(problem) = rule.authorise(&principal) {
            if let Some(call) = write {
                writes.refused(&call, &problem).await;
            }
            return Err(problem.into());
        }
        let remaining = rates.of_principal(&principal)?;
        let place = quotas.place(&principal, path)?;
        if let Some(pace) = quotas.pace(&principal) {
            parts.extensions.insert(pace);
        }
        parts.extensions.insert(principal.clone());
        Ok(Admitted { remaining, watch: self.watch((shown, principal), place), write })
    }

    /// Checks that no page of others is behind a request that a browser completes by itself.
    fn check_page(&self, parts: &http::request::Parts) -> Result<(), Problem> {
        self.guests.as_ref().map_or(Ok(()), |guests| guests.check(parts))
    }

    /// Checks that a call over gRPC says that it is one. A page can send bytes to any address with the
    /// certificate of its browser, but this type only after asking, and this door never grants that.
    fn check_content_type(&self, parts: &http::request::Parts) -> Result<(), Problem> {
        let kind = parts.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        if self.door == Door::Http || kind.is_some_and(|kind| kind.starts_with(GRPC)) {
            return Ok(());
        }
        let message = "the content-type is not application/grpc, which every call has; this port speaks gRPC, and HTTP is at listen.http";
        Err(Problem::new(Code::InvalidArgument, reasons::REQUEST_UNDECODABLE, message))
    }

    /// Has a handler do a write that is recorded.
    async fn write<S, B, A>(
        &self,
        call: &Call,
        mut handler: S,
        mut request: Request<B>,
    ) -> Result<Result<Response<A>, S::Error>, Problem>
    where
        S: Service<Request<B>, Response = Response<A>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Send + 'static,
        B: Send + 'static,
        A: Send + 'static,
    {
        let door = self.door;
        let handle = move |change: Change| {
            request.extensions_mut().insert(change);
            handler.call(request)
        };
        let refused = move |answer: &Result<Response<A>, S::Error>| {
            answer.as_ref().map_or(Some(reasons::INTERNAL), |answer| door.refused(answer))
        };
        self.access.0.writes.run(call, handle, refused).await
    }

    /// Looks at the credential of a gRPC call for as long as its answer lasts. Requests over HTTP are
    /// short.
    fn watch(&self, begun: (Shown, Principal), place: Option<Place>) -> Option<Watch> {
        if self.door != Door::Grpc {
            return None;
        }
        let access = self.access.clone();
        let begun = Arc::new(begun);
        let look = move || {
            let (access, begun) = (access.clone(), Arc::clone(&begun));
            Box::pin(async move {
                let Some(authenticator) = &access.0.authenticator else { return Ok(()) };
                let (shown, principal) = &*begun;
                // A certificate may be given to another client, or for other tenants, meanwhile.
                match authenticator.identify(shown).await? == *principal {
                    true => Ok(()),
                    false => Err(Refusal::Revoked),
                }
            }) as Check
        };
        Some(Watch::new(look, place))
    }

    fn find(&self, verb: &Method, path: &str) -> Found {
        match self.door {
            Door::Grpc => self.access.rules().of_call(path),
            Door::Http => self.access.rules().of_request(verb, path),
        }
    }

    fn other_verb(&self, path: &str) -> Box<Refused> {
        let verbs = self.access.rules().verbs_of(path);
        Box::new(Refused { problem: Problem::other_verb(), remaining: None, verbs })
    }
}

/// What is to be recorded of a request, where its method writes.
fn call_of(rule: Rule, principal: &Principal, parts: &http::request::Parts) -> Option<Call> {
    let request_id = || {
        let id = parts.extensions.get::<CorrelationId>().cloned();
        id.unwrap_or_else(|| CorrelationId::of_headers(&parts.headers))
    };
    (rule.effect == Effect::Writes).then(|| Call {
        principal: principal.clone(),
        rule,
        request_id: request_id(),
    })
}

#[cfg(test)]
mod tests;
