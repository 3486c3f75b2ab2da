//! Issuer: where an OpenID provider says that its addresses are (OpenID Connect Discovery 1.0).
//!
//! The document counts only when it names the configured issuer, letter by letter, and its addresses
//! only when they are as well protected as the issuer itself: an issuer asked by `https` cannot send
//! anybody to `http`.

use futures_util::future::BoxFuture;
use serde::Deserialize;

use super::{
    jwt::{
        keys::DOCUMENT_BYTES_MAX,
        source::{KeySource, SourceError},
    },
    web::{Address, Client, FetchError, Untrusted},
};

/// Most bytes of the document. Those of usual issuers have 1 to 8 KiB.
pub const METADATA_BYTES_MAX: usize = 64 << 10;

/// What is asked for below the issuer's address.
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// An issuer, which says by itself where its addresses are. Clones share the client.
#[derive(Clone, Debug)]
pub struct Issuer {
    name: String,
    document: Address,
    client: Client,
}

/// The addresses of an issuer that are of use here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Where its public keys are.
    pub keys: Address,
    /// Where a browser begins a login.
    pub authorization: Option<Address>,
    /// Where a code is exchanged for tokens.
    pub token: Option<Address>,
    /// How a client with a secret shows it there.
    pub client_credential: ClientCredential,
    /// Whether its answers to a browser name it (RFC 9207).
    pub names_itself: NamesItself,
}

/// How a client shows its secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCredential {
    /// In the header `authorization`, which every issuer has to take.
    Header,
    /// In the form, for issuers that list that and not the header.
    Form,
}

/// Whether an answer to a browser names the issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamesItself {
    /// Each does.
    Always,
    /// Some may.
    Perhaps,
}

/// The document as it is served. Its other members are not looked at.
#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

impl Issuer {
    /// The issuer of this name, which is an address too.
    ///
    /// # Errors
    /// When it is none to be trusted, or has a query.
    pub fn new(name: &str, client: Client) -> Result<Self, Untrusted> {
        Address::parse(name)?;
        let base = name.strip_suffix('/').unwrap_or(name);
        // With a query, what follows would not be a path.
        let base = if name.contains('?') { "" } else { base };
        let document = Address::parse(&format!("{base}{WELL_KNOWN}"))?;
        Ok(Self { name: name.to_owned(), document, client })
    }

    /// Its name, as tokens have it in `iss`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its document is.
    #[must_use]
    pub const fn document(&self) -> &Address {
        &self.document
    }

    /// What asks it.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Asks for its addresses.
    ///
    /// # Errors
    /// `Away` when it does not answer; `Wrong` for a document that is of another issuer, cannot be
    /// read, or names an address that is not to be trusted.
    pub async fn discover(&self) -> Result<Metadata, FetchError> {
        let document = self.client.get(&self.document, METADATA_BYTES_MAX).await?;
        self.read(&document).map_err(FetchError::Wrong)
    }

    fn read(&self, document: &[u8]) -> Result<Metadata, String> {
        let document: Document = serde_json::from_slice(document)
            .map_err(|error| format!("its answer is no document of an issuer: {error}"))?;
        if document.issuer != self.name {
            let other: String = document.issuer.chars().take(256).collect();
            return Err(format!(
                "its answer is of the issuer {other:?} and not of {:?}; write access.token_issuer as \
                 the issuer writes itself",
                self.name
            ));
        }
        let methods = document.token_endpoint_auth_methods_supported;
        let takes = |method: &str| methods.iter().any(|listed| listed == method);
        let is_form = takes("client_secret_post") && !takes("client_secret_basic");
        let optional =
            |name, text: Option<String>| text.map(|text| self.address(name, &text)).transpose();
        Ok(Metadata {
            keys: self.address("jwks_uri", &document.jwks_uri)?,
            authorization: optional("authorization_endpoint", document.authorization_endpoint)?,
            token: optional("token_endpoint", document.token_endpoint)?,
            client_credential: match is_form {
                true => ClientCredential::Form,
                false => ClientCredential::Header,
            },
            names_itself: match document.authorization_response_iss_parameter_supported {
                true => NamesItself::Always,
                false => NamesItself::Perhaps,
            },
        })
    }

    fn address(&self, name: &str, text: &str) -> Result<Address, String> {
        let address = Address::parse(text).map_err(|error| format!("its {name}: {error}"))?;
        match address.is_secure() || !self.document.is_secure() {
            true => Ok(address),
            false => Err(format!("its {name} {address} is not https, and the issuer is")),
        }
    }
}

/// The keys of an issuer, wherever it says that they are when they are loaded.
#[derive(Clone, Debug)]
pub struct DiscoveredKeys(pub Issuer);

impl KeySource for DiscoveredKeys {
    fn load(&self) -> BoxFuture<'_, Result<Vec<u8>, SourceError>> {
        Box::pin(async {
            let Self(issuer) = self;
            let failed =
                |address: &Address, error| SourceError::Url { url: address.to_string(), error };
            let metadata = issuer.discover().await;
            let keys = metadata.map_err(|error| failed(&issuer.document, error))?.keys;
            let got = issuer.client.get(&keys, DOCUMENT_BYTES_MAX).await;
            got.map_err(|error| failed(&keys, error))
        })
    }

    fn place(&self) -> &str {
        self.0.document.as_str()
    }
}

#[cfg(test)]
mod tests;
