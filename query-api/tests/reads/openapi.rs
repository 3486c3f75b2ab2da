//! The description of the HTTP door: pinned, and true.

use std::collections::BTreeSet;

use edge::{
    access::Rules,
    problem::{Problem, ProblemJson, Violation, reasons},
};
use serde_json::Value;
use utoipa::openapi::OpenApi;

use crate::{http::get, support::Bench};

/// What a process of this stage alone serves.
pub(crate) fn document() -> OpenApi {
    let rules = [&query_api::RULES[..], &edge::http::OWN_RULES].concat();
    edge::http::described([query_api::http::openapi()], &Rules::new(rules).unwrap())
}

fn description() -> Value {
    serde_json::to_value(document()).unwrap()
}

#[test]
fn the_description_is_the_reviewed_one() {
    let mut description = description();
    description["info"]["version"] = "VERSION".into();
    insta::assert_snapshot!("openapi", serde_json::to_string_pretty(&description).unwrap());
}

#[tokio::test]
async fn every_described_route_answers_and_the_index_names_it() {
    let bench = Bench::new(&[]).await;
    let index = get(&bench, "/").await.body;
    for path in description()["paths"].as_object().unwrap().keys() {
        let address =
            path.replace("{partition}", "0").replace("{offset}", "0").replace("{index}", "0");
        let answer = get(&bench, &address).await;
        assert_ne!(answer.status.as_u16(), 405, "{path}");
        assert!(!answer.body.contains("ROUTE_NOT_FOUND"), "{path}: {}", answer.body);
        assert!(index.contains(path.as_str()), "{path} is not on the index page");
    }
    assert_eq!(get(&bench, "/openapi.json").await.json(), description());
}

#[tokio::test]
async fn every_described_parameter_is_known_and_no_other() {
    let bench = Bench::new(&[]).await;
    for (path, item) in description()["paths"].as_object().unwrap() {
        let parameters = item["get"]["parameters"].as_array().cloned().unwrap_or_default();
        let described: BTreeSet<_> = parameters
            .iter()
            .filter(|parameter| parameter["in"] == "query")
            .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
            .collect();
        // The answer to an unknown parameter lists those that are known.
        let answer = get(&bench, &format!("{path}?qqqqqqqq=1")).await;
        if answer.status.is_success() {
            assert!(described.is_empty(), "{path} takes no parameters");
            continue;
        }
        let message = answer.json()["violations"][0]["message"].as_str().unwrap().to_owned();
        let known = message.split_once("there are ").map_or("", |(_, names)| names);
        let known: BTreeSet<_> =
            known.split(", ").filter(|name| !name.is_empty()).map(str::to_owned).collect();
        assert_eq!(described, known, "{path}: {message}");
    }
}

#[test]
fn the_described_problem_is_the_one_that_is_sent() {
    let violation = Violation::new("window", reasons::WINDOW_INVALID, "wrong");
    let problem = Problem::check(vec![violation]).unwrap_err();
    let bytes = ProblemJson::new(problem, Some("r-1")).to_bytes();
    let sent: Value = serde_json::from_slice(&bytes).unwrap();
    let schemas = &description()["components"]["schemas"];
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(keys(&schemas["Problem"]["properties"]), keys(&sent));
    assert_eq!(keys(&schemas["Violation"]["properties"]), keys(&sent["violations"][0]));
}
