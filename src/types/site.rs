//! The identity of a site: what tells its snapshots from those of another one in the same repository.
//!
//! Names are no identity: every `larder init` calls its site `home`. So a site draws a number once and keeps it.

use std::fmt;

use serde::{Deserialize, Serialize};
use ulid::Ulid;

/// Shortest and longest identity that is believed, in bytes.
const BYTES_MIN: usize = 16;
const BYTES_MAX: usize = 64;

/// The identity of a site: random, made at its first use, never changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SiteId(String);

/// Says that a string is no site's identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no site's identity (16 to 64 lower-case letters and digits)")]
pub struct SiteIdError(String);

impl SiteId {
    /// Draws a new one: 80 random bits.
    #[must_use]
    pub fn generate() -> Self {
        Self(format!("{:020x}", Ulid::new().random()))
    }

    /// Checks and wraps `text`.
    ///
    /// # Errors
    /// When `text` is not 16 to 64 lower-case letters and digits.
    pub fn parse(text: &str) -> Result<Self, SiteIdError> {
        let plain = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if (BYTES_MIN..=BYTES_MAX).contains(&text.len()) && plain {
            Ok(Self(text.to_owned()))
        } else {
            Err(SiteIdError(text.chars().take(80).collect()))
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SiteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for SiteId {
    type Error = SiteIdError;
    fn try_from(text: String) -> Result<Self, SiteIdError> {
        Self::parse(&text)
    }
}

impl From<SiteId> for String {
    fn from(id: SiteId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_is_an_identity_and_no_two_are_the_same() {
        let (one, two) = (SiteId::generate(), SiteId::generate());
        assert_ne!(one, two);
        assert_eq!(SiteId::parse(one.as_str()), Ok(one));
    }

    #[test]
    fn what_could_mean_something_in_a_tag_is_none() {
        for bad in [
            "",
            "short",
            "0123456789abcde",
            "0123456789abcdef,x",
            "0123456789ABCDEF",
            "0123456789abcdef:",
            &"a".repeat(65),
        ] {
            assert!(SiteId::parse(bad).is_err(), "{bad}");
        }
    }
}
