//! Which values of a file are encrypted, by the rule that the file itself names. Pure.

use regex_lite::Regex;

use super::SopsError;

/// What SOPS leaves readable when a file names no rule.
const UNENCRYPTED_SUFFIX: &str = "_unencrypted";

/// The rule as it is written in a file's metadata or in `.sops.yaml`; at most one of them is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default)]
pub struct RawRules {
    pub unencrypted_suffix: Option<String>,
    pub encrypted_suffix: Option<String>,
    pub unencrypted_regex: Option<String>,
    pub encrypted_regex: Option<String>,
    pub unencrypted_comment_regex: Option<String>,
    pub encrypted_comment_regex: Option<String>,
}

/// The rule, ready to be asked.
#[derive(Clone, Debug)]
pub(super) enum Rules {
    ButSuffix(String),
    OnlySuffix(String),
    ButRegex(Regex),
    OnlyRegex(Regex),
    /// By comments, which are not read here: what looks encrypted is.
    ByLooks,
}

impl RawRules {
    /// Name and value of what is set.
    pub(super) fn named(&self) -> Vec<(&'static str, &str)> {
        let all = [
            ("unencrypted_suffix", &self.unencrypted_suffix),
            ("encrypted_suffix", &self.encrypted_suffix),
            ("unencrypted_regex", &self.unencrypted_regex),
            ("encrypted_regex", &self.encrypted_regex),
            ("unencrypted_comment_regex", &self.unencrypted_comment_regex),
            ("encrypted_comment_regex", &self.encrypted_comment_regex),
        ];
        let set = |(name, value): (&'static str, &'_ Option<String>)| {
            value.as_deref().filter(|value| !value.is_empty()).map(|_| name)
        };
        let names: Vec<&'static str> = all.into_iter().filter_map(set).collect();
        names.into_iter().filter_map(|name| Some((name, self.value(name)?))).collect()
    }

    fn value(&self, name: &str) -> Option<&str> {
        match name {
            "unencrypted_suffix" => self.unencrypted_suffix.as_deref(),
            "encrypted_suffix" => self.encrypted_suffix.as_deref(),
            "unencrypted_regex" => self.unencrypted_regex.as_deref(),
            "encrypted_regex" => self.encrypted_regex.as_deref(),
            "unencrypted_comment_regex" => self.unencrypted_comment_regex.as_deref(),
            _ => self.encrypted_comment_regex.as_deref(),
        }
    }

    /// # Errors
    /// When more than one is set, or an expression cannot be read.
    pub(super) fn ready(&self) -> Result<Rules, SopsError> {
        let set = self.named();
        let regex =
            |text: &str| Regex::new(text).map_err(|_| SopsError::Regex { regex: text.chars().take(80).collect() });
        match set.as_slice() {
            [] => Ok(Rules::ButSuffix(UNENCRYPTED_SUFFIX.to_owned())),
            [("unencrypted_suffix", suffix)] => Ok(Rules::ButSuffix((*suffix).to_owned())),
            [("encrypted_suffix", suffix)] => Ok(Rules::OnlySuffix((*suffix).to_owned())),
            [("unencrypted_regex", text)] => Ok(Rules::ButRegex(regex(text)?)),
            [("encrypted_regex", text)] => Ok(Rules::OnlyRegex(regex(text)?)),
            [_] => Ok(Rules::ByLooks),
            _ => Err(SopsError::ManyRules),
        }
    }
}

impl Rules {
    /// Whether the value below `keys` is encrypted; `sealed` is whether it looks so.
    pub(super) fn encrypts(&self, keys: &[String], sealed: bool) -> bool {
        match self {
            Self::ButSuffix(suffix) => !keys.iter().any(|key| key.ends_with(suffix.as_str())),
            Self::OnlySuffix(suffix) => keys.iter().any(|key| key.ends_with(suffix.as_str())),
            Self::ButRegex(regex) => !keys.iter().any(|key| regex.is_match(key)),
            Self::OnlyRegex(regex) => keys.iter().any(|key| regex.is_match(key)),
            Self::ByLooks => sealed,
        }
    }
}
