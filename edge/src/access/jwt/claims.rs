//! The claims of a token whose signature fits: who it speaks of, when it counts, roles and tenants.

use std::time::Duration;

use domain::{Timestamp, name::check_plain};
use serde_json::{Number, Value};

use super::{TokenOptions, unique::Object};
use crate::access::{
    principal::{CredentialKind, IdentityScope, Parts, Principal, Role, Roles, Tenants},
    refusal::Refusal,
};

/// Most bytes of a subject.
const SUBJECT_BYTES_MAX: usize = 256;

/// Most roles that are looked at of one claim; issuers list those of other systems too.
const WORDS_MAX: usize = 256;

/// What counts of the claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claims {
    subject: String,
    roles: Roles,
    tenants: Tenants,
    expires: Timestamp,
    begins: Option<Timestamp>,
}

impl Claims {
    pub(super) fn read(claims: &Object, options: &TokenOptions) -> Result<Self, Refusal> {
        // The library takes a list of issuers too; one token has one.
        if claims.text("iss") != Some(&options.issuer) {
            return Err(Refusal::Invalid("the token is of another issuer"));
        }
        Ok(Self {
            subject: subject(claims)?,
            roles: roles(claims, &options.role_claims)?,
            tenants: tenants(claims, &options.tenants_claim)?,
            expires: moment(claims, "exp")?
                .ok_or(Refusal::Invalid("the token never expires; exp is needed"))?,
            begins: moment(claims, "nbf")?,
        })
    }

    /// Checks that the token counts now, and gives the first moment at which it does not.
    pub(super) fn check_time(&self, now: Timestamp, skew: Duration) -> Result<Timestamp, Refusal> {
        let until = self.expires.plus(skew);
        if until <= now {
            return Err(Refusal::Expired);
        }
        if self.begins.is_some_and(|begins| begins > now.plus(skew)) {
            return Err(Refusal::NotYet);
        }
        Ok(until)
    }

    pub(super) fn into_principal(self, options: &TokenOptions) -> Principal {
        let kind = CredentialKind::Token;
        Principal::new(Parts {
            scope: IdentityScope::of(kind, &options.issuer, &self.subject),
            id: self.subject.clone(),
            name: self.subject,
            kind,
            roles: self.roles,
            tenants: self.tenants,
        })
    }
}

fn subject(claims: &Object) -> Result<String, Refusal> {
    let fits = |subject: &&str| {
        // As names are: what looks the same in a log and in the audit trail is the same client.
        let is_plain = check_plain(subject.as_bytes()).is_ok();
        (1..=SUBJECT_BYTES_MAX).contains(&subject.len()) && is_plain
    };
    let subject = claims.text("sub").filter(fits);
    let why = "the sub of the token is no plain text of 1 to 256 bytes";
    subject.map(str::to_owned).ok_or(Refusal::Invalid(why))
}

/// Every word of a claim that is a text or a list of texts.
fn words<'c>(value: &'c Value, why: &'static str) -> Result<Vec<&'c str>, Refusal> {
    let words: Option<Vec<_>> = match value {
        Value::String(word) => Some(vec![word.as_str()]),
        Value::Array(words) if words.len() <= WORDS_MAX => {
            words.iter().map(Value::as_str).collect()
        }
        _ => None,
    };
    words.ok_or(Refusal::Invalid(why))
}

fn roles(claims: &Object, names: &[String]) -> Result<Roles, Refusal> {
    let mut roles = Vec::new();
    for value in names.iter().filter_map(|name| claims.value(name)) {
        let words = words(value, "the roles of the token are no list of at most 256 words")?;
        roles.extend(words.into_iter().filter_map(|word| word.parse::<Role>().ok()));
    }
    Ok(roles.into_iter().collect())
}

fn tenants(claims: &Object, name: &str) -> Result<Tenants, Refusal> {
    let why = "the token names no tenants in its claim for them, or not 1 to 64 names";
    let refused = Refusal::Invalid(why);
    let words = words(claims.value(name).ok_or_else(|| refused.clone())?, why)?;
    Tenants::of_words(&words).map_err(|_| refused)
}

/// A NumericDate: seconds since 1970, whose fraction is cut off.
fn moment(claims: &Object, name: &str) -> Result<Option<Timestamp>, Refusal> {
    let Some(value) = claims.0.get(name) else { return Ok(None) };
    let seconds = value.as_number().map(Number::to_string);
    let seconds = seconds.and_then(|text| text.split('.').next()?.parse().ok());
    let moment = seconds.and_then(|seconds| Timestamp::from_parts(seconds, 0));
    moment.map(Some).ok_or(Refusal::Invalid("exp or nbf of the token is no number of seconds"))
}
