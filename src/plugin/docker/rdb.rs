//! The frame of an RDB file: its beginning, its end, and the checksum over all between, which every version writes alike.

use std::io::{self, BufReader, Read as _};
use std::path::Path;

/// The newest format of Redis whose end is known to be the checksum.
const REDIS_KNOWN: u32 = 12;
const VALKEY_KNOWN: u32 = 80;
/// What stands before the checksum: the end of the data.
const END: u8 = 0xff;
/// CRC-64 as Redis uses it (Jones), bits from low to high.
const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;

/// What a file says of itself.
#[derive(Debug)]
pub(super) struct Look {
    /// Such as `REDIS0011` or `VALKEY080`; none: it is no RDB file.
    pub(super) format: Option<String>,
    number: u32,
    pub(super) checksum: Checksum,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checksum {
    Right,
    Wrong,
    /// What every version writes before it is not there.
    Cut,
    /// The server writes none.
    None,
}

impl Look {
    /// Whether it is of a version whose end is not known here.
    pub(super) fn is_newer(&self) -> bool {
        let is_valkey = self.format.as_ref().is_some_and(|format| format.starts_with('V'));
        self.number > if is_valkey { VALKEY_KNOWN } else { REDIS_KNOWN }
    }
}

/// Reads the whole file.
pub(super) fn look(path: &Path) -> io::Result<Look> {
    let table = table();
    let file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(256 << 10, file);
    let mut head = [0; 9];
    let format = if length < 18 { None } else { reader.read_exact(&mut head).ok().and_then(|()| magic(&head)) };
    let Some((format, number)) = format else { return Ok(Look { format: None, number: 0, checksum: Checksum::None }) };
    let mut crc = head.iter().fold(0, |crc, byte| step(&table, crc, *byte));
    let mut last = 0;
    let mut chunk = vec![0; 256 << 10];
    let mut body = reader.by_ref().take(length - 8 - head.len() as u64);
    loop {
        let read = body.read(&mut chunk)?;
        let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        crc = bytes.iter().fold(crc, |crc, byte| step(&table, crc, *byte));
        last = bytes.last().copied().unwrap_or(last);
    }
    let mut end = [0; 8];
    reader.read_exact(&mut end)?;
    let checksum = match u64::from_le_bytes(end) {
        _ if last != END => Checksum::Cut,
        0 => Checksum::None,
        told if told == crc => Checksum::Right,
        _ => Checksum::Wrong,
    };
    Ok(Look { format: Some(format), number, checksum })
}

/// `REDIS` and four digits, or `VALKEY` and three.
fn magic(head: &[u8; 9]) -> Option<(String, u32)> {
    let text = std::str::from_utf8(head).ok()?;
    let digits = text.strip_prefix("REDIS").or_else(|| text.strip_prefix("VALKEY"))?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse().ok().filter(|_| is_number)?;
    Some((text.to_owned(), number))
}

fn table() -> [u64; 256] {
    let mut table = [0; 256];
    for (entry, index) in table.iter_mut().zip(0_u64..) {
        *entry = (0..8).fold(index, |crc, _| if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 });
    }
    table
}

fn step(table: &[u64; 256], crc: u64, byte: u8) -> u64 {
    let index = (crc ^ u64::from(byte)) & 0xff;
    table.get(usize::try_from(index).unwrap_or(0)).copied().unwrap_or(0) ^ (crc >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_redis() {
        // From Redis' own source (crc64.c).
        let table = table();
        let crc = b"123456789".iter().fold(0, |crc, byte| step(&table, crc, *byte));
        assert_eq!(crc, 0xe9c6_d914_c4b8_d9ca);
    }

    #[test]
    fn a_file_of_any_version_tells_whether_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dump.rdb");
        for magic in ["REDIS0011", "REDIS0013", "VALKEY080"] {
            let mut file = [magic.as_bytes(), b"\xfa\x05redis-ver\xff"].concat();
            let crc = file.iter().fold(0, |crc, byte| step(&table(), crc, *byte));
            file.extend(crc.to_le_bytes());
            std::fs::write(&path, &file).unwrap();
            let told = look(&path).unwrap();
            assert_eq!((told.format.as_deref(), told.checksum), (Some(magic), Checksum::Right));
            assert_eq!(told.is_newer(), magic == "REDIS0013");
            for at in 9..file.len() {
                let mut other = file.clone();
                other[at] ^= 1;
                std::fs::write(&path, &other).unwrap();
                assert_ne!(look(&path).unwrap().checksum, Checksum::Right, "{magic} {at}");
                std::fs::write(&path, &file[..at]).unwrap();
                assert_ne!(look(&path).unwrap().checksum, Checksum::Right, "{magic} cut at {at}");
            }
        }
        std::fs::write(&path, "<html>no dump at all</html>").unwrap();
        assert_eq!(look(&path).unwrap().format, None);
    }
}
