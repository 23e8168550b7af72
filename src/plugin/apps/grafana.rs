//! The plugin `grafana`: what people made in Grafana, one JSON file an object, read and put back through its API.
//!
//! Each file has its keys in order and none of what changes by itself, so the same object is the same file in every run.
//! A token that may see less than before gets an answer of 200 with fewer objects: what was there is compared.

use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

use crate::error::{Trouble, codes};
use crate::plugin::kit::asked::ValidateJob;
use crate::plugin::kit::builtin::{self, Builtin, Failure, Restore};
use crate::plugin::kit::digest;
use crate::plugin::kit::endpoint::TlsSettings;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::patience::Patience;
use crate::plugin::kit::settings::Secret;
use crate::plugin::protocol::{CaptureFacts, Request, Verdict};

mod api;
mod apply;
mod collect;
mod object;
mod recover;
mod restore;

use api::Api;
use object::{Kind, Object};

pub(crate) const BUILTIN: Builtin = Builtin {
    name: "grafana",
    summary: "Grafana: dashboards, folders, data sources, library panels and alerting, through its API",
    guide: GUIDE,
    schema: || schemars::schema_for!(GrafanaSettings).to_value(),
    capture,
    validate,
    restore: Some(Restore::by::<restore::PutBack>()),
    recover: Some(restore::recover),
};

const GUIDE: &str = "
In the backup: folders (nested ones too), dashboards (of the old and of the new schema), data sources, library panels,
alert rules by group, contact points, the notification policies, mute timings and templates, of one organisation; one
JSON file each. Each dashboard is looked at: an empty one, a login page, or fewer objects than before is no backup.

Not in it: secrets. Grafana never gives the passwords of data sources, and shows those of contact points as [REDACTED]:
a restore says which to enter again. Also not: users and their passwords, teams, permissions, tokens, annotations,
preferences, plugins. For those keep Grafana's database (`sqlite`, `postgres`) and grafana.ini (`files`) too.

Least privilege: a service account token with the basic role Admin in the organisation (Administration > Service
accounts). With Viewer or Editor Grafana answers, but leaves out what they may not see. Larder only reads, until a
restore. For several organisations: one target each, with `username`, `password` and `org`.

Restore: `larder restore TARGET --into TARGET`, first with --dry-run: it compares with what is there and says what it
would create, replace and keep. Nothing is deleted. Doing it twice does no harm. What is provisioned from files on the
server is left alone. Grafana takes one object after the other: each as it is now is noted first, and put back when
something fails, also when Larder is killed in between.";

/// Which Grafana, and how to get in.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GrafanaSettings {
    /// Address as the browser shows it, with a sub-path if there is one: `https://grafana.lan`.
    #[schemars(regex(pattern = "^https?://[^@]+$"))]
    url: String,
    /// A service account token (`glsa_…`) with the role Admin. It, or `username` and `password`.
    #[serde(default)]
    token: Option<Secret>,
    /// An organisation admin, where no token is used.
    #[serde(default)]
    username: Option<String>,
    /// The password that belongs to `username`.
    #[serde(default)]
    password: Option<Secret>,
    /// The organisation's number, with `username`; a token belongs to one.
    #[serde(default)]
    #[schemars(range(min = 1))]
    org: Option<u64>,
    /// Accept a backup with fewer objects than the one before: for the run after a big clean-up.
    #[serde(default)]
    allow_fewer: bool,
    /// Dashboards, by their uid, that Grafana lists but does not give, and that the backup may be without.
    #[serde(default)]
    accept_unseen: Vec<String>,
    /// Whether Grafana may be without any dashboard, folder and data source.
    #[serde(default)]
    allow_empty: bool,
    /// How long Grafana may say nothing before a call is given up.
    #[serde(default = "Patience::silence")]
    silence: Patience,
    /// Whose certificate to trust with https; without it the system's authorities.
    #[serde(default)]
    tls: Option<TlsSettings>,
    /// Send the token over plain http to a host that is not in the own network.
    #[serde(default)]
    allow_http: bool,
}

/// More are not taken: a run keeps a list of its files.
const OBJECTS_MAX: usize = 9_000;
/// Names that a message lists.
const NAMES_MAX: usize = 5;

fn capture(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
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

const UNSEEN_HINT: &str = "give the service account the basic role Admin; delete in Grafana what is broken there, or \
                           name the uids in `accept_unseen`";

const FEWER_HINT: &str = "if they were deleted on purpose, say `allow_fewer: true` for one run; else the token may \
                          see less than before: give its service account the role Admin";

#[derive(Debug, PartialEq)]
enum Shrunk {
    No,
    /// A person may have tidied up.
    Some(String),
    /// So much is not tidied up by hand: a weaker token is likelier.
    Much(String),
}

fn shrunk(previous: &CaptureFacts, now: &BTreeMap<&'static str, u64>) -> Shrunk {
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

fn write(path: &std::path::Path, bytes: &[u8]) -> Result<(), Failure> {
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
        let failure = Failure::new(codes::UNWRITABLE, format!("{} cannot be written: {error}", path.display()))
            .hint("make room where the artifacts lie");
        if error.kind() == std::io::ErrorKind::StorageFull { failure.later() } else { failure }
    })
}

fn validate(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let ValidateJob::<GrafanaSettings> { facts, .. } = ValidateJob::of(request)?;
    let (mut changed, mut broken, mut objects) = (Vec::new(), Vec::new(), Vec::new());
    for artifact in &facts.artifacts {
        let path = request.staging.join(&artifact.path);
        let shown = artifact.path.display().to_string();
        if artifact.sha256.is_none() || digest::sha256(&path, |_| {}).ok() != artifact.sha256 {
            changed.push(shown);
            continue;
        }
        match object::read(&request.staging, &artifact.path) {
            Ok(object) => objects.push(object),
            Err(why) => broken.push(format!("{shown}: {why}")),
        }
    }
    say(events, "every file is unchanged since the capture", facts.artifacts.len(), &changed);
    say(events, "every file holds an object that can be put back", objects.len(), &broken);
    let folders: Vec<&str> = of(&objects, Kind::Folder).map(|object| object.name.as_str()).collect();
    let homeless: Vec<String> = objects
        .iter()
        .filter(|object| object.folder().is_some_and(|folder| !folders.contains(&folder)))
        .map(Object::shown)
        .collect();
    say(events, "every folder that is named is there", folders.len(), &homeless);
    for kind in Kind::ALL {
        let found: u64 = of(&objects, *kind).map(Object::weight).sum();
        let told = facts.figures.get(kind.figure()).copied().unwrap_or(0);
        let verdict = if found == told { Verdict::Proven } else { Verdict::Failed };
        let name = format!("{} are those of the capture", kind.figure().replace('_', " "));
        events.validation(name, verdict, format!("{found}, at the capture {told}"));
    }
    Ok(())
}

fn of(objects: &[Object], kind: Kind) -> impl Iterator<Item = &Object> {
    objects.iter().filter(move |object| object.kind == kind)
}

fn say(events: &mut EventWriter<'_>, name: &str, good: usize, bad: &[String]) {
    if bad.is_empty() {
        events.validation(name, Verdict::Proven, format!("{good}"));
    } else {
        let shown: Vec<&str> = bad.iter().take(NAMES_MAX).map(String::as_str).collect();
        let more = bad.len().saturating_sub(NAMES_MAX);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        events.validation(name, Verdict::Failed, format!("{}{more}", shown.join("; ")));
    }
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
