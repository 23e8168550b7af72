//! The words of the glossary as checked values: names, ids, sizes, durations, outcomes.
//!
//! Everything here is a plain value without I/O. A raw string becomes one of these in one place
//! (`parse`), so later code never sees an unchecked one.

pub mod host;
pub mod pattern;
pub mod site;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use ulid::Ulid;

/// Longest allowed name, in bytes: it becomes a directory name, a restic tag and a metric label.
pub const NAME_BYTES_MAX: usize = 63;

/// The name of a site, destination, policy, target or plugin.
///
/// Letters, digits, `.`, `_` and `-`; the first is a letter or digit; at most [`NAME_BYTES_MAX`] bytes;
/// never `..`. So a name is safe as one path component, as a tag and as a label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^[A-Za-z0-9][A-Za-z0-9._-]*$", "maxLength" = NAME_BYTES_MAX))]
pub struct Name(String);

/// Says why a string is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("a name must not be empty")]
    Empty,
    #[error("a name has at most {NAME_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    #[error("a name starts with a letter or digit, not {0:?}")]
    Start(char),
    #[error("a name has only letters, digits, '.', '_' and '-', not {0:?}")]
    Character(char),
    #[error("a name must not contain '..'")]
    Parent,
}

impl Name {
    /// Checks and wraps `text`.
    ///
    /// # Errors
    /// The first rule that `text` breaks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let first = text.chars().next().ok_or(NameError::Empty)?;
        if text.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong(text.len()));
        }
        if !first.is_ascii_alphanumeric() {
            return Err(NameError::Start(first));
        }
        if let Some(bad) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
            return Err(NameError::Character(bad));
        }
        if text.contains("..") {
            return Err(NameError::Parent);
        }
        Ok(Self(text.to_owned()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A job: target × policy. Shown and parsed as `target/policy`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct JobId {
    pub target: Name,
    pub policy: Name,
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.target, self.policy))
    }
}

impl FromStr for JobId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (target, policy) = text.split_once('/').ok_or(NameError::Empty)?;
        Ok(Self { target: Name::parse(target)?, policy: Name::parse(policy)? })
    }
}

/// The id of a run: a ULID, so ids sort by the time they were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^[0-9A-HJKMNP-TV-Z]{26}$"))]
pub struct RunId(Ulid);

/// Says that a string is no run id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no run id (26 characters, as `larder runs` shows them)")]
pub struct RunIdError(String);

impl RunId {
    /// Makes a new id for the instant `now`; later ids of one process are greater even within a millisecond only by chance.
    #[must_use]
    pub fn generate(now: jiff::Timestamp) -> Self {
        let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
        Self(Ulid::from_parts(millis, Ulid::new().random()))
    }

    /// Makes a new id for the instant `now` that sorts behind `newest`, whatever the clock shows.
    ///
    /// The order of runs is the order of their ids: a clock that was ahead once must not make what comes after it older.
    #[must_use]
    pub fn after(newest: Option<Self>, now: jiff::Timestamp) -> Self {
        let made = Self::generate(now);
        match newest {
            Some(newest) if made <= newest => Self(Ulid::from_parts(newest.0.timestamp_ms() + 1, made.0.random())),
            _ => made,
        }
    }

    /// The instant that it was made for.
    #[must_use]
    pub fn time(self) -> jiff::Timestamp {
        i64::try_from(self.0.timestamp_ms())
            .ok()
            .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
            .unwrap_or(jiff::Timestamp::MAX)
    }

    /// The sixteen bytes in big-endian order, as the store's keys have them.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_bytes()
    }

    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Ulid::from_bytes(bytes))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}

impl FromStr for RunId {
    type Err = RunIdError;
    fn from_str(text: &str) -> Result<Self, RunIdError> {
        Ulid::from_string(text).map(Self).map_err(|_| RunIdError(text.chars().take(40).collect()))
    }
}

impl TryFrom<String> for RunId {
    type Error = RunIdError;
    fn try_from(text: String) -> Result<Self, RunIdError> {
        text.parse()
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.0.to_string()
    }
}

/// A Git commit id in hex, 40 digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^[0-9a-f]{40}$"))]
pub struct Revision(String);

/// Says that a string is no commit id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no commit id (40 hex digits)")]
pub struct RevisionError(String);

impl Revision {
    /// Checks and wraps `text`.
    ///
    /// # Errors
    /// When `text` is not 40 hex digits.
    pub fn parse(text: &str) -> Result<Self, RevisionError> {
        if text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(RevisionError(text.chars().take(48).collect()))
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first seven digits, for people.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..7).unwrap_or(&self.0)
    }

    /// The first twelve digits, for tags.
    #[must_use]
    pub fn short12(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for Revision {
    type Error = RevisionError;
    fn try_from(text: String) -> Result<Self, RevisionError> {
        Self::parse(&text)
    }
}

impl From<Revision> for String {
    fn from(revision: Revision) -> Self {
        revision.0
    }
}

/// What a finished run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Captured, validated, published and shipped to every destination.
    Success,
    /// Something usable was kept, but not all of it, or not everywhere.
    Partial,
    /// Nothing new can be relied on.
    Failed,
    /// Not run on purpose (suspended, missed with `on_missed: skip`).
    Skipped,
    /// A precondition is missing for now (unmounted, disk full); tried again later.
    Deferred,
    /// The daemon ended in the middle; found at the next start.
    Interrupted,
    /// An operator stopped it.
    Cancelled,
}

impl Outcome {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Deferred => "deferred",
            Self::Interrupted => "interrupted",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A number of bytes; written `20GiB`, `500MB`, `4096`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

/// Says that a string is no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no size: write a number and a unit, such as 20GiB, 500MB or 4096")]
pub struct ByteSizeError(String);

const BYTE_UNITS: &[(&str, u64)] = &[
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
    ("", 1),
];

impl FromStr for ByteSize {
    type Err = ByteSizeError;
    fn from_str(text: &str) -> Result<Self, ByteSizeError> {
        let refuse = || ByteSizeError(text.chars().take(40).collect());
        let digits = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, unit) = text.split_at(digits);
        let (_, factor) = BYTE_UNITS.iter().find(|(name, _)| *name == unit.trim()).ok_or_else(refuse)?;
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(*factor).map(Self).ok_or_else(refuse);
        }
        let number: f64 = number.parse().map_err(|_| refuse())?;
        #[expect(clippy::cast_precision_loss, reason = "a size in config has a few digits")]
        let bytes = number * (*factor as f64);
        if !bytes.is_finite() || !(0.0..9.0e18).contains(&bytes) {
            return Err(refuse());
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked just above")]
        Ok(Self(bytes as u64))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match BYTE_UNITS.iter().take(4).find(|(_, factor)| self.0 >= *factor) {
            #[expect(clippy::cast_precision_loss, reason = "for people")]
            Some((unit, factor)) => format!("{:.1} {unit}", self.0 as f64 / *factor as f64),
            None => format!("{} B", self.0),
        };
        f.pad(&text)
    }
}

/// Says that a string is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no duration: write numbers with units, such as 90s, 10m, 26h, 7d or 1h30m")]
pub struct DurationError(String);

/// Reads a duration such as `90s`, `1h30m`, `7d`, `2w`; units `ms s m h d w`, each at most once, largest first is not required.
///
/// # Errors
/// When `text` has no number, an unknown unit, or is above ten years.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let refuse = || DurationError(text.chars().take(40).collect());
    let mut rest = text.trim();
    let mut total_ms: u64 = 0;
    if rest.is_empty() {
        return Err(refuse());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let number: u64 = number.parse().map_err(|_| refuse())?;
        let unit_ms: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return Err(refuse()),
        };
        total_ms = number.checked_mul(unit_ms).and_then(|ms| total_ms.checked_add(ms)).ok_or_else(refuse)?;
        rest = tail;
    }
    if total_ms > 10 * 366 * 86_400_000 {
        return Err(refuse());
    }
    Ok(Duration::from_millis(total_ms))
}

/// Writes a duration for people: the two largest units, `1h 30m`, `5d 2h`, `850ms`.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    let total = duration.as_secs();
    if total == 0 {
        return format!("{}ms", duration.as_millis());
    }
    let parts = [(total / 86_400, "d"), (total / 3600 % 24, "h"), (total / 60 % 60, "m"), (total % 60, "s")];
    let first = parts.iter().position(|(n, _)| *n > 0).unwrap_or(3);
    parts
        .iter()
        .skip(first)
        .take(2)
        .filter(|(n, _)| *n > 0)
        .map(|(n, unit)| format!("{n}{unit}"))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_safe_as_a_path_a_tag_and_a_label() {
        for good in ["a", "paperless-db", "Nas.2", "0", "x_y"] {
            assert_eq!(Name::parse(good).map(|n| n.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "../etc", "a/b", "<script>", "a\nb", "a b", ".hidden", "-x", "a..b", "ü", &"x".repeat(300)] {
            assert!(Name::parse(bad).is_err(), "{bad:?} should be refused");
        }
    }

    #[test]
    fn sizes_and_durations_read_what_people_write() {
        assert_eq!("20GiB".parse(), Ok(ByteSize(20 << 30)));
        assert_eq!("1.5MiB".parse(), Ok(ByteSize(1_572_864)));
        assert_eq!("4096".parse(), Ok(ByteSize(4096)));
        assert!("20 parsecs".parse::<ByteSize>().is_err());
        assert!("".parse::<ByteSize>().is_err());
        assert!("99999999999TiB".parse::<ByteSize>().is_err());
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert!(parse_duration("10").is_err());
        assert!(parse_duration("99999999999999w").is_err());
        assert_eq!(show_duration(Duration::from_secs(93_600)), "1d 2h");
        assert_eq!(show_duration(Duration::from_millis(850)), "850ms");
    }
}
