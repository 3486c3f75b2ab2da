//! Which certificates are whose, what a file may hold, and what becomes of one that cannot be used.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::access::{
    principal::Role,
    samples::{NOW, SetClock},
};

struct File {
    _directory: TempDir,
    path: PathBuf,
}

impl File {
    fn new(document: &Value) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("certificates.json");
        let file = Self { _directory: directory, path };
        file.write(document.to_string());
        file
    }

    fn write(&self, text: impl AsRef<[u8]>) {
        fs::write(&self.path, text).unwrap();
    }
}

fn client(name: &str, names: &[&str], tenant: &str) -> Value {
    json!({"client": name, "names": names, "roles": ["writer"], "tenants": [tenant]})
}

fn clients(clients: &[Value]) -> Value {
    json!({ "clients": clients })
}

fn after(seconds: i64) -> Timestamp {
    Timestamp::from_parts(NOW + seconds, 0).unwrap()
}

fn peer(names: &[&str]) -> TlsPeer {
    TlsPeer::verified(names, after(60))
}

#[test]
fn an_exact_name_is_its_client_and_no_other_name_is_anybody() {
    let file = File::new(&clients(&[
        client("meter", &["uri:spiffe://example.org/meter", "dns:meter.example.org"], "acme"),
        client("other", &["cn:other, with a comma"], "bolt"),
    ]));
    let certificates = Certificates::load(&file.path).unwrap();
    let find = |names: &[&str]| certificates.principal(&peer(names), after(0));
    for (names, expected) in [
        (&["uri:spiffe://example.org/meter"][..], Ok("meter")),
        (&["dns:meter.example.org"], Ok("meter")),
        (&["dns:meter.example.org", "uri:spiffe://example.org/meter"], Ok("meter")),
        (&["dns:unknown.example.org", "dns:meter.example.org"], Ok("meter")),
        (&["cn:other, with a comma"], Ok("other")),
        (&["dns:meter.example.org", "cn:other, with a comma"], Err(AMBIGUOUS)),
        (&[], Err(UNKNOWN)),
        (&["dns:METER.example.org"], Err(UNKNOWN)),
        (&["cn:meter.example.org"], Err(UNKNOWN)),
        (&["dns:spiffe://example.org/meter"], Err(UNKNOWN)),
        (&["uri:spiffe://example.org/meter/"], Err(UNKNOWN)),
        (&["dns:a.meter.example.org"], Err(UNKNOWN)),
    ] {
        let found = find(names);
        let name = found.as_ref().map(|principal| &*principal.name);
        assert_eq!(name, expected.map_err(Refusal::Invalid).as_ref().copied(), "{names:?}");
        let Ok(principal) = found else { continue };
        assert_eq!(principal.kind, CredentialKind::Certificate);
        assert!(names.contains(&&*principal.id), "{}", principal.id);
        assert_eq!(principal.roles, Roles::of(&[Role::Writer]));
    }
    let (one, other) =
        (find(&["dns:meter.example.org"]), find(&["uri:spiffe://example.org/meter"]));
    assert_eq!(one.as_ref().unwrap().scope, other.unwrap().scope, "one client, one identity");
    assert_eq!(one.unwrap().tenants.to_string(), "acme");
}

#[test]
fn a_certificate_counts_until_it_expires() {
    let file = File::new(&clients(&[client("meter", &["dns:meter"], "acme")]));
    let certificates = Certificates::load(&file.path).unwrap();
    for (seconds, is_known) in [(0, true), (59, true), (60, false), (61, false)] {
        let found = certificates.principal(&peer(&["dns:meter"]), after(seconds));
        assert_eq!(found.is_ok(), is_known, "after {seconds} s");
        assert!(is_known || found == Err(Refusal::Expired));
    }
}

#[test]
fn a_removed_name_counts_no_more_and_a_file_that_cannot_be_used_changes_nothing() {
    let both = clients(&[client("a", &["dns:a"], "acme"), client("b", &["dns:b"], "bolt")]);
    let file = File::new(&both);
    let certificates = Certificates::load(&file.path).unwrap();
    let known =
        || ["dns:a", "dns:b"].map(|name| certificates.principal(&peer(&[name]), after(0)).is_ok());
    file.write(clients(&[client("b", &["dns:b"], "bolt")]).to_string());
    assert_eq!(known(), [true, true], "before it is read again");
    certificates.reload().unwrap();
    assert_eq!(known(), [false, true]);
    let damaged = both.to_string();
    for text in [&damaged[..damaged.len() - 1], "", "{}"] {
        file.write(text);
        assert!(certificates.reload().is_err(), "{text}");
        assert_eq!(known(), [false, true], "{text}");
    }
    fs::remove_file(&file.path).unwrap();
    let error = certificates.reload().unwrap_err().to_string();
    assert!(error.contains("certificates.json` cannot be read"), "{error}");
    assert_eq!(known(), [false, true]);
    file.write(clients(&[]).to_string());
    certificates.reload().unwrap();
    assert_eq!(known(), [false, false], "a file without clients is a word, and no damage");
}

#[tokio::test(start_paused = true)]
async fn the_file_is_read_again_every_few_seconds_until_shutdown() {
    let file = File::new(&clients(&[client("a", &["dns:a"], "acme")]));
    let certificates = Arc::new(Certificates::load(&file.path).unwrap());
    let (shutdown, health) = (Shutdown::new(), runtime::Health::new());
    let keeping = tokio::spawn({
        let (certificates, shutdown) = (Arc::clone(&certificates), shutdown.clone());
        let check = health.register("certificates");
        async move { certificates.keep(check, &shutdown).await }
    });
    let is_known = || certificates.principal(&peer(&["dns:a"]), after(0)).is_ok();
    let says = |what: &str| health.report().to_string().contains(what);
    // A damaged one in between does not end it.
    for (text, expected, said) in [
        ("{", true, "[~]certificates degraded: `"),
        (r#"{"clients": []}"#, false, "[+]certificates ok"),
    ] {
        file.write(text);
        for _ in 0..1_000 {
            if is_known() == expected && says(said) {
                break;
            }
            tokio::time::sleep(READ_EVERY).await;
        }
        assert_eq!(is_known(), expected, "{text}");
        assert!(says(said), "{text}: {}", health.report());
        assert!(health.report().is_ready(), "{text}");
    }
    shutdown.request();
    keeping.await.unwrap();
}

#[test]
fn a_file_with_a_mistake_is_refused_with_its_place() {
    let meter = || client("meter", &["dns:meter"], "acme");
    let with = |field: &str, value: Value| {
        let mut client = meter();
        client[field] = value;
        clients(&[client])
    };
    for (document, words) in [
        (json!([]), "write {\"clients\""),
        (json!({"clients": [], "more": 1}), "unknown field `more`"),
        (with("name", json!("x")), "unknown field `name`"),
        (with("roles", json!(["root"])), "\"root\" is no role"),
        (with("roles", json!([])), "clients[0].roles: is empty"),
        (with("tenants", json!([])), "no tenant is named"),
        (
            with("tenants", json!(["*", "acme"])),
            "`*` means all tenants; list no other tenant with it",
        ),
        (with("client", json!("")), "clients[0].client: is no name: empty"),
        (with("names", json!([])), "clients[0].names: is empty"),
        (with("names", json!(["meter"])), "clients[0].names[0]: is without its kind"),
        (with("names", json!(["ip:127.0.0.1"])), "clients[0].names[0]: is without its kind"),
        (with("names", json!(["dns:"])), "has no name of 1 to 256 bytes"),
        (with("names", json!(["cn:a\u{7}"])), "has no name of 1 to 256 bytes"),
        (with("names", json!(["dns:a", "dns:*.example.org"])), "names[1]: has a `*`"),
        (with("names", json!(["dns:a", "dns:a"])), "names[1]: \"dns:a\" comes twice"),
        (clients(&[meter(), meter()]), "clients[1].client: \"meter\" is that of clients[0]"),
        (
            clients(&[meter(), client("other", &["dns:meter"], "acme")]),
            "clients[1].names[0]: \"dns:meter\" comes twice",
        ),
    ] {
        let error = Certificates::load(&File::new(&document).path).unwrap_err().to_string();
        assert!(error.contains(words), "{document}: {error}");
        assert!(error.contains("certificates.json"), "{error}");
    }
}

#[test]
fn names_and_bytes_are_bounded() {
    let of = |count: usize| {
        let names: Vec<_> = (0..count).map(|at| format!("dns:meter-{at}")).collect();
        let (first, second) = names.split_at(count / 2);
        let names = |names: &[String]| names.to_vec();
        File::new(&json!({"clients": [
            {"client": "a", "names": names(first), "roles": ["writer"], "tenants": ["*"]},
            {"client": "b", "names": names(second), "roles": ["writer"], "tenants": ["*"]},
        ]}))
    };
    let full = Certificates::load(&of(NAMES_MAX).path).unwrap();
    let last = format!("dns:meter-{}", NAMES_MAX - 1);
    assert!(full.principal(&peer(&[&last]), SetClock::new().shared().now()).is_ok());
    let error = Certificates::load(&of(NAMES_MAX + 1).path).unwrap_err().to_string();
    assert!(error.contains("is one more than the 1000 names"), "{error}");

    let file = File::new(&clients(&[]));
    let mut text = clients(&[]).to_string().into_bytes();
    let bytes_max = usize::try_from(FILE_BYTES_MAX).unwrap();
    text.resize(bytes_max, b' ');
    file.write(&text);
    assert!(Certificates::load(&file.path).is_ok());
    text.push(b' ');
    file.write(&text);
    let error = Certificates::load(&file.path).unwrap_err().to_string();
    assert!(error.contains("more than 1048576 bytes"), "{error}");
}
