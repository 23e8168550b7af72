//! What every client promises, asked of each storage.

use super::*;

/// Whether the storage lets files be deleted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deletes {
    Yes,
    LocksOnly,
}

/// A repository's own directories are there, `config` and all files are not.
fn conforms(client: &dyn ControlClient, deletes: Deletes) {
    let (bytes, other) = (b"a key file".to_vec(), b"another one".to_vec());
    let name = format!("keys/{}", sha256(&bytes));

    // What is not there.
    assert_eq!(client.stat("config").unwrap(), None);
    assert_eq!(client.get(&name, 100).unwrap(), None);
    assert_eq!(client.list("keys").unwrap(), []);
    if deletes == Deletes::Yes {
        assert_eq!(told(client.delete(&name)).code().name(), "not_found");
    }

    // Put, and never over another.
    client.put_new("config", b"sealed config").unwrap();
    client.put_new(&name, &bytes).unwrap();
    let stat = client.stat(&name).unwrap().unwrap();
    assert_eq!(stat.bytes, bytes.len() as u64);
    if let Some(modified) = stat.modified {
        let age = jiff::Timestamp::now().as_second() - modified.as_second();
        assert!((-120..300).contains(&age), "{modified}");
    }
    assert!(matches!(told(client.put_new(&name, &other)), StorageError::Exists { .. }));
    assert!(matches!(told(client.put_new("config", &other)), StorageError::Exists { .. }));
    assert_eq!(client.get(&name, 100).unwrap(), Some(bytes.clone()));
    assert_eq!(client.get("config", 100).unwrap().unwrap(), b"sealed config");

    // Bounds.
    assert!(matches!(told(client.get(&name, 9)), StorageError::TooLarge { bytes_max: 9, .. }));
    assert_eq!(client.get(&name, 10).unwrap(), Some(bytes.clone()));
    let large: Vec<u8> = (0..1 << 20).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let large_name = format!("snapshots/{}", sha256(&large));
    client.put_new(&large_name, &large).unwrap();
    assert!(client.get(&large_name, 1 << 20).unwrap().unwrap() == large, "1 MiB comes back as it was");

    // Names.
    for bad in ["../config", "/etc/passwd", "keys//x", "keys/../config", "", "keys/a\nb", "keys/"] {
        assert!(matches!(told(client.stat(bad)), StorageError::BadName { .. }), "{bad:?}");
        assert!(matches!(told(client.get(bad, 1)), StorageError::BadName { .. }), "{bad:?}");
        assert!(matches!(told(client.put_new(bad, b"x")), StorageError::BadName { .. }), "{bad:?}");
        assert!(matches!(told(client.delete(bad)), StorageError::BadName { .. }), "{bad:?}");
    }
    assert!(matches!(told(client.list("..")), StorageError::BadName { .. }));

    // Lists: only what lies directly there.
    let listed = client.list("keys").unwrap();
    assert_eq!(listed.iter().map(|each| (each.name.as_str(), each.bytes)).collect::<Vec<_>>(), [(&name[5..], 10)]);
    assert_eq!(client.list("index").unwrap(), []);

    // Nothing but these lies there.
    let lock = format!("locks/{}", sha256(b"a lock"));
    client.put_new(&lock, b"a lock").unwrap();
    client.delete(&lock).unwrap();
    assert_eq!(client.stat(&lock).unwrap(), None);
    assert_eq!(client.list("locks").unwrap(), []);

    let probe = client.probe();
    assert!(probe.trouble().is_none(), "{probe:?}");
    assert_eq!(probe.facts.has_repository, Some(true), "{probe:?}");
    assert_eq!(probe.facts.is_deletable, Some(deletes == Deletes::Yes), "{probe:?}");
    assert!(probe.facts.skew_s.is_none_or(|skew| skew.abs() < 60), "{probe:?}");
    assert_eq!(client.list("locks").unwrap(), [], "no probe is left");

    match deletes {
        Deletes::Yes => {
            client.delete(&name).unwrap();
            assert_eq!(client.stat(&name).unwrap(), None);
            assert!(matches!(told(client.delete(&name)), StorageError::NotFound { .. }));
            client.put_new(&name, &other).unwrap();
            client.delete(&name).unwrap();
        }
        Deletes::LocksOnly => {
            assert!(matches!(told(client.delete(&name)), StorageError::Denied { .. }));
            assert_eq!(client.get(&name, 100).unwrap(), Some(bytes));
        }
    }
}

fn make_directories(repository: &Path) {
    for name in ["data", "index", "keys", "locks", "snapshots"] {
        std::fs::create_dir_all(repository.join(name)).unwrap();
    }
}

/// Which files a repository has after [`conforms`].
fn only_expected(repository: &Path) {
    let names: Vec<String> = files_below(repository)
        .iter()
        .map(|path| path.strip_prefix(repository).unwrap().to_string_lossy().into_owned())
        .collect();
    assert!(
        matches!(names.as_slice(), [config, snapshot] if config == "config" && snapshot.starts_with("snapshots/")),
        "{names:?}"
    );
}

#[test]
fn a_directory_conforms() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let repository = directory.path().join("repo");
    let client = opened(Place::Local(repository.clone()));
    // Before it is made: what is above it is probed, and nothing is left.
    let probe = client.probe();
    assert_eq!((letters(&probe).as_str(), probe.facts.has_repository), ("oooooooo", Some(false)), "{probe:?}");
    assert!(files_below(directory.path()).is_empty());
    make_directories(&repository);
    conforms(client.as_ref(), Deletes::Yes);
    only_expected(&repository);
    // A pack lies where restic looks for it, with the rights of the config.
    std::fs::set_permissions(repository.join("config"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let id = sha256(b"pack");
    std::fs::create_dir(repository.join("data").join(&id[..2])).unwrap();
    client.put_new(&format!("data/{id}"), b"pack").unwrap();
    let pack = std::fs::metadata(repository.join("data").join(&id[..2]).join(&id)).unwrap();
    assert_eq!((pack.len(), pack.permissions().mode() & 0o777), (4, 0o640));
    // A probe that was killed is cleared away, and one that may be going on is not.
    for (name, age_s) in [("larder-probe-old", 7200), ("larder-probe-new", 60)] {
        let file = std::fs::File::create(repository.join(name)).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(age_s)).unwrap();
    }
    assert!(client.probe().trouble().is_none());
    assert!(!repository.join("larder-probe-old").exists() && repository.join("larder-probe-new").exists());
    let nowhere = opened(Place::Local(directory.path().join("a/b"))).probe();
    assert_eq!(letters(&nowhere), "ooF-----");
    assert_eq!(nowhere.trouble().unwrap().1.code().name(), "path_missing");
}

#[test]
fn a_bucket_of_rclone_conforms() {
    let keys = format!("{ACCESS_KEY},{SECRET_KEY}");
    let fill = |files: &Path| {
        let many = files.join("bucket/many/index");
        std::fs::create_dir_all(&many).unwrap();
        (0..2500).for_each(|n| std::fs::write(many.join(format!("{n:064x}")), "x").unwrap());
        std::fs::create_dir(files.join("plain")).unwrap();
    };
    let Some(server) = storages::rclone("s3", &["--auth-key", &keys], fill) else { return };
    let client = opened(Place::S3(s3(server.port, "bucket", "site/repo")));
    let probe = client.probe();
    assert_eq!((letters(&probe).as_str(), probe.facts.has_repository), ("ooooooo-", Some(false)), "{probe:?}");
    conforms(client.as_ref(), Deletes::Yes);
    only_expected(&server.files().join("bucket/site/repo"));
    conforms(opened(Place::S3(s3(server.port, "plain", ""))).as_ref(), Deletes::Yes);
    // More than a page, none twice.
    let mut listed = opened(Place::S3(s3(server.port, "bucket", "many"))).list("index").unwrap();
    listed.sort_by(|a, b| a.name.cmp(&b.name));
    listed.dedup_by(|a, b| a.name == b.name);
    assert_eq!(listed.len(), 2500);
    assert!(listed[1234].name == format!("{:064x}", 1234) && listed[1234].bytes == 1);
}

#[test]
fn a_bucket_of_moto_conforms() {
    let Some(server) = storages::moto() else { return };
    storages::http(server.port, "PUT", "/bucket", &[], b"");
    let client = opened(Place::S3(s3(server.port, "bucket", "repo")));
    conforms(client.as_ref(), Deletes::Yes);
    for n in 0..1100 {
        storages::http(
            server.port,
            "PUT",
            &format!("/bucket/repo/index/{n:064x}"),
            &[
                "Authorization: AWS4-HMAC-SHA256 Credential=a/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0",
            ],
            b"x",
        );
    }
    let listed = client.list("index").unwrap();
    assert_eq!(listed.len(), 1100);
    let missing = opened(Place::S3(s3(server.port, "no-such-bucket", ""))).probe();
    assert_eq!(letters(&missing), "ooF---o-", "{missing:?}");
    assert_eq!(missing.trouble().unwrap().1.code().name(), "bucket_missing");
}

#[test]
fn a_rest_server_conforms() {
    let login = ["--user", "backup", "--pass", PASSWORD];
    let Some(server) = storages::rclone("restic", &login, |_| ()) else { return };
    let client = opened(Place::Rest(rest(server.port)));
    let probe = client.probe();
    assert_eq!((letters(&probe).as_str(), probe.facts.has_repository), ("o--o--o-", Some(false)), "{probe:?}");
    storages::http(server.port, "POST", "/repo/?create=true", &[&basic()], b"");
    conforms(client.as_ref(), Deletes::Yes);
    only_expected(&server.files().join("repo"));
    for bad in ["larder-probe-x", "other/x"] {
        assert!(matches!(told(client.stat(bad)), StorageError::BadName { .. }));
    }
}

fn basic() -> String {
    format!("Authorization: Basic {}", data_encoding::BASE64.encode(format!("backup:{PASSWORD}").as_bytes()))
}

#[test]
fn an_append_only_rest_server_conforms_and_deletes_locks_alone() {
    let login = ["--user", "backup", "--pass", PASSWORD, "--append-only"];
    let Some(server) = storages::rclone("restic", &login, |_| ()) else { return };
    storages::http(server.port, "POST", "/repo/?create=true", &[&basic()], b"");
    let client = opened(Place::Rest(rest(server.port)));
    conforms(client.as_ref(), Deletes::LocksOnly);
    assert!(detail(&client.probe(), Question::Deletable).contains("append-only"));
}

#[test]
fn sftp_by_a_password_conforms() {
    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("host");
    storages::key(&key);
    let login = ["--user", "backup", "--pass", PASSWORD, "--key", key.to_str().unwrap()];
    let Some(server) = storages::rclone("sftp", &login, |files| make_directories(&files.join("a repo"))) else {
        return;
    };
    let place = SftpPlace {
        password: Some(SecretString::from(PASSWORD)),
        ..sftp(server.port, "/a repo", storages::public(&key))
    };
    let client = opened(Place::Sftp(place));
    conforms(client.as_ref(), Deletes::Yes);
    only_expected(&server.files().join("a repo"));
}

#[test]
fn sftp_by_a_key_conforms() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = storages::sshd();
    // A name that a shell, and sftp's patterns, would take for something else.
    let repository = server.files().join("re po [a]*\"q\" $(id)");
    let client = opened(Place::Sftp(sftp_by_key(&server, &repository)));
    let probe = client.probe();
    assert_eq!((letters(&probe).as_str(), probe.facts.has_repository), ("oooooooo", Some(false)), "{probe:?}");
    assert!(files_below(&server.files()).is_empty());
    make_directories(&repository);
    conforms(client.as_ref(), Deletes::Yes);
    only_expected(&repository);
    std::fs::set_permissions(repository.join("config"), std::fs::Permissions::from_mode(0o640)).unwrap();
    client.put_new("keys/shared", b"x").unwrap();
    assert_eq!(std::fs::metadata(repository.join("keys/shared")).unwrap().permissions().mode() & 0o777, 0o640);
    let nowhere = opened(Place::Sftp(sftp_by_key(&server, &server.files().join("x/y")))).probe();
    assert_eq!(letters(&nowhere), "ooF-----", "{nowhere:?}");
    assert_eq!(nowhere.trouble().unwrap().1.code().name(), "path_missing");
}
