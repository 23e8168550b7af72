//! Databases of programs among files: recognised by how their files begin, so that no copy of one that is written to
//! passes for a backup of it.
//!
//! A file that is read while its program writes is of no instant. SQLite is copied by its own online backup where its
//! file lies on this host, and checked elsewhere; others need their program to stand still, or a dump.

use std::collections::{BTreeMap, BTreeSet};

pub(crate) mod sqlite;
pub(crate) mod told;
pub(crate) mod tree;

/// So many bytes of a file tell what it is.
pub(crate) const HEAD_BYTES: usize = 128;
/// How SQLite's rollback journals begin.
const JOURNAL: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
/// More databases than this in one place are not looked after one by one; who does so says that there are more.
pub(crate) const NAMED_MAX: usize = 200;

/// What kind of database it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Sqlite,
    /// A write-ahead log or a journal whose database does not begin as SQLite's do: it is encrypted.
    SqliteEncrypted,
    Berkeley,
    Lmdb,
    Mdbx,
    InnoDb,
    MyIsam,
    Postgres,
    WiredTiger,
    LevelDb,
    Bolt,
    H2,
    RedisLog,
    Tdb,
    Gdbm,
    DuckDb,
    Realm,
    Firebird,
}

impl Kind {
    pub(crate) fn shown(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::SqliteEncrypted => "encrypted SQLite",
            Self::Berkeley => "Berkeley DB",
            Self::Lmdb => "LMDB",
            Self::Mdbx => "MDBX",
            Self::InnoDb => "InnoDB (MySQL, MariaDB)",
            Self::MyIsam => "MyISAM or Aria (MySQL, MariaDB)",
            Self::Postgres => "PostgreSQL",
            Self::WiredTiger => "WiredTiger (MongoDB)",
            Self::LevelDb => "LevelDB or RocksDB",
            Self::Bolt => "bbolt",
            Self::H2 => "H2",
            Self::RedisLog => "Redis (append-only files)",
            Self::Tdb => "TDB",
            Self::Gdbm => "GDBM",
            Self::DuckDb => "DuckDB",
            Self::Realm => "Realm",
            Self::Firebird => "Firebird",
        }
    }

    /// Whether the database is all that lies in the directory of the file that tells of it.
    pub(crate) fn is_a_directory(self) -> bool {
        matches!(self, Self::InnoDb | Self::MyIsam | Self::Postgres | Self::WiredTiger | Self::LevelDb | Self::RedisLog)
    }
}

/// Whether a file of this name and size is worth a look at how it begins.
pub(crate) fn is_worth_a_look(name: &[u8], size: u64) -> bool {
    let base = base(name);
    // All of them are written in pages, but for the few whose name tells.
    size > 0 && (size.is_multiple_of(512) || is_named(base) || base.ends_with(b"-wal") || base.ends_with(b"-journal"))
}

fn is_named(base: &[u8]) -> bool {
    matches!(base, b"PG_VERSION" | b"CURRENT" | b"WiredTiger" | b"aria_log_control")
        || [&b".MYI"[..], b".aof.manifest", b".tdb"].iter().any(|end| base.ends_with(end))
}

fn base(name: &[u8]) -> &[u8] {
    name.rsplit(|byte| *byte == b'/').next().unwrap_or(name)
}

/// What the file is, by its name and its first [`HEAD_BYTES`]; none: no database that is known here.
pub(crate) fn recognise(name: &[u8], head: &[u8]) -> Option<Kind> {
    let base = base(name);
    let at = |offset: usize, magic: &[u8]| head.get(offset..offset + magic.len()) == Some(magic);
    let word = |offset: usize| -> Option<[u8; 4]> { head.get(offset..offset + 4)?.try_into().ok() };
    let either = |offset: usize, all: &[u32]| {
        word(offset)
            .is_some_and(|word| all.contains(&u32::from_le_bytes(word)) || all.contains(&u32::from_be_bytes(word)))
    };
    let text = || head.split(|byte| *byte == 0).next().unwrap_or_default();
    match () {
        () if at(0, b"SQLite format 3\0") => Some(Kind::Sqlite),
        () if base.ends_with(b"-wal") && either(0, &[0x377f_0682, 0x377f_0683]) => Some(Kind::SqliteEncrypted),
        // SQLite begins it so, encrypted or not; one that is done with begins with zeros.
        () if base.ends_with(b"-journal") && at(0, &JOURNAL) => Some(Kind::SqliteEncrypted),
        () if base == b"PG_VERSION" && head.first().is_some_and(u8::is_ascii_digit) => Some(Kind::Postgres),
        () if base == b"CURRENT" && text().starts_with(b"MANIFEST-") => Some(Kind::LevelDb),
        () if base == b"WiredTiger" && text().starts_with(b"WiredTiger") => Some(Kind::WiredTiger),
        () if base.ends_with(b".aof.manifest") => Some(Kind::RedisLog),
        () if base.ends_with(b".MYI") && at(0, &[0xfe, 0xfe, 0x07]) => Some(Kind::MyIsam),
        () if base == b"aria_log_control" && at(0, &[0xfe, 0xfe, 0x0c]) => Some(Kind::MyIsam),
        // The page with the head of a tablespace.
        () if (base.ends_with(b".ibd") || base.starts_with(b"ibdata")) && at(24, &[0, 8]) => Some(Kind::InnoDb),
        () if either(12, &[0x0005_3162, 0x0006_1561, 0x0004_2253, 0x0007_4582]) => Some(Kind::Berkeley),
        () if either(16, &[0xbeef_c0de]) => Some(Kind::Lmdb),
        () if either(16, &[0xed0c_daed]) => Some(Kind::Bolt),
        () if at(21, &[0x11, 0x4c, 0xef, 0xbd, 0x9d, 0x65, 0x59]) => Some(Kind::Mdbx),
        () if at(0, b"H:2,block") => Some(Kind::H2),
        () if at(0, b"TDB file\n") => Some(Kind::Tdb),
        () if either(0, &[0x1357_9ace, 0x1357_9acd, 0x1357_9acf]) => Some(Kind::Gdbm),
        () if at(8, b"DUCK") => Some(Kind::DuckDb),
        () if at(16, b"T-DB") => Some(Kind::Realm),
        // A header page with the on-disk structure's version, of a page size that Firebird has.
        () if at(0, &[0x01, 0x00]) && base.ends_with(b".fdb") => Some(Kind::Firebird),
        () => None,
    }
}

/// The databases of one place, each once, by the path of its file or its directory.
#[derive(Debug, Default)]
pub(crate) struct FoundDatabases {
    all: BTreeSet<(Vec<u8>, Kind)>,
}

impl FoundDatabases {
    pub(crate) fn add(&mut self, name: &[u8], kind: Kind) {
        let length = name.len() - base(name).len();
        let place = match kind {
            Kind::SqliteEncrypted => {
                name.strip_suffix(b"-wal").or_else(|| name.strip_suffix(b"-journal")).unwrap_or(name)
            }
            _ if kind.is_a_directory() => name.get(..length.saturating_sub(1)).unwrap_or_default(),
            _ => name,
        };
        self.place(place, kind);
    }

    /// As `add`, where the database's own place is known.
    pub(crate) fn place(&mut self, place: &[u8], kind: Kind) {
        self.all.insert((place.to_vec(), kind));
    }

    /// All of them, in order; the parts of a database that is a whole directory are not told again.
    pub(crate) fn databases(&self) -> Vec<(&[u8], Kind)> {
        let mut kinds: BTreeMap<&[u8], Vec<Kind>> = BTreeMap::new();
        for (name, kind) in &self.all {
            kinds.entry(name).or_default().push(*kind);
        }
        let is_part = |name: &[u8], kind: Kind| {
            let has = |place: &[u8], is: &dyn Fn(Kind) -> bool| {
                kinds.get(place).is_some_and(|kinds| kinds.iter().any(|kind| is(*kind)))
            };
            let family = |kind: Kind| if kind == Kind::MyIsam { Kind::InnoDb } else { kind };
            let plain = kind == Kind::SqliteEncrypted && has(name, &|whole| whole == Kind::Sqlite);
            let twin = kind == Kind::MyIsam && has(name, &|whole| whole == Kind::InnoDb);
            // MySQL keeps a directory for each database below that of the server.
            let is_inner = |whole: Kind| whole.is_a_directory() && family(whole) == family(kind);
            plain || twin || parents(name).any(|parent| has(parent, &is_inner))
        };
        let all = self.all.iter().map(|(name, kind)| (name.as_slice(), *kind));
        all.filter(|(name, kind)| !is_part(name, *kind)).collect()
    }
}

/// The directories that a name lies in, up to the root, which has no name.
fn parents(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(parent(name), |at| parent(at))
}

fn parent(name: &[u8]) -> Option<&[u8]> {
    let end = name.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    if name.is_empty() { None } else { name.get(..end) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut head = vec![0; HEAD_BYTES];
        for (at, bytes) in parts {
            head[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        head
    }

    #[test]
    fn databases_are_told_by_how_their_files_begin() {
        for (name, parts, kind) in [
            ("x.bin", vec![(0, &b"SQLite format 3\0"[..])], Some(Kind::Sqlite)),
            ("a/PG_VERSION", vec![(0, b"15\n")], Some(Kind::Postgres)),
            ("data.mdb", vec![(16, &[0xde, 0xc0, 0xef, 0xbe])], Some(Kind::Lmdb)),
            ("__db.001", vec![(12, &[0x62, 0x31, 0x05, 0])], Some(Kind::Berkeley)),
            ("other-endian", vec![(12, &[0, 0x06, 0x15, 0x61])], Some(Kind::Berkeley)),
            ("shop/t.ibd", vec![(24, &[0, 8])], Some(Kind::InnoDb)),
            ("ibdata1", vec![(24, &[0, 8])], Some(Kind::InnoDb)),
            ("db/CURRENT", vec![(0, b"MANIFEST-000004\n")], Some(Kind::LevelDb)),
            ("portainer.db", vec![(16, &[0xed, 0xda, 0x0c, 0xed])], Some(Kind::Bolt)),
            ("x-wal", vec![(0, &[0x37, 0x7f, 0x06, 0x82])], Some(Kind::SqliteEncrypted)),
            ("x.db-journal", vec![(0, &JOURNAL)], Some(Kind::SqliteEncrypted)),
            ("x.db-journal", vec![(0, &[0; 8])], None),
            ("photo.jpg", vec![(0, &[0xff, 0xd8])], None),
            ("CURRENT", vec![(0, b"the current state of affairs")], None),
        ] {
            assert_eq!(recognise(name.as_bytes(), &head(&parts)), kind, "{name}");
            assert_eq!(recognise(name.as_bytes(), b""), None, "{name}");
        }
        assert!(
            is_worth_a_look(b"a/PG_VERSION", 3) && is_worth_a_look(b"x.db", 4096) && !is_worth_a_look(b"x.txt", 4097)
        );
    }

    #[test]
    fn what_is_one_database_is_told_once() {
        let mut found = FoundDatabases::default();
        for (name, kind) in [
            ("my/ibdata1", Kind::InnoDb),
            ("my/shop/t.ibd", Kind::InnoDb),
            ("my/aria_log_control", Kind::MyIsam),
            ("pg/PG_VERSION", Kind::Postgres),
            ("pg/base/1/PG_VERSION", Kind::Postgres),
            ("app.db", Kind::Sqlite),
            ("app.db-wal", Kind::SqliteEncrypted),
            ("secret.db-wal", Kind::SqliteEncrypted),
            ("app.db-journal", Kind::SqliteEncrypted),
            ("signal.db-journal", Kind::SqliteEncrypted),
        ] {
            found.add(name.as_bytes(), kind);
        }
        let shown: Vec<String> = found
            .databases()
            .iter()
            .map(|(name, kind)| format!("{} {kind:?}", String::from_utf8_lossy(name)))
            .collect();
        assert_eq!(
            shown,
            ["app.db Sqlite", "my InnoDb", "pg Postgres", "secret.db SqliteEncrypted", "signal.db SqliteEncrypted"]
        );
    }
}
