//! `GET /v1/usage` and what holds for every answer over HTTP.

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode},
    routing::post,
};
use domain::{Partition, segment::Progress};
use edge::Routes;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::support::{Bench, SEPTEMBER, Usage, front, hour, progress};

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub(crate) fn router(bench: &Bench) -> Router {
    let other = Router::new().route("/v1/pulses", post(async |body: String| body));
    let routes = [query_api::http::routes(bench.api.clone()), Routes::new(other, 1 << 20)];
    let description = crate::openapi::document();
    edge::http::router(routes, description, front(&bench.health))
}

pub(crate) async fn send(bench: &Bench, request: Request<Body>) -> Answer {
    let response = router(bench).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

pub(crate) async fn get(bench: &Bench, address: &str) -> Answer {
    get_as(bench, address, "*/*").await
}

async fn get_as(bench: &Bench, address: &str, accept: &str) -> Answer {
    let request = Request::get(address).header("accept", accept).header("x-request-id", "r-1");
    send(bench, request.body(Body::empty()).unwrap()).await
}

async fn bench() -> Bench {
    let bench = Bench::new(&[
        Usage::of("acme", "vm", 0, "2.50").with(&[("region", "br-\"1\"")]),
        Usage::of("acme", "vm", 0, "-0.000000000000000001")
            .with(&[("region", "br-\"1\"")])
            .from(1, 0),
        Usage::of("acme", "vm, large", 1, "3"),
    ])
    .await;
    bench.progress(progress(0, 10, hour(SEPTEMBER + 48))).await;
    bench.progress(progress(1, 20, hour(SEPTEMBER + 30))).await;
    bench
}

const QUESTION: &str = "/v1/usage?from=2024-09-01&to=2024-09-02&window=PT1H";

#[tokio::test]
async fn json_has_the_documented_shape() {
    let answer = get(&bench().await, QUESTION).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("x-request-id"), "r-1");
    let expected = json!({
        "rows": [
            {
                "tenant": "acme", "product_sku": "vm", "use_unity": "hour",
                "dimensions": {"region": "br-\"1\""},
                "window_start": "2024-09-01T00:00:00Z", "window_end": "2024-09-01T01:00:00Z",
                "count": "2", "sum": "2.499999999999999999", "min": "-0.000000000000000001",
                "max": "2.5", "last": "2.5",
            },
            {
                "tenant": "acme", "product_sku": "vm, large", "use_unity": "hour",
                "dimensions": {},
                "window_start": "2024-09-01T01:00:00Z", "window_end": "2024-09-01T02:00:00Z",
                "count": "1", "sum": "3", "min": "3", "max": "3", "last": "3",
            },
        ],
        "freshness": {
            "as_of": "2024-09-02T06:00:00Z", "complete_until": "2024-09-01T06:00:00Z",
        },
        "next_page_token": "",
    });
    assert_eq!(answer.json(), expected);
}

#[tokio::test]
async fn csv_has_exact_decimals_and_says_the_rest_in_headers() {
    let bench = bench().await;
    let answer = get_as(&bench, QUESTION, "text/csv").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("content-type"), "text/csv; charset=utf-8; header=present");
    assert_eq!(answer.header("vary"), "accept");
    assert_eq!(answer.header("x-as-of"), "2024-09-02T06:00:00Z");
    assert_eq!(answer.header("x-complete-until"), "2024-09-01T06:00:00Z");
    assert_eq!(answer.header("x-next-page-token"), "");
    let golden = "tenant,product_sku,use_unity,dimensions,window_start,window_end,count,sum,min,max,last\r\n\
        acme,vm,hour,\"{\"\"region\"\":\"\"br-\\\"\"1\\\"\"\"\"}\",2024-09-01T00:00:00Z,2024-09-01T01:00:00Z,2,2.499999999999999999,-0.000000000000000001,2.5,2.5\r\n\
        acme,\"vm, large\",hour,{},2024-09-01T01:00:00Z,2024-09-01T02:00:00Z,1,3,3,3,3\r\n";
    assert_eq!(answer.body, golden);
    let first = get_as(&bench, &format!("{QUESTION}&page_size=1"), "text/csv").await;
    let token = first.header("x-next-page-token");
    let second =
        get_as(&bench, &format!("{QUESTION}&page_size=1&page_token={token}"), "text/csv").await;
    let lines =
        |answer: &Answer| answer.body.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!([lines(&first), lines(&second)].concat(), lines(&answer));
}

#[tokio::test]
async fn freshness_is_null_until_something_is_known() {
    let bench = Bench::new(&[]).await;
    let answer = get(&bench, QUESTION).await;
    assert_eq!(answer.json()["freshness"], json!({"as_of": null, "complete_until": null}));
    // A partition that nothing ever reached holds nothing back; one with records does.
    bench.progress(progress(0, 10, hour(SEPTEMBER + 48))).await;
    let answer = get(&bench, QUESTION).await;
    assert_eq!(answer.json()["freshness"]["as_of"], "2024-09-03T00:00:00Z");
    bench.log.skip_offsets(Partition(1), 1);
    let answer = get(&bench, QUESTION).await;
    assert_eq!(answer.json()["freshness"]["as_of"], Value::Null);
}

async fn as_of(bench: &Bench) -> Value {
    get(bench, QUESTION).await.json()["freshness"]["as_of"].take()
}

#[tokio::test]
async fn what_is_in_the_store_whole_is_as_fresh_as_the_question() {
    let bench = Bench::new(&[]).await;
    let known =
        Progress { caught_up_at: Some(hour(SEPTEMBER + 5)), ..progress(0, 2, hour(SEPTEMBER)) };
    bench.progress(known).await;
    bench.log.skip_offsets(Partition(0), 2);
    bench.clock.set(hour(SEPTEMBER + 60));
    assert_eq!(as_of(&bench).await, "2024-09-03T12:00:00Z", "nothing came since, nobody wrote it");
    // A record waits: what was seen a moment ago stays true.
    bench.log.skip_offsets(Partition(0), 1);
    bench.clock.set(hour(SEPTEMBER + 61));
    assert_eq!(as_of(&bench).await, "2024-09-03T12:00:00Z");
    bench.progress(progress(0, 3, hour(SEPTEMBER + 61))).await;
    bench.clock.set(hour(SEPTEMBER + 62));
    assert_eq!(as_of(&bench).await, "2024-09-03T14:00:00Z");
    // The clock was ahead, and is set right.
    bench.log.skip_offsets(Partition(0), 1);
    bench.clock.set(hour(SEPTEMBER + 61));
    assert_eq!(
        as_of(&bench).await,
        "2024-09-03T13:00:00Z",
        "the log time of the last counted record"
    );
}

#[tokio::test]
async fn a_time_that_a_wrong_clock_noted_is_not_shown() {
    let bench = Bench::new(&[]).await;
    bench.log.skip_offsets(Partition(0), 3);
    bench.clock.set(hour(SEPTEMBER + 6));
    let noted = |at| Progress {
        caught_up_at: Some(hour(SEPTEMBER + at)),
        ..progress(0, 2, hour(SEPTEMBER + 4))
    };
    bench.progress(noted(54)).await;
    assert_eq!(as_of(&bench).await, "2024-09-01T04:00:00Z");
    bench.progress(noted(5)).await;
    assert_eq!(as_of(&bench).await, "2024-09-01T05:00:00Z");
}

#[tokio::test]
async fn each_bad_parameter_is_a_problem_that_names_it() {
    let bench = bench().await;
    for (address, field, reason) in [
        ("/v1/usage", "window", "WINDOW_INVALID"),
        ("/v1/usage?tenent=a", "tenent", "PARAMETER_UNKNOWN"),
        ("/v1/usage?tenant=", "tenant", "PARAMETER_INVALID"),
        ("/v1/usage?tenant=a&tenant=b", "tenant", "PARAMETER_INVALID"),
        ("/v1/usage?tenant=%ff", "tenant", "NAME_NOT_UTF8"),
        ("Q&tenant=a%00", "tenant", "NAME_CONTROL_CHARACTER"),
        ("Q&sku=a%07", "sku", "NAME_CONTROL_CHARACTER"),
        ("Q&unit=%c2%85", "unit", "NAME_CONTROL_CHARACTER"),
        ("/v1/usage?to=2024-09-02&window=PT1H", "from", "RANGE_INVALID"),
        ("/v1/usage?from=x&to=2024-09-02&window=PT1H", "from", "RANGE_INVALID"),
        ("/v1/usage?from=2024-09-02&to=2024-09-01&window=PT1H", "to", "RANGE_INVALID"),
        ("/v1/usage?from=2024-09-01&to=2024-09-02&window=PT1D", "window", "WINDOW_INVALID"),
        ("Q&group_by=tenant,,", "group_by[1]", "GROUP_BY_INVALID"),
        ("Q&time_zone=Europe/Brlin", "time_zone", "ZONE_UNKNOWN"),
        ("Q&page_size=0", "page_size", "PAGE_SIZE_INVALID"),
        ("Q&page_token=x", "page_token", "PAGE_TOKEN_INVALID"),
        ("/v1/status?verbose", "verbose", "PARAMETER_UNKNOWN"),
        ("/v1/dlq?reason=late", "reason", "PARAMETER_INVALID"),
        ("/v1/dlq?tenant=a%00", "tenant", "NAME_CONTROL_CHARACTER"),
        ("/v1/dlq?page_size=many", "page_size", "PAGE_SIZE_INVALID"),
        ("/v1/dlq?page_token=x", "page_token", "PAGE_TOKEN_INVALID"),
        ("/v1/dlq/0/x/0", "offset", "PARAMETER_INVALID"),
        ("/readyz?verbos", "verbos", "PARAMETER_UNKNOWN"),
    ] {
        let answer = get(&bench, &address.replacen('Q', QUESTION, 1)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{address}: {}", answer.body);
        let problem = problem_of(&answer);
        assert_eq!(problem["violations"][0]["field"], field, "{address}: {problem}");
        assert_eq!(problem["violations"][0]["reason"], reason, "{address}: {problem}");
        assert_eq!(problem["reason"], reason, "{address}");
        assert_ne!(problem["violations"][0]["message"], "", "{address}");
    }
}

/// The document, after checking what holds for each.
fn problem_of(answer: &Answer) -> Value {
    let problem = answer.json();
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.header("x-request-id"), "r-1");
    assert_eq!(problem["instance"], "urn:pulso:request:r-1");
    assert_eq!(problem["status"], answer.status.as_u16());
    let reason = problem["reason"].as_str().unwrap();
    assert_eq!(problem["type"], format!("urn:pulso:reason:{reason}"));
    problem
}

#[tokio::test]
async fn errors_of_the_router_are_problems_too() {
    let bench = bench().await;
    let large = "x".repeat(20_000);
    for (method, address, accept, body, status, reason) in [
        ("GET", "/v1/usages", "*/*", "", 404, "ROUTE_NOT_FOUND"),
        ("GET", "/v1/dlq/1/2", "*/*", "", 404, "ROUTE_NOT_FOUND"),
        ("GET", "/v1/dlq/0/1/0", "*/*", "", 404, "DEAD_LETTER_NOT_FOUND"),
        ("GET", "/v1/dlq/70000/1/0", "*/*", "", 404, "DEAD_LETTER_NOT_FOUND"),
        ("POST", "/v1/usage", "*/*", "", 405, "METHOD_NOT_ALLOWED"),
        ("DELETE", "/", "*/*", "", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/v1/pulses", "*/*", "", 405, "METHOD_NOT_ALLOWED"),
        ("GET", QUESTION, "text/html", "", 406, "NOT_ACCEPTABLE"),
        ("GET", "/v1/status", "text/csv", "", 406, "NOT_ACCEPTABLE"),
        ("GET", "/v1/dlq", "text/csv", "", 406, "NOT_ACCEPTABLE"),
        ("GET", "/v1/dlq/0/1/0", "text/csv", "", 406, "NOT_ACCEPTABLE"),
        ("GET", QUESTION, "*/*", &large, 413, "BODY_TOO_LARGE"),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(address)
            .header("accept", accept)
            .header("x-request-id", "r-1")
            .header("content-length", body.len());
        let answer = send(&bench, request.body(Body::from(body.to_owned())).unwrap()).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {address}: {}", answer.body);
        assert_eq!(problem_of(&answer)["reason"], reason, "{method} {address}");
        if status == 405 {
            assert_ne!(answer.header("allow"), "", "{method} {address}");
        }
    }
}

#[tokio::test]
async fn routes_of_other_stages_keep_their_bodies_and_get_an_id() {
    let large = "x".repeat(20_000);
    let request = Request::post("/v1/pulses").body(Body::from(large.clone())).unwrap();
    let answer = send(&bench().await, request).await;
    assert_eq!((answer.status, &answer.body), (StatusCode::OK, &large));
    assert_eq!(answer.header("x-request-id").len(), 32);
}
