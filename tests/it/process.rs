//! Children that misbehave in every way that is known, run with real small programs.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use larder::process::{
    self, Command, Context, Exit, Finished, Limits, Log, LogStdout, MARK, Redactor, Stdin, reap_leftovers,
};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::support::wait_for;

fn secret(text: &str) -> SecretString {
    SecretString::from(text.to_owned())
}

fn context() -> Context {
    let state = ulid::Ulid::new().to_string();
    Context {
        cancel: CancellationToken::new(),
        log: Log::discard(),
        redact: Redactor::default(),
        mark: format!("{state}:run"),
    }
}

fn sh(script: &str) -> Command {
    Command {
        program: "sh".into(),
        args: vec!["-c".into(), script.into()],
        env: vec![],
        current_dir: None,
        stdin: Stdin::Null,
        limits: Limits { deadline: Duration::from_mins(1), grace: Duration::from_millis(300), ..Limits::default() },
        log_stdout: LogStdout::Yes,
    }
}

async fn lines_of(command: Command, context: &Context) -> (Finished, Vec<String>) {
    let mut lines = Vec::new();
    let finished = process::run(command, context, |line| lines.push(line.to_owned())).await;
    (finished, lines)
}

/// The pids of living processes that carry the mark of `context`.
fn marked(context: &Context) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if String::from_utf8_lossy(&environment).contains(&format!("{MARK}={}", context.mark)) {
            found.push(pid);
        }
    }
    found
}

fn state_of(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// The word in the context's mark before the colon.
fn state_id(context: &Context) -> &str {
    context.mark.split(':').next().unwrap()
}

#[tokio::test]
async fn lines_and_exit_codes_come_back_as_they_are() {
    let (finished, lines) = lines_of(sh("echo one; echo ' two'; printf three; echo bad >&2; exit 7"), &context()).await;
    assert_eq!(finished.exit, Exit::Code(7));
    assert_eq!(lines, ["one", " two", "three"]);
    assert_eq!(finished.stderr_tail, "bad");
    let (finished, _) = lines_of(sh("kill -9 $$"), &context()).await;
    assert_eq!(finished.exit, Exit::Signal(9));
    let (finished, lines) = lines_of(sh("printf 'a\\377b\\n'"), &context()).await;
    assert_eq!((finished.exit, lines), (Exit::Success, vec!["a\u{fffd}b".to_owned()]));
}

#[tokio::test]
async fn standard_input_is_written_whole_or_closed() {
    let big = "x".repeat(3 << 20);
    let mut command = sh("wc -c");
    command.stdin = Stdin::Bytes(secret(&big));
    let (_, lines) = lines_of(command, &context()).await;
    assert_eq!(lines, [format!("{}", 3 << 20)]);
    // One that does not read it.
    let mut command = sh("exec 0<&-; echo done");
    command.stdin = Stdin::Bytes(secret(&big));
    let (finished, lines) = lines_of(command, &context()).await;
    assert_eq!((finished.exit, lines), (Exit::Success, vec!["done".to_owned()]));
    let (finished, _) = lines_of(sh("cat"), &context()).await;
    assert_eq!(finished.exit, Exit::Success);
}

#[tokio::test]
async fn the_environment_is_only_what_was_given() {
    let mut command = sh("env | cut -d= -f1 | sort");
    command.env.push(("GIVEN".to_owned(), secret("x y")));
    let (_, lines) = lines_of(command, &context()).await;
    let allowed = ["GIVEN", "HOME", "LANG", "PATH", "TZ", "TMPDIR", MARK, "PWD", "OLDPWD", "SHLVL", "_"];
    assert!(lines.iter().any(|line| line == "GIVEN") && lines.iter().any(|line| line == MARK), "{lines:?}");
    assert!(lines.iter().all(|line| allowed.contains(&line.as_str())), "{lines:?}");
}

#[tokio::test]
async fn a_program_that_cannot_be_started_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let plain = directory.path().join("plain");
    std::fs::write(&plain, "echo a shell ran this\n").unwrap();
    let mut command = sh("");
    for (program, expected) in [
        (Path::new("no-such-program-anywhere"), std::io::ErrorKind::NotFound),
        (Path::new("/no/such/program"), std::io::ErrorKind::NotFound),
        (plain.as_path(), std::io::ErrorKind::PermissionDenied),
        (directory.path(), std::io::ErrorKind::PermissionDenied),
    ] {
        command.program = program.to_owned();
        let (finished, _) = lines_of(command.clone(), &context()).await;
        let Exit::NotStarted { kind, program: named, .. } = finished.exit else { panic!("{:?}", finished.exit) };
        assert_eq!((kind, named.as_path()), (expected, program));
    }
    // Executable, but neither a program nor a script with an interpreter: never handed to a shell.
    std::fs::set_permissions(&plain, std::fs::Permissions::from_mode(0o755)).unwrap();
    command.program.clone_from(&plain);
    let (finished, lines) = lines_of(command.clone(), &context()).await;
    assert!(matches!(&finished.exit, Exit::NotStarted { detail, .. } if detail.contains("xec format")), "{finished:?}");
    assert!(lines.is_empty());
    command = sh("true");
    command.current_dir = Some("/no/such/directory".into());
    let (finished, _) = lines_of(command, &context()).await;
    assert!(matches!(&finished.exit, Exit::NotStarted { detail, .. } if detail.contains("/no/such/directory")));
}

#[tokio::test]
async fn a_child_that_ignores_term_is_killed_after_the_grace() {
    let context = context();
    let mut command = sh("trap '' TERM; while :; do sleep 0.05; done");
    command.limits.deadline = Duration::from_millis(200);
    let (finished, _) = lines_of(command, &context).await;
    assert_eq!(finished.exit, Exit::DeadlineExceeded(Duration::from_millis(200)));
    assert!(finished.wall >= Duration::from_millis(450) && finished.wall < Duration::from_secs(10), "{finished:?}");
    assert_eq!(marked(&context), [0; 0]);
}

#[tokio::test]
async fn a_child_that_answers_term_is_heard_to_its_end() {
    let mut command =
        sh("trap 'echo cleaning; sleep 0.1; echo clean; exit 0' TERM; echo up; while :; do sleep 0.02; done");
    command.limits.deadline = Duration::from_millis(300);
    command.limits.grace = Duration::from_secs(20);
    let (finished, lines) = lines_of(command, &context()).await;
    assert_eq!(lines, ["up", "cleaning", "clean"]);
    assert_eq!(finished.exit, Exit::DeadlineExceeded(Duration::from_millis(300)));
    assert!(finished.wall < Duration::from_secs(10), "{finished:?}");
}

#[tokio::test]
async fn a_child_that_closes_its_outputs_and_hangs_meets_its_silence_limit() {
    let mut command = sh("exec >&- 2>&-; sleep 600");
    command.limits.no_progress = Some(Duration::from_millis(300));
    let (finished, _) = lines_of(command, &context()).await;
    assert_eq!(finished.exit, Exit::NoProgress(Duration::from_millis(300)));
    assert!(finished.wall < Duration::from_secs(10));
}

#[tokio::test]
async fn output_in_time_keeps_a_child_alive() {
    let mut command = sh("for n in 1 2 3 4 5 6 7 8; do sleep 0.1; echo $n >&2; done");
    command.limits.no_progress = Some(Duration::from_millis(600));
    let (finished, _) = lines_of(command, &context()).await;
    assert_eq!(finished.exit, Exit::Success);
    assert!(finished.wall > Duration::from_millis(700), "{finished:?}");
}

#[tokio::test]
async fn cancelling_ends_a_whole_tree_that_daemonized_itself() {
    let context = context();
    // A grandchild that left the group and the session and whose parents are gone, one that ignores TERM, one stopped.
    let script = "setsid sh -c 'setsid sleep 601 & exit 0'; setsid sh -c \"trap '' TERM; sleep 602; sleep 603\" & \
                  sleep 604 & kill -STOP $!; env -i sleep 605 & echo ready; wait";
    let mut pids = Vec::new();
    let cancel = context.cancel.clone();
    let (seen, watched) = (context.clone(), &mut pids);
    let finished = process::run(sh(script), &context, |line| {
        assert_eq!(line, "ready");
        *watched = wait_for("the tree", Duration::from_secs(10), || Some(marked(&seen)).filter(|p| p.len() >= 4));
        cancel.cancel();
    })
    .await;
    assert_eq!(finished.exit, Exit::Cancelled);
    assert!(finished.wall < Duration::from_secs(10), "{finished:?}");
    for pid in pids {
        assert_eq!(state_of(pid), None, "process {pid} should be gone and reaped");
    }
    let sleeping = std::process::Command::new("pgrep").args(["-f", "^sleep 60[1-5]$"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&sleeping.stdout), "", "no sleep should be left");
}

#[tokio::test]
async fn what_a_child_leaves_behind_ends_with_it() {
    let context = context();
    let script = "setsid sleep 611 & sleep 612 & setsid sh -c 'sleep 613 & sleep 614 & exit 0'; echo done";
    let (finished, lines) = lines_of(sh(script), &context).await;
    assert_eq!((finished.exit, lines), (Exit::Success, vec!["done".to_owned()]));
    assert!(finished.wall < Duration::from_secs(10));
    assert_eq!(marked(&context), [0; 0]);
}

#[tokio::test]
async fn a_flood_that_outlives_its_parent_ends_too() {
    let context = context();
    let mut command = sh("setsid yes & exit 0");
    command.log_stdout = LogStdout::No;
    let (finished, _) = lines_of(command, &context).await;
    assert_eq!(finished.exit, Exit::Success);
    assert!(finished.wall < Duration::from_secs(20), "{finished:?}");
    assert_eq!(marked(&context), [0; 0]);
}

#[tokio::test]
async fn children_of_one_run_do_not_end_each_other() {
    let context = context();
    let slow = lines_of(sh("sleep 0.8; echo slow"), &context);
    let quick = async {
        for _ in 0..3 {
            lines_of(sh("setsid sleep 621 & true"), &context).await;
        }
    };
    let ((finished, lines), ()) = tokio::join!(slow, quick);
    assert_eq!((finished.exit, lines), (Exit::Success, vec!["slow".to_owned()]));
}

#[tokio::test]
async fn a_stopped_child_meets_its_deadline() {
    let mut command = sh("kill -STOP $$");
    command.limits.deadline = Duration::from_millis(300);
    let (finished, _) = lines_of(command, &context()).await;
    assert_eq!(finished.exit, Exit::DeadlineExceeded(Duration::from_millis(300)));
    assert!(finished.wall < Duration::from_secs(10));
}

#[tokio::test]
async fn a_gigabyte_of_output_is_read_and_costs_no_memory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let context = Context { log: Log::create(&path, 100_000).unwrap(), ..context() };
    let before = peak_memory_kib();
    let mut bytes = 0;
    let command = sh("head -c 1000000000 /dev/zero | tr '\\0' 'a' | fold -w 100000; echo; echo end");
    let finished = process::run(command, &context, |line| bytes += line.len() + 1).await;
    assert_eq!(finished.exit, Exit::Success);
    assert!(bytes > 1_000_000_000, "{bytes}");
    assert!(std::fs::metadata(&path).unwrap().len() < 100_100);
    assert!(context.log.dropped() > 999_000_000);
    let grown = peak_memory_kib().saturating_sub(before);
    assert!(grown < 200_000, "memory grew by {grown} KiB");
}

#[tokio::test]
async fn a_line_of_a_gigabyte_is_cut() {
    let mut command = sh("head -c 1000000000 /dev/zero | tr '\\0' 'a'; echo; echo end");
    command.limits.line_bytes_max = 1000;
    let (finished, lines) = lines_of(command, &context()).await;
    assert_eq!(finished.exit, Exit::Success);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0], format!("{} [cut: 999999000 bytes more]", "a".repeat(1000)));
    assert_eq!(lines[1], "end");
}

#[tokio::test]
async fn an_endless_flood_meets_its_deadline() {
    for script in ["yes", "yes >&2", "cat /dev/zero"] {
        let mut command = sh(script);
        command.limits.deadline = Duration::from_millis(500);
        let finished = process::run(command, &context(), |_| {}).await;
        assert_eq!(finished.exit, Exit::DeadlineExceeded(Duration::from_millis(500)), "{script}");
        assert!(finished.wall < Duration::from_secs(15), "{script}: {finished:?}");
    }
}

#[tokio::test]
async fn no_secret_reaches_the_log_or_the_tail() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let context = Context {
        log: Log::create(&path, 1 << 20).unwrap(),
        redact: Redactor::new(vec![secret("hunter2 & co"), secret("line-one-of-key\nline-two-of-key")]),
        ..context()
    };
    let mut command = sh("echo \"out $PW\"; printf 'in two '; printf 'hunter2 '; sleep 0.1; echo '& co'; \
                          echo \"err $PW\" >&2; echo \"$KEY\" >&2; echo hunter2%20%26%20co >&2; \
                          printf '%1000s' | tr ' ' x; printf 'hunter2 & co'");
    command.env =
        vec![("PW".to_owned(), secret("hunter2 & co")), ("KEY".to_owned(), secret("line-one-of-key\nline-two-of-key"))];
    command.limits.line_bytes_max = 1007;
    let (finished, lines) = lines_of(command, &context).await;
    assert!(lines.contains(&"out hunter2 & co".to_owned()), "callers get lines as they are");
    let log = std::fs::read_to_string(&path).unwrap();
    for text in [&log, &finished.stderr_tail] {
        assert!(text.contains("err [redacted]"), "{text}");
        for part in ["hunter2", "line-one", "line-two"] {
            assert!(!text.contains(part), "{part} in {text}");
        }
    }
    assert!(log.contains("in two [redacted]") && log.contains("x[redacted] [cut]"), "{log}");
}

#[tokio::test]
async fn dropping_the_future_ends_the_tree() {
    let context = context();
    let run = process::run(sh("setsid sleep 631 & sleep 632"), &context, |_| {});
    let alive = async {
        while marked(&context).len() < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! { _ = run => panic!("it sleeps"), () = alive => {} }
    wait_for("the end of the tree", Duration::from_secs(10), || marked(&context).is_empty().then_some(()));
}

#[tokio::test]
async fn nothing_is_started_under_a_cancelled_context() {
    let directory = tempfile::tempdir().unwrap();
    let context = context();
    context.cancel.cancel();
    let path = directory.path().join("made");
    let (finished, _) = lines_of(sh(&format!("touch {}", path.display())), &context).await;
    assert_eq!(finished.exit, Exit::Cancelled);
    assert!(!path.exists());
}

#[tokio::test]
async fn leftovers_of_this_state_are_ended_and_nobody_else() {
    let (mine, other) = (context(), context());
    let start = |mark: &str| {
        let mut command = std::process::Command::new("sleep");
        command.arg("641").env(MARK, mark);
        command.spawn().unwrap()
    };
    let mut nested = start(&format!("outer:run:1.1 {}:1.2", mine.mark));
    let mut stubborn = std::process::Command::new("sh");
    let mut stubborn =
        stubborn.args(["-c", "trap '' TERM; sleep 642; sleep 643"]).env(MARK, &mine.mark).spawn().unwrap();
    let mut spared = [start(&other.mark), start(&format!("{}x:run", state_id(&mine))), start("")];
    let state = state_id(&mine).to_owned();
    // Somebody has to reap them, as init does for a crashed daemon's children.
    let reaper = std::thread::spawn(move || (nested.wait().unwrap(), stubborn.wait().unwrap()));
    let began = Instant::now();
    let leftovers =
        tokio::task::spawn_blocking(move || reap_leftovers(&state, &std::collections::BTreeSet::new())).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(20));
    assert!(leftovers.len() >= 3, "{leftovers:?}");
    assert!(leftovers.iter().all(|leftover| leftover.gone && leftover.mark.contains(&mine.mark)), "{leftovers:?}");
    let (first, second) = reaper.join().unwrap();
    assert!(!first.success() && !second.success());
    assert_eq!(marked(&mine), [0; 0]);
    for child in &mut spared {
        assert!(child.try_wait().unwrap().is_none(), "a process of somebody else was ended");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(reap_leftovers(state_id(&mine), &std::collections::BTreeSet::new()), []);
}

#[tokio::test]
async fn many_at_once_leave_no_zombie() {
    let context = context();
    let children = (0..24).map(|n| {
        let context = context.clone();
        tokio::spawn(
            async move { lines_of(sh(&format!("setsid sleep 0.0{n} & sleep 0.05; echo {n}")), &context).await },
        )
    });
    for (n, child) in children.collect::<Vec<_>>().into_iter().enumerate() {
        let (finished, lines) = child.await.unwrap();
        assert_eq!((finished.exit, lines), (Exit::Success, vec![n.to_string()]));
    }
    assert_eq!(marked(&context), [0; 0]);
    let own = std::process::id();
    wait_for("the last zombie's end", Duration::from_secs(10), || {
        let zombies = std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            stat.contains(&format!("(sleep) Z {own} "))
        });
        (zombies.count() == 0).then_some(())
    });
}

/// The highest memory use of this process so far.
fn peak_memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}
