//! Mail servers and addresses: nothing that could reach a header or the wrong host.

use super::values::Refusal;
use crate::config::model::{Smtp, SmtpSecurity};
use crate::config::suggest::shown;
use crate::error::codes;
use crate::types::host::is_host;

/// Longest mail address (RFC 5321).
const ADDRESS_BYTES_MAX: usize = 254;
/// A longer number is no port that somebody mistyped.
const PORT_DIGITS_MAX: usize = 5;

pub(super) fn smtp(text: &str) -> Result<Smtp, Refusal> {
    let expected =
        "write smtps://host (TLS, 465), smtp://host (STARTTLS, 587) or smtp+plain://host (25, own network only)";
    let refuse = |code, message: String| Refusal::new(code, message).hint(expected);
    let Some((scheme, rest)) = text.split_once("://") else {
        // Not repeated: whoever forgets the scheme may also have written user:password@host.
        return Err(refuse(codes::INVALID_SMTP, "a mail server starts with its kind, such as smtps://".to_owned()));
    };
    let (security, default_port) = match scheme {
        "smtps" => (SmtpSecurity::Tls, 465),
        "smtp" => (SmtpSecurity::StartTls, 587),
        "smtp+plain" => (SmtpSecurity::Plain, 25),
        _ => return Err(refuse(codes::INVALID_SMTP, format!("`{}://` is no kind of mail server", shown(scheme)))),
    };
    if rest.contains('@') {
        let message = "a mail server's address must not hold a user or password".to_owned();
        return Err(
            Refusal::new(codes::SMTP_USERINFO, message).hint("write them as `username:` and `password: {file: /path}`")
        );
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = split_port(authority).ok_or_else(|| {
        refuse(codes::INVALID_SMTP, format!("{} is no host with a port", named(authority, is_host_like)))
    })?;
    let port = match port {
        None => default_port,
        Some(port) => match port.parse::<u16>() {
            Ok(port) if port > 0 => port,
            _ => {
                return Err(refuse(
                    codes::INVALID_SMTP,
                    format!("{} is no port (1 to 65535)", named(port, is_port_like)),
                ));
            }
        },
    };
    if !is_host(host) {
        return Err(refuse(codes::INVALID_SMTP, format!("{} is no host name", named(host, is_host_like))));
    }
    if security == SmtpSecurity::Plain && !crate::types::host::is_local(host) {
        let message = format!("mail would go to `{}` in plain text over the internet", shown(host));
        return Err(Refusal::new(codes::SMTP_PLAIN, message).hint(format!("write smtps://{host} or smtp://{host}")));
    }
    Ok(Smtp { security, host: host.to_owned(), port })
}

/// What stands there, repeated only where it can be what it should be: whoever forgets the host behind `user:password`
/// has written the password where the host or the port is looked for.
fn named(text: &str, can_be: impl Fn(&str) -> bool) -> String {
    if can_be(text) { format!("`{}`", shown(text)) } else { "what stands behind `://`".to_owned() }
}

/// A name without a port, or an address of numbers.
fn is_host_like(text: &str) -> bool {
    let is_address = text.bytes().all(|byte| byte.is_ascii_hexdigit() || b":.[]".contains(&byte));
    (is_address && text.contains("::"))
        || text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn is_port_like(text: &str) -> bool {
    text.len() <= PORT_DIGITS_MAX && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A bare address such as `me@home.lan`.
pub(super) fn address(text: &str) -> Result<String, Refusal> {
    let refuse = |why: &str| {
        Refusal::new(codes::INVALID_ADDRESS, format!("`{}` is no mail address: {why}", shown(text)))
            .hint("write for example me@home.lan")
    };
    if text.chars().any(char::is_control) {
        return Err(refuse("it has a control character in it"));
    }
    if text.contains(['<', '>']) {
        return Err(refuse("it has a display name; write only what stands between < and >"));
    }
    if text.len() > ADDRESS_BYTES_MAX {
        return Err(refuse("it is too long"));
    }
    let (user, host) = text.rsplit_once('@').ok_or_else(|| refuse("the `@` is missing"))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+/=?^_`{|}~.-".contains(c);
    if user.is_empty()
        || !user.chars().all(plain)
        || user.starts_with('.')
        || user.ends_with('.')
        || user.contains("..")
    {
        return Err(refuse("what stands before the `@` can not be a mailbox"));
    }
    if !is_host(host) {
        return Err(refuse("what stands behind the `@` is no host"));
    }
    Ok(text.to_owned())
}

/// What servers take as the name of a mail client: a full host name, or an address in brackets (RFC 5321, 4.1.3).
pub(super) fn hello_name(text: &str) -> Result<String, Refusal> {
    if crate::types::host::is_hello_name(text) {
        return Ok(text.to_owned());
    }
    Err(Refusal::new(codes::INVALID_HELLO_NAME, format!("`{}` is no full host name", shown(text)))
        .hint("write a name with its domain such as nas.home.lan, or an address such as [192.168.1.2]"))
}

/// A web address without user and password.
pub(super) fn url(text: &str) -> Result<String, Refusal> {
    let refuse = |why: &str| {
        Refusal::new(codes::INVALID_URL, format!("this is no web address: {why}"))
            .hint("write for example https://larder.lan")
    };
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let rest = rest.ok_or_else(|| refuse("it must start with https:// or http://"))?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return Err(refuse("it must not hold a user or password"));
    }
    let (host, port) = split_port(authority).ok_or_else(|| refuse("the host can not be read"))?;
    if !is_host(host) || port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err(refuse("the host can not be read"));
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace() || matches!(c, '"' | '<' | '>')) {
        return Err(refuse("it has a character that must not stand there"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, after) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        return match after {
            "" => Some((host, None)),
            _ => after.strip_prefix(':').map(|port| (host, Some(port))),
        };
    }
    match authority.split_once(':') {
        Some((_, port)) if port.contains(':') => None,
        Some((host, port)) => Some((host, Some(port))),
        None => Some((authority, None)),
    }
}

/// The host of an address that [`url`] took, without brackets.
pub(super) fn host_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    split_port(rest.split('/').next()?).map(|(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_server_has_a_kind_a_host_and_maybe_a_port() {
        let server = smtp("smtps://mail.lan").ok();
        assert_eq!(server, Some(Smtp { security: SmtpSecurity::Tls, host: "mail.lan".into(), port: 465 }));
        assert_eq!(
            smtp("smtp://10.0.0.2:2525/").ok().map(|s| (s.security, s.port)),
            Some((SmtpSecurity::StartTls, 2525))
        );
        assert_eq!(smtp("smtp+plain://[::1]:25").ok().map(|s| s.host), Some("::1".into()));
        assert!(smtp("smtp+plain://192.168.1.9").is_ok());
        for bad in [
            "mail.lan",
            "http://mail.lan",
            "smtps://",
            "smtps://u:p@mail.lan",
            "smtps://mail.lan:0",
            "smtps://mail.lan:x",
            "smtps://a b",
            "smtp+plain://mail.example.com",
            "smtp+plain://8.8.8.8",
            "smtps://a:1:2",
            "smtps://mail.lan/x",
        ] {
            assert!(smtp(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_refused_mail_server_never_repeats_its_password() {
        for bad in [
            "smtps://me:hunter2@mail.lan",
            "me:hunter2@mail.lan",
            "smtps://me:hunter2:587",
            "smtps://me:hunter2",
            "smtps://me:12345678",
            "smtps://me:hun/ter2:587",
            "smtps://me%3Ahunter2%40mail.lan",
            "smtps://me hunter2:587",
        ] {
            let refusal = smtp(bad).unwrap_err();
            assert!(!refusal.message.contains("ter2") && !refusal.message.contains("12345678"), "{}", refusal.message);
        }
        for (bad, seen) in [
            ("smtps://mail.lan:99999", "`99999` is no port"),
            ("smtps://-mail.lan", "`-mail.lan` is no host name"),
            ("smtps://fe80::1:587", "`fe80::1:587` is no host with a port"),
        ] {
            assert!(smtp(bad).unwrap_err().message.contains(seen), "{bad}");
        }
    }

    #[test]
    fn addresses_can_not_carry_a_header() {
        for good in ["me@home.lan", "a.b+c@x", "larder@192.168.1.2"] {
            assert!(address(good).is_ok(), "{good}");
        }
        for bad in ["me", "@x", "me@", "me@x\nBcc: all@x", "Me <me@x>", "a b@x", "a..b@x", "me@-x", "a@b@c d"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_web_address_holds_no_password() {
        assert_eq!(url("https://larder.lan/").ok(), Some("https://larder.lan".into()));
        for bad in ["larder.lan", "https://", "https://u:p@x", "javascript:alert(1)", "https://x\"y", "https://x y"] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }
}
