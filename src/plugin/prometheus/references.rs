//! Which files a configuration names: rules, scrape configurations, discovery files; by Prometheus's own globs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_yaml::Value;

use crate::plugin::builtin::Failure;

/// Largest configuration, in bytes.
const CONFIG_BYTES_MAX: u64 = 16 << 20;
/// More files are no rules any more.
const FILES_MAX: usize = 5_000;

/// What a configuration names.
#[derive(Debug, Default)]
pub(super) struct References {
    /// The configuration itself first.
    pub(super) files: Vec<PathBuf>,
    /// Named without a wildcard, and not there.
    pub(super) missing: Vec<PathBuf>,
    /// Names of the scrape jobs.
    pub(super) jobs: BTreeSet<String>,
}

pub(super) fn of(config: &Path) -> Result<References, Failure> {
    let shown = config.display();
    let metadata = std::fs::metadata(config).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::new("path_missing", format!("{shown} is not there"))
            .hint("correct `config_file`, or mount what it lies on"),
        _ => Failure::new("path_unreadable", format!("{shown} cannot be read: {error}"))
            .hint("give the daemon's user read permission"),
    })?;
    let refuse = |why: &str| {
        Err(Failure::new("config_broken", format!("{shown} is no configuration of Prometheus: {why}"))
            .hint("`promtool check config` says more"))
    };
    if !metadata.is_file() || metadata.len() > CONFIG_BYTES_MAX {
        return refuse("it is no file, or has more than 16 MiB");
    }
    let Ok(text) = std::fs::read_to_string(config) else { return refuse("it cannot be read as text") };
    let Ok(Value::Mapping(top)) = serde_yaml::from_str::<Value>(&text) else {
        // The message of the parser may quote a secret.
        return refuse("it is no YAML with fields at its top");
    };
    let top = Value::Mapping(top);
    let base = config.parent().unwrap_or(Path::new("/"));
    let mut found = References { files: vec![config.to_owned()], ..References::default() };
    let mut patterns = Vec::new();
    for key in ["rule_files", "scrape_config_files"] {
        patterns.extend(texts(top.get(key)));
    }
    discovery_files(&top, &mut patterns, 0);
    for pattern in patterns {
        let whole = base.join(&pattern);
        let matched = expand(&whole);
        if matched.is_empty() && !pattern.contains(['*', '?', '[']) {
            found.missing.push(whole);
        }
        found.files.extend(matched.into_iter().filter(|path| path.is_file()));
        if found.files.len() > FILES_MAX {
            return refuse("it names more than 5000 files");
        }
    }
    let mut seen = BTreeSet::new();
    found.files.retain(|path| seen.insert(path.clone()));
    found.jobs = jobs(&text);
    Ok(found)
}

/// The names of the scrape jobs in a configuration; of a broken one none.
pub(super) fn jobs(yaml: &str) -> BTreeSet<String> {
    let Ok(top) = serde_yaml::from_str::<Value>(yaml) else { return BTreeSet::new() };
    let configs = top.get("scrape_configs").and_then(Value::as_sequence);
    let names = configs.into_iter().flatten().filter_map(|job| job.get("job_name")?.as_str().map(str::to_owned));
    names.collect()
}

/// `file_sd_configs: [{files: […]}]`, wherever they are.
fn discovery_files(value: &Value, patterns: &mut Vec<String>, depth: usize) {
    if depth > 32 {
        return;
    }
    match value {
        Value::Mapping(fields) => {
            for (key, field) in fields {
                if key.as_str() == Some("file_sd_configs") {
                    for each in field.as_sequence().into_iter().flatten() {
                        patterns.extend(texts(each.get("files")));
                    }
                } else {
                    discovery_files(field, patterns, depth + 1);
                }
            }
        }
        Value::Sequence(items) => items.iter().for_each(|item| discovery_files(item, patterns, depth + 1)),
        _ => {}
    }
}

fn texts(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_sequence);
    items.into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// The paths that a pattern means, in order; `*`, `?` and `[…]` stand for parts of one name.
fn expand(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/")];
    for part in pattern.components() {
        let std::path::Component::Normal(part) = part else { continue };
        let part = part.to_string_lossy();
        if !part.contains(['*', '?', '[']) {
            found = found.into_iter().map(|path| path.join(&*part)).filter(|path| path.exists()).collect();
            continue;
        }
        let letters: Vec<char> = part.chars().collect();
        let mut next = Vec::new();
        for directory in &found {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
            let fits = names.filter(|name| fits(&letters, &name.chars().collect::<Vec<_>>()));
            next.extend(fits.map(|name| directory.join(name)).take(FILES_MAX));
        }
        next.sort();
        found = next;
    }
    found
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
        assert_eq!((found.files, found.missing), (wanted, vec![at("gone.yml")]));
        assert_eq!(found.jobs, BTreeSet::from(["one".to_owned()]));
        std::fs::write(at("p.yml"), "password: hunter2: [").unwrap();
        let failure = of(&at("p.yml")).unwrap_err();
        assert!(failure.trouble.code == "config_broken" && !failure.trouble.to_string().contains("hunter2"));
    }
}
