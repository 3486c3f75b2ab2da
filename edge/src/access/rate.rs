//! Rates: how many requests per second one credential, and one address, may make.
//!
//! Each has a bucket of tokens that fills evenly. An address pays before its credential is looked at,
//! so guesses are bounded too; a credential pays afterwards, wherever it comes from. At most
//! [`RateLimits::keys_max`] buckets are kept of each kind; full ones are dropped when that many are in
//! use, and whoever comes beyond shares one.

mod store;

use std::{
    fmt,
    hash::Hash,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::Clock;
use governor::{Quota, RateLimiter, clock, middleware::StateInformationMiddleware};
use http::{HeaderMap, HeaderName, HeaderValue};

use self::store::Buckets;
use super::principal::{CredentialKind, IdentityScope, Principal};
use crate::{Problem, listen::Peer, problem::reasons};

/// A rate: so many requests per second, and so many at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests per second, in the long run.
    pub per_second: NonZeroU32,
    /// Most requests at once.
    pub burst: NonZeroU32,
}

impl Rate {
    /// A rate, or `None` when one of the numbers is 0 or `per_second` is beyond a billion.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Option<Self> {
        let per_second = NonZeroU32::new(per_second).filter(|rate| rate.get() <= 1_000_000_000)?;
        Some(Self { per_second, burst: NonZeroU32::new(burst)? })
    }
}

/// What may be asked for a second. `None` is no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// Of one client, over all its credentials and addresses.
    pub per_credential: Option<Rate>,
    /// Of one address, over all that come from it; with IPv6, of one network of 64 bits.
    pub per_address: Option<Rate>,
    /// Most buckets of each kind; 10,000. One takes some 50 bytes.
    pub keys_max: usize,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self { per_credential: None, per_address: None, keys_max: 10_000 }
    }
}

/// What is left of a bucket after a request, as `RateLimit-*` headers say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// Tokens of a full bucket.
    pub limit: u32,
    /// Tokens left.
    pub remaining: u32,
    /// Time until the bucket is full.
    pub reset: Duration,
}

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

impl Remaining {
    /// The tighter of two.
    #[must_use]
    pub fn tighter(self, other: Option<Self>) -> Self {
        other.filter(|other| other.remaining < self.remaining).unwrap_or(self)
    }

    /// Writes the headers of draft-ietf-httpapi-ratelimit-headers, in the form with three of them
    /// (to version 07), which clients know. Seconds are rounded up.
    pub fn write(&self, headers: &mut HeaderMap) {
        let seconds = self.reset.as_secs() + u64::from(self.reset.subsec_nanos() > 0);
        headers.insert(LIMIT, HeaderValue::from(self.limit));
        headers.insert(REMAINING, HeaderValue::from(self.remaining));
        headers.insert(RESET, HeaderValue::from(seconds));
    }
}

/// A request too many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooMany {
    /// RESOURCE_EXHAUSTED, `RATE_LIMITED`, with the time to wait.
    pub problem: Problem,
    /// The empty bucket.
    pub remaining: Remaining,
}

/// Counts requests against the limits. Share it by `Arc`.
#[derive(Debug)]
pub struct Rates {
    credentials: Option<Limiter<IdentityScope>>,
    addresses: Option<Limiter<Peer>>,
}

impl Rates {
    /// Full buckets for everybody.
    #[must_use]
    pub fn new(limits: &RateLimits, clock: &Arc<dyn Clock>) -> Self {
        let keys_max = limits.keys_max;
        Self {
            credentials: limits.per_credential.map(|rate| Limiter::new(rate, keys_max, clock)),
            addresses: limits.per_address.map(|rate| Limiter::new(rate, keys_max, clock)),
        }
    }

    /// Counts a request of an address.
    ///
    /// # Errors
    /// When its bucket is empty.
    pub fn of_address(&self, peer: Peer) -> Result<Option<Remaining>, Box<TooMany>> {
        let limiter = self.addresses.as_ref();
        limiter.map(|limiter| limiter.take(&peer, "your address")).transpose()
    }

    /// Counts a request of a client. Requests without a credential have their address only.
    ///
    /// # Errors
    /// When its bucket is empty.
    pub fn of_principal(&self, principal: &Principal) -> Result<Option<Remaining>, Box<TooMany>> {
        if principal.kind == CredentialKind::Local {
            return Ok(None);
        }
        let limiter = self.credentials.as_ref();
        limiter.map(|limiter| limiter.take(&principal.scope, "the credential")).transpose()
    }
}

/// Buckets of one kind.
struct Limiter<K: Hash + Eq + Clone> {
    buckets: RateLimiter<K, Buckets<K>, Elapsed, StateInformationMiddleware>,
    rate: Rate,
    keys_max: usize,
    /// When full buckets were last dropped, in whole seconds.
    dropped_at: AtomicU64,
}

impl<K: Hash + Eq + Clone> fmt::Debug for Limiter<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").field("rate", &self.rate).finish_non_exhaustive()
    }
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    fn new(rate: Rate, keys_max: usize, clock: &Arc<dyn Clock>) -> Self {
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
        let clock = Elapsed(Arc::clone(clock));
        let buckets = RateLimiter::new(quota, Buckets::new(keys_max), clock);
        Self { buckets, rate, keys_max, dropped_at: AtomicU64::new(0) }
    }

    fn take(&self, key: &K, whose: &str) -> Result<Remaining, Box<TooMany>> {
        self.drop_full();
        match self.buckets.check_key(key) {
            Ok(state) => Ok(self.remaining(state.remaining_burst_capacity(), Duration::ZERO)),
            Err(not_until) => {
                let now = clock::Clock::now(self.buckets.clock());
                let wait = not_until.wait_time_from(now);
                Err(Box::new(self.too_many(whose, wait)))
            }
        }
    }

    fn too_many(&self, whose: &str, wait: Duration) -> TooMany {
        let Rate { per_second, burst } = self.rate;
        let message = format!(
            "{whose} may make {per_second} requests per second, and {burst} at once; send it again \
             after the given wait"
        );
        let problem = Problem::exhausted(reasons::RATE_LIMITED, message).with_retry_after(wait);
        TooMany { problem, remaining: self.remaining(0, wait) }
    }

    /// What a bucket has, which gets its next token after `wait` where it has none.
    fn remaining(&self, remaining: u32, wait: Duration) -> Remaining {
        let limit = self.rate.burst.get();
        let first = u32::from(!wait.is_zero());
        let missing = limit.saturating_sub(remaining).saturating_sub(first);
        let reset = wait + Duration::from_secs(1) * missing / self.rate.per_second.get();
        Remaining { limit, remaining, reset }
    }

    /// Drops full buckets where as many are in use as may be, at most once a second: it looks at all
    /// of them.
    fn drop_full(&self) {
        if self.buckets.len() < self.keys_max {
            return;
        }
        let now = clock::Clock::now(self.buckets.clock()).as_secs();
        if self.dropped_at.fetch_max(now, Ordering::Relaxed) < now {
            self.buckets.retain_recent();
        }
    }
}

/// The clock that never falls, as the library asks for it.
#[derive(Clone)]
struct Elapsed(Arc<dyn Clock>);

impl clock::Clock for Elapsed {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests;
