//! The attacks on tokens that are known from other systems, each as one case.

use super::*;

const GOOD: &str = r#"{"alg":"EdDSA","kid":"ed"}"#;

/// An attack: what was made up, and the reason that the refusal gives.
struct Attack {
    name: &'static str,
    token: String,
    why: &'static str,
}

fn attacks(issuer: &Issuer) -> Vec<Attack> {
    let other = Issuer::new();
    let good = claims().to_string();
    let signed = |header: &str, by| issuer.sign(header, &good, by);
    let named = |algorithm: &str, kid: &str, by| {
        signed(&json!({"alg": algorithm, "kid": kid}).to_string(), by)
    };
    let extended = |name: &str, value: Value| {
        signed(&json!({"alg": "EdDSA", "kid": "ed", name: value}).to_string(), By::Ed)
    };
    let unsigned = |header: &str| format!("{}.{}.", base64url(header), base64url(&good));
    let token = signed(GOOD, By::Ed);
    let (message, signature) = token.rsplit_once('.').unwrap();
    let (head, body) = message.split_once('.').unwrap();
    let embedded = |name: &str, value: Value| {
        let header = json!({"alg": "EdDSA", "kid": "ed", name: value}).to_string();
        other.sign(&header, &good, By::Ed)
    };
    let with_claims = |claims: &str| issuer.sign(GOOD, claims, By::Ed);
    let twice = |claim: &str| good.replacen('{', &format!("{{{claim},"), 1);
    let changed = claims().to_string().replace("viewer", "admin");
    let (unknown, fit) = ("a key that is not known", "signature of the token does not fit");
    let (algorithms, distinct) = ("EdDSA, ES256 or RS256", "distinct names");
    let cases = [
        ("alg none", unsigned(r#"{"alg":"none","kid":"ed"}"#), "not signed"),
        ("alg none, signed", named("none", "ed", By::Ed), algorithms),
        ("alg nOnE", named("nOnE", "ed", By::Ed), algorithms),
        ("no alg", signed(r#"{"kid":"ed"}"#, By::Ed), algorithms),
        ("alg is no text", signed(r#"{"alg":["EdDSA"],"kid":"ed"}"#, By::Ed), algorithms),
        ("the public key as secret", named("HS256", "rsa", By::RsaModulus), algorithms),
        ("the public key as secret, as RS256", named("RS256", "rsa", By::RsaModulus), fit),
        ("an empty secret", signed(r#"{"alg":"HS256","kid":"ed"}"#, By::Secret(b"")), algorithms),
        ("the key of another algorithm", named("ES256", "ed", By::Ed), unknown),
        ("RSA with PSS", named("PS256", "rsa", By::Rsa), algorithms),
        ("unknown kid", named("EdDSA", "eD", By::Ed), unknown),
        ("no kid among several keys", signed(r#"{"alg":"EdDSA"}"#, By::Ed), unknown),
        ("kid is a path", named("EdDSA", "../../dev/null", By::Ed), unknown),
        ("kid is an absolute path", named("EdDSA", "/proc/self/environ", By::Ed), unknown),
        ("kid is SQL", named("EdDSA", "ed' OR '1'='1", By::Ed), unknown),
        ("kid is a command", named("EdDSA", "ed;$(id)|`id`", By::Ed), unknown),
        ("kid has a NUL", signed(r#"{"alg":"EdDSA","kid":"ed\u0000"}"#, By::Ed), unknown),
        ("kid is no text", signed(r#"{"alg":"EdDSA","kid":{"$ne":""}}"#, By::Ed), "no text"),
        ("kid is long", named("EdDSA", &"k".repeat(257), By::Ed), "at most 256"),
        ("own key in jwk", embedded("jwk", other.ed_jwk("ed")), fit),
        ("own key at jku", embedded("jku", json!("https://evil.example/jwks")), fit),
        ("own certificate at x5u", embedded("x5u", json!("https://evil.example/c")), fit),
        ("own certificate in x5c", embedded("x5c", json!(["MIIB"])), fit),
        (
            "own key under another kid",
            other.sign(r#"{"alg":"EdDSA","kid":"x"}"#, &good, By::Ed),
            unknown,
        ),
        ("critical extension", extended("crit", json!(["exp"])), "not supported"),
        ("unencoded payload", extended("b64", json!(false)), "not supported"),
        ("compressed", extended("zip", json!("DEF")), "not supported"),
        ("encrypted", extended("enc", json!("A256GCM")), "not supported"),
        ("another type", extended("typ", json!("logout+jwt")), "of the type"),
        ("alg twice", signed(r#"{"alg":"none","alg":"EdDSA","kid":"ed"}"#, By::Ed), distinct),
        ("kid twice", signed(r#"{"alg":"EdDSA","kid":"x","kid":"ed"}"#, By::Ed), distinct),
        ("header is a list", signed(r#"["EdDSA"]"#, By::Ed), distinct),
        ("more after the header", signed(&format!("{GOOD} {{}}"), By::Ed), distinct),
        (
            "a name twice within a claim",
            with_claims(r#"{"realm":{"roles":1,"roles":2}}"#),
            distinct,
        ),
        ("sub twice", with_claims(&twice(r#""sub":"root""#)), distinct),
        ("exp twice", with_claims(&twice(r#""exp":99999999999"#)), distinct),
        ("a name twice, escaped", with_claims(&twice(r#""\u0072oles":["admin"]"#)), distinct),
        ("claims are a list", with_claims("[]"), distinct),
        ("claims are no JSON", with_claims("{"), distinct),
        ("more after the claims", with_claims(&format!("{good}{{}}")), distinct),
        ("deep claims", with_claims(&format!(r#"{{"a":{}"#, "[".repeat(3_000))), distinct),
        ("signature stripped", format!("{message}."), "not signed"),
        ("signature left out", message.to_owned(), "three parts"),
        ("signature cut", format!("{message}.{}", &signature[..84]), fit),
        ("signature of zeros", format!("{message}.{}", base64url([0; 64])), fit),
        (
            "ES256 signature of zeros",
            format!(
                "{}.{}",
                named("ES256", "ec", By::Ec).rsplit_once('.').unwrap().0,
                base64url([0; 64])
            ),
            fit,
        ),
        ("signature of other claims", format!("{head}.{}.{signature}", base64url(changed)), fit),
        (
            "signature of another header",
            format!("{}.{body}.{signature}", base64url(r#"{"kid":"ed","alg":"EdDSA"}"#)),
            fit,
        ),
        ("a fourth part", format!("{token}.x"), "three parts"),
        ("garbage behind", format!("{token}!"), "cannot be read"),
        ("a line break behind", format!("{token}\n"), "cannot be read"),
        ("padding behind", format!("{token}=="), "cannot be read"),
        ("more base64 behind", format!("{token}AAAA"), fit),
        ("header in plain base64", format!("{}+.{body}.{signature}", &head[1..]), "base64url"),
        ("nothing", String::new(), "three parts"),
        ("dots", "..".to_owned(), "not signed"),
        ("only a signature", format!("..{signature}"), "not one object"),
        (
            "too long",
            format!("{token}{}", "A".repeat(TOKEN_BYTES_MAX + 1 - token.len())),
            "longer than 8192",
        ),
    ];
    cases.into_iter().map(|(name, token, why)| Attack { name, token, why }).collect()
}

#[tokio::test]
async fn every_known_attack_is_refused_and_none_of_the_token_is_in_the_answer() {
    let fixture = Fixture::new().await;
    assert!(fixture.verify_with(json!({})).await.is_ok(), "what is attacked counts");
    for Attack { name, token, why } in attacks(&fixture.issuer) {
        let refusal = fixture.tokens.verify(&token).await.expect_err(name);
        let words = refusal.to_string();
        assert!(matches!(refusal, Refusal::Invalid(_)), "{name}: {words}");
        assert!(words.contains(why), "{name}: {words}");
        let mut parts = token.split('.').filter(|part| part.len() > 8);
        assert!(parts.all(|part| !words.contains(part)), "{name}: {words}");
    }
}

#[tokio::test]
async fn a_longest_token_is_read_and_one_byte_more_is_not() {
    let fixture = Fixture::new().await;
    let mut claims = claims();
    let empty = fixture.issuer.token(&claims).len();
    for (length, is_read) in [(TOKEN_BYTES_MAX, true), (TOKEN_BYTES_MAX + 4, false)] {
        // Base64 makes four bytes of three; the name and its quotes are the rest.
        let mut padding = (length - empty) / 4 * 3;
        let token = loop {
            claims["pad"] = "x".repeat(padding).into();
            let token = fixture.issuer.token(&claims);
            if token.len() <= length {
                break token;
            }
            padding -= 1;
        };
        assert!(token.len() + 2 > length, "{}", token.len());
        assert_eq!(fixture.tokens.verify(&token).await.is_ok(), is_read, "{}", token.len());
    }
}

#[tokio::test]
async fn claims_that_do_not_fit_are_refused() {
    let fixture = Fixture::new().await;
    for (changes, why) in [
        (json!({"aud": "others"}), "another audience"),
        (json!({"aud": ["others"]}), "another audience"),
        (json!({"aud": []}), "another audience"),
        (json!({"aud": "pulso "}), "another audience"),
        (json!({"aud": null}), "lacks iss or aud"),
        (json!({"aud": {"pulso": 1}}), "lacks iss or aud"),
        (json!({"iss": "https://issuer.example/"}), "another issuer"),
        (json!({"iss": "https://evil.example"}), "another issuer"),
        (json!({"iss": [ISSUER, "https://evil.example"]}), "another issuer"),
        (json!({"iss": null}), "lacks iss or aud"),
        (json!({"exp": null}), "no number of seconds"),
        (json!({"exp": "99999999999"}), "no number of seconds"),
        (json!({"exp": 1e300}), "no number of seconds"),
        (json!({"exp": u64::MAX}), "no number of seconds"),
        (json!({"exp": [NOW + 60]}), "distinct names"),
        (json!({"exp": NOW - 31}), "has expired"),
        (json!({"exp": -1}), "has expired"),
        (json!({"nbf": NOW + 31}), "not valid yet"),
        (json!({"nbf": "0"}), "no number of seconds"),
        (json!({"sub": ""}), "no plain text"),
        (json!({"sub": "a\nb"}), "no plain text"),
        (json!({"sub": "s".repeat(257)}), "no plain text"),
        (json!({"sub": "meter\u{200b}"}), "no plain text"),
        (json!({"sub": "me\u{202e}ter"}), "no plain text"),
        (json!({"sub": " meter"}), "no plain text"),
        (json!({"sub": "me\u{a0}ter"}), "no plain text"),
        (json!({"sub": "me\u{301}ter"}), "no plain text"),
        (json!({"sub": 7}), "no plain text"),
        (json!({"roles": {"admin": true}}), "no list"),
        (json!({"roles": [["admin"]]}), "no list"),
        (json!({"roles": vec!["x"; 257]}), "no list"),
    ] {
        let refusal = fixture.verify_with(changes.clone()).await.expect_err(&changes.to_string());
        assert!(refusal.to_string().contains(why), "{changes}: {refusal}");
    }
    for changes in [
        json!({"aud": ["others", AUDIENCE]}),
        json!({"exp": 1_767_225_600.5 + 3_600.0}),
        json!({"nbf": NOW + 30}),
        json!({"exp": NOW - 29}),
        json!({"roles": vec!["x"; 256]}),
    ] {
        assert!(fixture.verify_with(changes.clone()).await.is_ok(), "{changes}");
    }
    let mut without = claims();
    without.as_object_mut().unwrap().remove("exp");
    let refusal = fixture.tokens.verify(&fixture.issuer.token(&without)).await.unwrap_err();
    assert!(refusal.to_string().contains("never expires"), "{refusal}");
}
