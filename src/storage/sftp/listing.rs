//! Lines of `ls -ln` and `df` as OpenSSH's sftp prints them, in UTC; pure.

use jiff::Timestamp;
use jiff::civil;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) is_file: bool,
    /// The rights alone.
    pub(super) mode: u32,
    pub(super) bytes: u64,
    /// To the minute; to the day where it is half a year old.
    pub(super) modified: Option<Timestamp>,
}

/// `-rw-r--r--    ? 0        0               2 Nov 30 10:18 keys/ab`; none: it is no such line.
pub(super) fn line(text: &str, now: Timestamp) -> Option<Line> {
    let words: Vec<(usize, &str)> = text.split_whitespace().map(|word| (offset(text, word), word)).collect();
    let rights = words.first()?.1;
    // Owners and groups may have spaces in their names: what follows them is found by its date.
    let at = (3..words.len()).find(|at| {
        let word = |n: usize| words.get(at + n).map_or("", |(_, word)| *word);
        let is_time = word(3).contains(':') || word(3).len() == 4;
        word(0).bytes().all(|byte| byte.is_ascii_digit()) && MONTHS.contains(&word(1)) && is_time
    })?;
    let word = |n: usize| words.get(at + n).map(|(_, word)| *word);
    let (start, time) = *words.get(at + 3)?;
    let path = text.get(start + time.len()..)?.strip_prefix(' ')?;
    let name = path.rsplit('/').next().unwrap_or(path);
    Some(Line {
        name: name.to_owned(),
        is_file: rights.starts_with('-'),
        mode: mode(rights),
        bytes: word(0)?.parse().ok()?,
        modified: moment(word(1)?, word(2)?, time, now),
    })
}

fn offset(text: &str, word: &str) -> usize {
    word.as_ptr() as usize - text.as_ptr() as usize
}

fn mode(rights: &str) -> u32 {
    let letters = rights.chars().skip(1).take(9);
    letters.fold(0, |mode, letter| mode << 1 | u32::from(!matches!(letter, '-' | 'S' | 'T')))
}

fn moment(month: &str, day: &str, time: &str, now: Timestamp) -> Option<Timestamp> {
    let month = i8::try_from(MONTHS.iter().position(|each| *each == month)? + 1).ok()?;
    let day = day.parse().ok()?;
    let of = |year, hour, minute| {
        let at = civil::DateTime::new(year, month, day, hour, minute, 0, 0).ok()?;
        at.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    };
    let Some((hour, minute)) = time.split_once(':') else {
        return of(time.parse().ok()?, 0, 0);
    };
    let (hour, minute) = (hour.parse().ok()?, minute.parse().ok()?);
    let year = now.to_zoned(jiff::tz::TimeZone::UTC).year();
    // Without a year it is of the last half year; a clock that is ahead may show tomorrow.
    let near = |each: &Timestamp| each.duration_since(now).abs() < jiff::SignedDuration::from_hours(24 * 190);
    [year, year - 1, year + 1].into_iter().filter_map(|year| of(year, hour, minute)).find(near)
}

/// What is free for this login: the third column of `df`, in KiB.
pub(super) fn free_bytes(lines: &[String]) -> Option<u64> {
    let line = lines.iter().find(|line| line.trim_end().ends_with('%') && !line.contains("Capacity"))?;
    line.split_whitespace().nth(2)?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_real_servers_are_read() {
        let now: Timestamp = "2026-11-30T10:20:00Z".parse().unwrap();
        let read = |text| line(text, now).unwrap();
        let openssh = read("-rw-r-----    ? root     root            2 Nov 30 10:18 /tmp/repo a/config");
        assert_eq!((openssh.name.as_str(), openssh.bytes, openssh.mode, openssh.is_file), ("config", 2, 0o640, true));
        assert_eq!(openssh.modified.unwrap().to_string(), "2026-11-30T10:18:00Z");
        let spaces = read("-rwxr--r--    1 Domain Users  Domain Users  1048576 Dec 24 23:59 a b");
        assert_eq!((spaces.name.as_str(), spaces.bytes), ("a b", 1_048_576));
        assert_eq!(spaces.modified.unwrap().to_string(), "2026-12-24T23:59:00Z");
        let old = read("-r--------    ? 0        0              7 Feb  3  2024 x");
        assert_eq!(old.modified.unwrap().to_string(), "2024-02-03T00:00:00Z");
        assert!(!read("drwx------    ? 0        0              7 Sep 29 01:02 keys").is_file);
        for none in ["", "Remote working directory: /x", "sftp> ls", "-rw-r--r-- 1 0 0 x Nov 30 10:18 a"] {
            assert_eq!(line(none, now), None, "{none}");
        }
        let turn: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
        let before = line("-rw-r--r--    ? 0        0    2 Dec 30 10:18 x", turn).unwrap();
        assert_eq!(before.modified.unwrap().to_string(), "2025-12-30T10:18:00Z");
        let df = [
            "        Size         Used        Avail       (root)    %Capacity",
            "   264 52 42434960    2113          20%",
        ];
        assert_eq!(free_bytes(&df.map(str::to_owned)), Some(42_434_960 * 1024));
    }
}
