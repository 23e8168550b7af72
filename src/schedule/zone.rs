//! Time zones by their IANA names, with a suggestion for one that does not exist.

use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::schedule::error::ScheduleError;

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
