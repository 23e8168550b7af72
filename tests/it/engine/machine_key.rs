//! The key that this machine has in a repository, with restic 0.18 and 0.19 themselves.

use std::os::unix::fs::PermissionsExt as _;

use larder::engine::KeyUse;

use super::*;

/// A restic that writes down what it was called with.
fn recorder(place: &Path, program: &Path) -> PathBuf {
    let recorder = place.join("restic");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = version ] || {{ echo \"$*\"; env; }} >> {}\nexec {} \"$@\"\n",
        place.join("calls").display(),
        program.display()
    );
    std::fs::write(&recorder, script).unwrap();
    std::fs::set_permissions(&recorder, std::fs::Permissions::from_mode(0o700)).unwrap();
    recorder
}

impl Place {
    fn keys(&self) -> Vec<String> {
        let listed = std::fs::read_dir(self.path("repo/keys")).unwrap();
        listed.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// The one file in which the secret is kept.
    fn kept(&self) -> PathBuf {
        let mut all = std::fs::read_dir(self.path("cache/machine-keys")).unwrap();
        let kept = all.next().unwrap().unwrap().path();
        assert!(all.next().is_none());
        kept
    }

    /// Another process, as after a restart.
    async fn restarted(&mut self, program: &Path) {
        self.restic = Restic::probe(Some(program)).await.unwrap().with_lock_wait(Duration::from_secs(1));
    }
}

#[tokio::test]
async fn restic_opens_the_repository_with_it_and_its_secret_is_nowhere_else() {
    for program in programs() {
        let scripts = tempfile::tempdir().unwrap();
        let recorder = recorder(scripts.path(), &program);
        let place = Place::opened(&recorder).await;
        place.write("a", "1");
        let kept = place.kept();
        assert_eq!(place.keys().len(), 2);
        assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(kept.parent().unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let value: serde_json::Value = serde_json::from_slice(&std::fs::read(&kept).unwrap()).unwrap();
        let (key, secret) = (value["key"].as_str().unwrap().to_owned(), value["secret"].as_str().unwrap().to_owned());
        let calls = || std::fs::read_to_string(scripts.path().join("calls")).unwrap();
        let by_key = format!("RESTIC_KEY_HINT={key}");
        assert!(!calls().contains("RESTIC_KEY_HINT="), "{}", calls());
        let master = std::process::Command::new(&program)
            .args(["-r", place.path("repo").to_str().unwrap(), "cat", "masterkey", "--no-cache"])
            .env("RESTIC_PASSWORD", "hunter2 with spaces")
            .output()
            .unwrap();
        let master: serde_json::Value = serde_json::from_slice(&master.stdout).unwrap();

        std::fs::remove_file(scripts.path().join("calls")).unwrap();
        let report = place.backup().await.unwrap();
        let list = place.restic.snapshots(&place.access, &[], &place.context).await.unwrap();
        assert_eq!(list.len(), 1);
        assert_eq!(list[0].id, report.snapshot);
        assert_eq!(calls().matches(&by_key).count(), 2, "{}", calls());
        let keys = place.restic.keys(&place.access, &place.context).await.unwrap();
        let of = |used_for| keys.iter().filter(|key| key.used_for == used_for).collect::<Vec<_>>();
        assert_eq!((of(KeyUse::Password).len(), of(KeyUse::ThisMachine).len(), keys.len()), (1, 1, 2), "{keys:?}");
        let line = of(KeyUse::ThisMachine)[0].line("nas");
        assert!(line.starts_with(&format!("key {} of larder:", &key[..10])), "{line}");
        // A check goes by the password, so that one that opens nothing any more is found.
        std::fs::remove_file(scripts.path().join("calls")).unwrap();
        place.restic.check(&place.access, None, &place.context).await.unwrap();
        assert!(!calls().contains("RESTIC_KEY_HINT="), "{}", calls());

        let shown = format!("{}{}", calls(), place.log());
        for hidden in [&secret, master["encrypt"].as_str().unwrap(), "hunter2"] {
            assert!(!shown.contains(hidden));
        }
        let found =
            std::process::Command::new("grep").args(["-rlF", &secret]).arg(place.directory.path()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout).trim(), kept.to_str().unwrap());
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_although_there_is_a_machine_key() {
    let program = programs().pop().unwrap();
    let mut place = Place::opened(&program).await;
    place.write("a", "1");
    place.backup().await.unwrap();
    let right = std::mem::replace(&mut place.access.password, SecretString::from("another".to_owned()));
    assert_eq!(place.backup().await.unwrap_err().code(), "wrong_password");
    place.restarted(&program).await;
    assert_eq!(place.backup().await.unwrap_err().code(), "wrong_password");
    place.access.password = right;
    place.backup().await.unwrap();
    // The password's own key is taken out of the repository: the next check tells.
    let by_password = |keys: Vec<String>| {
        let kept = std::fs::read_to_string(place.kept()).unwrap();
        keys.into_iter().find(|key| !kept.contains(key.as_str())).unwrap()
    };
    let gone = by_password(place.keys());
    std::fs::rename(place.path("repo/keys").join(&gone), place.path("aside")).unwrap();
    place.backup().await.unwrap();
    let error = place.restic.check(&place.access, None, &place.context).await.unwrap_err();
    assert_eq!(error.code(), "wrong_password", "{error}");
}

#[tokio::test]
async fn one_that_is_lost_or_opens_nothing_is_made_anew() {
    for program in programs() {
        let place = Place::opened(&program).await;
        place.write("a", "1");
        place.backup().await.unwrap();
        let is_machines = |key: &String| std::fs::read_to_string(place.kept()).unwrap().contains(key.as_str());
        let key = place.keys().into_iter().find(is_machines).unwrap();
        // Somebody removed it from the repository.
        std::fs::remove_file(place.path("repo/keys").join(&key)).unwrap();
        place.backup().await.unwrap();
        assert!(place.log().contains("the machine key does not open the repository"), "{}", place.log());
        place.restic.have_machine_key(&place.access, &place.context).await;
        assert_eq!(place.keys().len(), 2);
        assert!(!place.keys().contains(&key));
        // The state directory is lost, or the file is damaged: one slow call, and another key.
        for damage in ["", "{\"repository\":", "{}"] {
            std::fs::write(place.kept(), damage).unwrap();
            place.backup().await.unwrap();
            place.restic.have_machine_key(&place.access, &place.context).await;
            place.backup().await.unwrap();
        }
        // At the same place lies another repository: its id is told, and nothing is opened with the old key.
        std::fs::remove_dir_all(place.path("repo")).unwrap();
        let mut other = Place::with(&program).await;
        other.lies_at(place.path("repo"));
        other.access.cache.clone_from(&place.access.cache);
        other.pin().await;
        assert_eq!(place.keys().len(), 2);
        assert_eq!(place.backup().await.unwrap_err().code(), "repository_replaced");
        other.write("b", "2");
        other.backup().await.unwrap();
    }
}

#[tokio::test]
async fn none_is_made_where_it_is_not_wanted_or_cannot_be_put() {
    let program = programs().pop().unwrap();
    let mut place = Place::with(&program).await;
    place.access.machine_key = false;
    place.pin().await;
    place.write("a", "1");
    place.backup().await.unwrap();
    assert_eq!(place.keys().len(), 1);
    assert!(!place.path("cache/machine-keys").exists());
    // What cannot be put into the repository is not kept either, and the backup goes on by the password.
    place.access.machine_key = true;
    std::fs::write(place.path("cache/machine-keys"), "in the way").unwrap();
    place.restic.have_machine_key(&place.access, &place.context).await;
    assert_eq!(place.keys().len(), 1, "a key whose secret nobody has");
    assert!(place.log().contains("there is no machine key, so each call takes longer"), "{}", place.log());
    place.backup().await.unwrap();
}
