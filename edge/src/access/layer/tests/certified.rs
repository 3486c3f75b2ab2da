//! The gate and client certificates: own and foreign tenants, unknown names, two clients in one
//! certificate, a header beside a certificate, and streams whose certificate ends.

use std::fs;

use domain::Timestamp;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::access::certificates::Certificates;

const USAGE: &str = "/pulso.v1.QueryService/QueryUsage";
const PUBLISH: &str = "/pulso.v1.CatalogService/Publish";

/// A gate that knows `dns:reader` for the tenant acme, and `dns:admin` for all.
struct Certified {
    fixture: Fixture,
    certificates: Arc<Certificates>,
    directory: TempDir,
}

impl Certified {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("certificates.json");
        let document = json!({"clients": [
            {"client": "reader", "names": ["dns:reader"], "roles": ["viewer"], "tenants": ["acme"]},
            {"client": "admin", "names": ["dns:admin"], "roles": ["admin"], "tenants": ["*"]},
        ]});
        fs::write(&path, document.to_string()).unwrap();
        let certificates = Arc::new(Certificates::load(path).unwrap());
        let Fixture { keys, clock, store, trail, .. } = Fixture::new().await;
        let authenticator = Authenticator::new(clock.shared())
            .with_keys(Arc::clone(&keys) as Arc<dyn ApiKeys>)
            .with_certificates(Arc::clone(&certificates));
        let rates = Rates::new(&RateLimits::default(), &clock.shared());
        let rules = Rules::new(RULES).unwrap();
        let within = (rates, Quotas::default());
        let access = Access::new(rules, authenticator, within, Arc::clone(&trail) as _);
        Self { fixture: Fixture { keys, clock, store, trail, access }, certificates, directory }
    }

    fn write(&self, clients: &serde_json::Value) {
        let path = self.directory.path().join("certificates.json");
        fs::write(path, json!({ "clients": clients }).to_string()).unwrap();
        self.certificates.reload().unwrap();
    }

    async fn send(&self, method: &str, names: &[&str], credential: Option<&str>) -> Answer {
        let until = Timestamp::from_parts(NOW + 60, 0).unwrap();
        let peer = TlsPeer::verified(names, until);
        send_with(&self.fixture.access, method, credential, Some(peer)).await
    }
}

#[tokio::test]
async fn a_certificate_is_held_to_the_table_like_any_credential() {
    let certified = Certified::new().await;
    for (names, method, expected) in [
        (&["dns:reader"][..], "GET /v1/usage", Ok("reader")),
        (&["dns:reader"], USAGE, Ok("reader")),
        (&["dns:reader"], PUBLISH, Err(reasons::ROLE_MISSING)),
        (&["dns:admin"], PUBLISH, Ok("admin")),
        (&["dns:admin"], "/pulso.v1.IngestService/Ingest", Err(reasons::ROLE_MISSING)),
        (&["dns:stranger"], USAGE, Err(reasons::CREDENTIAL_INVALID)),
        (&[], USAGE, Err(reasons::CREDENTIAL_INVALID)),
        (&["dns:reader", "dns:admin"], USAGE, Err(reasons::CREDENTIAL_INVALID)),
    ] {
        let answer = certified.send(method, names, None).await;
        assert_eq!(answer.reason.as_deref(), expected.err(), "{names:?} {method}");
        let Some((Some(principal), _)) = answer.seen else { continue };
        assert_eq!(Ok(&*principal.name), expected);
        let bolt = Tenant::new("bolt").unwrap();
        assert_eq!(principal.narrow(Some(bolt)).is_ok(), principal.name == "admin");
    }
    certified.fixture.clock.pass(60);
    let answer = certified.send(USAGE, &["dns:reader"], None).await;
    assert_eq!(answer.reason.as_deref(), Some(reasons::CREDENTIAL_EXPIRED));
}

#[tokio::test]
async fn a_header_comes_before_the_certificate_and_a_wrong_one_is_not_passed_over() {
    let certified = Certified::new().await;
    let key = certified.fixture.key(READERS, Tenants::ALL).await;
    let answer = certified.send(USAGE, &["dns:admin"], Some(&key)).await;
    assert_eq!(answer.seen.unwrap().0.unwrap().name, "meter");
    for wrong in ["guess", ""] {
        let answer = certified.send(USAGE, &["dns:admin"], Some(wrong)).await;
        assert!(answer.seen.is_none(), "{wrong:?}: {:?}", answer.reason);
    }
    // Where nobody is known by a certificate, it is as if none were shown.
    let until = Timestamp::from_parts(NOW + 60, 0).unwrap();
    let peer = TlsPeer::verified(&["dns:admin"], until);
    let answer = send_with(&Fixture::new().await.access, USAGE, None, Some(peer)).await;
    assert_eq!(answer.reason.as_deref(), Some(reasons::CREDENTIAL_MISSING));
}

#[tokio::test]
async fn a_stream_ends_when_its_name_is_removed_changed_or_expired() {
    let reader = |tenant: &str, roles: &[&str]| json!([{"client": "reader", "names": ["dns:reader"], "roles": roles, "tenants": [tenant]}]);
    for (change, expected) in [
        (Some(reader("acme", &["viewer"])), None),
        (Some(json!([])), Some(reasons::CREDENTIAL_INVALID)),
        (Some(reader("bolt", &["viewer"])), Some(reasons::CREDENTIAL_REVOKED)),
        (Some(reader("acme", &["writer"])), Some(reasons::CREDENTIAL_REVOKED)),
        (None, Some(reasons::CREDENTIAL_EXPIRED)),
    ] {
        let certified = Certified::new().await;
        let layer = AccessLayer::grpc(certified.fixture.access.clone());
        let until = Timestamp::from_parts(NOW + 60, 0).unwrap();
        let request = Request::post(USAGE).extension(TlsPeer::verified(&["dns:reader"], until));
        let request = request.header(CONTENT_TYPE, "application/grpc");
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let watch = layer.admit(&mut parts).await.ok().unwrap().watch.unwrap();
        assert_eq!(watch.look_now().await, Ok(()));
        match &change {
            Some(clients) => certified.write(clients),
            None => certified.fixture.clock.pass(60),
        }
        let found = watch.look_now().await.err().map(|refusal| refusal.reason());
        assert_eq!(found, expected, "{change:?}");
    }
}

/// A browser shows its certificate for every page.
#[tokio::test]
async fn a_page_of_others_neither_writes_nor_is_recorded_with_a_browsers_certificate() {
    let certified = Certified::new().await;
    let key = certified.fixture.key(Roles::ALL, Tenants::ALL).await;
    let (own, evil) = ("https://usage.example", "https://evil.example");
    for (credential, origin, expected) in [
        (None, evil, Some(reasons::ORIGIN_FORBIDDEN)),
        (None, own, None),
        // No browser adds a header.
        (Some(&key), evil, None),
    ] {
        let layer = AccessLayer::http(certified.fixture.access.clone(), guests());
        let until = Timestamp::from_parts(NOW + 60, 0).unwrap();
        let mut request = Request::post("/v1/catalog")
            .extension(TlsPeer::verified(&["dns:admin"], until))
            .header("host", "usage.example")
            .header("origin", origin);
        if let Some(key) = credential {
            request = request.header("x-api-key", key);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let admitted = layer.admit(&mut parts).await;
        let refused = admitted.err().map(|refused| refused.problem.reason);
        assert_eq!(refused, expected, "{origin}");
    }
    assert_eq!(entries(&certified.fixture.trail).await, []);
}
