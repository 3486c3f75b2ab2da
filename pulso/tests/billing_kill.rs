//! SIGKILL at every journalled step of a billing run: one invoice, one number, one message a tenant,
//! whatever the moment, on the embedded store and on servers, where the topic has each message once
//! too. And of a run for deltas: the documents of one that was not killed. Beside them, in every run, a
//! tenant cannot be billed, which the run names in the end, and another has nothing to bill.
//!
//! A run bills some tenants and dies at a named point; the program is started again and goes on by
//! itself. `PULSO_TEST_KILLS` asks for more kills at each point than two and writes
//! `reports/faults-billing*.md`; `PULSO_TEST_SEED` chooses other moments.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    process::Command,
    time::{Duration, Instant},
};

use domain::BillingStore as _;

use crate::harness::{Home, PATIENCE, Random, Server, Settings, cluster::Cluster, root};
use proto::v1::{
    Invoice, ListInvoicesRequest, ListRunsRequest, Run, StartRunRequest, WatchInvoicesRequest,
    billing_service_client::BillingServiceClient,
};
use pulso::client::Channel;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};
use runtime::fault::POINTS;
use serde_json::{Value, json};
use storage::conformance::servers::shared_pair;

const KILLS: u64 = 2;
/// Tenants of a run on the embedded store, and on servers, where each step is a round trip.
const TENANTS: u64 = 12;
const TENANTS_ON_SERVERS: u64 = 4;
/// Clusters that share the kills on servers: each bills a month a kill.
const CLUSTERS: usize = 6;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |number| number.parse().unwrap())
}

/// Where runs happen: in a home alone, or on servers.
struct Place {
    home: Home,
    cluster: Option<Cluster>,
    tenants: u64,
}

impl Place {
    const fn embedded(home: Home) -> Self {
        Self { home, cluster: None, tenants: TENANTS }
    }

    const fn on(home: Home, cluster: Cluster) -> Self {
        Self { home, cluster: Some(cluster), tenants: TENANTS_ON_SERVERS }
    }

    /// Everything in one process, all partitions its own, so that a start waits for no session.
    fn settings(&self) -> Settings {
        let all = "ingest,consume,price,query";
        let settings = self.cluster.as_ref().map(|cluster| cluster.stages(all));
        settings
            .unwrap_or_default()
            .with("PULSO_CONSUMER__PARTITIONS", "all")
            .with("PULSO_BILLING__SCHEDULE", "off")
            .with("PULSO_BILLING__TENANTS_AT_ONCE", "4")
    }

    async fn start(&self) -> Server {
        Server::start(&self.home, &self.settings()).await
    }

    /// Gives a tenant a ledger that nobody understands, while no process runs.
    async fn damage(&self, tenant: &str) {
        let journal = format!("ledger/{tenant}");
        match &self.cluster {
            Some(cluster) => {
                let store = cluster.store().await;
                store.billing().append_entry(&journal, 0, b"{}").await.unwrap();
                store.close().await;
            }
            None => {
                let store = rusqlite::Connection::open(self.home.data().join("store.db")).unwrap();
                let entry = "INSERT INTO journal_entry (journal, place, entry) VALUES (?1, 0, ?2)";
                store.execute(entry, rusqlite::params![journal, b"{}"]).unwrap();
            }
        }
    }
}

/// The month of a kill, counted from 0.
fn month(kill: usize) -> String {
    format!("{}-{:02}", 2020 + kill / 12, 1 + kill % 12)
}

/// Points that a run passes once; the others it passes once a tenant. Messages are forwarded together.
fn passes(point: &str, tenants: u64) -> u64 {
    let once = ["after_open", "before_cut", "after_cut", "_close", "_settled", "_forward"];
    if once.iter().any(|once| point.ends_with(once)) { 1 } else { tenants }
}

/// Usage of all tenants in each month, all drained.
async fn prepare(place: &Place, months: usize) {
    let server = place.start().await;
    let catalogue = place.home.path("catalogue.yaml");
    std::fs::write(
        &catalogue,
        "catalogue: c\ncurrency: BRL\nskus:\n  - {sku: vm, unit: hour, prices: [{valid_from: 2020-01-01T00:00:00Z, model: per_unit, unit_price: \"0.10\"}]}\n",
    )
    .unwrap();
    server.json(&["catalog", "publish", catalogue.to_str().unwrap()]).await;
    let lines = (0..months).map(month).flat_map(|month| {
        let others = [("failing", "vm"), ("unpriced", "disk")];
        let others = others.map(|(tenant, sku)| pulse(&month, tenant, (sku, 1)));
        let tenants = (0..place.tenants).map(move |tenant| usage(&month, tenant, tenant + 1));
        tenants.chain(others).collect::<Vec<_>>()
    });
    ingest(place, &server, "usage", lines.collect()).await;
    server.terminate().await;
    place.damage("failing").await;
}

/// Hours of a tenant on the 10th of a month, as a line of a file.
fn usage(month: &str, tenant: u64, hours: u64) -> String {
    pulse(month, &format!("t{tenant:02}"), ("vm", hours))
}

fn pulse(month: &str, tenant: &str, (sku, hours): (&str, u64)) -> String {
    json!({"tenant": tenant, "product_sku": sku, "use_unity": "hour",
           "used_amount": hours.to_string(), "time": format!("{month}-10T10:00:00Z")})
    .to_string()
}

async fn ingest(place: &Place, server: &Server, backfill: &str, lines: Vec<String>) {
    let file = place.home.path("usage.jsonl");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let file = file.to_str().unwrap();
    server.json(&["ingest", file, "--format", "jsonl", "--backfill", backfill]).await;
    server.drained().await;
}

/// Starts a run and lets the process die at a point. Gives whether it did.
async fn run_until_killed(place: &Place, run: &StartRunRequest, fault: &str) -> bool {
    let settings = place.settings().with("PULSO_FAULT", fault);
    let mut server = Server::start(&place.home, &settings).await;
    let mut client = BillingServiceClient::new(server.channel().await);
    // The answer may die with the process.
    drop(client.start_run(run.clone()).await);
    let died = tokio::time::timeout(PATIENCE, server.end_status()).await;
    died.is_ok_and(|status| status.code().is_none())
}

fn start(month: &str) -> StartRunRequest {
    StartRunRequest { period: month.into(), request_id: month.into(), ..Default::default() }
}

/// Waits until every run has ended, and looks at what there is of so many months.
async fn settle(place: &Place, months: usize) -> Result<(), String> {
    let server = place.start().await;
    let mut client = BillingServiceClient::new(server.channel().await);
    close(&mut client, start(&month(months - 1)), months).await?;
    let invoices = check_invoices(&mut client, place.tenants, months).await?;
    let messages = check_messages(&mut client, &invoices).await?;
    if let Some(cluster) = &place.cluster {
        check_topic(cluster, &messages).await?;
    }
    server.terminate().await;
    Ok(())
}

/// Starts the run, or finds it, and waits until so many have ended.
async fn close(
    client: &mut BillingServiceClient<Channel>,
    run: StartRunRequest,
    runs: usize,
) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    client.start_run(run).await.unwrap();
    loop {
        let found = client.list_runs(ListRunsRequest {}).await.unwrap().into_inner().runs;
        if found.len() != runs {
            return Err(format!("{} runs", found.len()));
        }
        if found.iter().all(|run| run.state == "closed_with_failures") {
            return check_failures(&found);
        }
        if Instant::now() > deadline {
            return Err(format!("still {found:?}"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Every run names the tenant that cannot be billed, and no other.
fn check_failures(runs: &[Run]) -> Result<(), String> {
    let names_it = |run: &Run| {
        let named: Vec<&str> = run.failures.iter().map(|failure| failure.tenant.as_str()).collect();
        named == ["failing"] && run.outcomes.is_some_and(|outcomes| outcomes.failed == 1)
    };
    match runs.iter().find(|run| !names_it(run)) {
        Some(other) => Err(format!("{other:?}")),
        None => Ok(()),
    }
}

/// All documents. Their numbers have no gap.
async fn documents(client: &mut BillingServiceClient<Channel>) -> Result<Vec<Invoice>, String> {
    let request = ListInvoicesRequest { page_size: 1_000, ..Default::default() };
    let documents = client.list_invoices(request).await.unwrap().into_inner().invoices;
    for (place, document) in (1..).zip(&documents) {
        if document.number != format!("INV-{place:06}") {
            return Err(format!("place {place} has number {}", document.number));
        }
    }
    Ok(documents)
}

/// One invoice a tenant and month with what it owes, numbers without gaps.
async fn check_invoices(
    client: &mut BillingServiceClient<Channel>,
    tenants: u64,
    months: usize,
) -> Result<Vec<Invoice>, String> {
    let invoices = documents(client).await?;
    let mut billed = BTreeSet::new();
    for invoice in &invoices {
        let tenant: u64 = invoice.tenant.trim_start_matches('t').parse().unwrap();
        let cents = (tenant + 1) * 10;
        let owed = format!("{}.{:02}", cents / 100, cents % 100);
        if invoice.total != owed || invoice.state != "final" {
            return Err(format!("{} owes {owed}: {invoice:?}", invoice.tenant));
        }
        let period = invoice.period_start.unwrap().seconds;
        if !billed.insert((tenant, period)) {
            return Err(format!("{} has two invoices of a month", invoice.tenant));
        }
    }
    for tenant in (0..tenants).map(|tenant| format!("t{tenant:02}")) {
        let request = ListInvoicesRequest { tenant, ..Default::default() };
        let documents = client.list_invoices(request).await.unwrap().into_inner().invoices;
        if documents.len() != months {
            return Err(format!("a tenant has {} documents", documents.len()));
        }
    }
    match billed.len() as u64 == tenants * months as u64 {
        true => Ok(invoices),
        false => Err(format!("{} months of tenants have invoices", billed.len())),
    }
}

/// One message an invoice, in order; gives them as the topic has them.
async fn check_messages(
    client: &mut BillingServiceClient<Channel>,
    invoices: &[Invoice],
) -> Result<BTreeSet<String>, String> {
    let request = WatchInvoicesRequest { after: 0, until_now: true };
    let mut messages = client.watch_invoices(request).await.unwrap().into_inner();
    let (mut place, mut announced, mut bodies) = (0, BTreeSet::new(), BTreeSet::new());
    while let Some(message) = messages.message().await.unwrap() {
        place += 1;
        let body: Value = serde_json::from_str(&message.message_json).unwrap();
        if message.number != place || !announced.insert(body["number"].as_str().unwrap().to_owned())
        {
            return Err(format!("message {} says {} again", message.number, body["number"]));
        }
        bodies.insert(json!({"message": place.to_string(), "body": body}).to_string());
    }
    let numbers: BTreeSet<String> = invoices.iter().map(|invoice| invoice.number.clone()).collect();
    if announced == numbers { Ok(bodies) } else { Err(format!("messages about {announced:?}")) }
}

/// The topic comes to have these messages, each once.
async fn check_topic(cluster: &Cluster, messages: &BTreeSet<String>) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (brokers, topic) = (cluster.brokers().to_owned(), cluster.topic("monthly-consumption"));
        let read = tokio::task::spawn_blocking(move || read_committed(&brokers, &topic));
        let read = read.await.unwrap();
        let found: BTreeSet<String> = read.iter().cloned().collect();
        if found.len() < read.len() || !found.is_subset(messages) {
            return Err(format!("the topic has {} messages, {} apart", read.len(), found.len()));
        }
        if found == *messages {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("the topic has {} of {}", found.len(), messages.len()));
        }
    }
}

/// All that a reader of what is committed finds.
fn read_committed(brokers: &str, topic: &str) -> Vec<String> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", topic)
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "10")
        .create()
        .unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
    let partitions = metadata.topics()[0].partitions();
    let mut places = TopicPartitionList::new();
    for partition in partitions {
        places.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
    }
    consumer.assign(&places).unwrap();
    let (mut found, mut ends) = (Vec::new(), 0);
    while ends < partitions.len() {
        match consumer.poll(PATIENCE).expect("it comes to its end in time") {
            Err(KafkaError::PartitionEOF(_)) => ends += 1,
            record => {
                found.push(String::from_utf8(record.unwrap().payload().unwrap().to_vec()).unwrap());
            }
        }
    }
    found
}

/// Kills the run at the point, half of the time once more in the middle of what is left of it.
async fn kill(
    place: &Place,
    run: &StartRunRequest,
    fault: &str,
    random: &mut Random,
) -> Result<(), String> {
    if !run_until_killed(place, run, fault).await {
        return Err("did not kill".to_owned());
    }
    let again = format!("billing.before_published:{}", 1 + random.below(3));
    if random.below(2) == 0 {
        let again = place.settings().with("PULSO_FAULT", &again);
        if let Ok(mut server) = Server::try_start(&place.home, &again).await {
            let ended = tokio::time::timeout(Duration::from_secs(2), server.end_status());
            drop(ended.await);
        }
    }
    Ok(())
}

/// Kills the run of the last of so many months, and gives what is wrong after it.
async fn kill_month(
    place: &Place,
    months: usize,
    fault: &str,
    random: &mut Random,
) -> Option<String> {
    let killed = kill(place, &start(&month(months - 1)), fault, random).await;
    let settled = match killed {
        Ok(()) => settle(place, months).await,
        Err(error) => Err(error),
    };
    settled.err().map(|difference| format!("{fault}: {difference}"))
}

/// A month that is billed, after which a third of the tenants have used more, and another third have a
/// contract by which its periods begin on the 5th.
async fn prepare_deltas(place: &Place) {
    prepare(place, 1).await;
    let server = place.start().await;
    let mut client = BillingServiceClient::new(server.channel().await);
    close(&mut client, start(&month(0)), 1).await.unwrap();
    let late = (0..place.tenants).step_by(3).map(|tenant| usage(&month(0), tenant, 1));
    ingest(place, &server, "late", late.collect()).await;
    for tenant in (1..place.tenants).step_by(3) {
        let contract = place.home.path("contract.yaml");
        let text = format!(
            "contract: c{tenant}\ntenant: t{tenant:02}\nvalid_from: 2019-12-05\nbilling_anchor: 5\ncurrency: BRL\n"
        );
        std::fs::write(&contract, text).unwrap();
        server.json(&["contract", "apply", contract.to_str().unwrap()]).await;
    }
    server.terminate().await;
}

fn deltas() -> StartRunRequest {
    StartRunRequest { deltas: true, request_id: "deltas".into(), ..start(&month(0)) }
}

/// Ends the run for deltas. Gives each document's tenant, kind, period and total; numbers and messages
/// are as they must.
async fn settle_deltas(
    place: &Place,
) -> Result<BTreeSet<(String, String, i64, i64, String)>, String> {
    let server = place.start().await;
    let mut client = BillingServiceClient::new(server.channel().await);
    close(&mut client, deltas(), 2).await?;
    let documents = documents(&mut client).await?;
    check_messages(&mut client, &documents).await?;
    server.terminate().await;
    let count = documents.len();
    let finals: BTreeSet<_> = documents
        .into_iter()
        .filter(|document| document.state == "final")
        .map(|document| {
            let (start, end) = (document.period_start.unwrap(), document.period_end.unwrap());
            (document.tenant, document.kind, start.seconds, end.seconds, document.total)
        })
        .collect();
    if finals.len() == count { Ok(finals) } else { Err(format!("{count} documents: {finals:?}")) }
}

/// A home with the data of another one.
fn copy(home: &Home) -> Home {
    let copy = Home::new();
    let status = Command::new("cp").arg("-r").args([home.data(), copy.data()]).status();
    assert!(status.unwrap().success());
    copy
}

/// The faults at the points that pass the filter, as often as asked for.
fn faults(
    random: &mut Random,
    tenants: u64,
    wanted: fn(&str) -> bool,
) -> Vec<(&'static str, String)> {
    let points = POINTS.iter().copied().filter(|point| point.starts_with("billing."));
    let points = points.filter(|point| wanted(point));
    let kills = number("PULSO_TEST_KILLS", KILLS);
    let points = points.flat_map(|point| (0..kills).map(move |_| point));
    points
        .map(|point| (point, format!("{point}:{}", 1 + random.below(passes(point, tenants)))))
        .collect()
}

/// Writes the report where it was asked for.
fn report(file: &str, words: &str, outcomes: &[(&'static str, Option<String>)]) {
    if std::env::var_os("PULSO_TEST_KILLS").is_none() {
        return;
    }
    let mut report = format!("{words}| point | kills | wrong |\n| --- | ---: | ---: |\n");
    let points: BTreeSet<&str> = outcomes.iter().map(|(point, _)| *point).collect();
    for point in POINTS.iter().copied().filter(|point| points.contains(point)) {
        let of_point = outcomes.iter().filter(|(other, _)| *other == point);
        let wrong = of_point.clone().filter(|(_, wrong)| wrong.is_some()).count();
        writeln!(report, "| `{point}` | {} | {wrong} |", of_point.count()).unwrap();
    }
    std::fs::write(root().join("reports").join(file), report).unwrap();
}

fn wrong(outcomes: Vec<(&'static str, Option<String>)>) -> Vec<String> {
    outcomes.into_iter().filter_map(|(_, wrong)| wrong).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_kill_of_a_billing_run_loses_or_doubles_an_invoice_a_number_or_a_message() {
    let mut random = Random(number("PULSO_TEST_SEED", 1));
    let mut outcomes = Vec::new();
    for (point, fault) in faults(&mut random, TENANTS, |point| !point.ends_with("_forward")) {
        let place = Place::embedded(Home::new());
        prepare(&place, 1).await;
        outcomes.push((point, kill_month(&place, 1, &fault, &mut random).await));
    }
    report("faults-billing.md", REPORT, &outcomes);
    assert_eq!(wrong(outcomes), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_kill_of_a_run_for_deltas_changes_what_it_makes() {
    let mut random = Random(number("PULSO_TEST_SEED", 1) + 3_000);
    let prepared = Place::embedded(Home::new());
    prepare_deltas(&prepared).await;
    let place = || Place::embedded(copy(&prepared.home));
    let expected = settle_deltas(&place()).await.unwrap();
    let kinds = |kind: &str| expected.iter().filter(|document| document.1 == kind).count();
    assert_eq!(["invoice", "delta", "reversal"].map(kinds), [16, 4, 4]);

    let mut outcomes = Vec::new();
    for (point, fault) in faults(&mut random, TENANTS, |point| !point.ends_with("_forward")) {
        let place = place();
        let settled = match kill(&place, &deltas(), &fault, &mut random).await {
            Ok(()) => settle_deltas(&place).await,
            Err(error) => Err(error),
        };
        let wrong = match settled {
            Ok(found) if found == expected => None,
            other => Some(format!("{fault}: {other:?}")),
        };
        outcomes.push((point, wrong));
    }
    report("faults-billing-deltas.md", REPORT_OF_DELTAS, &outcomes);
    assert_eq!(wrong(outcomes), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_kill_on_servers_does_either_and_the_topic_has_each_message_once() {
    let Some(servers) = shared_pair() else { return };
    let mut random = Random(number("PULSO_TEST_SEED", 1) + 1_000);
    let faults = faults(&mut random, TENANTS_ON_SERVERS, |_| true);
    let share = |cluster: usize| faults.iter().skip(cluster).step_by(CLUSTERS).cloned();
    let mut clusters = tokio::task::JoinSet::new();
    for cluster in 0..CLUSTERS {
        let faults: Vec<_> = share(cluster).collect();
        let mut random = Random(number("PULSO_TEST_SEED", 1) + 2_000 + cluster as u64);
        clusters.spawn(async move {
            let cluster = Cluster::new(servers, Settings::default()).await;
            let place = Place::on(Home::new(), cluster);
            prepare(&place, faults.len()).await;
            let mut outcomes = Vec::new();
            for (months, (point, fault)) in (1..).zip(faults) {
                outcomes.push((point, kill_month(&place, months, &fault, &mut random).await));
            }
            outcomes
        });
    }
    let outcomes: Vec<_> = clusters.join_all().await.into_iter().flatten().collect();
    assert_eq!(outcomes.len(), faults.len());
    report("faults-billing-cluster.md", REPORT_ON_SERVERS, &outcomes);
    assert_eq!(wrong(outcomes), Vec::<String>::new());
}

const REPORT: &str = "# Faults: what kills did to billing runs

Written by `make test-faults` (`pulso/tests/billing_kill.rs`). In each run a dozen tenants are billed by
`pulso dev`, which dies by SIGKILL at the point named; it is started again (half of the time it is killed
a second time) and goes on by itself. Then every tenant has one invoice with what it owes, the numbers
have no gap, and there is one message for each; the run names the one tenant that cannot be billed. A run
that differs is wrong.

";
const REPORT_OF_DELTAS: &str = "# Faults: what kills did to runs for deltas

Written by `make test-faults` (`pulso/tests/billing_kill.rs`). A dozen tenants are billed; then a third of
them use more, and another third get a contract that moves the billed period. A run for deltas dies by
SIGKILL at the point named (half of the time a second time later) and goes on by itself. Then there are the
documents of a run that was not killed, numbers without a gap, and one message for each.

";
const REPORT_ON_SERVERS: &str = "# Faults on servers: what kills did to billing runs

Written by `make test-faults` (`pulso/tests/billing_kill.rs`). The runs are those of
[faults-billing.md](faults-billing.md), all stages in one process on a real Kafka and a real
CQL server (Apache Cassandra), one month after the other; and the topic `monthly-consumption` has each
message once for a reader of what is committed.

";
