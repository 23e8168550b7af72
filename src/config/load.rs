//! A revision's files to a config, keeping what was understood of files that did not change.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value as Json;

use super::diagnostic::{Diagnostic, Severity};
use super::document::{self, ParsedFile};
use super::model::Config;
use super::{SettingsSchemas, config_schema, resolve, sealed};
use crate::error::{Kind, Trouble, codes};
use crate::secret::keyring::Keyring;
use crate::source::{FileEntry, FileSet};

/// Most documents in a revision.
pub const DOCUMENTS_MAX: usize = 10_000;
/// Most files in a revision.
pub const FILES_MAX: usize = 10_000;
/// Most text in a revision.
pub const REVISION_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most threads that parse.
const THREADS_MAX: usize = 4;
/// Most diagnostics that are told; one more says how many there are.
pub const DIAGNOSTICS_MAX: usize = 1_000;

/// Loads revisions one after the other.
pub struct Loader {
    plugins: Arc<dyn SettingsSchemas>,
    schema: Json,
    keyring: Keyring,
    /// The files of the last revision, by path and content.
    cache: HashMap<(String, String), Arc<ParsedFile>>,
}

/// What a revision desires, or what is wrong with it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// None when any diagnostic is an error.
    pub config: Option<Config>,
    /// Sorted by path and place; errors and warnings.
    pub diagnostics: Vec<Diagnostic>,
    pub files: usize,
    pub documents: usize,
    /// The first file whose content could not be had, and why: the revision may be right.
    pub unread: Option<(String, Trouble)>,
}

impl Loader {
    /// A loader for the settings that `plugins` describe.
    #[must_use]
    pub fn new(plugins: Arc<dyn SettingsSchemas>) -> Self {
        Self { plugins, schema: config_schema(None), keyring: Keyring::default(), cache: HashMap::new() }
    }

    /// Also looks whether these open the secrets that are referred to.
    #[must_use]
    pub fn with_keyring(mut self, keyring: Keyring) -> Self {
        self.keyring = keyring;
        self
    }

    /// Loads all files of a revision. Blocking: reads files and parses what changed.
    pub fn load(&mut self, files: &dyn FileSet) -> Loaded {
        let mut diagnostics: Vec<Diagnostic> =
            files.refused().iter().map(|(path, trouble)| Diagnostic::of_file(path, trouble.clone())).collect();
        let unreadable = !diagnostics.is_empty();
        let entries = files.entries();
        let mut parsed = Vec::with_capacity(entries.len().min(FILES_MAX));
        let mut next = HashMap::with_capacity(entries.len().min(FILES_MAX));
        let (mut documents, mut bytes, mut unread) = (0, 0, None);
        let mut read = self.read(files).into_iter();
        for (index, entry) in entries.iter().enumerate() {
            let Some(file) = read.next() else { break };
            documents += file.documents.len();
            bytes += file.source.as_ref().map_or(0, |source| source.text.len());
            parsed.push(Arc::clone(&file));
            // What could not be read may be readable the next time.
            match &file.unread {
                Some(trouble) => unread = unread.or_else(|| Some((entry.path.clone(), trouble.clone()))),
                None => drop(next.insert((entry.path.clone(), entry.content_id.clone()), file)),
            }
            if let Some(limit) = over_limit(index + 1, documents, bytes) {
                let hint = "the files behind it were not read; split the repository".to_owned();
                diagnostics.push(Diagnostic::of_file(
                    &entry.path,
                    Trouble::new(codes::CONFIG_TOO_LARGE, limit).with_hint(hint),
                ));
                break;
            }
        }
        self.cache = next;
        diagnostics.extend(parsed.iter().flat_map(|file| file.diagnostics.iter().cloned()));
        diagnostics.extend(sealed::check(files, &parsed, &self.keyring));
        // A file that can't be read may hold whatever others refer to.
        let missing = ParsedFile::refused(Vec::new());
        let missing = unreadable.then_some(&missing);
        let resolved = resolve::resolve(parsed.iter().map(|file| &**file).chain(missing), &diagnostics);
        diagnostics.extend(resolved.diagnostics);
        let omitted = resolved.omitted + parsed.iter().map(|file| file.omitted).sum::<usize>();
        let diagnostics = bounded(diagnostics, omitted);
        Loaded { config: resolved.config, diagnostics, files: parsed.len(), documents, unread }
    }

    /// The files in their order: known ones as they are, the others read one by one and parsed side by side.
    ///
    /// It ends behind the file with which the revision is too large.
    fn read(&self, files: &dyn FileSet) -> Vec<Arc<ParsedFile>> {
        let mut bytes_left = REVISION_BYTES_MAX;
        let mut parsed: Vec<Option<Arc<ParsedFile>>> = Vec::new();
        let mut unknown: Vec<(usize, &FileEntry, Vec<u8>)> = Vec::new();
        for (index, entry) in files.entries().iter().enumerate().take(FILES_MAX + 1) {
            let key = (entry.path.clone(), entry.content_id.clone());
            let known = self.cache.get(&key).cloned();
            let length = match (&known, &entry) {
                (Some(known), _) => known.source.as_ref().map_or(0, |source| source.text.len()),
                (None, entry) => match files.read(entry) {
                    Ok(bytes) => {
                        let length = bytes.len();
                        unknown.push((index, entry, bytes));
                        length
                    }
                    Err(trouble) => {
                        let unread = trouble.is_of(Kind::Io).then(|| trouble.clone());
                        let found = Diagnostic::of_file(&entry.path, trouble);
                        let file = ParsedFile { unread, ..ParsedFile::refused(vec![found]) };
                        parsed.push(Some(Arc::new(file)));
                        continue;
                    }
                },
            };
            parsed.push(known);
            if length > bytes_left {
                break;
            }
            bytes_left -= length;
        }
        for (index, file) in self.parse(unknown) {
            if let Some(place) = parsed.get_mut(index) {
                *place = Some(Arc::new(file));
            }
        }
        parsed.into_iter().flatten().collect()
    }

    fn parse(&self, mut files: Vec<(usize, &FileEntry, Vec<u8>)>) -> Vec<(usize, ParsedFile)> {
        let parse = |(index, entry, bytes): (usize, &FileEntry, Vec<u8>)| {
            (index, document::parse(&entry.path, bytes, &self.schema, &*self.plugins))
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        let share = files.len().div_ceil(threads).max(1);
        if files.len() < 2 || threads < 2 {
            return files.into_iter().map(parse).collect();
        }
        let mut shares = Vec::new();
        while !files.is_empty() {
            shares.push(files.split_off(files.len().saturating_sub(share)));
        }
        std::thread::scope(|scope| {
            let threads: Vec<_> = shares
                .into_iter()
                .map(|share| scope.spawn(move || share.into_iter().map(parse).collect::<Vec<_>>()))
                .collect();
            // A panic in a thread goes on here, as it would without threads.
            threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        })
    }
}

fn over_limit(files: usize, documents: usize, bytes: usize) -> Option<String> {
    if files > FILES_MAX {
        return Some(format!("this is file {files} of the config, which may have at most {FILES_MAX}"));
    }
    if documents > DOCUMENTS_MAX {
        return Some(format!(
            "with this file the config has {documents} documents; it may have at most {DOCUMENTS_MAX}"
        ));
    }
    (bytes > REVISION_BYTES_MAX)
        .then(|| format!("with this file the config has {bytes} bytes; it may have at most {REVISION_BYTES_MAX}"))
}

/// Sorts by place, and keeps a flood readable. Errors come before warnings when not all can be told.
fn bounded(mut diagnostics: Vec<Diagnostic>, omitted: usize) -> Vec<Diagnostic> {
    let all = diagnostics.len() + omitted;
    if diagnostics.len() > DIAGNOSTICS_MAX {
        diagnostics.sort_by_key(|found| found.severity);
        diagnostics.truncate(DIAGNOSTICS_MAX);
    }
    diagnostics.sort_by(|a, b| (&a.path, a.line, a.column).cmp(&(&b.path, b.line, b.column)));
    let last = diagnostics.last().map(|found| found.path.clone());
    if let Some(path) = last.filter(|_| all > diagnostics.len()) {
        let rest = all - diagnostics.len();
        let severity = if diagnostics.iter().any(Diagnostic::is_error) { Severity::Error } else { Severity::Warning };
        let mut found = Diagnostic::of_file(
            &path,
            Trouble::new(codes::TOO_MANY_FINDINGS, format!("{rest} more findings are not shown")),
        );
        found.severity = severity;
        diagnostics.push(found);
    }
    diagnostics
}
