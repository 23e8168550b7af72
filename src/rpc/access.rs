//! Who may do what: tokens, and the checks that keep a browser on a foreign page out. Pure but for hashing.

use http::HeaderMap;
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

/// A longer token is not looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 512;

/// Names that can only mean something on the local network, so no foreign page can be served under one of them.
const PRIVATE_DOMAINS: [&str; 7] = [".localhost", ".local", ".lan", ".home", ".home.arpa", ".internal", ".localdomain"];

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    Read,
    /// Reading too.
    Control,
}

impl Access {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Control => "control",
        }
    }
}

/// The bearer tokens; none at all means that nobody gets in over TCP.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    pub read: Vec<SecretString>,
    pub control: Vec<SecretString>,
}

impl Tokens {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.read.is_empty() && self.control.is_empty()
    }

    /// What the request's `Authorization: Bearer …` allows. Every token is compared, in constant time.
    #[must_use]
    pub fn access(&self, headers: &HeaderMap) -> Option<Access> {
        let given = headers.get(AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = given.split_once(' ')?;
        let token = token.trim();
        if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        // Digests have one length, so not even a token's length can be measured.
        let given = Sha256::digest(token);
        let known = |tokens: &[SecretString]| -> bool {
            let found = tokens.iter().fold(Choice::from(0), |found, token| {
                found | Sha256::digest(token.expose_secret()).as_slice().ct_eq(given.as_slice())
            });
            found.into()
        };
        match (known(&self.control), known(&self.read)) {
            (true, _) => Some(Access::Control),
            (false, true) => Some(Access::Read),
            (false, false) => None,
        }
    }
}

/// The public names under which this server is reached: a name that no config says could be an attacker's,
/// pointed at us after the page was loaded (DNS rebinding).
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    names: Vec<String>,
}

impl Hosts {
    /// Takes host names, without ports; letters' case does not matter.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self { names: names.into_iter().map(|name| name.to_ascii_lowercase()).collect() }
    }

    /// Whether a request may be meant for us: its `Host` is an address, a local name, or a name of ours. `also` is the
    /// site's own URL, if it has one.
    #[must_use]
    pub fn allows(&self, headers: &HeaderMap, also: Option<&str>) -> bool {
        // HTTP/1.0 clients and probes send none; a browser always does.
        let Some(host) = headers.get(HOST) else { return true };
        let Ok(host) = host.to_str() else { return false };
        let name = without_port(host).to_ascii_lowercase();
        let name = name.trim_end_matches('.');
        let address = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
        let private = !name.contains('.') || PRIVATE_DOMAINS.iter().any(|domain| name.ends_with(domain));
        address
            || private
            || self.names.iter().any(|known| known == name)
            || also.and_then(host_of).is_some_and(|known| known == name)
    }
}

/// Whether a browser says that the request comes from a page of another site.
#[must_use]
pub fn is_cross_site(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if matches!(text("sec-fetch-site"), Some("cross-site" | "same-site")) {
        return true;
    }
    let Some(origin) = headers.get(ORIGIN) else { return false };
    let host = text("host").map(str::to_ascii_lowercase);
    let origin =
        origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, rest)| rest.to_ascii_lowercase());
    origin.is_none() || origin != host
}

/// The host of a URL, lower case.
#[must_use]
pub fn host_of(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    Some(without_port(host).to_ascii_lowercase()).filter(|host| !host.is_empty())
}

fn without_port(host: &str) -> &str {
    if host.starts_with('[') {
        return host.split_inclusive(']').next().unwrap_or(host);
    }
    match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn tokens() -> Tokens {
        Tokens { read: vec!["look".into()], control: vec!["other".into(), "steer".into()] }
    }

    #[test]
    fn a_token_says_what_its_bearer_may_do() {
        for (given, expected) in [
            ("Bearer look", Some(Access::Read)),
            ("bearer steer", Some(Access::Control)),
            ("Bearer loo", None),
            ("Bearer looks", None),
            ("Bearer ", None),
            ("Basic look", None),
            ("look", None),
        ] {
            assert_eq!(tokens().access(&headers(&[("authorization", given)])), expected, "{given}");
        }
        assert_eq!(tokens().access(&HeaderMap::new()), None);
        assert_eq!(Tokens::default().access(&headers(&[("authorization", "Bearer x")])), None);
    }

    #[test]
    fn tokens_do_not_show_in_debug_output() {
        assert!(!format!("{:?}", tokens()).contains("steer"));
    }

    #[test]
    fn only_names_that_cannot_be_an_attackers_are_hosts_of_ours() {
        let hosts = Hosts::new(["Backup.Example.org".to_owned()]);
        for good in [
            "127.0.0.1:8420",
            "[::1]:8420",
            "[::1]",
            "localhost",
            "nas:8420",
            "nas.lan",
            "larder.home.arpa:80",
            "backup.example.org",
            "BACKUP.example.org:443",
        ] {
            assert!(hosts.allows(&headers(&[("host", good)]), None), "{good}");
        }
        for bad in [
            "evil.example.com",
            "evil.example.com:8420",
            "backup.example.org.evil.com",
            "lan.evil.com",
            "127.0.0.1.nip.io",
        ] {
            assert!(!hosts.allows(&headers(&[("host", bad)]), None), "{bad}");
        }
        assert!(hosts.allows(&headers(&[("host", "x.example.net")]), Some("https://x.example.net/larder")));
    }

    #[test]
    fn a_request_from_another_sites_page_is_recognised() {
        assert!(!is_cross_site(&headers(&[("host", "nas:8420")])));
        assert!(!is_cross_site(&headers(&[("host", "nas:8420"), ("origin", "http://nas:8420")])));
        assert!(is_cross_site(&headers(&[("host", "nas:8420"), ("origin", "http://evil.example")])));
        assert!(is_cross_site(&headers(&[("host", "nas:8420"), ("origin", "http://nas:9999")])));
        assert!(is_cross_site(&headers(&[("host", "nas:8420"), ("origin", "null")])));
        assert!(is_cross_site(&headers(&[("host", "nas:8420"), ("sec-fetch-site", "cross-site")])));
    }
}
