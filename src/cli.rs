//! The command line: parse, dispatch, print, exit code.
//!
//! Exit codes: 0 done, 1 failed, 2 usage or invalid config, 3 partial, 4 daemon not reachable.

pub mod args;
mod client;
mod config_commands;
mod demo;
mod doctor;
pub mod hook;
mod init;
mod output;
mod progress;
mod runs;
mod secret;
mod serve;
mod show;
pub mod socket;
mod state_commands;
mod statistics;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::cli::args::{Cli, Command, DestinationVerb, Global, HookKind, SchemaKind};
use crate::cli::client::CallError;
use crate::error::{Kind, Trouble, codes};
use crate::plugin::Catalogue;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Done,
    Failed,
    Invalid,
    Partial,
    NotReachable,
}

impl Code {
    /// Of a command that ends with this.
    fn of(trouble: &Trouble) -> Self {
        match trouble.kind() {
            Some(Kind::Params) => Self::Invalid,
            _ => Self::Failed,
        }
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(match code {
            Code::Done => 0,
            Code::Failed => 1,
            Code::Invalid => 2,
            Code::Partial => 3,
            Code::NotReachable => 4,
        })
    }
}

/// What a command came to; an error is printed by the dispatcher.
pub(crate) type Done = Result<Code, CallError>;

/// Parses the command line and does what it says.
#[must_use]
pub fn main() -> ExitCode {
    if let Err(trouble) = serve::with_dotenv() {
        output::trouble(&trouble);
        return Code::Invalid.into();
    }
    let cli = Cli::parse();
    if let Command::Hook(args) = &cli.command {
        return match args.hook {
            HookKind::PreReceive => hook::pre_receive(),
            HookKind::PostReceive => hook::post_receive(),
        };
    }
    let json = cli.global.output == args::Output::Json;
    match dispatch(cli) {
        Ok(code) => code.into(),
        Err(error) => {
            let (code, trouble) = match error {
                CallError::NotReachable(trouble) => (Code::NotReachable, trouble),
                CallError::Refused(trouble) => (Code::of(&trouble), trouble),
            };
            if json {
                output::json(&serde_json::json!({"error": trouble}));
            }
            output::trouble(&trouble);
            code.into()
        }
    }
}

fn dispatch(cli: Cli) -> Done {
    let global = &cli.global;
    match cli.command {
        Command::Init(args) => init::run(global, &args).map(|()| Code::Done).map_err(Into::into),
        Command::Check(args) => config_commands::check(global, &args),
        Command::Plan(args) => config_commands::plan(global, &args),
        Command::Serve(args) => serve::serve(global, &args),
        Command::Run(args) => runs::run(global, &args),
        Command::Status => runs::status(global),
        Command::Runs(args) => runs::runs(global, &args),
        Command::Log(args) => runs::log(global, &args),
        Command::Snapshots(args) => runs::snapshots(global, &args),
        Command::Restore(args) => runs::restore(global, &args),
        Command::Cancel(args) => runs::cancel(global, &args),
        Command::Suspend(args) => runs::suspend(global, &args),
        Command::Resume(args) => runs::resume(global, &args),
        Command::Accept(args) => runs::accept(global, &args),
        Command::Confirm(args) => runs::confirm(global, &args),
        Command::Destination(args) if args.action == DestinationVerb::Stats => statistics::show(global, &args),
        Command::Destination(args) => runs::destination(global, &args),
        Command::Secret(args) => secret::secret(global, &args),
        Command::Doctor(args) => doctor::doctor(global, &args),
        Command::Export(args) => state_commands::export(global, &args),
        Command::Import(args) => state_commands::import(global, &args),
        Command::Rebuild(args) => state_commands::rebuild(global, &args),
        Command::Demo(args) => demo::demo(global, &args),
        Command::Schema(args) => {
            output::line(schema_text(args.kind).trim_end());
            Ok(Code::Done)
        }
        Command::Completions(args) => {
            clap_complete::generate(args.shell, &mut Cli::command(), "larder", &mut std::io::stdout());
            Ok(Code::Done)
        }
        Command::Man(args) => man(args.dir),
        // Answered in `main`: git reads a hook's own exit code.
        Command::Hook(_) => Ok(Code::Done),
        Command::Plugin(args) => config_commands::plugin(&args),
    }
}

fn man(dir: Option<PathBuf>) -> Done {
    let failed = |error: std::io::Error| {
        CallError::Refused(Trouble::new(codes::CANNOT_WRITE, format!("cannot write the manual: {error}")))
    };
    match dir {
        Some(dir) => {
            std::fs::create_dir_all(&dir).map_err(failed)?;
            clap_mangen::generate_to(Cli::command(), dir).map_err(failed)?;
        }
        None => clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout()).map_err(failed)?,
    }
    Ok(Code::Done)
}

/// The schema of the config, with the settings of the built-in plugins.
pub(crate) fn config_schema_text() -> String {
    pretty(&crate::config::config_schema(Some(&Catalogue::of_builtins(crate::plugin::ALL))))
}

/// As the committed files are.
fn pretty(schema: &serde_json::Value) -> String {
    format!("{schema:#}\n")
}

fn schema_text(kind: SchemaKind) -> String {
    match kind {
        SchemaKind::Config => config_schema_text(),
        SchemaKind::Plugin => pretty(&crate::plugin::protocol::schema()),
        SchemaKind::Manifest => pretty(&crate::artifact::manifest::Manifest::schema()),
        SchemaKind::Openrpc => crate::rpc::committed_openrpc(),
        SchemaKind::Errors => error_list(),
    }
}

/// Every code with its kind and meaning.
fn error_list() -> String {
    let of = |code: crate::error::Code| {
        let (name, kind, meaning) = (code.name(), code.kind(), code.meaning());
        serde_json::json!({ "code": name, "kind": kind, "meaning": meaning })
    };
    let all = serde_json::json!({ "errors": codes::all().map(of).collect::<Vec<_>>() });
    format!("{all:#}")
}

/// The state directory that was asked for, else `/var/lib/larder` for root and `~/.local/state/larder` for others.
pub(crate) fn state_dir(global: &Global) -> Result<PathBuf, Trouble> {
    if let Some(state) = &global.state {
        return std::path::absolute(state)
            .map_err(|error| Trouble::new(codes::BAD_PATH, format!("{} is no usable path: {error}", state.display())));
    }
    if nix::unistd::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/larder"));
    }
    if let Some(base) = std::env::var_os("XDG_STATE_HOME").filter(|base| !base.is_empty()) {
        return Ok(PathBuf::from(base).join("larder"));
    }
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    home.map(|home| PathBuf::from(home).join(".local/state/larder")).ok_or_else(|| {
        Trouble::new(codes::NO_HOME, "neither --state, XDG_STATE_HOME nor HOME is set").with_hint("give --state DIR")
    })
}
