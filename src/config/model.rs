//! The checked config: what every later module sees. Made by `config`'s raw types only, never by hand outside tests.
//!
//! The types are stored too (`desired` tree), so a field is only ever added with a serde default.

mod copy;
mod repository;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::secret::SecretRef;
use crate::types::{ByteSize, JobId, Name};

pub use copy::CopyRule;
pub use repository::{
    BucketStyle, LocalRepository, LockMode, ObjectLock, Repository, RestRepository, S3Repository, SftpRepository, Tls,
};

/// Everything that one revision desires.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Config {
    pub site: Site,
    pub destinations: BTreeMap<Name, Destination>,
    pub policies: BTreeMap<Name, Policy>,
    pub targets: BTreeMap<Name, Target>,
}

impl Config {
    /// The jobs: every enabled target with each of its policies, in order of their ids.
    pub fn jobs(&self) -> impl Iterator<Item = (JobId, &Target, &Policy)> {
        self.targets.values().filter(|target| target.enabled).flat_map(move |target| {
            target.policies.iter().filter_map(move |name| {
                let policy = self.policies.get(name)?;
                Some((JobId { target: target.name.clone(), policy: name.clone() }, target, policy))
            })
        })
    }

    /// Those of the jobs that ship to `destination`.
    pub fn jobs_to<'c>(&'c self, destination: &'c Name) -> impl Iterator<Item = (JobId, &'c Target, &'c Policy)> {
        self.jobs().filter(|(_, _, policy)| policy.destinations.contains(destination))
    }

    /// Those of the jobs whose snapshots `destination` is to have: by their runs, or by copies of what others have.
    #[must_use]
    pub fn jobs_in<'c>(&'c self, destination: &'c Name) -> Vec<(JobId, &'c Target, &'c Policy)> {
        match self.destinations.get(destination).and_then(|each| each.copy.as_ref()) {
            Some(copy) => self.jobs_to(&copy.from).filter(|(job, _, _)| copy.takes(job)).collect(),
            None => self.jobs_to(destination).collect(),
        }
    }

    /// The destinations that are to have copies of what the policy of `job` ships.
    pub fn copies_of<'c>(&'c self, job: &'c JobId) -> impl Iterator<Item = &'c Name> {
        let is_one =
            |each: &&Destination| each.copy.as_ref().is_some_and(|copy| copy.takes(job) && self.ships(job, &copy.from));
        self.destinations.values().filter(is_one).map(|each| &each.name)
    }

    /// Whether the policy of `job` ships to `destination`, whatever its target is by now.
    #[must_use]
    pub fn ships(&self, job: &JobId, destination: &Name) -> bool {
        self.policies.get(&job.policy).is_some_and(|policy| policy.destinations.contains(destination))
    }
}

/// The site: one document, or all defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Site {
    pub name: Name,
    /// An IANA name that jiff knows.
    pub timezone: String,
    pub artifacts: Artifacts,
    pub concurrency: Concurrency,
    pub email: Option<Email>,
    /// Where people reach the status pages, for links in mails and push output.
    pub url: Option<String>,
    #[serde(default)]
    pub discover: Option<Discover>,
}

/// Which container engine is looked at for what no target covers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discover {
    /// An absolute path or the address of a socket proxy.
    pub socket: String,
    /// Uncovered compose projects get targets.
    pub auto: bool,
    pub exclude: Vec<String>,
}

impl Default for Site {
    fn default() -> Self {
        Self {
            name: Name::parse("home").unwrap_or_else(|_| unreachable!("a literal name")),
            timezone: "UTC".to_owned(),
            artifacts: Artifacts::default(),
            concurrency: Concurrency::default(),
            email: None,
            url: None,
            discover: None,
        }
    }
}

/// Where artifacts are written and how many stay there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Artifacts {
    pub path: PathBuf,
    /// Refuse to write when `path` is not on a mounted file system of its own (below `/`).
    pub require_mount: bool,
    pub min_free: ByteSize,
    /// Local artifacts kept for each job; at least 1.
    pub keep_runs: u32,
}

impl Default for Artifacts {
    fn default() -> Self {
        Self { path: PathBuf::from("/backups"), require_mount: false, min_free: ByteSize(1 << 30), keep_runs: 14 }
    }
}

/// How much may happen at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concurrency {
    pub runs: u32,
    pub per_destination: u32,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self { runs: 4, per_destination: 4 }
    }
}

/// The mail server and who is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Email {
    pub smtp: Smtp,
    pub username: Option<String>,
    pub password: Option<SecretRef>,
    /// How to introduce ourselves; none: by the machine's own name.
    #[serde(default)]
    pub hello_name: Option<String>,
    pub from: String,
    pub to: Vec<String>,
}

/// A mail server's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Smtp {
    pub security: SmtpSecurity,
    pub host: String,
    pub port: u16,
}

/// `smtps://` (TLS from the first byte, 465), `smtp://` (STARTTLS required, 587), `smtp+plain://` (none, 25).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SmtpSecurity {
    Tls,
    StartTls,
    Plain,
}

/// One restic repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    pub name: Name,
    pub repository: Repository,
    pub password: SecretRef,
    pub limits: Limits,
    /// Whether this machine may have a key of its own in the repository.
    #[serde(default = "yes")]
    pub machine_key: bool,
    /// Nothing is ever deleted from here: the storage refuses it.
    #[serde(default)]
    pub append_only: bool,
    /// Its objects are locked, and the locks extended; only of a bucket.
    #[serde(default)]
    pub object_lock: Option<ObjectLock>,
    /// The id that the repository must have, as it is written in Git.
    #[serde(default)]
    pub repository_id: Option<String>,
    #[serde(default)]
    pub cache: Cache,
    pub check: Option<Check>,
    pub prune: Option<Prune>,
    /// What it costs to keep something there.
    #[serde(default)]
    pub cost: Option<Cost>,
    /// From where it gets its snapshots; none: from the runs.
    #[serde(default)]
    pub copy: Option<CopyRule>,
}

fn yes() -> bool {
    true
}

/// How a repository is used: transfer limits in bytes a second, connections at once, size of packs, who goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub upload: Option<ByteSize>,
    pub download: Option<ByteSize>,
    /// To the storage, at once; none: restic's own, 2 for a directory and 5 elsewhere.
    #[serde(default)]
    pub connections: Option<u32>,
    /// Of the files that the data is packed into, in MiB; none: restic's own, 16.
    #[serde(default)]
    pub pack_mib: Option<u32>,
    /// The niceness of restic, never below the daemon's; none: 10 more than the daemon's.
    #[serde(default)]
    pub nice: Option<u8>,
    /// When restic gets to the disks; none: as the daemon does.
    #[serde(default)]
    pub ionice: Option<IoPriority>,
}

/// A class of priority for the disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IoPriority {
    /// When nobody else wants them.
    Idle,
    /// With others; 0 comes first and 7 last.
    BestEffort(u8),
}

/// Where restic keeps what it has read of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cache {
    /// In the state directory.
    #[default]
    Own,
    /// Nowhere.
    Off,
    At(PathBuf),
}

/// When a repository is checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    pub schedule: ScheduleSpec,
    /// restic's `--read-data-subset`, such as `5%`; none: structure only.
    pub read_data: Option<String>,
}

/// What a storage costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Of 10^12 bytes for a month, in millionths of the currency.
    pub per_tb_month_millionths: u64,
    /// Three capital letters, as ISO 4217 has them.
    pub currency: String,
}

/// When a repository is pruned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prune {
    pub schedule: ScheduleSpec,
}

/// A schedule that is known to fire: five-field cron (or `@daily` and friends) in civil time of an IANA zone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ScheduleSpec {
    pub expression: String,
    pub timezone: String,
}

/// When, how long, where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    pub name: Name,
    /// What targets without `policies` get.
    pub default: bool,
    pub schedule: ScheduleSpec,
    /// Each job is moved by a fixed part of this, from its id.
    pub jitter: Duration,
    pub retention: Retention,
    /// Never empty.
    pub destinations: Vec<Name>,
    /// How old the newest success may be; none: not watched.
    pub max_age: Option<Duration>,
    /// For a whole run.
    pub timeout: Duration,
    pub on_missed: OnMissed,
}

/// What happens to a time that passed while the daemon was down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnMissed {
    /// One run on return, however many were missed.
    #[default]
    Run,
    Skip,
}

/// restic's keep rules; at least one is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    pub last: Option<u32>,
    pub hourly: Option<u32>,
    pub daily: Option<u32>,
    pub weekly: Option<u32>,
    pub monthly: Option<u32>,
    pub yearly: Option<u32>,
}

/// One thing to protect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    pub name: Name,
    pub plugin: Name,
    /// The plugin's settings, already valid against its schema; secrets are still references.
    pub settings: serde_json::Value,
    /// Resolved: never empty when `enabled`.
    pub policies: Vec<Name>,
    pub enabled: bool,
    pub hooks: Hooks,
    /// Values of holds that somebody accepted.
    #[serde(default)]
    pub accept: Vec<String>,
    #[serde(default)]
    pub tolerate: Tolerate,
}

/// What may be missing from a backup without making it incomplete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tolerate {
    /// How many of a million files may vanish while they are read.
    pub vanished_ppm: u32,
    /// What is known to be unreadable, with all below it.
    pub unreadable: Vec<PathBuf>,
}

impl Default for Tolerate {
    fn default() -> Self {
        Self { vanished_ppm: 10_000, unreadable: Vec::new() }
    }
}

impl Tolerate {
    /// How many of `files` may vanish; at least one where any may.
    #[must_use]
    pub fn vanished_of(&self, files: u64) -> u64 {
        files.saturating_mul(u64::from(self.vanished_ppm)).div_ceil(1_000_000)
    }
}

impl Target {
    /// A target that no policy has: for work that is no run.
    #[must_use]
    pub fn bare(name: Name, plugin: Name, settings: serde_json::Value) -> Self {
        Self {
            name,
            plugin,
            settings,
            policies: Vec::new(),
            enabled: false,
            hooks: Hooks::default(),
            accept: Vec::new(),
            tolerate: Tolerate::default(),
        }
    }
}

/// Programs around a run, in the order given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hooks {
    pub before: Vec<Hook>,
    /// Run beside the run, and are ended with it.
    #[serde(default)]
    pub during: Vec<Hook>,
    pub after: Vec<Hook>,
    pub on_failure: Vec<Hook>,
}

impl Hooks {
    /// Whether something is another way until the run is over, such as an application that is stopped.
    #[must_use]
    pub fn hold_something(&self) -> bool {
        !(self.before.is_empty() && self.during.is_empty() && self.after.is_empty())
    }
}

/// One program, without a shell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Never empty; the first is the program.
    pub command: Vec<String>,
    /// For one that runs beside a run: how long it may take to be ready.
    pub timeout: Duration,
    /// For one that runs beside a run: the `HOST:PORT` that takes connections when it is ready.
    #[serde(default)]
    pub ready: Option<String>,
}
