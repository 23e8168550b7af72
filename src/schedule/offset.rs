//! Distances from UTC that people write for a zone, such as `GMT+2`.

/// Whole hours from UTC that have a zone of their own, west and east.
const HOURS_MAX: (u8, u8) = (12, 14);

/// What a name such as `GMT+2` or `+05:30` says: hours and minutes before (`+`) or behind UTC, as people write it.
///
/// In the names of the database the sign is turned: `Etc/GMT+2` is two hours *behind* UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offset {
    ahead: bool,
    hours: u8,
    minutes: u8,
}

impl Offset {
    pub(super) fn of(name: &str) -> Option<Self> {
        let lower = name.trim().to_ascii_lowercase();
        let bare = lower.strip_prefix("etc/").unwrap_or(&lower);
        let bare = ["gmt", "utc", "ut", "z"].iter().find_map(|prefix| bare.strip_prefix(prefix)).unwrap_or(bare);
        let ahead = match bare.trim_start().chars().next()? {
            '+' => true,
            '-' | '\u{2212}' => false,
            _ => return None,
        };
        let digits: String = bare.trim_start().chars().skip(1).filter(|c| !c.is_whitespace()).collect();
        let (hours, minutes) = match digits.split_once(':') {
            Some(parts) => parts,
            None if digits.len() > 2 => digits.split_at_checked(digits.len() - 2)?,
            None => (digits.as_str(), "0"),
        };
        let number = |text: &str| if text.bytes().all(|b| b.is_ascii_digit()) { text.parse::<u8>().ok() } else { None };
        let (hours, minutes) = (number(hours)?, number(minutes)?);
        (hours <= HOURS_MAX.1 && minutes < 60).then_some(Self { ahead, hours, minutes })
    }

    /// The zone that always has this offset; none where there is no such.
    pub(super) fn zone(self) -> Option<String> {
        let most = if self.ahead { HOURS_MAX.1 } else { HOURS_MAX.0 };
        match (self.hours, self.minutes) {
            (0, 0) => Some("UTC".to_owned()),
            (hours, 0) if hours <= most => Some(format!("Etc/GMT{}{hours}", if self.ahead { '-' } else { '+' })),
            _ => None,
        }
    }

    /// The next step for whoever wrote it.
    pub(super) fn hint(self) -> String {
        let way = if self.ahead { "ahead of" } else { "behind" };
        let distance = match (self.hours, self.minutes) {
            (0, 0) => return "did you mean \"UTC\"?".to_owned(),
            (1, 0) => "one hour".to_owned(),
            (hours, 0) => format!("{hours} hours"),
            (hours, minutes) => format!("{hours}:{minutes:02} hours"),
        };
        let city = "name your city, such as \"Europe/Berlin\", so that summer time is followed";
        match self.zone() {
            Some(zone) => format!(
                "{city}; the zone that is always {distance} {way} UTC is {zone:?} (the sign in these names is turned)"
            ),
            None => format!("{city}; there is no zone that is always {distance} {way} UTC"),
        }
    }
}
