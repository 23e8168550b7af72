//! Printing: everything that goes to standard output or error passes here, so a closed pipe is no panic.

use std::io::{IsTerminal as _, Write as _};

use crate::error::Trouble;
use crate::types::Outcome;

/// Prints one line to standard output; a reader that went away is no error.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Prints one line to standard error.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Prints a value as JSON, for machines.
pub(crate) fn json(value: &impl serde::Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => line(&text),
        Err(error) => note(&format!("error: cannot print the answer as JSON: {error}")),
    }
}

/// Prints a trouble as people read it.
pub(crate) fn trouble(trouble: &Trouble) {
    note(&format!("{} {}", paint("error:", Colour::Red, std::io::stderr().is_terminal()), trouble.message));
    if let Some(hint) = &trouble.hint {
        note(&format!("  hint: {hint}"));
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Colour {
    Red,
    Green,
    Yellow,
    Bold,
}

/// Wraps `text` in a colour where the reader is a terminal that wants one.
pub(crate) fn paint(text: &str, colour: Colour, terminal: bool) -> String {
    if !terminal || std::env::var_os("NO_COLOR").is_some() {
        return text.to_owned();
    }
    let code = match colour {
        Colour::Red => "31",
        Colour::Green => "32",
        Colour::Yellow => "33",
        Colour::Bold => "1",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// Whether standard output is a terminal.
pub(crate) fn terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Prints rows under a header, each column as wide as its widest cell.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let render = |cells: &[String]| {
        let mut text = String::new();
        for (width, cell) in widths.iter().zip(cells) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count()) + 2));
        }
        text.trim_end().to_owned()
    };
    let header: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    line(&paint(&render(&header), Colour::Bold, terminal()));
    for row in rows {
        line(&render(row));
    }
}

/// The colour in which an outcome is shown, always beside its word.
pub(crate) fn colour(outcome: Outcome) -> Colour {
    match outcome {
        Outcome::Success => Colour::Green,
        Outcome::Partial | Outcome::Deferred | Outcome::Skipped => Colour::Yellow,
        Outcome::Failed | Outcome::Interrupted | Outcome::Cancelled => Colour::Red,
    }
}
