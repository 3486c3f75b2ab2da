//! Tokens: JWTs of one issuer, signed by EdDSA, ES256 or RS256 with a key of its JWKS document.
//!
//! In reading order: [`keys`] reads a document, [`source`] says where it comes from, [`keyring`] keeps
//! the current one. A token is refused before anything of it is decoded when it is longer than
//! [`TOKEN_BYTES_MAX`]; its header chooses a key by id and nothing else: keys and addresses of keys
//! within the header are not looked at. Signatures are checked before claims are read.

mod unique;
mod crypto;
pub mod keys;
pub mod source;
pub mod keyring;
mod header;
mod claims;

use std::{sync::Arc, time::Duration};

use domain::{Clock, Timestamp};
use jsonwebtoken::{Validation, errors::ErrorKind};
use serde_json::Value;

use self::{claims::Claims, header::Header, keyring::KeyRing, unique::Object};
use super::{principal::Principal, refusal::Refusal};

/// Most bytes of a token. Those of usual issuers have 500 to 2,000.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;

/// What tokens have to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenOptions {
    /// The issuer: `iss` is exactly this.
    pub issuer: String,
    /// Whom tokens are for: `aud` has one of these.
    pub audiences: Vec<String>,
    /// How far the issuer's clock may be from ours; 30 seconds. An expired token counts for as long.
    pub skew: Duration,
    /// The claims with roles, each a word or a list of words; `roles` and `role`. A name that begins
    /// with `/` is a JSON pointer, such as `/realm_access/roles`. Words that are no role are ignored,
    /// because issuers hand out roles of other systems too.
    pub role_claims: Vec<String>,
    /// The claim with tenants, a name or a list of names, `*` for all; `tenants`. A token without it
    /// is refused.
    pub tenants_claim: String,
}

impl TokenOptions {
    /// The usual options for tokens of one issuer.
    #[must_use]
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            issuer: issuer.into(),
            audiences: vec![audience.into()],
            skew: Duration::from_secs(30),
            role_claims: vec!["roles".to_owned(), "role".to_owned()],
            tenants_claim: "tenants".to_owned(),
        }
    }
}

/// A token that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Who sent it.
    pub principal: Principal,
    /// First moment at which it does not count any more, the skew included.
    pub until: Timestamp,
    /// Generation of the key set that verified it.
    pub generation: u64,
}

/// Checks the tokens of one issuer.
#[derive(Clone)]
pub struct Tokens {
    options: TokenOptions,
    ring: Arc<KeyRing>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Checks tokens by these options and the keys of this ring.
    #[must_use]
    pub fn new(options: TokenOptions, ring: Arc<KeyRing>, clock: Arc<dyn Clock>) -> Self {
        crypto::install();
        Self { options, ring, clock }
    }

    /// Public keys of the issuer, which change.
    #[must_use]
    pub const fn ring(&self) -> &Arc<KeyRing> {
        &self.ring
    }

    /// Tells whether a credential has the form of a token, three parts with dots, so that it is not
    /// looked for among API keys.
    #[must_use]
    pub fn is_token(credential: &str) -> bool {
        credential.bytes().filter(|byte| *byte == b'.').count() == 2
    }

    /// Checks a token. Costs a verification of a signature: 50 to 150 microseconds.
    ///
    /// # Errors
    /// `Invalid`, `Expired` or `NotYet`.
    pub async fn verify(&self, token: &str) -> Result<Verified, Refusal> {
        let (claims, generation) = self.signed(token).await?;
        self.verified(&claims, generation)
    }

    /// Checks the ID token of a login, which has to be for the one audience of these options and to
    /// repeat the login's nonce (OpenID Connect Core 1.0, 3.1.3.7).
    ///
    /// # Errors
    /// As [`Tokens::verify`].
    pub async fn verify_login(&self, token: &str, nonce: &str) -> Result<Verified, Refusal> {
        let (claims, generation) = self.signed(token).await?;
        if claims.text("nonce") != Some(nonce) {
            return Err(Refusal::Invalid(
                "the token answers another login: its nonce does not fit",
            ));
        }
        let is_for_several =
            claims.0.get("aud").and_then(Value::as_array).is_some_and(|all| all.len() > 1);
        let is_ours = match claims.0.get("azp") {
            None => !is_for_several,
            Some(party) => self.options.audiences.iter().any(|audience| party == audience),
        };
        match is_ours {
            true => self.verified(&claims, generation),
            false => Err(Refusal::Invalid("the token was made for another client: see its azp")),
        }
    }

    /// The claims of a token whose signature and audience fit, and the generation of the key.
    async fn signed(&self, token: &str) -> Result<(Object, u64), Refusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refusal::Invalid("the token is longer than 8192 bytes"));
        }
        let header = Header::of(token)?;
        let key = self.ring.find(header.kid.as_deref(), header.algorithm).await;
        let (key, generation) =
            key.ok_or(Refusal::Invalid("the token is signed with a key that is not known"))?;
        let mut validation = Validation::new(key.algorithm);
        validation.set_audience(&self.options.audiences);
        validation.set_issuer(&[&self.options.issuer]);
        validation.set_required_spec_claims(&["iss", "aud"]);
        // The library would ask the system's clock; ours is passed in.
        validation.validate_exp = false;
        let decoded = jsonwebtoken::decode::<Object>(token, &key.key, &validation)
            .map_err(|error| refusal(error.kind()))?;
        Ok((decoded.claims, generation))
    }

    fn verified(&self, claims: &Object, generation: u64) -> Result<Verified, Refusal> {
        let claims = Claims::read(claims, &self.options)?;
        let until = claims.check_time(self.clock.now(), self.options.skew)?;
        Ok(Verified { principal: claims.into_principal(&self.options), until, generation })
    }
}

/// What an error of the library says, without what it holds of the token.
const fn refusal(kind: &ErrorKind) -> Refusal {
    Refusal::Invalid(match kind {
        ErrorKind::InvalidSignature => "the signature of the token does not fit",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::InvalidIssuer => "the token is of another issuer",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks iss or aud",
        ErrorKind::Json(_) => "the claims of the token are not one object with distinct names",
        _ => "the token cannot be read",
    })
}

#[cfg(test)]
mod tests;
