//! A site with a bit of everything, for the tests of the view, the pages and the metrics.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};

use crate::config::model::{
    Check, Config, Cost, Destination, Discover, Hooks, Limits, LocalRepository, OnMissed, Policy, Prune, Repository,
    Retention, ScheduleSpec, Target,
};
use crate::discovery::docker::{EngineInventory, Seen};
use crate::error::{Trouble, codes};
use crate::run::RunState;
use crate::run::statistics::{Day, Figures, NextForget, Size, Statistics, TargetStatistics};
use crate::runner::live::{Discovery, RunUpdate};
use crate::secret::SecretRef;
use crate::status::read::{History, Reading};
use crate::store::record::{
    Applied, ArtifactSummary, ConfigRecord, CopyRecord, DestinationRecord, JobRecord, RunRecord, RunSummary, Shipment,
    Suspension, Trigger, Upkeep,
};
use crate::types::{JobId, Name, Outcome, Revision, RunId};

pub fn now() -> Timestamp {
    "2026-11-22T06:00:00Z".parse().unwrap()
}

pub fn ago(hours: i64) -> Timestamp {
    now() - SignedDuration::from_hours(hours)
}

pub fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub fn job_id(target: &str) -> JobId {
    JobId { target: name(target), policy: name("daily") }
}

/// The same id for the same number, so that pages can be compared.
pub fn run_id(n: u64) -> RunId {
    RunId::from_bytes(((0x019A_0000_0000_0000_u128 + u128::from(n)) << 64).to_be_bytes())
}

pub fn summary(n: u64, outcome: Outcome, hours_ago: i64, trouble: Option<Trouble>) -> RunSummary {
    RunSummary { id: run_id(n), outcome, finished: ago(hours_ago), duration_ms: 83_000, bytes: 734_003_200, trouble }
}

/// A job that succeeded four hours ago and is due in twenty.
pub fn job(target: &str) -> JobRecord {
    JobRecord {
        id: job_id(target),
        orphaned_since: None,
        schedule_key: "0 2 * * *|Asia/Singapore|0".to_owned(),
        next_slot: Some(now() + SignedDuration::from_hours(20)),
        next_run: Some(now() + SignedDuration::from_hours(20)),
        last_slot: Some(ago(4)),
        suspended: None,
        retry: None,
        success_total: 212,
        failure_total: 3,
        last_run: Some(summary(1, Outcome::Success, 4, None)),
        last_success: Some(summary(1, Outcome::Success, 4, None)),
        sizes: Vec::new(),
        failing: 0,
        incomplete: 0,
        troubled_since: None,
        overdue_told: None,
        bare_since: None,
        parents: BTreeMap::new(),
        holds: Vec::new(),
        accepted: Vec::new(),
        spent: Vec::new(),
        usual: crate::run::usual::Usual::default(),
    }
}

pub fn policy() -> Policy {
    Policy {
        name: name("daily"),
        default: true,
        schedule: ScheduleSpec { expression: "0 2 * * *".to_owned(), timezone: "Asia/Singapore".to_owned() },
        jitter: Duration::ZERO,
        retention: Retention { daily: Some(7), ..Retention::default() },
        destinations: vec![name("nas"), name("usb")],
        max_age: Some(Duration::from_hours(26)),
        timeout: Duration::from_hours(2),
        on_missed: OnMissed::Run,
    }
}

pub fn target(text: &str, plugin: &str) -> Target {
    Target {
        name: name(text),
        plugin: name(plugin),
        settings: serde_json::json!({}),
        policies: vec![name("daily")],
        enabled: true,
        hooks: Hooks::default(),
        accept: Vec::new(),
        tolerate: crate::config::model::Tolerate::default(),
    }
}

pub fn destination(text: &str) -> Destination {
    let weekly = ScheduleSpec { expression: "0 5 * * 0".to_owned(), timezone: "UTC".to_owned() };
    Destination {
        name: name(text),
        repository: Repository::Local(LocalRepository {
            path: PathBuf::from(format!("/mnt/{text}/restic")),
            require_mount: None,
            create: false,
        }),
        password: SecretRef::Env("PASSWORD".to_owned()),
        limits: Limits::default(),
        machine_key: true,
        append_only: false,
        object_lock: None,
        repository_id: None,
        cache: crate::config::model::Cache::Own,
        check: Some(Check { schedule: weekly.clone(), read_data: None }),
        prune: Some(Prune { schedule: weekly }),
        cost: Some(Cost { per_tb_month_millionths: 7_000_000, currency: "USD".to_owned() }),
        copy: None,
    }
}

pub fn destination_record(text: &str) -> DestinationRecord {
    let done = Upkeep {
        schedule_key: String::new(),
        next: Some(now() + SignedDuration::from_hours(40)),
        last: Some(ago(60)),
        last_success: Some(ago(60)),
        trouble: None,
    };
    DestinationRecord {
        name: name(text),
        location: format!("/mnt/{text}/restic"),
        repository_id: Some("5f0c".repeat(16)),
        prune: done.clone(),
        check: done.clone(),
        forget: done,
        trouble: None,
        last_used: Some(ago(4)),
        away_since: None,
        locks: Upkeep::default(),
        copy: CopyRecord::default(),
        immutable: None,
        tested: None,
        document: None,
    }
}

pub fn config_record() -> ConfigRecord {
    ConfigRecord {
        applied: Some(Applied {
            revision: Revision::parse(&"3f2a1bc".repeat(6)[..40]).unwrap(),
            at: ago(51),
            took_us: 8_412,
        }),
        ..ConfigRecord::default()
    }
}

pub fn run(n: u64, target: &str, outcome: Outcome, hours_ago: i64) -> RunRecord {
    let trouble = (outcome == Outcome::Failed)
        .then(|| Trouble::new(codes::UNREACHABLE, "cannot connect to db.lan:5432: connection refused"));
    let shipment = |destination: &str, outcome| Shipment {
        destination: name(destination),
        outcome,
        snapshot: Some("9c1f0a7be2".to_owned()),
        bytes: 0,
        bytes_added: 4_200_000,
        files: 3,
        duration_ms: 2_000,
        trouble: None,
        forgotten: Some(1),
    };
    let failed = outcome == Outcome::Failed;
    RunRecord {
        id: run_id(n),
        job: job_id(target),
        trigger: Trigger::Scheduled { slot: ago(hours_ago) },
        revision: None,
        plugin: name("postgres"),
        state: RunState::Finished(outcome),
        queued: ago(hours_ago),
        started: Some(ago(hours_ago)),
        finished: Some(ago(hours_ago) + SignedDuration::from_secs(83)),
        trouble,
        warnings: Vec::new(),
        notices: Vec::new(),
        artifact: (!failed).then(|| ArtifactSummary {
            path: format!("{target}/2026-11-22/020004-{}", run_id(n)),
            files: 2,
            bytes: 734_003_200,
            present: true,
        }),
        shipments: if failed {
            Vec::new()
        } else {
            vec![
                shipment("nas", Outcome::Success),
                shipment("usb", if outcome == Outcome::Partial { Outcome::Failed } else { Outcome::Success }),
            ]
        },
        bytes: if failed { 0 } else { 734_003_200 },
    }
}

/// Thirty nightly runs, the newest of which came to `newest`.
pub fn history(target: &str, newest: Outcome) -> History {
    let runs: Vec<RunRecord> = (0..30)
        .map(|n| {
            let outcome = match n {
                0 => newest,
                9 => Outcome::Partial,
                17 => Outcome::Failed,
                _ => Outcome::Success,
            };
            run(1000 - n, target, outcome, 4 + 24 * i64::try_from(n).unwrap())
        })
        .collect();
    History::of(&runs)
}

pub fn update(target: &str) -> RunUpdate {
    RunUpdate {
        run: run_id(5000),
        job: job_id(target),
        at: now(),
        state: RunState::Shipping,
        detail: Some("nas".to_owned()),
        bytes_done: 310_000_000,
        bytes_total: 734_003_200,
    }
}

/// Everything well: `targets` with one job each, two destinations.
pub fn healthy(targets: &[(&str, &str)]) -> Reading {
    let mut desired = Config::default();
    desired.site.timezone = "Asia/Singapore".to_owned();
    desired.policies.insert(name("daily"), policy());
    for text in ["nas", "usb"] {
        desired.destinations.insert(name(text), destination(text));
    }
    for (text, plugin) in targets {
        desired.targets.insert(name(text), target(text, plugin));
    }
    Reading {
        desired,
        config: config_record(),
        jobs: targets.iter().map(|(text, _)| job(text)).collect(),
        history: targets.iter().map(|(text, _)| (job_id(text), history(text, Outcome::Success))).collect(),
        destinations: ["nas", "usb"].map(destination_record).to_vec(),
        ..Reading::default()
    }
}

/// Of a week in which 1 GB came each day, half of a terabyte by now.
pub fn statistics() -> Statistics {
    let day = |number: i8| {
        let stored = 500_000_000_000 + 1_000_000_000 * u64::from(number.unsigned_abs());
        Day { date: Date::constant(2026, 11, number), stored, logical: 4 * stored }
    };
    let size =
        Size { snapshots: 200, logical: 3_000_000_000_000, uncompressed: 800_000_000_000, stored: 500_000_000_000 };
    let figures = Figures {
        at: ago(8),
        size,
        others: 2,
        unneeded: Some(0),
        next_forget: NextForget::Frees { snapshots: 12, bytes: 3_000_000_000 },
        measured: None,
    };
    let days = (15..=22).map(day).collect();
    Statistics { tried: Some(ago(8)), trouble: None, figures: Some(figures), days }
}

/// A healthy site that looks at the engine `/e.sock`, with what came of it.
pub fn discovering(discovery: Discovery) -> Reading {
    let mut reading = healthy(&[("a", "files")]);
    reading.desired.site.discover = Some(Discover { socket: "/e.sock".to_owned(), auto: false, exclude: Vec::new() });
    reading.discovery = discovery;
    reading
}

/// An engine that has these compose projects.
pub fn inventory(projects: &[&str]) -> Discovery {
    let seen = |name: &&str| Seen { project: Some((*name).to_owned()), ..Seen::default() };
    let containers = projects.iter().map(seen).collect();
    let inventory = EngineInventory { socket: "/e.sock".to_owned(), containers, ..EngineInventory::default() };
    Discovery::Known { inventory: Arc::new(inventory), at: now() }
}

/// A night on which much went wrong.
pub fn troubled() -> Reading {
    let mut reading = healthy(&[
        ("adguard", "files"),
        ("gitea", "gitea"),
        ("grafana", "sqlite"),
        ("home-assistant", "homeassistant"),
        ("immich-db", "postgres"),
        ("new-one", "files"),
        ("nextcloud", "mariadb"),
        ("paperless-db", "postgres"),
        ("pfsense", "pfsense"),
        ("photos", "files"),
        ("pihole", "pihole"),
        ("vaultwarden", "sqlite"),
    ]);
    let mut change = |target: &str, change: &dyn Fn(&mut JobRecord)| {
        change(reading.jobs.iter_mut().find(|job| job.id.target.as_str() == target).unwrap());
    };
    change("paperless-db", &|job| {
        let trouble = Trouble::new(codes::UNREACHABLE, "cannot connect to db.lan:5432: connection refused")
            .with_hint("check that PostgreSQL on db.lan is up and listens on 5432");
        job.last_run = Some(summary(7, Outcome::Failed, 4, Some(trouble)));
        job.last_success = Some(summary(3, Outcome::Success, 76, None));
        job.failing = 3;
    });
    change("pfsense", &|job| {
        job.last_run = Some(summary(3, Outcome::Success, 52, None));
        job.last_success = job.last_run.clone();
        job.next_run = Some(ago(28));
    });
    change("photos", &|job| {
        let trouble =
            Trouble::new(codes::FILES_UNREADABLE, "2 of 48,112 files could not be read: /srv/photos/.lock, …")
                .with_hint("exclude them, or let the daemon's user read them");
        job.last_run = Some(summary(8, Outcome::Partial, 4, Some(trouble)));
    });
    change("new-one", &|job| {
        job.last_run = None;
        job.last_success = None;
        job.success_total = 0;
        job.failure_total = 0;
    });
    change("grafana", &|job| {
        job.suspended = Some(Suspension {
            since: ago(10),
            until: now() + SignedDuration::from_hours(90),
            reason: "moving house".to_owned(),
        });
    });
    change("adguard", &|job| job.orphaned_since = Some(ago(200)));
    reading.desired.targets.remove("adguard");
    let mut off = target("scratch", "files");
    off.enabled = false;
    reading.desired.targets.insert(name("scratch"), off);
    reading.history.insert(job_id("paperless-db"), history("paperless-db", Outcome::Failed));
    reading.history.insert(job_id("photos"), history("photos", Outcome::Partial));
    reading.history.remove(&job_id("new-one"));
    reading.destinations[1].trouble = Some(
        Trouble::new(codes::NOT_MOUNTED, "/mnt/usb is not a mount point, so nothing was written there")
            .with_hint("plug the disk in and mount it, then test the destination"),
    );
    reading.live = vec![update("immich-db")];
    let trouble = Trouble::new(codes::NOT_MOUNTED, "/mnt/usb is not a mount point");
    reading.statistics.insert(name("nas"), statistics());
    reading.statistics.insert(name("usb"), Statistics { trouble: Some(trouble), ..statistics() });
    let days = statistics().days.split_off(5);
    let size = Size { snapshots: 17, logical: 12_000_000_000, uncompressed: 900_000_000, stored: 600_000_000 };
    let of_target =
        TargetStatistics { at: ago(8), size, newest_logical: Some(734_003_200), mark: "1234abcd".to_owned(), days };
    reading.target_statistics.insert(name("nas"), [(name("gitea"), of_target)].into());
    reading
}
