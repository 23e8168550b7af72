//! Time zones by their IANA names, with a suggestion for one that does not exist.

use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::schedule::error::ScheduleError;
use crate::schedule::offset::Offset;

/// Longest zone name that is compared with the known ones.
const ZONE_BYTES_MAX: usize = 64;

pub(super) fn find(name: &str) -> Result<TimeZone, ScheduleError> {
    match TimeZone::get(name) {
        Ok(zone) if !zone.is_unknown() => Ok(zone),
        _ => Err(ScheduleError::Zone { name: name.chars().take(ZONE_BYTES_MAX).collect(), nearest: nearest(name) }),
    }
}

/// The known name that `name` most likely means: its own city, or the one with the fewest changed letters.
fn nearest(name: &str) -> Option<String> {
    if name.is_empty() || name.len() > ZONE_BYTES_MAX {
        return None;
    }
    // The name with the fewest changed letters would be the one on the other side of the world.
    if let Some(offset) = Offset::of(name) {
        return offset.zone();
    }
    let wanted = name.to_lowercase().replace(' ', "_");
    TimeZoneDatabase::bundled()
        .available()
        .map(|known| {
            let known = known.as_str().to_owned();
            let lower = known.to_lowercase();
            let city = lower.rsplit('/').next().unwrap_or_default();
            let distance = strsim::osa_distance(&wanted, &lower).min(strsim::osa_distance(&wanted, city));
            (distance, known.len(), known)
        })
        .min()
        .filter(|(distance, _, _)| *distance <= name.len().div_ceil(4).max(1))
        .map(|(_, _, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(name: &str) -> String {
        find(name).unwrap_err().hint().unwrap()
    }

    #[test]
    fn an_offset_gets_the_zone_that_has_it_and_never_the_one_with_the_opposite_sign() {
        for (name, zone, seconds) in [
            ("GMT+2", "Etc/GMT-2", 7200),
            ("GMT-5", "Etc/GMT+5", -18000),
            ("UTC+2", "Etc/GMT-2", 7200),
            ("utc-03:00", "Etc/GMT+3", -10800),
            ("+08:00", "Etc/GMT-8", 28800),
            ("-0800", "Etc/GMT+8", -28800),
            ("GMT +14", "Etc/GMT-14", 50400),
            ("Z+1", "Etc/GMT-1", 3600),
        ] {
            let hint = hint(name);
            assert!(hint.contains(&format!("{zone:?}")), "{name}: {hint}");
            let offset = TimeZone::get(zone).unwrap().to_offset(jiff::Timestamp::UNIX_EPOCH);
            assert_eq!(offset.seconds(), seconds, "{zone}");
        }
    }

    #[test]
    fn an_offset_without_a_zone_gets_none() {
        for name in ["UTC+5:30", "GMT-13", "+0545"] {
            let hint = hint(name);
            assert!(hint.contains("there is no zone") && !hint.contains("Etc/"), "{name}: {hint}");
        }
        assert_eq!(hint("UTC+00:00"), "did you mean \"UTC\"?");
    }

    #[test]
    fn a_misspelt_city_is_still_found() {
        assert_eq!(hint("Europe/Berln"), "did you mean \"Europe/Berlin\"?");
        assert_eq!(Offset::of("America/Port-au-Prince"), None);
        assert_eq!(Offset::of("Etc/GMT+2x"), None);
    }
}
