//! Wrappers of every kind, made by the real programs, whole and empty.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// By the real program.
fn packed(program: &str, bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the packer is installed");
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(bytes).unwrap());
        child.wait_with_output().unwrap().stdout
    })
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

/// By the real program, which the tests of plugins need anyway.
fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let script = "import sys,zipfile\nwith zipfile.ZipFile(sys.argv[1],'w',zipfile.ZIP_DEFLATED) as z:\n  \
                  for n in sys.argv[2:]: z.write(n, n.rsplit('/',1)[1])";
    let path = directory.path().join("out.zip");
    let mut command = Command::new("python3");
    command.args(["-c", script]).arg(&path);
    for (name, bytes) in files {
        std::fs::write(directory.path().join(name), bytes).unwrap();
        command.arg(directory.path().join(name));
    }
    assert!(command.status().unwrap().success());
    std::fs::read(path).unwrap()
}

fn looked(bytes: &[u8]) -> Result<Content, Failure> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("export");
    std::fs::write(&path, bytes).unwrap();
    content(&path, directory.path())
}

const WRAPPERS: [&str; 3] = ["xz", "zstd", "bzip2"];

#[test]
fn nothing_is_nothing_however_it_is_wrapped() {
    let empty_tar = tar(&[]);
    let mut nothings = vec![
        ("nothing but white space or zeros", b" \n".to_vec()),
        ("nothing but white space or zeros", empty_tar.clone()),
        ("a gzip of nothing", gzip(b"")),
        ("a gzip of nothing", gzip(b"\n")),
        ("a gzip of nothing", gzip(&empty_tar)),
        ("a gzip of a gzip of nothing", gzip(&gzip(b""))),
        ("a tar of nothing", tar(&[("a.sql", b""), ("b.sql", b"\n")])),
        ("a tar of a gzip of nothing", tar(&[("a.sql.gz", &gzip(b"")), ("b", b"")])),
        ("a zip of nothing", zip(&[])),
        ("a zip of nothing", zip(&[("a.sql", b"")])),
        ("a gzip of a zip of nothing", gzip(&zip(&[("a.sql", b"")]))),
        ("a zip of a gzip of nothing", zip(&[("a.sql.gz", &gzip(b""))])),
    ];
    for program in WRAPPERS {
        let name = if program == "xz" { "an xz".to_owned() } else { format!("a {program}") };
        assert_eq!(looked(&packed(program, b"")).unwrap(), Content::Nothing(format!("{name} of nothing")));
        let inner = tar(&[("a", b"")]);
        assert_eq!(looked(&packed(program, &inner)).unwrap(), Content::Nothing(format!("{name} of a tar of nothing")));
    }
    nothings.push(("a gzip of an xz of nothing", gzip(&packed("xz", b""))));
    for (what, bytes) in nothings {
        assert_eq!(looked(&bytes).unwrap(), Content::Nothing(what.to_owned()));
    }
}

#[test]
fn packers_without_a_wrapper_of_their_own_here_are_never_looked_through_as_plain_text() {
    let lzma = |bytes: &[u8]| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("in");
        std::fs::write(&path, bytes).unwrap();
        let packed = Command::new("xz").args(["--format=lzma", "-c"]).arg(&path).output().unwrap();
        assert!(packed.status.success());
        packed.stdout
    };
    assert_eq!(looked(&lzma(b"")).unwrap(), Content::Nothing("an lzma of nothing".to_owned()));
    assert_eq!(looked(&lzma(b"x")).unwrap(), Content::Something);
    assert_eq!(looked(b"]00 is no lzma, and neither is this").unwrap(), Content::Something);
    for settings in ["lc=0,lp=2,pb=1", "lc=4,lp=0,pb=0,dict=4KiB", "dict=96MiB"] {
        let option = format!("--lzma1={settings}");
        let mut child = Command::new("xz")
            .args(["--format=lzma", "-c", &option])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.wait().unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut child.stdout.take().unwrap(), &mut bytes).unwrap();
        assert_eq!(looked(&bytes).unwrap(), Content::Nothing("an lzma of nothing".to_owned()), "{settings}");
    }
    for plain in [&[0_u8; 64][..], b"\x01\0\0\0\0\0\0\0\0\0\0\0\0\0", b"SQLite format 3\0"] {
        assert!(!is_lzma(plain), "{plain:?}");
    }
    // The frame of nothing; its program may be missing.
    let lz4 = [0x04, 0x22, 0x4d, 0x18, 0x64, 0x40, 0xa7, 0, 0, 0, 0, 0x05, 0x5d, 0xcc, 0x02];
    let nothing = looked(&lz4).unwrap();
    assert!(matches!(&nothing, Content::Unknown(_)) || nothing == Content::Nothing("an lz4 of nothing".to_owned()));
    let mut cut = lz4.to_vec();
    cut.truncate(9);
    cut.extend(b"\x50\0\0\x80CREATE TABLE t (a int);");
    assert_ne!(looked(&cut).ok(), Some(Content::Nothing(String::new())));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dump.lz4");
    std::fs::write(&path, &cut).unwrap();
    let mut said = Vec::new();
    let inside: Inside = serde_json::from_str("{\"contains\": \"CREATE TABLE\"}").unwrap();
    inside.tell(&path, directory.path(), &mut EventWriter { out: &mut said });
    let said = String::from_utf8(said).unwrap();
    assert!(!said.contains("\"proven\""), "what is cut is no proof: {said}");
}

#[test]
fn something_is_something_and_what_cannot_be_opened_too() {
    let mut somethings = vec![
        b"x".to_vec(),
        gzip(b"x"),
        tar(&[("a", b""), ("b", b"x")]),
        tar(&[("a.gz", &gzip(b"")), ("b.gz", &gzip(b"x"))]),
        zip(&[("a.gz", &gzip(b"x"))]),
        gzip(&zip(&[("a", b"x")])),
        b"BZh is no bzip2".to_vec(),
        gzip(&vec![b'y'; 3 << 20]),
    ];
    somethings.extend(WRAPPERS.map(|program| packed(program, &vec![b'x'; 3 << 20])));
    for bytes in somethings {
        assert_eq!(looked(&bytes).unwrap(), Content::Something);
    }
    let mut encrypted = zip(&[("a", b"x")]);
    // The bit that says so, in the member's own head and in the directory.
    encrypted[6] |= 1;
    let directory = encrypted.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    encrypted[directory + 8] |= 1;
    encrypted[14] ^= 1;
    assert!(!matches!(looked(&encrypted).unwrap(), Content::Nothing(_)));
}

#[test]
fn a_wrapper_that_is_cut_before_anything_came_out_of_it_is_damaged() {
    for bytes in [gzip(b""), gzip(&gzip(b""))] {
        let cut = &bytes[..bytes.len() - 3];
        let refused = looked(cut).unwrap_err().trouble;
        assert_eq!(refused.code, "archive_damaged", "{refused:?}");
    }
}

fn dump(kind: sql::Kind, files: &[&str]) -> Result<String, (Verdict, String)> {
    let mut reading = Reading::new(Vec::new(), Some(kind));
    for file in files {
        reading.file(&mut file.as_bytes()).unwrap();
    }
    reading.dump()
}

#[test]
fn a_dump_is_whole_when_it_has_its_end_and_something_in_it() {
    let head = "--\n-- PostgreSQL database dump\n--\n\n\\restrict x\n\n";
    let end = "--\n-- PostgreSQL database dump complete\n--\n\n\\unrestrict x\n";
    let rows = "INSERT INTO t VALUES (1);\n".repeat(30_000);
    let whole = format!("{head}CREATE TABLE t (a int);\n{rows}{end}");
    let said = dump(sql::Kind::Postgres, &["readme", &whole]).unwrap();
    assert!(said.contains("30001 statements"), "{said}");
    for (file, verdict) in [
        (format!("{head}CREATE TABLE t (a int);\n{rows}"), Verdict::Failed),
        (format!("{head}SET x = 1;\n{end}"), Verdict::Failed),
        ("pg_dump: error: connection failed".to_owned(), Verdict::Failed),
        ("PGDMP\u{1}\u{e}".to_owned(), Verdict::CouldNotVerify),
    ] {
        assert_eq!(dump(sql::Kind::Postgres, &[&file]).unwrap_err().0, verdict);
    }
    assert!(dump(sql::Kind::Postgres, &[&whole, &whole[..whole.len() - 200]]).is_err(), "one of two is cut");
    let mysql = "-- MariaDB dump 10.19\nCREATE TABLE `t` (a int);\n-- Dump completed on 2026-01-01\n";
    assert!(dump(sql::Kind::Mysql, &[mysql]).is_ok());
    assert!(dump(sql::Kind::Mysql, &[&whole]).is_err() && dump(sql::Kind::Postgres, &[mysql]).is_err());
}

#[test]
fn a_size_is_a_number_or_a_text() {
    let inside = |text: &str| serde_json::from_str::<Inside>(text);
    assert_eq!(inside("{\"min_size\": 10}").unwrap().min_size, Some(AtLeast(10)));
    assert_eq!(inside("{\"min_size\": \"10KiB\"}").unwrap().min_size, Some(AtLeast(10 << 10)));
    assert!(inside("{\"min_size\": \"ten\"}").is_err() && inside("{\"min_siez\": 1}").is_err());
}

#[test]
fn a_dump_whose_rows_go_on_up_to_the_mark_at_its_end_is_cut() {
    let head = "--\n-- PostgreSQL database dump\n--\n\nCREATE TABLE public.t (i integer);\n\nCOPY public.t (i) FROM stdin;\n1\n2\n";
    let end = "\n--\n-- PostgreSQL database dump complete\n--\n\n";
    let whole = format!("{head}\\.\n{end}");
    assert!(dump(sql::Kind::Postgres, &[&whole]).is_ok());
    let (verdict, told) = dump(sql::Kind::Postgres, &[&format!("{head}{end}")]).unwrap_err();
    assert!(verdict == Verdict::Failed && told.contains("rows"), "{told}");
    // A function may say the same in its text.
    let body = "CREATE FUNCTION f() RETURNS text AS $$ select '\nCOPY public.t (i) FROM stdin;\n' $$;\n";
    assert!(dump(sql::Kind::Postgres, &[&whole.replacen("CREATE TABLE", &format!("{body}CREATE TABLE"), 1)]).is_ok());
}

#[test]
fn what_stands_behind_an_lz4_is_told() {
    let junk = [packed("lz4", b"x"), b"junkjunkjunk".repeat(50)].concat();
    let directory = tempfile::tempdir().unwrap();
    let mut reason = None;
    let walker = Walker { scratch: directory.path() };
    if let Err(Stop::Damaged(why)) = walker.walk(&mut junk.as_slice(), 0, &mut Vec::new(), &mut |source| {
        std::io::copy(source, &mut std::io::sink()).unwrap();
        Ok(())
    }) {
        reason = Some(why);
    }
    assert!(reason.as_ref().is_some_and(|why| !why.trim().is_empty()), "{reason:?}");
}
