//! The table of rules: what it finds, what it refuses to be, and how it prints.

use domain::Tenant;

use super::*;
use crate::access::principal::{Parts, Role, Tenants};

const READERS: Roles = Roles::of(&[Role::Admin, Role::Viewer]);
const ADMIN: Roles = Roles::of(&[Role::Admin]);

const QUERY: Rule =
    Rule::read("/pulso.v1.QueryService/QueryUsage", READERS, TenantRule::FromRequest);
const USAGE: Rule = Rule::read("GET /v1/usage", READERS, TenantRule::FromRequest);
const READ: Rule = Rule::read("GET /v1/catalog/{version}", READERS, TenantRule::Any);
const PUBLISH: Rule = Rule::write("POST /v1/catalog/{version}", ADMIN, TenantRule::AllTenants);
const PROBE: Rule = Rule::open("GET /livez");

fn rules() -> Rules {
    Rules::new([QUERY, USAGE, READ, PUBLISH, PROBE]).unwrap()
}

fn principal(roles: Roles, tenants: Tenants) -> Principal {
    let parts = Parts::clone(&Principal::local());
    Principal::new(Parts { name: "meter".to_owned(), roles, tenants, ..parts })
}

#[test]
fn a_request_finds_its_rule_and_what_has_none_is_denied() {
    let rules = rules();
    for (verb, path, expected) in [
        (Method::GET, "/v1/usage", Found::Rule(USAGE)),
        (Method::HEAD, "/v1/usage", Found::Rule(USAGE)),
        (Method::POST, "/v1/usage", Found::OtherVerb),
        (Method::OPTIONS, "/v1/usage", Found::OtherVerb),
        (Method::GET, "/v1/catalog/2024-09", Found::Rule(READ)),
        (Method::POST, "/v1/catalog/2024-09:activate", Found::Rule(PUBLISH)),
        (Method::GET, "/livez", Found::Rule(PROBE)),
        // Spellings that a router or a proxy might take for one of the above.
        (Method::GET, "/v1/usage/", Found::Nothing),
        (Method::GET, "//v1/usage", Found::Nothing),
        (Method::GET, "/v1//usage", Found::Nothing),
        (Method::GET, "/V1/usage", Found::Nothing),
        (Method::GET, "/v1/%75sage", Found::Nothing),
        (Method::GET, "/livez/../v1/usage", Found::Nothing),
        (Method::GET, "/livez;/v1/usage", Found::Nothing),
        (Method::GET, "/v1/catalog/", Found::Nothing),
        (Method::GET, "/v1/catalog/a/b", Found::Nothing),
        (Method::GET, "", Found::Nothing),
        (Method::GET, "/v1/catalog/{version}/", Found::Nothing),
    ] {
        assert_eq!(rules.of_request(&verb, path), expected, "{verb} {path}");
    }
    assert_eq!(rules.of_call(QUERY.method), Found::Rule(QUERY));
    for path in ["/pulso.v1.QueryService/queryUsage", "pulso.v1.QueryService/QueryUsage", "/", ""] {
        assert_eq!(rules.of_call(path), Found::Nothing, "{path}");
    }
    assert_eq!(rules.of_call(USAGE.method), Found::Nothing, "a route is no call");
}

#[test]
fn methods_without_rules_and_rules_without_methods_are_named() {
    let methods = [QUERY, USAGE, READ, PUBLISH, PROBE].map(|rule| rule.method);
    assert_eq!(rules().check(methods), Ok(()));
    let others = ["GET /v1/new", "/pulso.v1.NewService/Do"];
    let known = methods.into_iter().filter(|method| *method != READ.method).chain(others);
    let error = rules().check(known).unwrap_err();
    assert_eq!(
        error.to_string(),
        "methods without an access rule: [\"/pulso.v1.NewService/Do\", \"GET /v1/new\"]; \
         rules without a method: [\"GET /v1/catalog/{version}\"]"
    );
}

#[test]
fn a_table_with_a_mistake_is_refused() {
    let error = |rules: &[Rule]| Rules::new(rules.iter().copied()).unwrap_err().to_string();
    assert_eq!(error(&[USAGE, USAGE]), "two access rules for GET /v1/usage; keep one");
    for method in ["usage", "/usage", "/a/b/c", "//", "GET v1", "GET ", "FETCH /v1", "HEAD /v1"] {
        let rule = Rule::read(method, READERS, TenantRule::Any);
        assert!(error(&[rule]).contains("is no method"), "{method}");
    }
    let conflict = Rule::read("GET /v1/catalog/{name}", READERS, TenantRule::Any);
    assert!(error(&[READ, conflict]).contains("conflict"), "{}", error(&[READ, conflict]));
    let nobody = Rule::read("GET /v1/usage", Roles::NONE, TenantRule::Any);
    assert!(error(&[nobody]).contains("names no role"));
    let open_to_some = Rule { roles: ADMIN, ..PROBE };
    assert!(error(&[open_to_some]).contains("GET /livez"));
}

#[test]
fn a_principal_needs_a_role_of_the_rule_and_its_tenants() {
    let acme = || Tenants::one(Tenant::new("acme").unwrap());
    for (rule, roles, tenants, expected) in [
        (USAGE, READERS, acme(), None),
        (USAGE, Roles::of(&[Role::Viewer]), Tenants::ALL, None),
        (USAGE, Roles::of(&[Role::Writer]), Tenants::ALL, Some(reasons::ROLE_MISSING)),
        (USAGE, Roles::NONE, Tenants::ALL, Some(reasons::ROLE_MISSING)),
        (PUBLISH, ADMIN, Tenants::ALL, None),
        (PUBLISH, ADMIN, acme(), Some(reasons::TENANT_FORBIDDEN)),
        (PUBLISH, Roles::of(&[Role::Viewer]), Tenants::ALL, Some(reasons::ROLE_MISSING)),
        (PROBE, Roles::NONE, acme(), None),
    ] {
        let answer = rule.authorise(&principal(roles, tenants));
        let reason = answer.as_ref().err().map(|problem| problem.reason);
        assert_eq!(reason, expected, "{rule:?} {roles:?}");
    }
    let problem = USAGE.authorise(&principal(Roles::NONE, acme())).unwrap_err();
    assert_eq!(
        problem.message,
        "GET /v1/usage needs one of the roles admin, viewer, and meter has none; use another \
         credential"
    );
}

#[test]
fn the_table_prints_as_markdown() {
    let expected = "\
| method | does | roles | tenants |
| --- | --- | --- | --- |
| `/pulso.v1.QueryService/QueryUsage` | reads | admin, viewer | those of the request, narrowed to the credential's |
| `GET /livez` | reads |  | no credential needed |
| `GET /v1/catalog/{version}` | reads | admin, viewer | any |
| `GET /v1/usage` | reads | admin, viewer | those of the request, narrowed to the credential's |
| `POST /v1/catalog/{version}` | writes | admin | a credential for all |
";
    assert_eq!(rules().markdown(), expected);
}
