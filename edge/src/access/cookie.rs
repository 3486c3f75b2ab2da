//! Cookie: how a browser is asked to keep a sealed text, and how it comes back.
//!
//! A cookie is bound to the host by the prefix `__Host-`, so that no page of a neighbouring name can
//! plant one, and travels by TLS only. Browsers keep neither over plain text, so on loopback, where
//! somebody tries the login, it has another name. Scripts do not see it, and it comes with requests of
//! other sites only where they lead the person here (`SameSite=Lax`).

use std::time::Duration;

use http::{HeaderMap, HeaderValue, header::COOKIE};

/// Most bytes of a cookie with its attributes; browsers drop longer ones in silence.
pub(crate) const COOKIE_BYTES_MAX: usize = 4_096;

/// Binds a cookie to its host, in browsers that know the prefix.
const PREFIX: &str = "__Host-";

/// A cookie that is too long to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cookie would have {0} bytes, and browsers keep {COOKIE_BYTES_MAX}")]
pub(crate) struct TooLong(usize);

/// One cookie of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cookie {
    name: &'static str,
    attributes: &'static str,
}

/// How pages of the deployment reach a browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// By TLS.
    Tls,
    /// In plain text, on loopback only.
    Loopback,
}

impl Cookie {
    /// The credential of a person who logged in.
    pub(crate) const fn session(carrier: Carrier) -> Self {
        Self::of(carrier, "__Host-pulso_session")
    }

    /// What a login that has begun is known by.
    pub(crate) const fn login(carrier: Carrier) -> Self {
        Self::of(carrier, "__Host-pulso_login")
    }

    const fn of(carrier: Carrier, bound: &'static str) -> Self {
        match carrier {
            Carrier::Tls => {
                Self { name: bound, attributes: "Path=/; HttpOnly; SameSite=Lax; Secure" }
            }
            Carrier::Loopback => {
                let (_, plain) = bound.split_at(PREFIX.len());
                Self { name: plain, attributes: "Path=/; HttpOnly; SameSite=Lax" }
            }
        }
    }

    /// The header that sets it for so long.
    ///
    /// # Errors
    /// When it is longer than browsers keep.
    pub(crate) fn set(self, value: &str, age: Duration) -> Result<HeaderValue, TooLong> {
        let Self { name, attributes } = self;
        let text = format!("{name}={value}; {attributes}; Max-Age={}", age.as_secs());
        match text.len() {
            ..=COOKIE_BYTES_MAX => {
                Ok(HeaderValue::from_str(&text).expect("base64url and words make a header"))
            }
            long => Err(TooLong(long)),
        }
    }

    /// The header that makes a browser forget it.
    pub(crate) fn cleared(self) -> HeaderValue {
        self.set("", Duration::ZERO).expect("without a value it is short")
    }

    /// Its values among the headers of a request, in their order.
    pub(crate) fn values(self, headers: &HeaderMap) -> Vec<HeaderValue> {
        let pairs = headers.get_all(COOKIE).iter().flat_map(pairs);
        let own = pairs.filter_map(|pair| self.value(pair));
        own.filter_map(|value| HeaderValue::from_bytes(value).ok()).collect()
    }

    /// The same, which takes them out of the headers. Cookies of others stay.
    pub(crate) fn take(self, headers: &mut HeaderMap) -> Vec<HeaderValue> {
        let own = self.values(headers);
        if !own.is_empty() {
            let others: Vec<_> = headers
                .get_all(COOKIE)
                .iter()
                .flat_map(pairs)
                .filter(|pair| self.value(pair).is_none())
                .collect();
            let others = HeaderValue::from_bytes(&others.join(&b"; "[..]));
            headers.remove(COOKIE);
            if let Some(others) = others.ok().filter(|others| !others.is_empty()) {
                headers.insert(COOKIE, others);
            }
        }
        own
    }

    fn value(self, pair: &[u8]) -> Option<&[u8]> {
        pair.strip_prefix(self.name.as_bytes())?.strip_prefix(b"=")
    }
}

fn pairs(header: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let pairs = header.as_bytes().split(|byte| *byte == b';');
    pairs.map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_bound_to_the_host_and_to_tls_but_on_loopback() {
        let hour = Duration::from_secs(3_600);
        assert_eq!(
            Cookie::session(Carrier::Tls).set("abc", hour).unwrap(),
            "__Host-pulso_session=abc; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=3600"
        );
        assert_eq!(
            Cookie::login(Carrier::Loopback).set("abc", hour).unwrap(),
            "pulso_login=abc; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600"
        );
        assert_eq!(
            Cookie::session(Carrier::Loopback).cleared(),
            "pulso_session=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0"
        );
    }

    #[test]
    fn a_cookie_that_browsers_would_drop_is_not_set() {
        let cookie = Cookie::session(Carrier::Tls);
        let room = COOKIE_BYTES_MAX - cookie.cleared().len();
        assert!(cookie.set(&"a".repeat(room), Duration::ZERO).is_ok());
        let long = cookie.set(&"a".repeat(room + 1), Duration::ZERO);
        assert_eq!(long, Err(TooLong(COOKIE_BYTES_MAX + 1)));
    }

    #[test]
    fn its_values_are_taken_out_and_those_of_others_stay() {
        let cookie = Cookie::session(Carrier::Loopback);
        for (sent, values, left) in [
            (&["a=b; pulso_session=x; c=d"][..], &["x"][..], Some("a=b; c=d")),
            (&["pulso_session=x"], &["x"], None),
            (&["pulso_session=x;pulso_session=y", "a=b"], &["x", "y"], Some("a=b")),
            (&["pulso_session=", "a=b"], &[""], Some("a=b")),
            (&["Xpulso_session=x; pulso_sessions=y; pulso_session"], &[], None),
            (&["__Host-pulso_session=x"], &[], None),
            (&["a=pulso_session=x"], &[], None),
            (&[";;"], &[], None),
        ] {
            let mut headers = HeaderMap::new();
            for value in sent {
                headers.append(COOKIE, HeaderValue::from_static(value));
            }
            let left = left.or_else(|| values.is_empty().then(|| sent[0]));
            assert_eq!(cookie.take(&mut headers), values, "{sent:?}");
            assert_eq!(headers.get(COOKIE).map(|left| left.to_str().unwrap()), left, "{sent:?}");
        }
    }
}
