//! `larder demo`: the main job end to end on real programs, in a site of its own that goes away afterwards.
//!
//! Every step checks what it shows; the first that does not hold ends the demo with an error.

mod compare;
mod example;
mod guard;
mod postgres;
mod site;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::args::{Demo, Global, Output};
use crate::cli::client::{CallError, Client};
use crate::cli::demo::guard::Guard;
use crate::cli::demo::site::Site;
use crate::cli::output::{self, Colour};
use crate::cli::{Code, Done, runs, show};
use crate::error::{Trouble, codes};
use crate::types::{ByteSize, Outcome, RunId};

/// How long the daemon may take to answer for the first time.
const START_MAX: Duration = Duration::from_secs(30);

/// Lines of a manifest that are shown.
const MANIFEST_LINES: usize = 24;

pub(crate) fn demo(_global: &Global, args: &Demo) -> Done {
    let guard = Guard::watch_signals()?;
    let site = make_site(args, &guard)?;
    let result = steps(args, &site, &guard);
    match &result {
        Ok(url) => {
            output::line(&output::paint("\nEverything worked.", Colour::Green, output::terminal()));
            if !args.exit {
                output::line(&format!("The status page is at {url}"));
                output::line(&format!(
                    "The site is in {}; try: git -C {} log",
                    site.root.display(),
                    site.config().display()
                ));
                output::line(&format!("Talk to it with: larder status --state {}", site.state().display()));
                output::line("Ctrl-C stops the daemon and removes the site.");
                guard.wait_for_signal();
            }
        }
        Err(_) => show_daemon_log(&site),
    }
    guard.clean_up();
    result.map(|_| Code::Done)
}

fn make_site(args: &Demo, guard: &Guard) -> Result<Site, Trouble> {
    let root = match &args.dir {
        Some(dir) => {
            let dir = std::path::absolute(dir).map_err(|error| Trouble::new(codes::BAD_PATH, error.to_string()))?;
            if std::fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some()) {
                return Err(Trouble::new(codes::DIRECTORY_IN_USE, format!("{} is not empty", dir.display()))
                    .with_hint("give a new directory, or none for a temporary one"));
            }
            std::fs::create_dir_all(&dir).map_err(|error| {
                Trouble::new(codes::CANNOT_WRITE, format!("cannot make {}: {error}", dir.display()))
            })?;
            dir
        }
        None => guard.temporary_directory()?,
    };
    Ok(Site { root })
}

fn steps(args: &Demo, site: &Site, guard: &Guard) -> Result<String, CallError> {
    heading(1, "A site: a bare Git repository with hooks, a config, a restic repository, data to protect");
    site.make()?;
    let postgres = start_postgres(site, guard)?;
    site.write_config(postgres)?;
    site.make_bare()?;
    say(&format!("site             {}", site.root.display()));
    say(&format!("config           {}", site.config().display()));
    say(&format!("bare repository  {}", site.bare().display()));
    say(&format!("file tree        {}", site.photos().display()));
    say(&format!("SQLite database  {}", site.database().display()));

    heading(2, "The daemon starts, and a first revision is pushed");
    let url = start_daemon(args, site, guard)?;
    let client = Client::Local(site.state().join("larder.sock"));
    let (taken, said) = site.push("Protect the first things")?;
    show_push(&said);
    expect(taken && said.contains("applied"), "the first push is accepted and applied", &said)?;

    heading(3, "A broken revision is refused at the push; the mended one is taken");
    push_broken_then_mended(site)?;

    heading(4, "Every target runs now");
    let finished = run_all(&client)?;
    show_artifacts(site, finished)?;
    say("\nsnapshots:");
    let snapshots = client.all("snapshot.list", json!({}), 200)?;
    show::snapshots(&snapshots);
    expect(snapshots.len() >= finished, "every run made a snapshot", &format!("{} snapshots", snapshots.len()))?;
    restore(&client, site)?;
    show_status(&client)?;
    Ok(url)
}

fn heading(number: u8, text: &str) {
    output::line(&output::paint(&format!("\n{number}. {text}"), Colour::Bold, output::terminal()));
}

fn say(text: &str) {
    output::line(&text.lines().map(|line| format!("   {line}")).collect::<Vec<_>>().join("\n"));
}

/// Ends the demo where something that it shows does not hold.
fn expect(holds: bool, what: &str, seen: &str) -> Result<(), Trouble> {
    if holds {
        return Ok(());
    }
    Err(Trouble::new(codes::DEMO_FAILED, format!("expected that {what}, but saw: {seen}")))
}

fn start_postgres(site: &Site, guard: &Guard) -> Result<Option<u16>, Trouble> {
    let Some(bin) = postgres::installed() else {
        say("PostgreSQL       no server is installed (no initdb found): its target is left out");
        return Ok(None);
    };
    let cluster = postgres::Cluster::start(bin, &site.root)?;
    let port = cluster.port;
    guard.keep_cluster(cluster);
    say(&format!("PostgreSQL       a private cluster on 127.0.0.1:{port} with the database paperless"));
    Ok(Some(port))
}

fn start_daemon(args: &Demo, site: &Site, guard: &Guard) -> Result<String, CallError> {
    let listen: SocketAddr = match &args.listen {
        Some(text) => text.parse().map_err(|_| {
            Trouble::new(codes::BAD_ADDRESS, format!("{text:?} is no address to listen on")).with_hint("write IP:PORT")
        })?,
        None => free_address()?,
    };
    let failed = |error: std::io::Error| Trouble::new(codes::DEMO_FAILED, format!("cannot start the daemon: {error}"));
    let program = std::env::current_exe().map_err(failed)?;
    let log = std::fs::File::create(daemon_log(site)).map_err(failed)?;
    let mut command = Command::new(program);
    command
        .args(["serve", "--stop-with-stdin", "--repo"])
        .arg(site.bare())
        .arg("--state")
        .arg(site.state())
        .args(["--listen", &listen.to_string()])
        .current_dir(&site.root)
        .env_remove("LARDER_URL")
        // The daemon stops when this pipe closes, however the demo ends.
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log);
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    if let Some(restic) = &args.restic {
        command.arg("--restic").arg(std::path::absolute(restic).map_err(failed)?);
    }
    guard.keep_daemon(command.spawn().map_err(failed)?);

    let client = Client::Local(site.state().join("larder.sock"));
    let start = Instant::now();
    while let Err(error) = client.call("system.status", json!({})) {
        if start.elapsed() > START_MAX || guard.daemon_ended() {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    say(&format!("daemon           larder serve --repo {} --listen {listen}", site.bare().display()));
    say(&format!("ready after      {} ms", start.elapsed().as_millis()));
    Ok(format!("http://{listen}/"))
}

fn free_address() -> Result<SocketAddr, Trouble> {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map_err(|error| Trouble::new(codes::DEMO_FAILED, format!("no free port on 127.0.0.1: {error}")))
}

fn show_push(said: &str) {
    say("$ git push origin main");
    for line in said.lines() {
        // Git pads the lines of the other side for a terminal.
        say(line.trim_end_matches(['\u{1b}', '[', 'K']).trim_end());
    }
}

fn push_broken_then_mended(site: &Site) -> Result<(), CallError> {
    let path = site.config().join(example::POLICY_FILE);
    let good = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
    let broken = example::break_policy(&good);
    write(&path, &broken)?;
    let (taken, said) = site.push("Keep more, with two mistakes")?;
    show_push(&said);
    expect(!taken, "the broken revision is refused", &said)?;
    expect(
        said.matches(&format!("--> {}:", example::POLICY_FILE)).count() == 2 && said.contains('^'),
        "both mistakes are shown, each with file, line and a caret",
        &said,
    )?;

    write(&path, &example::change_policy(&good))?;
    let (taken, said) = site.push("Keep more")?;
    show_push(&said);
    expect(taken && said.contains("applied"), "the mended revision is applied", &said)?;
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), Trouble> {
    std::fs::write(path, text)
        .map_err(|error| Trouble::new(codes::CANNOT_WRITE, format!("cannot write {}: {error}", path.display())))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Trouble {
    Trouble::new(codes::FILE_UNREADABLE, format!("cannot read {}: {error}", path.display()))
}

/// Runs every target and follows them; answers with how many runs there were.
fn run_all(client: &Client) -> Result<usize, CallError> {
    let mut ids: Vec<RunId> = Vec::new();
    for target in client.all("target.list", json!({}), 200)? {
        if target["enabled"].as_bool() != Some(true) {
            continue;
        }
        let answer = client.call("run.start", json!({"target": target["name"]}))?;
        let runs: Vec<RunId> = serde_json::from_value(answer["runs"].clone())
            .map_err(|error| Trouble::new(codes::BAD_ANSWER, error.to_string()))?;
        ids.extend(runs);
    }
    let finished = runs::follow(client, &ids, Output::Text)?;
    for record in &finished {
        let success = record.outcome == Some(Outcome::Success);
        let why = record.trouble.as_ref().map(ToString::to_string).unwrap_or_default();
        expect(success, &format!("{} succeeds", record.target), &format!("{}: {why}", record.state))?;
    }
    expect(!finished.is_empty(), "there are targets", "none")?;
    Ok(finished.len())
}

fn show_artifacts(site: &Site, runs: usize) -> Result<(), Trouble> {
    let manifests = manifests(&site.artifacts())?;
    expect(manifests.len() == runs, "every run published its artifacts", &format!("{} manifests", manifests.len()))?;
    say("\nartifacts:");
    for manifest in &manifests {
        let Some(dir) = manifest.parent() else { continue };
        for entry in std::fs::read_dir(dir).map_err(|error| unreadable(dir, &error))?.flatten() {
            let size = entry.metadata().map_or(0, |meta| meta.len());
            let path = entry.path();
            let shown = path.strip_prefix(&site.root).unwrap_or(&path);
            say(&format!("{:>10}  {}", ByteSize(size).to_string(), shown.display()));
        }
    }
    if let Some(manifest) = manifests.iter().max_by_key(|path| std::fs::metadata(path).map_or(0, |meta| meta.len())) {
        let text = std::fs::read_to_string(manifest).map_err(|error| unreadable(manifest, &error))?;
        let value: Value =
            serde_json::from_str(&text).map_err(|error| Trouble::new(codes::DEMO_FAILED, error.to_string()))?;
        let text = serde_json::to_string_pretty(&value).unwrap_or(text);
        say("\na manifest:");
        say(&text.lines().take(MANIFEST_LINES).collect::<Vec<_>>().join("\n"));
        say("…");
    }
    Ok(())
}

/// All manifests below the artifact root, but not those in Larder's own directories.
fn manifests(root: &Path) -> Result<Vec<PathBuf>, Trouble> {
    let mut found = Vec::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(&dir).map_err(|error| unreadable(&dir, &error))?.flatten() {
            let path = entry.path();
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            if path.is_dir() {
                waiting.push(path);
            } else if entry.file_name() == "manifest.json" {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn restore(client: &Client, site: &Site) -> Result<(), CallError> {
    heading(5, "One target is restored and compared bit for bit");
    let to = site.root.join("restored");
    let start = Instant::now();
    let answer = client.call("restore.start", json!({"target": example::FILES_TARGET, "to": to}))?;
    let done = runs::follow_operation(client, &answer, Output::Text, None)?;
    done.lines.iter().for_each(|line| say(line));
    if let Some(trouble) = done.trouble {
        return Err(trouble.into());
    }
    // restic restores whole paths below the directory.
    let photos = site.photos();
    let back = to.join(photos.strip_prefix("/").unwrap_or(&photos));
    let equal = compare::trees(&photos, &back)
        .map_err(|difference| Trouble::new(codes::DEMO_FAILED, format!("the restored tree differs: {difference}")))?;
    say(&format!(
        "{} files, {} compared: every bit, name, mode and link is the same ({} ms)",
        equal.files,
        ByteSize(equal.bytes),
        start.elapsed().as_millis()
    ));
    Ok(())
}

fn show_status(client: &Client) -> Result<(), CallError> {
    heading(6, "How things stand");
    show::status(&runs::status_of(client)?);
    Ok(())
}

fn daemon_log(site: &Site) -> PathBuf {
    site.root.join("daemon.log")
}

fn show_daemon_log(site: &Site) {
    let Ok(log) = std::fs::read_to_string(daemon_log(site)) else { return };
    output::note("\nthe end of the daemon's log:");
    let lines: Vec<&str> = log.lines().collect();
    for line in lines.iter().skip(lines.len().saturating_sub(20)) {
        output::note(&format!("  {line}"));
    }
}
