//! Which file uses which: read from the paths in the source text, as they are written: a re-export counts as a use of the
//! file that has it, not of the file that it leads to.

use std::collections::{BTreeMap, BTreeSet};

/// A module by its names from the root: `["store", "batch"]`.
pub type Module = Vec<String>;

/// The modules that each module uses, of those that have a file.
pub type Graph = BTreeMap<Module, BTreeSet<Module>>;

/// The module of a file below `src`; none for `lib.rs` and `main.rs`.
pub fn module_of(path: &str) -> Option<Module> {
    let path = path.strip_suffix(".rs")?;
    (!matches!(path, "lib" | "main")).then(|| path.split('/').map(str::to_owned).collect())
}

/// Reads the graph from the code of each file, without comments and what strings hold. Tests are left out.
pub fn read<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> Graph {
    let all: BTreeMap<Module, &str> =
        files.filter_map(|(path, code)| Some((module_of(path)?, without_tests(code)))).collect();
    let known: BTreeSet<&Module> = all.keys().collect();
    all.iter()
        .filter(|(module, _)| module.last().is_some_and(|last| last != "tests"))
        .map(|(module, code)| {
            let used = paths(code).into_iter().filter_map(|path| resolve(module, &path, &known));
            (module.clone(), used.filter(|used| used != module).collect())
        })
        .collect()
}

/// The circles that remain when a parent and what lies below it are left to themselves, each in order.
pub fn circles(graph: &Graph) -> Vec<Vec<Module>> {
    let next = |from: &Module| strangers(graph, from);
    let reach = |from: &Module| {
        let mut seen = BTreeSet::new();
        let mut ahead = next(from);
        while let Some(module) = ahead.pop() {
            if seen.insert(module.clone()) {
                ahead.extend(next(&module));
            }
        }
        seen
    };
    let reached: BTreeMap<&Module, BTreeSet<Module>> = graph.keys().map(|module| (module, reach(module))).collect();
    let mut circles: Vec<Vec<Module>> = Vec::new();
    for (module, seen) in &reached {
        if !seen.contains(*module) || circles.iter().any(|circle| circle.contains(module)) {
            continue;
        }
        circles.push(seen.iter().filter(|other| reached[other].contains(*module)).cloned().collect());
    }
    circles
}

/// What a module uses that is neither above nor below it.
fn strangers(graph: &Graph, from: &Module) -> Vec<Module> {
    let used = graph.get(from).into_iter().flatten();
    used.filter(|to| !from.starts_with(to) && !to.starts_with(from)).cloned().collect()
}

/// The code before a file's own tests.
pub fn without_tests(code: &str) -> &str {
    code.find("#[cfg(test)]\nmod tests {").map_or(code, |at| &code[..at])
}

/// Every path that starts at the root, at a parent or at a child, written out: `crate::a::{b, c}` are two.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("::") {
        let start = at - code[..at].bytes().rev().take_while(|byte| is_word(*byte)).count();
        let before = &code[..start];
        // A later part of a path, or a visibility, which uses nothing.
        if start == at || before.ends_with("::") || before.ends_with("pub(in ") {
            continue;
        }
        tree(&code[start..], &mut Vec::new(), &mut found);
    }
    found
}

/// Reads the path, or the tree of paths, that `text` opens with; gives what is behind it.
fn tree<'a>(text: &'a str, lead: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    let depth = lead.len();
    let mut rest = text.trim_start();
    loop {
        let length = rest.bytes().take_while(|byte| is_word(*byte)).count();
        if length > 0 {
            lead.push(rest[..length].to_owned());
            rest = &rest[length..];
        }
        let Some(behind) = rest.strip_prefix("::") else { break };
        rest = behind.trim_start();
        if let Some(mut items) = rest.strip_prefix('{') {
            loop {
                items = tree(items, lead, found);
                let end = items.find([',', '}']).unwrap_or(items.len());
                let more = items[end..].starts_with(',');
                items = items.get(end + 1..).unwrap_or_default();
                if !more || items.trim_start().starts_with('}') {
                    break;
                }
            }
            lead.truncate(depth);
            return items;
        }
        if length == 0 {
            break;
        }
    }
    found.push(lead.clone());
    lead.truncate(depth);
    rest
}

/// The file that a path leads into, as deep as there are files.
fn resolve(own: &Module, path: &[String], known: &BTreeSet<&Module>) -> Option<Module> {
    let ups = path.iter().take_while(|word| *word == "super").count();
    let mut full: Module = match path.first()?.as_str() {
        "crate" => path[1..].to_vec(),
        "super" => own[..own.len().checked_sub(ups)?].iter().chain(&path[ups..]).cloned().collect(),
        "self" => own.iter().chain(&path[1..]).cloned().collect(),
        child => {
            let below: Module = own.iter().cloned().chain([child.to_owned()]).collect();
            known.contains(&below).then(|| own.iter().chain(path).cloned().collect())?
        }
    };
    while !full.is_empty() && !known.contains(&full) {
        full.pop();
    }
    (!full.is_empty()).then_some(full)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(files: &[(&str, &str)]) -> Graph {
        read(files.iter().copied())
    }

    fn module(path: &str) -> Module {
        path.split("::").map(str::to_owned).collect()
    }

    #[test]
    fn paths_groups_parents_and_children_are_followed_and_tests_and_visibility_are_not() {
        let files = [
            (
                "a.rs",
                "use crate::b::{c::{D, e}, f as g, self};\nuse h::I;\nmod h;\n#[cfg(test)]\nmod tests { use crate::x; }",
            ),
            ("a/h.rs", "pub(in crate::x) fn k() { super::super::y::z(); self::n::m() }"),
            ("b.rs", ""),
            ("b/c.rs", ""),
            ("b/f.rs", ""),
            ("x.rs", ""),
            ("y.rs", ""),
        ];
        let used = graph(&files);
        let of = |from: &str| used[&module(from)].iter().map(|to| to.join("::")).collect::<Vec<_>>();
        assert_eq!(of("a"), ["a::h", "b", "b::c", "b::f"]);
        assert_eq!(of("a::h"), ["y"]);
    }

    #[test]
    fn a_circle_of_strangers_is_found_and_one_of_a_parent_and_its_child_is_none() {
        let files = [
            ("a.rs", "use crate::a::b::X;"),
            ("a/b.rs", "use crate::a::Y; use crate::a::c;"),
            ("a/c.rs", "use crate::d::f;"),
            ("d.rs", "fn f() { crate::a::b::g() }"),
            ("e.rs", "use crate::a::X;"),
        ];
        let circles = circles(&graph(&files));
        assert_eq!(circles, [vec![module("a::b"), module("a::c"), module("d")]]);
    }
}
