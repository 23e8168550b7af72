//! `larder serve`: reads what the daemon is started with, sets up its log, and runs it.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::cli::args::{Global, Serve};
use crate::cli::{Code, Done};
use crate::daemon::{self, Settings};
use crate::error::{Trouble, codes};
use crate::plugin::kit::dotenv;

/// The largest token file and `.env` that are read, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Tells the second start that `.env` is in its environment.
const DOTENV_DONE: &str = "LARDER_DOTENV";

/// How long threads that look at something may take to end behind the daemon.
const THREADS_END_MAX: std::time::Duration = std::time::Duration::from_secs(1);

/// The shortest token that is accepted.
const TOKEN_CHARS_MIN: usize = 16;

pub(crate) fn serve(global: &Global, args: &Serve) -> Done {
    log_to_stderr(args.log_json)?;
    let settings = settings(global, args)?;
    // Two threads carry it; a run's work is in its children.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("larder")
        .enable_all()
        .build()
        .map_err(|error| Trouble::new(codes::INTERNAL, format!("cannot start the runtime: {error}")))?;
    let cancel = CancellationToken::new();
    if args.stop_with_stdin {
        stop_with_stdin(cancel.clone());
    }
    let served = runtime.block_on(daemon::serve(settings, cancel));
    // A thread that hangs in the kernel must not be waited for.
    runtime.shutdown_timeout(THREADS_END_MAX);
    served?;
    Ok(Code::Done)
}

/// A thread of its own: reading standard input cannot be cancelled, and it ends with the process.
fn stop_with_stdin(cancel: CancellationToken) {
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        cancel.cancel();
    });
}

/// # Errors
/// When `LARDER_LOG` is no filter.
fn log_to_stderr(json: bool) -> Result<(), Trouble> {
    let wanted = std::env::var("LARDER_LOG").unwrap_or_else(|_| "info".to_owned());
    let filter: Targets = wanted.parse().map_err(|error| {
        Trouble::new(codes::BAD_LOG_FILTER, format!("LARDER_LOG {wanted:?} is no filter: {error}"))
            .with_hint("give a level (error, warn, info, debug), or several as `info,larder::runner=debug`")
    })?;
    let coloured = std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(coloured);
    let lines = if json { lines.json().boxed() } else { lines.boxed() };
    // Set once; a second call in one process (tests) keeps the first.
    let _ = tracing_subscriber::registry().with(filter).with(lines).try_init();
    Ok(())
}

fn settings(global: &Global, args: &Serve) -> Result<Settings, Trouble> {
    let absolute = |path: &Path| {
        std::path::absolute(path)
            .map_err(|error| Trouble::new(codes::BAD_PATH, format!("{} is no usable path: {error}", path.display())))
    };
    Ok(Settings {
        state: crate::cli::state_dir(global)?,
        repository: absolute(&args.repo)?,
        branch: args.branch.clone(),
        root: args.root.clone(),
        listen: listen(&args.listen)?,
        read_tokens: tokens(args.read_tokens.as_deref())?,
        control_tokens: tokens(args.control_tokens.as_deref())?,
        plugins: args.plugins.as_deref().map(absolute).transpose()?,
        restic: args.restic.clone(),
        poll: args.poll,
        identity: args.identity.as_deref().map(absolute).transpose()?,
    })
}

fn listen(text: &str) -> Result<Option<SocketAddr>, Trouble> {
    if text == "none" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        Trouble::new(codes::BAD_ADDRESS, format!("{text:?} is no address to listen on"))
            .with_hint("write IP:PORT such as 127.0.0.1:8420 or [::1]:8420, or `none`")
    })
}

fn tokens(file: Option<&Path>) -> Result<Vec<SecretString>, Trouble> {
    let Some(file) = file else { return Ok(Vec::new()) };
    let text = read_bounded(file).map_err(|error| {
        Trouble::new(codes::NO_TOKENS, format!("the token file {} cannot be read: {error}", file.display()))
    })?;
    let tokens: Vec<SecretString> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(SecretString::from)
        .collect();
    let hint = "make one with: head -c 32 /dev/urandom | base64 -w0";
    if tokens.is_empty() {
        return Err(
            Trouble::new(codes::NO_TOKENS, format!("the token file {} holds no token", file.display())).with_hint(hint)
        );
    }
    if tokens.iter().any(|token| secrecy::ExposeSecret::expose_secret(token).len() < TOKEN_CHARS_MIN) {
        return Err(Trouble::new(
            codes::WEAK_TOKEN,
            format!("a token in {} has fewer than {TOKEN_CHARS_MIN} characters", file.display()),
        )
        .with_hint(hint));
    }
    Ok(tokens)
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Starts this program anew with what `.env` in the current directory says, where there is one and `serve` is meant.
///
/// A variable that is set already wins. Returns when there is nothing to do, or with why it failed.
///
/// # Errors
/// When `.env` is there but cannot be read or understood.
pub fn with_dotenv() -> Result<(), Trouble> {
    let serves = std::env::args_os().any(|arg| arg == "serve");
    if !serves || std::env::var_os(DOTENV_DONE).is_some() || !Path::new(".env").is_file() {
        return Ok(());
    }
    let failed = |what: String| {
        Trouble::new(codes::BAD_DOTENV, format!(".env: {what}")).with_hint("write NAME=value, one a line")
    };
    let text = read_bounded(Path::new(".env")).map_err(|error| failed(error.to_string()))?;
    let variables = dotenv::parse(&text).map_err(|line| failed(format!("line {line} is not NAME=value")))?;
    let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
    let error = std::process::Command::new(program)
        .args(std::env::args_os().skip(1))
        .envs(variables.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()))
        .env(DOTENV_DONE, "1")
        .exec();
    Err(failed(error.to_string()))
}
