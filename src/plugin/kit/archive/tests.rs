//! Archives as applications and attackers make them.

use std::io::Write as _;
use std::path::PathBuf;

use super::*;

/// A zip with the given members, deflated.
fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = rawzip::ZipArchiveWriter::new(&mut bytes);
    for (name, content) in members {
        let path = rawzip::path::EntryPath::verbatim(name.as_bytes().to_vec());
        let (mut entry, config) = writer.new_file(path).compression_method(CompressionMethod::DEFLATE).start().unwrap();
        let mut data = config.wrap(flate2::write::DeflateEncoder::new(&mut entry, flate2::Compression::default()));
        data.write_all(content).unwrap();
        let (encoder, descriptor) = data.finish().unwrap();
        encoder.finish().unwrap();
        entry.finish(descriptor).unwrap();
    }
    writer.finish().unwrap();
    bytes
}

fn put(directory: &tempfile::TempDir, bytes: &[u8]) -> PathBuf {
    let path = directory.path().join("export");
    std::fs::write(&path, bytes).unwrap();
    path
}

fn read(path: &Path) -> Result<Survey, Failure> {
    read_zip(path, Bounds::default(), &mut |_, _| Ok(()))
}

#[test]
fn a_whole_zip_is_read_and_its_members_are_seen() {
    let directory = tempfile::tempdir().unwrap();
    let path = put(&directory, &zip(&[("a/b.txt", b"hello"), ("c", &vec![7; 100_000])]));
    let mut seen = Vec::new();
    let survey = read_zip(&path, Bounds::default(), &mut |member, source| {
        seen.push((member.name.clone(), take(member, source, 1 << 20)?.len()));
        Ok(())
    });
    assert_eq!(survey.unwrap(), Survey { members: 2, bytes: 100_005 });
    assert_eq!(seen, [("a/b.txt".to_owned(), 5), ("c".to_owned(), 100_000)]);
}

#[test]
fn no_damaged_zip_is_taken_for_a_whole_one() {
    let directory = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..20_000_u32).flat_map(|n| (n * 7919).to_le_bytes()).collect();
    let whole = zip(&[("data.db", &content), ("x.json", b"{}")]);
    for cut in [0, 6, 40, whole.len() / 2, whole.len() - 1] {
        let path = put(&directory, &whole[..cut]);
        assert!(read(&path).is_err(), "cut at {cut}");
    }
    for place in (60..whole.len() - 400).step_by(whole.len() / 40) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x10;
        let path = put(&directory, &bytes);
        assert_eq!(read(&path).unwrap_err().trouble.code, "archive_damaged", "flipped at {place}");
    }
    let path = put(&directory, b"<!doctype html><title>Login</title>");
    assert!(read(&path).is_err() && !looks_like_zip(&path));
}

#[test]
fn members_that_lead_outside_are_refused_before_anything_is_unpacked() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["../x", "/etc/passwd", "a/../../x", "a\\..\\x", "C:/x"] {
        let path = put(&directory, &zip(&[(name, b"x")]));
        let mut unpacked = false;
        let refused = read_zip(&path, Bounds::default(), &mut |_, _| {
            unpacked = true;
            Ok(())
        });
        assert_eq!(refused.unwrap_err().trouble.code, "archive_unsafe", "{name}");
        assert!(!unpacked);
    }
}

#[test]
fn bombs_are_refused_before_anything_is_unpacked() {
    let directory = tempfile::tempdir().unwrap();
    let path = put(&directory, &zip(&[("zeros", &vec![0; 50 << 20])]));
    assert_eq!(read(&path).unwrap_err().trouble.code, "archive_bomb");
}

#[test]
fn a_million_members_are_refused_before_one_is_unpacked() {
    const MEMBERS: u64 = 1_000_000;
    let directory = tempfile::tempdir().unwrap();
    let mut bytes = Vec::new();
    let mut writer = rawzip::ZipArchiveWriter::new(&mut bytes);
    for n in 0..MEMBERS {
        let path = rawzip::path::EntryPath::verbatim(n.to_string().into_bytes());
        let (entry, config) = writer.new_file(path).compression_method(CompressionMethod::STORE).start().unwrap();
        let (_, descriptor) = config.wrap(io::sink()).finish().unwrap();
        entry.finish(descriptor).unwrap();
    }
    writer.finish().unwrap();
    let zip = put(&directory, &bytes);
    let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for n in 0..MEMBERS {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        builder.append_data(&mut header, n.to_string(), io::empty()).unwrap();
    }
    let mut visited = 0;
    let refuse = |found: Result<Survey, Failure>| assert_eq!(found.unwrap_err().trouble.code, "archive_bomb");
    refuse(read_zip(&zip, Bounds::default(), &mut |_, _| {
        visited += 1;
        Ok(())
    }));
    assert_eq!(visited, 0);
    // A tar has no directory: it is followed as far as its bound.
    let tar = put(&directory, &builder.into_inner().unwrap().finish().unwrap());
    refuse(read_tar(&tar, Gzip::Yes, Bounds::default(), &mut |_, _| Ok(())));
}

#[test]
fn a_tar_is_read_to_its_end_and_links_in_it_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let build = |link: bool| {
        let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default()));
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        header.set_mode(0o600);
        builder.append_data(&mut header, "./backup.json", b"hello".as_slice()).unwrap();
        if link {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, "evil", "/etc/passwd").unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap()
    };
    let whole = build(false);
    let path = put(&directory, &whole);
    let survey = read_tar(&path, Gzip::Yes, Bounds::default(), &mut |member, _| {
        assert_eq!(member.name, "backup.json");
        Ok(())
    });
    assert_eq!(survey.unwrap(), Survey { members: 1, bytes: 5 });
    let path = put(&directory, &whole[..whole.len() - 4]);
    assert!(read_tar(&path, Gzip::Yes, Bounds::default(), &mut |_, _| Ok(())).is_err());
    let path = put(&directory, &build(true));
    let refused = read_tar(&path, Gzip::Yes, Bounds::default(), &mut |_, _| Ok(()));
    assert_eq!(refused.unwrap_err().trouble.code, "archive_unsafe");
}
