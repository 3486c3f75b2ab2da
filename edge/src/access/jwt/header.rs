//! The header of a token: which key it says it is signed with, and nothing that could choose more.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;

use super::{keys::KEY_ID_BYTES_MAX, unique::Object};
use crate::access::refusal::Refusal;

/// What counts of a header. `jwk`, `jku`, `x5u` and `x5c` do not: they name the key of whoever made
/// the token, so they prove nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
}

impl Header {
    /// Reads the header of a token, which has three parts of base64url.
    pub(super) fn of(token: &str) -> Result<Self, Refusal> {
        let refuse = |why| Err(Refusal::Invalid(why));
        let mut parts = token.split('.');
        let (Some(header), Some(_), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return refuse("the token has not three parts");
        };
        if signature.is_empty() {
            return refuse("the token is not signed");
        }
        let Ok(header) = URL_SAFE_NO_PAD.decode(header) else {
            return refuse("the header of the token is not base64url");
        };
        let Ok(header) = serde_json::from_slice::<Object>(&header) else {
            return refuse("the header of the token is not one object with distinct names");
        };
        // All of these change what is signed or how it is read.
        if ["crit", "b64", "enc", "zip"].iter().any(|name| header.0.contains_key(*name)) {
            return refuse("the header of the token asks for what is not supported");
        }
        if header.0.contains_key("typ") && !header.text("typ").is_some_and(is_access_token) {
            return refuse("the token is not of the type JWT or at+jwt");
        }
        let algorithm = match header.text("alg") {
            Some("EdDSA") => Algorithm::EdDSA,
            Some("ES256") => Algorithm::ES256,
            Some("RS256") => Algorithm::RS256,
            _ => return refuse("the token is not signed by EdDSA, ES256 or RS256"),
        };
        let kid = match header.0.get("kid") {
            None => None,
            Some(kid) => match kid.as_str() {
                Some(kid) if kid.len() <= KEY_ID_BYTES_MAX => Some(kid.to_owned()),
                _ => return refuse("the kid of the token is no text of at most 256 bytes"),
            },
        };
        Ok(Self { algorithm, kid })
    }
}

/// The types of RFC 7519 and RFC 9068.
fn is_access_token(kind: &str) -> bool {
    ["JWT", "at+jwt", "application/at+jwt"].iter().any(|known| known.eq_ignore_ascii_case(kind))
}
