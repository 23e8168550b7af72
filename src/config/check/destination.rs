//! A destination document.

use std::path::PathBuf;

use super::{Checker, Sited, values};
use crate::config::model::{Check, Destination, Limits, Prune, Repository, ScheduleSpec};
use crate::config::raw::{RawDestination, RawRepository};
use crate::error::codes;

/// A destination; its schedules still lack the site's time zone.
#[derive(Debug)]
pub(crate) struct DestinationItem {
    destination: Destination,
    check: Option<(String, Option<String>)>,
    prune: Option<String>,
    /// The repository's directory, for "two destinations, one repository".
    pub path: Sited<PathBuf>,
}

impl DestinationItem {
    pub(crate) fn resolve(&self, timezone: &str) -> Destination {
        let spec = |expression: &String| ScheduleSpec { expression: expression.clone(), timezone: timezone.to_owned() };
        let check = self.check.as_ref();
        Destination {
            check: check.map(|(expression, read)| Check { schedule: spec(expression), read_data: read.clone() }),
            prune: self.prune.as_ref().map(|expression| Prune { schedule: spec(expression) }),
            ..self.destination.clone()
        }
    }
}

pub(super) fn check(checker: &mut Checker<'_>, raw: RawDestination) -> Option<DestinationItem> {
    let name = checker.name(&["name"], &raw.name.0);
    let RawRepository::Local { path, require_mount, create } = raw.repository;
    let path = checker.take(&["repository", "path"], values::path(&path.0));
    let require_mount =
        checker.maybe(&["repository", "require_mount"], require_mount.map(|text| values::path(&text.0)));
    if let (Some(path), Some(mount)) = (&path, &require_mount)
        && !path.starts_with(mount)
    {
        let message = format!("`{}` does not lie below `{}`", path.display(), mount.display());
        let refusal = values::Refusal::new(codes::MOUNT_ELSEWHERE, message);
        let hint = "`require_mount` names the mount point that the repository lies in";
        checker.take::<()>(&["repository", "require_mount"], Err(refusal.hint(hint)));
    }
    let limits = raw.limits.unwrap_or_default();
    let upload = checker.maybe(&["limits", "upload"], limits.upload.map(|text| values::rate(&text.0)));
    let download = checker.maybe(&["limits", "download"], limits.download.map(|text| values::rate(&text.0)));
    let check = raw.check.and_then(|check| {
        let schedule = checker.take(&["check", "schedule"], values::schedule(&check.schedule.0, None));
        let read_data = checker.maybe(&["check", "read_data"], check.read_data.map(|text| values::read_data(&text.0)));
        Some((schedule?.expression().to_owned(), read_data))
    });
    let prune = raw.prune.and_then(|prune| {
        let schedule = checker.take(&["prune", "schedule"], values::schedule(&prune.schedule.0, None));
        Some(schedule?.expression().to_owned())
    });
    let span = checker.span(&["repository", "path"]);
    let path = path?;
    Some(DestinationItem {
        destination: Destination {
            name: name?,
            repository: Repository::Local { path: path.clone(), require_mount, create: create.unwrap_or(false) },
            password: raw.password,
            limits: Limits { upload, download },
            machine_key: raw.machine_key.unwrap_or(true),
            check: None,
            prune: None,
        },
        check,
        prune,
        path: Sited { value: path, span },
    })
}
