//! The checksum of an RDB file: the last eight bytes, CRC-64 of all before them, zeros where it is switched off.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::Path;

/// The polynomial of Jones, reflected, as every version of Redis and Valkey has it.
const POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;
const LENGTH: u64 = 8;
const CHUNK_BYTES: usize = 64 << 10;

#[derive(Debug, PartialEq, Eq)]
pub(in crate::plugin) enum Checksum {
    Right,
    Wrong,
    None,
}

pub(in crate::plugin) fn of(file: &Path) -> std::io::Result<Checksum> {
    let length = std::fs::metadata(file)?.len();
    of_first(file, length)
}

/// The same of what the first `length` bytes of a file are.
pub(in crate::plugin) fn of_first(file: &Path, length: u64) -> std::io::Result<Checksum> {
    let file = File::open(file)?;
    let Some(length) = length.checked_sub(LENGTH) else { return Ok(Checksum::Wrong) };
    let (table, mut crc, mut left) = (table(), 0, length);
    let (mut reader, mut chunk) = (BufReader::new(file), vec![0; CHUNK_BYTES]);
    while left > 0 {
        let wanted = usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        let Some(part) = chunk.get_mut(..wanted) else { break };
        reader.read_exact(part)?;
        crc = part.iter().fold(crc, |crc, byte| step(&table, crc, *byte));
        left -= wanted as u64;
    }
    let mut told = [0; 8];
    reader.read_exact(&mut told)?;
    Ok(match u64::from_le_bytes(told) {
        0 => Checksum::None,
        told if told == crc => Checksum::Right,
        _ => Checksum::Wrong,
    })
}

fn step(table: &[u64; 256], crc: u64, byte: u8) -> u64 {
    let [low, ..] = crc.to_le_bytes();
    table.get(usize::from(low ^ byte)).copied().unwrap_or(0) ^ (crc >> 8)
}

fn table() -> [u64; 256] {
    std::array::from_fn(|index| {
        (0..8).fold(index as u64, |crc, _| if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_redis() {
        // The check value in Redis's own source.
        let crc = b"123456789".iter().fold(0, |crc, byte| step(&table(), crc, *byte));
        assert_eq!(crc, 0xe9c6_d914_c4b8_d9ca);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dump.rdb");
        let write = |body: &[u8], sum: u64| {
            std::fs::write(&path, [body, &sum.to_le_bytes()].concat()).unwrap();
            of(&path).unwrap()
        };
        assert_eq!(write(b"123456789", crc), Checksum::Right);
        assert_eq!(write(b"123456780", crc), Checksum::Wrong);
        assert_eq!(write(b"123456789", 0), Checksum::None);
        std::fs::write(&path, b"short").unwrap();
        assert_eq!(of(&path).unwrap(), Checksum::Wrong);
    }
}
