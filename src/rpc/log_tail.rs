//! Reads a part of a run's log: by position, never more than a bound, cut between characters.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use crate::error::{Trouble, codes};
use crate::rpc::wire::{LogPart, invalid};

const PART_BYTES_MAX: u64 = 256 * 1024;
const PART_BYTES: u64 = 64 * 1024;
/// Longest UTF-8 character.
const CHARACTER_BYTES_MAX: usize = 4;

/// Reads from `offset`, or the end of the log when none is given; `complete` is left to the caller.
///
/// # Errors
/// When the log is gone or cannot be read, or the limit is out of bounds.
pub(super) fn read(path: &Path, offset: Option<u64>, limit: Option<u64>) -> Result<LogPart, Trouble> {
    let limit = match limit {
        None => PART_BYTES,
        Some(limit) if (1..=PART_BYTES_MAX).contains(&limit) => limit,
        Some(limit) => return Err(invalid("limit", limit, &format!("1 to {PART_BYTES_MAX}"))),
    };
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => Trouble::new(codes::NOT_FOUND, "this run has no log")
            .with_hint("a run that is still queued has none yet; logs of old runs are removed"),
        _ => Trouble::new(codes::LOG_UNREADABLE, format!("the log {} cannot be read: {error}", path.display())),
    };
    let mut file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let start = offset.unwrap_or_else(|| size.saturating_sub(limit)).min(size);
    file.seek(SeekFrom::Start(start)).map_err(failed)?;
    // A little more than asked for, so that a limit below a character's length still makes progress.
    let mut bytes = Vec::new();
    file.take(limit.max(CHARACTER_BYTES_MAX as u64)).read_to_end(&mut bytes).map_err(failed)?;
    let front = match offset {
        // A tail starts wherever it falls: drop the rest of a character that began before.
        None if start > 0 => bytes.iter().take(CHARACTER_BYTES_MAX).take_while(|byte| is_inside(**byte)).count(),
        _ => 0,
    };
    let body = bytes.get(front..).unwrap_or_default();
    let body = body.get(..whole(body)).unwrap_or_default();
    let offset = start + front as u64;
    Ok(LogPart {
        text: String::from_utf8_lossy(body).into_owned(),
        offset,
        next: offset + body.len() as u64,
        size,
        complete: false,
    })
}

/// How many of `bytes` are whole characters, when the last one may be cut.
fn whole(bytes: &[u8]) -> usize {
    for back in 1..=CHARACTER_BYTES_MAX.min(bytes.len()) {
        let position = bytes.len() - back;
        let Some(byte) = bytes.get(position).copied() else { break };
        if is_inside(byte) {
            continue;
        }
        let length = match byte {
            0xF0.. => 4,
            0xE0.. => 3,
            0xC0.. => 2,
            _ => 1,
        };
        return if length > back { position } else { bytes.len() };
    }
    bytes.len()
}

/// Whether `byte` continues a character.
fn is_inside(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_put_together_are_the_log_whatever_the_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.log");
        let text = "größe → 名前\nplain line\n🦀 end".repeat(20);
        std::fs::write(&path, &text).unwrap();
        for limit in 1..40 {
            let (mut whole, mut offset) = (String::new(), 0);
            loop {
                let part = read(&path, Some(offset), Some(limit)).unwrap();
                if part.next == part.size && part.text.is_empty() {
                    break;
                }
                assert!(part.next > offset, "limit {limit} makes progress");
                whole.push_str(&part.text);
                offset = part.next;
            }
            assert_eq!(whole, text, "limit {limit}");
        }
    }

    #[test]
    fn without_an_offset_the_end_is_given_and_never_half_a_character() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.log");
        std::fs::write(&path, "ä".repeat(100)).unwrap();
        for limit in 1..20 {
            let part = read(&path, None, Some(limit)).unwrap();
            assert!(!part.text.contains('\u{fffd}'), "limit {limit}");
            assert_eq!(part.next, part.size);
        }
        assert_eq!(read(&path, Some(9999), None).unwrap().text, "");
    }

    #[test]
    fn bytes_that_are_no_text_do_not_stop_the_reader() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.log");
        std::fs::write(&path, [0xFF, 0xC3, b'a', 0x80, 0x80, 0x80, 0x80, 0x80, 0xF0]).unwrap();
        let part = read(&path, Some(0), None).unwrap();
        assert!(part.next >= 8 && part.text.contains('a'));
    }

    #[test]
    fn a_missing_log_and_a_wild_limit_are_said() {
        assert_eq!(read(Path::new("/nowhere/x.log"), None, None).unwrap_err().code, "not_found");
        assert_eq!(read(Path::new("/nowhere/x.log"), None, Some(1 << 30)).unwrap_err().code, "invalid_params");
        assert_eq!(read(Path::new("/proc/self/mem/x"), None, None).unwrap_err().code, "log_unreadable");
    }
}
