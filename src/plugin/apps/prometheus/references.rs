//! Which files a configuration names: rules, scrape configurations, discovery files; by Prometheus's own globs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_yaml::Value;

use crate::error::codes;
use crate::plugin::kit::builtin::Failure;

/// Largest configuration, in bytes.
const CONFIG_BYTES_MAX: u64 = 16 << 20;
/// More files are no rules any more.
const FILES_MAX: usize = 5_000;
/// Deeper YAML is no configuration.
const DEPTH_MAX: usize = 32;

/// What a configuration names.
#[derive(Debug, Default)]
pub(super) struct References {
    /// The configuration itself first.
    pub(super) files: Vec<PathBuf>,
    /// Named, and not there: files without a wildcard, and the directories of patterns.
    pub(super) missing: Vec<PathBuf>,
    /// Cannot be read, so nobody knows what is in it, and why.
    pub(super) unreadable: Vec<(PathBuf, String)>,
    /// Secrets and certificates that it names, as written: another target keeps them.
    pub(super) secrets: BTreeSet<String>,
    /// Names of the scrape jobs of the configuration itself.
    pub(super) jobs: BTreeSet<String>,
    /// Names of the scrape jobs in the files of `scrape_config_files`.
    pub(super) jobs_elsewhere: BTreeSet<String>,
}

/// Follows what `config` names, and what the files name that it names.
///
/// # Errors
/// When the configuration itself cannot be read or is none.
pub(super) fn of(config: &Path) -> Result<References, Failure> {
    let shown = config.display();
    let metadata = std::fs::metadata(config).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::new(codes::PATH_MISSING, format!("{shown} is not there"))
            .hint("correct `config_file`, or mount what it lies on"),
        _ => Failure::new(codes::PATH_UNREADABLE, format!("{shown} cannot be read: {error}"))
            .hint("give the daemon's user read permission"),
    })?;
    let refuse = |why: &str| {
        Err(Failure::new(codes::CONFIG_BROKEN, format!("{shown} is no configuration of Prometheus: {why}"))
            .hint("`promtool check config` says more"))
    };
    if !metadata.is_file() || metadata.len() > CONFIG_BYTES_MAX {
        return refuse("it is no file, or has more than 16 MiB");
    }
    let Ok(text) = std::fs::read_to_string(config) else { return refuse("it cannot be read as text") };
    let Ok(top @ Value::Mapping(_)) = serde_yaml::from_str::<Value>(&text) else {
        // The message of the parser may quote a secret.
        return refuse("it is no YAML with fields at its top");
    };
    let mut found = References { files: vec![config.to_owned()], jobs: jobs(&text), ..References::default() };
    for pattern in texts(top.get("rule_files")) {
        found.follow(config, &pattern);
    }
    let before = found.files.len();
    for pattern in texts(top.get("scrape_config_files")) {
        found.follow(config, &pattern);
    }
    let scrapes: Vec<PathBuf> = found.files.get(before..).unwrap_or_default().to_vec();
    found.named_in(config, &top, 0);
    for path in scrapes {
        // What a file of scrape configurations names is meant from where that file lies.
        let text = std::fs::read_to_string(&path);
        match text.map(|text| (serde_yaml::from_str::<Value>(&text), jobs(&text))) {
            Ok((Ok(inner), jobs)) => {
                found.jobs_elsewhere.extend(jobs);
                found.named_in(&path, &inner, 0);
            }
            Ok((Err(_), _)) => found.unreadable.push((path, "it is no YAML".to_owned())),
            Err(error) => found.unreadable.push((path, error.to_string())),
        }
    }
    let mut seen = BTreeSet::new();
    found.files.retain(|path| seen.insert(path.clone()));
    let mut seen = BTreeSet::new();
    found.missing.retain(|path| seen.insert(path.clone()));
    if found.files.len() > FILES_MAX {
        return refuse("it names more than 5000 files");
    }
    Ok(found)
}

/// The names of the scrape jobs in a configuration; of a broken one none.
pub(super) fn jobs(yaml: &str) -> BTreeSet<String> {
    let Ok(top) = serde_yaml::from_str::<Value>(yaml) else { return BTreeSet::new() };
    let configs = top.get("scrape_configs").and_then(Value::as_sequence);
    let names = configs.into_iter().flatten().filter_map(|job| job.get("job_name")?.as_str().map(str::to_owned));
    names.collect()
}

impl References {
    /// Takes the files that `pattern`, written in the file `of`, stands for.
    fn follow(&mut self, of: &Path, pattern: &str) {
        let whole = cleaned(&of.parent().unwrap_or(Path::new("/")).join(pattern));
        let before = self.missing.len() + self.unreadable.len();
        let matched = self.expand(&whole);
        if matched.is_empty() && !is_pattern(pattern) && before == self.missing.len() + self.unreadable.len() {
            self.missing.push(whole);
        }
        for path in matched {
            match std::fs::metadata(&path) {
                Ok(metadata) if metadata.is_file() => self.files.push(path),
                // Prometheus can't read a directory either.
                Ok(_) => self.unreadable.push((path, "it is no file".to_owned())),
                Err(error) => self.unreadable.push((path, error.to_string())),
            }
        }
    }

    /// `file_sd_configs: [{files: […]}]` and the names of secrets in the file `of`, wherever they are.
    fn named_in(&mut self, of: &Path, value: &Value, depth: usize) {
        if depth > DEPTH_MAX {
            return;
        }
        match value {
            Value::Mapping(fields) => {
                for (key, field) in fields {
                    let key = key.as_str().unwrap_or_default();
                    if key == "file_sd_configs" {
                        for pattern in
                            field.as_sequence().into_iter().flatten().flat_map(|each| texts(each.get("files")))
                        {
                            self.follow(of, &pattern);
                        }
                    } else if let Some(path) = field.as_str().filter(|path| key.ends_with("_file") && !path.is_empty())
                    {
                        self.secrets.insert(path.to_owned());
                    } else {
                        self.named_in(of, field, depth + 1);
                    }
                }
            }
            Value::Sequence(items) => items.iter().for_each(|item| self.named_in(of, item, depth + 1)),
            _ => {}
        }
    }

    /// The paths that a pattern means, in order; `*`, `?` and `[…]` stand for parts of one name. What keeps it from
    /// being followed is noted: a directory that is not there or cannot be read is not an empty one.
    fn expand(&mut self, pattern: &Path) -> Vec<PathBuf> {
        let mut found = vec![PathBuf::from("/")];
        let mut wild = false;
        for part in pattern.components() {
            let std::path::Component::Normal(part) = part else { continue };
            let plain = part.to_str().is_none_or(|part| !is_pattern(part));
            let mut next = Vec::new();
            for directory in &found {
                if plain {
                    let path = directory.join(part);
                    match path.symlink_metadata() {
                        Ok(_) => next.push(path),
                        // Below a wildcard not every directory has to have it.
                        Err(error) if wild && is_nothing(&error) => {}
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => self.missing.push(path),
                        Err(error) => self.unreadable.push((path, error.to_string())),
                    }
                    continue;
                }
                let letters: Vec<char> = part.to_string_lossy().chars().collect();
                let fits = |name: &std::ffi::OsStr| fits(&letters, &name.to_string_lossy().chars().collect::<Vec<_>>());
                match std::fs::read_dir(directory) {
                    Ok(entries) => {
                        let names = entries.flatten().map(|entry| entry.file_name()).filter(|name| fits(name));
                        next.extend(names.map(|name| directory.join(name)).take(FILES_MAX));
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {}
                    Err(error) => self.unreadable.push((directory.clone(), error.to_string())),
                }
            }
            wild |= !plain;
            next.sort();
            found = next;
        }
        found
    }
}

fn is_nothing(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

/// Without `.` and `..`, by the text alone: so Prometheus joins paths.
fn cleaned(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                clean.pop();
            }
            std::path::Component::Normal(part) => clean.push(part),
            _ => {}
        }
    }
    clean
}

fn texts(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_sequence);
    items.into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// As Go's `filepath.Match`.
fn fits(pattern: &[char], name: &[char]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some(('*', rest)), _) => fits(rest, name) || name.split_first().is_some_and(|(_, name)| fits(pattern, name)),
        (Some(('?', rest)), Some((_, name))) => fits(rest, name),
        (Some(('[', rest)), Some((letter, name))) => {
            let Some(end) = rest.iter().skip(1).position(|c| *c == ']').map(|at| at + 1) else { return false };
            let (class, behind) = rest.split_at(end);
            let (negated, class) = match class.split_first() {
                Some(('^', class)) => (true, class),
                _ => (false, class),
            };
            let within = class.contains(letter)
                || class.windows(3).any(|range| matches!(range, [from, '-', to] if from <= letter && letter <= to));
            within != negated && fits(behind.get(1..).unwrap_or_default(), name)
        }
        (Some(('\\', rest)), _) => match (rest.split_first(), name.split_first()) {
            (Some((wanted, rest)), Some((letter, name))) => wanted == letter && fits(rest, name),
            _ => false,
        },
        (Some((wanted, rest)), Some((letter, name))) => wanted == letter && fits(rest, name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_mean_what_they_mean_to_prometheus() {
        let fits =
            |pattern: &str, name: &str| fits(&pattern.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>());
        assert!(fits("*.yml", "a.yml") && fits("a*c?.yml", "abbcd.yml") && fits("[a-c]x", "bx") && fits("[^a]x", "bx"));
        assert!(!fits("*.yml", "a.yaml") && !fits("[a-c]x", "dx") && !fits("[^b]x", "bx") && !fits("[", "["));
        assert!(fits("a\\*", "a*") && !fits("a\\*", "ab") && fits("*", "") && !fits("?", ""));
    }

    #[test]
    fn what_a_configuration_names_is_found_through_it() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir_all(at("rules/deep")).unwrap();
        for name in ["rules/a.yml", "rules/b.yml", "rules/deep/c.yml", "sd.json", "other.txt"] {
            std::fs::write(at(name), "x").unwrap();
        }
        std::fs::write(
            at("p.yml"),
            "rule_files: [\"rules/*.yml\", \"rules/*/c.yml\", gone.yml, \"none/*.yml\"]\nscrape_configs:\n- job_name: one\n  \
             file_sd_configs: [{files: [sd.json]}]\n",
        )
        .unwrap();
        let found = of(&at("p.yml")).unwrap();
        let wanted: Vec<PathBuf> = ["p.yml", "rules/a.yml", "rules/b.yml", "rules/deep/c.yml", "sd.json"]
            .iter()
            .map(|name| at(name))
            .collect();
        assert_eq!((found.files, found.missing), (wanted, vec![at("gone.yml"), at("none")]));
        assert_eq!(found.unreadable, []);
        assert_eq!(found.jobs, BTreeSet::from(["one".to_owned()]));
        std::fs::write(at("p.yml"), "password: hunter2: [").unwrap();
        let failure = of(&at("p.yml")).unwrap_err();
        assert!(failure.trouble.is(codes::CONFIG_BROKEN) && !failure.trouble.to_string().contains("hunter2"));
    }

    #[test]
    fn paths_above_the_configuration_and_files_named_in_scrape_files_are_followed() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for place in ["etc/scrape", "rules", "sd"] {
            std::fs::create_dir_all(at(place)).unwrap();
        }
        for name in ["rules/a.yml", "rules/b.yml", "etc/scrape/hosts.json", "sd/up.yml"] {
            std::fs::write(at(name), "[]").unwrap();
        }
        let scrape = "scrape_configs:\n- job_name: two\n  tls_config: {ca_file: /etc/ca.pem}\n  file_sd_configs: \
                      [{files: [hosts.json, ../../sd/*.yml, none.json]}]\n";
        std::fs::write(at("etc/scrape/two.yml"), scrape).unwrap();
        std::fs::write(at("etc/scrape/broken.yml"), "a: [").unwrap();
        std::fs::write(
            at("etc/p.yml"),
            "rule_files: [../rules/*.yml, ./../rules/a.yml, ../gone/*.yml]\nscrape_config_files: [\"scrape/*.yml\"]\n",
        )
        .unwrap();
        let found = of(&at("etc/p.yml")).unwrap();
        let wanted: Vec<PathBuf> = [
            "etc/p.yml",
            "rules/a.yml",
            "rules/b.yml",
            "etc/scrape/broken.yml",
            "etc/scrape/two.yml",
            "etc/scrape/hosts.json",
            "sd/up.yml",
        ]
        .iter()
        .map(|name| at(name))
        .collect();
        assert_eq!(found.files, wanted);
        assert_eq!(found.missing, [at("gone"), at("etc/scrape/none.json")]);
        assert_eq!(found.unreadable, [(at("etc/scrape/broken.yml"), "it is no YAML".to_owned())]);
        assert_eq!(found.jobs_elsewhere, BTreeSet::from(["two".to_owned()]));
        assert_eq!(found.secrets, BTreeSet::from(["/etc/ca.pem".to_owned()]));
    }
}
