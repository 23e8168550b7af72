//! What an export of any application can be checked for.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::Deserializer;

use crate::error::codes;
use crate::plugin::kit::archive::{self, Bounds, Gzip};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::json::{self, Probe};
use crate::plugin::kit::{plain, sqlite_check, xml};
use crate::types::ByteSize;

/// One thing that must be true of the body.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Check {
    /// It is JSON to its end, and not an empty object or list.
    Json,
    /// It is a zip; every member's checksum is right.
    Zip,
    /// It is a tar.
    Tar,
    /// It is a tar packed by gzip; the checksum is right.
    #[serde(rename = "tar.gz")]
    TarGz,
    /// It is packed by gzip; the checksum is right.
    Gzip,
    /// It is an SQLite database that passes integrity_check and has a table.
    Sqlite,
    /// It is XML to its end with this root, such as `/opnsense`.
    Xml(#[schemars(regex(pattern = "^/?[^/]+$"))] String),
    /// It has at least this size, such as `10KiB`.
    MinSize(Size),
    /// This text is in it.
    Contains(#[schemars(length(min = 1))] String),
}

/// A size in settings: `10KiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let ByteSize(bytes) = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Self(bytes))
    }
}

impl serde::Serialize for Size {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&ByteSize(self.0).to_string().replace(' ', ""))
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)? ?([KMGT]i?)?B?$" })
    }
}

/// What a check saw.
pub(super) struct Seen {
    pub(super) detail: String,
    pub(super) figures: BTreeMap<String, u64>,
}

impl Seen {
    fn new(detail: String, figures: &[(&str, u64)]) -> Self {
        Self { detail, figures: figures.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect() }
    }
}

impl Check {
    /// In a few words.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Json => "it is JSON to its end".to_owned(),
            Self::Zip => "every member of the zip has its checksum".to_owned(),
            Self::Tar => "the tar reads to its end".to_owned(),
            Self::TarGz => "the tar.gz reads to its end and has its checksum".to_owned(),
            Self::Gzip => "the gzip has its checksum".to_owned(),
            Self::Sqlite => "integrity_check".to_owned(),
            Self::Xml(root) => format!("it is XML to its end with the root {}", root.trim_start_matches('/')),
            Self::MinSize(Size(bytes)) => format!("it has at least {}", ByteSize(*bytes)),
            Self::Contains(text) => format!("it contains {text:?}"),
        }
    }

    pub(super) fn look(&self, path: &Path) -> Result<Seen, Failure> {
        match self {
            Self::Json => look_at_json(path),
            Self::Zip => {
                let survey = archive::read_zip(path, Bounds::default(), &mut |_, _| Ok(()))?;
                members(survey)
            }
            Self::Tar => tar(path, Gzip::No),
            Self::TarGz => tar(path, Gzip::Yes),
            Self::Gzip => gzip(path),
            Self::Sqlite => sqlite(path),
            Self::Xml(root) => {
                let shape = xml::read(path)?;
                let wanted = root.trim_start_matches('/');
                if shape.root != wanted {
                    return Err(Failure::new(
                        codes::WRONG_ROOT,
                        format!("the root of the XML is <{}>, not <{wanted}>", shape.root),
                    )
                    .hint("is it the right address, and the right application behind it?"));
                }
                Ok(Seen::new(format!("{} elements", shape.elements), &[("elements", shape.elements)]))
            }
            Self::MinSize(Size(wanted)) => {
                let size = std::fs::metadata(path).map_or(0, |found| found.len());
                if size < *wanted {
                    return Err(too_small(size, *wanted));
                }
                Ok(Seen::new(ByteSize(size).to_string(), &[]))
            }
            Self::Contains(text) => contains(path, text),
        }
    }
}

fn too_small(size: u64, wanted: u64) -> Failure {
    Failure::new(
        codes::EXPORT_SMALL,
        format!("the export has {}, at least {} are wanted", ByteSize(size), ByteSize(wanted)),
    )
    .hint("look at what the application exports; lower `min_size` if that is right")
}

fn members(survey: archive::Survey) -> Result<Seen, Failure> {
    if survey.members == 0 {
        return Err(
            Failure::new(codes::EXPORT_EMPTY, "the archive has no member").hint("look into the application's log")
        );
    }
    let detail = format!("{} members, {} unpacked", survey.members, ByteSize(survey.bytes));
    Ok(Seen::new(detail, &[("members", survey.members), ("bytes_unpacked", survey.bytes)]))
}

fn tar(path: &Path, gzip: Gzip) -> Result<Seen, Failure> {
    members(archive::read_tar(path, gzip, Bounds::default(), &mut |_, _| Ok(()))?)
}

fn gzip(path: &Path) -> Result<Seen, Failure> {
    let bound = Bounds::default().bytes;
    let unpacked = File::open(path).and_then(|file| {
        io::copy(&mut MultiGzDecoder::new(BufReader::with_capacity(256 << 10, file)).take(bound + 1), &mut io::sink())
    });
    match unpacked {
        Ok(bytes) if bytes > bound => {
            Err(Failure::new(codes::ARCHIVE_BOMB, "the gzip would unpack to more than 256 GiB"))
        }
        Ok(bytes) => Ok(Seen::new(format!("{} unpacked", ByteSize(bytes)), &[("bytes_unpacked", bytes)])),
        Err(error) => Err(Failure::new(codes::ARCHIVE_DAMAGED, format!("the export is no whole gzip: {error}"))
            .hint("it was cut or changed on its way, or is something else; run it again")),
    }
}

fn sqlite(path: &Path) -> Result<Seen, Failure> {
    let damaged = |why: String| {
        Failure::new(codes::DATABASE_DAMAGED, format!("the export is no sound SQLite database: {why}"))
            .hint("check the application's own database, and run it again")
    };
    let tables = sqlite_check::tables(path).map_err(damaged)?;
    if tables.is_empty() {
        return Err(damaged("it has no table".to_owned()));
    }
    let (count, rows) = (tables.len() as u64, tables.values().sum());
    Ok(Seen::new(format!("ok; {count} tables, {rows} rows"), &[("tables", count), ("rows", rows)]))
}

fn contains(path: &Path, text: &str) -> Result<Seen, Failure> {
    const CHUNK_BYTES: usize = 64 << 10;
    let unreadable =
        |error: io::Error| Failure::new(codes::ARTIFACT_UNREADABLE, format!("the export cannot be read: {error}"));
    let mut file = plain::open(path).map_err(unreadable)?;
    let mut window = Vec::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let length = file.read(&mut chunk).map_err(unreadable)?;
        let Some(read) = chunk.get(..length).filter(|read| !read.is_empty()) else {
            return Err(Failure::new(codes::TEXT_MISSING, format!("the export does not contain {text:?}"))
                .hint("look at what the application exports, perhaps with fewer rights than it needs"));
        };
        window.extend_from_slice(read);
        if memmem(&window, text.as_bytes()) {
            return Ok(Seen::new("found".to_owned(), &[]));
        }
        // It may begin at the end of this piece.
        let keep = text.len().saturating_sub(1).min(window.len());
        window.drain(..window.len() - keep);
    }
}

fn memmem(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len().max(1)).any(|window| window == needle)
}

fn look_at_json(path: &Path) -> Result<Seen, Failure> {
    let broken = |why: &str| {
        Failure::new(codes::NOT_JSON, format!("the export is no JSON of a backup: {why}"))
            .hint("it was cut on its way, or is something else; look at what the application answers")
    };
    let text = plain::open(path).map_err(|error| broken(&error.to_string()))?;
    match json::export(text).map_err(|why| broken(&why))? {
        Probe::Text(_) | Probe::Other => Err(broken("it is a single value")),
        Probe::Object(count) => Ok(Seen::new(format!("an object with {count} fields"), &[("fields", count)])),
        Probe::List(count) => Ok(Seen::new(format!("a list of {count}"), &[("items", count)])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked(check: &Check, content: &[u8]) -> Result<Seen, Failure> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("export");
        std::fs::write(&path, content).unwrap();
        check.look(&path)
    }

    #[test]
    fn checks_are_written_as_words_or_as_one_field() {
        let checks: Vec<Check> =
            serde_json::from_str(r#"["json", "tar.gz", {"xml": "/a"}, {"min_size": "1KiB"}, {"contains": "x"}]"#)
                .unwrap();
        let wanted = [
            Check::Json,
            Check::TarGz,
            Check::Xml("/a".into()),
            Check::MinSize(Size(1024)),
            Check::Contains("x".into()),
        ];
        assert_eq!(checks, wanted);
        assert!(serde_json::from_str::<Check>("\"yaml\"").is_err());
    }

    #[test]
    fn json_that_is_cut_or_says_nothing_is_refused() {
        let whole = br#"{"version": 3, "rules": [1, 2, {"a": null}]}"#;
        assert_eq!(looked(&Check::Json, whole).ok().unwrap().figures["fields"], 2);
        for cut in 0..whole.len() {
            assert!(looked(&Check::Json, &whole[..cut]).is_err(), "cut at {cut}");
        }
        for empty in ["{}", "[]", "null", "[{}]", "{\"items\": []}", "3", "\"x\"", "<html>", "{} {}"] {
            assert!(looked(&Check::Json, empty.as_bytes()).is_err(), "{empty}");
        }
    }

    #[test]
    fn a_text_is_found_across_the_pieces_that_are_read() {
        let mut content = vec![b'-'; (64 << 10) - 3];
        content.extend_from_slice(b"needle");
        content.extend_from_slice(&[b'-'; 100]);
        assert!(looked(&Check::Contains("needle".into()), &content).is_ok());
        assert!(looked(&Check::Contains("needles".into()), &content).is_err());
    }
}
