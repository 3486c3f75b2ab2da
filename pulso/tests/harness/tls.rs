//! Certificates for tests, made when they are needed, and the files that a server reads them from.

use std::{fs, path::PathBuf, time::Duration};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, date_time_ymd,
};

use super::{Home, Settings, now};

/// An authority that signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
}

/// A certificate and its key, as files.
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Validity {
    Now,
    Past,
    /// From now on, for so many seconds.
    Seconds(u64),
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// Its own certificate in a file.
    pub(crate) fn file(&self, home: &Home, name: &str) -> PathBuf {
        let path = home.path(name);
        fs::write(&path, self.certificate.pem()).unwrap();
        path
    }

    /// A certificate for these names, signed now, as `NAME.pem` and `NAME.key`.
    pub(crate) fn sign(
        &self,
        home: &Home,
        name: &str,
        names: &[&str],
        validity: Validity,
    ) -> Identity {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        match validity {
            Validity::Now => {}
            Validity::Past => {
                params.not_before = date_time_ymd(2020, 1, 1);
                params.not_after = date_time_ymd(2021, 1, 1);
            }
            Validity::Seconds(seconds) => {
                let end = u64::try_from(now()).unwrap() + seconds;
                params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(end);
            }
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let identity = Identity {
            certificate: home.path(&format!("{name}.pem")),
            key: home.path(&format!("{name}.key")),
        };
        fs::write(&identity.certificate, certificate.pem()).unwrap();
        fs::write(&identity.key, key.serialize_pem()).unwrap();
        identity
    }
}

impl Identity {
    /// Settings of a server that has it.
    pub(crate) fn served(&self, settings: Settings) -> Settings {
        settings
            .with("PULSO_LISTEN__TLS_CERT", self.certificate.to_str().unwrap())
            .with("PULSO_LISTEN__TLS_KEY", self.key.to_str().unwrap())
    }

    /// Flags of a client that shows it.
    pub(crate) fn shown(&self) -> Vec<String> {
        let text = |path: &PathBuf| path.to_str().unwrap().to_owned();
        vec!["--cert".into(), text(&self.certificate), "--cert-key".into(), text(&self.key)]
    }
}
