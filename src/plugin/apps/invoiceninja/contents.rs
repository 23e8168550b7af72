//! What an export holds: a zip with one backup.json, read as a stream.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::codes;
use crate::plugin::kit::archive::{self, Bounds};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::json::{self, Probe};

const MEMBER: &str = "backup.json";
/// Lists without which it is no export of a company.
const NEEDED: [&str; 6] = ["users", "clients", "client_contacts", "invoices", "payments", "products"];
/// A company has a user at least.
const NEVER_EMPTY: &str = "users";
const BOUNDS: Bounds = Bounds { members: 100_000, bytes: 64 << 30, ratio: 1_000 };

/// An export that is whole.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) app_version: String,
    /// The length of each list.
    pub(super) counts: BTreeMap<String, u64>,
}

pub(super) fn read(zip: &Path) -> Result<Contents, Failure> {
    let incomplete = |why: String| {
        Failure::new(codes::EXPORT_INCOMPLETE, why).hint("look into storage/logs/laravel.log, and run it again")
    };
    let mut fields = None;
    archive::read_zip(zip, BOUNDS, &mut |member, source| {
        if member.name == MEMBER {
            let read = json::fields(&mut *source).map_err(|error| {
                let hint = "the export was cut or changed; run it again";
                if error.is_io() {
                    let why = format!("{MEMBER} in the export cannot be unpacked: {error}");
                    return Failure::new(codes::ARCHIVE_DAMAGED, why).hint(hint);
                }
                let place = format!("it breaks at line {} column {}", error.line(), error.column());
                Failure::new(codes::NOT_JSON, format!("{MEMBER} in the export is no whole JSON object: {place}"))
                    .hint(hint)
            })?;
            fields = Some(read);
        }
        Ok(())
    })?;
    let fields = fields.ok_or_else(|| incomplete(format!("the export has no {MEMBER}")))?;
    let counts: BTreeMap<String, u64> = fields
        .iter()
        .filter_map(|(name, value)| match value {
            Probe::List(count) => Some((name.clone(), *count)),
            _ => None,
        })
        .collect();
    if let Some(name) = NEEDED.iter().find(|name| !counts.contains_key(**name)) {
        return Err(incomplete(format!("{MEMBER} in the export has no list {name:?}")));
    }
    if counts.get(NEVER_EMPTY) == Some(&0) {
        return Err(incomplete(format!("{MEMBER} in the export has no user")));
    }
    if !matches!(fields.get("company"), Some(Probe::Object(count)) if *count > 0) {
        return Err(incomplete(format!("{MEMBER} in the export has no company")));
    }
    match fields.get("app_version") {
        Some(Probe::Text(version)) if !version.is_empty() => Ok(Contents { app_version: version.clone(), counts }),
        _ => Err(incomplete(format!("{MEMBER} in the export has no app_version"))),
    }
}
