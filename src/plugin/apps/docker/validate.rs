//! Proves a capture: every file unchanged, every tar whole with what it held, every dump one that its tools read.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use crate::error::codes;
use crate::plugin::apps::docker::api::Engine;
use crate::plugin::apps::docker::content::{self, Only};
use crate::plugin::apps::docker::database::{FORMAT_GLOBALS, FORMAT_POSTGRES, FORMAT_RDB, FORMAT_SQL};
use crate::plugin::apps::docker::inventory::{Container, State};
use crate::plugin::apps::docker::list::{Dump, Inventory, Kept, Quiet};
use crate::plugin::apps::docker::load::{self, Unread};
use crate::plugin::apps::docker::settings::DockerSettings;
use crate::plugin::apps::docker::{INVENTORY, PATIENCE, unwritable};
use crate::plugin::kit::asked::ValidateJob;
use crate::plugin::kit::builtin::{self, Failure};
use crate::plugin::kit::database::postgres;
use crate::plugin::kit::digest;
use crate::plugin::kit::events::EventWriter;
use crate::plugin::kit::tool::Tools;
use crate::plugin::protocol::{Request, Verdict};

mod redis;

/// What is read of a dump's end, in bytes.
const TAIL_BYTES: u64 = 1024;
/// Fewer files than this are no reason to compare with the run before.
const FILES_COMPARED_MIN: u64 = 10;

/// Reads `inventory.json`.
pub(super) fn inventory(staging: &Path) -> Result<Inventory, Failure> {
    let path = staging.join(INVENTORY);
    let damaged = |error: &dyn std::fmt::Display| {
        Failure::new(codes::INVENTORY_DAMAGED, format!("{} cannot be read: {error}", path.display()))
    };
    let bytes = std::fs::read(&path).map_err(|error| damaged(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| damaged(&error))
}

pub(super) fn validate(request: &Request, events: &mut EventWriter<'_>) -> Result<(), Failure> {
    let ValidateJob::<DockerSettings> { facts, .. } = ValidateJob::of(request)?;
    for artifact in &facts.artifacts {
        digest::check(artifact, &request.staging.join(&artifact.path), events)?;
    }
    let inventory = match inventory(&request.staging) {
        Ok(inventory) => inventory,
        Err(failure) => {
            events.validation("the inventory can be read", Verdict::Failed, failure.trouble.message);
            return Ok(());
        }
    };
    for kept in &inventory.volumes {
        volume(request, kept, events);
        databases(kept, events);
    }
    let tools = Tools::new(Vec::new(), Vec::new(), &request.staging)?;
    for dump in &inventory.dumps {
        let file = request.staging.join(&dump.artifact);
        let (verdict, detail) = match dump.format.as_str() {
            FORMAT_POSTGRES => match postgres::prove_dump(&tools, &file) {
                (Verdict::CouldNotVerify, why) => inside(request, dump, &file, &why, events),
                told => told,
            },
            FORMAT_SQL => ends_with(&file, "-- Dump completed"),
            FORMAT_GLOBALS => postgres::Globals::verdict(&file),
            FORMAT_RDB => redis::prove(request, &tools, dump, &file, events),
            other => (Verdict::CouldNotVerify, format!("the format {other:?} is not known")),
        };
        let name = format!("the dump of {} in {} reads to its end", dump.database, dump.container);
        events.validation(name, verdict, detail);
    }
    let count = |facts: &crate::plugin::protocol::CaptureFacts| facts.figures.get("files").copied().unwrap_or(0);
    if let Some(previous) = request.previous.as_ref().map(count).filter(|before| *before >= FILES_COMPARED_MIN) {
        let now = count(facts);
        let verdict = if now >= previous.div_ceil(2) { Verdict::Proven } else { Verdict::CouldNotVerify };
        events.validation("no volume lost most of its files", verdict, format!("{now} files, {previous} before"));
    }
    Ok(())
}

fn volume(request: &Request, kept: &Kept, events: &mut EventWriter<'_>) {
    let Some(artifact) = &kept.artifact else {
        let there = kept.source.exists();
        let verdict = if there { Verdict::Proven } else { Verdict::Failed };
        let detail = format!("{} files at {}", kept.contents.files, kept.source.display());
        return events.validation(format!("{} is there", kept.name), verdict, detail);
    };
    let name = format!("the tar of {} is whole", kept.name);
    match content::read(&request.staging.join(artifact), &Only::All, &mut |_| {}) {
        Ok(found) if found == kept.contents => {
            events.validation(name, Verdict::Proven, format!("{} files, {} bytes", found.files, found.bytes));
        }
        Ok(found) => {
            let detail = format!("{} files, at the capture {}; or others", found.files, kept.contents.files);
            events.validation(name, Verdict::Failed, detail);
        }
        Err(failure) => events.validation(name, Verdict::Failed, failure.trouble.message),
    }
}

/// What was found out about databases among the files while they were read.
fn databases(kept: &Kept, events: &mut EventWriter<'_>) {
    for found in &kept.databases {
        let verdict = match found.state {
            Quiet::Sound => Verdict::Proven,
            Quiet::Damaged => Verdict::Failed,
            Quiet::Unknown => Verdict::CouldNotVerify,
            Quiet::Accepted => continue,
        };
        let name = format!("{} {} in {} is of one instant", found.kind, found.path, kept.name);
        events.validation(name, verdict, found.detail.clone());
    }
}

fn ends_with(file: &Path, end: &str) -> (Verdict, String) {
    let tail = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(file)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut tail = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut tail)?;
        Ok(String::from_utf8_lossy(&tail).into_owned())
    };
    match tail() {
        Ok(tail) if tail.contains(end) => (Verdict::Proven, "its last line is there".to_owned()),
        Ok(_) => (Verdict::Failed, format!("it does not end with {end:?}")),
        Err(error) => (Verdict::Failed, unwritable(file, &error).trouble.message),
    }
}

/// The container called `name` where it works, and the engine that has it.
fn running(request: &Request, name: &str) -> Result<Option<(Engine, Container)>, Failure> {
    let settings: DockerSettings = builtin::settings(request)?;
    let engine = Engine::open(&settings.socket, settings.patience(PATIENCE))?;
    let found = engine.inspect(name)?.and_then(Container::of);
    // An id would be found too, and the beginning of one.
    let found = found.filter(|each| each.name == name && each.state == State::Running);
    Ok(found.map(|container| (engine, container)))
}

/// Where no pg_restore of this host can read it, that of the container can: it came with the server.
fn inside(request: &Request, dump: &Dump, file: &Path, why: &str, events: &mut EventWriter<'_>) -> (Verdict, String) {
    let mut read = || -> Result<Option<Result<String, Unread>>, Failure> {
        let found = running(request, &dump.container)?;
        found.map(|(engine, container)| load::read_inside(&engine, &container, file, events)).transpose()
    };
    match read() {
        Ok(Some(Ok(told))) => (Verdict::Proven, format!("{told}, by pg_restore in {}", dump.container)),
        Ok(Some(Err(Unread::Broken(failure)))) => (Verdict::Failed, failure.trouble.message),
        Ok(None) => (Verdict::CouldNotVerify, format!("{why}, and {} does not run", dump.container)),
        Ok(Some(Err(Unread::Newer(failure)))) | Err(failure) => {
            (Verdict::CouldNotVerify, format!("{why}; {}", failure.trouble.message))
        }
    }
}
