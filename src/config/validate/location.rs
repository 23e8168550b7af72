//! A repository that is written as restic's `-r` takes it: the mapping that says the same.

use serde_json::{Map, Value as Json};

/// The mapping to write in the place of `text`; none where no repository is wanted, or it names none.
pub(super) fn mapping(text: &str, schemas: &[&Map<String, Json>]) -> Option<String> {
    let is_of_s3 = |schema: &&Map<String, Json>| {
        schema.get("properties").and_then(|fields| fields.pointer("/type/const")) == Some(&Json::from("s3"))
    };
    if !schemas.iter().any(is_of_s3) {
        return None;
    }
    let text = text.trim();
    let (scheme, rest) = match text.split_once(':') {
        Some((scheme, rest)) if !text.starts_with('/') => (scheme, rest),
        _ => ("local", text),
    };
    let mapping = match scheme {
        "local" if rest.starts_with('/') => format!("{{type: local, path: {}}}", plain(rest)?),
        "s3" => s3(rest)?,
        "sftp" => sftp(rest)?,
        "rest" => format!("{{type: rest, url: \"{}\", user: USER, password: {{file: /path}}}}", plain(&bare(rest))?),
        "b2" => {
            "{type: s3, endpoint: \"https://s3.REGION.backblazeb2.com\", bucket: BUCKET, access_key: {file: /path}, \
                 secret_key: {file: /path}}"
                .to_owned()
        }
        _ => return None,
    };
    Some(format!("write `repository: {mapping}`"))
}

/// `https://HOST/BUCKET/PREFIX`, or the same without the scheme.
fn s3(rest: &str) -> Option<String> {
    let (scheme, rest) = match rest.split_once("://") {
        Some((scheme, rest)) => (scheme, rest),
        None => ("https", rest.trim_start_matches('/')),
    };
    let rest = rest.rsplit_once('@').map_or(rest, |(_, behind)| behind);
    let mut parts = rest.trim_matches('/').splitn(3, '/');
    let (host, bucket) = (plain(parts.next()?)?, plain(parts.next().unwrap_or("BUCKET"))?);
    let prefix = match parts.next() {
        Some(prefix) => format!(", prefix: {}", plain(prefix)?),
        None => String::new(),
    };
    Some(format!(
        "{{type: s3, endpoint: \"{scheme}://{host}\", bucket: {bucket}{prefix}, access_key: {{file: /path}}, secret_key: {{file: \
         /path}}}}"
    ))
}

/// `USER@HOST:/PATH` or `//USER@HOST:PORT//PATH`.
fn sftp(rest: &str) -> Option<String> {
    let (login, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_once('/')?,
        None => rest.split_once(':')?,
    };
    let (user, host) = login.rsplit_once('@').unwrap_or(("USER", login));
    let user = user.split(':').next().unwrap_or_default();
    let (host, port) = match host.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, format!(", port: {port}")),
        _ => (host, String::new()),
    };
    let path = if path.starts_with('/') { plain(path)?.to_owned() } else { format!("/home/{user}/{}", plain(path)?) };
    Some(format!(
        "{{type: sftp, host: {}{port}, user: {}, path: {path}, known_hosts: [\"…\"], key: {{file: /path}}}}",
        plain(host)?,
        plain(user)?
    ))
}

/// Without user and password, which may stand in an address and must not be repeated.
fn bare(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, behind)| behind);
    format!("{scheme}://{}", rest.trim_end_matches('/'))
}

/// What can stand in a mapping as it is.
fn plain(text: &str) -> Option<&str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "/._-:[]".contains(c);
    (!text.is_empty() && text.len() <= 200 && text.chars().all(fits)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Option<String> {
        let schema = serde_json::json!({"properties": {"type": {"const": "s3"}}});
        mapping(text, &[schema.as_object().unwrap()])
    }

    #[test]
    fn what_restic_takes_is_told_as_a_mapping_without_its_password() {
        for (text, told_of) in [
            ("/mnt/nas/restic", "{type: local, path: /mnt/nas/restic}"),
            (
                "s3:https://s3.lan:9000/backups/home/a",
                "endpoint: \"https://s3.lan:9000\", bucket: backups, prefix: home/a",
            ),
            ("s3:s3.amazonaws.com/backups", "endpoint: \"https://s3.amazonaws.com\", bucket: backups"),
            ("sftp:me@nas.lan:/srv/restic", "host: nas.lan, user: me, path: /srv/restic"),
            ("sftp:me@nas.lan:restic", "path: /home/me/restic"),
            ("sftp://me@nas.lan:2222//srv/restic", "host: nas.lan, port: 2222, user: me, path: /srv/restic"),
            ("rest:https://me:hunter2@nas.lan:8000/home/", "url: \"https://nas.lan:8000/home\""),
            ("b2:bucket:path", "backblazeb2.com"),
        ] {
            let hint = told(text).unwrap();
            assert!(hint.contains(told_of) && !hint.contains("hunter2"), "{text}: {hint}");
        }
        for other in ["azure:x:/", "nas", "", "sftp:nas", "s3:https://h/b{}/x"] {
            assert_eq!(told(other), None, "{other}");
        }
        assert_eq!(mapping("/mnt/nas", &[]), None);
    }
}
