//! The gRPC services of ingest, wired by hand so that a batch is never decoded, and the origin's
//! one-pulse call.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use bytes::Bytes;
use domain::PulseLog;
use edge::{
    CorrelationId, Doors, Problem,
    access::{Principal, Role, Roles, Rule, TenantRule},
    grpc::Services,
    listen::{
        Peer,
        frames::{Framed, Quiet, Room},
    },
    problem::reasons,
};
use futures_util::{future::BoxFuture, stream::BoxStream};
use prost::Message;
use proto::v1::{self, IngestAck, usage_service_server};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codegen::Service,
    server::{ClientStreamingService, Grpc, NamedService, StreamingService, UnaryService},
};

use tonic_prost::ProstCodec;

use crate::{
    codec::BatchCodec,
    ingest::{Ingest, Origin},
    outcome::Outcome,
    scope::Scope,
    stream,
};

/// Who sends: services, and operators who bring usage up to date.
const SENDERS: Roles = Roles::of(&[Role::Admin, Role::Operator, Role::Writer]);

/// Who may call this stage's methods.
pub const RULES: [Rule; 4] = [
    Rule::send_pulses("/pulso.v1.IngestService/Ingest", SENDERS, TenantRule::FromRequest),
    Rule::send_pulses("/pulso.v1.IngestService/IngestStream", SENDERS, TenantRule::FromRequest),
    Rule::read("/pulso.v1.IngestService/GetTimeBounds", SENDERS, TenantRule::Any),
    Rule::send_pulses("/pulso.v1.UsageService/Consume", SENDERS, TenantRule::FromRequest),
];

/// `pulso.v1.IngestService`.
pub struct IngestServer<L: PulseLog> {
    ingest: Ingest<L>,
}

/// `pulso.v1.UsageService`.
pub struct UsageServer<L: PulseLog> {
    ingest: Ingest<L>,
}

impl<L: PulseLog> Ingest<L> {
    /// What this stage serves.
    #[must_use]
    pub fn doors(&self) -> Doors {
        // Batches are counted until they are in the log.
        let grpc = Services::default()
            .with_own_count(self.ingest_server())
            .with(self.usage_server(), self.limits().message_bytes_max);
        Doors { grpc, rules: RULES.to_vec(), ..Doors::default() }
    }

    /// The service for batches, to be added to a tonic router.
    #[must_use]
    pub fn ingest_server(&self) -> IngestServer<L> {
        IngestServer { ingest: self.clone() }
    }

    /// The service for single pulses, to be added to a tonic router.
    #[must_use]
    pub fn usage_server(&self) -> usage_service_server::UsageServiceServer<UsageServer<L>> {
        let server = UsageServer { ingest: self.clone() };
        usage_service_server::UsageServiceServer::new(server)
            .max_decoding_message_size(self.limits().message_bytes_max)
    }
}

impl<L: PulseLog> Clone for IngestServer<L> {
    fn clone(&self) -> Self {
        Self { ingest: self.ingest.clone() }
    }
}

impl<L: PulseLog> NamedService for IngestServer<L> {
    const NAME: &'static str = "pulso.v1.IngestService";
}

impl<L: PulseLog> Service<http::Request<Body>> for IngestServer<L> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let ingest = self.ingest.clone();
        let bytes_max = ingest.limits().message_bytes_max;
        let grpc = move |codec| Grpc::new(codec).max_decoding_message_size(bytes_max);
        match request.uri().path() {
            "/pulso.v1.IngestService/IngestStream" => Box::pin(async move {
                let (request, room) = counted(&ingest, request, Quiet::Honest);
                let method = StreamMethod { ingest, room };
                Ok(grpc(BatchCodec::STREAM).streaming(method, request).await)
            }),
            // Read as a stream of one, so that a message above the limit gets our own answer.
            "/pulso.v1.IngestService/Ingest" => Box::pin(async move {
                let (request, room) = counted(&ingest, request, Quiet::Counted);
                let method = SingleMethod { ingest, room };
                Ok(grpc(BatchCodec::SINGLE).client_streaming(method, request).await)
            }),
            "/pulso.v1.IngestService/GetTimeBounds" => Box::pin(async move {
                // Held until the answer, as for the other calls.
                let (request, _room) = counted(&ingest, request, Quiet::Counted);
                let codec = ProstCodec::<v1::TimeBounds, v1::GetTimeBoundsRequest>::default();
                let mut grpc = Grpc::new(codec).max_decoding_message_size(bytes_max);
                Ok(grpc.unary(TimeBoundsMethod { ingest }, request).await)
            }),
            path => {
                let message = format!("there is no method {path}");
                let code = tonic::Code::Unimplemented;
                let status = Status::from(Problem::new(code, reasons::ROUTE_NOT_FOUND, message));
                Box::pin(async move { Ok(status.into_http()) })
            }
        }
    }
}

/// A call whose messages take their room as their heads pass.
fn counted<L: PulseLog>(
    ingest: &Ingest<L>,
    request: http::Request<Body>,
    quiet: Quiet,
) -> (http::Request<Framed<Body>>, Room) {
    let (peer, pace) = (peer_of(request.extensions()), request.extensions().get().cloned());
    let (parts, body) = request.into_parts();
    let (body, room) = ingest.count(body, (peer, pace), quiet);
    (http::Request::from_parts(parts, body), room)
}

struct StreamMethod<L: PulseLog> {
    ingest: Ingest<L>,
    room: Room,
}

impl<L: PulseLog> StreamingService<Bytes> for StreamMethod<L> {
    type Response = IngestAck;
    type ResponseStream = BoxStream<'static, Result<IngestAck, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let (ingest, room) = (self.ingest.clone(), self.room.clone());
        Box::pin(async move {
            let origin = origin_of(&request)?;
            let acks = stream::acks(ingest, origin, request.into_inner(), room)?;
            Ok(Response::new(Box::pin(acks) as Self::ResponseStream))
        })
    }
}

struct SingleMethod<L: PulseLog> {
    ingest: Ingest<L>,
    room: Room,
}

impl<L: PulseLog> ClientStreamingService<Bytes> for SingleMethod<L> {
    type Response = IngestAck;
    type Future = BoxFuture<'static, Result<Response<IngestAck>, Status>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let (ingest, room) = (self.ingest.clone(), self.room.clone());
        Box::pin(async move {
            let origin = origin_of(&request)?;
            single(&ingest, request.into_inner(), &room, &origin).await.map(Response::new)
        })
    }
}

struct TimeBoundsMethod<L: PulseLog> {
    ingest: Ingest<L>,
}

impl<L: PulseLog> UnaryService<v1::GetTimeBoundsRequest> for TimeBoundsMethod<L> {
    type Response = v1::TimeBounds;
    type Future = Ready<Result<Response<v1::TimeBounds>, Status>>;

    fn call(&mut self, _: Request<v1::GetTimeBoundsRequest>) -> Self::Future {
        ready(Ok(Response::new(self.ingest.time_bounds())))
    }
}

async fn single<L: PulseLog>(
    ingest: &Ingest<L>,
    mut requests: Streaming<Bytes>,
    room: &Room,
    origin: &Origin,
) -> Result<IngestAck, Status> {
    let bytes_max = ingest.limits().message_bytes_max;
    let message = requests.message().await.map_err(|status| {
        if status.code() == tonic::Code::ResourceExhausted {
            ingest.metrics().answered(Outcome::Overloaded, 0, 0);
        }
        stream::explain(status, bytes_max)
    })?;
    let message = message.ok_or_else(|| {
        let text = "the call carries no message; send one pulso.v1.PulseBatch";
        Status::from(Problem::new(tonic::Code::InvalidArgument, reasons::BATCH_UNDECODABLE, text))
    })?;
    let room = room.split(message.len());
    Ok(ingest.submit_counted(message, origin, room).await?)
}

#[tonic::async_trait]
impl<L: PulseLog> usage_service_server::UsageService for UsageServer<L> {
    async fn consume(
        &self,
        request: Request<v1::UsageInfoRequest>,
    ) -> Result<Response<()>, Status> {
        let origin = origin_of(&request)?;
        let message = batch_of(request.into_inner()).encode_to_vec().into();
        let ack = self.ingest.submit(message, &origin).await?;
        Ok(Response::new(only_pulse(&ack)?))
    }
}

/// The origin's call as a batch of one pulse, without identity or time.
fn batch_of(usage: v1::UsageInfoRequest) -> v1::PulseBatch {
    let v1::UsageInfoRequest { tenant, product_sku, used_amount, use_unity } = usage;
    let used_amount = Some(v1::Decimal { unscaled: used_amount.into(), scale: 0 });
    let pulse = v1::Pulse { tenant, product_sku, use_unity, used_amount, ..v1::Pulse::default() };
    v1::PulseBatch { pulses: vec![pulse], ..v1::PulseBatch::default() }
}

/// The answer for the only pulse of a batch, in the terms of a call that has no batch.
fn only_pulse(ack: &IngestAck) -> Result<(), Problem> {
    let Some(error) = ack.errors.first() else { return Ok(()) };
    let field = error.field.trim_start_matches("pulses[0]").trim_start_matches('.');
    // The table holds every reason, because the check took it from there.
    let reason = reasons::TABLE.iter().find(|(reason, _)| *reason == error.reason);
    let reason = reason.map_or(reasons::INTERNAL, |(reason, _)| reason);
    Err(Problem::invalid(field, reason, error.message.as_str()))
}

/// Who sent a request: what the credential covers and the request's id, as the layers before left them
/// in the extensions.
///
/// # Errors
/// INTERNAL where no gate was passed: nothing is taken from anybody unknown.
fn origin_of<T>(request: &Request<T>) -> Result<Origin, Problem> {
    let id = request.extensions().get::<CorrelationId>().cloned();
    Ok(Origin {
        scope: Scope::of_principal(&Principal::of(request.extensions())?),
        correlation_id: id.unwrap_or_else(|| CorrelationId::of_metadata(request.metadata())),
        peer: peer_of(request.extensions()),
    })
}

/// Who is at the other end, as the listener has left it among the extensions.
fn peer_of(extensions: &http::Extensions) -> Peer {
    extensions.get::<Peer>().copied().unwrap_or_default()
}
