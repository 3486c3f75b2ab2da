//! The doors of a process: each stage has its own addresses and no other's, the page at `/` and the
//! description name them all, and every call and request is counted.

use std::collections::BTreeSet;

use edge::access::Rules;
use proto::v1::{QueryUsageRequest, query_service_client::QueryServiceClient};
use pulso::serve::description::rules;
use serde_json::Value;

use crate::harness::{Home, Server, Settings, http_get, root};

/// Addresses of the process itself, whatever it runs.
const OWN: [&str; 4] = ["/livez", "/metrics", "/openapi.json", "/readyz"];

/// The described addresses, after checking that the page names each.
async fn addresses(server: &Server) -> BTreeSet<String> {
    let description: Value = serde_json::from_str(&server.get("/openapi.json").await).unwrap();
    let page = server.get("/").await;
    let paths = description["paths"].as_object().unwrap().keys().cloned();
    paths.inspect(|path| assert!(page.contains(path.as_str()), "{path}: {page}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_answers_at_its_own_addresses_and_at_no_other() {
    let home = Home::new();
    for (stage, own, foreign) in [
        ("ingest", None, "/v1/usage?from=2024-09-01&to=2024-09-02&window=P1D"),
        ("consume", None, "/v1/status"),
        ("price", Some("/v1/catalog"), "/v1/status"),
        ("query", Some("/v1/status"), "/v1/catalog"),
    ] {
        let settings = Settings::default().command(&["serve", "--stage", stage]);
        let server = Server::start(&home, &settings).await;
        let found = addresses(&server).await;
        assert!(OWN.iter().all(|own| found.contains(*own)), "{stage}: {found:?}");
        assert_eq!(found.len() > OWN.len(), own.is_some(), "{stage}: {found:?}");
        if let Some(own) = own {
            assert!(found.contains(own), "{stage}: {found:?}");
            server.get(own).await;
        }
        let (status, problem) = http_get(&server.http, foreign).await;
        assert_eq!(status, 404, "{stage}: {problem}");
        assert!(problem.contains("ROUTE_NOT_FOUND"), "{stage}: {problem}");
        server.terminate().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_and_request_is_counted_by_method_and_outcome() {
    let home = Home::new();
    let server = Server::start(&home, &Settings::default()).await;
    server.get("/v1/catalog").await;
    http_get(&server.http, "/v1/catalog/none").await;
    http_get(&server.http, "/v1/usage?from=x&to=y&window=P1D").await;
    http_get(&server.http, "/no/such/address").await;
    let mut client = QueryServiceClient::new(server.channel().await);
    client.query_usage(QueryUsageRequest::default()).await.unwrap_err();
    let metrics = server.get("/metrics").await;
    for (method, outcome) in [
        ("GET /v1/catalog", "ok"),
        ("GET /v1/catalog/{version}", "CATALOGUE_NOT_FOUND"),
        ("GET /v1/usage", "RANGE_INVALID"),
        ("unknown", "ROUTE_NOT_FOUND"),
        ("/pulso.v1.QueryService/QueryUsage", "WINDOW_INVALID"),
    ] {
        let line =
            format!("pulso_edge_requests_total{{method=\"{method}\",outcome=\"{outcome}\"}} 1\n");
        assert!(metrics.contains(&line), "{line} is missing from\n{metrics}");
    }
    let timed = "pulso_edge_request_seconds_count{method=\"GET /v1/catalog\"} 1\n";
    assert!(metrics.contains(timed), "{metrics}");
    server.terminate().await;
}

/// `PULSO_TEST_WRITE_DOCS=1` writes the table anew.
#[test]
fn the_documented_table_of_access_is_the_one_in_use() {
    let table = Rules::new(rules()).unwrap().markdown();
    let path = root().join("docs/access.md");
    let documented = std::fs::read_to_string(&path).unwrap();
    let start = documented.find("| method | roles | tenants |").unwrap();
    let end = start + documented[start..].find("\n\n").unwrap() + 1;
    if std::env::var_os("PULSO_TEST_WRITE_DOCS").is_some() {
        let (before, after) = (&documented[..start], &documented[end..]);
        std::fs::write(&path, format!("{before}{table}{after}")).unwrap();
    } else {
        assert_eq!(documented[start..end], table);
    }
}
