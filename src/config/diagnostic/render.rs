//! The faces of a diagnostic: a snippet with a caret for terminals, one line for logs, an annotation for a forge.

use std::fmt::Write as _;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::{Colour, Diagnostic, Excerpt, Severity};
use crate::config::visible::{is_hidden, visible};

/// Width that a rendered snippet may take, in columns.
const WIDTH: usize = 160;

impl Diagnostic {
    /// The finding as a snippet with a caret, several lines, without a newline at the end.
    #[must_use]
    pub fn render(&self, colour: Colour) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let message = visible(&self.message);
        let place = format!("{}:{}:{}", visible(&self.path), self.line, self.column);
        let mut group = Group::with_title(level.primary_title(message).id(self.code.as_str()));
        if let Some(excerpt) = &self.excerpt {
            let (start, end) = byte_range(excerpt);
            // The padding lets a caret stand behind the last character of the line.
            let line = format!("{} ", excerpt.text);
            group = group.element(
                Snippet::source(line)
                    .line_start(usize::try_from(self.line).unwrap_or(1))
                    .path(visible(&self.path))
                    .annotation(AnnotationKind::Primary.span(start..end)),
            );
        }
        for related in &self.related {
            let place = format!("{}:{}:{}", visible(&related.path), related.line, related.column);
            group = group.element(Level::NOTE.message(format!("{}: {place}", visible(&related.message))));
        }
        if let Some(hint) = &self.hint {
            group = group.element(Level::HELP.with_name("hint").message(visible(hint)));
        }
        let renderer = match colour {
            Colour::Never => Renderer::plain(),
            Colour::Always => Renderer::styled(),
        };
        let text = renderer.decor_style(DecorStyle::Ascii).term_width(WIDTH).render(&[group]);
        let text = text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        match &self.excerpt {
            Some(excerpt) => with_real_column(text, self, excerpt),
            None => with_place(&text, &place),
        }
    }

    /// `path:line:col  message`, one line for logs, mails and push output.
    #[must_use]
    pub fn one_line(&self) -> String {
        let mut text = format!("{}:{}:{}  ", visible(&self.path), self.line, self.column);
        if self.severity == Severity::Warning {
            text.push_str("warning: ");
        }
        text.push_str(&visible(&self.message));
        if let Some(hint) = &self.hint {
            let _ = write!(text, " ({})", visible(hint));
        }
        text
    }

    /// A workflow command that GitHub, Gitea and Forgejo show beside the line in a pull request.
    #[must_use]
    pub fn github(&self) -> String {
        let mut message = self.message.clone();
        if let Some(hint) = &self.hint {
            let _ = write!(message, "\nhint: {hint}");
        }
        format!(
            "::{} file={},line={},col={},title={}::{}",
            self.severity.as_str(),
            escape_property(&self.path),
            self.line,
            self.column,
            escape_property(&self.code),
            escape_data(&message),
        )
    }
}

fn byte_range(excerpt: &Excerpt) -> (usize, usize) {
    let offset = |chars: u32| {
        let chars = usize::try_from(chars).unwrap_or(usize::MAX);
        excerpt.text.char_indices().nth(chars).map_or(excerpt.text.len(), |(at, _)| at)
    };
    let start = offset(excerpt.start);
    (start, offset(excerpt.end).max(start + 1))
}

/// The renderer counts columns in the excerpt; a cut or masked line needs those of the file.
fn with_real_column(text: String, diagnostic: &Diagnostic, excerpt: &Excerpt) -> String {
    let shown = format!("{}:{}:{}", visible(&diagnostic.path), diagnostic.line, excerpt.start + 1);
    let real = format!("{}:{}:{}", visible(&diagnostic.path), diagnostic.line, diagnostic.column);
    if shown == real { text } else { text.replacen(&shown, &real, 1) }
}

fn with_place(text: &str, place: &str) -> String {
    match text.split_once('\n') {
        Some((title, rest)) => format!("{title}\n --> {place}\n{rest}"),
        None => format!("{text}\n --> {place}"),
    }
}

fn escape_data(text: &str) -> String {
    let text = text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    text.chars().filter(|c| !is_hidden(*c)).collect()
}

fn escape_property(text: &str) -> String {
    escape_data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Diagnostic {
        Diagnostic {
            path: "a,b:c.yaml".to_owned(),
            line: 3,
            column: 200,
            severity: Severity::Error,
            code: "unknown_field".to_owned(),
            message: "unknown field `x`\n100%\u{1b}[31m".to_owned(),
            hint: Some("did you mean `y`?".to_owned()),
            excerpt: Some(Excerpt { text: "...é: x".to_owned(), start: 3, end: 4 }),
            related: vec![],
        }
    }

    #[test]
    fn a_forge_annotation_can_not_be_broken_out_of() {
        assert_eq!(
            sample().github(),
            "::error file=a%2Cb%3Ac.yaml,line=3,col=200,title=unknown_field::unknown field `x`%0A100%25[31m%0Ahint: did you mean `y`?"
        );
    }

    #[test]
    fn control_characters_are_seen_and_do_nothing() {
        let line = sample().one_line();
        assert!(line.contains("<U+001B>[31m") && line.contains("<U+000A>"), "{line}");
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn a_cut_line_keeps_the_column_of_the_file() {
        let text = sample().render(Colour::Never);
        assert!(text.contains("a,b:c.yaml:3:200"), "{text}");
        assert!(text.contains("3 | ...é: x"), "{text}");
        assert!(text.contains("    ^"), "{text}");
    }

    #[test]
    fn colour_is_only_written_when_asked_for() {
        assert!(!sample().render(Colour::Never).contains('\u{1b}'));
        assert!(sample().render(Colour::Always).contains('\u{1b}'));
    }
}
