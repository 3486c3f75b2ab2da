//! Explanations of large invoices: what they cost, where they are made, and whom they hold up.

use std::{collections::VecDeque, sync::mpsc, time::Duration};

use domain::Tenant;
use edge::{Compute, compute::ComputeConfig, problem::reasons};
use futures_util::StreamExt as _;
use pricing::{
    file,
    invoice::{document, invoice, standard_contract},
    rate::Sources,
    timeline,
};
use proto::v1::{self, billing_service_server::BillingService as _};
use tonic::{Code, Request, Status};

use serde_json::{Value, json};

use crate::{
    answers::explanation::{ExplanationText, of_message},
    api::explaining::{Form as _, Giving},
    books::{document::Document, documents::Found},
    explain::explanation::Explanation,
    grpc::Parts,
    lines::compare,
    testing::{
        billed::{self, Service, usage},
        keys_counted, local,
    },
};

/// Keys of lines that are looked at to explain an invoice of as many lines, whatever the order in
/// which its lines come out now.
fn keys_for(lines: usize) -> u64 {
    let catalogue = file::parse("c", billed::text(lines).as_bytes()).unwrap().catalogue;
    let contracts = [standard_contract(&Tenant::new("acme").unwrap(), &catalogue)];
    let stretches = timeline::stretches(&contracts);
    let period = &timeline::periods(&stretches, "2024-09".parse().unwrap()).unwrap()[0];
    let tenant = &contracts[0].tenant;
    let made = invoice(tenant, period, &[&catalogue], &usage(lines), Sources::Listed).unwrap();
    let issued = document::invoice(&made).into_lines();
    assert_eq!(issued.len(), lines);
    keys_counted();
    let backwards = issued.iter().rev().cloned();
    assert_eq!(compare(&issued, backwards), []);
    let explanation = Explanation::new(found(), Some(made), issued, 0);
    explanation.check().unwrap();
    let (mut giving, mut parts) = (Giving::new(explanation, Parts), 0);
    loop {
        let chunk = giving.chunk(1_000);
        parts += chunk.len();
        if chunk.is_empty() {
            break;
        }
        let bytes: usize = chunk[..chunk.len() - 1].iter().map(Parts::bytes).sum();
        assert!(bytes < 1_000, "a chunk ends with the part that makes it full");
    }
    assert_eq!(parts, 1 + 3 * lines, "the head; a line and its two hours");
    keys_counted()
}

fn found() -> Found {
    let draft = json!({
        "run": 1, "kind": "invoice", "start": "2024-09-01T00:00:00Z",
        "end": "2024-10-01T00:00:00Z", "currency": "USD", "total": "1", "content": "",
    });
    let document = Document::drafted(0, serde_json::from_value(draft).unwrap());
    Found { tenant: Tenant::new("acme").unwrap(), document }
}

#[test]
fn explaining_twice_the_lines_looks_at_twice_the_keys() {
    let (some, twice) = (keys_for(50), keys_for(100));
    assert!(some > 0 && twice <= 2 * some, "{some} and {twice}");
}

fn explain() -> Request<v1::ExplainInvoiceRequest> {
    let number = "INV-000001".to_owned();
    local(v1::ExplainInvoiceRequest { number, ..v1::ExplainInvoiceRequest::default() })
}

async fn read(service: &Service) -> Result<Value, Status> {
    let mut messages = service.explain_invoice(explain()).await?.into_inner();
    let (mut writer, mut text) = (ExplanationText::document(), String::new());
    while let Some(message) = messages.next().await {
        for part in message?.parts {
            writer.push(&of_message(part).unwrap().unwrap(), &mut text);
        }
    }
    writer.finish(&mut text);
    Ok(serde_json::from_str(&text).unwrap())
}

/// Takes the one thread of a pool until the sender is dropped.
async fn occupy(compute: &Compute) -> mpsc::Sender<()> {
    let (release, gate) = mpsc::channel::<()>();
    let (started, has_started) = tokio::sync::oneshot::channel();
    let compute = compute.clone();
    tokio::spawn(async move {
        let work = move || {
            started.send(()).unwrap();
            gate.recv().unwrap_err();
        };
        compute.run(work).await
    });
    has_started.await.unwrap();
    release
}

const ONE_THREAD: fn() -> ComputeConfig =
    || ComputeConfig { threads: 1, ..ComputeConfig::default() };

/// One thread serves. Were any part of an explanation made on it, the explanations would not wait
/// for the pool, or keys of lines would be looked at here.
#[tokio::test(flavor = "current_thread")]
async fn a_call_beside_two_explanations_is_answered_while_they_wait_to_compute() {
    let (service, compute) = billed::service(200, ONE_THREAD()).await;
    let release = occupy(&compute).await;
    let explaining: Vec<_> = (0..2)
        .map(|_| {
            let service = service.clone();
            tokio::spawn(async move { read(&service).await })
        })
        .collect();
    keys_counted();
    for _ in 0..100 {
        let runs = service.list_runs(Request::new(v1::ListRunsRequest {})).await.unwrap();
        assert_eq!(runs.into_inner().runs.len(), 1);
        tokio::task::yield_now().await;
    }
    assert!(explaining.iter().all(|explaining| !explaining.is_finished()));
    drop(release);
    for explaining in explaining {
        let explained = explaining.await.unwrap().unwrap();
        assert_eq!(explained["lines"].as_array().unwrap().len(), 200);
        assert_eq!(explained["lines"][199]["hours"].as_array().unwrap().len(), 2);
    }
    assert_eq!(keys_counted(), 0, "no line was looked at on the thread that serves");
}

#[tokio::test]
async fn a_call_beyond_the_bound_is_refused_with_a_time_to_wait() {
    let (service, compute) =
        billed::service(1, ComputeConfig { calls_max: 1, ..ONE_THREAD() }).await;
    let call = compute.admit().unwrap();
    let status = read(&service).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    let reason = edge::problem::reason_of(&status).unwrap();
    assert_eq!(reason, reasons::COMPUTE_EXHAUSTED);
    let wait = edge::problem::retry_after_of(&status);
    assert_eq!(wait, Some(Duration::from_secs(1)));
    drop(call);
    assert_eq!(read(&service).await.unwrap()["lines"].as_array().unwrap().len(), 1);
}

/// Time is the test's: it passes once all tasks wait, so only an answer that is not read lets it.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_not_read_is_cut_off_and_lets_go_of_its_period() {
    let (service, compute) =
        billed::service(2_000, ComputeConfig { periods_max: 1, ..ONE_THREAD() }).await;
    let mut messages = service.explain_invoice(explain()).await.unwrap().into_inner();
    messages.next().await.unwrap().unwrap();
    drop(compute.admit_period().await.unwrap());
    let mut last = VecDeque::new();
    while let Some(message) = messages.next().await {
        last.push_back(message);
    }
    let status = last.pop_back().unwrap().unwrap_err();
    assert!(status.message().contains("compute.stall_timeout"), "{status}");
    assert!(last.len() <= 3, "a few chunks wait, not the whole answer: {}", last.len());
    assert!(last.into_iter().all(|chunk| chunk.is_ok()));
}
