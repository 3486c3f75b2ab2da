//! Names at every door: what people could not tell from another name is refused, with one reason,
//! whichever way it comes in or is asked for.

use serde_json::{Value, json};

use crate::harness::{Home, Server, Settings, billing, http, program};

/// Names that look like `acme` or nearly so, and one that is.
const BAD: [&str; 14] = [
    " acme",
    "acme ",
    "acme\u{a0}",
    "ac\u{a0}me",
    "\u{3000}acme",
    "ac\u{200b}me",
    "ac\u{200d}me",
    "\u{feff}acme",
    "ac\u{feff}me",
    "ac\u{202e}me",
    "ac\u{ad}me",
    "acme\u{fe0f}",
    "acme\u{301}\u{323}",
    "ac\u{e000}me",
];

/// Fields of a pulse that hold a name.
const FIELDS: [&str; 3] = ["tenant", "product_sku", "use_unity"];

fn pulse(field: &str, name: &str) -> Value {
    let mut pulse = json!({
        "tenant": "acme", "product_sku": "vm", "use_unity": "hour", "used_amount": "1",
        "time": "2024-09-10T10:00:00Z",
    });
    pulse[field] = name.into();
    pulse
}

/// Every bad name in every field, and one good row behind them.
fn pulses() -> Vec<Value> {
    let bad = FIELDS.iter().flat_map(|field| BAD.iter().map(|name| pulse(field, name)));
    bad.chain([pulse("tenant", "acme")]).collect()
}

fn jsonl() -> String {
    pulses().iter().map(|pulse| format!("{pulse}\n")).collect()
}

fn csv() -> String {
    let mut text = "tenant,product_sku,use_unity,used_amount,time\n".to_owned();
    for pulse in pulses() {
        let cell = |key: &str| pulse[key].as_str().unwrap().to_owned();
        let row = ["tenant", "product_sku", "use_unity", "used_amount", "time"].map(cell);
        text.push_str(&format!("{}\n", row.join(",")));
    }
    text
}

fn focus() -> String {
    let mut text = "SubAccountId,SkuId,PricingUnit,PricingQuantity,ChargePeriodStart\n".to_owned();
    text.push_str(csv().split_once('\n').unwrap().1);
    text
}

fn cloudevents() -> String {
    let event = |pulse: Value| {
        json!({
            "specversion": "1.0", "id": "1", "source": "s", "subject": pulse["tenant"],
            "type": pulse["product_sku"], "time": pulse["time"],
            "data": {"used_amount": "1", "use_unity": pulse["use_unity"]},
        })
    };
    let text = |pulse| format!("{}\n", event(pulse));
    pulses().into_iter().map(text).collect()
}

fn settings() -> Settings {
    Settings::default().with("PULSO_BILLING__SCHEDULE", "off")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reader_of_usage_gives_the_server_the_words_as_they_are() {
    let home = Home::new();
    let server = Server::start(&home, &settings()).await;
    let files =
        [("jsonl", jsonl()), ("csv", csv()), ("focus", focus()), ("cloudevents", cloudevents())];
    for (format, text) in files {
        let path = billing::file(&home, &format!("usage.{format}"), &text);
        let arguments = ["ingest", &path, "--format", format, "--backfill", format, "-o", "json"];
        let answer = server.pulso(&arguments).await;
        let report: Value = serde_json::from_slice(&answer.stdout).unwrap();
        assert_eq!(report["accepted"], "1", "{format}: {report}");
        let refused = report["rejections"].as_array().unwrap();
        assert_eq!(refused.len(), FIELDS.len() * BAD.len(), "{format}: {report}");
        for one in refused {
            assert_eq!(one["reason"], "NAME_NOT_PLAIN", "{format}: {one}");
        }
    }
    // What is counted is the good row, once a file.
    server.drained().await;
    let query = ["query", "usage", "--from", "2024-09", "--to", "2024-10", "--window", "total"];
    let rows = server.json(&query).await;
    assert_eq!(rows["rows"].as_array().unwrap().len(), 1, "{rows}");
    assert_eq!(rows["rows"][0]["count"], "4");
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_question_about_a_name_is_held_to_the_same_rule() {
    let home = Home::new();
    let server = Server::start(&home, &settings()).await;
    let range = "from=2024-09-01&to=2024-10-01&window=total";
    for name in BAD {
        let written: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
        for path in [
            format!("/v1/usage?{range}&tenant={written}"),
            format!("/v1/usage?{range}&sku={written}"),
            format!("/v1/usage?{range}&unit={written}"),
            format!("/v1/billing:preview?period=2024-09&tenant={written}"),
            format!("/v1/invoices?tenant={written}"),
        ] {
            let (status, answer) = http(&server.http, &format!("GET {path}"), "").await;
            assert_eq!(status, 400, "{path}: {answer}");
            assert!(answer.contains("NAME_NOT_PLAIN"), "{path}: {answer}");
        }
        let run = json!({"period": "2024-09", "tenants": [name]}).to_string();
        let (status, answer) = http(&server.http, "POST /v1/billing/runs", &run).await;
        assert!(status == 400 && answer.contains("NAME_NOT_PLAIN"), "{name:?}: {answer}");
    }
    // The commands ask over gRPC.
    for arguments in [
        &["query", "usage", "--from", "2024-09", "--to", "2024-10", "--window", "total"][..],
        &["bill", "preview", "--period", "2024-09"],
        &["invoice", "list"],
    ] {
        let refused = server.pulso(&[arguments, &["--tenant", BAD[5]]].concat()).await;
        let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(stderr.contains("[NAME_NOT_PLAIN]"), "{arguments:?}: {stderr}");
    }
    server.terminate().await;
}

const CATALOGUE: &str = "catalogue: \"1\"\ncurrency: USD\nskus:\n  - sku: \"SKU\"\n    unit: \"UNIT\"\n    \
                         dimensions: [\"DIM\"]\n    prices: []\n";
const CONTRACT: &str =
    "contract: \"NAME\"\ntenant: \"TENANT\"\nvalid_from: 2024-01-01\ncurrency: USD\n";

/// A file with one of its words replaced, and all others good.
fn with(text: &str, words: &[(&str, &str)], bad: (&str, &str)) -> String {
    let one = |text: String, (word, good): &(&str, &str)| {
        text.replace(word, if *word == bad.0 { bad.1 } else { good })
    };
    words.iter().fold(text.to_owned(), one)
}

#[test]
fn every_file_is_held_to_the_same_rule() {
    let home = Home::new();
    let catalogue = [("SKU", "vm"), ("UNIT", "hour"), ("DIM", "region")];
    let contract = [("NAME", "acme-1"), ("TENANT", "acme")];
    let files = [("catalog", CATALOGUE, &catalogue[..]), ("contract", CONTRACT, &contract[..])];
    for (command, text, words) in files {
        let check = |text: &str| {
            let path = billing::file(&home, "checked.yaml", text);
            let output = program().args([command, "check", &path]).output().unwrap();
            (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let (code, said) = check(&with(text, words, ("", "")));
        assert_eq!(code, Some(0), "{command}: {said}");
        for (word, _) in words {
            for name in BAD {
                let (code, said) = check(&with(text, words, (word, name)));
                assert_eq!(code, Some(65), "{command} {word} {name:?}: {said}");
                assert!(said.contains("not a name"), "{command} {word} {name:?}: {said}");
            }
        }
    }
}
