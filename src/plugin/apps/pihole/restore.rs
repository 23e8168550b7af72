//! Puts an export back: import, wait until the Pi-hole is up again, export once more and compare.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Kind, Trouble, codes};
use crate::plugin::apps::pihole::api::{self, READ_ONLY_HINT, Session};
use crate::plugin::apps::pihole::login::Credential;
use crate::plugin::apps::pihole::opening::{self, Seat};
use crate::plugin::apps::pihole::settings::PiholeSettings;
use crate::plugin::apps::pihole::teleporter::{self, Contents, GRAVITY, LEASES, TOML};
use crate::plugin::apps::pihole::{IMPORT_BYTES_MAX, LISTS_ELSEWHERE_HINT, ZIP_BYTES_MAX, gravity};
use crate::plugin::kit::builtin::Failure;
use crate::plugin::kit::download;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::journal::Journal;
use crate::plugin::kit::restore::{Planned, RestoreJob, Restorer};
use crate::plugin::protocol::{Step, Verb, Verdict};
use crate::types::ByteSize;
use crate::web::{Upload, Web};

/// How long a Pi-hole may take to start again.
const RESTART_MAX: Duration = Duration::from_secs(60);
/// It begins to restart within this after an import.
const RESTART_BEGINS: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What can be put back alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Part {
    /// The settings, with passwords, ports and local DNS records.
    Config,
    DhcpLeases,
    Group,
    Adlist,
    AdlistByGroup,
    Domainlist,
    DomainlistByGroup,
    Client,
    ClientByGroup,
}

impl Part {
    const ALL: [Self; 9] = [
        Self::Config,
        Self::DhcpLeases,
        Self::Group,
        Self::Adlist,
        Self::AdlistByGroup,
        Self::Domainlist,
        Self::DomainlistByGroup,
        Self::Client,
        Self::ClientByGroup,
    ];

    /// The table of gravity.db; none for what is a file.
    fn table(self) -> Option<&'static str> {
        Some(match self {
            Self::Config | Self::DhcpLeases => return None,
            Self::Group => "group",
            Self::Adlist => "adlist",
            Self::AdlistByGroup => "adlist_by_group",
            Self::Domainlist => "domainlist",
            Self::DomainlistByGroup => "domainlist_by_group",
            Self::Client => "client",
            Self::ClientByGroup => "client_by_group",
        })
    }

    /// As the Pi-hole names it when it has imported it.
    fn told_as(self) -> String {
        match (self, self.table()) {
            (_, Some(table)) => format!("{GRAVITY}->{table}"),
            (Self::DhcpLeases, None) => LEASES.to_owned(),
            _ => TOML.to_owned(),
        }
    }

    fn is_in(self, contents: &Contents) -> bool {
        match self.table() {
            Some(_) => contents.importable,
            None => contents.has(&self.told_as()),
        }
    }
}

/// What an operator may choose.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PiholeRestore {
    /// What to put back, such as `["adlist", "domainlist", "group"]`; all that is in the backup when it is not given.
    #[serde(default)]
    #[schemars(length(min = 1))]
    parts: Option<Vec<Part>>,
    /// Download the lists afterwards, so that they block.
    #[serde(default = "crate::plugin::kit::settings::yes")]
    update_lists: bool,
}

/// The journal's entry of an import.
const IMPORT: &str = "import";

/// What puts back what was there.
#[derive(Serialize, Deserialize)]
struct Note {
    before: PathBuf,
    parts: Vec<Part>,
}

/// What is to be done, decided before anything is.
struct Plan {
    zip: PathBuf,
    contents: Contents,
    parts: Vec<Part>,
    update_lists: bool,
}

/// A plan, and the session in which it is carried out: with a second factor, another one would have to wait for a code.
pub(super) struct Work {
    plan: Plan,
    seat: Seat,
    /// Domains that are blocked now.
    blocked: Option<u64>,
}

type Job<'j> = RestoreJob<'j, PiholeSettings, PiholeRestore>;

/// Puts an export back.
pub(super) struct PutBack;

impl Restorer for PutBack {
    type Settings = PiholeSettings;
    type Options = PiholeRestore;
    type Work = Work;

    fn plan(job: &Job<'_>, events: &mut EventWriter<'_>) -> Result<Planned<Work>, Failure> {
        let plan = plan(job)?;
        let seat = Seat::take(job.settings.web()?, &job.settings.credential()?, job.run, events)?;
        let session = seat.session();
        refuse_where_nothing_may_change(&session)?;
        let blocked = gravity::blocked(&session);
        if let Some(version) = super::capture::version(&session) {
            events.version(version);
        }
        Ok(Planned::of(plan.steps(), Work { plan, seat, blocked }))
    }

    fn execute(
        job: &Job<'_>,
        Work { plan, seat, blocked }: Work,
        journal: Option<&Journal>,
        events: &mut EventWriter<'_>,
    ) -> Result<(), Failure> {
        let done = put(&seat, &plan, job.staging, journal, events);
        // At once, while the old process still stands: in the new one the session may be gone or keep its seat.
        seat.leave(events)?;
        done?;
        verify(job, &plan, blocked, events)
    }
}

fn put(
    seat: &Seat,
    plan: &Plan,
    staging: &Path,
    journal: Option<&Journal>,
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    let (session, web) = (&seat.session(), &seat.web);
    // What is there now, to be put back when the import fails in its middle: it takes one part after the other.
    let before = staging.join(".before.zip");
    let _ = std::fs::remove_file(&before);
    export_again(session, web, &before, events)?;
    let noted = |what: &dyn Fn(&Journal) -> Result<(), Failure>| journal.map_or(Ok(()), what);
    let note = Note { before: before.clone(), parts: plan.parts.clone() };
    std::fs::File::open(&before).and_then(|file| file.sync_all()).map_err(|error| {
        Failure::new(codes::UNWRITABLE, format!("what the Pi-hole has now cannot be kept: {error}"))
            .hint("nothing was changed; make room in the state directory")
    })?;
    noted(&|journal| journal.note(IMPORT, &note))?;
    if let Err(failure) = import(session, web, &plan.zip, &plan.parts) {
        let (failure, is_undone) = undo(session, web, &before, plan, failure);
        let cleared = if is_undone { noted(&|journal| journal.done(IMPORT)) } else { Ok(()) };
        return Err(failure.after(cleared));
    }
    noted(&|journal| journal.done(IMPORT))
}

fn plan(job: &Job<'_>) -> Result<Plan, Failure> {
    let Some(artifact) = job.facts.artifacts.iter().find(|each| each.format == super::FORMAT) else {
        return Err(Failure::new(codes::NO_EXPORT, "the backup has no Teleporter archive")
            .hint("is it one of a target with `plugin: pihole`?"));
    };
    let zip = job.staging.join(&artifact.path);
    let contents = teleporter::read(&zip, job.staging)?;
    let size = std::fs::metadata(&zip).map_or(0, |found| found.len());
    if size > IMPORT_BYTES_MAX {
        return Err(Failure::new(
            codes::EXPORT_LARGE,
            format!("the export has {}, a Pi-hole imports 50 MiB", ByteSize(size)),
        )
        .hint("on the Pi-hole itself `pihole-FTL --teleporter FILE.zip` takes 128 MiB"));
    }
    let parts = match &job.options.parts {
        None => Part::ALL.into_iter().filter(|part| part.is_in(&contents)).collect(),
        Some(chosen) => {
            if let Some(part) = chosen.iter().find(|part| !part.is_in(&contents)) {
                return Err(Failure::new(codes::PART_MISSING, format!("the backup has no {}", part.told_as()))
                    .hint("leave it out of `parts`"));
            }
            chosen.clone()
        }
    };
    Ok(Plan { zip, contents, parts, update_lists: job.options.update_lists })
}

/// An app password is refused only after the archive was sent; it can be known before.
fn refuse_where_nothing_may_change(session: &Session<'_>) -> Result<(), Failure> {
    if !session.pass.by_app_password {
        return Ok(());
    }
    let answer = session.get("/api/config/webserver/api/app_sudo").send()?;
    let told: Value = if answer.status() == 200 { answer.json()? } else { Value::Null };
    if told.pointer("/config/webserver/api/app_sudo") == Some(&Value::Bool(false)) {
        return Err(Failure::new(codes::READ_ONLY, "the password is an app password, which may not import")
            .hint(READ_ONLY_HINT));
    }
    Ok(())
}

impl Plan {
    /// What is done, in its order.
    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut step = |verb, thing: String, detail: String| steps.push(Step::new(verb, thing, detail));
        if !self.contents.importable {
            step(Verb::Manual, format!("/{}", self.contents.gravity_name), LISTS_ELSEWHERE_HINT.to_owned());
        }
        for part in &self.parts {
            match part.table() {
                Some(table) => {
                    let rows = self.contents.gravity.get(table).copied().unwrap_or(0);
                    step(Verb::Replace, format!("table {table}"), format!("{rows} rows"));
                }
                None if *part == Part::Config => step(
                    Verb::Replace,
                    "settings (pihole.toml)".to_owned(),
                    "with the password, second factor, ports and DNS records of the backup".to_owned(),
                ),
                None => step(Verb::Replace, "DHCP leases".to_owned(), String::new()),
            }
        }
        let gone = "the Pi-hole does it itself; DNS is gone for about a second";
        step(Verb::Run, "restart of pihole-FTL".to_owned(), gone.to_owned());
        let download = "download of the lists".to_owned();
        if self.update_lists {
            step(Verb::Run, download, "as `pihole -g` does".to_owned());
        } else if self.parts.iter().any(|part| part.table().is_some()) {
            step(Verb::Manual, download, "until `pihole -g` ran, their domains are not blocked".to_owned());
        }
        for member in self.contents.members.iter().filter(|member| member.starts_with("etc/dnsmasq.d/")) {
            let how = "a Pi-hole does not import it: unpack it from teleporter.zip";
            step(Verb::Manual, format!("/{member}"), how.to_owned());
        }
        steps
    }
}

/// Puts back what was there before an import that failed, part by part the same.
///
/// Answers too whether nothing is left to be done: an app password or a refused archive changed nothing, and what was
/// there is refused alike then.
fn undo(session: &Session<'_>, web: &Web, before: &Path, plan: &Plan, failure: Failure) -> (Failure, bool) {
    let (tail, is_undone) = match import(session, web, before, &plan.parts) {
        Ok(()) => ("; the Pi-hole was put back as it was before".to_owned(), true),
        Err(why) if why.trouble.message == failure.trouble.message => {
            ("; putting back what was there failed alike".to_owned(), true)
        }
        Err(why) => {
            (format!("; and it could not be put back as it was, which is tried again: {}", why.trouble.message), false)
        }
    };
    let message = format!("{}{tail}", failure.trouble.message);
    (Failure { trouble: Trouble { message, ..failure.trouble }, ..failure }, is_undone)
}

/// Puts back what a killed restore may have replaced in part.
pub(super) fn recover(
    web: &Web,
    credential: &Credential,
    run: &str,
    journal: &Journal,
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    let notes = journal.entries::<Value>()?.into_iter().filter(|(entry, _)| entry == IMPORT);
    for note in notes.filter_map(|(_, value)| serde_json::from_value::<Note>(value).ok()) {
        opening::with_session(web, credential, run, None, events, |session, events| {
            import(session, web, &note.before, &note.parts)?;
            events.log("the Pi-hole is what it was before a restore that was killed");
            Ok(())
        })?;
        journal.done(IMPORT)?;
    }
    Ok(())
}

fn import(session: &Session<'_>, web: &Web, zip: &Path, parts: &[Part]) -> Result<(), Failure> {
    let has = |part: Part| parts.contains(&part);
    let tables: serde_json::Map<String, Value> =
        Part::ALL.iter().filter_map(|part| Some((part.table()?.to_owned(), has(*part).into()))).collect();
    let chosen = json!({ "config": has(Part::Config), "dhcp_leases": has(Part::DhcpLeases), "gravity": tables });
    let file = Upload {
        field: "file".to_owned(),
        path: zip.to_owned(),
        // The ending decides how the Pi-hole reads it.
        file_name: super::FILE.to_owned(),
        content_type: "application/zip".to_owned(),
    };
    let answer = session.post("/api/teleporter").upload(&[("import", &chosen.to_string())], file).send()?;
    if answer.status() != 200 {
        let failure = api::explain(answer, web);
        return Err(Failure {
            trouble: Trouble { code: codes::IMPORT_FAILED.name().to_owned(), ..failure.trouble },
            ..failure
        });
    }
    let what = answer.what().to_owned();
    let told: Value = answer.json()?;
    if let Some(error) = gravity::error_in(&told) {
        return Err(Failure::new(codes::IMPORT_FAILED, format!("{what} was answered with 200 and an error: {error}"))
            .hint("a part may have been imported; look into /var/log/pihole/FTL.log on the Pi-hole"));
    }
    let files: Vec<&str> = told["files"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let left_out: Vec<String> =
        parts.iter().map(|part| part.told_as()).filter(|part| !files.contains(&part.as_str())).collect();
    if left_out.is_empty() {
        return Ok(());
    }
    // It skips in silence what it does not find.
    Err(Failure::new(codes::IMPORT_INCOMPLETE, format!("{what}: the Pi-hole did not import {}", left_out.join(", ")))
        .hint("the rest was imported; look into /var/log/pihole/FTL.log on the Pi-hole"))
}

/// Waits for the restart, then exports again and compares with the backup.
fn verify(
    job: &Job<'_>,
    plan: &Plan,
    blocked_before: Option<u64>,
    events: &mut EventWriter<'_>,
) -> Result<(), Failure> {
    let settings = &job.settings;
    let credential = settings.credential()?;
    let with_config = plan.parts.contains(&Part::Config);
    let web = settings.web()?.at_once();
    if !is_up_again(&web) {
        let why = if with_config { ": the restored settings may have another port or certificate" } else { "" };
        events.validation(
            "the Pi-hole is up again",
            Verdict::CouldNotVerify,
            format!("it did not answer at {} within a minute{why}", web.shown()),
        );
        return Ok(());
    }
    events.validation("the Pi-hole is up again", Verdict::Proven, "it answers");
    let again = job.staging.join(".again.zip");
    let web = settings.web()?;
    let exported = opening::with_session(&web, &credential, job.run, None, events, |session, events| {
        if plan.update_lists {
            let lists = plan.contents.gravity.get("adlist").copied().unwrap_or(0);
            gravity::update(session, &web, lists, blocked_before, events);
        }
        export_again(session, &web, &again, events)
    });
    let compared = exported.and_then(|()| teleporter::read(&again, job.staging));
    let _ = std::fs::remove_file(&again);
    match compared {
        Ok(found) => {
            compare(plan, &found, events);
            Ok(())
        }
        Err(failure) if with_config && failure.trouble.is_of(Kind::Unauthorized) => {
            events.validation(
                "what was imported is there",
                Verdict::CouldNotVerify,
                "the restored settings brought their own password and second factor: give those to the target from now on",
            );
            Ok(())
        }
        Err(failure) => {
            events.validation("what was imported is there", Verdict::CouldNotVerify, failure.trouble.message);
            Ok(())
        }
    }
}

fn is_up_again(web: &Web) -> bool {
    let started = Instant::now();
    let mut was_down = false;
    while started.elapsed() < RESTART_MAX {
        std::thread::sleep(LOOK_EVERY);
        // Without a session it says 401, or 200 where it has no password; while it starts anything else.
        let up = web.get("/api/auth").header("accept", "application/json").send();
        match up.map(|answer| answer.status()) {
            Ok(200 | 401) if was_down || started.elapsed() > RESTART_BEGINS => return true,
            Ok(200 | 401) => {}
            _ => was_down = true,
        }
    }
    false
}

fn export_again(session: &Session<'_>, web: &Web, path: &Path, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let answer = session.get("/api/teleporter").send()?;
    if answer.status() != 200 {
        return Err(api::explain(answer, web));
    }
    download::save(answer, path, ZIP_BYTES_MAX, events).map(|_| ())
}

fn compare(plan: &Plan, found: &Contents, events: &mut EventWriter<'_>) {
    for table in plan.parts.iter().filter_map(|part| part.table()) {
        let (wanted, seen) = (plan.contents.gravity.get(table), found.gravity.get(table));
        let verdict = if wanted == seen { Verdict::Proven } else { Verdict::Failed };
        let detail = format!("{} rows, in the backup {}", seen.unwrap_or(&0), wanted.unwrap_or(&0));
        events.validation(format!("table {table} has the rows of the backup"), verdict, detail);
    }
    if plan.parts.contains(&Part::Config) {
        let (wanted, seen) = (&plan.contents.config, &found.config);
        let other: Vec<&str> = wanted
            .iter()
            .filter(|(name, value)| seen.get(*name) != Some(value))
            .map(|(name, _)| name.as_str())
            .collect();
        if other.is_empty() {
            events.validation("the settings are those of the backup", Verdict::Proven, "section by section");
        } else {
            events.validation(
                "the settings are those of the backup",
                Verdict::CouldNotVerify,
                format!("[{}] differs: another version of Pi-hole, or FTLCONF_ variables win", other.join("], [")),
            );
        }
    }
}
