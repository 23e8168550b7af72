//! Where a source writes, compares or takes apart the code of an error as text, and where it branches by one.

/// What a literal must not follow.
const BEFORE_TEXT: [&str; 7] =
    [".code ==", ".code !=", "code() ==", "code() !=", "Trouble::told(", "Trouble::new(", "Failure::new("];

/// What takes a code apart, or a match over its text begins with.
const TAKEN_APART: [&str; 3] = ["code.starts_with(", "code.ends_with(", ".code.as_str()"];

/// The lines, from 0; `code` is `text` with its literals and comments blanked.
pub fn lines_of_text(text: &str, code: &str) -> Vec<usize> {
    let is_literal = |at: usize| text[at..].trim_start().starts_with('"');
    let mut found: Vec<usize> =
        TAKEN_APART.iter().flat_map(|form| code.match_indices(form)).map(|(at, _)| at).collect();
    for form in BEFORE_TEXT {
        found.extend(code.match_indices(form).map(|(at, _)| at).filter(|at| is_literal(at + form.len())));
    }
    for (at, form) in code.match_indices("Trouble {") {
        let rest = code[at + form.len()..].trim_start();
        if rest.starts_with("code:") && is_literal(code.len() - rest.len() + "code:".len()) {
            found.push(at);
        }
    }
    let mut lines: Vec<usize> = found.into_iter().map(|at| code[..at].matches('\n').count()).collect();
    lines.sort_unstable();
    lines.dedup();
    lines
}

/// What stands before a code that is compared with something, and what of the list of codes is asked.
const COMPARED: [&str; 9] = [
    ".code == ",
    ".code != ",
    ".code() == ",
    ".code() != ",
    ".is(codes::",
    "known_code(",
    ".contains(&finding.code)",
    ".contains(&trouble.code)",
    "codes::find(",
];

/// The lines, from 0, that decide by a code; `code` is without literals and comments.
///
/// A constant of the registry is there to be told: as an argument, a value, the right side of an arm. One that is compared
/// or stands in a pattern decides something, and that is what a `Kind`, or a value that is no error yet, is for.
pub fn lines_of_branches(code: &str) -> Vec<usize> {
    let compares_numbers = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    let mut found = Vec::new();
    for form in COMPARED {
        let ends = code.match_indices(form).map(|(at, _)| (at, &code[at + form.len()..]));
        // The code of a program's end is another one.
        found.extend(ends.filter(|(_, rest)| !compares_numbers(rest)).map(|(at, _)| at));
    }
    for (at, _) in code.match_indices("codes::") {
        let rest = &code[at + "codes::".len()..];
        let name = rest.len()
            - rest.trim_start_matches(|c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_').len();
        if name == 0 {
            continue;
        }
        let behind = rest[name..].trim_start();
        let closed = behind.trim_start_matches([')', ' ', '\n']);
        let before = code[..at].trim_end().trim_end_matches("error::");
        let is_alternative = behind.starts_with('|') && !behind.starts_with("||") || behind.starts_with("if ");
        let is_arm = closed.starts_with("=>") || behind.starts_with(", .. }");
        let is_compared = behind.starts_with("==") || before.ends_with("==") || before.ends_with("!=");
        let is_asked = before.rfind("matches!(").is_some_and(|from| is_within(&code[from..at]));
        if is_alternative || is_arm || is_compared || is_asked {
            found.push(at);
        }
    }
    let mut lines: Vec<usize> = found.into_iter().map(|at| code[..at].matches('\n').count()).collect();
    lines.sort_unstable();
    lines.dedup();
    lines
}

/// Whether the parenthesis that a text opens first is still open at its end.
fn is_within(text: &str) -> bool {
    let mut depth = 0_usize;
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' if depth == 1 => return false,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    depth > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::code_only;

    #[test]
    fn a_branch_by_a_code_is_found_however_it_is_written() {
        for text in [
            "if trouble.is(codes::BUSY) {}",
            "if finding.code == codes::BUSY {}",
            "if codes::BUSY == finding.code {}",
            "if error.code() != wanted {}",
            "if finding.code == wanted {}",
            "match code { codes::BUSY => 1, _ => 0 }",
            "match code { Some(codes::BUSY) => 1, _ => 0 }",
            "match code { codes::BUSY | codes::FULL => 1, _ => 0 }",
            "match code { codes::BUSY if late => 1, _ => 0 }",
            "matches!(trouble.of(), Some(codes::BUSY))",
            "matches!(\n    error.code(),\n    codes::BUSY\n)",
            "let Meaning { code: codes::BUSY, .. } = meaning else { return };",
            "if UNREAD.contains(&finding.code) {}",
            "match trouble.known_code() { _ => {} }",
        ] {
            assert!(!lines_of_branches(&code_only(text)).is_empty(), "{text}");
        }
        for text in [
            "if trouble.is_of(Kind::Busy) {}",
            "Self::Busy { .. } => codes::BUSY,",
            "Err(silent.trouble(codes::BUSY, name))",
            "let code = if late { codes::BUSY } else { codes::FULL };",
            "if matches!(kind, Kind::Busy) { return Err(Trouble::new(codes::BUSY, name)); }",
            "Meaning { code: codes::BUSY, retry: true }",
            "if ran.code == 0 {}",
            "// trouble.is(codes::BUSY)",
        ] {
            assert_eq!(lines_of_branches(&code_only(text)), [0_usize; 0], "{text}");
        }
    }

    #[test]
    fn a_code_as_text_is_found_however_it_is_written() {
        for text in [
            "if trouble.code == \"busy\" {}",
            "if failure.trouble.code !=\n    \"busy\" {}",
            "if error.code() == \"busy\" {}",
            "Trouble::told(\"busy\", message)",
            "Trouble::new(\n    \"busy\",\n    message)",
            "Trouble { code: \"busy\".to_owned(), ..trouble }",
            "Trouble {\n    code: \"busy\".to_owned(),\n}",
            "match trouble.code.as_str() { _ => {} }",
            "trouble.code.starts_with(\"unknown_\")",
        ] {
            assert_eq!(lines_of_text(text, &code_only(text)), [0], "{text}");
        }
        for text in [
            "if trouble.is(codes::BUSY) {}",
            "Trouble::told(&code, \"busy\")",
            "// trouble.code == \"busy\"",
            "let line = \"Trouble::told(\\\"busy\\\"\";",
            "Trouble { code: codes::BUSY.name().to_owned(), ..trouble }",
            "Problem { code: \"missed\".to_owned() }",
        ] {
            assert_eq!(lines_of_text(text, &code_only(text)), [0_usize; 0], "{text}");
        }
    }
}
