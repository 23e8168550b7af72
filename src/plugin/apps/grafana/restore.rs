//! The way back: what is there is compared with the backup, what differs is put back, then it is compared again.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::api::Api;
use super::object::{Kind, Object};
use super::recover::Changes;
use super::settings::GrafanaSettings;
use super::{collect, object, of};
use crate::error::{Trouble, codes};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::kit::restore::{Planned, RestoreJob, Restorer};
use crate::plugin::protocol::{Step, Verb, Verdict};

/// What the operator may choose.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GrafanaRestore {
    /// Only these kinds; without it all. Folders that the others lie in are made all the same.
    #[serde(default)]
    only: Vec<Kind>,
}

/// What is there, by kind and name.
type There = BTreeMap<(Kind, String), Object>;

type Job<'j> = RestoreJob<'j, GrafanaSettings, GrafanaRestore>;

/// Puts objects back.
pub(super) struct PutBack;

/// What was decided, and what was there then.
pub(super) struct Work {
    api: Api,
    namespace: String,
    backup: Vec<(Object, Verb)>,
    there: There,
    /// Whether both are of one version of Grafana.
    is_same_version: bool,
}

impl Restorer for PutBack {
    type Settings = GrafanaSettings;
    type Options = GrafanaRestore;
    type Work = Work;

    fn plan(job: &Job<'_>, events: &mut EventWriter<'_>) -> Result<Planned<Work>, Failure> {
        let backup = backup(job)?;
        let api = Api::open(&job.settings)?;
        let version = format!("Grafana {}", api.version()?);
        events.version(&version);
        let before = job.facts.app_version.as_deref().unwrap_or("an unknown version");
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
        let decided = |object: Object| {
            let verb = decide(&object, now(&there, &object));
            (object, verb)
        };
        let backup: Vec<(Object, Verb)> = backup.into_iter().map(decided).collect();
        let steps = backup.iter().flat_map(|(object, verb)| steps(object, *verb, now(&there, object))).collect();
        let work = Work { api, namespace, backup, is_same_version: before == version, there };
        Ok(Planned::of(steps, work))
    }

    fn execute(
        job: &Job<'_>,
        work: Work,
        journal: Option<&Journal>,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        let Work { api, namespace, backup, there, is_same_version } = work;
        let mut changes = Changes::new(&api, Journal::or_within(journal, job.staging)?, namespace);
        for (done, (object, verb)) in backup.iter().enumerate() {
            if matches!(verb, Verb::Create | Verb::Replace) {
                changes.put(object, now(&there, object)).map_err(|failure| changes.undo(failure, events))?;
                events.progress(done as u64 + 1, backup.len() as u64);
            }
        }
        let after = match inventory(&api) {
            Ok((after, _)) => after,
            Err(failure) => return Err(changes.undo(failure, events)),
        };
        let wrong = compare(&backup, &after, events);
        // Another version may write the same in another way: that is for a person to judge.
        if let Some(wrong) = wrong.filter(|_| is_same_version) {
            let told = format!("Grafana does not hold what it was given: {wrong}");
            let failure = Failure::new(codes::RESTORE_DIFFERS, told)
                .hint("look in Grafana's log; does something else change it meanwhile?");
            return Err(changes.undo(failure, events));
        }
        changes.commit()
    }
}

/// What is there of the same kind and name.
fn now<'t>(there: &'t There, object: &Object) -> Option<&'t Object> {
    there.get(&(object.kind, object.name.clone()))
}

/// What is done about an object, and what is left to a person.
fn steps(object: &Object, verb: Verb, now: Option<&Object>) -> Vec<Step> {
    let by_hand = "it comes from files on the server: restore those (`files`)";
    let detail = if verb == Verb::Manual { by_hand } else { "" };
    let mut steps = vec![Step::new(verb, object.shown(), detail)];
    let lost: Vec<String> = object.secrets().into_iter().filter(|name| !has_secret(now, name)).collect();
    if matches!(verb, Verb::Create | Verb::Replace) && !lost.is_empty() {
        steps.push(Step::new(Verb::Manual, object.shown(), format!("enter again: {}", lost.join(", "))));
    }
    steps
}

/// Says for each kind whether it is there as in the backup; answers what is not.
fn compare(backup: &[(Object, Verb)], after: &There, events: &mut EventWriter<'_>) -> Option<String> {
    let mut wrong = Vec::new();
    for kind in Kind::ALL {
        let wanted = backup.iter().filter(|(object, verb)| object.kind == *kind && *verb != Verb::Manual);
        let wanted: Vec<&Object> = wanted.map(|(object, _)| object).collect();
        if wanted.is_empty() {
            continue;
        }
        let good = |object: &&&Object| now(after, object).is_some_and(|now| same(object, now));
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
fn backup(job: &Job<'_>) -> Result<Vec<Object>, Failure> {
    let mut objects = Vec::new();
    for artifact in &job.facts.artifacts {
        let object = object::read(job.staging, &artifact.path).map_err(|why| {
            Failure::new(codes::OBJECT_INCOMPLETE, format!("{} in the backup: {why}", artifact.path.display()))
                .hint("choose another snapshot: `larder snapshots TARGET`")
        })?;
        objects.push(object);
    }
    if objects.is_empty() {
        return Err(Failure::new(codes::NOTHING_TO_RESTORE, "the backup holds no object of Grafana")
            .hint("choose a snapshot of this target: `larder snapshots TARGET`"));
    }
    let only = &job.options.only;
    let chosen = |kind: Kind| only.is_empty() || only.contains(&kind);
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
