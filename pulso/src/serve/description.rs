//! The description of HTTP that a process of every stage serves, without starting one: for generators
//! of clients and for checks.

use edge::{
    access::{Rule, Rules},
    http,
};

/// The rules of every stage and of the process itself.
#[must_use]
pub fn rules() -> Vec<Rule> {
    [
        &edge::grpc::OWN_RULES[..],
        &http::OWN_RULES,
        &ingestor_api::RULES,
        &ingestor_consumer::grpc::RULES,
        &billing::RULES,
        &query_api::RULES,
        &super::access::RULES,
    ]
    .concat()
}

/// The text of `/openapi.json`, indented, with the routes of all stages.
///
/// # Panics
/// When two stages have rules for one method, which a test of the table excludes.
#[must_use]
pub fn openapi() -> String {
    let rules = Rules::new(rules()).expect("the documented table of access is made of these rules");
    let described = http::described([billing::http::openapi(), query_api::http::openapi()], &rules);
    let text = serde_json::to_string_pretty(&described).expect("a description is strings and maps");
    text + "\n"
}
