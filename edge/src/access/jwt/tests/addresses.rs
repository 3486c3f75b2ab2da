//! Keys by address, from a server of HTTP that runs: rotation, an issuer that goes away, and answers
//! that are none.

use super::*;
use crate::access::{
    jwt::source::UrlSource,
    samples::{Script, Site},
    web::{Address, Client, Patience},
};

fn source(site: &Site) -> UrlSource {
    let client = Client::new(None, Patience::default()).unwrap();
    UrlSource::new(Address::parse(&site.url("/jwks")).unwrap(), client)
}

fn served(document: &str) -> Script {
    Script::answer("200 OK", document)
}

#[tokio::test]
async fn a_rotated_key_counts_after_its_first_token_and_old_keys_stay_while_nobody_answers() {
    let (old, new, clock) = (Issuer::new(), Issuer::new(), SetClock::new());
    let site = Site::plain(served(&jwks(&[old.ed_jwk("old")]))).await;
    let ring = KeyRing::load(source(&site), ReloadOptions::default(), clock.shared()).await;
    let options = TokenOptions::new(ISSUER, AUDIENCE);
    let tokens = Tokens::new(options, Arc::new(ring.unwrap()), clock.shared());
    let token = |issuer: &Issuer, kid: &str| {
        let header = json!({"alg": "EdDSA", "kid": kid}).to_string();
        issuer.sign(&header, &claims().to_string(), By::Ed)
    };
    assert!(tokens.verify(&token(&old, "old")).await.is_ok());
    site.set(served(&jwks(&[old.ed_jwk("old"), new.ed_jwk("new")])));
    assert!(tokens.verify(&token(&new, "new")).await.is_ok(), "it is loaded at its first token");
    assert_eq!(site.asked(), 2);
    for made_up in ["a", "b", "c"] {
        assert!(tokens.verify(&token(&new, made_up)).await.is_err());
    }
    assert_eq!(site.asked(), 2, "made-up ids cost the issuer nothing so soon");
    let long = format!("{}{}", jwks(&[new.ed_jwk("new")]), " ".repeat(DOCUMENT_BYTES_MAX));
    for (script, why) in [
        (Script::answer("500 Internal Server Error", ""), "gives no keys: it answers 500"),
        (Script::answer("200 OK", "<html>"), "the JWKS document cannot be read"),
        (served(&long), "gives no keys: its answer has more than 262144 bytes"),
        (Script::raw("HTTP/1.1 301 Moved\r\nlocation: http://evil.example\r\n\r\n"), "redirects"),
    ] {
        site.set(script);
        let error = tokens.ring().reload().await.unwrap_err().to_string();
        assert!(error.contains(why) && error.contains(&site.url("/jwks")), "{error}");
        assert!(tokens.verify(&token(&old, "old")).await.is_ok(), "{why}: those from before stay");
    }
    site.set(served(&jwks(&[new.ed_jwk("new")])));
    tokens.ring().reload().await.unwrap();
    assert!(tokens.verify(&token(&old, "old")).await.is_err(), "the issuer withdrew it");
}

#[tokio::test]
async fn the_longest_document_is_read_and_one_byte_more_is_not() {
    let issuer = Issuer::new();
    let keys = jwks(&[issuer.ed_jwk("ed")]);
    let most = format!("{keys}{}", " ".repeat(DOCUMENT_BYTES_MAX - keys.len()));
    let site = Site::plain(served(&most)).await;
    let load = || KeyRing::load(source(&site), ReloadOptions::default(), SetClock::new().shared());
    assert!(load().await.is_ok());
    site.set(served(&format!("{most} ")));
    let error = load().await.unwrap_err();
    assert!(!error.may_pass(), "{error}");
}

#[tokio::test]
async fn a_first_load_waits_for_an_issuer_that_is_away_and_not_for_one_that_is_wrong() {
    let issuer = Issuer::new();
    let site = Site::plain(Script::answer("503 Service Unavailable", "")).await;
    let load = async |wait| {
        let clock = SetClock::new().shared();
        KeyRing::load_within(wait, source(&site), ReloadOptions::default(), clock).await
    };
    let error = load(Duration::from_millis(999)).await.unwrap_err();
    assert!(error.may_pass() && site.asked() == 1, "{error}");
    let comes = async {
        while site.asked() < 2 {
            tokio::task::yield_now().await;
        }
        site.set(served(&issuer.document()));
    };
    let (loaded, ()) = tokio::join!(load(Duration::from_secs(60)), comes);
    assert!(loaded.is_ok() && site.asked() == 3);
    site.set(Script::answer("404 Not Found", ""));
    let error = load(Duration::from_secs(60)).await.unwrap_err();
    assert!(!error.may_pass() && site.asked() == 4, "{error}");
}
