//! Channel: calls to one server, over connections that are opened again when they break, each call with
//! the credential that was given.

use std::{
    error::Error,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use futures_util::future::BoxFuture;
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;
use tonic::{
    body::Body,
    codegen::http::{HeaderValue, Request, Response, Uri, header::AUTHORIZATION},
    transport,
};
use tower::Service;

use super::tls::{Security, Untrusted, speaks_tls, untrusted};

type BoxError = Box<dyn Error + Send + Sync>;

/// Calls to one server. Clones share its connection.
#[derive(Clone)]
pub struct Channel {
    inner: transport::Channel,
    authorization: Option<HeaderValue>,
    trouble: Trouble,
}

impl Channel {
    pub(super) const fn new(
        inner: transport::Channel,
        authorization: Option<HeaderValue>,
        trouble: Trouble,
    ) -> Self {
        Self { inner, authorization, trouble }
    }
}

impl From<transport::Channel> for Channel {
    /// Calls over a connection that was made elsewhere, without a credential.
    fn from(inner: transport::Channel) -> Self {
        Self::new(inner, None, Trouble::default())
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(|error| self.trouble.explain(error))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        let (answer, trouble) = (self.inner.call(request), self.trouble.clone());
        Box::pin(async move { answer.await.map_err(|error| trouble.explain(error)) })
    }
}

/// What TLS said last about a connection. The libraries between pass on that it broke, and not why.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble(Arc<Mutex<Option<Untrusted>>>);

impl Trouble {
    fn set(&self, found: Option<Untrusted>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    /// The error in the words of what is below it, where it is a matter of TLS.
    fn explain(&self, error: transport::Error) -> BoxError {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match known.or_else(|| untrusted(&error).cloned()) {
            Some(untrusted) => untrusted.status().into(),
            None => error.into(),
        }
    }
}

/// Opens connections, secured where they have to be, and notes what TLS has against them.
#[derive(Clone)]
pub(super) struct Connector {
    http: HttpConnector,
    security: Option<Security>,
    trouble: Trouble,
}

impl Connector {
    pub(super) fn new(security: Option<Security>, trouble: Trouble) -> Self {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        Self { http, security, trouble }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Watched>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<TokioIo<Watched>, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.http.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (security, trouble) = (self.security.clone(), self.trouble.clone());
        let connecting = self.http.call(uri);
        Box::pin(async move {
            trouble.set(None);
            let stream = connecting.await?.into_inner();
            let stream = match security {
                None => Stream::Plain { stream, is_new: true },
                Some(security) => {
                    Stream::Tls { stream: Box::new(security.secure(stream).await?), security }
                }
            };
            Ok(TokioIo::new(Watched { stream, trouble }))
        })
    }
}

/// A connection that is watched for what TLS has against it. With TLS 1.3 a client learns at its first
/// read that the server does not take its certificate.
pub(super) struct Watched {
    stream: Stream,
    trouble: Trouble,
}

enum Stream {
    Plain { stream: TcpStream, is_new: bool },
    Tls { stream: Box<TlsStream<TcpStream>>, security: Security },
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        match &mut this.stream {
            Stream::Plain { stream, is_new } => {
                let read = ready!(Pin::new(stream).poll_read(context, buffer));
                if std::mem::take(is_new) {
                    this.trouble.set(speaks_tls(&buffer.filled()[before..]));
                }
                Poll::Ready(read)
            }
            Stream::Tls { stream, security } => {
                let read = ready!(Pin::new(stream).poll_read(context, buffer));
                // One that ends without a last word of TLS has only gone away.
                let error = read.as_ref().err();
                if let Some(error) = error.filter(|e| e.kind() != io::ErrorKind::UnexpectedEof) {
                    this.trouble.set(security.explain(error));
                }
                Poll::Ready(read)
            }
        }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain { stream, .. } => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls { stream, .. } => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain { stream, .. } => Pin::new(stream).poll_write_vectored(context, slices),
            Stream::Tls { stream, .. } => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain { stream, .. } => stream.is_write_vectored(),
            Stream::Tls { stream, .. } => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain { stream, .. } => Pin::new(stream).poll_flush(context),
            Stream::Tls { stream, .. } => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain { stream, .. } => Pin::new(stream).poll_shutdown(context),
            Stream::Tls { stream, .. } => Pin::new(stream).poll_shutdown(context),
        }
    }
}
