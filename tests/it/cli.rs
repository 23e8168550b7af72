//! The command line as a user types it: the README's first four commands, exit codes, JSON, refusals.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::plugin::simulated::Simulated;
use crate::site::{Site, text};
use crate::support::disk::SmallDisk;
use crate::support::postgres::Cluster;
use crate::support::simulator::Simulator;
use crate::support::skip::{Lack, skip};
use crate::support::{free_port, larder, restic, wait_for};

/// The commands of the README's first own backup, as they stand there.
fn first_backup_commands() -> Vec<String> {
    let readme = include_str!("../../README.md");
    let block = readme.split("<!-- first-backup").nth(1).unwrap();
    let block = block.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    block.lines().map(str::to_owned).collect()
}

/// Types these lines one after the other as `user`, then `larder status`; a daemon that was started ends with it.
fn type_in(home: &std::path::Path, commands: &[String], user: Option<&str>) -> std::process::Output {
    let bin = home.join("bin");
    std::fs::create_dir(&bin).unwrap();
    // Copies: another user need not get to where these lie.
    std::fs::copy(larder(), bin.join("larder")).unwrap();
    if let Ok(restic) = restic().canonicalize() {
        std::fs::copy(restic, bin.join("restic")).unwrap();
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    // A reader types the next line when the last has answered; the daemon needs a moment to listen.
    let wait = "until larder status >/dev/null 2>&1; do sleep 0.1; done";
    let mut script = String::from("set -e\ntrap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n");
    for command in commands {
        // The listed address may be taken on this machine; everything else is typed as it stands.
        script.push_str(&command.replace("larder serve --repo", "larder serve --listen 127.0.0.1:0 --repo"));
        script.push('\n');
        if command.ends_with('&') {
            script.push_str(wait);
            script.push('\n');
        }
    }
    script.push_str("larder status\n");
    let mut words: Vec<&str> =
        user.map(|user| vec!["setpriv", "--reuid", user, "--regid", "nogroup", "--clear-groups"]).unwrap_or_default();
    words.extend(["timeout", "120", "bash", "-c", &script]);
    Command::new(words[0])
        .args(&words[1..])
        .env_clear()
        .env("HOME", home)
        .env("PATH", path)
        // Root's state would be in /var/lib: this site is the test's own.
        .envs(user.is_none().then(|| ("LARDER_STATE", home.join("state"))))
        .current_dir(home)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn the_readme_leads_from_nothing_to_the_first_own_backup_in_four_commands_as_root_and_as_another() {
    let commands = first_backup_commands();
    assert!(commands.len() <= 4, "{commands:?}");
    let root = nix::unistd::geteuid().is_root();
    for user in [None, Some("nobody")].into_iter().take(if root { 2 } else { 1 }) {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join(".profile"), "umask 022\n").unwrap();
        if let Some(user) = user {
            let owned = Command::new("chown").arg("-R").arg(user).arg(home.path()).status().unwrap();
            assert!(owned.success(), "only root gives a directory away");
        }
        let done = type_in(home.path(), &commands, user);
        let said = text(&done);
        assert!(done.status.success(), "{user:?}: {said}");
        assert!(said.contains("applied"), "the push shows its verdict:\n{said}");
        assert!(said.contains("profile") && said.contains("success"), "the run is shown:\n{said}");
        let state = if user.is_none() { "state" } else { ".local/state/larder" };
        let backups = home.path().join(state).join("backups/profile");
        assert!(backups.is_dir(), "{} in {said}", backups.display());
    }
}

#[test]
fn the_plugin_that_the_readme_shows_is_the_one_that_is_tested() {
    let readme = include_str!("../../README.md");
    let shown = readme.split("### Your own plugin").nth(1).unwrap();
    let shown = shown.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(shown, include_str!("../plugins/hello.sh"));
}

#[test]
fn what_init_writes_passes_check_and_a_used_directory_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("config");
    let init = |dir: &std::path::Path| {
        Command::new(larder()).arg("--state").arg(home.path().join("state")).arg("init").arg(dir).output().unwrap()
    };
    let made = init(&dir);
    assert!(made.status.success(), "{}", text(&made));
    let checked = Command::new(larder()).arg("check").arg(&dir).output().unwrap();
    assert!(checked.status.success(), "{}", text(&checked));
    assert!(text(&checked).contains("all valid"), "{}", text(&checked));
    let again = init(&dir);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again).contains("not empty"), "{}", text(&again));
}

/// A new config for the applications at these addresses, and nothing else that this host may have.
fn init_with(home: &std::path::Path, services: &[String]) -> std::process::Output {
    let mut command = Command::new(larder());
    command.arg("--state").arg(home.join("state")).arg("init").arg(home.join("config")).args(["--docker", "none"]);
    for service in services {
        command.arg("--service").arg(service);
    }
    command.env("HOME", home).output().unwrap()
}

#[test]
fn init_proposes_the_applications_that_answer_and_what_it_writes_passes_check() {
    let pihole = Simulator::start("pihole", &["--password", "Brunch-Wombat-71"]);
    let (radarr, grafana) = (Simulated::start("arr.py", &["radarr"]), Simulated::start("grafana.py", &[]));
    let cluster = Cluster::shared();
    let services = [
        format!("pihole={}/", pihole.url),
        format!("radarr={}", radarr.url()),
        format!("grafana={}", grafana.url()),
        format!("postgres=127.0.0.1:{}", cluster.port),
    ];
    let home = tempfile::tempdir().unwrap();
    let made = init_with(home.path(), &services);
    assert!(made.status.success(), "{}", text(&made));
    let (said, targets) = (text(&made), std::fs::read_to_string(home.path().join("config/targets.yaml")).unwrap());
    for (plugin, address) in [
        ("pihole", pihole.url.clone()),
        ("radarr", radarr.url()),
        ("grafana", grafana.url()),
        ("postgres", "127.0.0.1".to_owned()),
    ] {
        assert!(said.contains(&format!("saw {plugin} at {address}: target {plugin}, switched off")), "{said}");
        // Each is off until its secret is written: the repository works at once.
        let document = targets.split("---\n").find(|document| document.contains(&format!("plugin: {plugin}\n")));
        let document = document.unwrap_or_else(|| panic!("no {plugin} in\n{targets}"));
        assert!(document.contains("enabled: false") && document.contains(&address), "{document}");
        assert!(document.contains(&format!("state/secrets/{plugin}")), "{document}");
    }
    assert!(targets.contains(&format!("port: {}", cluster.port)), "{targets}");
    let check = || Command::new(larder()).arg("check").arg(home.path().join("config")).output().unwrap();
    let checked = check();
    assert!(checked.status.success() && text(&checked).contains("valid, 4 warnings"), "{}", text(&checked));
    // As it tells to do: then they are valid too.
    std::fs::write(home.path().join("config/targets.yaml"), targets.replace("enabled: false\n", "")).unwrap();
    let checked = check();
    assert!(checked.status.success() && text(&checked).contains("all valid"), "{}", text(&checked));
}

#[test]
fn init_says_which_named_application_does_not_answer_and_makes_nothing() {
    let grafana = Simulated::start("grafana.py", &[]);
    // Something that speaks first, as an sshd does.
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let other_port = other.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in other.incoming() {
            let _ = std::io::Write::write_all(&mut stream.unwrap(), b"SSH-2.0-other\r\n");
        }
    });
    for (service, why) in [
        (format!("postgres=127.0.0.1:{other_port}"), "no postgres answers"),
        (format!("radarr={}", grafana.url()), "no radarr answers"),
        (format!("postgres=127.0.0.1:{}", grafana.port), "no postgres answers"),
        (format!("pihole=http://127.0.0.1:{}", free_port()), "refuses connections"),
        ("pihole=http://pihole.example.org".to_owned(), "in clear text"),
        ("postgres=/nowhere".to_owned(), "/nowhere"),
        ("plex=http://127.0.0.1".to_owned(), "pihole, radarr"),
        ("pihole".to_owned(), "PLUGIN=ADDRESS"),
    ] {
        let home = tempfile::tempdir().unwrap();
        let made = init_with(home.path(), std::slice::from_ref(&service));
        let said = text(&made);
        assert!(made.status.code() == Some(1) && said.contains(why), "{service}: {said}");
        assert!(said.contains("hint:") && !home.path().join("config/site.yaml").exists(), "{service}: {said}");
    }
    let home = tempfile::tempdir().unwrap();
    let made = init_with(home.path(), &["none".to_owned()]);
    assert!(made.status.success() && !text(&made).contains("saw "), "{}", text(&made));
}

#[test]
fn a_postgresql_that_lets_its_owner_in_is_backed_up_by_four_commands() {
    let cluster = Cluster::start();
    let me = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    cluster.create_database("shop");
    cluster.sql("shop", "CREATE TABLE orders AS SELECT n, md5(n::text) AS text FROM generate_series(1, 500) n");
    cluster.let_in(&me);
    let at = format!("postgres={}:{}", cluster.socket().display(), cluster.port);
    // A login alone is not enough: what it may not read would be missing.
    cluster.sql("postgres", &format!("CREATE ROLE \"{me}\" LOGIN"));
    let home = tempfile::tempdir().unwrap();
    let made = init_with(home.path(), std::slice::from_ref(&at));
    assert!(text(&made).contains("target postgres, switched off"), "{}", text(&made));
    cluster.sql("postgres", &format!("GRANT pg_read_all_data TO \"{me}\""));

    let home = tempfile::tempdir().unwrap();
    let commands = [
        format!("larder init ~/backups --bare ~/backups.git --docker none --service {at}"),
        "larder serve --repo ~/backups.git &".to_owned(),
        "git -C ~/backups push".to_owned(),
        "larder run --all".to_owned(),
    ];
    let done = type_in(home.path(), &commands, None);
    let said = text(&done);
    assert!(done.status.success(), "{said}");
    assert!(said.contains(&format!("target postgres, read as the role {me}")), "{said}");
    assert!(said.contains("postgres") && said.contains("success"), "{said}");
    let found =
        Command::new("find").arg(home.path().join("state/backups/postgres")).args(["-type", "f"]).output().unwrap();
    let found = text(&found);
    for file in ["shop.dump", "postgres.dump", "globals.sql"] {
        assert!(found.contains(file), "{found}");
    }
}

#[test]
fn check_tells_every_error_at_once_and_exits_with_2() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("a.yaml"),
        "kind: Target\nname: ../etc\nplugin: files\nwith: {paths: [/srv]}\n---\nkind: Policy\nname: p\nschedule: \"0 0 31 2 *\"\nretention: {daily: 7}\ndestinations: [nas]\n",
    )
    .unwrap();
    let done = Command::new(larder()).arg("check").arg(dir.path()).output().unwrap();
    assert_eq!(done.status.code(), Some(2));
    let said = text(&done);
    for expected in ["a.yaml:2:7", "a.yaml:8:", "nas"] {
        assert!(said.contains(expected), "{expected:?} is missing in:\n{said}");
    }
    let json = Command::new(larder()).args(["check", "--output", "json"]).arg(dir.path()).output().unwrap();
    let value: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(value["valid"], false);
    assert!(value["diagnostics"].as_array().unwrap().len() >= 3, "{value}");
    let github = Command::new(larder()).args(["check", "--output", "github"]).arg(dir.path()).output().unwrap();
    assert!(text(&github).starts_with("::error file=a.yaml,line=2"), "{}", text(&github));
}

#[test]
fn without_a_daemon_the_exit_code_is_4_and_the_hint_says_what_to_start() {
    let home = tempfile::tempdir().unwrap();
    let done = Command::new(larder()).arg("--state").arg(home.path()).arg("status").output().unwrap();
    assert_eq!(done.status.code(), Some(4), "{}", text(&done));
    assert!(text(&done).contains("hint:") && text(&done).contains("larder serve"), "{}", text(&done));
}

#[test]
fn usage_errors_exit_with_2() {
    let done = Command::new(larder()).args(["run", "not a name"]).output().unwrap();
    assert_eq!(done.status.code(), Some(2), "{}", text(&done));
    let done = Command::new(larder()).args(["sevre"]).output().unwrap();
    assert_eq!(done.status.code(), Some(2));
    assert!(text(&done).contains("serve"), "{}", text(&done));
}

#[test]
fn a_run_that_fails_exits_with_1_and_a_partial_one_with_3() {
    let site = Site::running();
    let run = |target: &str| site.command().args(["run", target]).output().unwrap();
    assert_eq!(run("files").status.code(), Some(0));
    let unknown = run("fiels");
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown).contains("did you mean files"), "{}", text(&unknown));
    let root = site.root().display().to_string();
    site.write(
        "config/second.yaml",
        &format!(
            "kind: Destination\nname: second\nrepository: {{type: local, path: {root}/second}}\npassword: {{file: {root}/secrets/absent}}\n"
        ),
    );
    let policy = std::fs::read_to_string(site.path("config/policies.yaml")).unwrap();
    site.write("config/policies.yaml", &policy.replace("[local]", "[local, second]"));
    assert!(site.push("two").status.success());
    let partial = run("files");
    assert_eq!(partial.status.code(), Some(3), "{}", text(&partial));
    std::fs::remove_dir_all(site.path("data")).unwrap();
    let failed = run("files");
    assert_eq!(failed.status.code(), Some(1), "{}", text(&failed));
}

#[test]
fn every_listing_prints_json_and_text() {
    let site = Site::running();
    site.run("files");
    for words in [&["status"][..], &["runs"], &["snapshots"], &["destination", "list"], &["plan"]] {
        let plain = site.command().args(words).output().unwrap();
        assert!(plain.status.success(), "{words:?}: {}", text(&plain));
        let done = site.command().args(words).args(["--output", "json"]).output().unwrap();
        assert!(done.status.success(), "{words:?}: {}", text(&done));
        let _: Value = serde_json::from_slice(&done.stdout).unwrap_or_else(|error| panic!("{words:?}: {error}"));
    }
    let status = site.command().arg("status").output().unwrap();
    assert!(text(&status).contains("files/daily"), "{}", text(&status));
    let runs = site.command().args(["runs", "--output", "json"]).output().unwrap();
    let runs: Value = serde_json::from_slice(&runs.stdout).unwrap();
    let log = site.command().args(["log", runs["items"][0]["id"].as_str().unwrap()]).output().unwrap();
    assert!(text(&log).contains("state: shipping"), "{}", text(&log));
}

#[test]
fn the_cli_restores_parts_into_a_directory() {
    let site = Site::running();
    site.run("files");
    let to = site.path("out");
    let done = site.command().args(["restore", "files", "--include", "b.txt", "--to"]).arg(&to).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    let back = to.join(site.path("data").strip_prefix("/").unwrap());
    assert!(back.join("sub/b.txt").is_file() && !back.join("a.txt").exists());
}

#[test]
fn a_pattern_that_is_none_is_refused_at_once_with_what_is_wrong_and_how_a_name_is_written() {
    let site = Site::running();
    site.write("data/[ab", "of an odd name");
    site.run("files");
    let restored = |to: &str, include: &str| {
        let to = site.path(to);
        let done = site.command().args(["restore", "files", "--include", include, "--to"]).arg(&to).output().unwrap();
        (done.status.code(), text(&done), to)
    };
    for (bad, why, name) in
        [("[ab", "is not complete", "\\[ab"), ("sub/x\\", "escapes nothing", "sub/x\\\\"), ("", "it is empty", "")]
    {
        let (code, said, to) = restored("never", bad);
        assert_eq!(code, Some(2), "{bad}: {said}");
        assert!(said.contains(why) && said.contains(name) && said.contains(bad), "{bad}: {said}");
        assert!(!said.contains("log") && !to.exists(), "{bad}: {said}");
        let refused = site.call("restore.start", json!({"target": "files", "to": to, "include": ["a.txt", bad]}));
        let refused = refused.unwrap_err();
        assert!(refused.contains(why) && !to.exists(), "{bad}: {refused}");
    }
    let (code, said, to) = restored("odd", "\\[ab");
    assert_eq!(code, Some(0), "{said}");
    let back = to.join(site.path("data").strip_prefix("/").unwrap());
    assert_eq!(std::fs::read_to_string(back.join("[ab")).unwrap(), "of an odd name");
    assert!(!back.join("a.txt").exists());
}

#[test]
fn doctor_finds_what_is_missing_and_says_what_to_type() {
    let site = Site::running();
    site.run("files");
    let done = site.command().arg("doctor").output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    let said = text(&done);
    for expected in ["restic", "artifacts", "destination local", "only one destination"] {
        assert!(said.contains(expected), "{expected:?} is missing in:\n{said}");
    }
    let mail = site.command().args(["doctor", "--mail"]).output().unwrap();
    assert_eq!(mail.status.code(), Some(1));
    assert!(text(&mail).contains("email"), "{}", text(&mail));
    std::fs::rename(site.path("restic"), site.path("away")).unwrap();
    let done = site.command().arg("doctor").output().unwrap();
    assert_eq!(done.status.code(), Some(1), "{}", text(&done));
}

#[test]
fn a_remote_daemon_needs_a_token() {
    let mut site = Site::new();
    site.base_config("\"0 3 * * *\"");
    site.write("secrets/control", "a control token for the test 0123456789\n");
    let tokens = site.path("secrets/control");
    let port = crate::support::free_port();
    let address = format!("127.0.0.1:{port}");
    site.serve_with(&["--listen", &address, "--control-tokens", tokens.to_str().unwrap()]);
    site.start();
    assert!(site.push("first").status.success());
    let url = format!("http://{address}");
    let call = |token: Option<&std::path::Path>| {
        let mut command = Command::new(larder());
        command.args(["--url", &url]);
        if let Some(token) = token {
            command.arg("--token-file").arg(token);
        }
        command.arg("status").output().unwrap()
    };
    let done = call(None);
    assert_eq!(done.status.code(), Some(1), "{}", text(&done));
    assert!(text(&done).contains("--token-file"), "{}", text(&done));
    let done = call(Some(&tokens));
    assert!(done.status.success(), "{}", text(&done));
    assert!(!text(&done).contains("0123456789"), "the token is not shown");
}

#[test]
fn export_and_import_carry_the_history_to_a_new_state() {
    let mut site = Site::running();
    site.run("files");
    let busy = site.command().arg("export").output().unwrap();
    assert_eq!(busy.status.code(), Some(1), "a running daemon holds the store: {}", text(&busy));
    site.stop();
    let file = site.path("export.ndjson");
    let done = site.command().arg("export").arg(&file).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    std::fs::rename(site.path("state"), site.path("old-state")).unwrap();
    let done = site.command().arg("import").arg(&file).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    site.start();
    let runs = site.call("run.list", serde_json::json!({})).unwrap();
    assert_eq!(runs["items"].as_array().unwrap().len(), 1);
    assert_eq!(site.run("files")["outcome"], "success", "the pinned repository is still known");
}

#[test]
fn an_export_that_cannot_be_written_is_told_by_its_name_and_leaves_the_one_of_before() {
    let mut site = Site::running();
    site.run("files");
    site.stop();
    let refused = |file: &std::path::Path| {
        let done = site.command().arg("export").arg(file).output().unwrap();
        let told = text(&done);
        assert!(!done.status.success() && told.contains(&format!("cannot write {}", file.display())), "{told}");
    };
    refused("/dev/full".as_ref());
    refused(&site.path("missing/export.ndjson"));
    let Some(disk) = SmallDisk::try_mount(&site.path("disk"), "8k") else {
        return skip(Lack::Mount, "nothing can be mounted here");
    };
    let before = site.path("disk/export.ndjson");
    std::fs::write(&before, "of before\n").unwrap();
    refused(&before);
    assert_eq!(std::fs::read_to_string(&before).unwrap(), "of before\n");
    assert_eq!(std::fs::read_dir(site.path("disk")).unwrap().count(), 1, "nothing half is left beside");
    drop(disk);
}

#[test]
fn schemas_completions_and_manual_are_printed() {
    for kind in ["config", "plugin", "manifest", "openrpc"] {
        let done = Command::new(larder()).args(["schema", kind]).output().unwrap();
        let _: Value = serde_json::from_slice(&done.stdout).unwrap_or_else(|error| panic!("{kind}: {error}"));
    }
    let done = Command::new(larder()).args(["schema", "errors"]).output().unwrap();
    let errors: Value = serde_json::from_slice(&done.stdout).unwrap();
    let of = |code: &str| errors["errors"].as_array().unwrap().iter().find(|each| each["code"] == code).cloned();
    assert_eq!(of("wrong_password").unwrap()["kind"], "unauthorized");
    assert_eq!(of("unknown_target").unwrap()["kind"], "not_found");
    assert!(of("unknown_host").unwrap()["meaning"].as_str().is_some_and(|meaning| !meaning.is_empty()));
    for shell in ["bash", "zsh", "fish"] {
        let done = Command::new(larder()).args(["completions", shell]).output().unwrap();
        assert!(done.status.success() && done.stdout.len() > 1000);
    }
    let dir = tempfile::tempdir().unwrap();
    let done = Command::new(larder()).arg("man").arg(dir.path()).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    assert!(dir.path().join("larder-serve.1").is_file());
    let done = Command::new(larder()).args(["plugin", "describe", "files"]).output().unwrap();
    assert!(text(&done).contains("paths"), "{}", text(&done));
}

#[test]
fn a_dotenv_file_starts_the_daemon() {
    let site = Site::new();
    site.base_config("\"0 3 * * *\"");
    let root = site.root().display().to_string();
    site.write("run/.env", &format!("LARDER_REPO={root}/larder.git\nLARDER_LISTEN=none\nLARDER_STATE={root}/state\n"));
    let mut daemon = Command::new(larder())
        .args(["serve", "--stop-with-stdin"])
        .current_dir(site.path("run"))
        .env_remove("LARDER_STATE")
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the daemon", Duration::from_secs(30), || site.call("system.status", serde_json::json!({})).ok());
    drop(daemon.stdin.take());
    wait_for("its end", Duration::from_secs(30), || daemon.try_wait().unwrap());
}
