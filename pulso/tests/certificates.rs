//! Client certificates as credentials through the program: own and foreign tenants, names that nobody
//! knows or two clients have, a key beside a certificate, and streams whose certificate ends.

use std::{fs, path::PathBuf, process::Output};

use edge::problem::reason_of;
use proto::v1::{IngestAck, PulseBatch, ingest_service_client::IngestServiceClient};
use pulso::client::{self, Target};
use serde_json::{Value, json};
use tonic::Streaming;

use crate::{
    access,
    harness::{
        Home, PATIENCE, Server, Settings, program,
        tls::{Authority, Identity, Validity},
    },
};

const NAMES: &[&str] = &["localhost", "127.0.0.1"];

/// A server that asks for credentials, and knows some by their certificates.
struct Mesh {
    home: Home,
    ca: PathBuf,
    authority: Authority,
    settings: Settings,
}

impl Mesh {
    fn new() -> Self {
        let (home, authority) = (Home::new(), Authority::new("mesh"));
        let ca = authority.file(&home, "ca.pem");
        let served = authority.sign(&home, "server", NAMES, Validity::Now);
        let settings = served
            .served(Settings::default().without_access())
            .with("PULSO_LISTEN__TLS_CLIENT_CA", ca.to_str().unwrap())
            .with("PULSO_LISTEN__TLS_CLIENT_AUTH", "optional")
            .with("PULSO_ACCESS__MODE", "required")
            .with("PULSO_ACCESS__CERTIFICATES", home.path("clients.json").to_str().unwrap());
        let mesh = Self { home, ca, authority, settings };
        mesh.write(&known());
        mesh
    }

    fn write(&self, clients: &Value) {
        let path = self.home.path("clients.json");
        let beside = self.home.path("clients.part");
        fs::write(&beside, json!({ "clients": clients }).to_string()).unwrap();
        fs::rename(beside, path).unwrap();
    }

    async fn start(&self) -> Server {
        Server::start(&self.home, &self.settings).await.trusting(self.ca.clone())
    }

    fn certificate(&self, name: &str, names: &[&str], validity: Validity) -> Identity {
        self.authority.sign(&self.home, name, names, validity)
    }
}

fn known() -> Value {
    json!([
        {"client": "acme", "names": ["dns:acme.mesh"], "roles": ["writer", "viewer"], "tenants": ["acme"]},
        {"client": "ops", "names": ["dns:ops.mesh"], "roles": ["admin"], "tenants": ["*"]},
    ])
}

/// A command with a certificate, and perhaps a key.
async fn run(
    server: &Server,
    shown: Option<&Identity>,
    key: Option<&str>,
    arguments: &[&str],
) -> Output {
    let mut command = program();
    command.args(arguments).args(["--server", &server.grpc]);
    command.arg("--ca").arg(server.ca.as_ref().unwrap());
    command.args(shown.map(Identity::shown).unwrap_or_default());
    command.env_remove("PULSO_KEY").envs(key.map(|key| ("PULSO_KEY", key)));
    crate::harness::output(command).await
}

/// A stream that is open.
async fn stream(
    server: &Server,
    shown: &Identity,
) -> (tokio::sync::mpsc::Sender<PulseBatch>, Streaming<IngestAck>) {
    let target = Target {
        ca: server.ca.clone(),
        identity: Some((shown.certificate.clone(), shown.key.clone())),
        ..Target::from(&server.grpc)
    };
    let mut ingest = IngestServiceClient::new(client::connect(target).await.unwrap());
    let (batches, requests) = tokio::sync::mpsc::channel(1);
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut acks = ingest.ingest_stream(requests).await.unwrap().into_inner();
    batches.send(PulseBatch::default()).await.unwrap();
    assert!(acks.message().await.unwrap().is_some(), "the stream is open");
    (batches, acks)
}

async fn end_of(mut acks: Streaming<IngestAck>) -> Option<String> {
    let ended = tokio::time::timeout(PATIENCE, acks.message()).await.expect("it ends");
    reason_of(&ended.expect_err("without an ack"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_in_a_certificate_is_a_client_with_its_roles_and_tenants() {
    let mesh = Mesh::new();
    let viewer = access::create(&mesh.home, &["eve", "--role", "viewer", "--tenant", "bolt"], None);
    let server = mesh.start().await;
    let acme = mesh.certificate("acme", &["acme.mesh"], Validity::Now);
    let ops = mesh.certificate("ops", &["ops.mesh"], Validity::Now);
    let stranger = mesh.certificate("stranger", &["stranger.mesh"], Validity::Now);
    let both = mesh.certificate("both", &["acme.mesh", "ops.mesh"], Validity::Now);
    let usage = |tenant: &'static str| {
        let range = ["query", "usage", "--from", "2024-09", "--to", "2024-10", "--window", "P1M"];
        [&range[..], &["--tenant", tenant]].concat()
    };
    let key = access::text(&viewer);
    for (shown, key, arguments, code, words) in [
        (Some(&acme), None, usage("acme"), 0, ""),
        (Some(&acme), None, usage("bolt"), 77, "acme is not for the tenant bolt"),
        (Some(&acme), None, vec!["key", "list"], 77, "needs one of the roles admin"),
        (Some(&ops), None, vec!["key", "list"], 0, ""),
        (Some(&stranger), None, usage("acme"), 77, "has no name of its client certificate"),
        (Some(&both), None, usage("acme"), 77, "are of different clients"),
        (None, None, usage("acme"), 77, "no credential"),
        // The header is what this request is made with.
        (Some(&ops), Some(key), vec!["key", "list"], 77, "needs one of the roles admin"),
        (Some(&acme), Some(key), usage("acme"), 77, "eve is not for the tenant acme"),
        (Some(&ops), Some("guess"), usage("acme"), 77, "neither a token nor an API key"),
    ] {
        let output = run(&server, shown, key, &arguments).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    server.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_when_its_certificate_expires_or_its_name_is_removed() {
    let mesh = Mesh::new();
    let server = mesh.start().await;
    let short = mesh.certificate("short", &["acme.mesh"], Validity::Seconds(8));
    let long = mesh.certificate("long", &["acme.mesh"], Validity::Now);
    let (short, long) = (stream(&server, &short).await, stream(&server, &long).await);
    assert_eq!(end_of(short.1).await.as_deref(), Some("CREDENTIAL_EXPIRED"));
    // A file that cannot be used changes nothing, as the next removal shows.
    fs::write(mesh.home.path("clients.json"), "{").unwrap();
    let log = || server.log().contains("names of client certificates cannot be read");
    crate::harness::until("the server warns", log).await;
    let ops = mesh.certificate("ops", &["ops.mesh"], Validity::Now);
    let listed = run(&server, Some(&ops), None, &["key", "list"]).await;
    assert_eq!(listed.status.code(), Some(0), "{listed:?}");
    mesh.write(&json!([known()[1]]));
    assert_eq!(end_of(long.1).await.as_deref(), Some("CREDENTIAL_INVALID"));
    let listed = run(&server, Some(&ops), None, &["key", "list"]).await;
    assert_eq!(listed.status.code(), Some(0), "{listed:?}");
    server.terminate().await;
}

#[test]
fn a_file_that_cannot_be_used_or_that_nobody_can_come_by_is_refused_at_the_start() {
    let mesh = Mesh::new();
    let refused = |settings: &Settings, words: &str| {
        for command in [&["serve", "--stage", "query"][..], &["config", "check"]] {
            let mut command = mesh.home.command(command);
            let output = command.envs(settings.variables()).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(78), "{said}");
            assert!(said.contains("access.certificates") && said.contains(words), "{said}");
        }
    };
    mesh.write(&json!([{"client": "a", "names": ["a"], "roles": ["writer"], "tenants": ["*"]}]));
    refused(&mesh.settings, "clients[0].names[0]: is without its kind");
    let without = mesh.settings.clone().with("PULSO_LISTEN__TLS_CLIENT_CA", "");
    refused(&without, "listen.tls_client_ca");
}
