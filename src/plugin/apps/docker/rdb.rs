//! The frame of an RDB file: its beginning, its end, and the checksum over all between, which every version writes alike.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use crate::plugin::kit::database::redis::checksum::{self, Checksum};

/// The newest formats whose end is known to be the checksum.
const REDIS_KNOWN: u32 = 12;
const VALKEY_KNOWN: u32 = 80;
/// The mark behind a file that comes without a length.
const MARK_BYTES: u64 = 40;
/// The shortest file.
const HEAD_AND_END_BYTES: u64 = 18;
/// What stands before the checksum: the end of the data.
const END: u8 = 0xff;

/// What a file says of itself.
#[derive(Debug)]
pub(super) struct Look {
    /// Such as `REDIS0011` or `VALKEY080`; none: it is no RDB file.
    pub(super) format: Option<String>,
    number: u32,
    pub(super) checksum: Checksum,
    /// The end of the data stands where every version has it.
    pub(super) ends: bool,
}

impl Look {
    /// Whether it is for sure no whole file.
    pub(super) fn is_damaged(&self) -> bool {
        let has_end = self.ends || self.is_newer();
        self.format.is_none() || !has_end || (self.checksum == Checksum::Wrong && !self.is_newer())
    }

    /// Whether it is of a version whose end is not known here.
    pub(super) fn is_newer(&self) -> bool {
        let is_valkey = self.format.as_ref().is_some_and(|format| format.starts_with('V'));
        self.number > if is_valkey { VALKEY_KNOWN } else { REDIS_KNOWN }
    }
}

/// Reads the whole file.
pub(super) fn look(path: &Path) -> io::Result<Look> {
    let mut file = std::fs::File::open(path)?;
    let mut head = [0; 9];
    let is_long = file.metadata()?.len() >= HEAD_AND_END_BYTES;
    let format = if is_long { file.read_exact(&mut head).ok().and_then(|()| magic(&head)) } else { None };
    let Some((format, number)) = format else {
        return Ok(Look { format: None, number: 0, checksum: Checksum::None, ends: false });
    };
    let mut end = [0];
    file.seek(SeekFrom::End(-9))?;
    file.read_exact(&mut end)?;
    Ok(Look { format: Some(format), number, checksum: checksum::of(path)?, ends: end == [END] })
}

/// Cuts off what `redis-cli --rdb -` writes behind a file that comes without a length: the mark that ends it. In an
/// append-only file it would be read. Answers whether there was one.
pub(super) fn trim(path: &Path) -> io::Result<bool> {
    let told = look(path)?;
    let length = std::fs::metadata(path)?.len().saturating_sub(MARK_BYTES);
    if told.format.is_none() || told.checksum == Checksum::Right || length < HEAD_AND_END_BYTES {
        return Ok(false);
    }
    let mut file = std::fs::File::options().read(true).write(true).open(path)?;
    let mut end = [0];
    file.seek(SeekFrom::Start(length - 9))?;
    file.read_exact(&mut end)?;
    let is_end = match checksum::of_first(path, length)? {
        Checksum::Right => end == [END],
        // Switched off: then only its place tells, and the whole file must not end so too.
        Checksum::None => end == [END] && !told.ends,
        Checksum::Wrong => false,
    };
    if is_end {
        file.set_len(length)?;
        file.sync_all()?;
    }
    Ok(is_end)
}

/// `REDIS` and four digits, or `VALKEY` and three.
fn magic(head: &[u8; 9]) -> Option<(String, u32)> {
    let text = std::str::from_utf8(head).ok()?;
    let digits = text.strip_prefix("REDIS").or_else(|| text.strip_prefix("VALKEY"))?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse().ok().filter(|_| is_number)?;
    Some((text.to_owned(), number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_behind_a_file_is_cut_off_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dump.rdb");
        let whole = [b"REDIS0011\xfa\x05redis-ver\xff".as_slice(), &[0; 8]].concat();
        let trimmed = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            (trim(&path).unwrap(), std::fs::read(&path).unwrap())
        };
        assert_eq!(trimmed(&whole), (false, whole.clone()));
        assert_eq!(trimmed(&[whole.as_slice(), &[b'f'; 40]].concat()), (true, whole.clone()));
        let other = [whole.as_slice(), &[b'f'; 39]].concat();
        assert_eq!(trimmed(&other), (false, other.clone()));
    }

    #[test]
    fn a_file_tells_its_format_and_whether_it_has_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dump.rdb");
        let told = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            look(&path).unwrap()
        };
        for magic in ["REDIS0011", "REDIS0013", "VALKEY080"] {
            let file = [magic.as_bytes(), b"\xfa\x05redis-ver\xff", &[0; 8]].concat();
            let whole = told(&file);
            assert_eq!((whole.format.as_deref(), whole.ends), (Some(magic), true));
            assert_eq!(whole.is_newer(), magic == "REDIS0013");
            assert!(!told(&file[..file.len() - 3]).ends);
        }
        assert_eq!(told(b"<html>no dump at all</html>").format, None);
        assert_eq!(told(b"REDIS").format, None);
    }
}
