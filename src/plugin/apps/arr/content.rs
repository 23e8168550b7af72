//! What is in a backup of the application: the zip read to its last byte, the database opened and asked.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};

use super::Kind;
use super::api::Status;
use super::settings::ArrSettings;
use crate::error::{Trouble, codes};
use crate::plugin::kit::archive::{self, Bounds, Member};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::sqlite_check;
use crate::plugin::protocol::{Request, Verdict};

/// Largest config.xml and INFO, in bytes.
const TEXT_BYTES_MAX: u64 = 1 << 20;
/// What the zip may hold: three members as known, with room for what comes.
const BOUNDS: Bounds = Bounds { members: 1_000, bytes: 64 << 30, ratio: 500 };

/// A backup that is whole.
pub(super) struct Content {
    /// Of config.xml; a secret.
    pub(super) api_key: SecretString,
    /// As INFO says, without the `v`.
    pub(super) version: Option<String>,
    pub(super) database: Option<Database>,
}

/// The database in it.
pub(super) struct Database {
    pub(super) bytes: u64,
    /// Rows by table, those that matter.
    pub(super) rows: BTreeMap<String, u64>,
    pub(super) has_versions: bool,
}

/// Reads the whole zip.
pub(super) fn read(kind: &Kind, zip: &Path) -> Result<Content, Failure> {
    if !archive::looks_like_zip(zip) {
        return Err(Failure::new(codes::NOT_A_ZIP, format!("what {} gave is no zip", kind.title))
            .hint("a login page or a proxy may have answered; open the application's System > Backup in a browser"));
    }
    let database_name = format!("{}.db", kind.name);
    let (mut config, mut info, mut database) = (None, None, None);
    let beside = zip.parent().unwrap_or(Path::new("."));
    archive::read_zip(zip, BOUNDS, &mut |member, source| {
        match member.name.as_str() {
            "config.xml" => config = Some(archive::take(member, source, TEXT_BYTES_MAX)?),
            "INFO" => info = Some(archive::take(member, source, TEXT_BYTES_MAX)?),
            name if name.eq_ignore_ascii_case(&database_name) => {
                database = Some(look_into(kind, member, source, beside)?);
            }
            _ => {}
        }
        Ok(())
    })?;
    let incomplete = |what: &str| {
        Failure::new(codes::BACKUP_INCOMPLETE, format!("the backup of {} {what}", kind.title))
            .hint("look in the application's log for why its backup is not whole")
    };
    let api_key = api_key(&config.ok_or_else(|| incomplete("has no config.xml"))?)
        .ok_or_else(|| incomplete("has a config.xml that names no ApiKey"))?;
    let info = info.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let version = info.as_deref().and_then(|text| text.lines().next()).map(|line| line.trim().trim_start_matches('v'));
    Ok(Content { api_key, version: version.filter(|text| !text.is_empty()).map(str::to_owned), database })
}

/// Unpacks the database beside the zip, asks it, and removes it again.
fn look_into(kind: &Kind, member: &Member, source: &mut dyn Read, beside: &Path) -> Result<Database, Failure> {
    let file = archive::unpack(member, source, beside, BOUNDS.bytes)?;
    if !archive::starts_with(file.path(), sqlite_check::MAGIC) {
        return Err(Failure::new(
            codes::NOT_A_DATABASE,
            format!("{} in the backup is no SQLite database", member.name),
        )
        .hint("look in the application's log; its database may be damaged"));
    }
    let tables = sqlite_check::tables(file.path()).map_err(|why| {
        Failure::new(codes::DATABASE_DAMAGED, format!("{} in the backup is no sound database: {why}", member.name))
            .hint("the application's own database may be damaged: look at System > Status there")
    })?;
    let told = std::iter::once(&kind.table).chain(kind.beside);
    let rows = told.filter_map(|table| Some(((*table).to_owned(), *tables.get(*table)?))).collect();
    Ok(Database { bytes: member.bytes, rows, has_versions: tables.contains_key("VersionInfo") })
}

/// `<Config><ApiKey>…</ApiKey>…</Config>`, when the whole document is well-formed.
fn api_key(xml: &[u8]) -> Option<SecretString> {
    use quick_xml::events::Event;
    let xml = xml.strip_prefix(b"\xef\xbb\xbf").unwrap_or(xml);
    let mut reader = quick_xml::Reader::from_reader(xml);
    let mut buffer = Vec::new();
    let mut path: Vec<String> = Vec::new();
    let (mut key, mut closed) = (String::new(), false);
    loop {
        match reader.read_event_into(&mut buffer).ok()? {
            Event::Start(start) => path.push(start.name().as_ref().to_owned()),
            Event::End(_) => {
                path.pop();
                closed = path.is_empty();
            }
            Event::Text(text) if path == ["Config", "ApiKey"] => key.push_str(&text),
            Event::Eof => break,
            _ => {}
        }
        buffer.clear();
    }
    let key = key.trim();
    (closed && path.is_empty() && !key.is_empty()).then(|| SecretString::from(key.to_owned()))
}

impl Content {
    /// Whether it is a backup of this application, and not of another one beside it.
    pub(super) fn refuse_unless_of(
        &self,
        kind: &Kind,
        status: &Status,
        settings: &ArrSettings,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        match &self.version {
            Some(version) if *version != status.version => Err(Failure::new(
                codes::OTHER_BACKUP,
                format!("the backup is of version {version}, but {} has version {}", kind.title, status.version),
            )
            .hint("`folder` may be the Backups directory of another instance; correct it")),
            None => Err(Failure::new(codes::BACKUP_INCOMPLETE, "the backup has no INFO with a version")
                .hint("look in the application's log for why its backup is not whole")),
            Some(_) => {
                if self.api_key.expose_secret() != settings.api_key.0.expose_secret() {
                    events.warning(
                        Trouble::new(codes::OTHER_API_KEY, "config.xml in the backup has another API key than the settings")
                            .with_hint("right where the key comes from the application's environment; else `folder` is of another instance"),
                    );
                }
                Ok(())
            }
        }
    }

    pub(super) fn without_database(kind: &Kind) -> Failure {
        Failure::new(
            codes::BACKUP_WITHOUT_DATABASE,
            format!("the backup of {} has no {}.db in it", kind.title, kind.name),
        )
        .hint("look in the application's log; with PostgreSQL the zip has none: name `database_target` then")
    }

    /// The figures.
    pub(super) fn tell(&self, events: &mut EventWriter<'_>) {
        let Some(database) = &self.database else { return };
        for (table, rows) in &database.rows {
            events.figure(figure(table), *rows);
        }
        events.figure("database_bytes", database.bytes);
    }

    /// How many of what the application is about.
    pub(super) fn count(&self, kind: &Kind) -> Option<u64> {
        self.database.as_ref()?.rows.get(kind.table).copied()
    }

    /// Says what was checked.
    pub(super) fn judge(&self, kind: &Kind, settings: &ArrSettings, request: &Request, events: &mut EventWriter<'_>) {
        events.validation("the zip is whole, every member has its checksum", Verdict::Proven, "");
        events.validation("config.xml can be read and names an API key", Verdict::Proven, "");
        let told = request.capture.as_ref().and_then(|facts| facts.app_version.as_deref()).unwrap_or_default();
        let version = self.version.as_deref().unwrap_or_default();
        let same = !version.is_empty() && told.ends_with(&format!(" {version}"));
        let verdict = if same { Verdict::Proven } else { Verdict::Failed };
        events.validation("the version in the backup is the application's", verdict, version);
        let Some(database) = &self.database else {
            match &settings.database_target {
                Some(target) => events.validation(
                    "the database lies elsewhere",
                    Verdict::Proven,
                    format!("the application uses PostgreSQL; the target {target} is to have it"),
                ),
                None => events.validation("the database is in the backup", Verdict::Failed, "there is none"),
            }
            return;
        };
        events.validation("integrity_check of the database", Verdict::Proven, "ok");
        let missing: Vec<&str> = [("VersionInfo", database.has_versions), (kind.table, self.count(kind).is_some())]
            .into_iter()
            .filter_map(|(table, there)| (!there).then_some(table))
            .collect();
        if !missing.is_empty() {
            let detail = format!("missing: {}", missing.join(", "));
            events.validation("the application's tables are there", Verdict::Failed, detail);
            return;
        }
        events.validation(
            "the application's tables are there",
            Verdict::Proven,
            format!("VersionInfo, {}", kind.table),
        );
        self.compare(kind, request, events);
    }

    fn compare(&self, kind: &Kind, request: &Request, events: &mut EventWriter<'_>) {
        let name = figure(kind.table);
        let now = self.count(kind).unwrap_or(0);
        let of = |facts: Option<&crate::plugin::protocol::CaptureFacts>| facts?.figures.get(&name).copied();
        let told = of(request.capture.as_ref());
        let verdict = if told == Some(now) { Verdict::Proven } else { Verdict::Failed };
        events.validation(format!("{name} are those of the capture"), verdict, format!("{now}"));
        if let Some(before) = of(request.previous.as_ref()).filter(|before| *before > 0) {
            let verdict = if now == 0 { Verdict::Failed } else { Verdict::Proven };
            events.validation(format!("{name} are not all gone"), verdict, format!("{now}, before {before}"));
        }
    }
}

/// `MovieFiles` is told as `movie_files`.
fn figure(table: &str) -> String {
    let mut name = String::new();
    for letter in table.chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_read_from_a_whole_document_only() {
        let key = |xml: &str| api_key(xml.as_bytes()).map(|key| key.expose_secret().to_owned());
        assert_eq!(key("<Config>\n <Port>1</Port><ApiKey>abc</ApiKey>\n</Config>").as_deref(), Some("abc"));
        assert_eq!(key("\u{feff}<Config><ApiKey>abc</ApiKey></Config>").as_deref(), Some("abc"));
        for bad in [
            "",
            "<Config></Config>",
            "<Config><ApiKey> </ApiKey></Config>",
            "<Config><ApiKey>abc</ApiKey>",
            "<html>login",
        ] {
            assert_eq!(key(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_table_is_told_as_a_figure() {
        assert_eq!((figure("Movies").as_str(), figure("MovieFiles").as_str()), ("movies", "movie_files"));
    }
}
