//! Files that are other programs': a Compose file in the watched repository is no mistake of whoever wrote it.
//!
//! Only a file of which no document says a kind of Larder's is judged, so that no mistake in a real one is hidden.

use crate::config::raw::KINDS;

/// What the file most likely is, in words; none when it may well be meant for Larder.
pub(super) fn what(path: &str, text: &str) -> Option<&'static str> {
    if text.trim().is_empty() || text.lines().any(says_our_kind) {
        return None;
    }
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    let stem = name.strip_suffix(".yaml").or_else(|| name.strip_suffix(".yml")).unwrap_or(&name);
    let has = |field: &str| text.lines().any(|line| line.strip_prefix(field).is_some_and(|rest| rest.starts_with(':')));
    match () {
        () if has("services")
            || stem == "compose"
            || stem.starts_with("compose.")
            || stem.contains("docker-compose") =>
        {
            Some("a Compose file")
        }
        () if has("apiVersion") => Some("a Kubernetes manifest"),
        () if has("creation_rules") => Some("a config of SOPS"),
        () if has("scrape_configs") || has("groups") => Some("a config of Prometheus"),
        () if has("homeassistant") => Some("a config of Home Assistant"),
        () if text.lines().any(|line| line.starts_with("- hosts:")) => Some("a playbook of Ansible"),
        () => None,
    }
}

/// The next step for a file that is not Larder's.
pub(super) const HINT: &str = "keep Larder's files in a directory of their own, such as larder/, start the daemon with \
    `larder serve --root larder`, and tell the hooks: `git -C REPOSITORY config larder.root larder`";

/// A line `kind: Target`, also with quotes, a comment or in other letters.
fn says_our_kind(line: &str) -> bool {
    let Some((field, value)) = line.split_once(':') else { return false };
    let value = value.split(" #").next().unwrap_or_default().trim().trim_matches(['"', '\'']);
    field.trim_matches(['"', '\'']).eq_ignore_ascii_case("kind")
        && KINDS.iter().any(|kind| kind.eq_ignore_ascii_case(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_other_programs_are_known_by_their_fields_or_names() {
        for (path, text, known) in [
            ("stacks/web/docker-compose.yml", "x-a: &a {}\n", Some("a Compose file")),
            ("compose.yaml", "name: shop\n", Some("a Compose file")),
            ("compose.override.yaml", "x: {}\n", Some("a Compose file")),
            ("web.yml", "services:\n  web: {image: nginx}\n", Some("a Compose file")),
            ("k8s.yaml", "apiVersion: v1\nkind: Deployment\n", Some("a Kubernetes manifest")),
            ("prometheus.yml", "scrape_configs: []\n", Some("a config of Prometheus")),
            ("site.yml", "- hosts: all\n", Some("a playbook of Ansible")),
        ] {
            assert_eq!(what(path, text), known, "{path}");
        }
    }

    #[test]
    fn a_document_of_ours_is_never_taken_for_something_else() {
        for (path, text) in [
            ("compose.yaml", "kind: Target\nname: x\nservices: []\n"),
            ("a.yaml", "services: []\n---\n\"kind\": 'target' # lower case\n"),
            ("targets.yaml", "name: photos\nplugin: files\n"),
            ("a.yaml", "  services: nested\n"),
            ("compose.yaml", "\n"),
        ] {
            assert_eq!(what(path, text), None, "{text}");
        }
    }
}
