//! A YAML file as SOPS encrypts it: read, opened with an age identity, its MAC checked.
//!
//! Keys are readable and values are not, but where the file's own rule says so. The MAC is over all values in their order, so
//! a value that was added, taken away, moved or put back from an older revision is seen.

pub mod edit;
mod rules;
mod scalar;
mod tree;
mod value;

use secrecy::SecretString;
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;
use sha2::{Digest as _, Sha512};
use subtle::ConstantTimeEq as _;

use crate::secret::address::VALUE;
use crate::secret::keys::{Identities, KeyError};
use rules::Rules;
use tree::{Leaf, Tree};

pub use rules::RawRules;
pub use value::{DataKey, Type};

/// Largest file with secrets, in bytes.
pub const FILE_BYTES_MAX: usize = 256 * 1024;
/// Most recipients of one file.
pub const RECIPIENTS_MAX: usize = 100;

/// What SOPS puts before the values when the MAC is over the encrypted ones only (SHA-256 of `sops`).
const MAC_ONLY_ENCRYPTED: [u8; 32] = [
    0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe, 0x0b, 0x0b, 0x97, 0x5b,
    0x3b, 0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69,
];

/// Says why a file cannot be read, opened or changed; never holds a value of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SopsError {
    #[error("it has {bytes} bytes, at most {FILE_BYTES_MAX} are read")]
    TooLarge { bytes: usize },
    #[error("it is not UTF-8 text (byte {at})")]
    NotText { at: usize },
    #[error("line {line} is a conflict marker of Git: the file was merged and not mended")]
    Conflict { line: usize },
    #[error("line {line} is no YAML: {what}")]
    Yaml { line: usize, what: String },
    #[error("line {line} has {what}, which SOPS does not keep")]
    Shape { line: usize, what: &'static str },
    #[error("it has no `sops:` at its end, so it is not encrypted")]
    NotEncrypted,
    #[error("its `sops:` cannot be read: {what}")]
    Metadata { what: &'static str },
    #[error("its key is split into shares (Shamir), which is not supported")]
    Shares,
    #[error("it names more than one rule for what is encrypted")]
    ManyRules,
    #[error("the expression {regex:?} cannot be read")]
    Regex { regex: String },
    #[error("it has no age recipient")]
    NoRecipient,
    #[error("it has more than {RECIPIENTS_MAX} recipients")]
    ManyRecipients,
    #[error("none of its recipients is ours: it is encrypted for {theirs}, and our identity is of {ours}")]
    NotForUs { theirs: String, ours: String },
    #[error("its data key for {recipient} cannot be opened")]
    DataKey {
        recipient: String,
        #[source]
        source: KeyError,
    },
    #[error("`{path}` is not encrypted, although the file's rule says that it is")]
    Plain { path: String },
    #[error("`{path}` does not open: it was changed, cut or moved there from another key or file")]
    Value { path: String },
    #[error("its MAC does not fit: a value was added, removed, moved or put back from another revision")]
    Mac,
    #[error("it has no value `{path}`; it has {there}")]
    NoValue { path: String, there: String },
    #[error("it has {count} values, so the reference must say which")]
    ManyValues { count: usize },
    #[error("`{path}` stands for more than one value")]
    Ambiguous { path: String },
    #[error("`{path}` is not UTF-8 text")]
    ValueNotText { path: String },
    #[error("`{path}` cannot be added to this file")]
    NoPlace { path: String },
    #[error("it is also encrypted for others than age ({what}), whose keys only `sops` can write")]
    OtherKeys { what: String },
    #[error("{recipient:?} is no age recipient")]
    Recipient { recipient: String },
    #[error("the system has no random bytes")]
    Random,
    #[error("the value is too long")]
    TooLong,
}

impl SopsError {
    /// What to do next; `file` is its path.
    #[must_use]
    pub fn hint(&self, file: &str) -> String {
        match self {
            Self::TooLarge { .. } => "keep one secret a file".to_owned(),
            Self::NotText { .. } => "save it as UTF-8".to_owned(),
            Self::Conflict { .. } => {
                format!(
                    "take one side whole: `git checkout --theirs {file}` (or --ours); two halves never fit together"
                )
            }
            Self::NotEncrypted => {
                format!("encrypt it with `sops encrypt -i {file}`, and change its secrets if this was ever pushed")
            }
            Self::Yaml { .. } | Self::Shape { .. } | Self::Metadata { .. } | Self::ManyRules | Self::Regex { .. } => {
                format!("look at it with `sops {file}`, or take the last good one: `git log -- {file}`")
            }
            Self::Shares | Self::NoRecipient => {
                format!("add the daemon's recipient with `sops rotate -i --add-age RECIPIENT {file}`")
            }
            Self::ManyRecipients => "name fewer recipients".to_owned(),
            Self::NotForUs { ours, .. } => {
                let ours = ours.split(", ").next().unwrap_or("RECIPIENT");
                format!(
                    "where the file can be opened: `larder secret recipients --add {ours}`, or `sops rotate -i --add-age {ours} {file}`"
                )
            }
            Self::DataKey { .. } => "the identity must be the one of this recipient".to_owned(),
            Self::Plain { path } => {
                format!("encrypt it: `larder secret set '{file}#{path}'`, and change it if this was ever pushed")
            }
            Self::Value { .. } | Self::Mac => format!(
                "see who changed what with `git log -p -- {file}`; set the value anew with `larder secret set`, or mend it with `sops edit --ignore-mac {file}`"
            ),
            Self::NoValue { .. } | Self::Ambiguous { .. } | Self::ManyValues { .. } => {
                format!("write {{secret: \"{file}#path.to.value\"}}")
            }
            Self::ValueNotText { .. } => "use a secret of printable characters".to_owned(),
            Self::NoPlace { .. } | Self::OtherKeys { .. } => format!("change it with `sops {file}`"),
            Self::Recipient { .. } => {
                "a recipient starts with `age1`; `age-keygen -y FILE` tells the one of an identity".to_owned()
            }
            Self::Random => "look at the system's log".to_owned(),
            Self::TooLong => "keep large files elsewhere".to_owned(),
        }
    }
}

/// For whom the data key is encrypted.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(in crate::secret) struct AgeKey {
    pub(in crate::secret) recipient: String,
    pub(in crate::secret) enc: String,
}

/// What SOPS writes into a file.
#[derive(Debug, Deserialize)]
struct Metadata {
    #[serde(default)]
    age: Option<Vec<AgeKey>>,
    #[serde(default)]
    lastmodified: String,
    #[serde(default)]
    mac: String,
    #[serde(default)]
    mac_only_encrypted: bool,
    #[serde(flatten)]
    rules: RawRules,
    #[serde(flatten)]
    others: std::collections::BTreeMap<String, serde_yaml::Value>,
}

#[derive(Deserialize)]
struct Whole {
    sops: Option<Metadata>,
}

/// A file that has the right form; nothing of it is opened yet.
pub struct SopsFile {
    text: String,
    tree: Tree,
    keys: Vec<AgeKey>,
    metadata: Metadata,
    rules: Rules,
}

/// A file's values, whose MAC was checked. Wiped when dropped.
pub struct Opened {
    key: DataKey,
    values: Vec<Plain>,
}

/// One value.
struct Plain {
    path: String,
    kind: Type,
    bytes: Zeroizing<Vec<u8>>,
}

impl SopsFile {
    /// Reads a file's form; no key is needed for it.
    ///
    /// # Errors
    /// When it is no file that SOPS wrote, or one of a kind that is not supported.
    pub fn read(bytes: &[u8]) -> Result<Self, SopsError> {
        if bytes.len() > FILE_BYTES_MAX {
            return Err(SopsError::TooLarge { bytes: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(|error| SopsError::NotText { at: error.valid_up_to() })?;
        if let Some(line) = conflict(text) {
            return Err(SopsError::Conflict { line });
        }
        let tree = Tree::read(text)?;
        if tree.metadata_span.is_none() {
            return Err(SopsError::NotEncrypted);
        }
        let whole: Whole =
            serde_yaml::from_str(text).map_err(|_| SopsError::Metadata { what: "its fields are not those of SOPS" })?;
        let metadata = whole.sops.ok_or(SopsError::NotEncrypted)?;
        let shares = metadata.others.get("key_groups").and_then(serde_yaml::Value::as_sequence);
        if shares.is_some_and(|groups| !groups.is_empty()) {
            return Err(SopsError::Shares);
        }
        let keys = metadata.age.clone().unwrap_or_default();
        if keys.is_empty() {
            return Err(SopsError::NoRecipient);
        }
        if keys.len() > RECIPIENTS_MAX {
            return Err(SopsError::ManyRecipients);
        }
        if !value::is_sealed(&metadata.mac) {
            return Err(SopsError::Metadata { what: "it has no MAC" });
        }
        if metadata.lastmodified.parse::<jiff::Timestamp>().is_err() {
            return Err(SopsError::Metadata { what: "`lastmodified` is no time" });
        }
        let rules = metadata.rules.ready()?;
        let file = Self { text: text.to_owned(), tree, keys, metadata, rules };
        file.nothing_plain()?;
        Ok(file)
    }

    /// For whom it is encrypted.
    #[must_use]
    pub fn recipients(&self) -> Vec<&str> {
        self.keys.iter().map(|key| key.recipient.as_str()).collect()
    }

    /// When it was changed last, as SOPS wrote it.
    #[must_use]
    pub fn last_modified(&self) -> &str {
        &self.metadata.lastmodified
    }

    /// The paths of its values, encrypted or not, in order.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        self.tree.leaves.iter().filter(|leaf| !is_null(leaf)).map(|leaf| leaf.path.join(".")).collect()
    }

    /// The path of the value that is meant; none: the only one, or the one at `value`.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn meant(&self, path: Option<&str>) -> Result<String, SopsError> {
        let paths = self.paths();
        let wanted = match (path, paths.as_slice()) {
            (Some(path), _) => path.to_owned(),
            (None, [only]) => only.clone(),
            (None, all) if all.iter().any(|path| path == VALUE) => VALUE.to_owned(),
            (None, []) => VALUE.to_owned(),
            (None, all) => return Err(SopsError::ManyValues { count: all.len() }),
        };
        match paths.iter().filter(|path| **path == wanted).count() {
            1 => Ok(wanted),
            0 => Err(SopsError::NoValue { path: wanted, there: shown(&paths) }),
            _ => Err(SopsError::Ambiguous { path: wanted }),
        }
    }

    /// Opens all values and checks that none was added, removed, changed or moved.
    ///
    /// # Errors
    /// When no identity is of a recipient, or something was changed.
    pub fn open(&self, identities: &Identities) -> Result<Opened, SopsError> {
        let key = self.data_key(identities)?;
        let values = self.values(&key)?;
        let claimed = key.open(&self.metadata.mac, &self.metadata.lastmodified).ok_or(SopsError::Mac)?.1;
        let found = self.mac(&values);
        if !bool::from(claimed.as_slice().ct_eq(found.as_bytes())) {
            return Err(SopsError::Mac);
        }
        Ok(Opened { key, values })
    }

    fn data_key(&self, identities: &Identities) -> Result<DataKey, SopsError> {
        let mut failed = None;
        for key in self.keys.iter().filter(|key| identities.may_open(&key.recipient)) {
            match identities.unwrap(&key.enc) {
                Ok(bytes) => match DataKey::from_bytes(&bytes) {
                    Some(key) => return Ok(key),
                    None => return Err(SopsError::Metadata { what: "the data key has another length than 32 bytes" }),
                },
                Err(source) => failed = Some(SopsError::DataKey { recipient: key.recipient.clone(), source }),
            }
        }
        Err(failed.unwrap_or_else(|| SopsError::NotForUs {
            theirs: self.recipients().join(", "),
            ours: identities.recipients().join(", "),
        }))
    }

    /// What is readable and must not be: seen without a key.
    fn nothing_plain(&self) -> Result<(), SopsError> {
        let plain = |leaf: &&Leaf| {
            !is_null(leaf)
                && !leaf.text.is_empty()
                && !value::is_sealed(&leaf.text)
                && self.rules.encrypts(&leaf.keys, false)
        };
        match self.tree.leaves.iter().find(plain) {
            Some(leaf) => Err(SopsError::Plain { path: leaf.path.join(".") }),
            None => Ok(()),
        }
    }

    fn values(&self, key: &DataKey) -> Result<Vec<Plain>, SopsError> {
        let leaves = self.tree.leaves.iter().filter(|leaf| !is_null(leaf));
        leaves.map(|leaf| self.value(leaf, key)).collect()
    }

    fn value(&self, leaf: &Leaf, key: &DataKey) -> Result<Plain, SopsError> {
        let path = leaf.path.join(".");
        let (kind, bytes) = if self.encrypts(leaf) {
            if leaf.text.is_empty() {
                (Type::Text, Zeroizing::default())
            } else {
                key.open(&leaf.text, &context(&leaf.keys)).ok_or_else(|| SopsError::Value { path: path.clone() })?
            }
        } else {
            let read = if leaf.plain { scalar::plain(&leaf.text) } else { None };
            let (kind, bytes) = read.unwrap_or_else(|| (Type::Text, leaf.text.as_bytes().to_vec()));
            (kind, Zeroizing::new(bytes))
        };
        Ok(Plain { path, kind, bytes })
    }

    fn encrypts(&self, leaf: &Leaf) -> bool {
        self.rules.encrypts(&leaf.keys, value::is_sealed(&leaf.text))
    }

    /// Over the values in their order, as upper-case hexadecimal digits.
    fn mac(&self, values: &[Plain]) -> Zeroizing<String> {
        let mut hash = Sha512::new();
        if self.metadata.mac_only_encrypted {
            hash.update(MAC_ONLY_ENCRYPTED);
        }
        let leaves = self.tree.leaves.iter().filter(|leaf| !is_null(leaf));
        for (_, value) in
            leaves.zip(values).filter(|(leaf, _)| !self.metadata.mac_only_encrypted || self.encrypts(leaf))
        {
            hash.update(value.bytes.as_slice());
        }
        Zeroizing::new(hex::encode_upper(hash.finalize()))
    }
}

impl std::fmt::Debug for SopsFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SopsFile").field("recipients", &self.recipients()).finish_non_exhaustive()
    }
}

impl Opened {
    /// The value at `path` as a text: what [`SopsFile::meant`] answered.
    ///
    /// # Errors
    /// When there is none, or it is no text.
    pub fn text(&self, path: &str) -> Result<SecretString, SopsError> {
        let found = self.values.iter().find(|value| value.path == path);
        let found = found.ok_or_else(|| SopsError::NoValue {
            path: path.to_owned(),
            there: shown(&self.values.iter().map(|value| value.path.clone()).collect::<Vec<_>>()),
        })?;
        let text = std::str::from_utf8(&found.bytes).map_err(|_| SopsError::ValueNotText { path: path.to_owned() })?;
        // SOPS has Python's words for them.
        let text = match (found.kind, text) {
            (Type::Bool, "True") => "true",
            (Type::Bool, "False") => "false",
            _ => text,
        };
        Ok(SecretString::from(text))
    }
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("values", &self.values.len()).finish_non_exhaustive()
    }
}

/// What is authenticated with a value: the keys that lead to it.
fn context(keys: &[String]) -> String {
    format!("{}:", keys.join(":"))
}

fn is_null(leaf: &Leaf) -> bool {
    leaf.plain && scalar::plain(&leaf.text).is_none()
}

/// The line of the first marker that a merge left.
fn conflict(text: &str) -> Option<usize> {
    let marker = |line: &str| line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ") || line == "=======";
    text.lines().position(marker).map(|index| index + 1)
}

fn shown(paths: &[String]) -> String {
    const SHOWN_MAX: usize = 8;
    if paths.is_empty() {
        return "no value at all".to_owned();
    }
    let mut shown: Vec<String> = paths.iter().take(SHOWN_MAX).map(|path| format!("`{path}`")).collect();
    if paths.len() > SHOWN_MAX {
        shown.push("…".to_owned());
    }
    shown.join(", ")
}

#[cfg(test)]
#[path = "sops/tests.rs"]
mod tests;
