//! Reading Rust, TOML and Markdown as text, just as far as the rules need it.

use std::collections::BTreeSet;

/// The code with comments and the insides of literals blanked; lines stay where they are.
pub fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => find(bytes, at, b"\n").unwrap_or(bytes.len()),
            b'/' if bytes[at..].starts_with(b"/*") => block_comment_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' if starts_raw_string(bytes, at) => raw_string_end(bytes, at),
            b'\'' => char_end(bytes, at),
            _ => at + 1,
        };
        if end > at + 1 {
            code[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        }
        at = end;
    }
    String::from_utf8_lossy(&code).into_owned()
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> Option<usize> {
    bytes[from..].windows(what.len()).position(|window| window == what).map(|at| from + at)
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0;
    let mut at = start;
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn starts_raw_string(bytes: &[u8], at: usize) -> bool {
    let before = at.checked_sub(1).map_or(b' ', |before| bytes[before]);
    let hashes = bytes[at + 1..].iter().take_while(|byte| **byte == b'#').count();
    let is_prefix = !is_word(before) || before == b'b';
    is_prefix && bytes.get(at + 1 + hashes) == Some(&b'"')
}

fn raw_string_end(bytes: &[u8], start: usize) -> usize {
    let hashes = bytes[start + 1..].iter().take_while(|byte| **byte == b'#').count();
    let mut close = vec![b'"'];
    close.extend(std::iter::repeat_n(b'#', hashes));
    find(bytes, start + 2 + hashes, &close).map_or(bytes.len(), |at| at + close.len())
}

/// The end of a character; a lifetime is left as it is.
fn char_end(bytes: &[u8], start: usize) -> usize {
    match bytes.get(start + 1) {
        Some(b'\\') => find(bytes, start + 3, b"'").map_or(bytes.len(), |at| at + 1),
        // One character of up to four bytes.
        Some(_) => (2..=5)
            .map(|length| start + length)
            .find(|at| bytes.get(*at) == Some(&b'\''))
            .filter(|at| std::str::from_utf8(&bytes[start + 1..*at]).is_ok_and(|inside| inside.chars().count() == 1))
            .map_or(start + 1, |at| at + 1),
        None => bytes.len(),
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// The word that starts `text`.
fn word(text: &str) -> &str {
    let end = text.bytes().take_while(|byte| is_word(*byte)).count();
    &text[..end]
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// The first words of the paths in `text`, which stands behind `crate::`: one, or those of a group in braces.
fn first_words(text: &str) -> Vec<String> {
    let text = text.trim_start();
    let Some(group) = text.strip_prefix('{') else { return vec![word(text).to_owned()] };
    let mut words = Vec::new();
    let mut depth = 1;
    let mut item = String::new();
    for character in group.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && character == ',') {
            words.push(word(item.trim()).to_owned());
            item.clear();
        } else {
            item.push(character);
        }
        if depth == 0 {
            break;
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The first words of paths from the crate's root, with their lines: behind `crate::`, and behind as many `super::` as lead
/// out of a module that is `depth` deep.
pub fn crate_modules_used(code: &str, depth: usize) -> Vec<(usize, String)> {
    let out = "super::".repeat(depth);
    let mut used = Vec::new();
    for lead in ["crate::", &out] {
        for (start, _) in code.match_indices(lead) {
            let before = code[..start].bytes().last().unwrap_or(b' ');
            if is_word(before) || before == b':' {
                continue;
            }
            let mut rest = &code[start + lead.len()..];
            while let Some(further) = rest.strip_prefix("super::") {
                rest = further;
            }
            used.extend(first_words(rest).into_iter().map(|word| (line_of(code, start), word)));
        }
    }
    used
}

/// The words that name a crate, or a module in scope, with their lines: `x::…` with nothing before it, `use x…`.
pub fn named_crates(code: &str) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    for (at, _) in code.match_indices("::") {
        let before = &code[..at];
        let length = before.bytes().rev().take_while(|byte| is_word(*byte)).count();
        let start = at - length;
        let ahead = before[..start].trim_end();
        // `::x::` is a crate, `y::x::` is not.
        let inner =
            ahead.strip_suffix("::").is_some_and(|rest| rest.bytes().last().is_some_and(|b| is_word(b) || b == b'>'));
        if length > 0 && !inner {
            named.push((line_of(code, start), before[start..].to_owned()));
        }
    }
    for lead in ["use ", "extern crate "] {
        for (at, _) in code.match_indices(lead).filter(|(at, _)| !code[..*at].bytes().last().is_some_and(is_word)) {
            named.push((line_of(code, at), word(code[at + lead.len()..].trim_start_matches(':')).to_owned()));
        }
    }
    named
}

/// The names under `[dependencies]` and `[dev-dependencies]`.
pub fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = matches!(line.trim(), "[dependencies]" | "[dev-dependencies]");
        } else if inside && let Some((name, _)) = line.split_once('=') {
            names.insert(name.trim().to_owned());
        }
    }
    names
}

/// The first cells of the tables whose first heading is `crate`; several names in a cell are apart by commas.
pub fn crate_table(markdown: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in markdown.lines() {
        let Some(cells) = line.trim().strip_prefix('|') else {
            inside = false;
            continue;
        };
        let first = cells.split('|').next().unwrap_or_default().trim();
        if first.eq_ignore_ascii_case("crate") || first.eq_ignore_ascii_case("crates") {
            inside = true;
        } else if inside && !first.starts_with("--") && !first.starts_with(":-") {
            names.extend(first.split(',').map(|name| name.trim().trim_matches('`').to_owned()));
        }
    }
    names
}

#[test]
fn comments_and_literals_are_no_code() {
    let text = r##"let a = "crate::x"; // crate::y
/* crate::z /* nested */ */ let b: &'static str = r#"a "crate::w" b"#; let c = '"'; crate::plan::f('\'', 'ü');"##;
    let code = code_only(text);
    assert_eq!(code.lines().count(), 2);
    assert_eq!(crate_modules_used(&code, 1), [(2, "plan".to_owned())]);
    assert!(code.contains("&'static str"), "{code}");
}

#[test]
fn uses_are_found_in_paths_groups_and_through_super() {
    let used =
        |code: &str, depth| crate_modules_used(code, depth).into_iter().map(|(_, word)| word).collect::<Vec<_>>();
    assert_eq!(used("use crate::store::{Batch, Tree};", 1), ["store"]);
    assert_eq!(used("use crate::{plan::{a, b}, types,\n rpc as r};", 1), ["plan", "types", "rpc"]);
    assert_eq!(used("pub(crate) fn f(x: crate::run::RunState) {}", 1), ["run"]);
    assert_eq!(used("use super::rpc::X;", 1), ["rpc"]);
    assert_eq!(used("use super::rpc::X; super::super::cli::y();", 2), ["cli"]);
    assert_eq!(used("mod tests { use super::super::cli; }", 1), ["cli"], "from a module inside the file");
    assert_eq!(used("fn a() { mycrate::x(); }", 1), Vec::<String>::new());
}

#[test]
fn a_crate_is_named_by_a_path_or_a_use_but_not_by_a_module_of_its_name() {
    let named = |code: &str, name: &str| named_crates(code).iter().any(|(_, found)| found == name);
    for code in [
        "sled::open(x)",
        "use sled;",
        "use sled as s;",
        "use sled::Db;",
        "fn f(x: &sled::Db)",
        "::sled::Db",
        "extern crate sled;",
    ] {
        assert!(named(code, "sled"), "{code}");
    }
    for code in ["crate::sled::x", "sled_store::open", "let sled = 1;", "unsled::x", "Vec::<u8>::new()"] {
        assert!(!named(code, "sled"), "{code}");
    }
}

#[test]
fn dependencies_and_their_table_are_read() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\na = \"1\"\nb-c = { version = \"2\" }\n\n[dev-dependencies]\nd = \"1\"\n[lints]\ne = 1\n";
    let names = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>();
    assert_eq!(names(dependencies(manifest)), ["a", "b-c", "d"]);
    let markdown = "| word | what |\n|---|---|\n| job | x |\n\n| crate | for |\n|---|---|\n| `a` | x |\n| b-c, d | y |\n\ntext\n| z | |\n";
    assert_eq!(names(crate_table(markdown)), ["a", "b-c", "d"]);
}
