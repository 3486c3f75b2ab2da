//! The gRPC door of billing: `CatalogService` and `BillingService`, with the same answers and the same
//! refusals as over HTTP.

use std::pin::Pin;

use domain::{BillingStore, BlockStore, PulseLog};
use edge::{
    Problem,
    access::{Change, Principal},
};
use futures_util::{Stream, TryStreamExt as _};
use prost::Message as _;
use proto::v1::{
    self,
    billing_service_server::{BillingService, BillingServiceServer},
    catalog_service_server::{CatalogService, CatalogServiceServer},
};
use tonic::{Request, Response, Status};

use crate::{
    answers::{
        explanation::{self, Part},
        invoice::InvoiceLinesAnswer,
        preview::PreviewAnswer,
        simulation,
        verification::VerificationAnswer,
    },
    api::{BillingApi, explaining::Form, invoices::Shown},
};

type Answer<T> = Result<Response<T>, Status>;

/// Most bytes of an answer. Clients that expect more than their 4 MiB must raise their own limit.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

impl<U: BlockStore, B: BillingStore, L: PulseLog> BillingApi<U, B, L> {
    /// The tonic service for catalogues.
    #[must_use]
    pub fn catalog_server(&self) -> CatalogServiceServer<Self> {
        CatalogServiceServer::new(self.clone())
            .max_decoding_message_size(pricing::file::BYTES_MAX + (64 << 10))
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// The tonic service for bills.
    #[must_use]
    pub fn billing_server(&self) -> BillingServiceServer<Self> {
        BillingServiceServer::new(self.clone()).max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

impl<U, B, L> BillingApi<U, B, L> {
    /// Answers with a message that takes arithmetic to make, because it may be large.
    async fn made<T: Send + 'static, M: Send + 'static>(
        &self,
        answer: T,
        message: impl FnOnce(T) -> M + Send + 'static,
    ) -> Answer<M> {
        Ok(Response::new(self.compute.run(move || message(answer)).await?))
    }
}

fn answer<T>(outcome: Result<T, Problem>) -> Answer<T> {
    Ok(Response::new(outcome?))
}

#[tonic::async_trait]
impl<U: BlockStore, B: BillingStore, L: PulseLog> CatalogService for BillingApi<U, B, L> {
    async fn publish_catalogue(
        &self,
        request: Request<v1::PublishCatalogueRequest>,
    ) -> Result<Response<v1::PublishCatalogueResponse>, Status> {
        let change = Change::of(request.extensions())?;
        let outcome = self.publish(request.into_inner(), &change).await;
        Ok(Response::new(outcome?))
    }

    async fn get_catalogue(
        &self,
        request: Request<v1::GetCatalogueRequest>,
    ) -> Result<Response<v1::CatalogueVersion>, Status> {
        Ok(Response::new(self.find_catalogue(&request.into_inner().version).await?))
    }

    async fn list_catalogues(
        &self,
        _: Request<v1::ListCataloguesRequest>,
    ) -> Result<Response<v1::ListCataloguesResponse>, Status> {
        Ok(Response::new(self.catalogues().await?))
    }
}

#[tonic::async_trait]
impl<U: BlockStore, B: BillingStore, L: PulseLog> BillingService for BillingApi<U, B, L> {
    async fn preview_bill(
        &self,
        request: Request<v1::PreviewBillRequest>,
    ) -> Answer<v1::PreviewBillResponse> {
        let principal = Principal::of(request.extensions())?;
        let previewed = self.preview(&request.into_inner(), &principal).await;
        self.made(previewed?, PreviewAnswer::message).await
    }

    async fn apply_contract(
        &self,
        request: Request<v1::ApplyContractRequest>,
    ) -> Answer<v1::ApplyContractResponse> {
        let change = Change::of(request.extensions())?;
        let outcome = self.apply(request.into_inner(), &change).await;
        answer(outcome)
    }

    async fn amend_contract(
        &self,
        request: Request<v1::AmendContractRequest>,
    ) -> Answer<v1::AmendContractResponse> {
        let change = Change::of(request.extensions())?;
        let outcome = self.amend(request.into_inner(), &change).await;
        answer(outcome)
    }

    async fn get_contract(&self, request: Request<v1::GetContractRequest>) -> Answer<v1::Contract> {
        let outcome = self.contract(&request.into_inner().name).await;
        answer(outcome)
    }

    async fn list_contracts(
        &self,
        request: Request<v1::ListContractsRequest>,
    ) -> Answer<v1::ListContractsResponse> {
        let outcome = self.contracts(&request.into_inner().tenant).await;
        answer(outcome)
    }

    async fn start_run(&self, request: Request<v1::StartRunRequest>) -> Answer<v1::Run> {
        let change = Change::of(request.extensions())?;
        let outcome = self.start(request.into_inner(), &change).await;
        answer(outcome)
    }

    async fn get_run(&self, request: Request<v1::GetRunRequest>) -> Answer<v1::Run> {
        let outcome = self.run(request.into_inner().number).await;
        answer(outcome)
    }

    async fn list_runs(&self, _: Request<v1::ListRunsRequest>) -> Answer<v1::ListRunsResponse> {
        let outcome = self.runs().await;
        answer(outcome)
    }

    async fn resume_run(&self, request: Request<v1::ResumeRunRequest>) -> Answer<v1::Run> {
        let change = Change::of(request.extensions())?;
        let outcome = self.resume(request.into_inner().number, &change).await;
        answer(outcome)
    }

    async fn cancel_run(&self, request: Request<v1::CancelRunRequest>) -> Answer<v1::Run> {
        let change = Change::of(request.extensions())?;
        let outcome = self.cancel(request.into_inner().number, &change).await;
        answer(outcome)
    }

    async fn list_due_periods(
        &self,
        _: Request<v1::ListDuePeriodsRequest>,
    ) -> Answer<v1::ListDuePeriodsResponse> {
        let outcome = self.due().await;
        answer(outcome)
    }

    async fn list_invoices(
        &self,
        request: Request<v1::ListInvoicesRequest>,
    ) -> Answer<v1::ListInvoicesResponse> {
        let principal = Principal::of(request.extensions())?;
        let outcome = self.invoices(&request.into_inner(), &principal).await;
        answer(outcome)
    }

    async fn get_invoice(&self, request: Request<v1::GetInvoiceRequest>) -> Answer<v1::Invoice> {
        let principal = Principal::of(request.extensions())?;
        let number = request.into_inner().number;
        self.check_tenant(&number, &principal).await?;
        answer(self.invoice_as(&number, Shown::message).await)
    }

    async fn list_invoice_lines(
        &self,
        request: Request<v1::ListInvoiceLinesRequest>,
    ) -> Answer<v1::ListInvoiceLinesResponse> {
        let principal = Principal::of(request.extensions())?;
        let request = request.into_inner();
        self.check_tenant(&request.number, &principal).await?;
        self.made(self.lines(&request).await?, InvoiceLinesAnswer::message).await
    }

    type ExplainInvoiceStream =
        Pin<Box<dyn Stream<Item = Result<v1::ExplainInvoiceResponse, Status>> + Send>>;

    async fn explain_invoice(
        &self,
        request: Request<v1::ExplainInvoiceRequest>,
    ) -> Answer<Self::ExplainInvoiceStream> {
        let principal = Principal::of(request.extensions())?;
        let request = request.into_inner();
        self.check_tenant(&request.number, &principal).await?;
        let outcome = self.explain(&request, Parts).await.map(|parts| {
            let sent = parts.map_ok(|parts| v1::ExplainInvoiceResponse { parts });
            Box::pin(sent.map_err(Status::from)) as Self::ExplainInvoiceStream
        });
        answer(outcome)
    }

    async fn verify_invoice(
        &self,
        request: Request<v1::VerifyInvoiceRequest>,
    ) -> Answer<v1::VerifyInvoiceResponse> {
        let principal = Principal::of(request.extensions())?;
        let request = request.into_inner();
        self.check_tenant(&request.number, &principal).await?;
        self.made(self.verify(&request).await?, VerificationAnswer::message).await
    }

    async fn void_invoice(&self, request: Request<v1::VoidInvoiceRequest>) -> Answer<v1::Invoice> {
        let change = Change::of(request.extensions())?;
        let v1::VoidInvoiceRequest { number, reason } = request.into_inner();
        let outcome = self.void(&number, &reason, &change).await;
        answer(outcome)
    }

    async fn credit_invoice(
        &self,
        request: Request<v1::CreditInvoiceRequest>,
    ) -> Answer<v1::Invoice> {
        let change = Change::of(request.extensions())?;
        let credited = self.credit(request.into_inner(), &change).await?;
        self.made(credited, Shown::message).await
    }

    async fn simulate(
        &self,
        request: Request<v1::SimulateRequest>,
    ) -> Answer<v1::SimulateResponse> {
        let simulated = self.simulated(request.into_inner()).await;
        self.made(simulated?, simulation::message).await
    }

    async fn reject_message(
        &self,
        request: Request<v1::RejectMessageRequest>,
    ) -> Answer<v1::Rejection> {
        let change = Change::of(request.extensions())?;
        let outcome = self.reject(request.into_inner(), &change).await;
        answer(outcome)
    }

    async fn list_rejections(
        &self,
        request: Request<v1::ListRejectionsRequest>,
    ) -> Answer<v1::ListRejectionsResponse> {
        let outcome = self.rejections(&request.into_inner()).await;
        answer(outcome)
    }

    async fn replay_rejection(
        &self,
        request: Request<v1::ReplayRejectionRequest>,
    ) -> Answer<v1::Rejection> {
        let change = Change::of(request.extensions())?;
        let outcome = self.replay(request.into_inner().number, &change).await;
        answer(outcome)
    }

    type WatchInvoicesStream =
        Pin<Box<dyn Stream<Item = Result<v1::InvoiceMessage, Status>> + Send>>;

    async fn watch_invoices(
        &self,
        request: Request<v1::WatchInvoicesRequest>,
    ) -> Answer<Self::WatchInvoicesStream> {
        let messages = self.watch(&request.into_inner()).map_ok(|(number, body)| {
            v1::InvoiceMessage { number, message_json: body.get().to_owned() }
        });
        Ok(Response::new(Box::pin(messages.map_err(Status::from))))
    }
}

/// An explanation as messages.
pub(crate) struct Parts;

impl Form for Parts {
    type Piece = v1::ExplanationPart;

    fn piece(&mut self, part: Part) -> v1::ExplanationPart {
        explanation::message(part)
    }

    fn end(&mut self) -> Option<v1::ExplanationPart> {
        None
    }

    fn bytes(piece: &v1::ExplanationPart) -> usize {
        piece.encoded_len()
    }
}

#[cfg(test)]
mod tests;
