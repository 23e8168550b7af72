//! Exclude patterns of many sources in one list, against restic itself with each source's patterns alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use larder::plugin::Source;
use larder::plugin::kit::apart::Mounts;
use larder::runner::cut;

use crate::support::restic;

const CASES: usize = 28;

/// A small generator, so that a failing case can be repeated.
struct Noise(u64);

impl Noise {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).unwrap()
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

const NAMES: &[&str] = &["a", "b", "ab", "a.tmp", "b.tmp", "cache", "keep", "[x]", "a*", "ä", ".hidden"];
const PARTS: &[&str] = &[
    "a", "b", "ab", "*", "*.tmp", "?", "a?", "[ab]", "[^a]", "[a-b]*", "cache", "**", "\\[x\\]", "a\\*", "ä", ".*",
    "k*",
];

fn pattern(noise: &mut Noise, source: &Path) -> String {
    let parts: Vec<&str> = (0..=noise.below(3)).map(|_| noise.one(PARTS)).collect();
    let anchor = match noise.below(4) {
        0 => format!("{}/", source.display()),
        _ => String::new(),
    };
    let back = if noise.below(4) == 0 { "!" } else { "" };
    format!("{back}{anchor}{}", parts.join("/"))
}

fn plant(directory: &Path, depth: usize) {
    for name in NAMES {
        let path = directory.join(name);
        if depth > 0 && name.len() <= 5 && !name.ends_with("tmp") {
            std::fs::create_dir_all(&path).unwrap();
            plant(&path, depth - 1);
        } else {
            std::fs::create_dir_all(directory).unwrap();
            std::fs::write(path, "x").unwrap();
        }
    }
}

/// The files that restic would read with `patterns`, in one list.
fn read(root: &Path, patterns: &[String], sources: &[PathBuf]) -> BTreeSet<PathBuf> {
    let list = root.join("patterns");
    std::fs::write(&list, patterns.join("\n") + "\n").unwrap();
    let done = Command::new(restic())
        .args(["backup", "--dry-run", "--json", "-vv", "--no-scan", "--no-cache", "--exclude-file"])
        .arg(&list)
        .args(sources)
        .env("RESTIC_REPOSITORY", root.join("repository"))
        .env("RESTIC_PASSWORD", "a password")
        .output()
        .unwrap();
    assert!(done.status.success(), "{patterns:?}: {}", String::from_utf8_lossy(&done.stderr));
    let items = String::from_utf8_lossy(&done.stdout)
        .lines()
        .filter_map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).ok()?;
            let item = message["item"].as_str()?.to_owned();
            (message["message_type"] == "verbose_status" && !item.ends_with('/')).then(|| PathBuf::from(item))
        })
        .collect::<BTreeSet<_>>();
    items.into_iter().filter(|item| item.is_file()).collect()
}

#[test]
fn the_list_of_many_sources_leaves_out_of_each_what_restic_leaves_out_by_its_own_patterns() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path();
    let made = Command::new(restic())
        .args(["init", "--no-cache"])
        .env("RESTIC_REPOSITORY", root.join("repository"))
        .env("RESTIC_PASSWORD", "a password")
        .output()
        .unwrap();
    assert!(made.status.success());
    let mut noise = Noise(0x2545_f491_4f6c_dd1d);
    let mut cases: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    for case in 0..CASES {
        let source = root.join(format!("source{case:02}"));
        plant(&source, 2);
        let patterns = (0..=noise.below(4)).map(|_| pattern(&mut noise, &source)).collect();
        cases.insert(source, patterns);
    }
    let sources: Vec<Source> =
        cases.iter().map(|(path, exclude)| Source { path: path.clone(), exclude: exclude.clone() }).collect();
    let shape = cut::shape(&sources, &[], &Mounts::parse(b""), true).unwrap();
    let all: Vec<PathBuf> = cases.keys().cloned().collect();
    let together = read(root, &shape.patterns(Path::new("/nowhere")).unwrap(), &all);
    let mut left_out = 0;
    for (source, patterns) in &cases {
        let alone = read(root, patterns, std::slice::from_ref(source));
        let of_it: BTreeSet<PathBuf> = together.iter().filter(|path| path.starts_with(source)).cloned().collect();
        let only = |one: &BTreeSet<PathBuf>, other: &BTreeSet<PathBuf>| {
            one.difference(other).take(5).map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(
            of_it,
            alone,
            "{patterns:?}: ours only {:?}, restic only {:?}",
            only(&of_it, &alone),
            only(&alone, &of_it)
        );
        left_out += usize::from(alone.len() > 5);
    }
    assert!(left_out > CASES / 3, "patterns that leave everything out test little: {left_out} of {CASES}");
}
