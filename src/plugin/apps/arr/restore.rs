//! The way back: upload, restart, wait for the application, count.

use std::cmp::Ordering;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};

use super::api::{App, NotUploaded, Status};
use super::content::{self, Content};
use super::settings::ArrSettings;
use super::{Arr, Kind, backup};
use crate::error::{self, codes};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::kit::restore::{Planned, RestoreJob, Restorer};
use crate::plugin::protocol::{Request, Step, Verb, Verdict};
use crate::types::show_duration;

const PAUSE: Duration = Duration::from_millis(500);

/// What the operator may choose.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ArrRestore {
    /// Restore into an application that is older than the backup; it may not start again with a newer database.
    #[serde(default)]
    allow_older: bool,
}

type Job<'j> = RestoreJob<'j, ArrSettings, ArrRestore>;

/// Puts a backup into the application that `A` is.
pub(super) struct PutBack<A>(PhantomData<A>);

/// What was decided, and what the application was then.
pub(super) struct Work {
    app: App<'static>,
    before: Status,
    zip: PathBuf,
    content: Content,
    version: String,
}

impl<A: Arr> Restorer for PutBack<A> {
    type Settings = ArrSettings;
    type Options = ArrRestore;
    type Work = Work;

    fn plan(job: &Job<'_>, events: &mut EventWriter<'_>) -> Result<Planned<Work>, Failure> {
        plan(A::KIND, job, events)
    }

    fn execute(
        job: &Job<'_>,
        work: Work,
        journal: Option<&Journal>,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        execute(A::KIND, job, &work, journal, events)
    }
}

fn plan(kind: &'static Kind, job: &Job<'_>, events: &mut EventWriter<'_>) -> Result<Planned<Work>, Failure> {
    job.settings.check()?;
    let artifact = job.facts.artifacts.first().ok_or_else(|| {
        Failure::new(codes::NOTHING_TO_RESTORE, "the backup holds no artifact of this plugin")
            .hint("choose a snapshot of this target: `larder snapshots TARGET`")
    })?;
    let zip = job.staging.join(&artifact.path);
    let content = content::read(kind, &zip)?;
    let app = App::open(kind, &job.settings)?;
    let before = app.status()?;
    events.version(format!("{} {}", kind.title, before.version));
    let version = content.version.clone().unwrap_or_default();
    let work = Work { app, before, zip, content, version };
    work.fits(kind, &job.options)?;
    Ok(Planned::of(work.steps(kind, &job.settings)?, work))
}

fn execute(
    kind: &'static Kind,
    job: &Job<'_>,
    work: &Work,
    journal: Option<&Journal>,
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    let (settings, Work { app, before, zip, content, version }) = (&job.settings, work);
    // What it has now stays on the application, and here, until what comes is seen to be right.
    let kept = job.staging.join(".before.zip");
    let _ = std::fs::remove_file(&kept);
    let note = journal.map(|journal| backup::keep(app, settings, journal, &kept, events)).transpose()?;
    let done = put(app, kind, settings, journal, zip, version, content, before, events);
    let (restored, after, found) = match done {
        Ok(done) => done,
        Err(failure) if note.is_some() => {
            let hint = failure.trouble.hint.clone().unwrap_or_default();
            let own = format!("{hint}; what it had before is its newest backup under System > Backup");
            return Err(failure.hint(own));
        }
        Err(failure) => return Err(failure),
    };
    let same = after.version == before.version;
    let verdict = if same { Verdict::Proven } else { Verdict::CouldNotVerify };
    events.validation("the application is back in its version", verdict, after.version.clone());
    let wanted = content.count(kind);
    let name = kind.table.to_ascii_lowercase();
    let detail = format!("{found} now, {} in the backup", wanted.unwrap_or(0));
    let title = format!("it lists the {name} of the backup");
    if wanted == Some(found) {
        events.validation(title, Verdict::Proven, detail);
        if let Some(Err(failure)) = note.map(|note| backup::forget(&restored, &note)) {
            events.warning(failure.trouble);
        }
        return Ok(());
    }
    if note.is_none() {
        events.validation(title, Verdict::Failed, detail);
        return Ok(());
    }
    let was = content::read(kind, &kept)?;
    let back = put(&restored, kind, settings, journal, &kept, &before.version, &was, &after, events);
    let tail = match back {
        Ok(_) => "what it had before was put back".to_owned(),
        Err(failure) => format!("and what it had before could not be put back: {}", failure.trouble.message),
    };
    events.validation(title, Verdict::Failed, format!("{detail}; {tail}"));
    Ok(())
}

/// The journal's entry of an upload that the application takes over at its next start.
const UPLOADED: &str = "uploaded";

#[derive(Serialize, Deserialize)]
struct Note {
    upload: PathBuf,
}

/// Ends what a killed restore began: the application has the old content, or takes the new one over when it is
/// restarted, and until then it is neither.
pub(super) fn recover(kind: &Kind, request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let journal = Journal::of(request)?;
    for (entry, value) in journal.entries::<serde_json::Value>()?.into_iter().filter(|(entry, _)| entry == UPLOADED) {
        let Ok(note) = serde_json::from_value::<Note>(value) else { continue };
        let settings = ArrSettings::of(request)?;
        let restarted = match App::open(kind, &settings)?.restart() {
            // config.xml is replaced at once, so the key may be the backup's already.
            Err(failure) if failure.trouble.kind() == Some(error::Kind::Unauthorized) => {
                let key = content::read(kind, &note.upload)?.api_key;
                App::open(kind, &settings)?.with_key(key).restart()
            }
            done => done,
        };
        restarted?;
        events.log(format!("{} is restarted: it has what was restored, or what it had", kind.title));
        journal.done(&entry)?;
    }
    Ok(())
}

/// Uploads a backup, restarts the application and counts; answers with the way to it then.
#[expect(clippy::too_many_arguments, reason = "the backup of before is put in the same way, with other values of each")]
fn put<'k>(
    app: &App<'_>,
    kind: &'k Kind,
    settings: &ArrSettings,
    journal: Option<&Journal>,
    zip: &Path,
    version: &str,
    content: &Content,
    before: &Status,
    events: &mut EventWriter<'_>,
) -> Result<(App<'k>, Status, u64), Failure> {
    let noted = |what: &dyn Fn(&Journal) -> Result<(), Failure>| journal.map_or(Ok(()), what);
    noted(&|journal| journal.note(UPLOADED, &Note { upload: zip.to_owned() }))?;
    match app.upload(zip, version) {
        Ok(()) => {}
        Err(NotUploaded::Refused(failure)) => return Err(failure.after(noted(&|journal| journal.done(UPLOADED)))),
        Err(NotUploaded::Unknown(failure)) => return Err(failure),
    }
    let other_key = content.api_key.expose_secret() != settings.api_key.0.expose_secret();
    // config.xml is replaced at once, so the key may be the backup's already.
    if let Err(failure) = app.restart() {
        if failure.trouble.kind() != Some(error::Kind::Unauthorized) || !other_key {
            return Err(failure);
        }
        App::open(kind, settings)?.with_key(content.api_key.clone()).restart()?;
    }
    let (restored, after) = wait(kind, settings, content, before, events)?;
    noted(&|journal| journal.done(UPLOADED))?;
    let found = restored.count()?;
    Ok((restored, after, found))
}

impl Work {
    /// Whether this backup can go into this application at all.
    fn fits(&self, kind: &Kind, options: &ArrRestore) -> Result<(), Failure> {
        let Self { before, content, version, .. } = self;
        if !before.uses_sqlite() {
            return Err(Failure::new(
                codes::DATABASE_ELSEWHERE,
                format!("this {} uses PostgreSQL: its own restore cannot fill that", kind.title),
            )
            .hint(
                "restore the target with the plugin `postgres`; config.xml is in this backup (`larder restore --to DIR`)",
            ));
        }
        if content.database.is_none() {
            return Err(Content::without_database(kind));
        }
        if compare_versions(&before.version, version) == Ordering::Less && !options.allow_older {
            let message =
                format!("the backup is of version {version}, this {} is older: {}", kind.title, before.version);
            return Err(Failure::new(codes::APP_OLDER, message)
                .hint(format!("update {} to {version} or newer first; or choose `allow_older: true`", kind.title)));
        }
        Ok(())
    }

    fn steps(&self, kind: &Kind, settings: &ArrSettings) -> Result<Vec<Step>, Failure> {
        let Self { app, before, content, version, .. } = self;
        let versions = match compare_versions(&before.version, version) {
            Ordering::Equal => format!("both are of version {version}"),
            Ordering::Greater => format!("from version {version} into {}: it is migrated at the start", before.version),
            Ordering::Less => format!("from version {version} into the older {}: it may not start", before.version),
        };
        let name = kind.table.to_ascii_lowercase();
        let counts = format!("{} {name} instead of {}", content.count(kind).unwrap_or(0), app.count()?);
        let mut steps = vec![
            Step::new(Verb::Replace, format!("database {}.db", kind.name), format!("{counts}; {versions}")),
            Step::new(Verb::Replace, "config.xml", "API key, port and login become the backup's"),
            Step::new(Verb::Run, format!("restart of {}", kind.title), ""),
        ];
        if content.api_key.expose_secret() != settings.api_key.0.expose_secret() {
            let detail = "the backup has another key: put the one that the application shows then into the settings";
            steps.push(Step::new(Verb::Manual, "setting api_key", detail));
        }
        Ok(steps)
    }
}

/// Waits until it was restarted and answers; with the key that it takes then.
fn wait<'k>(
    kind: &'k Kind,
    settings: &ArrSettings,
    content: &Content,
    before: &Status,
    events: &mut EventWriter<'_>,
) -> Result<(App<'k>, Status), Failure> {
    let deadline = Instant::now() + settings.wait();
    let (mut was_away, mut last) = (false, None);
    while Instant::now() < deadline {
        std::thread::sleep(PAUSE);
        events.progress(0, 0);
        for key in [&content.api_key, &settings.api_key.0] {
            let app = App::open(kind, settings)?.at_once().with_key(key.clone());
            match app.status() {
                Ok(after) => {
                    let restarted =
                        if before.start_time.is_some() { after.start_time != before.start_time } else { was_away };
                    if restarted {
                        return Ok((app, after));
                    }
                    break;
                }
                Err(failure) => {
                    was_away |= failure.trouble.kind() == Some(error::Kind::Unreachable);
                    last = Some(failure.trouble.message);
                }
            }
        }
    }
    let last = last.map_or_else(|| "it was not restarted".to_owned(), |last| format!("last: {last}"));
    let message = format!("{} was not back {} after the restore ({last})", kind.title, show_duration(settings.wait()));
    Err(Failure::new(codes::NOT_BACK, message).hint(
        "look at the application: the backup's config.xml may have another port or address; where nothing restarts a \
         container by itself, start it",
    ))
}

/// By the numbers between the dots; what is no number counts as 0.
fn compare_versions(one: &str, other: &str) -> Ordering {
    let numbers = |text: &str| -> Vec<u64> { text.split('.').map(|part| part.parse().unwrap_or(0)).collect() };
    numbers(one).cmp(&numbers(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert_eq!(compare_versions("6.0.10.1", "6.0.9.99"), Ordering::Greater);
        assert_eq!(compare_versions("6.0.3.10276", "6.0.3.10276"), Ordering::Equal);
        assert_eq!(compare_versions("5.28.0", "6.0"), Ordering::Less);
    }
}
