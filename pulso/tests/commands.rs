//! The built program against a server that answers from a script: paging, waiting, exit codes and
//! the documents that scripts rely on.

use std::{
    collections::HashMap,
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use edge::problem::{Problem, reasons};
use prost_types::Timestamp;
use proto::v1::{
    self, AuditMismatch, AuditRequest, AuditResponse, CountOutcomesRequest, CountOutcomesResponse,
    DeadLetter, Freshness, GetDeadLetterRequest, GetStatusRequest, GetStatusResponse,
    ListDeadLettersRequest, ListDeadLettersResponse, PartitionStatus, PreviewBillRequest,
    PreviewBillResponse, PulseCounts, QueryUsageRequest, QueryUsageResponse, UsageRow,
    audit_service_server::{AuditService, AuditServiceServer},
    billing_service_server::{BillingService, BillingServiceServer},
    operations_service_server::{OperationsService, OperationsServiceServer},
    query_service_server::{QueryService, QueryServiceServer},
};
use serde_json::{Value, json};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

mod preview;

/// Answers from a script; every status call folds one record more.
#[derive(Clone, Default)]
struct Script {
    status_calls: Arc<AtomicU64>,
}

const HOUR: Timestamp = Timestamp { seconds: 1_726_696_800, nanos: 0 };

#[tonic::async_trait]
impl QueryService for Script {
    async fn query_usage(
        &self,
        request: Request<QueryUsageRequest>,
    ) -> Result<Response<QueryUsageResponse>, Status> {
        let request = request.into_inner();
        if request.time_zone != "UTC" {
            let message = "`Mars/Base` is not in the IANA database; use one such as Europe/Berlin";
            return Err(Problem::invalid("time_zone", reasons::ZONE_UNKNOWN, message).into());
        }
        let row = |tenant: &str, sum: &str| UsageRow {
            tenant: tenant.to_owned(),
            product_sku: "s".to_owned(),
            use_unity: "h".to_owned(),
            dimensions: HashMap::from([("region".to_owned(), "br".to_owned())]),
            window_start: Some(HOUR),
            window_end: Some(Timestamp { seconds: HOUR.seconds + 3_600, nanos: 0 }),
            count: 3,
            sum: sum.to_owned(),
            min: "0".to_owned(),
            max: sum.to_owned(),
            last: sum.to_owned(),
        };
        let (rows, next) = match request.page_token.as_str() {
            "" => (vec![row("a", "12.5")], "second"),
            "second" => (vec![row("b", "-0.000000000000000001")], ""),
            other => panic!("token {other}"),
        };
        let freshness = Some(Freshness { as_of: Some(HOUR), complete_until: None });
        let next_page_token = next.to_owned();
        Ok(Response::new(QueryUsageResponse { rows, freshness, next_page_token }))
    }
}

#[tonic::async_trait]
impl OperationsService for Script {
    async fn get_status(
        &self,
        _: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        let call = self.status_calls.fetch_add(1, Ordering::SeqCst);
        let partition = PartitionStatus {
            generation: 2,
            partition: 1,
            // The log goes on growing while the client waits.
            log_end: 3 + call,
            folded_to: call,
            lag_records: 3,
            folded_time: Some(HOUR),
        };
        Ok(Response::new(GetStatusResponse {
            healthy: call > 0,
            partitions: vec![partition],
            pulses: Some(PulseCounts { read: u64::MAX, accepted: 7, ..PulseCounts::default() }),
            versions: HashMap::from([("pulso".to_owned(), "0.1.0".to_owned())]),
            problems: vec!["the first call is not healthy".to_owned()],
        }))
    }

    async fn list_dead_letters(
        &self,
        request: Request<ListDeadLettersRequest>,
    ) -> Result<Response<ListDeadLettersResponse>, Status> {
        let request = request.into_inner();
        assert_eq!((request.reason.as_str(), request.tenant.as_str()), ("too_late", "a"));
        let entries = vec![DeadLetter { payload: Vec::new(), ..letter() }];
        Ok(Response::new(ListDeadLettersResponse { entries, next_page_token: String::new() }))
    }

    async fn count_outcomes(
        &self,
        _: Request<CountOutcomesRequest>,
    ) -> Result<Response<CountOutcomesResponse>, Status> {
        Err(Status::unimplemented("nothing was sent to it"))
    }

    async fn get_dead_letter(
        &self,
        request: Request<GetDeadLetterRequest>,
    ) -> Result<Response<DeadLetter>, Status> {
        match request.into_inner() {
            GetDeadLetterRequest { partition: 2, offset: 1_047, index: 13, generation: 0 } => {
                Ok(Response::new(letter()))
            }
            _ => Err(Problem::not_found(reasons::DEAD_LETTER_NOT_FOUND, "nothing there").into()),
        }
    }
}

fn letter() -> DeadLetter {
    DeadLetter {
        partition: 2,
        offset: 1_047,
        index: 13,
        reason: "too_late".to_owned(),
        tenant: "a".to_owned(),
        product_sku: "s".to_owned(),
        time: Some(HOUR),
        message: "25 h old".to_owned(),
        // A pulse of tenant `a` and nothing else.
        payload: vec![0x0a, 1, b'a'],
        count: 1_000_000,
        offset_last: 1_050,
        time_first: Some(HOUR),
        time_last: None,
        segment_start: Some(1_000),
    }
}

#[tonic::async_trait]
impl AuditService for Script {
    async fn audit(&self, _: Request<AuditRequest>) -> Result<Response<AuditResponse>, Status> {
        let mismatch = AuditMismatch {
            generation: 2,
            partition: 1,
            segment_start: 5,
            invariant: "I5".to_owned(),
            message: "a row differs".to_owned(),
        };
        let mismatches = vec![mismatch];
        Ok(Response::new(AuditResponse {
            segments: 9,
            refolded: 9,
            mismatches,
            blocks: 2,
            blocks_remade: 2,
        }))
    }
}

#[tonic::async_trait]
impl BillingService for Script {
    async fn preview_bill(
        &self,
        _: Request<PreviewBillRequest>,
    ) -> Result<Response<PreviewBillResponse>, Status> {
        Ok(Response::new(preview::preview_message()))
    }

    async fn apply_contract(
        &self,
        _: Request<v1::ApplyContractRequest>,
    ) -> Result<Response<v1::ApplyContractResponse>, Status> {
        Err(not_scripted())
    }

    async fn amend_contract(
        &self,
        _: Request<v1::AmendContractRequest>,
    ) -> Result<Response<v1::AmendContractResponse>, Status> {
        Err(not_scripted())
    }

    async fn get_contract(
        &self,
        _: Request<v1::GetContractRequest>,
    ) -> Result<Response<v1::Contract>, Status> {
        Err(not_scripted())
    }

    async fn list_contracts(
        &self,
        _: Request<v1::ListContractsRequest>,
    ) -> Result<Response<v1::ListContractsResponse>, Status> {
        Err(not_scripted())
    }

    async fn start_run(
        &self,
        _: Request<v1::StartRunRequest>,
    ) -> Result<Response<v1::Run>, Status> {
        Err(not_scripted())
    }

    async fn get_run(&self, _: Request<v1::GetRunRequest>) -> Result<Response<v1::Run>, Status> {
        Err(not_scripted())
    }

    async fn list_runs(
        &self,
        _: Request<v1::ListRunsRequest>,
    ) -> Result<Response<v1::ListRunsResponse>, Status> {
        Err(not_scripted())
    }

    async fn list_due_periods(
        &self,
        _: Request<v1::ListDuePeriodsRequest>,
    ) -> Result<Response<v1::ListDuePeriodsResponse>, Status> {
        Err(not_scripted())
    }

    async fn credit_invoice(
        &self,
        _: Request<v1::CreditInvoiceRequest>,
    ) -> Result<Response<v1::Invoice>, Status> {
        Err(not_scripted())
    }

    async fn resume_run(
        &self,
        _: Request<v1::ResumeRunRequest>,
    ) -> Result<Response<v1::Run>, Status> {
        Err(not_scripted())
    }

    async fn cancel_run(
        &self,
        _: Request<v1::CancelRunRequest>,
    ) -> Result<Response<v1::Run>, Status> {
        Err(not_scripted())
    }

    async fn list_invoices(
        &self,
        _: Request<v1::ListInvoicesRequest>,
    ) -> Result<Response<v1::ListInvoicesResponse>, Status> {
        Err(not_scripted())
    }

    async fn get_invoice(
        &self,
        _: Request<v1::GetInvoiceRequest>,
    ) -> Result<Response<v1::Invoice>, Status> {
        Err(not_scripted())
    }

    async fn list_invoice_lines(
        &self,
        _: Request<v1::ListInvoiceLinesRequest>,
    ) -> Result<Response<v1::ListInvoiceLinesResponse>, Status> {
        Err(not_scripted())
    }

    type ExplainInvoiceStream = tokio_stream::Empty<Result<v1::ExplainInvoiceResponse, Status>>;

    async fn explain_invoice(
        &self,
        _: Request<v1::ExplainInvoiceRequest>,
    ) -> Result<Response<Self::ExplainInvoiceStream>, Status> {
        Err(not_scripted())
    }

    async fn verify_invoice(
        &self,
        _: Request<v1::VerifyInvoiceRequest>,
    ) -> Result<Response<v1::VerifyInvoiceResponse>, Status> {
        Err(not_scripted())
    }

    async fn void_invoice(
        &self,
        _: Request<v1::VoidInvoiceRequest>,
    ) -> Result<Response<v1::Invoice>, Status> {
        Err(not_scripted())
    }

    async fn simulate(
        &self,
        _: Request<v1::SimulateRequest>,
    ) -> Result<Response<v1::SimulateResponse>, Status> {
        Err(not_scripted())
    }

    async fn reject_message(
        &self,
        _: Request<v1::RejectMessageRequest>,
    ) -> Result<Response<v1::Rejection>, Status> {
        Err(not_scripted())
    }

    async fn list_rejections(
        &self,
        _: Request<v1::ListRejectionsRequest>,
    ) -> Result<Response<v1::ListRejectionsResponse>, Status> {
        Err(not_scripted())
    }

    async fn replay_rejection(
        &self,
        _: Request<v1::ReplayRejectionRequest>,
    ) -> Result<Response<v1::Rejection>, Status> {
        Err(not_scripted())
    }

    type WatchInvoicesStream = tokio_stream::Empty<Result<v1::InvoiceMessage, Status>>;

    async fn watch_invoices(
        &self,
        _: Request<v1::WatchInvoicesRequest>,
    ) -> Result<Response<Self::WatchInvoicesStream>, Status> {
        Err(not_scripted())
    }
}

/// Billing goes through the program itself in `billing.rs`.
fn not_scripted() -> Status {
    Status::unimplemented("not scripted")
}

async fn start() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let script = Script::default();
    let server = Server::builder()
        .add_service(QueryServiceServer::new(script.clone()))
        .add_service(OperationsServiceServer::new(script.clone()))
        .add_service(AuditServiceServer::new(script.clone()))
        .add_service(BillingServiceServer::new(script));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    url
}

async fn pulso(arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pulso"));
    command.args(arguments.split_whitespace()).args(["--server", &start().await]);
    command.env_remove("PULSO_OUTPUT");
    crate::harness::output(command).await
}

fn document(output: &Output) -> Value {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    let problem = String::from_utf8_lossy(&output.stderr);
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text} {problem}"))
}

const QUERY: &str = "query usage --from 2024-09-18 --to 2024-09-19 --window PT1H";

#[tokio::test(flavor = "multi_thread")]
async fn a_query_fetches_every_page_into_one_document() {
    let output = pulso(&format!("{QUERY} -o json")).await;
    let row = |tenant: &str, sum: &str| {
        json!({
            "tenant": tenant, "product_sku": "s", "use_unity": "h", "dimensions": {"region": "br"},
            "window_start": "2024-09-18T22:00:00Z", "window_end": "2024-09-18T23:00:00Z",
            "count": "3", "sum": sum, "min": "0", "max": sum, "last": sum,
        })
    };
    let expected = json!({
        "rows": [row("a", "12.5"), row("b", "-0.000000000000000001")],
        "freshness": {"as_of": "2024-09-18T22:00:00Z", "complete_until": null},
        "next_page_token": "",
    });
    assert_eq!(document(&output), expected);
    assert_eq!(output.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_size_takes_one_page_and_gives_its_token() {
    let page = document(&pulso(&format!("{QUERY} --page-size 1 -o json")).await);
    assert_eq!(page["rows"].as_array().unwrap().len(), 1);
    assert_eq!(page["next_page_token"], "second");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_shows_reason_and_field_and_exits_with_65() {
    let output = pulso(&format!("{QUERY} --time-zone Mars/Base")).await;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(65), "{stderr}");
    assert!(
        stderr.starts_with("error: time_zone: ") && stderr.contains("[ZONE_UNKNOWN]"),
        "{stderr}"
    );
    assert_eq!(stderr.lines().count(), 1, "said once: {stderr}");
    assert!(output.stdout.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_shows_64_bit_numbers_as_text_and_exits_with_10_when_unhealthy() {
    let output = pulso("status -o json").await;
    assert_eq!(output.status.code(), Some(10));
    let status = document(&output);
    assert_eq!(status["healthy"], false);
    assert_eq!(status["pulses"]["read"], u64::MAX.to_string());
    let partition = &status["partitions"][0];
    assert_eq!((&partition["partition"], &partition["log_end"]), (&1.into(), &"3".into()));
    assert_eq!(status["versions"]["pulso"], "0.1.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_ends_when_what_was_there_at_the_call_is_folded() {
    let output = pulso("status --wait-drained 30s -o json").await;
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(document(&output)["partitions"][0]["folded_to"], "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_is_too_short_exits_with_75() {
    let output = pulso("status --wait-drained 1ms").await;
    assert_eq!(output.status.code(), Some(75));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("not drained within 1ms"), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_and_shown_with_their_pulse() {
    let output = pulso("dlq list --reason too_late --tenant a -o csv").await;
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(notes.contains("1000000 dead letters in 1 group"), "{notes}");
    let listed = document(&pulso("dlq list --reason too_late --tenant a -o json").await);
    let entry = json!({
        "partition": 2, "offset": "1047", "index": 13, "reason": "too_late", "tenant": "a",
        "product_sku": "s", "time": "2024-09-18T22:00:00Z", "message": "25 h old",
        "count": "1000000", "offset_last": "1050", "time_first": "2024-09-18T22:00:00Z",
        "time_last": null, "segment_start": "1000",
    });
    assert_eq!(listed, json!({"entries": [entry], "next_page_token": ""}));
    let shown = document(&pulso("dlq show 2 1047 13 -o json").await);
    assert_eq!((&shown["payload_hex"], &shown["pulse"]["tenant"]), (&"0a0161".into(), &"a".into()));
    assert_eq!(pulso("dlq show 0 0").await.status.code(), Some(65));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_with_a_mismatch_exits_with_1() {
    let output = pulso("audit -o json").await;
    assert_eq!(output.status.code(), Some(1));
    let audit = document(&output);
    assert_eq!((&audit["segments"], &audit["refolded"]), (&"9".into(), &"9".into()));
    assert_eq!(audit["mismatches"][0]["invariant"], "I5");
}
