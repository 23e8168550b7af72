//! The four kinds of documents as they are written: the types that read them and from which the schema is made.
//!
//! Doc comments of fields are what an editor shows while a person types. Nothing is checked here beyond shape; later
//! code never sees these types (`check` turns them into `model`).

mod repository;
mod scalars;

use schemars::JsonSchema;
use serde::Deserialize;

pub use repository::{RawBucketStyle, RawLockMode, RawObjectLock, RawRepository, RawTls};
pub use scalars::{
    RawAccepted, RawArgument, RawCache, RawCron, RawCurrency, RawDuration, RawEmailAddress, RawHelloName, RawHost,
    RawIoPriority, RawName, RawPath, RawRate, RawReadData, RawRepositoryId, RawShare, RawSize, RawSmtp, RawTimezone,
    RawUrl,
};

use crate::secret::SecretRef;

/// The kinds of documents, in the order in which they are explained.
pub const KINDS: [&str; 4] = ["Site", "Destination", "Policy", "Target"];

/// What holds for the whole installation. At most one; everything in it has a default.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Site")]
pub struct RawSite {
    /// The kind of this document.
    #[schemars(with = "String", extend("const" = "Site"))]
    pub kind: String,
    /// The name of the installation, shown on pages and in mails.
    pub name: RawName,
    /// The IANA time zone of all schedules (a policy may override it). Without it: UTC.
    pub timezone: Option<RawTimezone>,
    /// Where the files that plugins produce are kept on this host.
    pub artifacts: Option<RawArtifacts>,
    /// How much may happen at once.
    pub concurrency: Option<RawConcurrency>,
    /// The mail server and who is told when something is wrong.
    pub email: Option<RawEmail>,
    /// Where people reach the status pages, for links in mails.
    pub url: Option<RawUrl>,
    /// Look which containers and volumes of this host no target covers. Without it: nobody looks.
    pub discover: Option<RawDiscover>,
}

/// Which container engine is looked at for what no target covers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Discover")]
pub struct RawDiscover {
    /// The engine's socket, or the address of a socket proxy. Without it: /var/run/docker.sock.
    #[schemars(extend("examples" = ["/var/run/docker.sock", "http://127.0.0.1:2375"]))]
    pub socket: Option<RawArgument>,
    /// Give each compose project that no target covers a target of its own, named `compose-<project>`, with the default
    /// policy. Without it: false, they are only shown.
    pub auto: Option<bool>,
    /// Compose projects, containers and volumes that are not missed, by name.
    #[schemars(length(max = 1000))]
    pub exclude: Option<Vec<RawArgument>>,
}

/// Where artifacts are written and how many stay there.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Artifacts")]
pub struct RawArtifacts {
    /// The directory; a run's files lie in `<path>/<target>/<YYYY-MM-DD>/`. Without it: /backups.
    pub path: Option<RawPath>,
    /// Refuse to write when nothing is mounted there (a NAS that is away must not fill the root disk). Without it: false.
    pub require_mount: Option<bool>,
    /// Runs wait while less than this is free. Without it: 1GiB.
    pub min_free: Option<RawSize>,
    /// Local artifacts kept for each job; destinations keep what the policy's retention says. Without it: 14.
    #[schemars(range(min = 1, max = 10_000))]
    pub keep_runs: Option<u32>,
}

/// How much may happen at once.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Concurrency")]
pub struct RawConcurrency {
    /// Runs at the same time; one that only waits for some of its destinations is not counted. Without it: 4.
    #[schemars(range(min = 1, max = 64))]
    pub runs: Option<u32>,
    /// Runs that write to one destination at the same time. Without it: 4.
    #[schemars(range(min = 1, max = 16))]
    pub per_destination: Option<u32>,
}

/// The mail server and who is told when something is wrong.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Email")]
pub struct RawEmail {
    /// smtps://host (TLS, 465), smtp://host (STARTTLS, 587) or, in the own network only, smtp+plain://host (25).
    pub smtp: RawSmtp,
    /// The account, when the server wants one.
    pub username: Option<RawArgument>,
    /// The account's password, as a reference.
    pub password: Option<SecretRef>,
    /// How Larder introduces itself to the server: a full host name, or an address in brackets. Without it: the machine's own.
    pub hello_name: Option<RawHelloName>,
    /// The sender.
    pub from: RawEmailAddress,
    /// Who gets the mails.
    #[schemars(length(min = 1, max = 20), extend("examples" = [["me@home.lan"]]))]
    pub to: Vec<RawEmailAddress>,
}

/// A restic repository that snapshots are written to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Destination")]
pub struct RawDestination {
    /// The kind of this document.
    #[schemars(with = "String", extend("const" = "Destination"))]
    pub kind: String,
    /// The name that policies use.
    pub name: RawName,
    /// Where the repository lies. It is created at first use and pinned to its id from then on.
    pub repository: RawRepository,
    /// The repository's password, as a reference. Who loses it loses the backups.
    pub password: SecretRef,
    /// Bounds for the transfer.
    pub limits: Option<RawLimits>,
    /// How many connections to the storage are used at once. Without it: 5, and 2 for a directory.
    #[schemars(range(min = 1, max = 64))]
    pub connections: Option<u32>,
    /// How large the files are that the data is packed into, 4MiB to 128MiB: larger ones are fewer. Without it: 16MiB.
    pub pack_size: Option<RawSize>,
    /// Whether this machine gets a key of its own in the repository, which opens it in 40 ms instead of a second. Its
    /// secret is random and stays in the state directory; the password opens the repository as before. Without it: true.
    pub machine_key: Option<bool>,
    /// The storage refuses to delete, and it is never tried: nothing is forgotten and nothing pruned from here. Without it:
    /// false.
    pub append_only: Option<bool>,
    /// The bucket keeps every version and locks it: what is needed is locked again and again, so that nobody deletes it,
    /// whatever keys they have. Only of a repository of the type s3.
    pub object_lock: Option<RawObjectLock>,
    /// The id that the repository must have; `larder destination pin NAME` prints it. With it, no other repository is ever
    /// taken for this one, nor one made in its place, also where the state was lost.
    pub repository_id: Option<RawRepositoryId>,
    /// How nice restic is to other programs, from 0 to 19; never less than the daemon itself. Without it: 10 more than the
    /// daemon.
    #[schemars(range(max = 19))]
    pub nice: Option<u32>,
    /// When restic gets to the disks of this machine: `idle`, when nobody else wants them, or `best-effort:LEVEL`, from 0
    /// (first) to 7 (last). Without it: as the daemon does.
    pub ionice: Option<RawIoPriority>,
    /// The directory in which restic keeps what it has read, or `false`: nowhere. Without it: in the state directory.
    pub cache: Option<RawCache>,
    /// When the repository is checked. Without it: only when somebody asks.
    pub check: Option<RawCheck>,
    /// When space is given back. Without it: only when somebody asks.
    pub prune: Option<RawPrune>,
    /// What the storage costs: with it, the statistics say what a month costs now and in 90 days.
    pub cost: Option<RawCost>,
    /// This one is a copy: it gets its snapshots from another destination, at times of its own, and no run writes to it.
    /// Without it: policies name it.
    pub copy: Option<RawCopy>,
}

/// From where a destination gets copies of snapshots, when, and of what.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Copy")]
pub struct RawCopy {
    /// The destination that policies write to and that is copied from.
    pub from: RawName,
    /// When, in the site's time zone.
    pub schedule: RawCron,
    /// Only these targets, by name. Without it: all.
    #[schemars(length(min = 1, max = 1000), extend("examples" = [["photos"]]))]
    pub targets: Option<Vec<RawName>>,
    /// Only what these policies made, by name. Without it: all.
    #[schemars(length(min = 1, max = 1000), extend("examples" = [["daily"]]))]
    pub policies: Option<Vec<RawName>>,
}

/// Bounds for the transfer to and from a destination.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Limits")]
pub struct RawLimits {
    /// The most that is sent.
    pub upload: Option<RawRate>,
    /// The most that is fetched.
    pub download: Option<RawRate>,
}

/// When a repository is checked, and how deeply.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Check")]
pub struct RawCheck {
    /// When, in the site's time zone.
    pub schedule: RawCron,
    /// How much of the data is read back each time. Without it: the structure only.
    pub read_data: Option<RawReadData>,
}

/// When space is given back.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Prune")]
pub struct RawPrune {
    /// When, in the site's time zone.
    pub schedule: RawCron,
}

/// What a storage costs.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Cost", extend("examples" = [{"per_tb_month": 7, "currency": "USD"}]))]
pub struct RawCost {
    /// The price of a terabyte (10^12 bytes) for a month.
    #[schemars(range(min = 0, max = 1_000_000), extend("examples" = [7, 5.99]))]
    pub per_tb_month: f64,
    /// The currency of the price.
    pub currency: RawCurrency,
}

/// When targets are backed up, how long backups are kept, and where.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Policy")]
pub struct RawPolicy {
    /// The kind of this document.
    #[schemars(with = "String", extend("const" = "Policy"))]
    pub kind: String,
    /// The name that targets use.
    pub name: RawName,
    /// Targets without `policies` get this one. At most one policy is the default.
    pub default: Option<bool>,
    /// When.
    pub schedule: RawCron,
    /// The IANA time zone of the schedule. Without it: the site's.
    pub timezone: Option<RawTimezone>,
    /// Spreads jobs: each one starts later by a fixed part of this. Without it: 0s.
    pub jitter: Option<RawDuration>,
    /// What is kept; whatever no rule keeps is forgotten.
    pub retention: RawRetention,
    /// The destinations by name. Without it: all.
    #[schemars(length(min = 1, max = 32), extend("examples" = [["nas"]]))]
    pub destinations: Option<Vec<RawName>>,
    /// How old the newest success of a job may be before somebody is told. Without it: nobody is.
    pub max_age: Option<RawDuration>,
    /// The longest that a run may take. Without it: 6h.
    pub timeout: Option<RawDuration>,
    /// What happens to a time that passed while Larder was down. Without it: run.
    pub on_missed: Option<RawOnMissed>,
}

/// What happens to a time that passed while Larder was down.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "OnMissed", inline)]
pub enum RawOnMissed {
    /// One run on return, however many were missed.
    Run,
    /// Wait for the next time.
    Skip,
}

/// What is kept, by restic's rules: the newest N of each kind. At least one is set.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Retention", extend("minProperties" = 1, "examples" = [{"daily": 7, "weekly": 4}]))]
pub struct RawRetention {
    /// The newest snapshots, whenever they were made.
    #[schemars(range(min = 1, max = 100_000))]
    pub last: Option<u32>,
    /// The newest of each hour, for so many hours.
    #[schemars(range(min = 1, max = 100_000))]
    pub hourly: Option<u32>,
    /// The newest of each day, for so many days.
    #[schemars(range(min = 1, max = 100_000))]
    pub daily: Option<u32>,
    /// The newest of each week, for so many weeks.
    #[schemars(range(min = 1, max = 100_000))]
    pub weekly: Option<u32>,
    /// The newest of each month, for so many months.
    #[schemars(range(min = 1, max = 100_000))]
    pub monthly: Option<u32>,
    /// The newest of each year, for so many years.
    #[schemars(range(min = 1, max = 100_000))]
    pub yearly: Option<u32>,
}

/// One thing to protect: a plugin and its settings.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Target")]
pub struct RawTarget {
    /// The kind of this document.
    #[schemars(with = "String", extend("const" = "Target"))]
    pub kind: String,
    /// The name; artifacts and snapshots carry it, so renaming a target starts a new history.
    pub name: RawName,
    /// The plugin that knows how to back it up.
    #[schemars(extend("examples" = ["files", "postgres"]))]
    pub plugin: RawName,
    /// The plugin's settings.
    #[serde(default)]
    #[schemars(schema_with = "settings")]
    pub with: serde_json::Map<String, serde_json::Value>,
    /// The policies by name; each makes a job of its own. Without it: the default policy.
    #[schemars(length(min = 1, max = 16), extend("examples" = [["daily"]]))]
    pub policies: Option<Vec<RawName>>,
    /// Switch it off without losing its place; what was backed up stays. Without it: true.
    pub enabled: Option<bool>,
    /// Programs around each run.
    pub hooks: Option<RawHooks>,
    /// What is accepted of what held this target: the values that `larder status` shows, such as a size or a mount point.
    #[schemars(length(min = 1, max = 32))]
    pub accept: Option<Vec<RawAccepted>>,
    /// What may be missing without making a run incomplete.
    pub tolerate: Option<RawTolerate>,
}

/// What may be missing without making a run incomplete; it is told as a notice.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Tolerate", extend("examples" = [{"vanished": "2%"}]))]
pub struct RawTolerate {
    /// The share of the files that may vanish while they are read. Without it: 1%.
    pub vanished: Option<RawShare>,
    /// Files and directories that the daemon's user may not read, and all below them.
    #[schemars(length(min = 1, max = 100), extend("examples" = [["/srv/app/private"]]))]
    pub unreadable: Option<Vec<RawPath>>,
}

/// Programs around each run, without a shell.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Hooks")]
pub struct RawHooks {
    /// Before anything is read. When one fails, the run fails.
    pub before: Option<RawHookList>,
    /// Beside the run, such as a tunnel: started behind `before`, ended when the backup is shipped. Each stays in the
    /// foreground; one that fails before the capture is through fails the run.
    pub during: Option<RawHookList>,
    /// After the run, whatever came of it. What it starts lives on.
    pub after: Option<RawHookList>,
    /// After a run that failed.
    pub on_failure: Option<RawHookList>,
}

/// One program as a list of words, or a list of programs.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "HookList", extend(
    "maxItems" = 64,
    "x-larder-expected" = "a list of programs such as [{command: [systemctl, stop, app]}]",
    "examples" = [[{"command": ["systemctl", "stop", "app"], "timeout": "1m"}], ["systemctl", "stop", "app"]]
))]
pub struct RawHookList(pub Vec<RawHook>);

/// A word of the only program, the words of one, or a program with its timeout.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Hook", inline)]
pub enum RawHook {
    Word(RawArgument),
    Words(#[schemars(length(min = 1, max = 64))] Vec<RawArgument>),
    Full(RawCommand),
}

/// A program with its timeout.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Command")]
pub struct RawCommand {
    /// The program and its arguments; no shell is between.
    #[schemars(length(min = 1, max = 64), extend("examples" = [["systemctl", "stop", "app"]]))]
    pub command: Vec<RawArgument>,
    /// The longest that it may take; in `during`: to be ready. Without it: 10m, in `during` 30s.
    pub timeout: Option<RawDuration>,
    /// Only in `during`: what tells that it is ready.
    pub ready: Option<RawReady>,
}

/// What tells that a program is ready.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Ready", extend("examples" = [{"tcp": "127.0.0.1:5433"}]))]
pub struct RawReady {
    /// HOST:PORT takes connections.
    #[schemars(extend("examples" = ["127.0.0.1:5433"]))]
    pub tcp: RawArgument,
}

fn settings(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-larder-expected": "the plugin's settings, such as {paths: [/srv]}" })
}
