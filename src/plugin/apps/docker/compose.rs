//! The files that a stack is made of: those that the containers' labels name, and those that these name in turn
//! (`env_file`, `include`, `extends`, `configs`, `secrets`); what is found is kept, what is not is told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde_yaml::Value;

use crate::plugin::apps::docker::inventory::Container;

const LABEL_WORKING_DIR: &str = "com.docker.compose.project.working_dir";
const LABEL_CONFIG_FILES: &str = "com.docker.compose.project.config_files";
const LABEL_ENV_FILES: &str = "com.docker.compose.project.environment_file";

/// More files than this of one stack are not followed.
const FILES_MAX: usize = 500;
/// Longest compose file that is read for what it names, in bytes.
const BYTES_MAX: u64 = 4 << 20;

/// A file of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StackFile {
    pub(super) path: PathBuf,
    /// Its absence is told.
    pub(super) needed: bool,
    /// Which file or label names it.
    pub(super) named_by: String,
}

/// What a stack is made of.
#[derive(Debug, Default)]
pub(super) struct Stack {
    /// In order, each once.
    pub(super) files: Vec<StackFile>,
    /// Services whose image is built from a directory, which is not kept.
    pub(super) built: BTreeSet<String>,
    /// What names a file in a way that cannot be followed.
    pub(super) unfollowed: Vec<String>,
}

/// Looks up all files of the containers' stacks; without `env`, none that usually holds passwords.
pub(super) fn stack(containers: &[Container], env: bool) -> Stack {
    let mut stack = Stack::default();
    for container in containers {
        let directory = container.label(LABEL_WORKING_DIR).map(PathBuf::from);
        let list = |label: &str| -> Vec<PathBuf> {
            let all = container.label(label).unwrap_or_default().split(',').map(PathBuf::from);
            all.filter(|path| path.is_absolute()).collect()
        };
        let named = list(LABEL_ENV_FILES);
        let default = directory.as_ref().map(|directory| directory.join(".env"));
        let mut variables = BTreeMap::new();
        for path in default.iter().chain(&named) {
            variables.extend(dotenv(path));
        }
        for path in list(LABEL_CONFIG_FILES) {
            let directory = directory.clone().unwrap_or_else(|| parent(&path));
            stack.add(&path, true, "a container's label");
            stack.follow(&path, &directory, &variables, env);
        }
        if env {
            for path in &named {
                stack.add(path, true, "a container's label");
            }
            if let Some(path) = &default {
                stack.add(path, false, "compose");
            }
        }
    }
    stack
}

impl Stack {
    fn add(&mut self, path: &Path, needed: bool, named_by: &str) {
        let path = plain(path);
        let has_room = self.files.len() < FILES_MAX;
        match self.files.iter_mut().find(|each| each.path == path) {
            Some(there) => there.needed |= needed,
            None if has_room => {
                self.files.push(StackFile { path, needed, named_by: named_by.to_owned() });
            }
            None => {}
        }
    }

    /// Adds what the compose file at `path` names; relative paths are of `directory`.
    fn follow(&mut self, path: &Path, directory: &Path, variables: &BTreeMap<String, String>, env: bool) {
        let file = match read(path) {
            Ok(file) => file,
            Err(why) => return self.unfollowed.push(format!("all that {} names ({why})", path.display())),
        };
        let mut wanted: Vec<(&str, bool)> = Vec::new();
        let mut further: Vec<(&str, Option<&str>)> = Vec::new();
        for (name, service) in entries(file.get("services")) {
            if service.get("build").is_some() {
                self.built.insert(name.to_owned());
            }
            if env {
                each_of(service.get("env_file"), &mut |one| {
                    let needed = one.get("required").and_then(Value::as_bool).unwrap_or(true);
                    wanted.extend(text_or(one, "path").map(|path| (path, needed)));
                });
            }
            each_of(service.get("label_file"), &mut |one| wanted.extend(one.as_str().map(|path| (path, true))));
            further.extend(
                service.get("extends").and_then(|extends| extends.get("file")?.as_str()).map(|path| (path, None)),
            );
        }
        wanted.extend(entries(file.get("configs")).filter_map(|(_, each)| Some((each.get("file")?.as_str()?, true))));
        if env {
            wanted
                .extend(entries(file.get("secrets")).filter_map(|(_, each)| Some((each.get("file")?.as_str()?, true))));
        }
        each_of(file.get("include"), &mut |one| {
            let at = one.get("project_directory").and_then(Value::as_str);
            match one.get("path") {
                Some(path) => each_of(Some(path), &mut |path| further.extend(path.as_str().map(|path| (path, at)))),
                None => further.extend(one.as_str().map(|path| (path, None))),
            }
            if env {
                each_of(one.get("env_file"), &mut |path| wanted.extend(path.as_str().map(|path| (path, true))));
            }
        });
        let named_by = path.display().to_string();
        for (named, needed) in wanted {
            match filled(named, variables) {
                Some(named) => self.add(&directory.join(named), needed, &named_by),
                None => self.unfollowed.push(format!("{named} in {named_by}")),
            }
        }
        for (named, at) in further {
            let Some(named) = filled(named, variables) else {
                self.unfollowed.push(format!("{named} in {named_by}"));
                continue;
            };
            // What lies elsewhere, such as `oci://…` and a repository.
            if named.contains("://") {
                continue;
            }
            let next = plain(&directory.join(named));
            if self.files.iter().any(|each| each.path == next) {
                continue;
            }
            self.add(&next, true, &named_by);
            let below = at.map_or_else(|| parent(&next), |at| directory.join(at));
            self.follow(&next, &below, variables, env);
        }
    }
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or_else(|| Path::new("/")).to_owned()
}

/// Without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(plain.pop()),
            other => plain.push(other),
        }
    }
    plain
}

/// A compose file, with what it merges into its services (`<<`); `null` is none, and what is not there is told elsewhere.
fn read(path: &Path) -> Result<Value, String> {
    let found = match std::fs::metadata(path) {
        Ok(found) if found.is_file() => found,
        _ => return Ok(Value::Null),
    };
    if found.len() > BYTES_MAX {
        return Err(format!("it has {} bytes, at most {BYTES_MAX} are read", found.len()));
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("it cannot be read: {error}"))?;
    let mut file: Value = serde_yaml::from_str(&text).map_err(|_| "it is no YAML".to_owned())?;
    file.apply_merge().map_err(|_| "what it merges with `<<` is no mapping".to_owned())?;
    Ok(file)
}

fn entries(value: Option<&Value>) -> impl Iterator<Item = (&str, &Value)> {
    let mapping = value.and_then(Value::as_mapping);
    mapping.into_iter().flatten().filter_map(|(name, value)| Some((name.as_str()?, value)))
}

/// One or a list of them.
fn each_of<'v>(value: Option<&'v Value>, on_each: &mut dyn FnMut(&'v Value)) {
    match (value, value.and_then(Value::as_sequence)) {
        (_, Some(all)) => all.iter().for_each(on_each),
        (Some(one), None) => on_each(one),
        (None, None) => {}
    }
}

fn text_or<'v>(value: &'v Value, field: &str) -> Option<&'v str> {
    value.as_str().or_else(|| value.get(field)?.as_str())
}

/// With the variables filled in; none: one is not known.
fn filled(text: &str, variables: &BTreeMap<String, String>) -> Option<String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('$') {
        filled.push_str(before);
        if let Some(behind) = behind.strip_prefix('$') {
            filled.push('$');
            rest = behind;
            continue;
        }
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (name, default, behind) = match behind.strip_prefix('{') {
            Some(inner) => {
                let (inner, behind) = inner.split_once('}')?;
                let end = inner.find(|c| !is_part(c)).unwrap_or(inner.len());
                let (name, rule) = inner.split_at(end);
                (name, rule.strip_prefix(":-").or_else(|| rule.strip_prefix('-')), behind)
            }
            None => {
                let end = behind.find(|c| !is_part(c)).unwrap_or(behind.len());
                let (name, behind) = behind.split_at(end);
                (name, None, behind)
            }
        };
        filled.push_str(variables.get(name).map(String::as_str).filter(|value| !value.is_empty()).or(default)?);
        rest = behind;
    }
    filled.push_str(rest);
    Some(filled)
}

fn dotenv(path: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let pair = |line: &str| {
        let line = line.trim().strip_prefix("export ").unwrap_or(line.trim());
        let (name, value) = line.split_once('=')?;
        let bare = value.trim();
        let bare = ['"', '\''].iter().find_map(|c| bare.strip_prefix(*c)?.strip_suffix(*c)).unwrap_or(bare);
        (!name.starts_with('#')).then(|| (name.trim().to_owned(), bare.to_owned()))
    };
    text.lines().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::apps::docker::inventory::tests::container;

    #[test]
    fn what_is_merged_tagged_or_an_alias_is_found_and_what_cannot_be_read_is_told() {
        let home = tempfile::tempdir().unwrap();
        let compose = "
x-common: &common {env_file: anchored.env}
x-more: &more {label_file: labels}
x-envs: &envs [listed.env]
services:
  app: {<<: [*common, *more], image: x}
  two: {image: x, env_file: *envs}
  three: {image: x, env_file: !override [tagged.env]}
include: [broken.yaml]
";
        let file = home.path().join("compose.yaml").display().to_string();
        std::fs::write(&file, compose).unwrap();
        std::fs::write(home.path().join("broken.yaml"), "a: [").unwrap();
        let directory = home.path().display().to_string();
        let labels = [(LABEL_WORKING_DIR, directory.as_str()), (LABEL_CONFIG_FILES, file.as_str())];
        let found = stack(&[container("app", &labels, &[])], true);
        for name in ["anchored.env", "labels", "listed.env", "tagged.env", "broken.yaml"] {
            assert!(found.files.iter().any(|each| each.path.ends_with(name)), "{name}: {:?}", found.files);
        }
        assert!(found.unfollowed.iter().any(|told| told.contains("broken.yaml names")), "{:?}", found.unfollowed);
    }

    #[test]
    fn all_that_a_stack_needs_is_found() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        std::fs::create_dir(at("more")).unwrap();
        std::fs::write(at(".env"), "STAGE=\"prod\"\n# NO=1\n").unwrap();
        let compose = "
services:
  app:
    build: .
    env_file: [app.env, {path: ./maybe.env, required: false}, '${STAGE}.env', '${NONE:-default}.env', '$UNKNOWN.env']
  base: {extends: {file: base.yaml, service: x}}
  one: {env_file: one.env}
configs: {nginx: {file: ./nginx.conf}, other: {external: true}}
secrets: {token: {file: ../secret-of-the-test.txt}}
include: [more/compose.yaml, {path: [third.yaml], env_file: third.env}, 'oci://registry/x']
";
        std::fs::write(at("compose.yaml"), compose).unwrap();
        std::fs::write(at("more/compose.yaml"), "services: {deep: {env_file: deep.env}}\n").unwrap();
        let directory = home.path().display().to_string();
        let file = at("compose.yaml").display().to_string();
        let labels = [(LABEL_WORKING_DIR, directory.as_str()), (LABEL_CONFIG_FILES, file.as_str())];
        let found = stack(&[container("app", &labels, &[])], true);
        let mut wanted: Vec<PathBuf> = [
            "compose.yaml",
            "app.env",
            "maybe.env",
            "prod.env",
            "default.env",
            "base.yaml",
            "one.env",
            "nginx.conf",
            "more/compose.yaml",
            "more/deep.env",
            "third.yaml",
            "third.env",
            ".env",
        ]
        .iter()
        .map(|name| at(name))
        .collect();
        wanted.push(home.path().parent().unwrap().join("secret-of-the-test.txt"));
        let mut paths: Vec<PathBuf> = found.files.iter().map(|file| file.path.clone()).collect();
        wanted.sort();
        paths.sort();
        assert_eq!(paths, wanted);
        let optional = |name: &str| !found.files.iter().find(|file| file.path == at(name)).unwrap().needed;
        assert!(optional("maybe.env") && optional(".env") && !optional("app.env"));
        assert_eq!(found.built, BTreeSet::from(["app".to_owned()]));
        assert_eq!(found.unfollowed.len(), 1, "{:?}", found.unfollowed);

        let without = stack(&[container("app", &labels, &[])], false);
        assert!(!without.files.iter().any(|file| file.path.to_string_lossy().contains("env")), "{without:?}");
        assert!(!without.files.iter().any(|file| file.path.ends_with("secret-of-the-test.txt")));
    }

    #[test]
    fn files_that_include_each_other_end() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        std::fs::write(at("a.yaml"), "include: [b.yaml]\n").unwrap();
        std::fs::write(at("b.yaml"), "include: [a.yaml]\n").unwrap();
        let (directory, file) = (home.path().display().to_string(), at("a.yaml").display().to_string());
        let labels = [(LABEL_WORKING_DIR, directory.as_str()), (LABEL_CONFIG_FILES, file.as_str())];
        assert_eq!(stack(&[container("app", &labels, &[])], true).files.len(), 3);
    }
}
