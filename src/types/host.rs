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

#[cfg(test)]
mod tests {
    use super::*;

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
