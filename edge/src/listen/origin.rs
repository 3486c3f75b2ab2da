//! Origin: who is at the other end of a connection, as every request on it carries it.
//!
//! Both doors leave two extensions with a request: [`Peer`], whose bounds it counts against, and
//! [`TlsPeer`] where the client has shown a certificate that was verified. Nothing that a client
//! writes into a request can set either.

use std::task::{Context, Poll};

use http::{Extensions, Request};
use tower::{Layer, Service};

use super::{budget::Peer, tls::TlsPeer};

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Whose share of the bounds it takes.
    pub peer: Peer,
    /// Names of its verified certificate; `None` without one.
    pub tls: Option<TlsPeer>,
}

impl Origin {
    /// Leaves [`Peer`] and, where a certificate was shown, [`TlsPeer`] with a request.
    pub fn put_into(&self, extensions: &mut Extensions) {
        extensions.insert(self.peer);
        if let Some(tls) = &self.tls {
            extensions.insert(tls.clone());
        }
    }
}

/// Unpacks the [`Origin`] that tonic leaves with each request of a connection. The outermost layer of
/// a gRPC server, because the others read what it leaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct OriginLayer;

impl<S> Layer<S> for OriginLayer {
    type Service = WithOrigin<S>;

    fn layer(&self, inner: S) -> WithOrigin<S> {
        WithOrigin { inner }
    }
}

/// A service under [`OriginLayer`].
#[derive(Clone, Debug)]
pub struct WithOrigin<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for WithOrigin<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if let Some(origin) = request.extensions_mut().remove::<Origin>() {
            origin.put_into(request.extensions_mut());
        }
        self.inner.call(request)
    }
}
