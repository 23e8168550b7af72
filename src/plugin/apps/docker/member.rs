//! The members of a tar, by their bytes: names of any bytes, long ones, and the records that go with a member.
//!
//! Own code and not the crate's, since that one ends a PAX record at the first newline: a name or an attribute with one in
//! it would be another name, or none. Here a record ends where its length says so.

use std::io::{self, Read, Write};

const BLOCK: usize = 512;
const BLOCK_BYTES: u64 = 512;
/// Longest set of records of one member (a name, attributes), in bytes.
const RECORDS_BYTES_MAX: u64 = 4 << 20;
/// What a header's field of seven octal digits can hold at most.
const OWNER_MAX: u64 = 0o7_777_777;
/// What one of eleven can.
const SIZE_MAX: u64 = 0o77_777_777_777;

pub(super) const REGULAR: u8 = b'0';
pub(super) const LINK: u8 = b'1';
pub(super) const SYMLINK: u8 = b'2';
pub(super) const DIRECTORY: u8 = b'5';

/// One member's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Member {
    /// As in the header; the old ways to say a regular file are [`REGULAR`].
    pub(super) kind: u8,
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    /// Of its content in the archive.
    pub(super) size: u64,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) mode: u32,
    pub(super) mtime: u64,
    /// Records beside name, link, size and owner: attributes, lists of access, exact times.
    pub(super) records: Vec<(Vec<u8>, Vec<u8>)>,
    uname: Vec<u8>,
    gname: Vec<u8>,
    device: Vec<u8>,
}

impl Member {
    pub(super) fn is_directory(&self) -> bool {
        self.kind == DIRECTORY
    }

    /// Extended attributes and lists of access.
    pub(super) fn extended(&self) -> impl Iterator<Item = &(Vec<u8>, Vec<u8>)> {
        self.records.iter().filter(|(key, _)| key.starts_with(b"SCHILY.xattr.") || key.starts_with(b"SCHILY.acl."))
    }
}

/// Reads a tar from its beginning to its end.
pub(super) struct Members<R> {
    inner: R,
    /// Of the member's content and its padding, still to come.
    left: u64,
    padding: u64,
    ended: bool,
}

impl<R: Read> Members<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, left: 0, padding: 0, ended: false }
    }

    /// The next member; what is left of the content of the one before is passed over. None: both blocks of the end came.
    pub(super) fn next(&mut self) -> io::Result<Option<Member>> {
        self.pass_over()?;
        let (mut name, mut link, mut records) = (None, None, Vec::new());
        while !self.ended {
            let Some(header) = self.header()? else { break };
            let kind = header.get(156).copied().unwrap_or(0);
            let mut member = Member::of(&header)?;
            match kind {
                b'L' => name = Some(until_zero(&self.body(member.size)?)),
                b'K' => link = Some(until_zero(&self.body(member.size)?)),
                b'x' => records.extend(self::records(&self.body(member.size)?)?),
                // For all members that follow; nobody writes such ones here.
                b'g' => drop(self.body(member.size)?),
                b'S' => return Err(broken("it has sparse members")),
                _ => {
                    member.take(records)?;
                    member.name = name.unwrap_or(member.name);
                    member.link = link.unwrap_or(member.link);
                    // What old archives write for a directory.
                    if member.kind == REGULAR && member.name.ends_with(b"/") {
                        member.kind = DIRECTORY;
                    }
                    // Links and devices have no content, whatever the field says.
                    if matches!(member.kind, LINK | SYMLINK | DIRECTORY | b'3' | b'4' | b'6') {
                        member.size = 0;
                    }
                    self.left = member.size;
                    self.padding = padding(member.size);
                    return Ok(Some(member));
                }
            }
        }
        Ok(None)
    }

    /// A header; none at the end.
    fn header(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        let mut header = [0; BLOCK];
        self.inner.read_exact(&mut header).map_err(|_| broken("its end is missing"))?;
        if header.iter().any(|byte| *byte != 0) {
            check(&header)?;
            return Ok(Some(header));
        }
        self.inner.read_exact(&mut header).map_err(|_| broken("its end is missing"))?;
        if header.iter().any(|byte| *byte != 0) {
            return Err(broken("there is something behind its end"));
        }
        self.ended = true;
        Ok(None)
    }

    fn body(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > RECORDS_BYTES_MAX {
            return Err(broken("the records of a member are too long"));
        }
        self.left = size;
        self.padding = padding(size);
        let mut body = Vec::new();
        self.read_to_end(&mut body)?;
        self.pass_over()?;
        Ok(body)
    }

    fn pass_over(&mut self) -> io::Result<()> {
        let rest = self.left + self.padding;
        (self.left, self.padding) = (0, 0);
        let passed = io::copy(&mut self.inner.by_ref().take(rest), &mut io::sink())?;
        if passed == rest { Ok(()) } else { Err(broken("its end is missing")) }
    }
}

/// The content of the member that came last.
impl<R: Read> Read for Members<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        let Some(into) = into.get_mut(..most).filter(|into| !into.is_empty()) else { return Ok(0) };
        let read = self.inner.read(into)?;
        if read == 0 {
            return Err(broken("its end is missing"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

impl Member {
    fn of(header: &[u8; BLOCK]) -> io::Result<Self> {
        let field = |from: usize, length: usize| header.get(from..from + length).unwrap_or_default();
        let mut name = until_zero(field(0, 100));
        // GNU's own headers have times where others have the name's beginning.
        if field(257, 6) == b"ustar\0" && header.get(345) != Some(&0) {
            name = [until_zero(field(345, 155)), name].join(&b'/');
        }
        let kind = match header.get(156).copied().unwrap_or(0) {
            0 | b'7' => REGULAR,
            other => other,
        };
        Ok(Self {
            kind,
            name,
            link: until_zero(field(157, 100)),
            size: number(field(124, 12))?,
            uid: number(field(108, 8))?,
            gid: number(field(116, 8))?,
            mode: u32::try_from(number(field(100, 8))? & 0o7777).unwrap_or(0),
            mtime: number(field(136, 12)).unwrap_or(0),
            records: Vec::new(),
            uname: until_zero(field(265, 32)),
            gname: until_zero(field(297, 32)),
            device: field(329, 16).to_vec(),
        })
    }

    fn take(&mut self, records: Vec<(Vec<u8>, Vec<u8>)>) -> io::Result<()> {
        for (key, value) in records {
            let decimal = || {
                let text = std::str::from_utf8(&value).ok();
                text.and_then(|text| text.parse().ok()).ok_or_else(|| broken("a record is no number"))
            };
            match key.as_slice() {
                b"path" => self.name = value,
                b"linkpath" => self.link = value,
                b"size" => self.size = decimal()?,
                b"uid" => self.uid = decimal()?,
                b"gid" => self.gid = decimal()?,
                key if key.starts_with(b"GNU.sparse.") => return Err(broken("it has sparse members")),
                _ => self.records.push((key, value)),
            }
        }
        Ok(())
    }
}

/// Writes a tar.
pub(super) struct Writer<W: Write> {
    inner: W,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(inner: W) -> Self {
        Self { inner }
    }

    /// A member as its head says, with `content` of just its size.
    pub(super) fn append(&mut self, member: &Member, content: &mut impl Read) -> io::Result<()> {
        let mut records = member.records.clone();
        let mut long = |key: &str, value: &[u8], most: usize| {
            if value.len() > most {
                records.push((key.as_bytes().to_vec(), value.to_vec()));
            }
        };
        long("path", &member.name, 100);
        long("linkpath", &member.link, 100);
        for (key, value, most) in
            [("size", member.size, SIZE_MAX), ("uid", member.uid, OWNER_MAX), ("gid", member.gid, OWNER_MAX)]
        {
            if value > most {
                records.push((key.as_bytes().to_vec(), value.to_string().into_bytes()));
            }
        }
        if !records.is_empty() {
            let body: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
            let head = Member { kind: b'x', name: b"PaxHeaders/larder".to_vec(), mode: 0o600, ..Member::default() };
            self.one(&Member { size: body.len() as u64, ..head }, &mut body.as_slice())?;
        }
        self.one(member, content)
    }

    fn one(&mut self, member: &Member, content: &mut impl Read) -> io::Result<()> {
        self.inner.write_all(&header(member))?;
        let written = io::copy(&mut content.take(member.size), &mut self.inner)?;
        if written != member.size {
            return Err(broken("a member is shorter than it says"));
        }
        let padding = usize::try_from(padding(member.size)).unwrap_or(0);
        self.inner.write_all([0; BLOCK].get(..padding).unwrap_or_default())
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        self.inner.write_all(&[0; 2 * BLOCK])?;
        self.inner.flush()?;
        Ok(self.inner)
    }
}

fn header(member: &Member) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |from: usize, length: usize, bytes: &[u8]| {
        for (to, byte) in header.iter_mut().skip(from).take(length).zip(bytes) {
            *to = *byte;
        }
    };
    let octal = |value: u64, digits: usize| format!("{value:0digits$o}").into_bytes();
    put(0, 100, &member.name);
    put(100, 8, &octal(u64::from(member.mode), 7));
    put(108, 8, &octal(member.uid.min(OWNER_MAX), 7));
    put(116, 8, &octal(member.gid.min(OWNER_MAX), 7));
    put(124, 12, &octal(if member.size > SIZE_MAX { 0 } else { member.size }, 11));
    put(136, 12, &octal(member.mtime.min(SIZE_MAX), 11));
    put(148, 8, b"        ");
    put(156, 1, &[member.kind]);
    put(157, 100, &member.link);
    put(257, 8, b"ustar\x0000");
    put(265, 31, &member.uname);
    put(297, 31, &member.gname);
    put(329, 16, &member.device);
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    let mut put = |bytes: &[u8]| header.iter_mut().skip(148).zip(bytes).for_each(|(to, byte)| *to = *byte);
    put(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits too.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    // One digit more where its own digits carry it over a power of ten.
    length = rest + length.to_string().len();
    [format!("{length} ").as_bytes(), key, b"=", value, b"\n"].concat()
}

fn records(mut body: &[u8]) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut records = Vec::new();
    while body.first().is_some_and(|byte| *byte != 0) {
        let wrong = || broken("a record of a member cannot be read");
        let space = body.iter().position(|byte| *byte == b' ').ok_or_else(wrong)?;
        let digits = body.get(..space).and_then(|digits| std::str::from_utf8(digits).ok());
        let length: usize = digits.and_then(|digits| digits.parse().ok()).ok_or_else(wrong)?;
        let record = body.get(space + 1..length).ok_or_else(wrong)?.strip_suffix(b"\n").ok_or_else(wrong)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(wrong)?;
        let (key, value) = record.split_at(equals);
        records.push((key.to_vec(), value.get(1..).unwrap_or_default().to_vec()));
        body = body.get(length..).unwrap_or_default();
    }
    Ok(records)
}

fn check(header: &[u8; BLOCK]) -> io::Result<()> {
    let wanted = number(header.get(148..156).unwrap_or_default())?;
    let sum = |signed: bool| -> i64 {
        let of = |(at, byte): (usize, &u8)| match at {
            148..156 => i64::from(b' '),
            _ if signed => i64::from(byte.cast_signed()),
            _ => i64::from(*byte),
        };
        header.iter().enumerate().map(of).sum()
    };
    let fits = [false, true].iter().any(|signed| u64::try_from(sum(*signed)) == Ok(wanted));
    if fits { Ok(()) } else { Err(broken("the checksum of a header is wrong")) }
}

/// Octal digits, or 64 bits behind a byte with its first bit set.
fn number(field: &[u8]) -> io::Result<u64> {
    if field.first().is_some_and(|first| first & 0x80 != 0) {
        // Negative ones (times before 1970) have the next bit too.
        let tail = field.get(field.len().saturating_sub(8)..).unwrap_or_default();
        return Ok(tail.iter().fold(0, |all, byte| (all << 8) | u64::from(*byte)));
    }
    let digits: Vec<u8> = field.iter().copied().filter(|byte| !matches!(byte, 0 | b' ')).collect();
    if digits.is_empty() {
        return Ok(0);
    }
    let text = std::str::from_utf8(&digits).ok();
    text.and_then(|text| u64::from_str_radix(text, 8).ok())
        .ok_or_else(|| broken("a header has a field that is no number"))
}

fn until_zero(field: &[u8]) -> Vec<u8> {
    field.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

fn padding(size: u64) -> u64 {
    size.div_ceil(BLOCK_BYTES) * BLOCK_BYTES - size
}

fn broken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(members: &[(Member, &[u8])]) -> Vec<(Member, Vec<u8>)> {
        let mut writer = Writer::new(Vec::new());
        for (member, content) in members {
            writer.append(member, &mut &content[..]).unwrap();
        }
        let tar = writer.finish().unwrap();
        let mut read = Members::new(tar.as_slice());
        let mut found = Vec::new();
        while let Some(member) = read.next().unwrap() {
            let mut content = Vec::new();
            read.read_to_end(&mut content).unwrap();
            found.push((member, content));
        }
        found
    }

    fn member(name: &[u8], size: u64) -> Member {
        let (uid, gid, mode, mtime) = (1000, 1001, 0o640, 1_700_000_000);
        let device = vec![0; 16];
        Member { kind: REGULAR, name: name.to_vec(), size, uid, gid, mode, mtime, device, ..Member::default() }
    }

    #[test]
    fn names_of_any_bytes_and_attributes_with_newlines_come_through() {
        let long: Vec<u8> = [b"d/".repeat(90), b"two\nlines \xe9".to_vec()].concat();
        let mut attributed = member(b"short", 3);
        attributed.records = vec![
            (b"SCHILY.xattr.user.x".to_vec(), b"one\ntwo=3\n\0\xff".to_vec()),
            (b"mtime".to_vec(), b"1700000000.5".to_vec()),
        ];
        let mut far = member(b"far", 0);
        far.uid = 4_000_000_000;
        let mut link = member(b"link", 0);
        (link.kind, link.link) = (SYMLINK, b"x/".repeat(80));
        let members: Vec<(Member, &[u8])> = vec![
            (member(&long, 5), b"hello"),
            (attributed, b"abc"),
            (far, b""),
            (link, b""),
            (member(b"a\nb", 0), b""),
        ];
        let wanted: Vec<(Member, Vec<u8>)> =
            members.iter().map(|(member, content)| (member.clone(), content.to_vec())).collect();
        assert_eq!(through(&members), wanted);
    }

    #[test]
    fn a_record_counts_its_own_length() {
        for length in 1..1200 {
            let written = record(b"path", &vec![b'x'; length]);
            assert_eq!(records(&written).unwrap(), [(b"path".to_vec(), vec![b'x'; length])]);
        }
    }

    #[test]
    fn what_the_usual_program_writes_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        let deep = tree.join("e".repeat(70)).join("f".repeat(70));
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("two\nlines ü"), "content").unwrap();
        for format in ["posix", "gnu", "ustar"] {
            let tar = directory.path().join(format);
            let mut call = std::process::Command::new("tar");
            call.arg(format!("--format={format}")).arg("-C").arg(&tree).arg("-cf").arg(&tar).arg(".");
            assert!(call.status().unwrap().success());
            let mut members = Members::new(std::fs::File::open(&tar).unwrap());
            let mut names = Vec::new();
            while let Some(member) = members.next().unwrap() {
                names.push(String::from_utf8(member.name).unwrap());
            }
            assert!(names.iter().any(|name| name.ends_with("/two\nlines ü")), "{format}: {names:?}");
            assert_eq!(names.len(), 4, "{format}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..3000)) {
            let mut members = Members::new(bytes.as_slice());
            while let Ok(Some(_)) = members.next() {}
            let _ = records(&bytes);
        }
    }
}
