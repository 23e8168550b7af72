//! Where a source writes, compares or takes apart the code of an error as text.

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::code_only;

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
