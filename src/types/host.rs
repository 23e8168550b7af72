//! Hosts of the own network, by name or address.

use std::net::IpAddr;

/// Domains that only a local network resolves.
const LOCAL_SUFFIXES: &[&str] = &[
    ".lan",
    ".local",
    ".home",
    ".internal",
    ".home.arpa",
    ".localdomain",
    ".localhost",
    ".intranet",
    ".private",
    ".test",
];

/// Whether `host` (a name, or an address without brackets) can only be reached within the own network.
#[must_use]
pub fn is_local(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
        Err(_) => {
            let host = host.trim_end_matches('.').to_ascii_lowercase();
            !host.contains('.') || LOCAL_SUFFIXES.iter().any(|suffix| host.ends_with(suffix))
        }
    }
}

/// Longest host name (RFC 1035), and label of one.
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// Whether `host` is an address without brackets, or a name as local networks have them: with `_`, without a domain.
#[must_use]
pub fn is_host(host: &str) -> bool {
    if host.parse::<IpAddr>().is_ok() {
        return true;
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= LABEL_BYTES_MAX
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    host.len() <= NAME_BYTES_MAX && host.strip_suffix('.').unwrap_or(host).split('.').all(label)
}

/// Whether `host` is a host name with a domain, by the strict rules of the mail: letters, digits and hyphens only.
#[must_use]
pub fn is_full_name(host: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= LABEL_BYTES_MAX
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.len() <= NAME_BYTES_MAX
        && host.contains('.')
        && host.split('.').all(label)
        && host.parse::<IpAddr>().is_err()
        // Names end with a letter or a word such as xn--p1ai: all digits is a broken address.
        && !host.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether `text` may stand behind EHLO: a full name, or an address in brackets as RFC 5321 writes it.
#[must_use]
pub fn is_hello_name(text: &str) -> bool {
    let inside = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match inside {
        Some(inside) => match inside.get(..5).filter(|tag| tag.eq_ignore_ascii_case("ipv6:")) {
            Some(_) => inside.get(5..).is_some_and(|ip| ip.parse::<std::net::Ipv6Addr>().is_ok()),
            None => inside.parse::<std::net::Ipv4Addr>().is_ok(),
        },
        None => is_full_name(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_client_is_a_full_name_or_an_address_in_brackets() {
        for good in ["nas.home.lan", "a-b.example.org", "[192.168.1.2]", "[IPv6:fd00::1]", "xn--nas-0na.xn--p1ai"] {
            assert!(is_hello_name(good), "{good}");
        }
        for bad in [
            "vm",
            "",
            "a_b.lan",
            "-a.lan",
            "a..b",
            "192.168.1.2",
            "[fd00::1]",
            "[vm]",
            "a.lan.",
            "a b.lan",
            "a.lan\r\nX",
            "nas.1",
        ] {
            assert!(!is_hello_name(bad), "{bad}");
        }
    }

    #[test]
    fn private_addresses_and_names_that_only_the_own_network_knows_are_local() {
        for local in
            ["127.0.0.1", "192.168.1.2", "10.0.0.1", "::1", "fd00::1", "nas", "nas.lan", "A.HOME.ARPA", "x.local."]
        {
            assert!(is_local(local), "{local}");
        }
        for public in ["1.1.1.1", "example.org", "2606:4700::1", "lan.example.org"] {
            assert!(!is_local(public), "{public}");
        }
    }
}
