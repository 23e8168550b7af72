//! Wrong keys, wrong hosts, and servers that say nothing, too little or the wrong thing.

use std::io::Write as _;
use std::time::Instant;

use super::*;

/// A probe of a place that does not answer may take so long here, where much goes on beside it.
const PROBE_BOUND: Duration = Duration::from_secs(8);

/// The letters, and the code of the first failure.
fn probed(place: Place) -> (String, String) {
    let client = opened(place);
    let start = Instant::now();
    let probe = client.probe();
    assert!(start.elapsed() < PROBE_BOUND, "{:?}: {probe:?}", start.elapsed());
    let start = Instant::now();
    drop(client);
    assert!(start.elapsed() < Duration::from_secs(1), "dropping a client waits for nobody");
    let code = probe.trouble().map_or(String::new(), |(_, error)| error.code().name().to_owned());
    if let Some((_, error)) = probe.trouble() {
        assert!(error.hint().is_some(), "{error:?}");
    }
    (letters(&probe), code)
}

fn said(letters: &str, code: &str) -> (String, String) {
    (letters.to_owned(), code.to_owned())
}

#[test]
fn wrong_keys_of_a_bucket_are_told_as_such() {
    let keys = format!("{ACCESS_KEY},{SECRET_KEY}");
    let fill = |files: &Path| std::fs::create_dir(files.join("bucket")).unwrap();
    let Some(server) = storages::rclone("s3", &["--auth-key", &keys], fill) else { return };
    let right = s3(server.port, "bucket", "");
    let wrong = S3Place { secret_key: SecretString::from("wr0ng-secret"), ..right.clone() };
    assert_eq!(probed(Place::S3(wrong.clone())), said("oF----o-", "unauthorized"));
    let client = opened(Place::S3(wrong));
    // A HEAD has no words: it is asked again.
    for error in [
        told(client.stat("config")),
        told(client.put_new("keys/a", b"x")),
        told(client.get("config", 10)),
        told(client.list("keys")),
        told(client.delete("keys/a")),
    ] {
        assert!(matches!(error, StorageError::Login { .. }), "{error:?}");
    }
    let other = S3Place { access_key: SecretString::from("AKOTHER"), ..right.clone() };
    assert_eq!(probed(Place::S3(other)), said("oF----o-", "unauthorized"));
    let bucket = S3Place { bucket: "other-bucket".to_owned(), ..right.clone() };
    assert_eq!(probed(Place::S3(bucket.clone())), said("ooF---o-", "bucket_missing"));
    assert!(matches!(told(opened(Place::S3(bucket)).stat("config")), StorageError::BucketMissing { .. }));
    for (place, code) in [
        (S3Place { endpoint: "http://s3.example.org".to_owned(), ..right.clone() }, "clear_text"),
        (S3Place { endpoint: "nas".to_owned(), ..right.clone() }, "bad_url"),
        (S3Place { bucket: "a/b".to_owned(), ..right.clone() }, "bad_storage"),
        (S3Place { prefix: "../x".to_owned(), ..right.clone() }, "bad_storage"),
        (S3Place { style: BucketStyle::Virtual, ..right.clone() }, "bad_storage"),
        (S3Place { tls: Tls { ca: Some("/none".into()), fingerprint: None }, ..right }, "bad_tls"),
    ] {
        assert_eq!(told(open(&Place::S3(place), PATIENCE)).code().name(), code);
    }
}

#[test]
fn wrong_passwords_are_told_as_such() {
    let login = ["--user", "backup", "--pass", PASSWORD];
    let Some(server) = storages::rclone("restic", &login, |_| ()) else { return };
    let wrong = RestPlace { password: Some(SecretString::from("wr0ng-secret")), ..rest(server.port) };
    assert_eq!(probed(Place::Rest(wrong.clone())), said("oF----o-", "unauthorized"));
    assert!(matches!(told(opened(Place::Rest(wrong)).put_new("config", b"x")), StorageError::Login { .. }));
    assert_eq!(probed(Place::Rest(RestPlace { user: None, password: None, ..rest(server.port) })).1, "unauthorized");

    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("host");
    storages::key(&key);
    let login = [&login[..], &["--key", key.to_str().unwrap()]].concat();
    let Some(server) = storages::rclone("sftp", &login, |_| ()) else { return };
    let place = sftp(server.port, "/", storages::public(&key));
    let wrong = SftpPlace { password: Some(SecretString::from("wr0ng-secret")), ..place };
    assert_eq!(probed(Place::Sftp(wrong)), said("oF------", "unauthorized"));
}

#[test]
fn hosts_and_logins_of_ssh_that_are_not_right_are_told_apart() {
    let server = storages::sshd();
    let at = |name: &str| server.directory.path().join(name);
    let right = sftp_by_key(&server, &server.files());
    let other = SecretString::from(std::fs::read_to_string(at("other-login")).unwrap());
    let refused = SftpPlace { key: Some(other), ..right.clone() };
    assert_eq!(probed(Place::Sftp(refused.clone())), said("oF------", "unauthorized"));
    let message = told(opened(Place::Sftp(refused)).stat("config")).to_string();
    assert!(message.contains("it takes publickey"), "{message}");
    let broken = SftpPlace { key: Some(SecretString::from("wr0ng-secret")), ..right.clone() };
    let message = told(opened(Place::Sftp(broken)).stat("config")).to_string();
    assert!(message.contains("the key cannot be used"), "{message}");

    let changed = SftpPlace { known_hosts: vec![storages::public(&at("other-host"))], ..right.clone() };
    assert_eq!(probed(Place::Sftp(changed.clone())), said("F-------", "host_key_changed"));
    let error = told(opened(Place::Sftp(changed)).stat("config"));
    assert!(error.to_string().contains("it has SHA256:"), "{error}");
    let unknown = SftpPlace { known_hosts: Vec::new(), ..right.clone() };
    assert_eq!(probed(Place::Sftp(unknown.clone())), said("F-------", "host_key_unknown"));
    let hint = told(opened(Place::Sftp(unknown)).stat("config")).hint().unwrap();
    assert!(hint.contains(&storages::public(&at("host"))), "{hint}");

    let nobody = SftpPlace { port: support::free_port(), ..right.clone() };
    assert_eq!(probed(Place::Sftp(nobody)), said("F-------", "unreachable"));
    let no_ssh = SftpPlace { port: storages::toxic(|_, _| ()), ..right.clone() };
    assert_eq!(probed(Place::Sftp(no_ssh)).0, "F-------");
    for bad in [
        SftpPlace { host: "-oProxyCommand=x".to_owned(), ..right.clone() },
        SftpPlace { user: "-x".to_owned(), ..right.clone() },
        SftpPlace { path: "repo".to_owned(), ..right.clone() },
        SftpPlace { path: "/repo\n!id".to_owned(), ..right.clone() },
        SftpPlace { key: None, ..right.clone() },
    ] {
        assert_eq!(told(open(&Place::Sftp(bad), PATIENCE)).code().name(), "bad_storage");
    }
    // The login is let in and has no SFTP.
    let config = std::fs::read_to_string(at("config")).unwrap().replace("Subsystem", "#Subsystem");
    std::fs::write(at("config"), config).unwrap();
    let key = std::fs::read_to_string(at("login.pub")).unwrap();
    std::fs::write(at("authorized"), format!("command=\"echo welcome to this host\" {key}")).unwrap();
    assert_eq!(probed(Place::Sftp(right)), said("oF------", "not_sftp"));
}

#[test]
fn a_directory_that_may_only_be_read_is_told_by_sftp_and_here() {
    let server = storages::sshd();
    let at = |name: &str| server.directory.path().join(name);
    let key = std::fs::read_to_string(at("login.pub")).unwrap();
    std::fs::write(at("authorized"), format!("command=\"internal-sftp -R\" {key}")).unwrap();
    std::fs::create_dir(server.files().join("keys")).unwrap();
    std::fs::write(server.files().join("config"), "sealed").unwrap();
    let place = sftp_by_key(&server, &server.files());
    assert_eq!(probed(Place::Sftp(place.clone())), said("ooooF--o", "storage_denied"));
    let client = opened(Place::Sftp(place));
    assert_eq!(client.get("config", 100).unwrap().unwrap(), b"sealed");
    assert!(matches!(told(client.put_new("keys/a", b"x")), StorageError::Denied { .. }));
    assert!(matches!(told(client.delete("config")), StorageError::Denied { .. }));
    assert_eq!(files_below(&server.files()), [server.files().join("config")]);
    // Nobody, root included, makes a file there.
    let (letters, code) = probed(Place::Local("/proc/self/task".into()));
    assert!(letters.starts_with("ooooF") && code == "unwritable", "{letters} {code}");
}

#[test]
fn a_black_hole_is_told_within_seconds_by_every_client() {
    let port = storages::black_hole();
    let key = tempfile::tempdir().unwrap();
    storages::key(&key.path().join("host"));
    let login = SftpPlace {
        password: Some(SecretString::from(PASSWORD)),
        ..sftp(port, "/repo", storages::public(&key.path().join("host")))
    };
    assert_eq!(probed(Place::S3(s3(port, "bucket", ""))), said("F-------", "silent"));
    assert_eq!(probed(Place::Rest(rest(port))), said("F-------", "silent"));
    assert_eq!(probed(Place::Sftp(login.clone())), said("F-------", "silent"));
    // A name that nobody knows.
    let host = "no-such-host.invalid";
    let (letters, code) = probed(Place::Sftp(SftpPlace { host: host.to_owned(), ..login }));
    assert!(letters == "F-------" && ["unknown_host", "silent"].contains(&code.as_str()), "{code}");
    let url = format!("https://{host}/repo");
    let (letters, code) = probed(Place::Rest(RestPlace { url, ..rest(port) }));
    assert!(letters == "F-------" && ["unknown_host", "unreachable", "silent"].contains(&code.as_str()), "{code}");
    let closed = support::free_port();
    assert_eq!(probed(Place::S3(s3(closed, "bucket", ""))), said("F-------", "unreachable"));
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

#[test]
fn what_servers_say_of_errors_is_told_as_what_it_means() {
    let ago = |seconds: i64| {
        let at = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(seconds);
        format!("Date: {}\r\n", at.strftime("%a, %d %b %Y %H:%M:%S GMT"))
    };
    let s3_error = |code: &str, more: &str| format!("<Error><Code>{code}</Code><Message>no</Message>{more}</Error>");
    for (status, headers, body, code) in [
        ("403 Forbidden", String::new(), s3_error("AccessDenied", ""), "storage_denied"),
        ("503 Slow Down", String::new(), s3_error("SlowDown", ""), "storage_busy"),
        ("503 Service Unavailable", String::new(), "<html>".to_owned(), "storage_busy"),
        ("403 Forbidden", ago(1200), s3_error("RequestTimeTooSkewed", ""), "clock_skewed"),
        ("301 Moved", String::new(), s3_error("PermanentRedirect", "<Region>eu-west-1</Region>"), "wrong_region"),
        ("301 Moved", "x-amz-bucket-region: eu-west-1\r\n".to_owned(), String::new(), "wrong_region"),
        ("200 OK", String::new(), "<html><p>login</html>".to_owned(), "unexpected_answer"),
        ("200 OK", String::new(), "{}".to_owned(), "unexpected_answer"),
        ("302 Found", "Location: https://elsewhere.example\r\n".to_owned(), String::new(), "unexpected_answer"),
    ] {
        let said = answer(status, &headers, &body);
        let port = storages::toxic(move |_, stream| drop(stream.write_all(said.as_bytes())));
        let client = opened(Place::S3(s3(port, "bucket", "")));
        let probe = client.probe();
        let (_, error) = probe.trouble().expect(code);
        no_secret(error);
        assert_eq!(error.code().name(), code, "{error:?}");
        if code == "clock_skewed" {
            assert!((-1210..=-1190).contains(&probe.facts.skew_s.unwrap()), "{probe:?}");
            assert!(detail(&probe, Question::Clock).contains("behind this host"), "{probe:?}");
        }
        if code == "wrong_region" {
            assert_eq!(error.hint().unwrap(), "write `region: eu-west-1`");
        }
    }
    for (status, code) in [
        ("403 Forbidden", "storage_denied"),
        ("503 Service Unavailable", "storage_busy"),
        ("507 Insufficient Storage", "disk_full"),
        ("500 Internal Server Error", "unexpected_answer"),
    ] {
        let said = answer(status, "", "");
        let port = storages::toxic(move |_, stream| drop(stream.write_all(said.as_bytes())));
        assert_eq!(told(opened(Place::Rest(rest(port))).stat("config")).code().name(), code);
    }
}

#[test]
fn an_answer_that_is_cut_or_drips_is_no_answer() {
    let cut = |_: &str, stream: &mut std::net::TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    };
    let port = storages::toxic(cut);
    assert_eq!(told(opened(Place::S3(s3(port, "bucket", ""))).get("config", 1000)).code().name(), "storage_cut");
    assert_eq!(told(opened(Place::Rest(rest(port))).get("config", 1000)).code().name(), "storage_cut");
    assert_eq!(told(opened(Place::Rest(rest(port))).list("keys")).code().name(), "storage_cut");
    // A byte now and then: no silence is long, and the probe ends all the same.
    let drips = |_: &str, stream: &mut std::net::TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
        while stream.write_all(b"<").is_ok() {
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    assert_eq!(probed(Place::S3(s3(storages::toxic(drips), "bucket", ""))).1, "silent");
    // A page of a list that names itself as the next.
    let endless = "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>a</NextContinuationToken>\
                   </ListBucketResult>";
    let said = answer("200 OK", "", endless);
    let port = storages::toxic(move |_, stream| drop(stream.write_all(said.as_bytes())));
    let error = told(opened(Place::S3(s3(port, "bucket", ""))).list("keys"));
    assert_eq!(error.code().name(), "unexpected_answer");
}

#[test]
fn a_certificate_that_is_not_trusted_is_told_with_its_fingerprint() {
    let keys = format!("{ACCESS_KEY},{SECRET_KEY}");
    let directory = tempfile::tempdir().unwrap();
    support::certificate(directory.path());
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let options = ["--auth-key", &keys, "--cert", &at("server.crt"), "--key", &at("server.key")];
    let fill = |files: &Path| std::fs::create_dir(files.join("bucket")).unwrap();
    let Some(server) = storages::rclone("s3", &options, fill) else { return };
    let place = S3Place { endpoint: format!("https://127.0.0.1:{}", server.port), ..s3(server.port, "bucket", "") };
    let (letters, code) = probed(Place::S3(place.clone()));
    assert_eq!((letters.as_str(), code.as_str()), ("F-------", "certificate_untrusted"));
    let hint = told(opened(Place::S3(place.clone())).list("keys")).hint().unwrap();
    let fingerprint = hint.split('"').nth(1).unwrap().to_owned();
    let pinned = Tls { ca: None, fingerprint: Some(fingerprint) };
    assert_eq!(probed(Place::S3(S3Place { tls: pinned, ..place.clone() })).1, "");
    let other = Tls { ca: None, fingerprint: Some("ab".repeat(32)) };
    assert_eq!(probed(Place::S3(S3Place { tls: other, ..place })).1, "certificate_changed");
}

#[test]
fn the_program_answers_ssh_for_a_password_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    std::fs::write(&file, PASSWORD).unwrap();
    let ask = |question: &str, file: &Path| {
        let mut command = std::process::Command::new(support::larder());
        command.arg(question).env("LARDER_ASKPASS_FILE", file).output().unwrap()
    };
    let answered = ask("backup@nas's password: ", &file);
    assert_eq!((answered.status.code(), answered.stdout), (Some(0), format!("{PASSWORD}\n").into_bytes()));
    for question in ["Are you sure you want to continue connecting (yes/no)? ", "Enter passphrase for key 'x': ", ""] {
        let answered = ask(question, &file);
        assert_eq!((answered.status.code(), answered.stdout.len()), (Some(1), 0), "{question}");
    }
    assert_eq!(ask("password: ", Path::new("/none")).status.code(), Some(1));
}
