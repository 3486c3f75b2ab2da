//! Sessions that count, and those that do not: of others, changed, ended, too long.

use domain::Tenant;

use super::*;
use crate::access::{
    cookie::COOKIE_BYTES_MAX,
    principal::Role,
    samples::{ISSUER, NOW, SetClock},
};

const PAGES: &str = "https://usage.example";

fn secret(byte: u8) -> ServerSecret {
    ServerSecret::new(&[byte; 32]).unwrap()
}

fn sessions(secret: &ServerSecret, issuer: &str, origin: &str) -> Sessions {
    Sessions::new(secret, issuer, origin.parse().unwrap()).unwrap()
}

fn person(tenants: Tenants) -> Principal {
    Principal::new(Parts {
        scope: IdentityScope::of(CredentialKind::Token, ISSUER, "ada"),
        id: "ada".to_owned(),
        name: "ada".to_owned(),
        kind: CredentialKind::Session,
        roles: Roles::of(&[Role::Viewer, Role::Analyst]),
        tenants,
    })
}

/// The value of the cookie that begins a session of an hour.
fn begun(sessions: &Sessions, person: &Principal) -> String {
    let now = Timestamp::from_parts(NOW, 0).unwrap();
    let until = now.plus(Duration::from_secs(3_600));
    let header = sessions.begin(person, until, now).unwrap();
    let header = header.to_str().unwrap();
    assert!(header.ends_with("Max-Age=3600"), "{header}");
    header.split_once('=').unwrap().1.split_once(';').unwrap().0.to_owned()
}

#[test]
fn a_session_is_the_person_until_it_ends_in_every_process_of_the_deployment() {
    let clock = SetClock::new();
    for tenants in [Tenants::ALL, Tenants::one(Tenant::new("acme").unwrap())] {
        let person = person(tenants);
        let value = begun(&sessions(&secret(7), ISSUER, PAGES), &person);
        let other = sessions(&secret(7), ISSUER, PAGES);
        let session = other.open(&value, &clock).unwrap();
        assert_eq!(session.principal, person);
        assert_eq!(session.until.parts(), (NOW + 3_600, 0));
        clock.set(NOW + 3_599);
        assert!(other.open(&value, &clock).is_ok());
        clock.set(NOW + 3_600);
        assert_eq!(other.open(&value, &clock), Err(Refusal::Expired));
        clock.set(NOW);
        for stranger in [
            sessions(&secret(8), ISSUER, PAGES),
            sessions(&secret(7), "https://other.example", PAGES),
            sessions(&secret(7), ISSUER, "https://other.example"),
        ] {
            assert!(matches!(stranger.open(&value, &clock), Err(Refusal::Invalid(_))));
        }
    }
}

#[test]
fn a_session_has_room_for_many_tenants_and_is_refused_beyond_what_browsers_keep() {
    let sessions = sessions(&secret(7), ISSUER, PAGES);
    let named = |length: usize| {
        let names = (0..64).map(|i| Tenant::new(&format!("{i:0>length$}")).unwrap());
        person(Tenants::these(names).unwrap())
    };
    assert!(begun(&sessions, &named(36)).len() < COOKIE_BYTES_MAX, "as long as a UUID");
    let now = Timestamp::from_parts(NOW, 0).unwrap();
    assert!(sessions.begin(&named(128), now, now).is_err());
}

#[test]
fn only_a_page_of_the_deployment_writes_with_a_session() {
    let sessions = sessions(&secret(7), ISSUER, PAGES);
    let check = |method: Method, origins: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for origin in origins {
            headers.append(ORIGIN, HeaderValue::from_static(origin));
        }
        sessions.check_page(&method, &headers).map_err(|problem| problem.reason)
    };
    let forbidden = Err(reasons::ORIGIN_FORBIDDEN);
    for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
        assert_eq!(check(method, &["https://evil.example"]), Ok(()));
    }
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        assert_eq!(check(method.clone(), &[PAGES]), Ok(()));
        for origins in [
            &[][..],
            &["null"],
            &["https://evil.example"],
            &["http://usage.example"],
            &["https://usage.example:8443"],
            &["https://usage.example.evil.example"],
            &[PAGES, PAGES],
        ] {
            assert_eq!(check(method.clone(), origins), forbidden, "{method} {origins:?}");
        }
    }
}

#[test]
fn nobody_logs_in_over_plain_text_but_on_loopback() {
    for (origin, is_taken) in [
        ("https://usage.example", true),
        ("http://localhost:7080", true),
        ("http://127.0.0.1:7080", true),
        ("http://usage.example", false),
    ] {
        let sessions = Sessions::new(&secret(7), ISSUER, origin.parse().unwrap());
        assert_eq!(sessions.is_ok(), is_taken, "{origin}");
    }
}
