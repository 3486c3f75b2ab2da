//! Pages of others: where a browser sends all that a request needs by itself, because nobody is asked for
//! a credential or a client certificate is one, no page that a person has open elsewhere may act in their
//! place.
//!
//! A browser sends `Origin` with what a page of another origin posts, and it cannot be left out. A page can
//! bring its own name to point here instead (DNS rebinding), and then sends that name as `Host`; so a
//! process that serves loopback only answers to addresses and `localhost` alone. These are matters of
//! HTTP: gRPC takes no request of a page (the [`layer`](super::layer)).

use std::sync::Arc;

use http::{
    Method,
    header::{HOST, ORIGIN},
    request::Parts,
    uri::Authority,
};
use tonic::Code;

use super::{browser::Transport, origin::Origin};
use crate::{Problem, host, problem::reasons};

/// By which names requests may call the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// Any: a gateway or a credential says who comes.
    Any,
    /// Addresses and `localhost`.
    Local,
}

/// Which pages may act where nobody brings a credential that a page cannot.
#[derive(Clone, Debug)]
pub struct Guests {
    /// By which names.
    pub hosts: Hosts,
    /// Origins whose pages may do what anybody may.
    pub origins: Arc<[Origin]>,
    /// How the door is reached.
    pub transport: Transport,
}

impl Guests {
    /// Checks a request that a browser could make in somebody's place.
    ///
    /// # Errors
    /// PERMISSION_DENIED, `ORIGIN_FORBIDDEN`.
    pub(super) fn check(&self, parts: &Parts) -> Result<(), Problem> {
        let text = |name| parts.headers.get(name).map(|value| value.to_str().unwrap_or_default());
        // HTTP/2 has the host in the address.
        let of_address = parts.uri.authority().map(Authority::as_str);
        let host = text(HOST).or(of_address).unwrap_or_default();
        if self.hosts == Hosts::Local && !host.is_empty() && !is_local(host) {
            return Err(forbidden(format!(
                "`{host}` is not a name of this process, which serves loopback only; call it by 127.0.0.1 or localhost"
            )));
        }
        // Reading is what the rules of CORS are for.
        let is_read = [Method::GET, Method::HEAD, Method::OPTIONS].contains(&parts.method);
        let of_page = text(ORIGIN).filter(|_| !is_read);
        match of_page.filter(|origin| !self.is_own(origin, host) && !self.lists(origin)) {
            Some(origin) => Err(forbidden(format!(
                "the page is of `{origin}` and brings no credential of its own; list it in access.origins, or let it send a key or a token"
            ))),
            None => Ok(()),
        }
    }

    /// Tells whether a page is of the host that it calls. A page in plain text is whoever's on the way, so
    /// it is none of a door under TLS; in front of a door in plain text may be what speaks TLS.
    fn is_own(&self, origin: &str, host: &str) -> bool {
        let Some((scheme, from)) = origin.split_once("://") else { return false };
        from == host && (scheme == "https" || self.transport == Transport::Plain)
    }

    fn lists(&self, origin: &str) -> bool {
        origin.parse().is_ok_and(|origin: Origin| self.origins.contains(&origin))
    }
}

fn is_local(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    name.eq_ignore_ascii_case("localhost") || host::address(name).is_some()
}

fn forbidden(message: String) -> Problem {
    Problem::new(Code::PermissionDenied, reasons::ORIGIN_FORBIDDEN, message)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn is_in(guests: &Guests, request: http::request::Builder) -> bool {
        guests.check(&request.body(()).unwrap().into_parts().0).is_ok()
    }

    fn guests(hosts: Hosts, transport: Transport) -> Guests {
        let origins = ["https://listed.example".parse().unwrap()].into();
        Guests { hosts, origins, transport }
    }

    #[test]
    fn a_page_of_others_reads_by_the_rules_of_browsers_and_writes_nothing() {
        for (hosts, method, host, origin, expected) in [
            (Hosts::Local, Method::GET, "127.0.0.1:7080", None, true),
            (Hosts::Local, Method::GET, "localhost:7080", None, true),
            (Hosts::Local, Method::GET, "[::1]:7080", None, true),
            (Hosts::Local, Method::GET, "", None, true),
            (Hosts::Local, Method::GET, "evil.example", None, false),
            (Hosts::Local, Method::GET, "127.0.0.1.evil.example", None, false),
            (Hosts::Local, Method::GET, "localhost.evil.example:7080", None, false),
            (Hosts::Any, Method::GET, "usage.example", None, true),
            (Hosts::Local, Method::POST, "127.0.0.1:7080", None, true),
            (Hosts::Local, Method::POST, "127.0.0.1:7080", Some("http://127.0.0.1:7080"), true),
            (Hosts::Local, Method::POST, "127.0.0.1:7080", Some("https://evil.example"), false),
            (Hosts::Local, Method::POST, "127.0.0.1:7080", Some("null"), false),
            (Hosts::Any, Method::POST, "usage.example", Some("https://evil.example"), false),
            (Hosts::Any, Method::POST, "usage.example", Some("https://usage.example"), true),
            (Hosts::Local, Method::GET, "127.0.0.1:7080", Some("https://evil.example"), true),
            (Hosts::Local, Method::POST, "127.0.0.1:7080", Some("https://listed.example"), true),
        ] {
            let mut request = Request::builder().method(&method).uri("/v1/catalog");
            // As HTTP/2 has it.
            let mut address = Request::builder().method(&method);
            if !host.is_empty() {
                request = request.header(HOST, host);
                address = address.uri(format!("https://{host}/v1/catalog"));
            }
            if let Some(origin) = origin {
                request = request.header(ORIGIN, origin);
                address = address.header(ORIGIN, origin);
            }
            let guests = guests(hosts, Transport::Plain);
            assert_eq!(is_in(&guests, request), expected, "{method} {host:?} {origin:?}");
            assert_eq!(is_in(&guests, address), expected, "HTTP/2 {method} {host:?} {origin:?}");
        }
    }

    #[test]
    fn a_page_in_plain_text_is_none_of_a_door_under_tls() {
        for (transport, origin, expected) in [
            (Transport::Tls, "https://usage.example", true),
            (Transport::Tls, "http://usage.example", false),
            (Transport::Plain, "http://usage.example", true),
        ] {
            let request = Request::post("/v1/catalog").header(HOST, "usage.example");
            let guests = guests(Hosts::Any, transport);
            assert_eq!(is_in(&guests, request.header(ORIGIN, origin)), expected, "{origin}");
        }
    }
}
