//! What every plugin does alike, whatever its application: a new one gets these tests by being in the list.

use std::process::{Command, ExitStatus, Output, Stdio};

use super::support::disk::SmallDisk;
use super::*;
use stands::Stand;

mod stands;

/// No plugin takes so long to refuse.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Runs `larder plugin NAME`, gives it `request` and hears what it says.
fn ask(name: &str, request: &[u8]) -> Output {
    use std::io::Write as _;
    let mut child = plugin(name, Stdio::piped(), Stdio::piped());
    // It may have refused already and hear no more.
    let _ = child.stdin.take().unwrap().write_all(request);
    let status = end_of(name, &mut child);
    let mut output = child.wait_with_output().unwrap();
    output.status = status;
    output
}

fn plugin(name: &str, stdin: Stdio, stdout: Stdio) -> std::process::Child {
    let mut command = Command::new(support::larder());
    command.args(["plugin", name]).stdin(stdin).stdout(stdout).stderr(Stdio::null()).spawn().unwrap()
}

fn end_of(name: &str, child: &mut std::process::Child) -> ExitStatus {
    support::wait_for(&format!("the end of {name}"), ANSWER_MAX, || child.try_wait().unwrap())
}

/// The code of the one `failed` that a refusal consists of.
fn refused(name: &str, request: &Value) -> String {
    code_of(name, &ask(name, request.to_string().as_bytes()))
}

fn code_of(name: &str, output: &Output) -> String {
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(!output.status.success(), "{name} ended well and said {said}");
    let events: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 1, "{name} said {said}");
    assert_eq!(events[0]["event"], "failed", "{name} said {said}");
    events[0]["code"].as_str().unwrap().to_owned()
}

fn request(action: &str, staging: &Path) -> Value {
    json!({"protocol": 1, "action": action, "target": "sample", "run": "01", "staging": staging, "settings": {}})
}

fn names() -> impl Iterator<Item = &'static str> {
    larder::plugin::ALL.iter().map(|each| each.name)
}

#[test]
fn a_request_that_is_empty_cut_or_of_another_protocol_is_refused_by_every_plugin() {
    for name in names() {
        for bytes in [&b""[..], b"{", br#"{"protocol":1,"action":"capture","settings":{"#, b"\xff\xfe", b"[]", b"null"]
        {
            assert_eq!(code_of(name, &ask(name, bytes)), "request", "{name}: {}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(refused(name, &json!({"protocol": 99, "action": "describe"})), "plugin_protocol", "{name}");
    }
}

#[test]
fn every_plugin_ends_when_nobody_asks_or_nobody_listens() {
    for name in names() {
        let mut unasked = plugin(name, Stdio::null(), Stdio::null());
        assert!(!end_of(name, &mut unasked).success(), "{name} did something that nobody asked for");
        let mut unheard = plugin(name, Stdio::piped(), Stdio::piped());
        drop(unheard.stdout.take());
        std::io::Write::write_all(unheard.stdin.as_mut().unwrap(), br#"{"protocol":1,"action":"describe"}"#).unwrap();
        drop(unheard.stdin.take());
        end_of(name, &mut unheard);
    }
}

#[test]
fn settings_that_no_plugin_knows_are_refused_by_its_schema_and_by_itself() {
    let catalogue = Catalogue::discover(larder::plugin::ALL, Some(&plugins_dir()), &support::larder()).unwrap();
    assert!(catalogue.names().len() > larder::plugin::ALL.len(), "there is one of somebody else, too");
    let directory = tempfile::tempdir().unwrap();
    let unknown = json!({"no_such_setting": 1});
    for name in catalogue.names() {
        let schema = catalogue.schema(&name).unwrap();
        let validator = jsonschema::validator_for(schema).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!validator.is_valid(&unknown), "{name} takes an unknown setting");
        assert!(!validator.is_valid(&json!([])), "{name} takes a list");
        let is_built_in = names().any(|each| each == name);
        for action in ["capture", "validate", "restore"].into_iter().filter(|_| is_built_in) {
            let mut request = request(action, directory.path());
            request["settings"] = unknown.clone();
            request["capture"] = json!({});
            request["restore"] = json!({"dry_run": true});
            let code = refused(&name, &request);
            assert!(code == "settings" || (action, code.as_str()) == ("restore", "not_supported"), "{name}: {code}");
        }
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "a refusal leaves nothing");
}

#[test]
fn nothing_is_put_back_and_nothing_proven_that_nobody_named() {
    let directory = tempfile::tempdir().unwrap();
    for builtin in larder::plugin::ALL {
        let name = builtin.name;
        assert_eq!(refused(name, &request("validate", directory.path())), "request", "{name}");
        let mut restore = request("restore", directory.path());
        let unordered = refused(name, &restore);
        restore["capture"] = json!({});
        let expected = if unordered == "not_supported" { "not_supported" } else { "request" };
        assert_eq!((unordered.as_str(), refused(name, &restore).as_str()), (expected, expected), "{name}");
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "a refusal leaves nothing");
}

/// Stands that are tried beside each other; they mostly wait.
const STANDS_AT_ONCE: usize = 3;

/// How long an application may take to see that who talked to it is gone.
const SETTLED_MAX: Duration = Duration::from_secs(10);

/// The plugin of somebody else that the repository has as an example.
const EXTERNAL: &str = "hello";

/// Tries every plugin with its application, one of somebody else too; one that fails hides no other.
fn over_all(check: impl Fn(&mut Stand) + Sync) {
    over(names().chain([EXTERNAL]), check);
}

fn over(names: impl Iterator<Item = &'static str> + Send, check: impl Fn(&mut Stand) + Sync) {
    let (open, failed) = (Mutex::new(names), Mutex::new(Vec::new()));
    let next = || open.lock().unwrap().next();
    let attempt = |name: &'static str| {
        let start = stands::of(name).unwrap_or_else(|| {
            panic!("the plugin {name} has no stand: add its application to tests/it/plugin/conformance/stands.rs")
        });
        check(&mut start(name));
    };
    let work = || {
        while let Some(name) = next() {
            let since = Instant::now();
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| attempt(name))).is_err() {
                failed.lock().unwrap().push(name);
            }
            println!("{name}: {:?}", since.elapsed());
        }
    };
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    std::thread::scope(|scope| {
        for _ in 0..STANDS_AT_ONCE {
            std::thread::Builder::new().name(test.clone()).spawn_scoped(scope, work).unwrap();
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "not as it should be, for the reasons above: {failed:?}");
}

/// The processes for whose directory in `/proc` this holds, each with its command.
fn processes(is_one: impl Fn(&Path) -> bool) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let of_processes = entries.filter(|path| path.join("environ").exists() && is_one(path));
    let command = |path: PathBuf| std::fs::read_to_string(path.join("cmdline")).unwrap_or_default().replace('\0', " ");
    of_processes.map(|path| format!("{} {}", path.display(), command(path.clone()))).collect()
}

impl Stand {
    /// An empty directory, and the id of another run.
    fn again(&mut self) {
        self.bench.again();
        self.bench.run = RunId::generate(jiff::Timestamp::now());
        self.bench.cancel = CancellationToken::new();
    }

    fn captured(&mut self) -> Captured {
        self.again();
        let captured = self.bench.capture_with(None);
        captured.unwrap_or_else(|failure| panic!("{}: {failure}\n{}", self.name, self.bench.log()))
    }

    /// What a validation comes to; a plugin that refuses to go on publishes nothing either.
    fn verdict(&self, captured: &Captured) -> Verdict {
        self.bench.validate_with(captured, None).map_or(Verdict::Failed, |validations| verdict(&validations))
    }

    /// The application is as it was, and nothing that was started for it lives.
    fn is_untouched(&self, before: &[String], behind: &str) {
        self.has_no_children(behind);
        self.settles(before, behind, |_| true);
    }

    fn has_no_children(&self, behind: &str) {
        let mark = format!("test:{}:", self.bench.run);
        let children = processes(|process| {
            let environment = std::fs::read(process.join("environ")).unwrap_or_default();
            environment.windows(mark.len()).any(|part| part == mark.as_bytes())
        });
        assert_eq!(children, Vec::<String>::new(), "{}: {behind} leaves children", self.name);
    }

    fn settles(&self, before: &[String], behind: &str, counts: impl Fn(&str) -> bool) {
        let counted = |lines: &[String]| -> Vec<String> { lines.iter().filter(|line| counts(line)).cloned().collect() };
        let (before, since) = (counted(before), Instant::now());
        loop {
            let now = counted(&self.state());
            if now == before {
                return;
            }
            if since.elapsed() > SETTLED_MAX {
                let differs = |these: &[String], those: &[String]| -> Vec<String> {
                    these.iter().filter(|line| !those.contains(line)).cloned().collect()
                };
                let (gone, new) = (differs(&before, &now), differs(&now, &before));
                let (name, log) = (self.name, self.bench.log());
                panic!("{name}: {behind} changes the application: {gone:#?} became {new:#?}\n{log}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn a_capture_is_proven_and_leaves_every_application_as_it_was() {
    over_all(|stand| {
        let before = stand.state();
        let captured = stand.captured();
        stand.is_untouched(&before, "a capture");
        assert_eq!(captured.artifacts.is_empty(), stand.in_place.is_some(), "{}: {captured:?}", stand.name);
        let validations = stand.bench.validate_with(&captured, None).unwrap();
        assert!(
            !validations.is_empty() && verdict(&validations) == Verdict::Proven,
            "{}: {validations:#?}",
            stand.name
        );
        stand.is_untouched(&before, "a validation");
        assert_eq!(stand.bench.noted(), Vec::<PathBuf>::new(), "{}: the journal is not empty", stand.name);
    });
}

#[test]
fn an_artifact_that_is_cut_emptied_or_has_another_bit_is_refused_by_every_plugin() {
    over_all(|stand| {
        let captured = stand.captured();
        for artifact in &captured.artifacts {
            let file = stand.bench.staging().join(&artifact.path);
            let whole = std::fs::read(&file).unwrap();
            let half = whole.len() / 2;
            let mut flipped = whole.clone();
            flipped[half] ^= 1;
            for (damage, bytes) in [("cut", &whole[..half]), ("emptied", &[]), ("flipped", &flipped)] {
                std::fs::write(&file, bytes).unwrap();
                let verdict = stand.verdict(&captured);
                assert_eq!(verdict, Verdict::Failed, "{}: {} is {damage}", stand.name, artifact.path.display());
            }
            std::fs::write(&file, whole).unwrap();
        }
        assert_eq!(stand.verdict(&captured), Verdict::Proven, "{}: as it was", stand.name);
    });
}

/// Damages that a plugin sees without a hash, by what is in the file: its end, its checksums, its form.
#[test]
fn an_artifact_whose_hash_nobody_knows_is_read_by_every_plugin_itself_and_never_called_proven() {
    let complaints = Mutex::new(Vec::new());
    over(names(), |stand| {
        let mut captured = stand.captured();
        for artifact in &mut captured.artifacts {
            artifact.sha256 = None;
        }
        let complain = |file: &Path, what: &str, verdict: Verdict| {
            let told = format!("{}: {} {what}: {verdict:?}", stand.name, file.display());
            complaints.lock().unwrap().push(told);
        };
        if captured.artifacts.is_empty() {
            return;
        }
        match stand.verdict(&captured) {
            Verdict::CouldNotVerify => {}
            other => complain(Path::new("all"), "as it was", other),
        }
        for artifact in &captured.artifacts {
            let file = stand.bench.staging().join(&artifact.path);
            let whole = std::fs::read(&file).unwrap();
            let (half, end) = (whole.len() / 2, whole.len().saturating_sub(12));
            let mut flipped = whole.clone();
            flipped[half] ^= 1;
            for (damage, bytes) in [
                ("emptied", &[][..]),
                ("cut", &whole[..half]),
                ("cut at its end", &whole[..end]),
                ("flipped", &flipped),
            ] {
                std::fs::write(&file, bytes).unwrap();
                let found = stand.verdict(&captured);
                let shown = artifact.path.to_string_lossy();
                let cannot_tell = CANNOT_TELL
                    .iter()
                    .any(|(name, part, what)| *name == stand.name && shown.contains(part) && *what == damage);
                if found == Verdict::Proven || (found != Verdict::Failed && !cannot_tell) {
                    complain(&artifact.path, damage, found);
                }
            }
            std::fs::write(&file, whole).unwrap();
        }
    });
    let complaints = complaints.into_inner().unwrap();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

/// What the form of an artifact cannot tell (the plugin, a part of the path, the damage): that could not be verified is said
/// then, and never that it is proven.
///
/// A text has no checksum, so another letter in it is only another text; neither has a tar, whose end is padding, nor
/// what stands behind the mark of a dump's end. The blocks of Prometheus are read by promtool where that is there.
const CANNOT_TELL: &[(&str, &str, &str)] = &[
    ("command", "export.json", "flipped"),
    ("docker", "volumes/", "flipped"),
    ("docker", ".json", "flipped"),
    ("files", "databases/", "flipped"),
    ("grafana", ".json", "flipped"),
    ("homeassistant", "backup.tar", "cut at its end"),
    ("http", "export.json", "flipped"),
    ("mariadb", ".sql", "cut at its end"),
    ("mysql", ".sql", "cut at its end"),
    ("prometheus", "tsdb/", "cut"),
    ("prometheus", "tsdb/", "cut at its end"),
    ("prometheus", "", "flipped"),
    ("prometheus", ".yml", "cut"),
    ("prometheus", ".yml", "cut at its end"),
];

#[test]
fn a_dry_run_leaves_every_application_as_it_was_also_when_it_is_refused() {
    over_all(|stand| {
        let captured = stand.captured();
        for source in &captured.sources {
            // As restic lays it out.
            let place = stand.bench.directory.path().join("tree").join(source.path.strip_prefix("/").unwrap());
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            assert!(Command::new("cp").arg("-a").arg(&source.path).arg(&place).status().unwrap().success());
        }
        stand.change();
        let before = stand.state();
        let dry_run = |options: &Value| stand.bench.restore_app(&captured, options.clone(), true);
        if stand.orders.is_empty() {
            assert_eq!(dry_run(&json!({})).unwrap_err().trouble.code, "not_supported", "{}", stand.name);
            if stand.name != EXTERNAL {
                assert_eq!(refused(stand.name, &unordered(stand)), "not_supported", "{}", stand.name);
            }
            return;
        }
        let mut told = 0;
        for order in &stand.orders {
            let answer = dry_run(order);
            told += answer.as_ref().map_or(0, |restored| restored.steps.len());
            stand.is_untouched(&before, &format!("a dry run of {order} that came to {answer:?}"));
        }
        assert!(told > 0, "{}: no dry run says what would be done\n{}", stand.name, stand.bench.log());
        let failure = dry_run(&json!({"no_such_option": 1})).unwrap_err();
        assert_eq!(failure.trouble.code, "restore_options", "{}: {failure}", stand.name);
        for artifact in &captured.artifacts {
            let file = stand.bench.staging().join(&artifact.path);
            let whole = std::fs::read(&file).unwrap();
            std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
        }
        let damaged: Vec<_> = stand.orders.iter().map(|order| dry_run(order).map(|restored| restored.steps)).collect();
        stand.is_untouched(&before, &format!("a dry run of a damaged backup that came to {damaged:?}"));
        assert_eq!(stand.bench.noted(), Vec::<PathBuf>::new(), "{}: the journal is not empty", stand.name);
    });
}

/// A restore of which nothing is said but that it is one.
fn unordered(stand: &Stand) -> Value {
    request("restore", &stand.bench.staging())
}

#[test]
fn a_capture_into_a_full_directory_says_that_it_is_full_and_leaves_every_application_as_it_was() {
    if !nix::unistd::geteuid().is_root() {
        return skip(Lack::Root, "only root can mount");
    }
    let elsewhere = tempfile::tempdir().unwrap();
    if SmallDisk::try_mount(elsewhere.path(), "4k").is_none() {
        return skip(Lack::Mount, "nothing can be mounted here");
    }
    over_all(|stand| {
        stand.captured();
        let (before, needed) = (stand.state(), bytes_below(&stand.room));
        let is_staging = stand.room == stand.bench.staging();
        for room in [0, needed / 2] {
            let pages = room / 4096;
            if room > 0 && pages == 0 {
                continue;
            }
            stand.again();
            let _disk = SmallDisk::try_mount(&stand.room, &format!("{}k", 4 * pages.max(1))).unwrap();
            if pages == 0 && is_staging {
                std::fs::write(stand.room.join(".filler"), [0; 4096]).unwrap();
            }
            let failure = match stand.bench.capture_with(None) {
                Err(failure) => failure,
                Ok(captured) => panic!("{}: {room} of {needed} bytes are enough: {captured:?}", stand.name),
            };
            let said = format!("{}: with room for {room} of {needed} bytes: {failure}", stand.name);
            assert_eq!(failure.trouble.code, "disk_full", "{said}\n{}", stand.bench.log());
            assert_eq!(failure.outcome, Outcome::Deferred, "{said}");
            stand.is_untouched(&before, "a full directory");
            assert_eq!(stand.bench.noted(), Vec::<PathBuf>::new(), "{}: the journal is not empty", stand.name);
        }
    });
}

fn bytes_below(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let bytes = entries.map(|entry| match entry.metadata().unwrap() {
        found if found.is_dir() => bytes_below(&entry.path()),
        found if found.is_file() => found.len(),
        _ => 0,
    });
    bytes.sum()
}

/// How a capture is ended before its time.
#[derive(Clone, Copy, Debug)]
enum End {
    /// As the daemon does: it is asked to end, and killed where it does not.
    Cancelled,
    Terminated,
    Killed,
}

/// After which part of a capture each of them comes.
const ENDS: &[(End, f64)] =
    &[(End::Killed, 0.0), (End::Terminated, 0.2), (End::Cancelled, 0.4), (End::Killed, 0.6), (End::Terminated, 0.8)];

/// How often it is tried to come before a capture's end.
const ATTEMPTS_MAX: usize = 3;

#[test]
fn a_capture_that_is_ended_at_any_instant_leaves_every_application_as_it_was() {
    // The external one is over before anybody can end it.
    over(names(), |stand| {
        let before = stand.state();
        stand.again();
        let (captured, mut whole) = watched(&stand.bench, |_| ());
        captured.unwrap_or_else(|failure| panic!("{}: {failure}\n{}", stand.name, stand.bench.log()));
        let mut ended = 0;
        for &(end, part) in ENDS {
            for _ in 0..ATTEMPTS_MAX {
                stand.again();
                let bench = &stand.bench;
                let behind = format!("{end:?} after {part} of {whole:?}");
                let (captured, took) = watched(bench, |plugin| {
                    std::thread::sleep(whole.mul_f64(part));
                    bench.end_it(end, plugin);
                });
                if let Err(failure) = &captured {
                    let wanted = if matches!(end, End::Cancelled) { "cancelled" } else { "plugin_killed" };
                    assert_eq!(failure.trouble.code, wanted, "{}: {behind}: {failure}\n{}", stand.name, bench.log());
                }
                stand.put_right_as_the_daemon_does(&behind);
                stand.has_no_children(&behind);
                stand.settles(&before, &behind, |line| stand.stays.is_none_or(|(known, _)| !line.starts_with(known)));
                if captured.is_err() {
                    ended += 1;
                    break;
                }
                // The machine has less to do than it had.
                whole = whole.min(took);
            }
        }
        println!("{}: {ended} of {} captures were ended, of {whole:?} each", stand.name, ENDS.len());
        assert!(ended >= 2, "{}: {ended} captures were ended before their end", stand.name);
    });
}

/// Captures, and calls `meanwhile` as soon as the plugin is there; answers how long it was there, too.
fn watched(bench: &Bench, meanwhile: impl FnOnce(i32)) -> (Result<Captured, PluginFailure>, Duration) {
    let staging = bench.staging();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| bench.capture_with(None));
        let plugin = loop {
            match plugin_of(&staging) {
                None if !running.is_finished() => std::thread::sleep(Duration::from_millis(1)),
                found => break found,
            }
        };
        let since = Instant::now();
        if let Some(plugin) = plugin {
            meanwhile(plugin);
        }
        (running.join().unwrap(), since.elapsed())
    })
}

impl Bench {
    fn end_it(&self, end: End, plugin: i32) {
        use nix::sys::signal::{Signal, kill};
        let signal = match end {
            End::Cancelled => return self.cancel.cancel(),
            End::Terminated => Signal::SIGTERM,
            End::Killed => Signal::SIGKILL,
        };
        // It may have ended meanwhile, and its pid be somebody else's.
        let place = self.staging().canonicalize().unwrap();
        if std::fs::read_link(format!("/proc/{plugin}/cwd")).is_ok_and(|directory| directory == place) {
            let _ = kill(nix::unistd::Pid::from_raw(plugin), signal);
        }
    }
}

impl Stand {
    /// Recovers by the journal, if there is something in it, and tries again where that can't be done yet.
    fn put_right_as_the_daemon_does(&mut self, behind: &str) {
        self.bench.cancel = CancellationToken::new();
        if self.bench.noted().is_empty() {
            return;
        }
        assert!(self.bench.catalogue.keeps_a_journal(self.name), "{}: nobody reads its journal", self.name);
        let since = Instant::now();
        while let Err(failure) = self.bench.recover_app() {
            let log = self.bench.log();
            assert!(since.elapsed() < SETTLED_MAX * 3, "{}: {behind}: {failure}\n{log}", self.name);
            std::thread::sleep(Duration::from_millis(200));
        }
        assert_eq!(self.bench.noted(), Vec::<PathBuf>::new(), "{}: {behind}: it is not undone", self.name);
    }
}
