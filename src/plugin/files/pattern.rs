//! Exclude patterns as restic reads them, as far as counting needs: `*.tmp`, `cache/*.jpg`, `/srv/**/old`.
//!
//! restic decides what is shipped; here a pattern only keeps an excluded file from being counted as content.

use std::path::Path;

/// Steps of one match at most: a pattern full of `*` against a long name must end.
const STEPS_MAX: u32 = 10_000;

/// One pattern, in its parts between slashes.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    parts: Vec<String>,
    anchored: bool,
}

impl Pattern {
    /// None: a pattern that brings something back (`!`) or is empty; it excludes nothing.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.starts_with('!') {
            return None;
        }
        let parts: Vec<String> = text.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        (!parts.is_empty()).then(|| Self { parts, anchored: text.starts_with('/') })
    }

    /// Whether the pattern matches this very path: the whole of it when it begins with `/`, else the end of it.
    pub(crate) fn matches(&self, path: &Path) -> bool {
        let names: Vec<String> = path
            .components()
            .filter_map(|part| match part {
                std::path::Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
                _ => None,
            })
            .collect();
        let mut steps = 0;
        let starts = if self.anchored { 0..=0 } else { 0..=names.len() };
        starts.into_iter().any(|from| names.get(from..).is_some_and(|rest| parts_match(&self.parts, rest, &mut steps)))
    }
}

fn parts_match(parts: &[String], names: &[String], steps: &mut u32) -> bool {
    *steps += 1;
    if *steps > STEPS_MAX {
        return false;
    }
    match (parts.split_first(), names.split_first()) {
        (None, None) => true,
        (Some((part, others)), _) if part == "**" => {
            (0..=names.len()).any(|n| names.get(n..).is_some_and(|rest| parts_match(others, rest, steps)))
        }
        (Some((part, others)), Some((name, rest))) => {
            let (part, name): (Vec<char>, Vec<char>) = (part.chars().collect(), name.chars().collect());
            name_matches(&part, &name, steps) && parts_match(others, rest, steps)
        }
        _ => false,
    }
}

fn name_matches(pattern: &[char], name: &[char], steps: &mut u32) -> bool {
    *steps += 1;
    if *steps > STEPS_MAX {
        return false;
    }
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some(('*', others)), _) => {
            (0..=name.len()).any(|n| name.get(n..).is_some_and(|rest| name_matches(others, rest, steps)))
        }
        (Some(('?', others)), Some((_, rest))) => name_matches(others, rest, steps),
        (Some(('[', others)), Some((first, rest))) => match class(others) {
            Some((set, negated, others)) => {
                set.iter().any(|(low, high)| low <= first && first <= high) != negated
                    && name_matches(others, rest, steps)
            }
            None => false,
        },
        (Some(('\\', [literal, others @ ..])), Some((first, rest))) => {
            literal == first && name_matches(others, rest, steps)
        }
        (Some((literal, others)), Some((first, rest))) => literal == first && name_matches(others, rest, steps),
        _ => false,
    }
}

type Class<'a> = (Vec<(char, char)>, bool, &'a [char]);

/// What stands behind `[`: the ranges, whether they are negated (`^`), and what follows `]`.
fn class(text: &[char]) -> Option<Class<'_>> {
    let (negated, mut rest) = match text {
        ['^', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let mut ranges = Vec::new();
    loop {
        match rest {
            [']', others @ ..] if !ranges.is_empty() => return Some((ranges, negated, others)),
            [low, '-', high, others @ ..] if *high != ']' => {
                ranges.push((*low, *high));
                rest = others;
            }
            [one, others @ ..] => {
                ranges.push((*one, *one));
                rest = others;
            }
            [] => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Pattern::parse(pattern).is_some_and(|pattern| pattern.matches(Path::new(path)))
    }

    #[test]
    fn patterns_match_as_in_restic() {
        for (pattern, path) in [
            ("*.tmp", "/srv/a/b.tmp"),
            ("cache", "/srv/cache"),
            ("cache/*.jpg", "/srv/x/cache/a.jpg"),
            ("/srv/cache", "/srv/cache"),
            ("/srv/**/old", "/srv/a/b/old"),
            ("/srv/**/old", "/srv/old"),
            ("img_[0-9]?.png", "/p/img_42.png"),
            ("[^a]*", "/p/bcd"),
            ("a\\*b", "/p/a*b"),
        ] {
            assert!(matches(pattern, path), "{pattern} should match {path}");
        }
        for (pattern, path) in [
            ("*.tmp", "/srv/a.tmpx"),
            ("/cache", "/srv/cache"),
            ("cache", "/srv/cache2"),
            ("!*.tmp", "/srv/a.tmp"),
            ("", "/srv"),
            ("[a", "/p/a"),
            ("a\\*b", "/p/axb"),
        ] {
            assert!(!matches(pattern, path), "{pattern} should not match {path}");
        }
    }

    #[test]
    fn a_pattern_full_of_stars_ends() {
        let name = format!("/{}", "a".repeat(250));
        assert!(!matches(&format!("{}b", "*a".repeat(100)), &name));
    }
}
