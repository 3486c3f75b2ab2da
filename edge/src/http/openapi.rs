//! The description of the HTTP door, which `/openapi.json` serves: that of every running stage and
//! of the process's own routes.
//!
//! Stages describe what they answer. What holds for all of them is added here, once: the credentials
//! and roles of each operation, from the rules that the gate goes by, and the problems that any may
//! answer.

use axum::response::IntoResponse;
use utoipa::{
    OpenApi,
    openapi::{
        ContentBuilder, OpenApi as Document, PathItem, Ref, RefOr, Response, ResponseBuilder,
        extensions::ExtensionsBuilder,
        path::{Operation, Parameter},
        schema::{Schema, SchemaType, Type},
        security::{
            ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
        },
    },
};

use super::probes;
use crate::{
    access::{Rule, Rules},
    problem::{
        ProblemJson,
        http::{CONTENT_TYPE, ViolationJson},
    },
};

/// The names of the two credentials, and of the shared answers, among the components.
const BEARER: &str = "bearer";
const API_KEY: &str = "apiKey";
const PROBLEM: &str = "Problem";
const UNAUTHENTICATED: &str = "Unauthenticated";
const FORBIDDEN: &str = "Forbidden";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Pulso",
        description = "Usage over time, dead letters, the state of the pipeline, and with the stage that prices also catalogues, contracts, billing runs and invoices. Decimals and 64-bit integers are strings, instants are RFC 3339 in UTC. Clients must ignore keys that they do not know: answers only ever get more of them. Every answer carries `x-request-id`; every error is an RFC 9457 problem with a `reason` to branch on.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((url = "/", description = "The process that serves this description.")),
    paths(probes::livez, probes::readyz, probes::metrics, serve),
    components(schemas(ProblemJson, ViolationJson)),
    tags((name = "probes", description = "What machines ask.")),
)]
struct Own;

/// Merges the descriptions of stages with that of the process's own routes, and says of each operation
/// who may call it and which problems any of them may answer.
#[must_use]
pub fn described(stages: impl IntoIterator<Item = Document>, rules: &Rules) -> Document {
    let own = Own::openapi();
    let mut whole = Document::default();
    (whole.info, whole.servers) = (own.info.clone(), own.servers.clone());
    for stage in stages.into_iter().chain([own]) {
        whole.merge(stage);
    }
    for (path, item) in &mut whole.paths.paths {
        for (verb, operation) in operations(item) {
            complete(operation, rules.of_method(&rule_name(verb, path)));
        }
    }
    whole.security =
        Some([BEARER, API_KEY].map(|name| SecurityRequirement::new(name, [""; 0])).into());
    let components = whole.components.get_or_insert_default();
    components.add_security_scheme(BEARER, bearer());
    components.add_security_scheme(API_KEY, api_key());
    let problems = [
        (PROBLEM, "Any other problem."),
        (UNAUTHENTICATED, "There is no credential, or it does not count."),
        (
            FORBIDDEN,
            "The credential lacks the role or the tenant, or the request comes from a page of another origin or under another name of the host.",
        ),
    ];
    let problems = problems.map(|(name, means)| (name.to_owned(), problem(means)));
    components.responses.extend(problems);
    whole
}

/// The operations of a path with their verbs.
fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    let verbs = [("GET", get), ("POST", post), ("PUT", put), ("PATCH", patch), ("DELETE", delete)];
    verbs.into_iter().filter_map(|(verb, operation)| Some((verb, operation.as_mut()?)))
}

/// Every described operation as a rule names it, `GET /v1/usage`; several may go by one rule.
pub(crate) fn methods(description: &Document) -> Vec<String> {
    let paths = description.paths.paths.iter();
    paths
        .flat_map(|(path, item)| {
            operations(&mut item.clone()).map(|(verb, _)| rule_name(verb, path)).collect::<Vec<_>>()
        })
        .collect()
}

/// The rule of a described address. What follows a placeholder within a segment is a part of the
/// placeholder to the router and the rules: `/v1/invoices/{invoice}:void` goes by the rule of
/// `/v1/invoices/{invoice}`.
fn rule_name(verb: &str, path: &str) -> String {
    let segments = path.split('/').map(|segment| match segment.split_once('}') {
        Some((placeholder, _)) => format!("{placeholder}}}"),
        None => segment.to_owned(),
    });
    format!("{verb} {}", segments.collect::<Vec<_>>().join("/"))
}

/// Adds what every operation has. Answers that it describes itself stay.
fn complete(operation: &mut Operation, rule: Option<Rule>) {
    let mut answer = |status: &str, name| {
        let responses = &mut operation.responses.responses;
        responses.entry(status.to_owned()).or_insert_with(|| Ref::from_response_name(name).into());
    };
    answer("default", PROBLEM);
    answer("403", FORBIDDEN);
    match rule {
        Some(rule) if rule.is_open() => operation.security = Some(Vec::new()),
        Some(rule) => {
            answer("401", UNAUTHENTICATED);
            let roles = rule.roles.to_string();
            let who = format!("Roles: {roles}. Tenants: {}.", rule.tenants.words());
            let before = operation.description.take().map(|text| text + "\n\n").unwrap_or_default();
            operation.description = Some(before + &who);
            let roles: Vec<&str> = roles.split(", ").collect();
            let roles = ExtensionsBuilder::new().add("x-roles", roles).build();
            operation.extensions.get_or_insert_default().merge(roles);
        }
        // Such a process does not start: nothing without a rule is served.
        None => {}
    }
    operation.parameters.iter_mut().flatten().for_each(never_null);
}

/// A parameter may be left out; null is no text that an address could hold.
fn never_null(parameter: &mut RefOr<Parameter>) {
    if let RefOr::T(parameter) = parameter
        && let Some(RefOr::T(Schema::Object(object))) = &mut parameter.schema
        && let SchemaType::Array(types) = &mut object.schema_type
    {
        types.retain(|one| *one != Type::Null);
        if let [only] = &types[..] {
            object.schema_type = SchemaType::Type(only.clone());
        }
    }
}

fn problem(description: &str) -> RefOr<Response> {
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name(PROBLEM))).build();
    RefOr::T(ResponseBuilder::new().description(description).content(CONTENT_TYPE, problem).build())
}

fn bearer() -> SecurityScheme {
    let text = "An API key, or a token (JWT) of the configured issuer. Not asked for while `access.mode` is `off` or `open`.";
    SecurityScheme::Http(
        HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(text)).build(),
    )
}

fn api_key() -> SecurityScheme {
    let text = "An API key, for clients that cannot set `authorization`. A request with both headers is refused.";
    SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description("x-api-key", text)))
}

/// This description.
///
/// It holds the routes of the stages that run in the process.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "getDescription",
    tag = "probes",
    responses((
        status = 200,
        description = "OpenAPI 3.1.",
        body = Object,
        example = json!({"openapi": "3.1.0", "info": {"title": "Pulso", "version": "0.1.0"}, "paths": {}}),
    )),
)]
pub(super) fn serve(description: &Document) -> impl IntoResponse + use<> {
    axum::Json(description.clone())
}
