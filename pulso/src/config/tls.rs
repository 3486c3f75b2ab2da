//! TLS of the listeners: which files it needs, from their settings.

use std::path::PathBuf;

use edge::listen::tls::{ClientAuthorities, ClientCertificate, Part, TlsFiles};

use super::{client_auth::ClientAuth, keys::Listen, loaded::Loaded, value::Text};

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

/// Contradictions among them.
pub(super) fn tls_contradictions(loaded: &Loaded) -> Option<(&'static str, String)> {
    listener_contradiction(&loaded.config.listen).map(|(key, problem)| (key, problem.to_owned()))
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
