//! How we introduce ourselves to a mail server: with a full host name, since many refuse a bare one.
//!
//! In this order: what the site says; the machine's own name with its domain; its bare name with the domain of the
//! sender; the address that the connection has. A server that refuses the name is told the address (RFC 5321, 4.1.4).

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use lettre::transport::smtp::extension::ClientId;

use crate::config::model::Email;
use crate::types::host::{is_full_name, is_hello_name};

/// What the machine knows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) host: String,
    /// `/etc/hosts`.
    pub(super) hosts: String,
}

impl Machine {
    /// Asks the system. Blocking, but only for files of the system itself.
    pub(super) fn look() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self { host: read("/proc/sys/kernel/hostname").trim().to_owned(), hosts: read("/etc/hosts") }
    }
}

/// Whom to introduce ourselves as to a server: the first, and the second where that is refused.
pub(super) fn names(email: &Email, machine: &Machine, own: IpAddr) -> Vec<ClientId> {
    if let Some(name) = &email.hello_name {
        return vec![ClientId::Domain(name.clone())];
    }
    let address = match own {
        IpAddr::V4(ip) => ClientId::Ipv4(ip),
        IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or(ClientId::Ipv6(ip), ClientId::Ipv4),
    };
    full_name(machine, &email.from).map(ClientId::Domain).into_iter().chain([address]).collect()
}

/// The address of this machine on the way to `server`; nothing is sent.
pub(super) fn own_address(server: SocketAddr) -> IpAddr {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let found = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(server)?;
        socket.local_addr()
    });
    found.map_or(Ipv4Addr::LOCALHOST.into(), |own| own.ip())
}

fn full_name(machine: &Machine, from: &str) -> Option<String> {
    // Underscores are common in names of machines, and no mail server takes them.
    let host = machine.host.trim_end_matches('.').replace('_', "-");
    let domain = from.rsplit_once('@').map_or("", |(_, domain)| domain.trim_end_matches(['>', '.']));
    let with_domain =
        if domain.starts_with(&format!("{host}.")) { domain.to_owned() } else { format!("{host}.{domain}") };
    [host.clone(), known_as(machine), with_domain]
        .into_iter()
        .find(|name| is_full_name(name) && !is_everybodys(name))
        .filter(|name| is_hello_name(name))
}

/// The full name that `/etc/hosts` has for this machine, as `hostname -f` finds it.
fn known_as(machine: &Machine) -> String {
    let lines = machine.hosts.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines
        .map(|line| line.split_whitespace().skip(1).collect::<Vec<_>>())
        .filter(|names| !machine.host.is_empty() && names.contains(&machine.host.as_str()))
        .find_map(|names| names.into_iter().find(|name| is_full_name(name) && !is_everybodys(name)))
        .unwrap_or_default()
        .to_owned()
}

/// A name that every machine has says nothing of this one.
fn is_everybodys(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("localhost.") || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::super::letter::tests::site;
    use super::*;

    fn said(hello_name: Option<&str>, host: &str, hosts: &str, from: &str) -> Vec<String> {
        let email = Email { hello_name: hello_name.map(str::to_owned), from: from.to_owned(), ..site().email.unwrap() };
        let machine = Machine { host: host.to_owned(), hosts: hosts.to_owned() };
        names(&email, &machine, "192.168.1.2".parse().unwrap()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_bare_host_name_is_never_said_where_a_full_one_can_be_known() {
        let own = "[192.168.1.2]";
        for (host, hosts, from, expected) in [
            ("nas.home.lan", "", "l@example.org", vec!["nas.home.lan", own]),
            ("vm", "127.0.0.1 localhost\n127.0.1.1 vm.home.lan vm # own\n", "l@example.org", vec!["vm.home.lan", own]),
            ("vm", "127.0.0.1 localhost.localdomain vm\n", "l@example.org", vec!["vm.example.org", own]),
            ("vm", "", "Larder <l@home.lan>", vec!["vm.home.lan", own]),
            ("vm", "", "l@vm.home.lan", vec!["vm.home.lan", own]),
            ("my_nas", "", "l@home.lan", vec!["my-nas.home.lan", own]),
            ("vm", "", "l@nas", vec!["vm.nas", own]),
            ("vm", "", "l@192.168.1.2", vec![own]),
            ("", "", "l@home.lan", vec![own]),
            ("a b", "", "l@home.lan", vec![own]),
        ] {
            assert_eq!(said(None, host, hosts, from), expected, "{host} {from}");
        }
    }

    #[test]
    fn what_the_site_says_is_said_and_nothing_else() {
        assert_eq!(said(Some("mail.home.lan"), "vm", "", "l@home.lan"), ["mail.home.lan"]);
        assert_eq!(said(Some("[10.0.0.1]"), "nas.home.lan", "", "l@home.lan"), ["[10.0.0.1]"]);
    }

    #[test]
    fn the_address_is_the_one_on_the_way_to_the_server() {
        assert_eq!(own_address("127.0.0.1:25".parse().unwrap()).to_string(), "127.0.0.1");
    }
}
