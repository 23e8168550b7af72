//! `.sops.yaml`: for whom a new file is encrypted, and what of it. The first rule whose `path_regex` fits is taken. Pure.

use regex_lite::Regex;
use serde::Deserialize;

use super::sops::RawRules;
use super::sops::edit::Creation;

/// The name of the file with the rules.
pub const FILE: &str = ".sops.yaml";

/// Says why a rule cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreationError {
    #[error("it cannot be read as rules of SOPS")]
    Unreadable,
    #[error("the expression {0:?} cannot be read")]
    Regex(String),
    #[error("no rule of it fits {0}")]
    NoRule(String),
    #[error("the rule for {0} has keys that are not of age ({1}), which only `sops` can write")]
    OtherKeys(String, String),
    #[error("the rule for {0} names no age recipient")]
    NoRecipient(String),
}

#[derive(Deserialize)]
struct Rules {
    #[serde(default)]
    creation_rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    #[serde(default)]
    path_regex: String,
    #[serde(default)]
    age: Recipients,
    #[serde(default)]
    key_groups: Vec<Group>,
    #[serde(default)]
    mac_only_encrypted: bool,
    #[serde(flatten)]
    rules: RawRules,
    #[serde(flatten)]
    others: std::collections::BTreeMap<String, serde_yaml::Value>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    age: Recipients,
    #[serde(flatten)]
    others: std::collections::BTreeMap<String, serde_yaml::Value>,
}

/// A list, or a text with commas.
#[derive(Deserialize, Default)]
#[serde(untagged)]
enum Recipients {
    #[default]
    None,
    Text(String),
    List(Vec<String>),
}

impl Recipients {
    fn all(&self) -> Vec<String> {
        let parts: Vec<&str> = match self {
            Self::None => Vec::new(),
            Self::Text(text) => text.split(',').collect(),
            Self::List(list) => list.iter().map(String::as_str).collect(),
        };
        parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }
}

/// What the rules say about a file at `path`, relative to where the rules lie.
///
/// # Errors
/// When no rule fits, or the one that does needs more than age.
pub fn rule(text: &str, path: &str) -> Result<Creation, CreationError> {
    let rules: Rules = serde_yaml::from_str(text).map_err(|_| CreationError::Unreadable)?;
    for rule in rules.creation_rules {
        let regex = Regex::new(&rule.path_regex)
            .map_err(|_| CreationError::Regex(rule.path_regex.chars().take(80).collect()))?;
        if !regex.is_match(path) {
            continue;
        }
        let keys = ["kms", "pgp", "gcp_kms", "hckms", "azure_keyvault", "hc_vault_transit_uri", "hc_vault", "plugins"];
        let groups = rule.key_groups.iter().flat_map(|group| group.others.keys());
        let other: Vec<&str> =
            rule.others.keys().chain(groups).map(String::as_str).filter(|key| keys.contains(key)).collect();
        if !other.is_empty() || rule.key_groups.len() > 1 {
            let what = if other.is_empty() { "several groups".to_owned() } else { other.join(", ") };
            return Err(CreationError::OtherKeys(path.to_owned(), what));
        }
        let mut recipients = rule.age.all();
        recipients.extend(rule.key_groups.iter().flat_map(|group| group.age.all()));
        if recipients.is_empty() {
            return Err(CreationError::NoRecipient(path.to_owned()));
        }
        return Ok(Creation { recipients, rules: rule.rules, mac_only_encrypted: rule.mac_only_encrypted });
    }
    Err(CreationError::NoRule(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "
creation_rules:
  - path_regex: ^prod/.*\\.sops\\.yaml$
    age: age1a, age1b
    encrypted_regex: ^(password|token)$
    mac_only_encrypted: true
  - path_regex: pgp/
    pgp: ABCD
  - path_regex: groups/
    key_groups:
      - age: [age1c]
  - age: [age1d]
";

    #[test]
    fn the_first_rule_that_fits_the_path_is_taken() {
        let prod = rule(RULES, "prod/db.sops.yaml").unwrap();
        assert_eq!(prod.recipients, ["age1a", "age1b"]);
        assert_eq!(prod.rules.encrypted_regex.as_deref(), Some("^(password|token)$"));
        assert!(prod.mac_only_encrypted);
        assert_eq!(rule(RULES, "groups/x.sops.yaml").unwrap().recipients, ["age1c"]);
        assert_eq!(rule(RULES, "secrets/x.sops.yaml").unwrap().recipients, ["age1d"]);
    }

    #[test]
    fn a_rule_that_age_cannot_follow_is_told() {
        assert!(matches!(rule(RULES, "pgp/x.sops.yaml"), Err(CreationError::OtherKeys(..))));
        assert_eq!(rule("creation_rules: []", "a"), Err(CreationError::NoRule("a".to_owned())));
        assert_eq!(rule("creation_rules: [{path_regex: '('}]", "a"), Err(CreationError::Regex("(".to_owned())));
        assert_eq!(rule("creation_rules: 1", "a"), Err(CreationError::Unreadable));
        assert_eq!(rule("creation_rules: [{}]", "a"), Err(CreationError::NoRecipient("a".to_owned())));
    }
}
