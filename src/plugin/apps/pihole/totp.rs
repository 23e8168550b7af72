//! The second factor: codes that follow from a shared secret and the time (RFC 6238: SHA-1, 6 digits, 30 s).

use std::time::Duration;

use data_encoding::BASE32_NOPAD;
use ring::hmac;
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};

/// How long a code is the current one.
pub(super) const STEP: Duration = Duration::from_secs(30);
const DIGITS: u32 = 6;

/// What a Pi-hole and its owner share.
pub(super) struct Seed(SecretSlice<u8>);

/// A moment's number: all codes of one step are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step(u64);

impl Step {
    /// The step of a moment, in seconds since 1970.
    pub(super) fn at(second: i64) -> Self {
        Self(u64::try_from(second).unwrap_or(0) / STEP.as_secs())
    }

    /// How long it is from a moment until the step is over; nothing when it is.
    pub(super) fn left(self, second: i64) -> Duration {
        let over = (self.0 + 1).saturating_mul(STEP.as_secs());
        Duration::from_secs(over.saturating_sub(u64::try_from(second).unwrap_or(0)))
    }
}

impl Seed {
    /// Reads base32 as people copy it: in groups, in small letters, with its padding.
    pub(super) fn read(text: &SecretString) -> Option<Self> {
        let shown = text.expose_secret().trim_end_matches(['=', ' ', '\n']);
        let letters = shown.chars().filter(|c| !matches!(c, ' ' | '-'));
        let letters = SecretString::from(letters.map(|c| c.to_ascii_uppercase()).collect::<String>());
        let bytes = BASE32_NOPAD.decode(letters.expose_secret().as_bytes()).ok()?;
        (!bytes.is_empty()).then(|| Self(bytes.into()))
    }

    /// The code as the number that the API takes; leading zeros are lost in it, as they are on the other side.
    pub(super) fn code(&self, step: Step) -> u32 {
        self.truncated(step) % 10_u32.pow(DIGITS)
    }

    /// RFC 4226, section 5.3: 31 bits of the hash, from where its last four say.
    fn truncated(&self, step: Step) -> u32 {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, self.0.expose_secret());
        let tag = hmac::sign(&key, &step.0.to_be_bytes());
        let hash = tag.as_ref();
        let offset = usize::from(hash.last().copied().unwrap_or(0) & 0x0f);
        let four = hash.iter().skip(offset).take(4).fold(0, |number: u32, byte| (number << 8) | u32::from(*byte));
        four & 0x7fff_ffff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `12345678901234567890`, the key of the RFC's vectors.
    const KEY: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

    fn seed(text: &str) -> Option<Seed> {
        Seed::read(&SecretString::from(text))
    }

    #[test]
    fn the_vectors_of_rfc_6238_come_out() {
        let seed = seed(KEY).unwrap();
        // Appendix B, the lines for SHA-1; they have eight digits.
        for (second, eight) in [
            (59, 94_287_082),
            (1_111_111_109, 7_081_804),
            (1_111_111_111, 14_050_471),
            (1_234_567_890, 89_005_924),
            (2_000_000_000, 69_279_037),
            (20_000_000_000, 65_353_130),
        ] {
            let step = Step::at(second);
            assert_eq!(seed.truncated(step) % 100_000_000, eight, "{second}");
            assert_eq!(seed.code(step), eight % 1_000_000, "{second}");
        }
    }

    #[test]
    fn the_vectors_of_rfc_4226_come_out() {
        let seed = seed(KEY).unwrap();
        let codes: Vec<u32> = (0..10).map(|count| seed.code(Step(count))).collect();
        assert_eq!(codes, [755_224, 287_082, 359_152, 969_429, 338_314, 254_676, 287_922, 162_583, 399_871, 520_489]);
    }

    #[test]
    fn a_secret_is_read_as_people_copy_it_and_nothing_else_is() {
        let same = |text: &str| seed(text).unwrap().code(Step(1));
        assert_eq!(same("gezd gnbv gy3t qojq gezd gnbv gy3t qojq"), 287_082);
        assert_eq!(same("GEZDGNBV-GY3TQOJQ-GEZDGNBV-GY3TQOJQ\n"), 287_082);
        assert_eq!(same("MFRGG==="), same("MFRGG"));
        for bad in ["", "=", "123456", "otpauth://totp/x?secret=GEZDGNBV", "GEZDGNBV1", "A", "GEZD\u{17f}"] {
            assert!(seed(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_step_ends_where_the_next_begins() {
        assert_eq!(Step::at(29), Step::at(0));
        assert_ne!(Step::at(30), Step::at(29));
        let first = Step::at(-5);
        assert_eq!([-5, 0, 29, 30, 99].map(|second| first.left(second).as_secs()), [30, 30, 1, 0, 0]);
    }
}
