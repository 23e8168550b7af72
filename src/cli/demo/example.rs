//! The example config of `policies/`, on the demo's own paths and without what a demo has not: the mounts, the mail
//! server, the services of a real machine.

use std::path::Path;

/// Every file of `policies/`, as a user would copy it.
const FILES: &[(&str, &str)] = &[
    ("site.yaml", include_str!("../../../policies/site.yaml")),
    ("destinations/nas.yaml", include_str!("../../../policies/destinations/nas.yaml")),
    (POLICY_FILE, include_str!("../../../policies/policies/policies.yaml")),
    ("targets/databases.yaml", include_str!("../../../policies/targets/databases.yaml")),
    ("targets/files.yaml", include_str!("../../../policies/targets/files.yaml")),
];

/// The file that the demo breaks and mends.
pub(super) const POLICY_FILE: &str = "policies/policies.yaml";

/// The target that the demo restores.
pub(super) const FILES_TARGET: &str = "photos";

/// The target that needs the demo's cluster.
const POSTGRES_TARGET: &str = "paperless-db";

/// The targets that the demo has data for.
const TARGETS: &[&str] = &[FILES_TARGET, "vaultwarden", POSTGRES_TARGET];

/// Between two documents of a file.
const SEPARATOR: &str = "\n---\n";

/// The demo's files: the example's documents that it has something for, on its own paths.
pub(super) fn files(root: &Path, postgres: Option<u16>) -> Vec<(&'static str, String)> {
    let mut files = Vec::new();
    for (name, text) in FILES {
        let kept: Vec<String> = text
            .split(SEPARATOR)
            .filter(|document| is_wanted(document, postgres.is_some()))
            .map(|document| localize(document, root, postgres))
            .collect();
        files.push((*name, format!("{}\n", kept.join(SEPARATOR).trim_end())));
    }
    files
}

fn is_wanted(document: &str, postgres: bool) -> bool {
    let field = |name: &str| document.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    match (field("kind:"), field("name:")) {
        (Some("Target"), Some(POSTGRES_TARGET)) => postgres,
        (Some("Target"), name) => name.is_some_and(|name| TARGETS.contains(&name)),
        _ => true,
    }
}

fn localize(document: &str, root: &Path, postgres: Option<u16>) -> String {
    let root = root.display().to_string();
    let mut lines: Vec<String> = Vec::new();
    // What a file says on top is for who copies it.
    let top = document.lines().take_while(|line| line.starts_with('#') || line.trim().is_empty()).count();
    for line in document.lines().skip(top) {
        // The mail server and what follows is the end of the site's document.
        if line.starts_with("# Mails say") {
            break;
        }
        if line.trim_start().starts_with("require_mount:") || line.contains("the share is not mounted") {
            continue;
        }
        lines.push(line.to_owned());
    }
    let host = format!("host: 127.0.0.1\n  port: {}", postgres.unwrap_or(5432));
    lines
        .join("\n")
        .replace("path: /backups", &format!("path: {root}/backups"))
        .replace("min_free: 10GiB", "min_free: 64MiB")
        .replace("/mnt/nas/restic", &format!("{root}/restic/nas"))
        .replace("/mnt/usb/restic", &format!("{root}/restic/usb-disk"))
        .replace("/etc/larder/", &format!("{root}/secrets/"))
        .replace("/srv/photos", &format!("{root}/srv/photos"))
        .replace("/srv/vaultwarden/", &format!("{root}/srv/vaultwarden/"))
        .replace("host: db.home.lan", &host)
}

/// Two mistakes of the kind that people make.
pub(super) fn break_policy(text: &str) -> String {
    text.replacen("retention:", "retantion:", 1).replacen("\"0 2 * * *\"", "\"0 2 * *\"", 1)
}

/// The change that was meant.
pub(super) fn change_policy(text: &str) -> String {
    text.replacen("daily: 7", "daily: 14", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_put_on_the_demos_paths_and_nothing_of_the_real_machine_is_left() {
        let files = files(Path::new("/tmp/demo"), Some(5555));
        let all: String = files.iter().map(|(_, text)| text.as_str()).collect();
        for gone in ["/mnt/", "/etc/", " /srv/", "home.lan\n", "systemctl", "smtp", "10GiB"] {
            assert!(!all.contains(gone), "{gone:?} is left in\n{all}");
        }
        for there in
            ["/tmp/demo/restic/nas", "/tmp/demo/srv/photos", "name: vaultwarden", "port: 5555", "/tmp/demo/secrets/"]
        {
            assert!(all.contains(there), "{there:?} is missing in\n{all}");
        }
        let policies = files.iter().find(|(name, _)| *name == POLICY_FILE).map(|(_, text)| text.clone()).unwrap();
        assert_ne!(break_policy(&policies), policies);
        assert_ne!(change_policy(&policies), policies);
        let without: String = super::files(Path::new("/tmp/demo"), None).into_iter().map(|(_, text)| text).collect();
        assert!(!without.contains("paperless"));
    }
}
