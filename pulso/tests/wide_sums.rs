//! Sums wider than an amount: whatever clients send, every total can be read, and no row or line keeps
//! another from being read.

use serde_json::{Value, json};

use crate::harness::{Home, Server, billing};

const CATALOGUE: &str = r#"
catalogue: "2024-01"
currency: USD
skus:
  - sku: huge
    unit: u
    prices: [{valid_from: 2024-01-01T00:00:00Z, model: per_unit, unit_price: "0.50"}]
  - sku: vm
    unit: hour
    prices: [{valid_from: 2024-01-01T00:00:00Z, model: per_unit, unit_price: "0.50"}]
"#;
/// A pulse holds at most 2^63 - 1 units, and a row of a segment eighteen of these.
const AMOUNT: &str = "9200000000000000000";
const PULSES: usize = 18;
/// Enough to reach every partition of the log.
const BATCHES: usize = 12;

/// Batches that fill a row each, of one tenant, SKU and hour, and a little of two other tenants.
async fn use_up(server: &Server, home: &Home) {
    let time = "2024-09-10T10:00:00Z";
    for tenant in ["aa", "mm", "zz"] {
        billing::use_up(server, home, tenant, &[(tenant, "vm", "hour", "20", time)]).await;
    }
    for batch in 0..BATCHES {
        let name = format!("huge-{batch}");
        let pulses = vec![("mm", "huge", "u", AMOUNT, time); PULSES];
        billing::use_up(server, home, &name, &pulses).await;
    }
}

/// Units that were counted of the SKU, by what became of each pulse.
async fn counted(server: &Server) -> u128 {
    let status = server.status().await;
    let pulses = status.pulses.unwrap();
    let all = (BATCHES * PULSES + 3) as u64;
    assert_eq!(pulses.accepted + pulses.dead_lettered, all, "{pulses:?}");
    u128::from(pulses.accepted - 3)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_total_beyond_an_amount_is_read_and_billed_around() {
    let home = Home::new();
    let server = Server::start(&home, &billing::settings()).await;
    use_up(&server, &home).await;
    let counted = counted(&server).await;
    let sum = (counted * AMOUNT.parse::<u128>().unwrap()).to_string();
    assert!(
        sum.len() > 20 && sum.as_str() > "170141183460469231731",
        "wider than an amount: {sum}"
    );

    let query = ["query", "usage", "--from", "2024-09", "--to", "2024-10", "--window", "total"];
    let rows = server.json(&query).await;
    let found: Vec<(&str, &str, &str)> = rows["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| ["tenant", "product_sku", "sum"].map(|key| row[key].as_str().unwrap()).into())
        .collect();
    let expected =
        [("aa", "vm", "20"), ("mm", "huge", &*sum), ("mm", "vm", "20"), ("zz", "vm", "20")];
    assert_eq!(found, expected);
    // A page at a time too, over HTTP.
    let (mut token, mut read) = (String::new(), 0);
    loop {
        let path =
            format!("/v1/usage?from=2024-09-01&to=2024-10-01&window=total&page_size=1{token}");
        let page: Value = serde_json::from_str(&server.get(&path).await).unwrap();
        read += page["rows"].as_array().unwrap().len();
        match page["next_page_token"].as_str().unwrap() {
            "" => break,
            next => token = format!("&page_token={next}"),
        }
    }
    assert_eq!(read, 4);

    billing::publish(&server, &home, CATALOGUE).await;
    let preview = ["bill", "preview", "--tenant", "mm", "--period", "2024-09"];
    let preview = server.json(&preview).await;
    let waiting = &preview["invoices"][0]["unpriced"][0];
    let named = (&waiting["product_sku"], &waiting["reason"], &waiting["quantity"]);
    assert_eq!(named, (&json!("huge"), &json!("out_of_range"), &json!(sum)), "{preview}");
    assert_eq!(preview["invoices"][0]["total"], "10.00");

    let outcomes = billing::bill(&server, &[]).await;
    assert_eq!(
        (&outcomes["invoices"], &outcomes["unpriced"]),
        (&json!("3"), &json!("1")),
        "{outcomes}"
    );
    let invoices = server.json(&["invoice", "list"]).await;
    for invoice in invoices["invoices"].as_array().unwrap() {
        assert_eq!(invoice["total"], "10.00", "{invoices}");
        let number = invoice["number"].as_str().unwrap();
        assert_eq!(server.json(&["bill", "verify", number]).await["matches"], true);
    }
    server.terminate().await;
}
