//! What a Teleporter archive holds, looked at in depth: each checksum, the configuration, the databases.
//!
//! The databases in it are copies of data alone (no keys, triggers, views), so their tables are known exactly.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::codes;
use crate::plugin::kit::archive::{self, Bounds};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::sqlite_check;

pub(super) const TOML: &str = "etc/pihole/pihole.toml";
pub(super) const LEASES: &str = "etc/pihole/dhcp.leases";
/// The only name under which a Pi-hole imports it.
pub(super) const GRAVITY: &str = "etc/pihole/gravity.db";

/// What gravity.db has in an export: these and no others.
const GRAVITY_TABLES: [&str; 7] =
    ["adlist", "adlist_by_group", "client", "client_by_group", "domainlist", "domainlist_by_group", "group"];
const FTL_TABLES: [&str; 4] = ["aliasclient", "message", "network", "network_addresses"];

/// An empty zip has 22 bytes; one with a member more than this.
const ZIP_BYTES_MIN: u64 = 40;
const TOML_BYTES_MAX: u64 = 8 << 20;
const DATABASE_BYTES_MAX: u64 = 4 << 30;
const BOUNDS: Bounds = Bounds { members: 10_000, bytes: 8 << 30, ratio: 1_000 };

/// An archive that is whole.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) members: Vec<String>,
    pub(super) config: toml::Table,
    /// As the first line of pihole.toml says.
    pub(super) version: Option<String>,
    /// Rows by table of gravity.db.
    pub(super) gravity: BTreeMap<String, u64>,
    /// Rows by table of pihole-FTL.db.
    pub(super) ftl: BTreeMap<String, u64>,
    /// Whether gravity.db has the name under which a Pi-hole imports it.
    pub(super) importable: bool,
    /// The gravity database's name in the archive.
    pub(super) gravity_name: String,
}

impl Contents {
    pub(super) fn has(&self, member: &str) -> bool {
        self.members.iter().any(|each| each == member)
    }

    /// Numbers for people and for comparing runs.
    pub(super) fn figures(&self) -> BTreeMap<String, u64> {
        let rows = self.gravity.iter().chain(&self.ftl).map(|(table, rows)| (format!("rows.{table}"), *rows));
        let mut figures: BTreeMap<String, u64> = rows.collect();
        figures.insert("members".to_owned(), self.members.len() as u64);
        let list =
            |section: &str, key: &str| self.config.get(section)?.get(key)?.as_array().map(|all| all.len() as u64);
        for (name, section, key) in [
            ("dns_upstreams", "dns", "upstreams"),
            ("dns_hosts", "dns", "hosts"),
            ("dns_cnames", "dns", "cnameRecords"),
            ("dhcp_hosts", "dhcp", "hosts"),
        ] {
            figures.extend(list(section, key).map(|count| (name.to_owned(), count)));
        }
        figures
    }
}

/// Reads the whole archive; `scratch` is a directory for a database while it is looked at.
pub(super) fn read(zip: &Path, scratch: &Path) -> Result<Contents, Failure> {
    let bytes = std::fs::metadata(zip).map_or(0, |found| found.len());
    if bytes < ZIP_BYTES_MIN || !archive::looks_like_zip(zip) {
        let page = if crate::plugin::kit::download::is_a_page(zip) { " but a page in HTML" } else { "" };
        return Err(Failure::new(
            codes::NOT_A_ZIP,
            format!("what the Pi-hole exported ({bytes} bytes) is no zip{page}"),
        )
        .hint("is it a Pi-hole of version 6, and no proxy or mock before it?"));
    }
    let mut members = Vec::new();
    let mut toml = None;
    let mut databases: Vec<(String, tempfile::NamedTempFile)> = Vec::new();
    archive::read_zip(zip, BOUNDS, &mut |member, source| {
        members.push(member.name.clone());
        if member.name == TOML {
            toml = Some(archive::take(member, source, TOML_BYTES_MAX)?);
        } else if may_be_a_database(&member.name) {
            databases.push((member.name.clone(), archive::unpack(member, source, scratch, DATABASE_BYTES_MAX)?));
        }
        Ok(())
    })?;
    let toml = toml.ok_or_else(|| missing(TOML))?;
    let (config, version) = read_config(&toml)?;
    let place = |key: &str, default: &str| {
        let named = config.get("files").and_then(|files| files.get(key)).and_then(toml::Value::as_str);
        named.unwrap_or(default).trim_start_matches('/').to_owned()
    };
    let (gravity_name, ftl_name) = (place("gravity", GRAVITY), place("database", "etc/pihole/pihole-FTL.db"));
    let find = |name: &str| databases.iter().find(|(each, _)| each == name);
    let (gravity_name, gravity) =
        find(&gravity_name).or_else(|| find(GRAVITY)).ok_or_else(|| missing(&gravity_name))?;
    let gravity = read_database(gravity_name, gravity.path(), &GRAVITY_TABLES, Others::Refused)?;
    if gravity.get("group").copied().unwrap_or(0) == 0 {
        return Err(Failure::new(
            codes::DATABASE_INCOMPLETE,
            "gravity.db in the export has no group, not even the default one",
        )
        .hint("look at the Pi-hole: `pihole -g -r recover` mends its database"));
    }
    let ftl = match find(&ftl_name) {
        Some((name, file)) => read_database(name, file.path(), &FTL_TABLES, Others::Allowed)?,
        // Without a place for it a Pi-hole keeps no history.
        None if ftl_name.is_empty() => BTreeMap::new(),
        None => return Err(missing(&ftl_name)),
    };
    let (importable, gravity_name) = (gravity_name == GRAVITY, gravity_name.clone());
    Ok(Contents { members, config, version, gravity, ftl, importable, gravity_name })
}

/// The databases have whatever names the settings give them; which member is which is known after all were read.
fn may_be_a_database(member: &str) -> bool {
    !(member == LEASES || member == "etc/hosts" || member.starts_with("etc/dnsmasq.d/"))
}

fn missing(member: &str) -> Failure {
    Failure::new(codes::EXPORT_INCOMPLETE, format!("the export has no {member}"))
        .hint("look into /var/log/pihole/FTL.log on the Pi-hole, then run it again")
}

fn read_config(bytes: &[u8]) -> Result<(toml::Table, Option<String>), Failure> {
    let broken = |why: String| {
        Failure::new(codes::CONFIG_BROKEN, format!("pihole.toml in the export {why}"))
            .hint("look at /etc/pihole/pihole.toml on the Pi-hole")
    };
    let text = std::str::from_utf8(bytes).map_err(|_| broken("is no text".to_owned()))?;
    // An error of the parser quotes the line, which may hold a password's hash: only the place is told.
    let config: toml::Table = toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let line = text.get(..start).map_or(1, |before| before.matches('\n').count() + 1);
        broken(format!("is no TOML (line {line})"))
    })?;
    for section in ["dns", "webserver"] {
        if !config.get(section).is_some_and(toml::Value::is_table) {
            return Err(broken(format!("has no section [{section}]")));
        }
    }
    let first = text.lines().next().unwrap_or_default();
    let version = first.split_once("(v").and_then(|(_, rest)| rest.split_once(')')).map(|(version, _)| version);
    Ok((config, version.map(|version| format!("FTL v{version}"))))
}

/// Whether a database may have more tables than those that are known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Others {
    Refused,
    Allowed,
}

fn read_database(name: &str, path: &Path, wanted: &[&str], others: Others) -> Result<BTreeMap<String, u64>, Failure> {
    let damaged = |why: &str| {
        Failure::new(codes::DATABASE_DAMAGED, format!("{name} in the export is no sound database: {why}"))
            .hint("check the Pi-hole's own: `pihole-FTL sqlite3 /etc/pihole/gravity.db 'PRAGMA integrity_check'`")
    };
    let tables = sqlite_check::tables(path).map_err(|why| damaged(&why))?;
    if let Some(table) = wanted.iter().find(|table| !tables.contains_key(**table)) {
        return Err(damaged(&format!("it has no table {table}")));
    }
    let (known, unknown): (BTreeMap<_, _>, BTreeMap<_, _>) =
        tables.into_iter().partition(|(table, _)| wanted.contains(&table.as_str()));
    match unknown.into_keys().next() {
        Some(table) if others == Others::Refused => {
            Err(damaged(&format!("it has a table {table:?} that no export has")))
        }
        _ => Ok(known),
    }
}
