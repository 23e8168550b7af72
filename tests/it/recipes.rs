//! The recipes for applications: each passes `larder check` with a small site beside it.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::site::text;
use crate::support::larder;

const BESIDE: &str = "kind: Site\nname: home\n---\nkind: Destination\nname: nas\n\
    repository: {type: local, path: /mnt/nas/restic}\npassword: {file: /etc/larder/nas}\n---\n\
    kind: Policy\nname: daily\ndefault: true\nschedule: \"0 2 * * *\"\nretention: {daily: 7}\nmax_age: 26h\n";

#[test]
fn every_recipe_passes_check() {
    let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/recipes");
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(&recipes).unwrap().flatten() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::copy(entry.path(), directory.path().join("recipe.yaml")).unwrap();
        std::fs::write(directory.path().join("site.yaml"), BESIDE).unwrap();
        let checked = Command::new(larder()).arg("check").arg(directory.path()).stdin(Stdio::null()).output().unwrap();
        let said = text(&checked);
        assert!(checked.status.success() && !said.contains("warning"), "{}:\n{said}", entry.path().display());
        seen.push(entry.file_name().into_string().unwrap());
    }
    seen.sort();
    let wanted = ["immich", "invoiceninja", "nextcloud", "paperless", "vaultwarden"];
    assert_eq!(seen, wanted.map(|name| format!("{name}.yaml")));
}
