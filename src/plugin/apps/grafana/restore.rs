//! The way back: what is there is compared with the backup, what differs is put back, then it is compared again.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::api::Api;
use super::object::{Kind, Object};
use super::undo::{self, Changes};
use super::{GrafanaSettings, collect, object, of};
use crate::error::{Trouble, codes};
use crate::plugin::kit::asked;
use crate::plugin::kit::builtin::{self, Failure};
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::protocol::{Request, Verb, Verdict};

/// What the operator may choose.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GrafanaRestore {
    /// Only these kinds; without it all. Folders that the others lie in are made all the same.
    #[serde(default)]
    only: Vec<Kind>,
}

/// Puts right what a restore that was killed left.
pub(super) fn recover(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: GrafanaSettings = builtin::settings(request)?;
    let api = Api::open(&settings)?;
    undo::recover(&api, &Journal::of(request)?, events)
}

/// What is there, by kind and name.
type There = BTreeMap<(Kind, String), Object>;

pub(super) fn restore(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let settings: GrafanaSettings = builtin::settings(request)?;
    let options: GrafanaRestore = builtin::options(request)?;
    let dry_run = asked::order(request)?.dry_run;
    let backup = backup(request, &options)?;
    let api = Api::open(&settings)?;
    let version = format!("Grafana {}", api.version()?);
    events.version(&version);
    let before =
        request.capture.as_ref().and_then(|facts| facts.app_version.as_deref()).unwrap_or("an unknown version");
    if before != version {
        let told = format!("the backup is of {before}, this is {version}");
        events.warning(
            Trouble::new(codes::VERSION_DIFFERS, told)
                .with_hint("a newer Grafana takes older objects; look at the dashboards afterwards"),
        );
    }
    let (there, unseen) = inventory(&api)?;
    if let Some(object) = of(&backup, Kind::Dashboard).find(|object| unseen.contains(&object.name)) {
        return Err(Failure::new(
            codes::DASHBOARDS_UNSEEN,
            format!("Grafana lists the {} and then says that it is not there", object.shown()),
        )
        .hint(super::UNSEEN_HINT));
    }
    let namespace = api.namespace()?;
    let mut changes =
        Changes::new(&api, Journal::of(request).or_else(|_| Journal::within(&request.staging))?, namespace);
    for (done, object) in backup.iter().enumerate() {
        let now = there.get(&(object.kind, object.name.clone()));
        let verb = decide(object, now);
        let detail = match (verb, now) {
            (Verb::Manual, _) => "it comes from files on the server: restore those (`files`)",
            _ => "",
        };
        events.step(verb, object.shown(), detail);
        if !dry_run && matches!(verb, Verb::Create | Verb::Replace) {
            changes.put(object, now).map_err(|failure| changes.undo(failure, events))?;
            events.progress(done as u64 + 1, backup.len() as u64);
        }
        let lost: Vec<String> = object.secrets().into_iter().filter(|name| !has_secret(now, name)).collect();
        if matches!(verb, Verb::Create | Verb::Replace) && !lost.is_empty() {
            events.step(Verb::Manual, object.shown(), format!("enter again: {}", lost.join(", ")));
        }
    }
    if dry_run {
        return Ok(());
    }
    let after = match inventory(&api) {
        Ok((after, _)) => after,
        Err(failure) => return Err(changes.undo(failure, events)),
    };
    let wrong = compare(&backup, &there, &after, events);
    // Another version may write the same in another way: that is for a person to judge.
    if let Some(wrong) = wrong.filter(|_| before == version) {
        let failure = Failure::new(codes::RESTORE_DIFFERS, format!("Grafana does not hold what it was given: {wrong}"));
        return Err(
            changes.undo(failure.hint("look in Grafana's log; does something else change it meanwhile?"), events)
        );
    }
    changes.commit()
}

/// Says for each kind whether it is there as in the backup; answers what is not.
fn compare(backup: &[Object], there: &There, after: &There, events: &mut EventWriter<'_>) -> Option<String> {
    let mut wrong = Vec::new();
    for kind in Kind::ALL {
        let wanted: Vec<&Object> = of(backup, *kind).filter(|object| !is_left_alone(object, there)).collect();
        if wanted.is_empty() {
            continue;
        }
        let good =
            |object: &&&Object| after.get(&(object.kind, object.name.clone())).is_some_and(|now| same(object, now));
        let bad: Vec<String> =
            wanted.iter().filter(|object| !good(object)).map(|object| object.shown()).take(5).collect();
        let name = format!("each {} is there as in the backup", kind.word());
        let (verdict, detail) = if bad.is_empty() {
            (Verdict::Proven, format!("{}", wanted.len()))
        } else {
            (Verdict::Failed, format!("not: {}", bad.join("; ")))
        };
        wrong.extend(bad);
        events.validation(name, verdict, detail);
    }
    (!wrong.is_empty()).then(|| wrong.iter().take(5).cloned().collect::<Vec<_>>().join("; "))
}

/// The backup's objects in the order in which they go back; a folder after the one that it lies in.
fn backup(request: &Request, options: &GrafanaRestore) -> Result<Vec<Object>, Failure> {
    let facts = request.capture.as_ref().map(|facts| facts.artifacts.as_slice()).unwrap_or_default();
    let mut objects = Vec::new();
    for artifact in facts {
        let object = object::read(&request.staging, &artifact.path).map_err(|why| {
            Failure::new(codes::OBJECT_INCOMPLETE, format!("{} in the backup: {why}", artifact.path.display()))
                .hint("choose another snapshot: `larder snapshots TARGET`")
        })?;
        objects.push(object);
    }
    if objects.is_empty() {
        return Err(Failure::new(codes::NOTHING_TO_RESTORE, "the backup holds no object of Grafana")
            .hint("choose a snapshot of this target: `larder snapshots TARGET`"));
    }
    let chosen = |kind: Kind| options.only.is_empty() || options.only.contains(&kind);
    let mut needed: Vec<String> =
        objects.iter().filter(|each| chosen(each.kind)).filter_map(|each| each.folder().map(str::to_owned)).collect();
    let mut at = 0;
    while let Some(uid) = needed.get(at).cloned() {
        let parent = of(&objects, Kind::Folder).find(|folder| folder.name == uid).and_then(Object::folder);
        if let Some(parent) = parent.filter(|parent| !needed.iter().any(|each| each == parent)) {
            needed.push(parent.to_owned());
        }
        at += 1;
    }
    objects.retain(|each| chosen(each.kind) || (each.kind == Kind::Folder && needed.contains(&each.name)));
    let parents: BTreeMap<String, Option<String>> =
        of(&objects, Kind::Folder).map(|folder| (folder.name.clone(), folder.folder().map(str::to_owned))).collect();
    objects.sort_by_cached_key(|object| {
        let depth = if object.kind == Kind::Folder { depth(&object.name, &parents) } else { 0 };
        (object.kind, depth, object.name.clone())
    });
    Ok(objects)
}

fn depth(uid: &str, parents: &BTreeMap<String, Option<String>>) -> usize {
    let mut at = uid;
    // A loop ends at the number of folders.
    (0..parents.len())
        .take_while(|_| match parents.get(at) {
            Some(Some(parent)) => {
                at = parent;
                true
            }
            _ => false,
        })
        .count()
}

/// What is there, and the uids of dashboards that are listed but not to be had.
fn inventory(api: &Api) -> Result<(There, Vec<String>), Failure> {
    let mut there = There::new();
    let unseen = collect::everything(api, &mut |object| {
        there.insert((object.kind, object.name.clone()), object);
        Ok(())
    })?;
    Ok((there, unseen))
}

fn decide(object: &Object, now: Option<&Object>) -> Verb {
    match now {
        Some(now) if same(object, now) => Verb::Keep,
        Some(now) if now.is_provisioned() => Verb::Manual,
        Some(_) => Verb::Replace,
        None => Verb::Create,
    }
}

fn is_left_alone(object: &Object, there: &There) -> bool {
    let now = there.get(&(object.kind, object.name.clone()));
    decide(object, now) == Verb::Manual
}

/// Whether they are the same, apart from where they came from and from secrets.
fn same(one: &Object, other: &Object) -> bool {
    let plain = |object: &Object| {
        let mut body = object.body.clone();
        if let Some(fields) = body.as_object_mut() {
            for key in ["provisioned", "readOnly", "secureJsonFields", "collection"] {
                fields.remove(key);
            }
            // No parent and an empty one are the same.
            fields.retain(|key, value| !(matches!(key.as_str(), "parentUid" | "folderUid") && value == ""));
            if object.kind == Kind::DataSource {
                // Grafana tells what is not set in one version and leaves it out in another.
                fields.retain(|_, value| !matches!(value.as_str(), Some("")) && !value.is_null());
            }
        }
        body
    };
    plain(one) == plain(other)
}

fn has_secret(now: Option<&Object>, name: &str) -> bool {
    now.is_some_and(|now| now.secrets().iter().any(|each| each == name))
}
