//! Single values: text to checked value, or a refusal that names the value, what was expected and the next step.

use std::ops::Range;
use std::path::{Component, PathBuf};
use std::time::Duration;

use crate::config::suggest::shown;
use crate::error::{Code, codes};
use crate::schedule::Schedule;
use crate::types::{ByteSize, Name, parse_duration, show_duration};

/// Why a value was not taken.
#[derive(Debug)]
pub(super) struct Refusal {
    pub code: Code,
    pub message: String,
    pub hint: Option<String>,
    /// The bytes of the text that are meant, when it is not all of it.
    pub within: Option<Range<usize>>,
}

impl Refusal {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, within: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

pub(super) fn name(text: &str) -> Result<Name, Refusal> {
    Name::parse(text).map_err(|error| {
        Refusal::new(codes::INVALID_NAME, format!("`{}` can not be a name: {error}", shown(text)))
            .hint("a name becomes a directory, a tag and a label, such as paperless-db")
    })
}

/// A duration of at least one second and at most `max`.
pub(super) fn duration(text: &str, max: Duration) -> Result<Duration, Refusal> {
    let duration = parse_duration(text).map_err(|_| {
        Refusal::new(codes::INVALID_DURATION, format!("`{}` is no duration", shown(text)))
            .hint("write numbers with units, such as 90s, 10m, 26h, 7d or 1h30m")
    })?;
    if duration < Duration::from_secs(1) {
        return Err(Refusal::new(
            codes::OUT_OF_RANGE,
            format!("`{}` is too short; it must be at least 1s", shown(text)),
        ));
    }
    if duration > max {
        let message = format!("`{}` is too long; it must be at most {}", shown(text), show_duration(max));
        return Err(Refusal::new(codes::OUT_OF_RANGE, message));
    }
    Ok(duration)
}

/// A duration that may be nothing.
pub(super) fn duration_or_zero(text: &str, max: Duration) -> Result<Duration, Refusal> {
    if parse_duration(text) == Ok(Duration::ZERO) { Ok(Duration::ZERO) } else { duration(text, max) }
}

pub(super) fn size(text: &str) -> Result<ByteSize, Refusal> {
    text.parse().map_err(|_| {
        Refusal::new(codes::INVALID_SIZE, format!("`{}` is no size", shown(text)))
            .hint("write a number and a unit, such as 20GiB, 500MB or 4096")
    })
}

/// Bytes a second, at least 1 KiB: restic counts in KiB and takes 0 for "no bound".
pub(super) fn rate(text: &str) -> Result<ByteSize, Refusal> {
    let refuse =
        |message: String| Refusal::new(codes::INVALID_RATE, message).hint("write for example 10MiB/s or 500kB/s");
    let Some(size) = text.trim().strip_suffix("/s").map(str::trim_end) else {
        return Err(refuse(format!("`{}` is no rate: `/s` is missing", shown(text))));
    };
    if size.ends_with(|c: char| c.is_ascii_digit()) {
        return Err(refuse(format!("`{}` is no rate: the unit is missing", shown(text))));
    }
    let size: ByteSize = size.parse().map_err(|_| refuse(format!("`{}` is no rate", shown(text))))?;
    if size.0 < 1024 {
        return Err(refuse(format!("`{}` is too slow; the least is 1KiB/s", shown(text))));
    }
    Ok(size)
}

/// An absolute path without `..` and control characters.
pub(super) fn path(text: &str) -> Result<PathBuf, Refusal> {
    if text.chars().any(char::is_control) {
        return Err(Refusal::new(codes::INVALID_PATH, format!("`{}` has a control character in it", shown(text))));
    }
    let path = PathBuf::from(text);
    if !path.is_absolute() {
        let refusal = Refusal::new(codes::RELATIVE_PATH, format!("`{}` is not an absolute path", shown(text)));
        return Err(match text {
            home if home.starts_with('~') => refusal.hint("write the home directory out, such as /root"),
            _ => refusal.hint("a path starts with `/`: Larder does not run in the directory of this file"),
        });
    }
    if path.components().any(|part| part == Component::ParentDir) {
        let message = format!("`{}` has `..` in it", shown(text));
        return Err(Refusal::new(codes::INVALID_PATH, message).hint("write the path that is meant"));
    }
    Ok(path)
}

/// A cron expression in a zone; the zone is UTC where it is not known yet, since errors don't depend on it.
pub(super) fn schedule(expression: &str, timezone: Option<&str>) -> Result<Schedule, Refusal> {
    Schedule::parse(expression, timezone.unwrap_or("UTC")).map_err(|error| Refusal {
        code: error.code(),
        message: error.to_string(),
        hint: error.hint(),
        within: error.span(),
    })
}

/// An IANA zone, by the name that the database gives it.
pub(super) fn timezone(text: &str) -> Result<String, Refusal> {
    let schedule = schedule("0 0 * * *", Some(text))?;
    Ok(schedule.zone().iana_name().unwrap_or(text).to_owned())
}

/// restic's `--read-data-subset`: a share, a part or an amount.
pub(super) fn read_data(text: &str) -> Result<String, Refusal> {
    let refuse = |message: String| {
        Refusal::new(codes::INVALID_READ_DATA, message)
            .hint("write a share such as 5%, a part such as 1/12, or an amount such as 10G")
    };
    if let Some(percent) = text.strip_suffix('%') {
        return match percent.parse::<f64>() {
            Ok(number) if number > 0.0 && number <= 100.0 && is_decimal(percent) => Ok(text.to_owned()),
            _ => Err(refuse(format!("`{}` is no share: it must be more than 0% and at most 100%", shown(text)))),
        };
    }
    if let Some((part, of)) = text.split_once('/') {
        return match (part.parse::<u32>(), of.parse::<u32>()) {
            (Ok(part), Ok(of)) if 1 <= part && part <= of && of <= 256 => Ok(text.to_owned()),
            _ => Err(refuse(format!("`{}` is no part: n/t needs 1 <= n <= t <= 256", shown(text)))),
        };
    }
    let digits = text.trim_end_matches(['K', 'M', 'G', 'T']);
    match digits.parse::<u64>() {
        Ok(number) if number > 0 && text.len() - digits.len() <= 1 && !digits.starts_with('+') => Ok(text.to_owned()),
        _ => Err(refuse(format!("`{}` does not say how much to read", shown(text)))),
    }
}

/// A currency as ISO 4217 writes it; whether there is one of this name is not known here.
pub(super) fn currency(text: &str) -> Result<String, Refusal> {
    if text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Ok(text.to_owned());
    }
    Err(Refusal::new(
        codes::INVALID_CURRENCY,
        format!("`{}` is no currency: it has three capital letters", shown(text)),
    )
    .hint("write for example USD or EUR"))
}

/// Where a container engine usually listens.
pub(super) const ENGINE_SOCKET: &str = "/var/run/docker.sock";

/// A share such as `0.5%`, in millionths.
pub(super) fn share(text: &str) -> Result<u32, Refusal> {
    let number =
        text.strip_suffix('%').filter(|number| is_decimal(number)).and_then(|number| number.parse::<f64>().ok());
    match number {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and a million")]
        Some(number) if (0.0..=100.0).contains(&number) => Ok((number * 10_000.0).round() as u32),
        _ => Err(Refusal::new(codes::INVALID_SHARE, format!("`{}` is no share from 0% to 100%", shown(text)))
            .hint("write for example 1% or 0.5%")),
    }
}

/// A container engine: the path of its socket, or the address of a socket proxy.
pub(super) fn engine(text: &str) -> Result<String, Refusal> {
    let text = one_line(text)?;
    let starts = ["/", "unix:///", "http://", "https://", "tcp://"];
    if starts.iter().any(|start| text.starts_with(start) && text.len() >= start.len()) && !text.contains('@') {
        return Ok(text);
    }
    Err(Refusal::new(codes::INVALID_ENGINE, format!("`{}` is no container engine", shown(&text)))
        .hint("write the absolute path of its socket, or http://HOST:PORT of a socket proxy"))
}

/// Text of one line, for command lines and mail headers.
pub(super) fn one_line(text: &str) -> Result<String, Refusal> {
    if text.chars().any(char::is_control) {
        let message = format!("`{}` has a control character in it, such as a line break", shown(text));
        return Err(Refusal::new(codes::CONTROL_CHARACTER, message).hint("write it on one line"));
    }
    Ok(text.to_owned())
}

fn is_decimal(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_data_takes_what_restic_takes() {
        for good in ["5%", "0.5%", "100%", "1/12", "256/256", "10G", "500M", "1048576"] {
            assert!(read_data(good).is_ok(), "{good}");
        }
        for bad in
            ["0%", "101%", "-5%", "nan%", "inf%", "1e1%", "0/3", "4/3", "1/999", "10GG", "G", "", "x", "+5", "5 %"]
        {
            assert!(read_data(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_share_is_a_percentage_and_kept_in_millionths() {
        for (text, millionths) in
            [("1%", 10_000), ("0.5%", 5_000), ("0%", 0), ("100%", 1_000_000), ("0.0001%", 1), ("2.50%", 25_000)]
        {
            assert_eq!(share(text).ok(), Some(millionths), "{text}");
        }
        for bad in
            ["1", "", "%", ".%", "101%", "100.01%", "-1%", "+1%", "nan%", "inf%", "1e1%", "1 %", "1%%", "1.2.3%", "½%"]
        {
            assert_eq!(share(bad).err().map(|refusal| refusal.code), Some(codes::INVALID_SHARE), "{bad}");
        }
    }

    #[test]
    fn rates_need_a_unit_and_a_second() {
        assert_eq!(rate("10MiB/s").ok(), Some(ByteSize(10 << 20)));
        assert_eq!(rate("500 kB/s").ok(), Some(ByteSize(500_000)));
        for bad in ["10MiB", "10/s", "0MiB/s", "1B/s", "fast", "/s", "10MiB/h"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_are_absolute_and_plain() {
        assert!(path("/mnt/nas").is_ok());
        for bad in ["mnt", "~/x", "./x", "/a/../b", "/a\nb", ""] {
            assert!(path(bad).is_err(), "{bad}");
        }
    }
}
