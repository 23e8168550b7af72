//! Where a repository lies.

use super::values::Refusal;
use super::{Checker, mail, values};
use crate::config::model::{
    BucketStyle, LocalRepository, Repository, RestRepository, S3Repository, SftpRepository, Tls,
};
use crate::config::raw::{RawArgument, RawBucketStyle, RawRepository, RawTls};
use crate::config::suggest::shown;
use crate::error::codes;
use crate::secret::SecretRef;
use crate::types::host;

/// What most servers but AWS take for their region.
const REGION: &str = "us-east-1";
const SSH_PORT: u16 = 22;
/// Longest name of a bucket.
const BUCKET_BYTES_MAX: usize = 63;

const AT: &str = "repository";

pub(super) fn check(checker: &mut Checker<'_>, raw: RawRepository) -> Option<Repository> {
    match raw {
        RawRepository::Local { path, require_mount, create } => {
            let path = checker.take(&[AT, "path"], values::path(&path.0));
            let require_mount = checker.maybe(&[AT, "require_mount"], require_mount.map(|text| values::path(&text.0)));
            if let (Some(path), Some(mount)) = (&path, &require_mount)
                && !path.starts_with(mount)
            {
                let message = format!("`{}` does not lie below `{}`", path.display(), mount.display());
                let refusal = Refusal::new(codes::MOUNT_ELSEWHERE, message);
                let hint = "`require_mount` names the mount point that the repository lies in";
                checker.take::<()>(&[AT, "require_mount"], Err(refusal.hint(hint)));
            }
            let create = create.unwrap_or(false);
            // Without what says nothing, so that one directory is one whatever slashes it is written with.
            let path = path.map(|path| path.components().collect());
            Some(Repository::Local(LocalRepository { path: path?, require_mount, create }))
        }
        RawRepository::S3 { endpoint, bucket, prefix, region, style, access_key, secret_key, tls, allow_http } => {
            let allow_http = allow_http.unwrap_or(false);
            let endpoint = url(checker, "endpoint", &endpoint.0, allow_http).filter(|url| {
                let bare = url.split_once("://").is_some_and(|(_, rest)| !rest.contains('/'));
                if !bare {
                    let refusal = Refusal::new(codes::INVALID_URL, "this is no address of a server: it has a path");
                    let hint = "write https://HOST[:PORT]; the bucket has a field of its own";
                    checker.take::<()>(&[AT, "endpoint"], Err(refusal.hint(hint)));
                }
                bare
            });
            let bucket = checker.take(&[AT, "bucket"], self::bucket(&bucket.0));
            let prefix = checker.maybe(&[AT, "prefix"], prefix.map(|text| self::prefix(&text.0)));
            let region = checker.maybe(&[AT, "region"], region.map(|text| word(&text.0, "region")));
            let tls = self::tls(checker, tls);
            let endpoint = endpoint?;
            let bucket = bucket?;
            // A certificate for `*.HOST` is for no name with another dot in it.
            let dotted = bucket.contains('.') && endpoint.starts_with("https://");
            let by_address = mail::host_of(&endpoint).is_some_and(|host| host.parse::<std::net::IpAddr>().is_ok());
            let style = match style {
                Some(RawBucketStyle::Virtual) => BucketStyle::Virtual,
                None if endpoint.ends_with(".amazonaws.com") && !dotted => BucketStyle::Virtual,
                Some(RawBucketStyle::Path) | None => BucketStyle::Path,
            };
            if style == BucketStyle::Virtual && (dotted || by_address) {
                let why = if dotted { "the bucket has a dot in its name" } else { "the endpoint is an address" };
                let refusal = Refusal::new(codes::INVALID_STORAGE, format!("`style: virtual` cannot work: {why}"));
                checker.take::<()>(&[AT, "style"], Err(refusal.hint("write `style: path`")));
            }
            Some(Repository::S3(S3Repository {
                endpoint,
                bucket,
                prefix: prefix.unwrap_or_default(),
                region: region.unwrap_or_else(|| REGION.to_owned()),
                style,
                access_key,
                secret_key,
                tls,
                allow_http,
            }))
        }
        RawRepository::Sftp { host, port, user, path, known_hosts, key, password } => {
            let host = checker.take(&[AT, "host"], self::host(&host.0));
            let user = checker.take(&[AT, "user"], word(&user.0, "user"));
            let path = checker.take(&[AT, "path"], values::path(&path.0).and_then(|path| remote_path(&path)));
            let known_hosts = self::known_hosts(checker, &known_hosts);
            one_login(checker, key.as_ref(), password.as_ref());
            Some(Repository::Sftp(SftpRepository {
                host: host?,
                port: port.unwrap_or(SSH_PORT),
                user: user?,
                path: path?,
                known_hosts,
                key,
                password,
            }))
        }
        RawRepository::Rest { url, user, password, tls, allow_http } => {
            let allow_http = allow_http.unwrap_or(false);
            let url = self::url(checker, "url", &url.0, allow_http);
            let user = checker.maybe(&[AT, "user"], user.map(|text| word(&text.0, "user")));
            let tls = self::tls(checker, tls);
            if user.is_some() != password.is_some() {
                let (there, missing) = if user.is_some() { ("user", "password") } else { ("password", "user") };
                let message = format!("`repository` has a `{there}` but no `{missing}`");
                let refusal = Refusal::new(codes::HALF_A_LOGIN, message);
                let hint = format!("add the `{missing}`, or delete the `{there}`");
                checker.take::<()>(&[AT, there], Err(refusal.hint(hint)));
            }
            Some(Repository::Rest(RestRepository { url: url?, user, password, tls, allow_http }))
        }
    }
}

/// An address without a query; credentials go over plain HTTP within the own network only, unless it is said.
fn url(checker: &mut Checker<'_>, field: &str, text: &str, allow_http: bool) -> Option<String> {
    let url = checker.take(&[AT, field], mail::url(text).map(|url| one_way_to_write(&url)))?;
    let refusal = if url.contains(['?', '#']) {
        Refusal::new(codes::INVALID_URL, "this is no address of a storage: it has a `?` or `#`")
            .hint("write it without what stands behind")
    } else if let Some(host) = mail::host_of(&url).filter(|host| url.starts_with("http://") && !host::is_local(host)) {
        if allow_http {
            return Some(url);
        }
        Refusal::new(codes::CLEAR_TEXT, format!("credentials would go to `{}` in clear text", shown(host)))
            .hint("use https, or say `allow_http: true` when the way there is safe (a VPN)")
    } else {
        return Some(url);
    };
    checker.take(&[AT, field], Err(refusal))
}

/// With a host in small letters and without a port that goes without saying, so that one server is one.
fn one_way_to_write(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_once('/').map_or((rest, None), |(authority, path)| (authority, Some(path)));
    let usual = if scheme == "https" { ":443" } else { ":80" };
    let authority = authority.strip_suffix(usual).unwrap_or(authority).to_ascii_lowercase();
    match path {
        Some(path) => format!("{scheme}://{authority}/{path}"),
        None => format!("{scheme}://{authority}"),
    }
}

/// A path that restic, which takes it as a part of an address, reads as it is written.
fn remote_path(path: &std::path::Path) -> Result<String, Refusal> {
    let text = path.components().collect::<std::path::PathBuf>().display().to_string();
    match text.chars().find(|c| "%?#\"\\".contains(*c)) {
        None => Ok(text),
        Some(odd) => Err(Refusal::new(codes::INVALID_PATH, format!("`{}` has `{odd}` in it", shown(&text)))
            .hint("restic takes the path as a part of an address: use a directory without % ? # \" and \\")),
    }
}

fn tls(checker: &mut Checker<'_>, raw: Option<RawTls>) -> Tls {
    let raw = raw.unwrap_or_default();
    let ca = checker.maybe(&[AT, "tls", "ca"], raw.ca.map(|text| values::path(&text.0)));
    let fingerprint = checker.maybe(&[AT, "tls", "fingerprint"], raw.fingerprint.map(|text| fingerprint(&text.0)));
    if ca.is_some() && fingerprint.is_some() {
        let refusal = Refusal::new(codes::BAD_TLS, "`tls` has both a `ca` and a `fingerprint`");
        checker.take::<()>(&[AT, "tls"], Err(refusal.hint("keep one of them")));
    }
    Tls { ca, fingerprint }
}

/// SHA-256 in hex, with or without colons, as lower-case digits.
fn fingerprint(text: &str) -> Result<String, Refusal> {
    let digits: String = text.chars().filter(|c| !matches!(c, ':' | ' ')).collect::<String>().to_ascii_lowercase();
    if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(digits);
    }
    Err(Refusal::new(codes::BAD_TLS, format!("`{}` is no SHA-256 fingerprint of a certificate", shown(text)))
        .hint("64 hex digits: `openssl x509 -noout -fingerprint -sha256 -in CERTIFICATE`"))
}

/// Text without blanks, control characters and what an option begins with.
fn word(text: &str, what: &str) -> Result<String, Refusal> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || "/:@\"'\\%?#$`".contains(c);
    if text.starts_with('-') || text.chars().any(odd) {
        let message = format!("`{}` can not be the {what}", shown(text));
        return Err(Refusal::new(codes::INVALID_STORAGE, message)
            .hint("write it without blanks, quotes and `/:@%?#$`, and not with `-` at its beginning"));
    }
    Ok(text.to_owned())
}

fn bucket(text: &str) -> Result<String, Refusal> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    let ends = |edge: Option<&u8>| edge.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let fits = (3..=BUCKET_BYTES_MAX).contains(&text.len())
        && bytes.iter().copied().all(plain)
        && ends(bytes.first())
        && ends(bytes.last())
        && !text.contains("..");
    if fits {
        return Ok(text.to_owned());
    }
    Err(Refusal::new(codes::INVALID_STORAGE, format!("`{}` can not be the name of a bucket", shown(text)))
        .hint("3 to 63 characters: lower-case letters, digits, `-` and `.`; what lies below is the `prefix`"))
}

/// A part of a bucket, without slashes at its ends.
fn prefix(text: &str) -> Result<String, Refusal> {
    let trimmed = text.trim_matches('/');
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    let parts = || trimmed.split('/');
    if !trimmed.chars().all(plain) || parts().any(|part| part.is_empty() || part == "." || part == "..") {
        return Err(Refusal::new(codes::INVALID_STORAGE, format!("`{}` can not be a prefix", shown(text)))
            .hint("letters, digits, `.`, `_` and `-`, with single slashes between, such as home/restic"));
    }
    Ok(trimmed.to_owned())
}

fn host(text: &str) -> Result<String, Refusal> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if host::is_host(bare) {
        return Ok(bare.to_ascii_lowercase());
    }
    Err(Refusal::new(codes::INVALID_STORAGE, format!("`{}` is no host name or address", shown(text)))
        .hint("write the host alone, such as nas.lan; `user`, `port` and `path` have fields of their own"))
}

/// The kinds of keys that OpenSSH writes.
const KEY_TYPES: [&str; 7] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

/// `TYPE BASE64` of each line, whatever host stands before it and whatever comment behind.
fn known_hosts(checker: &mut Checker<'_>, lines: &[RawArgument]) -> Vec<String> {
    let mut keys = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let index = index.to_string();
        keys.extend(checker.take(&[AT, "known_hosts", &index], host_key(&line.0)));
    }
    keys
}

fn host_key(line: &str) -> Result<String, Refusal> {
    if line.trim_start().starts_with(['@', '#']) {
        let message = format!("`{}` does not say that a key is trusted", shown(line));
        return Err(Refusal::new(codes::INVALID_STORAGE, message)
            .hint("write the host's own keys: lines with a marker (`@revoked`, `@cert-authority`) and comments say something else"));
    }
    let mut words = line.split_whitespace().skip_while(|word| !KEY_TYPES.contains(word));
    let is_key = |data: &&str| {
        data.starts_with("AAAA") && data_encoding::BASE64.decode(data.as_bytes()).is_ok_and(|bytes| bytes.len() > 32)
    };
    match (words.next(), words.next().filter(is_key)) {
        (Some(kind), Some(data)) => Ok(format!("{kind} {data}")),
        _ => Err(Refusal::new(codes::INVALID_STORAGE, format!("`{}` is no public key of a host", shown(line)))
            .hint("run `ssh-keyscan HOST`, compare with the host's own, and write a line of it: `ssh-ed25519 AAAA…`")),
    }
}

fn one_login(checker: &mut Checker<'_>, key: Option<&SecretRef>, password: Option<&SecretRef>) {
    let (message, hint) = match (key, password) {
        (None, None) => ("`repository` has neither a `key` nor a `password`", "add `key: {file: /path/to/id_ed25519}`"),
        (Some(_), Some(_)) => ("`repository` has both a `key` and a `password`", "delete one of them"),
        _ => return,
    };
    checker.take::<()>(&[AT], Err(Refusal::new(codes::HALF_A_LOGIN, message).hint(hint)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_a_prefix_and_a_word_are_what_an_address_and_an_option_can_hold() {
        for good in ["abc", "my-backups", "a.b.c", "0-9"] {
            assert!(bucket(good).is_ok(), "{good}");
        }
        for bad in ["ab", "My-Backups", "a_b", "-ab", "ab-", "a..b", "a/b", "", &"a".repeat(64)] {
            assert!(bucket(bad).is_err(), "{bad}");
        }
        assert_eq!(prefix("/home/restic/").ok().as_deref(), Some("home/restic"));
        for bad in ["", "/", "a//b", "a/../b", "a b", "a?b", "ä"] {
            assert!(prefix(bad).is_err(), "{bad}");
        }
        for bad in ["-oProxyCommand=x", "a b", "a@b", "a:b", "a/b", "a\nb", "a'b"] {
            assert!(word(bad, "user").is_err(), "{bad}");
        }
        for bad in ["-oProxyCommand=x", "a b", "me@nas", "nas:22", "nas/x", ""] {
            assert!(host(bad).is_err(), "{bad}");
        }
        assert_eq!(host("[fd00::1]").ok().as_deref(), Some("fd00::1"));
    }

    #[test]
    fn a_host_key_is_taken_from_whatever_stands_around_it() {
        let data = "AAAAC3NzaC1lZDI1NTE5AAAAIJ7X0S3zT3m0r9y0n0T2g0a1b2c3d4e5f6g7h8i9j0kl";
        let key = format!("ssh-ed25519 {data}");
        for line in [key.clone(), format!("nas.lan {key}"), format!("[nas.lan]:2222 {key} root@nas")] {
            assert_eq!(host_key(&line).ok(), Some(key.clone()), "{line}");
        }
        let (revoked, comment) = (format!("@revoked nas.lan {key}"), format!("# nas.lan {key}"));
        for bad in [revoked.as_str(), &comment, "@cert-authority *.lan ssh-ed25519 AAAA"] {
            assert!(host_key(bad).is_err(), "{bad}");
        }
        for bad in ["", "ssh-ed25519", "ssh-ed25519 x", "nas.lan", "ssh-dss AAAAB3NzaC1kc3M=", "SHA256:abc"] {
            assert!(host_key(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_server_and_one_directory_are_one_however_they_are_written() {
        for (written, one) in [
            ("https://NAS.lan:443", "https://nas.lan"),
            ("http://nas.lan:80/Home", "http://nas.lan/Home"),
            ("https://nas.lan:80", "https://nas.lan:80"),
            ("https://[fd00::1]:443/a", "https://[fd00::1]/a"),
        ] {
            assert_eq!(one_way_to_write(written), one, "{written}");
        }
        let path = |text: &str| remote_path(std::path::Path::new(text)).ok();
        assert_eq!(path("/srv//restic/").as_deref(), Some("/srv/restic"));
        for bad in ["/a%201", "/a#1", "/a?b", "/a\"b"] {
            assert_eq!(path(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_fingerprint_is_read_as_tools_print_it() {
        let wanted = Some("ab".repeat(32));
        assert_eq!(fingerprint(&vec!["AB"; 32].join(":")).ok(), wanted);
        assert_eq!(fingerprint(&"ab".repeat(32)).ok(), wanted);
        assert!(fingerprint("abcd").is_err());
    }
}
