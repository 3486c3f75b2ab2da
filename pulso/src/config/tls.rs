//! TLS: which files the listeners need, from their settings, and what this build can do towards brokers
//! and stores.

use std::path::PathBuf;

use edge::listen::tls::{ClientAuthorities, ClientCertificate, Part, TlsFiles};

use super::{
    client_auth::ClientAuth,
    keys::{Config, Listen},
    loaded::Loaded,
    urls::{LogUrl, StoreUrl},
    value::{SaslMechanism, SecurityProtocol, Text, Tls},
};

/// Settings of the three files.
const CERTIFICATE: &str = "listen.tls_cert";
const KEY: &str = "listen.tls_key";
const CLIENT_CA: &str = "listen.tls_client_ca";

/// The setting that names a file.
pub(crate) const fn key_of(part: Part) -> &'static str {
    match part {
        Part::Certificate => CERTIFICATE,
        Part::Key => KEY,
        Part::ClientCa => CLIENT_CA,
    }
}

impl Listen {
    /// The files of TLS; `None` where the listeners speak plain text.
    pub(crate) fn tls_files(&self) -> Option<TlsFiles> {
        let path = |setting: &Text| setting.get().map(PathBuf::from);
        let demand = match self.tls_client_auth {
            ClientAuth::Required => ClientCertificate::Required,
            ClientAuth::Optional => ClientCertificate::Optional,
        };
        Some(TlsFiles {
            certificate: path(&self.tls_cert)?,
            key: path(&self.tls_key)?,
            clients: path(&self.tls_client_ca).map(|file| ClientAuthorities { file, demand }),
        })
    }

    /// How URLs of its addresses begin.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls_files().is_some() { "https" } else { "http" }
    }
}

impl Loaded {
    /// The same without TLS: for a process that only its own client reaches.
    #[must_use]
    pub(crate) fn in_plain_text(mut self) -> Self {
        let listen = &mut self.config.listen;
        listen.tls_cert = Text::default();
        listen.tls_key = Text::default();
        listen.tls_client_ca = Text::default();
        self
    }
}

/// Contradictions among them, and between what is asked for and what was built.
pub(super) fn tls_contradictions(loaded: &Loaded) -> Vec<(&'static str, String)> {
    let of_listeners = listener_contradiction(&loaded.config.listen);
    let found = of_listeners.into_iter().chain(of_clients(&loaded.config)).chain(lacks(loaded));
    found.map(|(key, problem)| (key, problem.to_owned())).collect()
}

fn listener_contradiction(listen: &Listen) -> Option<(&'static str, &'static str)> {
    let is_set = |setting: &Text| setting.get().is_some();
    let (cert, key) = (is_set(&listen.tls_cert), is_set(&listen.tls_key));
    match (cert, key, is_set(&listen.tls_client_ca)) {
        (true, false, _) => Some((KEY, "listen.tls_cert has to have its key: name the file")),
        (false, true, _) => {
            Some((CERTIFICATE, "listen.tls_key has to have its certificate: name the file"))
        }
        (false, false, true) => Some((
            CLIENT_CA,
            "clients show certificates under TLS only: name listen.tls_cert and listen.tls_key",
        )),
        _ => None,
    }
}

fn of_clients(config: &Config) -> Option<(&'static str, &'static str)> {
    let is_set = |setting: &Text| setting.get().is_some();
    let asks_none = is_set(&config.access.certificates) && !is_set(&config.listen.tls_client_ca);
    let problem =
        "clients show no certificates unless listen.tls_client_ca names their authorities";
    asks_none.then_some(("access.certificates", problem))
}

/// What the settings of Kafka and CQL ask for and this build lacks. Only where they are used.
fn lacks(loaded: &Loaded) -> Vec<(&'static str, &'static str)> {
    use SecurityProtocol::{SaslPlaintext, SaslSsl, Ssl};
    let Config { log, kafka, store, scylla, .. } = &loaded.config;
    let mut lacks = Vec::new();
    if matches!(log.url, LogUrl::Kafka(_)) && !storage::kafka::HAS_TLS {
        let by_challenge = kafka.sasl_mechanism != SaslMechanism::Plain;
        match kafka.security_protocol {
            Ssl | SaslSsl => lacks.push((
                "kafka.security_protocol",
                "this build speaks no TLS to brokers: build it with --features storage/kafka-tls",
            )),
            SaslPlaintext if by_challenge => lacks.push((
                "kafka.sasl_mechanism",
                "this build knows PLAIN only: build it with --features storage/kafka-tls",
            )),
            _ => {}
        }
    }
    let on_servers = matches!(store.url, StoreUrl::Scylla { .. });
    if on_servers && scylla.tls == Tls::On && !storage::scylla::HAS_TLS {
        lacks.push((
            "scylla.tls",
            "this build speaks no TLS to the store: build it with --features storage/scylla-tls",
        ));
    }
    lacks
}
