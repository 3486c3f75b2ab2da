//! Documents that an issuer may serve, and keys that are found by them.

use serde_json::{Value, json};

use super::*;
use crate::access::{
    samples::{Script, Site},
    web::Patience,
};

fn client() -> Client {
    Client::new(None, Patience::default()).unwrap()
}

fn issuer(name: &str) -> Issuer {
    Issuer::new(name, client()).unwrap()
}

#[test]
fn the_document_is_asked_for_below_the_issuers_name() {
    for (name, document) in [
        ("https://a.example", "https://a.example/.well-known/openid-configuration"),
        ("https://a.example/", "https://a.example/.well-known/openid-configuration"),
        ("https://a.example/r/x", "https://a.example/r/x/.well-known/openid-configuration"),
    ] {
        assert_eq!(issuer(name).document().as_str(), document);
    }
    for name in ["", "issuer", "http://a.example", "https://a.example?x", "https://a.example/#x"] {
        assert!(Issuer::new(name, client()).is_err(), "{name}");
    }
}

#[test]
fn a_document_counts_for_its_own_issuer_and_never_leads_to_plain_text() {
    const NAME: &str = "https://a.example/r";
    let with = |changes: Value| {
        let mut document = json!({
            "issuer": NAME,
            "jwks_uri": "https://keys.example/jwks",
            "authorization_endpoint": "https://a.example/authorize?p=1",
            "token_endpoint": "https://a.example/token",
            "something_else": {"deep": []},
        });
        for (name, value) in changes.as_object().unwrap() {
            document[name] = value.clone();
        }
        issuer(NAME).read(document.to_string().as_bytes())
    };
    let read = with(json!({})).unwrap();
    assert_eq!(read.keys.as_str(), "https://keys.example/jwks");
    assert_eq!(read.client_credential, ClientCredential::Header);
    assert_eq!(read.names_itself, NamesItself::Perhaps);
    let methods = json!({"token_endpoint_auth_methods_supported": ["client_secret_post"]});
    assert_eq!(with(methods).unwrap().client_credential, ClientCredential::Form);
    for (changes, why) in [
        (json!({"issuer": "https://a.example/r/"}), "of the issuer"),
        (json!({"issuer": "https://A.example/r"}), "of the issuer"),
        (json!({"issuer": null}), "no document of an issuer"),
        (json!({"jwks_uri": null}), "no document of an issuer"),
        (json!({"jwks_uri": "http://keys.example/jwks"}), "its jwks_uri"),
        (json!({"jwks_uri": "http://127.0.0.1/jwks"}), "is not https, and the issuer is"),
        (json!({"token_endpoint": "file:///etc/passwd"}), "its token_endpoint"),
        (json!({"authorization_endpoint": "javascript:alert(1)"}), "its authorization_endpoint"),
    ] {
        let refused = with(changes).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
    let twice = format!(r#"{{"issuer":"x","issuer":"{NAME}","jwks_uri":"https://a.example"}}"#);
    assert!(issuer(NAME).read(twice.as_bytes()).is_err());
}

#[tokio::test]
async fn keys_are_found_where_the_issuer_says_they_are() {
    let keys = Site::plain(Script::answer("200 OK", r#"{"keys":[]}"#)).await;
    let site = Site::plain(Script::default()).await;
    let name = site.url("/realm");
    let document = |issuer: &str| {
        let document = json!({"issuer": issuer, "jwks_uri": keys.url("/jwks")}).to_string();
        Script::answer("200 OK", &document)
    };
    site.set(document(&name));
    let source = DiscoveredKeys(issuer(&name));
    assert_eq!(source.load().await.unwrap(), br#"{"keys":[]}"#);
    site.set(document(&site.url("/other")));
    let error = source.load().await.unwrap_err();
    assert!(!error.may_pass() && error.to_string().contains("of the issuer"), "{error}");
    let long = " ".repeat(METADATA_BYTES_MAX + 1);
    site.set(Script::answer("200 OK", &long));
    let error = source.load().await.unwrap_err().to_string();
    assert!(error.contains("more than 65536 bytes"), "{error}");
    site.set(Script::answer("503 Service Unavailable", ""));
    assert!(source.load().await.unwrap_err().may_pass());
    assert_eq!(keys.asked(), 1, "only a good document leads there");
}
