//! Which files of a tree are config, which are passed over, and which are refused with a reason. Pure.

use super::{FileEntry, SourceError};
use crate::error::{Code, Trouble, codes};
use crate::secret::address;

/// Largest config file, in bytes.
pub const FILE_BYTES_MAX: u64 = 256 * 1024;
/// Most config files of one revision.
pub const FILES_MAX: usize = 10_000;
/// Most bytes of all config files of one revision together.
pub const TOTAL_BYTES_MAX: u64 = 64 << 20;
/// Most entries (of any kind) that are looked at in one revision.
pub const ENTRIES_MAX: usize = 200_000;
/// Deepest directory, counted from the config root.
pub const DEPTH_MAX: usize = 32;
/// Most refusals that are kept; more say nothing new.
pub const REFUSED_MAX: usize = 100;

/// What kind of thing a name in a tree stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Symlink,
    Submodule,
    /// A socket, a device, a pipe.
    Other,
}

/// What to do with a name in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Config: take the file under this path.
    Take(String),
    /// A file with encrypted secrets, no config: keep it under this path.
    Seal(String),
    /// Look inside; this is the directory's path.
    Descend(String),
    /// Not config.
    Skip,
    /// It would be config if it were something else; the path is safe to print.
    Refuse(String, Trouble),
}

/// Decides about `name` inside the directory `parent` (`""` for the root), which is `depth` levels below the root.
///
/// Hidden names are passed over whatever they are, and files that don't end in `.yaml` or `.yml`. A symlink or
/// submodule is always refused, since what it stands for would be silently missing.
pub(super) fn admit(parent: &str, name: &[u8], kind: Kind, depth: usize) -> Admission {
    if name.first() == Some(&b'.') || (matches!(kind, Kind::File | Kind::Other) && !is_yaml(name)) {
        return Admission::Skip;
    }
    let shown = join(parent, &printable(name));
    let refuse = |code: Code, message: &str, hint: &str| {
        Admission::Refuse(shown.clone(), Trouble::new(code, message).with_hint(hint))
    };
    let path = match std::str::from_utf8(name) {
        Ok(name) if !name.chars().any(char::is_control) => join(parent, name),
        Ok(_) => return refuse(codes::PATH_UNPRINTABLE, "the name has control characters", "rename it"),
        Err(_) => return refuse(codes::PATH_NOT_UTF8, "the name is not UTF-8", "rename it"),
    };
    match kind {
        Kind::File if address::is_sealed(&path) => Admission::Seal(path),
        Kind::File => Admission::Take(path),
        Kind::Directory if depth >= DEPTH_MAX => {
            refuse(codes::TOO_DEEP, &format!("directories are nested more than {DEPTH_MAX} deep"), "use fewer levels")
        }
        Kind::Directory => Admission::Descend(path),
        Kind::Symlink => refuse(codes::SYMLINK, "symbolic links are not followed", "put the file itself here"),
        Kind::Submodule => refuse(codes::SUBMODULE, "submodules are not read", "put the files themselves here"),
        Kind::Other => refuse(codes::NOT_A_FILE, "this is no regular file", "put a regular file here"),
    }
}

/// The files that were taken or refused so far, with the limits on all of them together.
#[derive(Debug)]
pub(super) struct Gathered {
    place: String,
    seen: usize,
    bytes: u64,
    pub(super) entries: Vec<FileEntry>,
    pub(super) sealed: Vec<FileEntry>,
    pub(super) refused: Vec<(String, Trouble)>,
}

impl Gathered {
    /// An empty set; `place` names the tree in errors.
    pub(super) fn new(place: String) -> Self {
        Self { place, seen: 0, bytes: 0, entries: Vec::new(), sealed: Vec::new(), refused: Vec::new() }
    }

    /// Counts one entry of the tree, whatever it is.
    pub(super) fn count(&mut self) -> Result<(), SourceError> {
        self.seen += 1;
        self.within(self.seen as u64, ENTRIES_MAX as u64, "entries")
    }

    /// Adds a config file, unless it is too large.
    pub(super) fn take(&mut self, path: String, bytes: u64, content_id: String) -> Result<(), SourceError> {
        if self.fits(&path, bytes)? {
            self.entries.push(FileEntry { path, content_id });
        }
        Ok(())
    }

    /// Adds a file with secrets, unless it is too large.
    pub(super) fn seal(&mut self, path: String, bytes: u64, content_id: String) -> Result<(), SourceError> {
        if self.fits(&path, bytes)? {
            self.sealed.push(FileEntry { path, content_id });
        }
        Ok(())
    }

    fn fits(&mut self, path: &str, bytes: u64) -> Result<bool, SourceError> {
        if bytes > FILE_BYTES_MAX {
            self.refuse(path.to_owned(), too_large(bytes));
            return Ok(false);
        }
        self.bytes += bytes;
        self.within((self.entries.len() + self.sealed.len()) as u64 + 1, FILES_MAX as u64, "config files")?;
        self.within(self.bytes, TOTAL_BYTES_MAX, "bytes of config")?;
        Ok(true)
    }

    pub(super) fn refuse(&mut self, path: String, why: Trouble) {
        if self.refused.len() < REFUSED_MAX {
            self.refused.push((path, why));
        }
    }

    /// Puts both lists in the order of their paths.
    pub(super) fn sort(&mut self) {
        self.entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        self.sealed.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        self.refused.sort_by(|a, b| a.0.cmp(&b.0));
    }

    fn within(&self, count: u64, max: u64, what: &'static str) -> Result<(), SourceError> {
        if count > max { Err(SourceError::TooMany { place: self.place.clone(), what, max }) } else { Ok(()) }
    }
}

/// The reason against a file of `bytes`.
pub(super) fn too_large(bytes: u64) -> Trouble {
    Trouble::new(codes::FILE_TOO_LARGE, format!("the file has {bytes} bytes, at most {FILE_BYTES_MAX} are read"))
        .with_hint("split it into several files")
}

/// The reason against content that is no text; `at` is the first bad byte.
pub(super) fn not_utf8(at: usize) -> Trouble {
    Trouble::new(codes::NOT_UTF8, format!("the file is not UTF-8 text (byte {at})")).with_hint("save it as UTF-8")
}

/// `a/b`, or `b` at the root.
fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") }
}

fn is_yaml(name: &[u8]) -> bool {
    let lower = name.to_ascii_lowercase();
    lower.ends_with(b".yaml") || lower.ends_with(b".yml")
}

/// The name with everything escaped that a terminal might obey; at most 200 characters.
fn printable(name: &[u8]) -> String {
    String::from_utf8_lossy(name)
        .chars()
        .take(200)
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(admission: &Admission) -> &str {
        match admission {
            Admission::Refuse(_, trouble) => &trouble.code,
            _ => "",
        }
    }

    #[test]
    fn yaml_files_are_taken_whatever_the_case_of_their_ending() {
        for name in ["a.yaml", "a.yml", "A.YAML"] {
            assert_eq!(admit("x", name.as_bytes(), Kind::File, 1), Admission::Take(format!("x/{name}")));
        }
        for name in ["README.md", "yaml", ".gitlab-ci.yml", ".yaml"] {
            assert_eq!(admit("", name.as_bytes(), Kind::File, 0), Admission::Skip, "{name}");
        }
    }

    #[test]
    fn a_file_of_sops_is_no_config_and_its_rules_are_hidden() {
        assert_eq!(
            admit("secrets", b"nas.sops.yaml", Kind::File, 1),
            Admission::Seal("secrets/nas.sops.yaml".to_owned())
        );
        assert_eq!(admit("", b"NAS.SOPS.YML", Kind::File, 0), Admission::Seal("NAS.SOPS.YML".to_owned()));
        assert_eq!(admit("", b".sops.yaml", Kind::File, 0), Admission::Skip);
    }

    #[test]
    fn hidden_directories_are_passed_over_and_others_entered() {
        assert_eq!(admit("", b".github", Kind::Directory, 0), Admission::Skip);
        assert_eq!(admit("", b"targets", Kind::Directory, 0), Admission::Descend("targets".to_owned()));
        assert_eq!(code(&admit("a", b"b", Kind::Directory, DEPTH_MAX)), "too_deep");
    }

    #[test]
    fn what_cannot_be_read_as_it_stands_is_refused_and_never_skipped() {
        assert_eq!(code(&admit("", b"link.yaml", Kind::Symlink, 0)), "symlink");
        assert_eq!(code(&admit("", b"shared", Kind::Symlink, 0)), "symlink");
        assert_eq!(code(&admit("", b"module", Kind::Submodule, 0)), "submodule");
        assert_eq!(code(&admit("", b"pipe.yaml", Kind::Other, 0)), "not_a_file");
        assert_eq!(code(&admit("", b"caf\xe9.yaml", Kind::File, 0)), "path_not_utf8");
    }

    #[test]
    fn a_name_with_control_characters_is_shown_escaped() {
        let Admission::Refuse(path, trouble) = admit("d", b"a\x1b[2J\n.yaml", Kind::File, 0) else {
            panic!("it must be refused")
        };
        assert_eq!(trouble.code, "path_unprintable");
        assert_eq!(path, "d/a\\u{1b}[2J\\n.yaml");
    }

    #[test]
    fn every_limit_on_all_files_together_is_an_error() {
        let mut gathered = Gathered::new("here".to_owned());
        for i in 0..FILES_MAX {
            gathered.take(format!("{i}.yaml"), 1, String::new()).unwrap();
        }
        let error = gathered.take("one-more.yaml".to_owned(), 1, String::new()).unwrap_err();
        assert_eq!(error.to_string(), "there are more than 10000 config files in here");

        let mut gathered = Gathered::new("here".to_owned());
        let fitting = TOTAL_BYTES_MAX / FILE_BYTES_MAX;
        for i in 0..fitting {
            gathered.take(format!("{i}.yaml"), FILE_BYTES_MAX, String::new()).unwrap();
        }
        assert!(gathered.take("one-more.yaml".to_owned(), 1, String::new()).is_err());
    }

    #[test]
    fn a_file_above_the_limit_is_refused_by_itself() {
        let mut gathered = Gathered::new("here".to_owned());
        gathered.take("big.yaml".to_owned(), FILE_BYTES_MAX + 1, String::new()).unwrap();
        gathered.take("fits.yaml".to_owned(), FILE_BYTES_MAX, String::new()).unwrap();
        assert_eq!(gathered.entries.len(), 1);
        assert_eq!(
            gathered.refused.first().map(|(path, why)| (path.as_str(), why.code.as_str())),
            Some(("big.yaml", "file_too_large"))
        );
    }
}
