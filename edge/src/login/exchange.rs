//! Exchange: what is asked of the issuer, by way of the browser and from here.

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderValue, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::{Login, failure::LoginError, ticket::Ticket};
use crate::access::{
    issuer::{ClientCredential, Metadata},
    jwt::{TOKEN_BYTES_MAX, Verified},
    web::{Address, FetchError},
};

/// Most bytes of an answer with tokens: an ID token, an access token and a refresh token.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Most bytes of a code.
const CODE_BYTES_MAX: usize = 4_096;

/// All but the unreserved characters of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// An answer with tokens; those that nobody asked for are not looked at.
#[derive(Deserialize)]
struct Granted {
    id_token: String,
}

/// An answer without.
#[derive(Deserialize)]
struct Denied {
    error: String,
}

impl Login {
    /// Where the browser is sent to.
    pub(super) fn authorization(
        &self,
        metadata: &Metadata,
        ticket: &Ticket,
    ) -> Result<String, LoginError> {
        let address = metadata.authorization.as_ref().ok_or(LoginError::NoEndpoint)?.as_str();
        let form = form(&[
            ("response_type", "code"),
            ("client_id", &self.options.client_id),
            ("redirect_uri", &self.callback()),
            ("scope", &self.options.scopes),
            ("state", &ticket.state),
            ("nonce", &ticket.nonce),
            ("code_challenge", &ticket.challenge()),
            ("code_challenge_method", "S256"),
        ]);
        let joint = if address.contains('?') { '&' } else { '?' };
        Ok(format!("{address}{joint}{form}"))
    }

    /// Exchanges a code for an ID token, and checks that it answers this login.
    pub(super) async fn exchange(
        &self,
        metadata: &Metadata,
        ticket: &Ticket,
        code: &str,
    ) -> Result<Verified, LoginError> {
        if !(1..=CODE_BYTES_MAX).contains(&code.len()) {
            return Err(LoginError::NoCode);
        }
        let address = metadata.token.as_ref().ok_or(LoginError::NoEndpoint)?;
        let _turn = self.exchanges.try_acquire().map_err(|_| LoginError::Busy)?;
        let token = self.id_token(address, metadata.client_credential, ticket, code).await?;
        // Before anything of it is decoded.
        if token.len() > TOKEN_BYTES_MAX {
            let message = format!("its ID token has more than {TOKEN_BYTES_MAX} bytes");
            return Err(LoginError::Issuer(FetchError::Wrong(message)));
        }
        self.tokens.verify_login(&token, &ticket.nonce).await.map_err(LoginError::Token)
    }

    async fn id_token(
        &self,
        address: &Address,
        shown: ClientCredential,
        ticket: &Ticket,
        code: &str,
    ) -> Result<String, LoginError> {
        let (id, callback) = (&*self.options.client_id, self.callback());
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &callback),
            ("code_verifier", ticket.verifier()),
        ];
        let mut credential = None;
        match (&self.options.client_secret, shown) {
            (None, _) => fields.push(("client_id", id)),
            (Some(secret), ClientCredential::Header) => credential = Some(basic(id, secret)),
            (Some(secret), ClientCredential::Form) => {
                fields.extend([("client_id", id), ("client_secret", secret)]);
            }
        }
        let client = self.issuer.client();
        let answer = client.post_form(address, credential, form(&fields), ANSWER_BYTES_MAX).await;
        let answer = answer.map_err(LoginError::Issuer)?;
        let wrong =
            |what: &str| LoginError::Issuer(FetchError::Wrong(format!("{address}: {what}")));
        if answer.status != StatusCode::OK {
            let denied: Denied = serde_json::from_slice(&answer.body)
                .map_err(|_| wrong(&format!("it answers {}", answer.status)))?;
            return Err(LoginError::Refused(word(&denied.error)));
        }
        let granted: Result<Granted, _> = serde_json::from_slice(&answer.body);
        granted.map(|granted| granted.id_token).map_err(|_| wrong("its answer has no id_token"))
    }
}

/// A word of an issuer as it may be shown: those of RFC 6749 are letters and `_`.
pub(super) fn word(text: &str) -> String {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    match (1..=64).contains(&text.len()) && text.bytes().all(fits) {
        true => text.to_owned(),
        false => "it gives no reason".to_owned(),
    }
}

/// Id and secret as RFC 6749 (2.3.1) puts them into the header.
fn basic(id: &str, secret: &str) -> HeaderValue {
    let [id, secret] = [id, secret].map(|text| utf8_percent_encode(text, ENCODED).to_string());
    let text = format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
    HeaderValue::from_str(&text).expect("base64 makes a header")
}

fn form(fields: &[(&str, &str)]) -> String {
    let pair =
        |(name, value): &(&str, &str)| format!("{name}={}", utf8_percent_encode(value, ENCODED));
    fields.iter().map(pair).collect::<Vec<_>>().join("&")
}
