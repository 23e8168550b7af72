//! The architecture, checked against the source text: who may use whom, who names which crate, how a file looks.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "architecture/codes.rs"]
mod codes;
#[path = "architecture/graph.rs"]
mod graph;
#[path = "architecture/text.rs"]
mod text;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use text::{code_only, crate_modules_used, named_crates};

/// Longest source file, in lines.
const FILE_LINES_MAX: usize = 600;

/// Crates that one place hides from the others, and that place: a module (`schedule`) or a file (`status/render.rs`).
const FENCED: [(&str, &str); 10] = [
    ("gix", "source"),
    ("notify", "source"),
    ("sled", "store/sled_store.rs"),
    ("jsonrpsee", "rpc"),
    ("cron", "schedule"),
    ("minijinja", "status/render.rs"),
    ("prometheus", "metrics"),
    ("lettre", "alert"),
    ("reqwest", "web"),
    ("soketto", "web/socket.rs"),
];

/// A file below `src`.
struct Source {
    /// Below `src`: `store/sled_store.rs`.
    path: String,
    text: String,
    /// The text without comments and without what strings hold.
    code: String,
}

impl Source {
    /// The top-level module that the file belongs to; none for `lib.rs` and `main.rs`.
    fn module(&self) -> Option<&str> {
        let first = self.path.split('/').next().unwrap().trim_end_matches(".rs");
        (!matches!(first, "lib" | "main")).then_some(first)
    }

    /// How deep the file's module is: 1 for `store.rs`, 2 for `store/batch.rs`.
    fn depth(&self) -> usize {
        self.path.split('/').count()
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            if entry.path().is_dir() { collect(&entry.path(), found) } else { found.push(entry.path()) }
        }
    }
    let src = root().join("src");
    let mut found = Vec::new();
    collect(&src, &mut found);
    found.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    found.sort();
    let sources: Vec<Source> = found
        .iter()
        .map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            let path = path.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
            Source { path, code: code_only(&text), text }
        })
        .collect();
    assert!(sources.len() > 20, "the sources are found");
    sources
}

/// The top-level modules in the order of `src/lib.rs`.
fn module_order() -> Vec<String> {
    let lib = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let declared = |line: &str| {
        let line = line.strip_prefix("pub ").or_else(|| line.strip_prefix("pub(crate) "))?;
        Some(line.strip_prefix("mod ")?.strip_suffix(';')?.to_owned())
    };
    let order: Vec<String> = lib.lines().filter_map(declared).collect();
    assert!(order.len() > 10, "src/lib.rs declares the modules, one a line: {order:?}");
    order
}

/// Fails with every complaint at once.
fn assert_none(rule: &str, complaints: &[String]) {
    assert!(complaints.is_empty(), "{rule}:\n  {}", complaints.join("\n  "));
}

#[test]
fn a_module_uses_only_what_stands_before_it_in_lib() {
    let order = module_order();
    let place = |module: &str| order.iter().position(|each| each == module);
    let mut complaints = Vec::new();
    for source in sources() {
        let Some(module) = source.module() else { continue };
        let Some(own) = place(module) else {
            complaints.push(format!("src/{} belongs to no module that src/lib.rs declares", source.path));
            continue;
        };
        for (line, used) in crate_modules_used(&source.code, source.depth()) {
            match place(&used) {
                Some(other) if other > own => {
                    complaints.push(format!("src/{}:{line} uses {used}, which stands behind {module}", source.path));
                }
                _ => {}
            }
        }
    }
    assert_none("data flows one way; a module uses what stands above it in src/lib.rs", &complaints);
}

#[test]
fn a_fenced_crate_is_named_in_its_one_place_only() {
    let mut complaints = Vec::new();
    let mut seen = BTreeSet::new();
    for source in sources() {
        for (line, named) in named_crates(&source.code) {
            let Some((_, home)) = FENCED.iter().find(|(fenced, _)| *fenced == named) else { continue };
            if source.path == *home || source.module() == Some(home) {
                seen.insert(named);
            } else {
                complaints.push(format!("src/{}:{line} names {named}, which only {home} may", source.path));
            }
        }
    }
    assert_none("a crate behind a fence", &complaints);
    // Such a check is worth nothing if it does not even see the crate where it is.
    assert!(seen.contains("sled") && seen.contains("cron"), "{seen:?}");
}

#[test]
fn a_file_has_one_idea_says_it_first_and_stays_below_600_lines() {
    let mut complaints = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            complaints.push(format!("src/{} has {lines} lines", source.path));
        }
        if !source.text.starts_with("//! ") {
            complaints.push(format!("src/{} does not open with `//!`", source.path));
        }
        if source.path.ends_with("mod.rs") {
            complaints.push(format!("src/{} should be named as its module", source.path));
        }
    }
    assert_none("how a file looks", &complaints);
}

#[test]
fn nothing_is_left_to_be_done_in_the_source() {
    let mut complaints = Vec::new();
    for source in sources() {
        for (number, (line, code)) in source.text.lines().zip(source.code.lines()).enumerate() {
            let unfinished = ["todo!", "unimplemented!"].iter().any(|macro_| code.contains(macro_));
            if unfinished || ["TODO", "FIXME", "XXX"].iter().any(|mark| line.contains(mark)) {
                complaints.push(format!("src/{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    assert_none("unfinished work belongs into an issue", &complaints);
}

#[test]
fn a_code_stands_once_in_the_registry_and_is_compared_as_what_it_is() {
    let mut complaints = Vec::new();
    for source in sources() {
        if source.path.ends_with("tests.rs") {
            continue;
        }
        let code = graph::without_tests(&source.code);
        for number in codes::lines_of_text(&source.text, code) {
            let line = source.text.lines().nth(number).unwrap_or_default();
            // The reader of findings is handed their code as text.
            if source.path != "config/diagnostic/render.rs" {
                complaints.push(format!("src/{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    assert_none("codes are constants of src/error/codes.rs", &complaints);
}

#[test]
fn nothing_is_decided_by_a_code() {
    let mut complaints = Vec::new();
    for source in sources() {
        // What reads a code finds its kind.
        if source.path.ends_with("tests.rs") || source.path.starts_with("error") {
            continue;
        }
        for number in codes::lines_of_branches(graph::without_tests(&source.code)) {
            let line = source.text.lines().nth(number).unwrap_or_default();
            complaints.push(format!("src/{}:{}: {}", source.path, number + 1, line.trim()));
        }
    }
    assert_none("a branch goes by a `Kind`, or by a value that is told before there is a trouble", &complaints);
}

#[test]
fn lints_are_not_switched_off_in_silence() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut complaints = Vec::new();
    for rule in ["unwrap_used", "expect_used", "print_stdout", "print_stderr", "dbg_macro", "exit"] {
        if !manifest.lines().any(|line| line == format!("{rule} = \"deny\"")) {
            complaints.push(format!("Cargo.toml does not deny clippy::{rule}"));
        }
    }
    if !manifest.lines().any(|line| line == "unsafe_code = \"forbid\"") {
        complaints.push("Cargo.toml does not forbid unsafe code".to_owned());
    }
    for source in sources() {
        let code = &source.code;
        for (start, _) in code.match_indices("[allow(").chain(code.match_indices("[expect(")) {
            let attribute = &code[start..start + code[start..].find(']').unwrap()];
            if !attribute.contains("reason =") {
                complaints.push(format!("src/{}: #{attribute}] gives no reason", source.path));
            }
        }
    }
    assert_none("lints", &complaints);
}

#[test]
fn a_name_has_one_home_and_is_imported_by_name() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| source.path != "lib.rs") {
        let own = source.module().map(|module| format!("crate::{module}::"));
        for (number, line) in source.code.lines().enumerate() {
            let line = line.trim();
            // A module may show what its children define; it may not show what is another's.
            let shown = line.strip_prefix("pub use ").or_else(|| line.strip_prefix("pub(crate) use "));
            let foreign = shown.is_some_and(|path| {
                path.starts_with("crate::") && !own.as_ref().is_some_and(|own| path.starts_with(own.as_str()))
            });
            let glob = line.starts_with("use ") && line.contains("::*");
            if foreign || (glob && !line.starts_with("use super::") && line != "use proptest::prelude::*;") {
                complaints.push(format!("src/{}:{}: {line}", source.path, number + 1));
            }
        }
    }
    assert_none("no re-exports of another module, no globs but `use super::*`", &complaints);
}

#[test]
fn every_dependency_has_its_line_in_the_architecture_and_no_line_is_stale() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let architecture = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is there");
    let used = text::dependencies(&manifest);
    let told = text::crate_table(&architecture);
    assert!(used.contains("sled") && used.contains("proptest"), "{used:?}");
    let mut complaints: Vec<String> = used.difference(&told).map(|name| format!("{name} has no line")).collect();
    complaints.extend(told.difference(&used).map(|name| format!("{name} has a line and is no dependency")));
    assert_none("the table `| crate | … |` of ARCHITECTURE.md", &complaints);
}

/// The floors of `src/plugin` from the bottom, each with those that it may use.
const FLOORS: [(&str, &[&str]); 5] = [
    ("protocol", &[]),
    ("kit", &["protocol"]),
    ("apps", &["protocol", "kit"]),
    ("child", &["protocol", "kit", "apps"]),
    ("host", &["protocol", "kit"]),
];

/// What several applications are made of and that is none itself.
const SHARED_BY_APPS: [&str; 1] = ["firewall"];

fn file_graph() -> graph::Graph {
    let sources = sources();
    let graph = graph::read(sources.iter().map(|source| (source.path.as_str(), source.code.as_str())));
    assert!(graph.values().map(BTreeSet::len).sum::<usize>() > 500, "the uses are found");
    graph
}

#[test]
fn a_floor_of_the_plugins_uses_only_what_is_below_it_and_an_application_no_other_one() {
    let floor = |module: &graph::Module| (module.first()? == "plugin").then(|| module.get(1).cloned())?;
    let application = |module: &graph::Module| {
        (floor(module)? == "apps")
            .then(|| module.get(2).cloned())?
            .filter(|app| !SHARED_BY_APPS.contains(&app.as_str()))
    };
    let mut complaints = Vec::new();
    let mut seen = BTreeSet::new();
    for (user, used) in file_graph() {
        let Some(own) = floor(&user) else { continue };
        let Some((_, below)) = FLOORS.iter().find(|(name, _)| *name == own) else {
            complaints.push(format!("src/{}.rs stands on no floor that is known", user.join("/")));
            continue;
        };
        seen.insert(own.clone());
        for each in used {
            let stranger = match floor(&each) {
                Some(other) => other != own && !below.contains(&other.as_str()),
                // The parent shows what is for others.
                None => each.as_slice() == ["plugin"],
            };
            let other_app = application(&user).zip(application(&each)).is_some_and(|(own, other)| own != other);
            if stranger || other_app {
                complaints.push(format!("src/{}.rs uses {}", user.join("/"), each.join("::")));
            }
        }
    }
    assert_none("protocol, kit, applications, child; the host uses protocol and kit", &complaints);
    assert_eq!(seen.len(), FLOORS.len(), "{seen:?}");
}

/// Who may know of a restore whether it is a dry run: who asks for it, and who ends one behind its plan.
const KNOW_DRY_RUNS: [&str; 3] = ["plugin/protocol.rs", "plugin/kit/restore.rs", "plugin/host"];

#[test]
fn no_application_knows_whether_a_restore_is_a_dry_run() {
    let mut complaints = Vec::new();
    let mut seen = BTreeSet::new();
    for source in sources().iter().filter(|source| source.module() == Some("plugin")) {
        let named = source.code.lines().enumerate().filter(|(_, line)| line.contains("dry_run"));
        for (number, line) in named {
            match KNOW_DRY_RUNS.iter().find(|home| source.path.starts_with(*home)) {
                Some(home) => drop(seen.insert(*home)),
                None => complaints.push(format!("src/{}:{}: {}", source.path, number + 1, line.trim())),
            }
        }
    }
    assert_none("a dry run changes nothing since it ends before an application could", &complaints);
    assert!(seen.contains("plugin/kit/restore.rs"), "{seen:?}");
}

#[test]
fn files_use_each_other_in_no_circle_but_that_of_a_parent_and_its_children() {
    let named = |circle: &Vec<graph::Module>| {
        circle.iter().map(|module| format!("src/{}.rs", module.join("/"))).collect::<Vec<_>>().join(", ")
    };
    let complaints: Vec<String> = graph::circles(&file_graph()).iter().map(named).collect();
    assert_none("circles of files", &complaints);
}
