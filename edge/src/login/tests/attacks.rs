//! Attacks on a login: none of them ends with a session that the attacker chose, or with a person
//! somewhere else.

use super::*;

/// A login that ends without a session: status, reason, and words of why.
fn assert_refused(got: &Got, browser: &Browser, expected: (u16, &str), why: &str) {
    let (status, reason, detail) = got.refusal();
    assert_eq!((status, reason), expected, "{detail}");
    assert!(detail.contains(why), "{why}: {detail}");
    assert_eq!(browser.cookie("pulso_session"), None);
}

const NO: (u16, &str) = (400, "LOGIN_FAILED");
const FORBIDDEN: (u16, &str) = (403, "LOGIN_FAILED");

#[tokio::test]
async fn an_answer_counts_only_in_the_browser_that_began_the_login_and_only_once() {
    let fixture = Fixture::new(Conduct::default()).await;
    let mut person = fixture.browser();
    let answer = person.begin(&fixture.provider, "").await;
    let ticket = person.cookie("pulso_login").unwrap();

    // Login CSRF: the attacker's answer in the browser of another person.
    let mut victim = fixture.browser();
    let got = victim.finish(&answer).await;
    assert_refused(&got, &victim, NO, "no login was begun in this browser");
    let own = victim.begin(&fixture.provider, "").await;
    let got = victim.finish(&answer).await;
    assert_refused(&got, &victim, NO, "belongs to another login");
    // A stolen code with the thief's own state has another verifier.
    let state = own.split('&').find(|pair| pair.starts_with("state=")).unwrap();
    let code = answer.split('&').next().unwrap();
    let got = victim.finish(&format!("{code}&{state}")).await;
    assert_refused(&got, &victim, FORBIDDEN, "the issuer refused the login: invalid_grant");

    // The thief has used the code up; the person begins again.
    let got = person.finish(&answer).await;
    assert_refused(&got, &person, FORBIDDEN, "invalid_grant");
    let answer = person.begin(&fixture.provider, "").await;
    let kept = person.cookie("pulso_login").unwrap();
    assert_eq!(person.finish(&answer).await.location(), "/");

    // The same answer again: without the ticket, and with one that was kept.
    let mut replay = fixture.browser();
    for (ticket, expected, why) in
        [(None, NO, "no login"), (Some(&ticket), NO, "another"), (Some(&kept), FORBIDDEN, "grant")]
    {
        if let Some(ticket) = ticket {
            replay.set("pulso_login", ticket);
        }
        let got = replay.finish(&answer).await;
        assert_refused(&got, &replay, expected, why);
    }
}

#[tokio::test]
async fn an_answer_that_is_not_what_was_asked_for_is_refused() {
    let fixture = Fixture::new(Conduct::default()).await;
    let long = format!("code={}&", "c".repeat(4_097));
    for (change, expected, why) in [
        ("", NO, "no code"),
        ("code=&", (400, "PARAMETER_INVALID"), ""),
        ("code=a&code=b&", (400, "PARAMETER_INVALID"), ""),
        ("code=a&state=x&", (400, "PARAMETER_INVALID"), ""),
        ("code=made+up&", FORBIDDEN, "invalid_grant"),
        (&long, NO, "too long"),
        ("code=a&iss=https://evil.example&", NO, "not of the issuer that was asked"),
        ("error=access_denied&", FORBIDDEN, "the issuer refused the login: access_denied"),
        ("error=%3Cscript%3E&", FORBIDDEN, "the issuer refused the login: it gives no reason"),
    ] {
        let mut browser = fixture.browser();
        fixture.clock.pass(60);
        let answer = browser.begin(&fixture.provider, "").await;
        let state = answer.split('&').find(|pair| pair.starts_with("state=")).unwrap();
        let got = browser.finish(&format!("{change}{state}")).await;
        assert_refused(&got, &browser, expected, why);
    }
    // An issuer that says that it names itself has to (RFC 9207).
    fixture.provider.behave(|conduct| conduct.names_itself = true);
    fixture.clock.pass(300);
    let mut browser = fixture.browser();
    let answer = browser.begin(&fixture.provider, "").await;
    let unnamed: Vec<_> = answer.split('&').filter(|pair| !pair.starts_with("iss=")).collect();
    let got = browser.finish(&unnamed.join("&")).await;
    assert_refused(&got, &browser, NO, "not of the issuer that was asked");
    assert_eq!(browser.finish(&answer).await.location(), "/");
}

#[tokio::test]
async fn an_id_token_that_is_not_for_this_login_is_refused() {
    let fixture = Fixture::new(Conduct::default()).await;
    for (claims, why) in [
        (json!({"nonce": "of another login"}), "nonce does not fit"),
        (json!({"nonce": null}), "nonce does not fit"),
        (json!({"aud": "another client"}), "for another audience"),
        (json!({"aud": [CLIENT, "another client"]}), "made for another client"),
        (json!({"aud": [CLIENT, "other"], "azp": "other"}), "made for another client"),
        (json!({"azp": "other"}), "made for another client"),
        (json!({"iss": "https://evil.example"}), "another issuer"),
        (json!({"exp": NOW - 31}), "expired"),
        (json!({"nbf": NOW + 86_400}), "not valid yet"),
        (json!({"sub": ""}), "sub of the token"),
        (json!({"tenants": []}), "names no tenants"),
        (json!({"tenants": null}), "names no tenants"),
    ] {
        fixture.clock.pass(1);
        fixture.provider.behave(|conduct| conduct.claims = claims);
        let mut browser = fixture.browser();
        let got = browser.log_in(&fixture, "").await;
        assert_refused(&got, &browser, FORBIDDEN, why);
    }
    for (key, why) in [
        (("ed", "none", By::Ed), "not signed by EdDSA"),
        (("ed", "EdDSA", By::Rsa), "signature of the token does not fit"),
        (("rsa", "HS256", By::RsaModulus), "not signed by EdDSA"),
        (("made up", "EdDSA", By::Ed), "a key that is not known"),
    ] {
        fixture.provider.behave(|conduct| (conduct.key, conduct.claims) = (key, json!({})));
        let mut browser = fixture.browser();
        let got = browser.log_in(&fixture, "").await;
        assert_refused(&got, &browser, FORBIDDEN, why);
    }
    let several = json!({"aud": [CLIENT, "other"], "azp": CLIENT});
    let key = ("ed", "EdDSA", By::Ed);
    fixture.provider.behave(|conduct| (conduct.key, conduct.claims) = (key, several));
    assert_eq!(fixture.browser().log_in(&fixture, "").await.location(), "/");
}

#[tokio::test]
async fn an_issuer_that_answers_with_anything_else_than_a_token_logs_nobody_in() {
    let fixture = Fixture::new(Conduct::default()).await;
    let unavailable = (503, "ISSUER_UNAVAILABLE");
    for (status, body, expected, why) in [
        (StatusCode::OK, "{}".to_owned(), unavailable, "log says more"),
        (StatusCode::OK, "<html>".to_owned(), unavailable, "log says more"),
        (StatusCode::OK, json!({"id_token": 7}).to_string(), unavailable, "log says more"),
        (StatusCode::OK, json!({"id_token": "a.b.c"}).to_string(), FORBIDDEN, "does not count"),
        (StatusCode::OK, json!({"id_token": "x".repeat(8_193)}).to_string(), unavailable, ""),
        (StatusCode::OK, " ".repeat((64 << 10) + 1), unavailable, "log says more"),
        (StatusCode::FOUND, String::new(), unavailable, "log says more"),
        (StatusCode::INTERNAL_SERVER_ERROR, String::new(), unavailable, "log says more"),
        (StatusCode::BAD_REQUEST, "no".to_owned(), unavailable, "log says more"),
        (
            StatusCode::UNAUTHORIZED,
            json!({"error": "invalid_client"}).to_string(),
            FORBIDDEN,
            "invalid_client",
        ),
    ] {
        fixture.provider.behave(|conduct| conduct.instead = Some((status, body)));
        let mut browser = fixture.browser();
        let got = browser.log_in(&fixture, "").await;
        assert_refused(&got, &browser, expected, why);
    }
}

#[tokio::test]
async fn a_ticket_counts_for_ten_minutes_unchanged_and_in_its_deployment() {
    let fixture = Fixture::new(Conduct::default()).await;
    let mut browser = fixture.browser();
    let answer = browser.begin(&fixture.provider, "").await;
    fixture.clock.set(NOW + 600);
    let got = browser.finish(&answer).await;
    assert_refused(&got, &browser, NO, "no login was begun");
    fixture.clock.set(NOW + 599);
    let ticket = browser.cookie("pulso_login").unwrap();
    let mut changed = ticket.clone();
    changed.replace_range(20..21, if &ticket[20..21] == "A" { "B" } else { "A" });
    for wrong in [&changed, "", "x", &ticket[1..], &format!("{ticket}; pulso_login={ticket}")] {
        browser.set("pulso_login", wrong);
        let got = browser.finish(&answer).await;
        assert_refused(&got, &browser, NO, "no login was begun");
    }
    browser.set("pulso_login", &ticket);
    let exchanges = fixture.provider.exchanges();
    let Fixture { provider, .. } = fixture;
    let other = Fixture::with(provider, &secret(8), None).await;
    let mut elsewhere = Browser { router: other.router.clone(), ..browser.clone() };
    let got = elsewhere.finish(&answer).await;
    assert_refused(&got, &elsewhere, NO, "no login was begun");
    assert_eq!(other.provider.exchanges(), exchanges, "the issuer is not asked for any of these");
    let same = Fixture::with(other.provider, &secret(7), None).await;
    same.clock.set(NOW + 599);
    let mut elsewhere = Browser { router: same.router.clone(), ..browser };
    assert_eq!(elsewhere.finish(&answer).await.location(), "/", "another process goes on");
}

#[tokio::test]
async fn nobody_is_sent_to_another_host() {
    let fixture = Fixture::new(Conduct::default()).await;
    for to in ["//evil.example", "/%5Cevil.example", "https://evil.example", "%09//evil", "a"] {
        let got = fixture.browser().get(&format!("/login?return={to}")).await;
        assert_eq!((got.refusal().0, got.refusal().1), (400, "PARAMETER_INVALID"), "{to}");
        assert!(got.headers.get("set-cookie").is_none());
    }
}

#[tokio::test]
async fn a_session_counts_unchanged_in_its_deployment_alone_and_by_its_cookie_only() {
    let fixture = Fixture::new(Conduct::default()).await;
    let mut browser = fixture.browser();
    browser.log_in(&fixture, "").await;
    let session = browser.cookie("pulso_session").unwrap();
    assert_eq!(browser.get("/who").await.body, json!("ada"));
    let invalid = (401, "CREDENTIAL_INVALID");
    let refused = |got: &Got| (got.refusal().0, got.refusal().1.to_owned());
    let invalid = (invalid.0, invalid.1.to_owned());
    // Two credentials, whichever the other one is.
    let bearer = format!("Bearer {session}");
    for other in
        [("authorization", "Bearer a.b.c"), ("x-api-key", "pulso_x"), ("authorization", &bearer)]
    {
        let got = browser.send("GET", "/who", &[other]).await;
        assert_eq!(refused(&got), invalid);
        assert!(got.refusal().2.contains("more than one"), "{}", got.refusal().2);
    }
    // As a token, though it was remembered as a cookie a moment ago.
    let mut without = fixture.browser();
    for header in [("authorization", &*bearer), ("x-api-key", &session)] {
        assert_eq!(refused(&without.send("GET", "/who", &[header]).await), invalid);
    }
    let ticket = {
        let mut other = fixture.browser();
        other.begin(&fixture.provider, "").await;
        other.cookie("pulso_login").unwrap()
    };
    let mut changed = session.clone();
    changed.replace_range(30..31, if &session[30..31] == "A" { "B" } else { "A" });
    let long = "A".repeat(8_193);
    for wrong in
        [&changed, &session[1..], &ticket, "x", &long, &format!("{session}; pulso_session=x")]
    {
        without.set("pulso_session", wrong);
        assert_eq!(refused(&without.get("/who").await), invalid, "{wrong}");
    }
    // The name that holds by TLS does not count where there is none.
    let mut renamed = fixture.browser();
    renamed.set("__Host-pulso_session", &session);
    assert_eq!(renamed.get("/who").await.refusal().1, "CREDENTIAL_MISSING");
    for headers in [&[][..], &[("origin", "https://evil.example")], &[("origin", "null")]] {
        let got = browser.send("POST", "/who", headers).await;
        assert_eq!((got.refusal().0, got.refusal().1), (403, "ORIGIN_FORBIDDEN"));
    }
    let Fixture { provider, .. } = fixture;
    let other = Fixture::with(provider, &secret(8), None).await;
    let mut elsewhere = Browser { router: other.router.clone(), ..browser };
    assert_eq!(refused(&elsewhere.get("/who").await), invalid);
}

#[tokio::test]
async fn a_session_that_no_browser_would_keep_is_not_begun() {
    let fixture = Fixture::new(Conduct::default()).await;
    let names: Vec<_> = (0..64).map(|i| format!("{i:0>128}")).collect();
    fixture.provider.behave(|conduct| conduct.claims = json!({"tenants": names}));
    // Such a token is too long to be looked at.
    let mut browser = fixture.browser();
    let got = browser.log_in(&fixture, "").await;
    assert_refused(&got, &browser, (503, "ISSUER_UNAVAILABLE"), "log says more");
    fixture.provider.behave(|conduct| conduct.claims = json!({"tenants": names[..40]}));
    let got = browser.log_in(&fixture, "").await;
    assert_refused(&got, &browser, FORBIDDEN, "more tenants than a session holds");
}

#[test]
fn no_refusal_repeats_what_an_issuer_says_of_itself() {
    let error = LoginError::Issuer(FetchError::Wrong("http://10.0.0.7/token: <b>".to_owned()));
    let problem = crate::Problem::from(error);
    assert!(!problem.message.contains("10.0.0.7"), "{}", problem.message);
}
