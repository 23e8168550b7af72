//! The plugin `command`: only what the operator put there is run, and only what it leaves whole is kept.

use super::database::put_back;
use super::*;

/// An operator's plugins directory with these programs in `commands/`.
pub(super) fn operator(programs: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("commands")).unwrap();
    for (name, text) in programs {
        write_plugin(&directory.path().join("commands"), name, &format!("#!/bin/sh\n{text}\n"), 0o755);
    }
    directory
}

pub(super) fn command(operator: &tempfile::TempDir, settings: Value) -> Bench {
    Bench::with_plugins("command", settings, operator.path())
}

#[test]
fn what_a_program_writes_is_kept() {
    let operator = operator(&[("export.sh", "printf '{\"args\":\"%s\",\"secret\":%d}' \"$*\" ${#API_TOKEN}; pwd >&2")]);
    let mut bench = command(
        &operator,
        json!({"command": "export.sh", "args": ["a b", "$(id); `id`"], "stdout": "export.json", "checks": {"json": true}}),
    );
    bench.target.settings["env_secrets"] = json!({"API_TOKEN": secret_file(bench.directory.path(), "s3cr3t-hunter2")});
    let captured = bench.proven();
    let text = std::fs::read_to_string(bench.staging().join("export.json")).unwrap();
    assert_eq!(text, r#"{"args":"a b $(id); `id`","secret":14}"#);
    assert_eq!((captured.artifacts.len(), captured.figures["files"]), (1, 1));
    assert!(bench.log().contains("staging"), "standard error is in the log");
    // Bytes stay bytes.
    let operator = operator_of_bytes();
    let bench =
        command(&operator, json!({"command": "bytes", "stdout": "out.gz", "checks": {"gzip": true, "min_size": 30}}));
    bench.proven();
    assert_eq!(&std::fs::read(bench.staging().join("out.gz")).unwrap()[..2], b"\x1f\x8b");
    let failure = put_back(&bench, &bench.capture_again(), json!({})).unwrap_err();
    assert_eq!(failure.trouble.code, "not_supported");
}

fn operator_of_bytes() -> tempfile::TempDir {
    operator(&[("bytes", "head -c 200000 /dev/urandom | gzip")])
}

impl Bench {
    /// What a capture tells when its file is there from before.
    fn capture_again(&self) -> Captured {
        for name in self.staged() {
            std::fs::remove_file(self.staging().join(name)).unwrap();
        }
        self.capture().unwrap()
    }
}

#[test]
fn the_files_that_a_program_leaves_are_kept() {
    let operator = operator(&[(
        "dump",
        "mkdir -p a/b; echo one >a/one.sql; echo two >a/b/two.sql; echo no >a/no.txt; ln -s /etc/passwd a/link.sql",
    )]);
    let bench = command(&operator, json!({"command": "dump", "files": ["a/**/*.sql"], "checks": {"min_size": 2}}));
    let captured = bench.proven();
    let files: Vec<&Path> = captured.artifacts.iter().map(|artifact| artifact.path.as_path()).collect();
    assert_eq!(files, [Path::new("a/b/two.sql"), Path::new("a/one.sql")]);
    command(&operator, json!({"command": "dump", "files": ["*.gz"]})).refused("nothing_written");
}

#[test]
fn only_programs_that_the_operator_put_there_are_run() {
    let operator = operator(&[("there", "echo yes"), ("open", "echo yes")]);
    let programs = operator.path().join("commands");
    let settings = |name: &str| json!({"command": name, "stdout": "out", "checks": {"min_size": 1}});
    command(&operator, settings("there")).proven();
    for name in ["/bin/sh", "../commands/there", "sub/there", "", "-c", ".there", "../../../bin/sh"] {
        command(&operator, settings(name)).refused("settings");
    }
    for name in ["sh", "absent"] {
        command(&operator, settings(name)).refused("command_not_allowed");
    }
    chmod(&programs.join("open"), 0o757);
    command(&operator, settings("open")).refused("plugin_writable");
    std::fs::write(programs.join("plain"), "#!/bin/sh\necho yes\n").unwrap();
    command(&operator, settings("plain")).refused("command_not_started");
    chmod(&programs, 0o777);
    command(&operator, settings("there")).refused("plugin_writable");
    // A plugin of the operator is no such program, and without a directory there is none.
    Bench::new("command", settings("hello.sh")).refused("command_not_allowed");
    let mut bench = command(&operator, settings("there"));
    bench.catalogue = Catalogue::discover(larder::plugin::ALL, None, &support::larder()).unwrap();
    bench.refused("no_commands");
    // Nor can the config change what runs by the environment.
    chmod(&programs, 0o755);
    for name in ["LD_PRELOAD", "PATH", "BASH_ENV", "LARDER_COMMANDS", "ENV"] {
        let mut bench = command(&operator, settings("there"));
        bench.target.settings["env_secrets"] = json!({name: secret_file(bench.directory.path(), "/tmp/evil.so")});
        bench.refused("settings");
    }
}

#[test]
fn a_program_that_fails_or_writes_nothing_fails_the_run() {
    let operator = operator(&[
        ("fails", "echo half; echo 'the token is' $DB_PASSWORD >&2; exit 3"),
        ("dies", "echo half; kill -9 $$"),
        ("silent", "exit 0"),
    ]);
    let mut bench = command(&operator, json!({"command": "fails", "stdout": "out"}));
    bench.target.settings["env_secrets"] =
        json!({"DB_PASSWORD": secret_file(bench.directory.path(), "s3cr3t-hunter2")});
    let failure = bench.refused("command_failed");
    assert!(failure.trouble.message.contains("code 3: the token is"), "{failure}");
    assert!(!failure.to_string().contains("hunter2") && !bench.log().contains("hunter2"));
    assert_eq!(bench.staged(), Vec::<String>::new());
    command(&operator, json!({"command": "dies", "stdout": "out"})).refused("command_killed");
    command(&operator, json!({"command": "silent", "stdout": "out"})).refused("output_empty");
    for more in [json!({}), json!({"stdout": "o", "files": ["*"]}), json!({"stdout": "../o"}), json!({"stdout": ".o"})]
    {
        let mut settings = json!({"command": "silent"});
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        command(&operator, settings).refused("settings");
    }
}

#[test]
fn what_is_not_as_it_must_be_is_not_proven() {
    let operator = operator(&[("cat", "cat \"$1\""), ("bytes", "head -c 200000 /dev/urandom | gzip")]);
    let source = tempfile::tempdir().unwrap();
    let comes_to = |text: &str, checks: Value| {
        let path = source.path().join("text");
        std::fs::write(&path, text).unwrap();
        let bench = command(&operator, json!({"command": "cat", "args": [path], "stdout": "out", "checks": checks}));
        verdict(&bench.validate(&bench.capture().unwrap()).unwrap())
    };
    assert_eq!(comes_to("{\"a\": [1]}\n", json!({"json": true, "contains": "[1]"})), Verdict::Proven);
    for (text, checks) in [
        ("<html>log in</html>", json!({"json": true})),
        ("{\"a\": [1", json!({"json": true})),
        ("{} {}", json!({"json": true})),
        ("{}", json!({"json": true})),
        ("[]\n", json!({"json": true})),
        ("null", json!({"json": true})),
        ("\"\"", json!({"json": true})),
        ("[{}, []]", json!({"json": true})),
        ("{\"items\": []}", json!({"json": true})),
        ("not packed", json!({"gzip": true})),
        ("tiny", json!({"min_size": 5})),
        ("some text", json!({"contains": "Dump completed"})),
    ] {
        assert_eq!(comes_to(text, checks.clone()), Verdict::Failed, "{text} {checks}");
    }
    assert_eq!(comes_to("anything", json!({})), Verdict::CouldNotVerify, "nothing was asked for");
    let bench = command(&operator, json!({"command": "bytes", "stdout": "out.gz", "checks": {"gzip": true}}));
    let captured = bench.proven();
    super::database::never_proven_when_damaged(&bench, &captured, 0, &[0, 1000], b"\x1f\x8b");
}

#[test]
fn a_program_of_the_operator_puts_it_back() {
    let operator = operator(&[
        ("export", "mkdir -p a; echo one >a/1.sql; echo two >a/2.sql"),
        ("print", "printf 'all of it'"),
        ("load", "cat >\"$1\"; printf '%s' \"$APP_TOKEN\" >>\"$1\"; echo loading >&2"),
        ("load-files", "cat a/*.sql >\"$1\""),
        ("refuse", "echo 'the application is down' >&2; exit 3"),
    ]);
    let goal = tempfile::tempdir().unwrap();
    let path = goal.path().join("application");
    let load = json!({"command": "load", "args": [path]});
    let mut bench = command(&operator, json!({"command": "print", "stdout": "all", "restore": load}));
    bench.target.settings["env_secrets"] = json!({"APP_TOKEN": secret_file(bench.directory.path(), "s3cr3t-hunter2")});
    let captured = bench.capture().unwrap();
    let restored = put_back(&bench, &captured, json!({})).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "all of its3cr3t-hunter2");
    assert_eq!(verdict(&restored.validations), Verdict::CouldNotVerify, "code 0 is no proof: {restored:#?}");
    assert!(bench.log().contains("loading") && !bench.log().contains("hunter2"), "{}", bench.log());
    // What was changed on its way is not put back.
    std::fs::write(bench.staging().join("all"), "another").unwrap();
    assert_eq!(put_back(&bench, &captured, json!({})).unwrap_err().trouble.code, "artifact_changed");

    let load = json!({"command": "load-files", "args": [path]});
    let bench = command(&operator, json!({"command": "export", "files": ["a/*.sql"], "restore": load}));
    put_back(&bench, &bench.capture().unwrap(), json!({})).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");

    let bench = command(&operator, json!({"command": "print", "stdout": "all", "restore": {"command": "refuse"}}));
    let failure = put_back(&bench, &bench.capture().unwrap(), json!({})).unwrap_err();
    assert!(failure.trouble.code == "command_failed" && failure.trouble.message.contains("is down"), "{failure}");
    for (name, code) in [("absent", "command_not_allowed"), ("../commands/load", "settings")] {
        let bench = command(&operator, json!({"command": "print", "stdout": "all", "restore": {"command": name}}));
        assert_eq!(put_back(&bench, &bench.capture().unwrap(), json!({})).unwrap_err().trouble.code, code);
    }
}

/// A whole dump of PostgreSQL, as its tool writes it.
const DUMP: &str = "--\n-- PostgreSQL database dump\n--\n\nCREATE TABLE public.t (i integer);\n\nCOPY public.t (i) FROM stdin;\n1\n2\n\\.\n\n--\n-- PostgreSQL database dump complete\n--\n\n";

#[test]
fn nothing_in_a_wrapper_is_refused_and_what_inside_asks_for_is_looked_at_behind_it() {
    let operator = operator(&[
        // As in a shell: the dump fails and what packs it does not.
        ("gzip-of-nothing", "(echo 'connection refused' >&2; exit 1) | gzip"),
        ("blank", "echo | gzip"),
        ("twice", "gzip </dev/null | gzip"),
        ("xz-of-nothing", "xz </dev/null"),
        ("tar-of-nothing", ": >dump.sql; tar -cz dump.sql; rm dump.sql"),
        (
            "zip-of-nothing",
            "python3 -c 'import sys,zipfile; zipfile.ZipFile(sys.argv[1],\"w\").writestr(\"dump.sql\",\"\")' ../out.zip; cat ../out.zip",
        ),
        ("files", "echo one >one.sql; gzip </dev/null >two.sql.gz"),
        ("dump", "printf '%s' \"$1\" | gzip"),
        ("in-a-tar", "printf '%s' \"$1\" >dump.sql; tar -cz dump.sql; rm dump.sql"),
    ]);
    for (name, how) in [
        ("gzip-of-nothing", "a gzip of nothing"),
        ("blank", "a gzip of nothing"),
        ("twice", "a gzip of a gzip of nothing"),
        ("xz-of-nothing", "an xz of nothing"),
        ("tar-of-nothing", "a gzip of a tar of nothing"),
        ("zip-of-nothing", "a zip of nothing"),
    ] {
        let bench = command(&operator, json!({"command": name, "stdout": "out", "checks": {"min_size": 1}}));
        let failure = bench.refused("output_empty");
        assert!(failure.trouble.message.ends_with(&format!("ended well but out is {how}")), "{name}: {failure}");
        assert!(failure.trouble.hint.unwrap().contains("pipefail"), "{name}");
    }
    let failure = command(&operator, json!({"command": "files", "files": ["*.sql", "*.gz"]})).refused("output_empty");
    assert!(failure.trouble.message.contains("two.sql.gz is a gzip of nothing"), "{failure}");

    let cut = &DUMP[..DUMP.len() - 60];
    for name in ["dump", "in-a-tar"] {
        let comes_to = |text: &str, inside: Value| {
            let bench =
                command(&operator, json!({"command": name, "args": [text], "stdout": "out.gz", "inside": inside}));
            verdict(&bench.validate(&bench.capture().unwrap()).unwrap())
        };
        let all = json!({"sql_dump": "postgres", "min_size": 100, "contains": ["public.t", "COPY"], "min_files": 1});
        assert_eq!(comes_to(DUMP, all.clone()), Verdict::Proven, "{name}");
        assert_eq!(comes_to(cut, all), Verdict::Failed, "{name}: a dump that was cut");
        for (text, inside) in [
            ("a password is needed", json!({"sql_dump": "postgres"})),
            (DUMP, json!({"sql_dump": "mysql"})),
            (DUMP, json!({"min_size": "10KiB"})),
            (DUMP, json!({"contains": ["public.t", "public.u"]})),
            (DUMP, json!({"min_files": 2})),
        ] {
            assert_eq!(comes_to(text, inside.clone()), Verdict::Failed, "{name}: {text} {inside}");
        }
    }
    for inside in [json!({"min_sice": 1}), json!({"sql_dump": "oracle"})] {
        command(&operator, json!({"command": "dump", "args": ["x"], "stdout": "out", "inside": inside}))
            .refused("settings");
    }
}
