//! Host: the part of a URL or of an authority that names a machine.

use std::net::IpAddr;

/// A host without the brackets that URLs write around an IPv6 address.
#[must_use]
pub fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// The address that a host is, or `None` for a name: a name may lead anywhere.
#[must_use]
pub fn address(host: &str) -> Option<IpAddr> {
    without_brackets(host).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_are_taken_off_in_pairs() {
        for (host, bare, is_address) in [
            ("[::1]", "::1", true),
            ("::1", "::1", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("[127.0.0.1]", "127.0.0.1", true),
            ("localhost", "localhost", false),
            ("[::1", "[::1", false),
            ("::1]", "::1]", false),
            ("[[::1]]", "[::1]", false),
            ("", "", false),
        ] {
            assert_eq!(without_brackets(host), bare);
            assert_eq!(address(host).is_some(), is_address, "{host}");
        }
    }
}
