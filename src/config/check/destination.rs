//! A destination document.

use std::path::{Path, PathBuf};

use super::values::Refusal;
use super::{Checker, Sited, repository, values};
use crate::config::model::{
    Cache, Check, CopyRule, Cost, Destination, IoPriority, Limits, LockMode, ObjectLock, Prune, Repository,
    ScheduleSpec,
};
use crate::config::raw::{RawCache, RawCopy, RawCost, RawDestination, RawLockMode, RawName, RawObjectLock};
use crate::config::suggest::shown;
use crate::error::codes;
use crate::types::Name;

/// The last level of best effort for the disks, and the kernel's own choice.
const IO_LEVEL_MAX: u8 = 7;
const IO_LEVEL: u8 = 4;

/// Sizes of packs that restic takes, in MiB.
const PACK_MIB: std::ops::RangeInclusive<u32> = 4..=128;

/// A destination; its schedules still lack the site's time zone.
#[derive(Debug)]
pub(crate) struct DestinationItem {
    destination: Destination,
    check: Option<(String, Option<String>)>,
    prune: Option<String>,
    /// What it gets from another one.
    pub copy: Option<CopyItem>,
    /// Where the repository lies, for "two destinations, one repository".
    pub location: Sited<String>,
}

/// A copy; its schedule still lacks the site's time zone.
#[derive(Debug)]
pub(crate) struct CopyItem {
    pub from: Sited<Name>,
    schedule: String,
    pub targets: Vec<Sited<Name>>,
    pub policies: Vec<Sited<Name>>,
}

impl DestinationItem {
    pub(crate) fn repository(&self) -> &Repository {
        &self.destination.repository
    }

    /// Whose storage it is, and where on that it lies.
    pub(crate) fn place(&self) -> (String, PathBuf) {
        self.destination.repository.place()
    }

    /// restic's cache, where it is one that somebody named.
    pub(crate) fn cache(&self) -> Option<&Path> {
        match &self.destination.cache {
            Cache::At(path) => Some(path),
            Cache::Own | Cache::Off => None,
        }
    }

    /// The repository's directory, where it is one of this host.
    pub(crate) fn directory(&self) -> Option<&Path> {
        self.destination.repository.local().map(|local| local.path.as_path())
    }

    pub(crate) fn resolve(&self, timezone: &str) -> Destination {
        let spec = |expression: &String| ScheduleSpec { expression: expression.clone(), timezone: timezone.to_owned() };
        let check = self.check.as_ref();
        Destination {
            check: check.map(|(expression, read)| Check { schedule: spec(expression), read_data: read.clone() }),
            prune: self.prune.as_ref().map(|expression| Prune { schedule: spec(expression) }),
            copy: self.copy.as_ref().map(|copy| CopyRule {
                from: copy.from.value.clone(),
                schedule: spec(&copy.schedule),
                targets: copy.targets.iter().map(|name| name.value.clone()).collect(),
                policies: copy.policies.iter().map(|name| name.value.clone()).collect(),
            }),
            ..self.destination.clone()
        }
    }
}

pub(super) fn check(checker: &mut Checker<'_>, raw: RawDestination) -> Option<DestinationItem> {
    let name = checker.name(&["name"], &raw.name.0);
    let repository = repository::check(checker, raw.repository);
    let limits = raw.limits.unwrap_or_default();
    let upload = checker.maybe(&["limits", "upload"], limits.upload.map(|text| values::rate(&text.0)));
    let download = checker.maybe(&["limits", "download"], limits.download.map(|text| values::rate(&text.0)));
    let pack_mib = checker.maybe(&["pack_size"], raw.pack_size.map(|text| pack_size(&text.0)));
    // The schema has its bounds.
    let nice = raw.nice.and_then(|nice| u8::try_from(nice).ok());
    let ionice = checker.maybe(&["ionice"], raw.ionice.map(|text| ionice(&text.0)));
    let cache = match raw.cache {
        Some(RawCache::At(path)) => checker.take(&["cache"], values::path(&path)).map(Cache::At).unwrap_or_default(),
        Some(RawCache::Wanted(false)) => Cache::Off,
        Some(RawCache::Wanted(true)) | None => Cache::Own,
    };
    let check = raw.check.and_then(|check| {
        let schedule = checker.take(&["check", "schedule"], values::schedule(&check.schedule.0, None));
        let read_data = checker.maybe(&["check", "read_data"], check.read_data.map(|text| values::read_data(&text.0)));
        Some((schedule?.expression().to_owned(), read_data))
    });
    let prunes = raw.prune.is_some();
    let prune = raw.prune.and_then(|prune| {
        let schedule = checker.take(&["prune", "schedule"], values::schedule(&prune.schedule.0, None));
        Some(schedule?.expression().to_owned())
    });
    let cost = raw.cost.and_then(|raw| cost(checker, &raw));
    let copies = raw.copy.is_some();
    let copy = raw.copy.and_then(|copy| copy_from(checker, copy));
    let repository_id = raw.repository_id.map(|id| id.0.to_ascii_lowercase());
    let append_only = raw.append_only.unwrap_or(false);
    if append_only && prunes {
        let refusal = Refusal::new(codes::PRUNE_OF_APPEND_ONLY, "`prune` deletes, and the destination is append-only");
        checker.take::<()>(&["prune"], Err(refusal.hint("delete `prune`, or `append_only`")));
    }
    let object_lock = raw.object_lock.and_then(|lock| object_lock(checker, &lock, repository.as_ref()));
    if copies && copy.is_none() {
        return None;
    }
    let repository = repository?;
    let place = if repository.local().is_some() { ["repository", "path"].as_slice() } else { &["repository"] };
    let location = Sited { value: repository.location(), span: checker.span(place) };
    Some(DestinationItem {
        destination: Destination {
            name: name?,
            repository,
            password: raw.password,
            limits: Limits { upload, download, connections: raw.connections, pack_mib, nice, ionice },
            machine_key: raw.machine_key.unwrap_or(true),
            append_only,
            object_lock,
            repository_id,
            cache,
            check: None,
            prune: None,
            cost,
            copy: None,
        },
        check,
        prune,
        copy,
        location,
    })
}

fn copy_from(checker: &mut Checker<'_>, raw: RawCopy) -> Option<CopyItem> {
    let from = checker.name(&["copy", "from"], &raw.from.0);
    let schedule = checker.take(&["copy", "schedule"], values::schedule(&raw.schedule.0, None));
    let mut names = |field: &str, raw: Option<Vec<RawName>>| {
        let names: Vec<String> = raw.unwrap_or_default().into_iter().map(|name| name.0).collect();
        checker.names(&["copy", field], &names)
    };
    let (targets, policies) = (names("targets", raw.targets), names("policies", raw.policies));
    let from = Sited { value: from?, span: checker.span(&["copy", "from"]) };
    Some(CopyItem { from, schedule: schedule?.expression().to_owned(), targets, policies })
}

fn object_lock(checker: &mut Checker<'_>, raw: &RawObjectLock, repository: Option<&Repository>) -> Option<ObjectLock> {
    if let Some(other) = repository.filter(|repository| !matches!(repository, Repository::S3(_))) {
        let message = format!("`object_lock` needs a bucket, and the repository is of the kind {}", other.kind());
        let refusal = Refusal::new(codes::OBJECT_LOCK_ELSEWHERE, message);
        let hint = "delete `object_lock`, or use a repository of `type: s3` whose bucket has Object Lock";
        return checker.take(&["object_lock"], Err(refusal.hint(hint)));
    }
    let mode = match raw.mode {
        RawLockMode::Governance => LockMode::Governance,
        RawLockMode::Compliance => LockMode::Compliance,
    };
    Some(ObjectLock { mode, days: raw.days })
}

/// The schema has the bounds of the price.
fn cost(checker: &mut Checker<'_>, raw: &RawCost) -> Option<Cost> {
    let currency = checker.take(&["cost", "currency"], values::currency(&raw.currency.0))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and a million")]
    let per_tb_month_millionths = (raw.per_tb_month * 1_000_000.0).round() as u64;
    Some(Cost { per_tb_month_millionths, currency })
}

/// In whole MiB, as restic takes it.
fn pack_size(text: &str) -> Result<u32, Refusal> {
    let bytes = values::size(text)?.0;
    match u32::try_from(bytes >> 20) {
        Ok(mib) if PACK_MIB.contains(&mib) && u64::from(mib) << 20 == bytes => Ok(mib),
        _ => Err(Refusal::new(codes::OUT_OF_RANGE, format!("`{}` can not be the size of packs", shown(text)))
            .hint("write 4MiB to 128MiB, in whole MiB")),
    }
}

fn ionice(text: &str) -> Result<IoPriority, Refusal> {
    let level = |level: &str| level.parse().ok().filter(|level| *level <= IO_LEVEL_MAX).map(IoPriority::BestEffort);
    let read = match text.split_once(':') {
        None if text == "idle" => Some(IoPriority::Idle),
        None if text == "best-effort" => Some(IoPriority::BestEffort(IO_LEVEL)),
        Some(("best-effort", number)) => level(number),
        _ => None,
    };
    read.ok_or_else(|| {
        Refusal::new(codes::OUT_OF_RANGE, format!("`{}` is no priority for the disks", shown(text)))
            .hint("write `idle`, or `best-effort:LEVEL` with a level from 0 (first) to 7 (last)")
    })
}
