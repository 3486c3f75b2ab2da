//! The whole way of a pulse through the built program: every way in, what becomes of repeats and of
//! usage out of its time, prices, and what analysts and operators are told.

use crate::harness::{self, Home, Server, Settings, http_get, now, until};
use jiff::{SignedDuration, Timestamp};
use proto::v1::{
    Backfill, Decimal, IngestAck, Pulse, PulseBatch, UsageInfoRequest,
    ingest_service_client::IngestServiceClient, usage_service_client::UsageServiceClient,
};
use pulso::client::{Identity, Pulses, Sender, SenderOptions};
use serde_json::{Value, json};
use tokio::task::JoinSet;

const ALWAYS: [&str; 4] = ["--from", "2020-01-01", "--to", "2100-01-01"];

/// `amount` thousandths of an hour of `sku`, by `tenant`, at `seconds`.
pub(crate) fn pulse(tenant: &str, sku: &str, amount: i64, seconds: i64) -> Pulse {
    Pulse {
        tenant: tenant.to_owned(),
        product_sku: sku.to_owned(),
        use_unity: "hour".to_owned(),
        used_amount: Some(Decimal { unscaled: amount, scale: 3 }),
        time: Some(prost_types::Timestamp { seconds, nanos: 0 }),
        ..Pulse::default()
    }
}

pub(crate) fn numbered(producer: u8, first_sequence: u64, pulses: Vec<Pulse>) -> PulseBatch {
    PulseBatch { producer_id: vec![producer; 16], first_sequence, pulses, ..PulseBatch::default() }
}

async fn ingest(server: &Server, batch: PulseBatch) -> IngestAck {
    let mut client = IngestServiceClient::new(server.channel().await);
    client.ingest(batch).await.unwrap().into_inner()
}

/// Sends a batch of which every pulse has to be taken.
pub(crate) async fn take(server: &Server, batch: PulseBatch) {
    let sent = batch.pulses.len() as u32;
    let ack = ingest(server, batch).await;
    assert_eq!((ack.code, ack.accepted, ack.rejected), (0, sent, 0), "{ack:?}");
}

/// Rows over all time, by tenant and SKU: `(tenant, sku, count, sum)`.
async fn totals(server: &Server) -> Vec<(String, String, String, String)> {
    let group = ["--window", "total", "--group-by", "tenant,product_sku"];
    let arguments = [&["query", "usage"], &ALWAYS[..], &group].concat();
    let answer = server.json(&arguments).await;
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    let rows = answer["rows"].as_array().unwrap().iter();
    rows.map(|row| {
        (text(row, "tenant"), text(row, "product_sku"), text(row, "count"), text(row, "sum"))
    })
    .collect()
}

fn row(tenant: &str, sku: &str, count: u64, sum: &str) -> (String, String, String, String) {
    (tenant.to_owned(), sku.to_owned(), count.to_string(), sum.to_owned())
}

/// Read, and what became of it, as `pulso status` says.
async fn counts(server: &Server) -> [u64; 7] {
    let counts = server.json(&["status", "--wait-drained", "60s"]).await["pulses"].take();
    ["read", "control", "accepted", "duplicate", "late", "dead_lettered", "erased"]
        .map(|name| counts[name].as_str().unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_in_meets_in_the_same_totals_and_both_doors_answer_alike() {
    const CALLERS: usize = 1_000;
    let home = Home::new();
    let server = Server::start(&home, &Settings::default()).await;
    let at = now();
    take(&server, numbered(1, 0, vec![pulse("acme", "call", 1_500, at)])).await;
    let sender = Sender::start(server.channel().await, SenderOptions::default());
    for number in 0..20 {
        let mut pulses = Pulses::default();
        (0..100).for_each(|_| pulses.push(&pulse("acme", "stream", -1, at - 3_600 * (number % 3))));
        let identity =
            Identity::Numbered { producer_id: [2; 16], first_sequence: 100 * number as u64 };
        let receipt = sender.send(pulses.into_batch(identity)).await.unwrap();
        assert_eq!(receipt.await.unwrap().ack.accepted, 100);
    }
    sender.finish().await;
    let channel = server.channel().await;
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let mut client = UsageServiceClient::new(channel.clone());
        let request = UsageInfoRequest {
            tenant: format!("tenant-{}", caller % 5),
            product_sku: "origin".to_owned(),
            used_amount: 3,
            use_unity: "hour".to_owned(),
        };
        callers.spawn(async move { client.consume(request).await });
    }
    for answer in callers.join_all().await {
        answer.unwrap();
    }
    let [read, control, accepted, duplicate, late, dead_lettered, erased] = counts(&server).await;
    assert_eq!((accepted, duplicate, late, dead_lettered, erased), (3_001, 0, 0, 0, 0));
    assert_eq!(read, control + accepted);
    let mut expected = vec![row("acme", "call", 1, "1.5"), row("acme", "stream", 2_000, "-2")];
    expected.extend((0..5).map(|tenant| row(&format!("tenant-{tenant}"), "origin", 200, "600")));
    assert_eq!(totals(&server).await, expected);

    for window in ["PT1H", "P1D", "P1M", "total"] {
        let by_grpc =
            server.json(&[&["query", "usage"], &ALWAYS[..], &["--window", window]].concat()).await;
        let path =
            format!("/v1/usage?from=2020-01-01&to=2100-01-01&window={window}&page_size=1000");
        let by_http: Value = serde_json::from_str(&server.get(&path).await).unwrap();
        assert!(by_grpc["rows"].as_array().unwrap().len() >= 7);
        assert_eq!(by_grpc["rows"], by_http["rows"], "{window}");
    }
    server.audit_is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_again_counts_once_whatever_its_identity() {
    let home = Home::new();
    let server = Server::start(&home, &Settings::default()).await;
    let at = now();
    let by_number = numbered(1, 7, (0..10).map(|_| pulse("a", "number", 1_000, at)).collect());
    let with_ids = (0..10).map(|id| Pulse {
        id: format!("id-{id}"),
        source: "meter".to_owned(),
        ..pulse("a", "id", 1_000, at)
    });
    let by_id = PulseBatch { pulses: with_ids.collect(), ..PulseBatch::default() };
    for _ in 0..3 {
        take(&server, by_number.clone()).await;
        take(&server, by_id.clone()).await;
    }
    // The same id with another amount is the same pulse; the first one stands.
    let mut conflict = by_id.pulses[0].clone();
    conflict.used_amount = Some(Decimal { unscaled: 99, scale: 0 });
    take(&server, PulseBatch { pulses: vec![conflict], ..PulseBatch::default() }).await;
    // A backfill in batches of one size, then of another.
    let old = now() - 400 * 86_400;
    let rows: Vec<Pulse> = (0..60).map(|_| pulse("a", "backfill", 1_000, old)).collect();
    for size in [60, 7, 13] {
        for (number, part) in rows.chunks(size).enumerate() {
            let backfill =
                Some(Backfill { name: "last-year".to_owned(), content_digest: vec![9; 32] });
            let first_sequence = (number * size) as u64;
            let pulses = part.to_vec();
            take(&server, PulseBatch { backfill, first_sequence, pulses, ..PulseBatch::default() })
                .await;
        }
    }
    let [read, control, accepted, duplicate, late, dead_lettered, erased] = counts(&server).await;
    assert_eq!(
        (accepted, duplicate, late, dead_lettered, erased),
        (80, 20 + 20 + 1 + 120, 0, 0, 0)
    );
    assert_eq!(read, control + accepted + duplicate);
    let expected =
        [row("a", "backfill", 60, "60"), row("a", "id", 10, "10"), row("a", "number", 10, "10")];
    assert_eq!(totals(&server).await, expected);
    server.audit_is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_out_of_its_time_and_reused_numbers_are_dead_letters_that_can_be_read() {
    let home = Home::new();
    let server = Server::start(&home, &Settings::default()).await;
    let at = now();
    let late = pulse("a", "late", 1, at - 25 * 3_600);
    take(&server, numbered(1, 0, vec![pulse("a", "fine", 1_000, at - 23 * 3_600), late])).await;
    take(
        &server,
        numbered(1, 2, vec![pulse("a", "early", 1, at + 600), pulse("a", "fine", 1_000, at + 120)]),
    )
    .await;
    // Another content under numbers that were used.
    take(&server, numbered(1, 2, vec![pulse("a", "reused", 5, at), pulse("a", "reused", 6, at)]))
        .await;
    let old = Some(Backfill { name: "old".to_owned(), content_digest: vec![1; 32] });
    let batch = PulseBatch { backfill: old, ..PulseBatch::default() };
    take(&server, PulseBatch { pulses: vec![pulse("a", "old", 1, at - 99 * 3_600)], ..batch })
        .await;

    let [read, control, accepted, duplicate, late, dead_lettered, erased] = counts(&server).await;
    assert_eq!((accepted, duplicate, late, dead_lettered, erased), (3, 0, 1, 3, 0));
    assert_eq!(read, control + accepted + duplicate + late + dead_lettered + erased);
    assert_eq!(totals(&server).await, [row("a", "fine", 2, "2"), row("a", "old", 1, "0.001")]);

    let listed = server.json(&["dlq", "list"]).await["entries"].take();
    let of = |name: &str| -> Vec<String> {
        let entries = listed.as_array().unwrap().iter();
        let mut words: Vec<_> =
            entries.map(|entry| entry[name].as_str().unwrap().to_owned()).collect();
        words.sort();
        words
    };
    assert_eq!(of("reason"), ["in_the_future", "sequence_reused", "too_late"]);
    assert_eq!(of("count"), ["1", "1", "2"], "two pulses under numbers that were used are a group");
    assert_eq!(of("product_sku"), ["early", "late", "reused"]);
    assert_eq!(server.json(&["dlq", "list", "--tenant", "b"]).await["entries"], json!([]));
    let late = server.json(&["dlq", "list", "--reason", "too_late"]).await["entries"][0].take();
    let place = [&late["partition"], &late["offset"], &late["index"]]
        .map(|number| number.as_str().map_or(number.to_string(), str::to_owned));
    let shown = server.json(&["dlq", "show", &place[0], &place[1], &place[2]]).await;
    assert_eq!(shown["pulse"]["product_sku"], "late");
    assert_eq!(shown["pulse"]["used_amount"], "0.001");
    assert_eq!(shown["message"], late["message"]);
    server.audit_is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_pulse_is_named_and_its_neighbours_are_counted() {
    let home = Home::new();
    let server = Server::start(&home, &Settings::default()).await;
    let mut unscaled = pulse("a", "s", 1, now());
    unscaled.used_amount = Some(Decimal { unscaled: 1, scale: 19 });
    let batch = numbered(1, 0, vec![pulse("a", "s", 1_000, now()), unscaled, pulse("", "s", 1, 0)]);
    for _ in 0..2 {
        let ack = ingest(&server, batch.clone()).await;
        let errors: Vec<_> =
            ack.errors.iter().map(|error| (error.reason.as_str(), error.field.as_str())).collect();
        let expected =
            [("AMOUNT_SCALE", "pulses[1].used_amount"), ("TENANT_MISSING", "pulses[2].tenant")];
        assert_eq!(errors, expected);
        assert_eq!((ack.accepted, ack.rejected), (1, 2));
    }
    let [_, _, accepted, duplicate, ..] = counts(&server).await;
    assert_eq!((accepted, duplicate), (1, 1));
}

const CATALOGUE: &str = r#"
catalogue: "tiers"
currency: BRL
rounding: {digits: 2, mode: half_up}
skus:
  - sku: compute
    unit: hour
    dimensions: [region]
    prices:
      - valid_from: 2020-01-01T00:00:00Z
        model: graduated
        tiers:
          - {up_to: "100", unit_price: "0.50"}
          - {unit_price: "0.40"}
  - sku: network
    unit: hour
    dimensions: [region]
    prices:
      - valid_from: 2020-01-01T00:00:00Z
        model: matrix
        prices:
          - {when: {region: br}, unit_price: "2"}
        default: "1"
"#;

/// Lines of a bill: SKU, dimensions and amount.
fn lines(bill: &Value) -> Vec<(Value, Value, Value)> {
    let lines = bill["lines"].as_array().unwrap().iter();
    lines
        .map(|line| {
            (line["product_sku"].clone(), line["dimensions"].clone(), line["amount"].clone())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_catalogue_keeps_its_dimensions_apart_and_rates_by_tiers_and_by_region() {
    let home = Home::new();
    let server = Server::start(&home, &Settings::default()).await;
    let at = now();
    let in_region = |sku: &str, region: &str, hours: i64| Pulse {
        properties: [("region".to_owned(), region.to_owned()), ("rack".to_owned(), "7".to_owned())]
            .into(),
        ..pulse("acme", sku, 1_000 * hours, at)
    };
    // Before the catalogue, nobody knows that the region matters.
    take(&server, numbered(1, 0, vec![in_region("compute", "br", 1)])).await;
    std::fs::write(home.path("catalogue.yaml"), CATALOGUE).unwrap();
    let file = home.path("catalogue.yaml");
    let file = file.to_str().unwrap();
    assert_eq!(server.json(&["catalog", "publish", file]).await["already_published"], false);
    assert_eq!(server.json(&["catalog", "publish", file]).await["already_published"], true);
    let later = [("compute", "br", 60), ("compute", "br", 90), ("compute", "us", 100)];
    let network = [("network", "br", 3), ("network", "us", 5)];
    let later = later.into_iter().chain(network);
    let later = later.map(|(sku, region, hours)| in_region(sku, region, hours));
    let later = later.chain([pulse("acme", "storage", 1, at)]).collect();
    take(&server, numbered(1, 1, later)).await;
    server.drained().await;

    let group = ["--sku", "compute", "--window", "total", "--group-by", "region"];
    let answer = server.json(&[&["query", "usage"], &ALWAYS[..], &group].concat()).await;
    let rows = answer["rows"].as_array().unwrap().iter();
    let rows: Vec<_> = rows.map(|row| (row["dimensions"].clone(), row["sum"].clone())).collect();
    let expected = [
        (json!({"region": "br"}), json!("150")),
        (json!({"region": "us"}), json!("100")),
        (json!({}), json!("1")),
    ];
    assert_eq!(rows, expected);

    let period = Timestamp::from_second(at).unwrap().to_string()[..7].to_owned();
    let preview = async |server: &Server| {
        let previewed =
            server.json(&["bill", "preview", "--tenant", "acme", "--period", &period]).await;
        previewed["invoices"][0].clone()
    };
    let bill = preview(&server).await;
    let expected = [
        // Tiers count a tenant's whole usage of a SKU: 100 x 0.50 + 151 x 0.40.
        (json!("compute"), json!({}), json!("110.40")),
        (json!("network"), json!({"region": "br"}), json!("6.00")),
        // At the default, which names no region.
        (json!("network"), json!({}), json!("5.00")),
    ];
    assert_eq!(lines(&bill), expected);
    assert_eq!(bill["total"], "121.40");
    assert_eq!(bill["unpriced"][0]["product_sku"], "storage");
    // A new start knows what was declared.
    server.terminate().await;
    let server = Server::start(&home, &Settings::default()).await;
    take(&server, numbered(1, 7, vec![in_region("network", "br", 10)])).await;
    server.drained().await;
    let bill = preview(&server).await;
    assert_eq!(lines(&bill)[1].2, "26.00");
    server.audit_is_clean().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_says_how_fresh_and_how_final_it_is() {
    let home = Home::new();
    let server = Server::start(&home, &Settings::default()).await;
    let before = Timestamp::now();
    take(&server, numbered(1, 0, vec![pulse("a", "s", 1, now())])).await;
    server.drained().await;
    let arguments = [&["query", "usage"], &ALWAYS[..], &["--window", "total"]].concat();
    // Another partition may be looked at a tick later.
    let mut freshness = Value::Null;
    let moment = |freshness: &Value, name: &str| -> Option<Timestamp> {
        freshness[name].as_str().map(|text| text.parse().unwrap())
    };
    for _ in 0..1_000 {
        freshness = server.json(&arguments).await["freshness"].take();
        if moment(&freshness, "as_of").is_some_and(|as_of| as_of >= before) {
            break;
        }
    }
    let (as_of, after) = (moment(&freshness, "as_of").unwrap(), Timestamp::now());
    assert!(before <= as_of && as_of <= after, "{before} {as_of} {after}");
    let final_until = moment(&freshness, "complete_until").unwrap();
    let lateness = SignedDuration::from_hours(24);
    let age = as_of.duration_since(final_until);
    assert!(age >= lateness && age < lateness + SignedDuration::from_hours(1), "{age:?}");
    assert_eq!(final_until.as_second() % 3_600, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_that_run_one_after_the_other_meet_in_the_data_directory() {
    let home = Home::new();
    let stage = |stage: &str| Settings::default().command(&["serve", "--stage", stage]);
    for round in 0..3 {
        let server = Server::start(&home, &stage("ingest")).await;
        take(&server, numbered(1, round, vec![pulse("a", "s", 1_000, now())])).await;
        server.terminate().await;
        match round {
            // The hourly job, by hand; and once more with nothing to do.
            0 => (0..2).for_each(|_| {
                let output = home.command(&["consume", "--once"]).output().unwrap();
                let stderr = String::from_utf8_lossy(&output.stderr);
                assert_eq!(output.status.code(), Some(0), "{stderr}");
            }),
            // The same on a schedule, which ticks until it is told to end.
            1 => consume_until_stored(&home, &["--schedule", "* * * * * *"]).await,
            _ => consume_until_stored(&home, &["--follow"]).await,
        }
        let server = Server::start(&home, &stage("query")).await;
        assert_eq!(
            totals(&server).await,
            [row("a", "s", round + 1, &(round + 1).to_string())],
            "round {round}"
        );
        server.terminate().await;
    }
}

async fn consume_until_stored(home: &Home, when: &[&str]) {
    let mut command = home.command(&[&["consume"], when].concat());
    command.env("PULSO_LOG", "ingestor_consumer=debug").env("PULSO_TELEMETRY__FORMAT", "text");
    let mut process = harness::Process::spawn(command, home.path(when[0]));
    until("a tick has read the record", || {
        assert!(!process.has_ended(), "{}", process.log());
        let log = process.log();
        log.lines().any(|line| line.contains("tick done") && !line.contains("records=0"))
    })
    .await;
    process.signal(libc::SIGTERM);
    assert_eq!(process.end().await.code(), Some(0), "{}", process.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_readiness_metrics_and_the_description_of_the_api() {
    let home = Home::new();
    let server = Server::start(&home, &Settings::default()).await;
    take(&server, numbered(1, 0, vec![pulse("a", "s", 1_000, now())])).await;
    server.drained().await;
    server.get("/livez").await;
    let ready = server.get("/readyz?verbose").await;
    for check in ["consumer", "pricing", "serving"] {
        assert!(ready.contains(check), "{check}: {ready}");
    }
    let openapi: Value = serde_json::from_str(&server.get("/openapi.json").await).unwrap();
    assert!(openapi["paths"]["/v1/usage"].is_object());
    let metrics = server.get("/metrics").await;
    for needed in [
        "pulso_ingest_pulses_total{outcome=\"accepted\"} 1",
        "pulso_consumer_lag_records{generation=\"1\",partition=\"0\"} 0",
        "pulso_log_append_seconds_count",
        "pulso_store_write_seconds_count",
    ] {
        assert!(metrics.contains(needed), "{needed} is missing from\n{metrics}");
    }
    let (status, problem) = http_get(&server.http, "/v1/usage?from=x&to=y&window=P1W").await;
    let problem: Value = serde_json::from_str(&problem).unwrap();
    assert_eq!((status, &problem["status"]), (400, &json!(400)));
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_and_a_client_that_never_reads_its_acks_hold_up_nobody_else() {
    use tokio::io::AsyncWriteExt;
    let home = Home::new();
    let server = Server::start(&home, &Settings::default()).await;
    let random = &mut harness::Random(1);
    for length in [1, 24, 10_000] {
        let address = server.grpc.strip_prefix("http://").unwrap();
        let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
        let rubbish: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
        // The server may hang up in the middle of it.
        let _ = connection.write_all(&rubbish).await;
    }
    let mut client = IngestServiceClient::new(server.channel().await);
    let at = now();
    let (sent, batches) = tokio::sync::mpsc::channel(1);
    let endless = tokio::spawn(async move {
        for number in 0.. {
            let batch = PulseBatch {
                pulses: vec![pulse("a", "unread", 1, at)],
                ..numbered(9, number, vec![])
            };
            if sent.send(batch).await.is_err() {
                break;
            }
        }
    });
    let unread = client.ingest_stream(tokio_stream::wrappers::ReceiverStream::new(batches)).await;
    for number in 0..20 {
        take(&server, numbered(1, number, vec![pulse("a", "fine", 1_000, at)])).await;
    }
    drop(unread);
    drop(client);
    endless.abort();
    server.drained().await;
    let found = totals(&server).await;
    assert_eq!(found[0], row("a", "fine", 20, "20"));
    assert_eq!(server.json(&["status"]).await["healthy"], true);
}
