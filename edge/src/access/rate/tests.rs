//! Rates with a clock that the test sets: bursts, waits, headers, and a flood of addresses.

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::access::{principal::Parts, samples::SetClock};

fn peer(number: u32) -> Peer {
    Peer::of(IpAddr::V4(Ipv4Addr::from(number)))
}

fn client(name: &str) -> Principal {
    let kind = CredentialKind::ApiKey;
    let scope = IdentityScope::of(kind, "", name);
    Principal::new(Parts { kind, scope, ..Parts::clone(&Principal::local()) })
}

fn per_address(per_second: u32, burst: u32, keys_max: usize, clock: &SetClock) -> Rates {
    let per_address = Rate::new(per_second, burst);
    let limits = RateLimits { per_address, keys_max, ..RateLimits::default() };
    Rates::new(&limits, &clock.shared())
}

#[test]
fn a_bucket_empties_in_a_burst_and_fills_evenly() {
    let clock = SetClock::new();
    let rates = per_address(1, 3, 10, &clock);
    let mut answers = Vec::new();
    for passes in [0, 0, 0, 0, 1, 0, 2, 9, 0] {
        clock.pass(passes);
        answers.push(match rates.of_address(peer(1)) {
            Ok(remaining) => {
                let Remaining { limit: 3, remaining, reset } = remaining.unwrap() else { panic!() };
                (remaining, reset.as_secs(), None)
            }
            Err(too_many) => {
                let Remaining { limit: 3, remaining, reset } = too_many.remaining else { panic!() };
                (remaining, reset.as_secs(), too_many.problem.retry_after)
            }
        });
    }
    let second = Some(Duration::from_secs(1));
    assert_eq!(
        answers,
        [
            (2, 1, None),
            (1, 2, None),
            (0, 3, None),
            (0, 3, second),
            (0, 3, None),
            (0, 3, second),
            (1, 2, None),
            (2, 1, None),
            (1, 2, None),
        ]
    );
    assert!(rates.of_address(peer(2)).is_ok(), "another address has its own");
}

#[test]
fn a_refusal_says_the_rate_and_when_to_come_again() {
    let rates = per_address(10, 1, 10, &SetClock::new());
    rates.of_address(peer(1)).unwrap();
    let TooMany { problem, remaining } = *rates.of_address(peer(1)).unwrap_err();
    assert_eq!((problem.code, problem.reason), (tonic::Code::ResourceExhausted, "RATE_LIMITED"));
    assert_eq!(problem.retry_after, Some(Duration::from_millis(100)));
    assert!(problem.message.starts_with("your address may make 10 requests per second, and 1 at"));
    let mut headers = HeaderMap::new();
    remaining.write(&mut headers);
    let written: Vec<_> = ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"]
        .map(|name| headers[name].to_str().unwrap())
        .into();
    assert_eq!(written, ["1", "0", "1"]);
}

#[test]
fn a_client_has_one_bucket_over_its_addresses_and_local_ones_have_none() {
    let per_credential = Rate::new(1, 2);
    let limits = RateLimits { per_credential, ..RateLimits::default() };
    let rates = Rates::new(&limits, &SetClock::new().shared());
    assert!(rates.of_principal(&client("a")).is_ok());
    assert!(rates.of_principal(&client("a")).is_ok());
    assert!(rates.of_principal(&client("a")).is_err());
    assert!(rates.of_principal(&client("b")).is_ok());
    for _ in 0..9 {
        assert_eq!(rates.of_principal(&Principal::local()), Ok(None));
        assert_eq!(rates.of_address(peer(1)), Ok(None), "no bound is set");
    }
}

#[test]
fn a_flood_of_addresses_takes_no_memory_and_nobodys_bucket() {
    let clock = SetClock::new();
    let rates = per_address(1, 2, 100, &clock);
    let buckets = |rates: &Rates| rates.addresses.as_ref().unwrap().buckets.len();
    assert!(rates.of_address(peer(0)).is_ok());
    let answers = (1..10_000).map(|number| rates.of_address(peer(number)).is_ok());
    // 99 have buckets of their own, and all others two tokens together.
    assert_eq!(answers.filter(|is_ok| *is_ok).count(), 101);
    assert_eq!(buckets(&rates), 100);
    assert!(rates.of_address(peer(0)).is_ok(), "what was there stays");
    assert!(rates.of_address(peer(0)).is_err());
    // Once the flood is over, its buckets are full and go.
    clock.pass(10);
    assert!(rates.of_address(peer(20_000)).is_ok());
    assert_eq!(buckets(&rates), 1);
}

#[test]
fn a_rate_is_between_one_and_a_billion() {
    for (per_second, burst, is_rate) in [
        (0, 1, false),
        (1, 0, false),
        (1, 1, true),
        (1_000_000_000, u32::MAX, true),
        (1_000_000_001, 1, false),
    ] {
        assert_eq!(Rate::new(per_second, burst).is_some(), is_rate, "{per_second} {burst}");
    }
    let fastest = per_address(1_000_000_000, u32::MAX, 10, &SetClock::new());
    let remaining = fastest.of_address(peer(1)).unwrap().unwrap();
    assert_eq!(remaining.remaining, u32::MAX - 1);
}
