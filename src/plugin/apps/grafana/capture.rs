//! Keeps each object as a file, and misses what was there before.

use std::collections::BTreeMap;

use super::api::Api;
use super::object::{Kind, Object};
use super::settings::GrafanaSettings;
use super::{UNSEEN_HINT, collect};
use crate::error::{Trouble, codes};
use crate::plugin::kit::builtin::{self, Failure};
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::protocol::{CaptureFacts, Request};

/// More are not taken: a run keeps a list of its files.
const OBJECTS_MAX: usize = 9_000;

/// Names that a message lists.
pub(super) const NAMES_MAX: usize = 5;

pub(super) fn capture(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: GrafanaSettings = builtin::settings(request)?;
    let api = Api::open(&settings)?;
    events.version(format!("Grafana {}", api.version()?));
    let mut figures: BTreeMap<&'static str, u64> = Kind::ALL.iter().map(|kind| (kind.figure(), 0)).collect();
    let mut count: usize = 0;
    let unseen = collect::everything(&api, &mut |object: Object| {
        count += 1;
        if count > OBJECTS_MAX {
            return Err(Failure::new(codes::TOO_MANY_OBJECTS, format!("there are more than {OBJECTS_MAX} objects"))
                .hint("keep Grafana's database instead: plugin `sqlite` or `postgres`"));
        }
        if let Some(figure) = figures.get_mut(object.kind.figure()) {
            *figure += object.weight();
        }
        let path = object.path();
        let whole = request.staging.join(&path);
        write(&whole, object.text().as_bytes())?;
        events.artifact(&path, object.kind.format(), digest::sha256(&whole, |_| {})?);
        events.progress(count as u64, 0);
        Ok(())
    })?;
    tell_unseen(&unseen, &settings, figures.get(Kind::Dashboard.figure()).copied().unwrap_or(0), events)?;
    let of = |kind: Kind| figures.get(kind.figure()).copied().unwrap_or(0);
    if of(Kind::Dashboard) + of(Kind::Folder) + of(Kind::DataSource) == 0 && !settings.allow_empty {
        return Err(Failure::new(
            codes::NOTHING_SEEN,
            "there is no dashboard, no folder and no data source to be seen",
        )
        .hint("give the service account the role Admin; or say `allow_empty: true` if Grafana is new"));
    }
    for (name, value) in &figures {
        events.figure(*name, *value);
    }
    if !settings.allow_fewer
        && let Some(previous) = &request.previous
    {
        match shrunk(previous, &figures) {
            Shrunk::No => {}
            Shrunk::Some(what) => events.warning(Trouble::new(codes::FEWER_OBJECTS, what).with_hint(FEWER_HINT)),
            Shrunk::Much(what) => return Err(Failure::new(codes::FEWER_OBJECTS, what).hint(FEWER_HINT)),
        }
    }
    Ok(())
}

/// Not found is not deleted: what is still listed is missing in the backup, and of `seen` others not too many may be.
fn tell_unseen(
    unseen: &[String],
    settings: &GrafanaSettings,
    seen: u64,
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    let (accepted, missing): (Vec<&String>, Vec<&String>) =
        unseen.iter().partition(|uid| settings.accept_unseen.contains(uid));
    let told = |uids: &[&String]| {
        let shown: Vec<&str> = uids.iter().take(NAMES_MAX).map(|uid| uid.as_str()).collect();
        let more = uids.len() - shown.len();
        let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("Grafana lists {} dashboards that it then says are not there: {}{tail}", uids.len(), shown.join(", "))
    };
    if !accepted.is_empty() {
        events.notice(Trouble::new(codes::DASHBOARDS_UNSEEN, format!("{} (accepted)", told(&accepted))));
    }
    match missing.len() as u64 {
        0 => Ok(()),
        count if count > seen => Err(Failure::new(codes::DASHBOARDS_UNSEEN, told(&missing)).hint(UNSEEN_HINT)),
        _ => {
            events.warning(Trouble::new(codes::DASHBOARDS_UNSEEN, told(&missing)).with_hint(UNSEEN_HINT));
            Ok(())
        }
    }
}

const FEWER_HINT: &str = "if they were deleted on purpose, say `allow_fewer: true` for one run; else the token may \
                          see less than before: give its service account the role Admin";

#[derive(Debug, PartialEq)]
pub(super) enum Shrunk {
    No,
    /// A person may have tidied up.
    Some(String),
    /// So much is not tidied up by hand: a weaker token is likelier.
    Much(String),
}

pub(super) fn shrunk(previous: &CaptureFacts, now: &BTreeMap<&'static str, u64>) -> Shrunk {
    let (mut much, mut some) = (Vec::new(), Vec::new());
    for kind in Kind::ALL {
        let before = previous.figures.get(kind.figure()).copied().unwrap_or(0);
        let now = now.get(kind.figure()).copied().unwrap_or(0);
        let told = || format!("{now} {} where there were {before}", kind.figure().replace('_', " "));
        if (before > 0 && now == 0) || (*kind == Kind::Dashboard && now < before.div_ceil(2)) {
            much.push(told());
        } else if now < before {
            some.push(told());
        }
    }
    match (much.is_empty(), some.is_empty()) {
        (false, _) => Shrunk::Much(format!("Grafana shows {}", much.join(", "))),
        (true, false) => Shrunk::Some(format!("Grafana shows {}", some.join(", "))),
        (true, true) => Shrunk::No,
    }
}

pub(super) fn write(path: &std::path::Path, bytes: &[u8]) -> Result<(), Failure> {
    use std::io::Write as _;
    let written = || -> std::io::Result<()> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let mut file = std::fs::File::create_new(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    written().map_err(|error| {
        Failure::unwritten(codes::UNWRITABLE, &error, format!("{} cannot be written: {error}", path.display()))
            .hint("make room where the artifacts lie")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_is_gone_or_half_of_the_dashboards_is_too_much() {
        let facts = |dashboards, folders| CaptureFacts {
            figures: [("dashboards".to_owned(), dashboards), ("folders".to_owned(), folders)].into(),
            ..CaptureFacts::default()
        };
        let now = |dashboards, folders| BTreeMap::from([("dashboards", dashboards), ("folders", folders)]);
        assert_eq!(shrunk(&facts(10, 2), &now(10, 2)), Shrunk::No);
        assert_eq!(shrunk(&facts(10, 2), &now(12, 3)), Shrunk::No);
        assert!(matches!(shrunk(&facts(10, 2), &now(5, 2)), Shrunk::Some(_)));
        assert!(matches!(shrunk(&facts(10, 2), &now(4, 2)), Shrunk::Much(_)));
        assert!(matches!(shrunk(&facts(10, 2), &now(10, 0)), Shrunk::Much(_)));
        assert!(matches!(shrunk(&facts(1, 0), &now(0, 0)), Shrunk::Much(_)));
    }
}
