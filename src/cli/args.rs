//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde_json::Value;

use crate::engine::{EngineError, check_wanted};
use crate::types::{Name, RunId};

/// GitOps backups for a homelab: push a policy, get a proven backup, get it back.
#[derive(Debug, Parser)]
#[command(name = "larder", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// How data is printed; `json` is the stable interface
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// The daemon's state directory; its socket is there
    #[arg(long, global = true, env = "LARDER_STATE", value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Talk to a daemon over HTTP instead of its local socket, such as http://127.0.0.1:8420
    #[arg(long, global = true, env = "LARDER_URL", value_name = "URL")]
    pub url: Option<String>,
    /// The file with the token for `--url`
    #[arg(long, global = true, env = "LARDER_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
    /// Workflow commands of forges' CI (only `check`)
    Github,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a config repository that works at once
    Init(Init),
    /// Check a config directory or revision; tells every error with file, line and column
    Check(Check),
    /// Show what a config would change; changes nothing
    Plan(Plan),
    /// Run the daemon
    Serve(Serve),
    /// Run targets now and follow them
    Run(Run),
    /// Show how every target stands
    Status,
    /// List runs, newest first
    Runs(Runs),
    /// Show the log of a run
    Log(Log),
    /// List snapshots
    Snapshots(Snapshots),
    /// Restore a target's snapshot into a directory
    Restore(Restore),
    /// Cancel a run
    Cancel(Cancel),
    /// Stop scheduling a target for a while
    Suspend(Suspend),
    /// Schedule a suspended target again
    Resume(Resume),
    /// Accept what holds a target, by the value that is shown with it
    Accept(Accept),
    /// Apply a revision that is held
    Confirm(Confirm),
    /// Test, check, prune, unlock or rewind a destination
    Destination(DestinationArgs),
    /// Make, show and check secrets that lie encrypted in Git
    Secret(SecretArgs),
    /// Look at everything that the site needs and say what to type
    Doctor(Doctor),
    /// Write the state store as NDJSON
    Export(Export),
    /// Fill an empty state store from an export
    Import(Import),
    /// Mend the state, and say or set which site this is; the daemon must not run
    Rebuild(Rebuild),
    /// Show the main job end to end on real programs, in a temporary site
    Demo(Demo),
    /// Print a JSON Schema
    Schema(Schema),
    /// Print shell completions
    Completions(Completions),
    /// Print the manual page, or write all of them
    Man(Man),
    /// For Git: the hooks of the config repository
    #[command(hide = true)]
    Hook(Hook),
    /// Describe a plugin, or (for Larder itself) be one
    Plugin(Plugin),
}

#[derive(Debug, Args)]
pub struct Init {
    /// The directory to make; must be empty or absent
    pub dir: PathBuf,
    /// Also make (or set up) this bare repository, with Larder's hooks, as `origin`
    #[arg(long, value_name = "REPO")]
    pub bare: Option<PathBuf>,
    /// What to protect first
    #[arg(long, value_name = "PATH")]
    pub protect: Vec<PathBuf>,
    /// Where the first restic repository is made
    #[arg(long, value_name = "DIR")]
    pub repository: Option<PathBuf>,
    /// Where artifacts are written
    #[arg(long, value_name = "DIR")]
    pub artifacts: Option<PathBuf>,
    /// Propose targets for what this container engine has; without it one is looked for, `none` looks nowhere
    #[arg(long, value_name = "SOCKET")]
    pub docker: Option<String>,
    /// Propose a target for this application; without it those at their usual ports of this host, with `none` none
    ///
    /// Such as `pihole=http://192.168.1.2`, `radarr=http://nas:7878`, `postgres=db.lan:5432` or
    /// `postgres=/var/run/postgresql`. It must answer.
    #[arg(long, value_name = "PLUGIN=ADDRESS")]
    pub service: Vec<String>,
    /// The branch that the daemon watches
    #[arg(long, default_value = "main")]
    pub branch: String,
}

#[derive(Debug, Args)]
pub struct Check {
    /// A directory with config files, or a bare repository with `--revision`
    #[arg(default_value = ".")]
    pub path: PathBuf,
    /// Check this branch or commit of the repository at PATH
    #[arg(long)]
    pub revision: Option<String>,
    /// Where external plugins lie
    #[arg(long, env = "LARDER_PLUGINS", value_name = "DIR")]
    pub plugins: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Plan {
    /// A directory with config files; without it, the watched branch as the daemon sees it
    pub path: Option<PathBuf>,
    /// Where external plugins lie
    #[arg(long, env = "LARDER_PLUGINS", value_name = "DIR")]
    pub plugins: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct Serve {
    /// The watched Git repository
    #[arg(long, env = "LARDER_REPO", value_name = "REPO")]
    pub repo: PathBuf,
    /// The watched branch
    #[arg(long, env = "LARDER_BRANCH", default_value = "main")]
    pub branch: String,
    /// The directory of the config inside the repository
    #[arg(long, env = "LARDER_ROOT", default_value = "")]
    pub root: String,
    /// Where to listen for HTTP; `none` for the local socket only
    #[arg(long, env = "LARDER_LISTEN", default_value = "127.0.0.1:8420", value_name = "ADDRESS")]
    pub listen: String,
    /// A file with tokens that may read, one a line
    #[arg(long, env = "LARDER_READ_TOKENS", value_name = "FILE")]
    pub read_tokens: Option<PathBuf>,
    /// A file with tokens that may control, one a line
    #[arg(long, env = "LARDER_CONTROL_TOKENS", value_name = "FILE")]
    pub control_tokens: Option<PathBuf>,
    /// Where external plugins lie
    #[arg(long, env = "LARDER_PLUGINS", value_name = "DIR")]
    pub plugins: Option<PathBuf>,
    /// The restic program, when not the one on the PATH
    #[arg(long, env = "LARDER_RESTIC", value_name = "FILE")]
    pub restic: Option<PathBuf>,
    /// The age identity that opens what SOPS encrypted in Git; without it, what `sops` would take
    #[arg(long, env = "LARDER_IDENTITY", value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// How often the branch is looked at even when nothing was noticed
    #[arg(long, env = "LARDER_POLL", default_value = "30s", value_parser = crate::types::parse_duration)]
    pub poll: std::time::Duration,
    /// Log lines as JSON
    #[arg(long, env = "LARDER_LOG_JSON")]
    pub log_json: bool,
    /// Stop when standard input ends: for a daemon that must not outlive its parent
    #[arg(long, hide = true)]
    pub stop_with_stdin: bool,
}

#[derive(Debug, Args)]
pub struct Run {
    /// The targets; all with `--all`
    #[arg(required_unless_present = "all")]
    pub targets: Vec<Name>,
    #[arg(long, conflicts_with = "targets")]
    pub all: bool,
    /// Only this policy of the targets
    #[arg(long)]
    pub policy: Option<Name>,
    /// Start and return at once
    #[arg(long)]
    pub detach: bool,
}

#[derive(Debug, Args)]
pub struct SecretArgs {
    /// The checkout of the config repository: its config root
    #[arg(short = 'C', long = "checkout", global = true, default_value = ".", value_name = "DIR")]
    pub checkout: PathBuf,
    /// The age identity that opens the files; without it, what `sops` would take
    #[arg(long, global = true, env = "LARDER_IDENTITY", value_name = "FILE")]
    pub identity: Option<PathBuf>,
    #[command(subcommand)]
    pub action: SecretAction,
}

/// What is named is NAME, for `secrets/NAME.sops.yaml`, or FILE.sops.yaml#path.to.value.
#[derive(Debug, Subcommand)]
pub enum SecretAction {
    /// Set a secret to what is typed, or comes by standard input
    Set {
        name: String,
        /// For whom a new file is encrypted, when no rule in `.sops.yaml` says it; once for each
        #[arg(long, value_name = "RECIPIENT")]
        recipient: Vec<String>,
    },
    /// Set a secret to a random value, which nobody needs to see
    Generate {
        name: String,
        /// Letters and digits
        #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(12..=1024))]
        length: u16,
        /// For whom a new file is encrypted, when no rule in `.sops.yaml` says it; once for each
        #[arg(long, value_name = "RECIPIENT")]
        recipient: Vec<String>,
        /// Replace what is there
        #[arg(long)]
        replace: bool,
    },
    /// Print one secret
    Show { name: String },
    /// List the secrets: no value
    List,
    /// Give files a new data key, with the same values and recipients
    Rotate {
        /// Files or names; all without
        names: Vec<String>,
    },
    /// List for whom the files are encrypted, or change it
    Recipients {
        /// Files or names; all without
        names: Vec<String>,
        /// Encrypt for this one, too
        #[arg(long, value_name = "RECIPIENT")]
        add: Vec<String>,
        /// Not for this one any more; what it read already, it knows
        #[arg(long, value_name = "RECIPIENT")]
        remove: Vec<String>,
    },
    /// Open every file and check that nothing of it was changed
    Check,
    /// Make an age identity, and tell for whom to encrypt
    Identity { file: PathBuf },
}

#[derive(Debug, Args)]
pub struct Runs {
    /// Only this target
    pub target: Option<Name>,
    #[arg(long, default_value_t = 20)]
    pub limit: u32,
}

#[derive(Debug, Args)]
pub struct Log {
    pub run: RunId,
}

#[derive(Debug, Args)]
pub struct Snapshots {
    /// Only this target
    pub target: Option<Name>,
    /// Only this destination
    #[arg(long)]
    pub destination: Option<Name>,
    /// Also those that other sites made in the same repositories
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, Args)]
pub struct Restore {
    pub target: Name,
    /// The directory to restore into; must be empty or absent
    #[arg(long, value_name = "DIR", required_unless_present = "into", conflicts_with = "into")]
    pub to: Option<PathBuf>,
    /// Restore into the application of this target (often the same one), through its plugin
    #[arg(long, value_name = "TARGET")]
    pub into: Option<Name>,
    /// With --into: only say what would be done
    #[arg(long, requires = "into")]
    pub dry_run: bool,
    /// With --into: a choice that the plugin offers, see `larder plugin describe`; the value is read as JSON where it is
    #[arg(long, value_name = "NAME=VALUE", requires = "into", value_parser = restore_option)]
    pub option: Vec<(String, Value)>,
    /// The snapshot; the newest when not given
    #[arg(long)]
    pub snapshot: Option<String>,
    /// Only from this destination
    #[arg(long)]
    pub destination: Option<Name>,
    /// Only what matches this pattern of restic's
    #[arg(long, value_parser = include)]
    pub include: Vec<String>,
}

#[derive(Debug, Args)]
pub struct Cancel {
    pub run: RunId,
}

#[derive(Debug, Args)]
pub struct Suspend {
    pub target: Name,
    /// For how long (at most 30d)
    #[arg(long = "for", default_value = "24h", value_parser = crate::types::parse_duration, value_name = "DURATION")]
    pub duration: std::time::Duration,
    #[arg(long, default_value = "")]
    pub reason: String,
}

#[derive(Debug, Args)]
pub struct Resume {
    pub target: Name,
}

#[derive(Debug, Args)]
pub struct Accept {
    pub target: Name,
    /// The value of the hold, as `larder status`, the page or the mail shows it
    pub value: String,
}

#[derive(Debug, Args)]
pub struct Confirm {
    /// The held revision, as `larder status` or the push shows it; at least seven digits
    pub revision: String,
}

#[derive(Debug, Args)]
pub struct DestinationArgs {
    #[arg(value_enum)]
    pub action: DestinationVerb,
    pub destination: Option<Name>,
    /// For `unlock`: remove this lock, whosever it is; its id as the run or `unlock` shows it, at least 8 digits
    #[arg(long, value_name = "ID")]
    pub lock: Option<String>,
    /// For `rewind`: what was deleted or overwritten since then comes back; RFC 3339, or as `larder runs` shows times
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub to: Option<jiff::Timestamp>,
    /// For `rewind`: do it; without, only what would come back is said
    #[arg(long)]
    pub yes: bool,
    /// For `stats`: show what was gathered last, and ask no repository
    #[arg(long)]
    pub last: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DestinationVerb {
    List,
    Test,
    Check,
    Prune,
    /// Forget now what the runs gave up by their policies, as happens by itself when a night is over
    Forget,
    /// Copy now what the destination lacks of the one that it is a copy of, as happens by itself at its times
    Copy,
    Unlock,
    /// List the repository's keys and what each is for
    Keys,
    /// Print the line that pins the repository's id in Git
    Pin,
    /// Extend the locks on all objects of a bucket now, and say until when all of them hold
    ExtendLocks,
    /// Bring back what somebody deleted or overwrote in a bucket that keeps versions
    Rewind,
    /// Gather how much lies there, what is saved, how it grows and what it costs; of all destinations without a name
    Stats,
}

#[derive(Debug, Args)]
pub struct Doctor {
    /// Also send a test mail
    #[arg(long)]
    pub mail: bool,
}

#[derive(Debug, Args)]
pub struct Export {
    /// The file to write; `-` for standard output
    #[arg(default_value = "-")]
    pub file: PathBuf,
}

#[derive(Debug, Args)]
pub struct Import {
    pub file: PathBuf,
}

#[derive(Debug, Args)]
pub struct Rebuild {
    /// Take over this site's identity, with all snapshots that bear it: it was this site before its state was lost
    #[arg(long, value_name = "IDENTITY", value_parser = crate::types::site::SiteId::parse)]
    pub site: Option<crate::types::site::SiteId>,
}

#[derive(Clone, Debug, Args)]
pub struct Demo {
    /// Where the site is made; a temporary directory when not given
    pub dir: Option<PathBuf>,
    /// Stop when everything was shown, with 0 when all of it worked
    #[arg(long)]
    pub exit: bool,
    /// Where the status pages are served; any free port when not given
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// The restic program, when not the one on the PATH
    #[arg(long, env = "LARDER_RESTIC", value_name = "FILE")]
    pub restic: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Schema {
    #[arg(value_enum, default_value_t = SchemaKind::Config)]
    pub kind: SchemaKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemaKind {
    Config,
    Plugin,
    Manifest,
    Openrpc,
    /// Every code that Larder tells: kind and meaning
    Errors,
}

#[derive(Debug, Args)]
pub struct Completions {
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub struct Man {
    /// Write a page for each command into this directory
    pub dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Hook {
    #[arg(value_enum)]
    pub hook: HookKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HookKind {
    PreReceive,
    PostReceive,
}

#[derive(Debug, Args)]
pub struct Plugin {
    /// `describe NAME`, `list`, or a plugin's name with a request on standard input
    #[arg(required = true)]
    pub words: Vec<String>,
    /// Where external plugins lie
    #[arg(long, env = "LARDER_PLUGINS", value_name = "DIR")]
    pub plugins: Option<PathBuf>,
}

/// Reads an instant: with its offset, or as it is shown, in the reader's zone.
fn instant(text: &str) -> Result<jiff::Timestamp, String> {
    if let Ok(instant) = text.parse() {
        return Ok(instant);
    }
    let wanted = "write it as 2026-01-31T13:45:00Z, or as 2026-01-31 13:45:00 in this machine's zone";
    let civil: jiff::civil::DateTime = text.parse().map_err(|_| format!("it is no time; {wanted}"))?;
    let zoned = jiff::tz::TimeZone::system().to_ambiguous_zoned(civil).unambiguous();
    zoned.map(|zoned| zoned.timestamp()).map_err(|_| {
        "the clocks were changed then, so it is not clear which instant it is; write it as 2026-01-31T13:45:00Z"
            .to_owned()
    })
}

/// Reads `NAME=VALUE`; the value is JSON where it can be read as such, else text.
fn include(text: &str) -> Result<String, String> {
    let told = |error: EngineError| format!("{error}; {}", error.hint().unwrap_or_default());
    check_wanted(&[text.to_owned()]).map_err(told)?;
    Ok(text.to_owned())
}

fn restore_option(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    Ok((name.to_owned(), value))
}
