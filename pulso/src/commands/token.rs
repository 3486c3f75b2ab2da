//! `pulso token`: what a token says, without asking anybody.

use std::io::Read as _;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::Subcommand;
use domain::Timestamp;
use edge::access::jwt::TOKEN_BYTES_MAX;
use serde_json::{Value, json};

use crate::{
    cli::Globals,
    exit::{Exit, Failure},
    output::{Answer, Printer},
};

/// `pulso token`.
#[derive(Clone, Debug, Subcommand)]
#[command(after_help = "Examples:
  pulso token inspect - < token.txt
  pulso token inspect \"$PULSO_KEY\" -o json")]
pub enum TokenCommand {
    /// Show header and claims of a token (JWT). Its signature is not checked.
    Inspect {
        /// The token, or - for standard input, where other users of the machine do not see it.
        token: String,
    },
}

/// Runs the command.
///
/// # Errors
/// `Data` for what is no token.
pub fn run(
    globals: &Globals,
    TokenCommand::Inspect { token }: TokenCommand,
) -> Result<Exit, Failure> {
    let token = if token == "-" { read()? } else { token };
    let token = token.trim();
    let token = token.strip_prefix("Bearer ").unwrap_or(token);
    let document = inspected(token)
        .map_err(|what| Failure::new(Exit::Data, format_args!("this is no token: {what}")))?;
    let note = "the signature was not checked: only a server can say whether the token counts";
    let columns =
        ["algorithm", "kid", "issuer", "subject", "audience", "roles", "tenants", "expires_at"];
    Printer::new(globals.output).print(&Answer::single(document, &columns).note(note))?;
    Ok(Exit::Success)
}

fn read() -> Result<String, Failure> {
    let mut text = String::new();
    // Room for a line's end and `Bearer`.
    let most = TOKEN_BYTES_MAX as u64 + 64;
    let read = std::io::stdin().take(most).read_to_string(&mut text);
    read.map_err(|error| Failure::new(Exit::Data, format_args!("standard input: {error}")))?;
    Ok(text)
}

fn inspected(token: &str) -> Result<Value, String> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(format!("{} bytes are more than the {TOKEN_BYTES_MAX} of any", token.len()));
    }
    let parts: Vec<_> = token.split('.').collect();
    let [header, claims, _signature] = parts[..] else {
        return Err("a token has three parts with dots between them".to_owned());
    };
    let (header, claims) = (part("header", header)?, part("claims", claims)?);
    let moment = |name: &str| {
        let seconds = claims[name].as_i64()?;
        Some(Timestamp::from_parts(seconds, 0)?.to_string())
    };
    Ok(json!({
        "algorithm": header["alg"],
        "kid": header["kid"],
        "issuer": claims["iss"],
        "subject": claims["sub"],
        "audience": claims["aud"],
        "roles": claims.get("roles").or(claims.get("role")),
        "tenants": claims["tenants"],
        "not_before": moment("nbf"),
        "expires_at": moment("exp"),
        "header": header,
        "claims": claims,
    }))
}

fn part(name: &str, text: &str) -> Result<Value, String> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("its {name} is not base64url"))?;
    let value: Value = serde_json::from_slice(&bytes)
        .map_err(|error| format!("its {name} is not JSON: {error}"))?;
    if value.is_object() { Ok(value) } else { Err(format!("its {name} is no JSON object")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, claims: &str) -> String {
        let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.c2ln", encoded(header), encoded(claims))
    }

    #[test]
    fn a_token_is_shown_and_what_is_none_is_refused() {
        let claims = r#"{"iss":"https://issuer","sub":"meter","aud":"pulso","exp":1700000000,"roles":["writer"],"tenants":["acme"]}"#;
        let shown = inspected(&token(r#"{"alg":"EdDSA","kid":"k1"}"#, claims)).unwrap();
        assert_eq!((&shown["algorithm"], &shown["kid"]), (&json!("EdDSA"), &json!("k1")));
        assert_eq!(shown["expires_at"], "2023-11-14T22:13:20Z");
        assert_eq!((&shown["roles"], &shown["tenants"]), (&json!(["writer"]), &json!(["acme"])));
        for (text, what) in [
            (String::new(), "three parts"),
            ("a.b".to_owned(), "three parts"),
            ("!.e30.x".to_owned(), "header is not base64url"),
            (token("[]", "{}"), "header is no JSON object"),
            (token("{}", "nonsense"), "claims is not JSON"),
            ("x".repeat(TOKEN_BYTES_MAX + 1), "bytes"),
        ] {
            let refused = inspected(&text).unwrap_err();
            assert!(refused.contains(what), "{refused}");
        }
    }
}
