//! One config file as text: refused or accepted as a whole, cut into documents, and quoted in findings.
//!
//! Every finding about a file is made here, so secrets are masked in one place: what the validator found to be a secret,
//! and what looks like one, on the shown line and wherever a message repeats it.

use std::sync::OnceLock;

use super::diagnostic::{Diagnostic, Excerpt, Related, Severity};
use super::mask;
use super::visible::{is_hidden, push_visible};

use crate::error::{Code, Kind, Trouble, codes};

/// Largest file.
pub const FILE_BYTES_MAX: usize = 256 * 1024;
/// Longest line. Nothing in a config needs more, and a caret under a longer one helps nobody.
pub const LINE_BYTES_MAX: usize = 8 * 1024;
/// Most findings about characters in one file.
const CHARACTER_FINDINGS_MAX: usize = 10;
/// Width of an excerpt, in characters.
const EXCERPT_CHARS_MAX: usize = 110;
/// Characters that are kept before a place when a line is cut.
const EXCERPT_LEAD_CHARS: usize = 30;

/// A range of bytes in one file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

/// Something found in a file, before it is made safe to show.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub span: Span,
    pub severity: Severity,
    pub code: Code,
    pub message: String,
    pub hint: Option<String>,
    pub related: Vec<Related>,
}

/// The text of a file that is UTF-8, of bounded size and free of control characters.
#[derive(Debug)]
pub(crate) struct SourceText {
    pub path: String,
    pub text: String,
    line_starts: Vec<u32>,
    /// Values that must never be shown.
    secrets: Vec<Span>,
    /// Values that look like secrets, found when the first finding is shown.
    looks: OnceLock<Vec<std::ops::Range<usize>>>,
}

/// One document of a file: where it starts and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub start: usize,
    pub end: usize,
}

impl Span {
    /// Where a stand-in lies: no file reaches that far.
    pub(crate) const NOWHERE: Self = Self { start: u32::MAX, end: u32::MAX };

    pub(crate) fn new(start: usize, end: usize) -> Self {
        // Files are at most 256 KiB, so offsets always fit.
        Self { start: u32::try_from(start).unwrap_or(u32::MAX), end: u32::try_from(end).unwrap_or(u32::MAX) }
    }

    pub(crate) fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }

    pub(crate) fn is_empty(self) -> bool {
        self.start >= self.end
    }
}

impl Finding {
    pub(crate) fn error(span: Span, code: Code, message: impl Into<String>) -> Self {
        Self { span, severity: Severity::Error, code, message: message.into(), hint: None, related: Vec::new() }
    }

    pub(crate) fn warning(span: Span, code: Code, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, code, message) }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }

    pub(crate) fn related(mut self, related: Related) -> Self {
        self.related.push(related);
        self
    }
}

impl SourceText {
    /// Accepts a file's bytes, or says what is wrong with them.
    pub(crate) fn read(path: &str, bytes: Vec<u8>) -> Result<Self, Vec<Diagnostic>> {
        if bytes.len() > FILE_BYTES_MAX {
            let message = format!("this file has {} bytes; a config file has at most {FILE_BYTES_MAX}", bytes.len());
            let hint = "split it: any number of *.yaml files below the config root are read".to_owned();
            return Err(vec![Diagnostic::of_file(path, Trouble::new(codes::FILE_TOO_LARGE, message).with_hint(hint))]);
        }
        let text = String::from_utf8(bytes).map_err(|error| vec![not_utf8(path, &error)])?;
        let mut line_starts = vec![0];
        line_starts.extend(
            text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| Span::new(at + 1, at + 1).start),
        );
        let source = Self { path: path.to_owned(), text, line_starts, secrets: Vec::new(), looks: OnceLock::new() };
        let findings = source.refused_characters();
        if findings.is_empty() { Ok(source) } else { Err(findings.iter().map(|f| source.diagnostic(f)).collect()) }
    }

    /// Says which values must never be shown.
    pub(crate) fn mask(&mut self, mut secrets: Vec<Span>) {
        secrets.sort_by_key(|span| span.start);
        self.secrets = secrets;
    }

    /// The documents: a line that starts with `---` or `...` ends one, whatever stands in it.
    ///
    /// YAML forbids such a line inside of any document, so one broken document does not hide the errors of the next.
    pub(crate) fn chunks(&self) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        let mut start = if self.text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        for line in 0..self.line_starts.len() {
            let (at, end) = self.line_bounds(line);
            if at < start {
                continue;
            }
            let next = self.line_starts.get(line + 1).map_or(self.text.len(), |next| *next as usize);
            let content = self.text.get(at..end).unwrap_or_default();
            if is_marker(content, "---") {
                chunks.push(Chunk { start, end: at });
                start = at;
            } else if is_marker(content, "...") {
                chunks.push(Chunk { start, end: at });
                start = next;
            }
        }
        chunks.push(Chunk { start, end: self.text.len() });
        chunks.retain(|chunk| chunk.start < chunk.end);
        chunks
    }

    /// Line and column of a byte, both from 1; the column in characters.
    pub(crate) fn position(&self, at: u32) -> (u32, u32) {
        let line = self.line_of(at);
        let (start, _) = self.line_bounds(line);
        let column = self.text.get(start..at as usize).map_or(0, |before| before.chars().count());
        (Span::new(line + 1, 0).start, Span::new(column + 1, 0).start)
    }

    pub(crate) fn related(&self, span: Span, message: impl Into<String>) -> Related {
        let (line, column) = self.position(span.start);
        Related { path: self.path.clone(), line, column, message: message.into() }
    }

    /// Makes a finding safe to show.
    pub(crate) fn diagnostic(&self, finding: &Finding) -> Diagnostic {
        let (line, column) = self.position(finding.span.start);
        let mut secrets = mask::repeated(&self.text, self.looks());
        secrets.extend(mask::repeated(&self.text, &self.secrets.iter().map(|span| span.range()).collect::<Vec<_>>()));
        let clean = |text: &str| mask::cleaned(text, &secrets);
        let related = finding.related.iter().cloned();
        Diagnostic {
            path: self.path.clone(),
            line,
            column,
            severity: finding.severity,
            code: finding.code.name().to_owned(),
            message: clean(&finding.message),
            hint: finding.hint.as_deref().map(clean),
            excerpt: Some(self.excerpt(finding)),
            related: related.map(|each| Related { message: clean(&each.message), ..each }).collect(),
        }
    }

    fn looks(&self) -> &[std::ops::Range<usize>] {
        self.looks.get_or_init(|| mask::secrets_of(&self.text))
    }

    fn excerpt(&self, finding: &Finding) -> Excerpt {
        let line = self.line_of(finding.span.start);
        let (start, end) = self.line_bounds(line);
        let content = self.text.get(start..end).unwrap_or_default();
        let mut masks: Vec<Span> = self
            .looks()
            .iter()
            .map(|range| Span::new(range.start, range.end))
            .filter(|span| span.range().start < end && span.range().end > start)
            .chain(self.secrets.iter().copied().filter(|span| span.range().start < end && span.range().end > start))
            .collect();
        // Only a line's looks say then whether it holds a secret.
        if finding.code.kind() == Kind::Unread && mask::continues_a_secret(&self.text, start) {
            masks = vec![Span::new(start, end)];
        }
        masks.sort_by_key(|span| span.start);
        draw(content, start, finding.span.range(), &masks)
    }

    fn refused_characters(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for line in 0..self.line_starts.len() {
            let (start, end) = self.line_bounds(line);
            if end - start > LINE_BYTES_MAX {
                let message = format!("this line has {} bytes; a line has at most {LINE_BYTES_MAX}", end - start);
                findings.push(Finding::error(Span::new(start, start + 1), codes::LINE_TOO_LONG, message));
                continue;
            }
            let content = self.text.get(start..end).unwrap_or_default();
            let indent = content.len() - content.trim_start_matches([' ', '\t']).len();
            let tab = content.get(..indent).and_then(|indent| indent.find('\t'));
            if let Some(tab) = tab.filter(|_| indent < content.len()) {
                let span = Span::new(start + tab, start + indent);
                let finding =
                    Finding::error(span, codes::TAB, "a tab stands in the indentation; YAML is indented with spaces");
                findings.push(finding.hint("replace the tab by two spaces"));
            }
            let hidden = content.char_indices().find(|(at, c)| {
                let mark = *c == '\u{feff}' && start + at == 0;
                *c != '\t' && !mark && is_hidden(*c)
            });
            if let Some((at, character)) = hidden {
                let span = Span::new(start + at, start + at + character.len_utf8());
                let message = format!("the invisible character U+{:04X} stands here", u32::from(character));
                let hint = "delete it, or write it as an escape in double quotes, such as \"\\e\"";
                findings.push(Finding::error(span, codes::CONTROL_CHARACTER, message).hint(hint));
            }
            if findings.len() >= CHARACTER_FINDINGS_MAX {
                break;
            }
        }
        findings
    }

    fn line_of(&self, at: u32) -> usize {
        self.line_starts.partition_point(|start| *start <= at).saturating_sub(1)
    }

    /// The line without its line break.
    fn line_bounds(&self, line: usize) -> (usize, usize) {
        let start = self.line_starts.get(line).map_or(self.text.len(), |start| *start as usize);
        let end = self.line_starts.get(line + 1).map_or(self.text.len(), |next| (*next as usize).saturating_sub(1));
        let has_return = end > start && self.text.as_bytes().get(end - 1) == Some(&b'\r');
        let followed = self.text.as_bytes().get(end) == Some(&b'\n');
        (start, if has_return && followed { end - 1 } else { end })
    }
}

fn is_marker(line: &str, marker: &str) -> bool {
    line.strip_prefix(marker).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
}

fn not_utf8(path: &str, error: &std::string::FromUtf8Error) -> Diagnostic {
    let valid = error.utf8_error().valid_up_to();
    let before = error.as_bytes().get(..valid).unwrap_or_default();
    let line = before.split(|byte| *byte == b'\n').count();
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let column = String::from_utf8_lossy(before.get(start..).unwrap_or_default()).chars().count() + 1;
    let hint = "save the file as UTF-8".to_owned();
    let mut found =
        Diagnostic::of_file(path, Trouble::new(codes::NOT_UTF8, "this file is not UTF-8 text").with_hint(hint));
    (found.line, found.column) = (Span::new(line, 0).start, Span::new(column, 0).start);
    found
}

/// Draws one line: masks replaced, hidden characters visible, cut around `place`.
fn draw(content: &str, offset: usize, place: std::ops::Range<usize>, masks: &[Span]) -> Excerpt {
    let mut out = String::new();
    let mut chars = 0;
    let (mut start, mut end) = (None, None);
    let mut masked_until = 0;
    let mut masks = masks.iter().peekable();
    for (at, character) in content.char_indices() {
        let at = offset + at;
        if at >= place.start {
            start.get_or_insert(chars);
        }
        if at >= place.end {
            end.get_or_insert(chars);
        }
        let before = out.len();
        while let Some(mask) = masks.peek().filter(|mask| mask.range().start <= at) {
            if mask.range().end > at.max(masked_until) {
                if at >= masked_until {
                    out.push_str("***");
                }
                masked_until = mask.range().end;
            }
            masks.next();
        }
        if at >= masked_until {
            if character == '\t' {
                out.push_str("    ");
            } else {
                push_visible(&mut out, character);
            }
        }
        chars += out.get(before..).map_or(0, |added| added.chars().count());
    }
    let start = start.unwrap_or(chars);
    let end = end.unwrap_or(chars).max(start + 1);
    cut(&out, chars, start, end)
}

fn cut(text: &str, chars: usize, start: usize, end: usize) -> Excerpt {
    let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    if chars <= EXCERPT_CHARS_MAX {
        return Excerpt { text: text.to_owned(), start: narrow(start), end: narrow(end) };
    }
    let from = start.saturating_sub(EXCERPT_LEAD_CHARS).min(chars - EXCERPT_CHARS_MAX);
    let to = from + EXCERPT_CHARS_MAX;
    let lead = if from > 0 { "..." } else { "" };
    let tail = if to < chars { "..." } else { "" };
    let window: String = text.chars().skip(from).take(EXCERPT_CHARS_MAX).collect();
    let shift = |at: usize| narrow(at.clamp(from, to) - from + lead.len());
    let (start, end) = (shift(start), shift(end));
    Excerpt { text: format!("{lead}{window}{tail}"), start, end: end.max(start + 1) }
}
